"""The rows that are decoded together: admission and departure at any step, one token per step for all.

Built from the parts of the training engine (forward pass, prefill, cache, sampling); what differs
is that rows come with settings of their own and at any time, so that the cache grows and shrinks
with them. Its memory is bounded, used or not: columns that a long row has left are given back before
others would exceed it, a row that does not fit waits, and when growing rows fill it, the youngest
leaves and is computed again later.

Dimensions: B rows being decoded, V vocabulary.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from zerone.engine.jobs import Delta, Job, TokenLogprob
from zerone.engine.row import Row
from zerone.engine.torch.cache import ClockCache
from zerone.engine.torch.prefill import Prefilled, empty_kv
from zerone.engine.torch.sampling import sample
from zerone.model.decoder import Decoder

_MARGIN = 64
"""Columns beyond the longest row: the cache moves its rows once in so many steps."""
_COLDEST = 1e-5
"""Colder is greedy, as in vLLM: logits divided by much less are beyond fp32, and give no distribution."""


class Batch:
    """The rows under way and their cache; used by one thread."""

    def __init__(self, decoder: Decoder, context: int, max_rows: int, kv_bytes: int) -> None:
        self._decoder = decoder
        self._max_rows = max_rows
        element = torch.empty(0, dtype=decoder.dtype).element_size()
        cell_bytes = 2 * decoder.num_kv_heads * decoder.head_dim * decoder.num_layers * element
        # One row always fits: without that the longest request could wait for ever.
        self._max_cells = max(kv_bytes // cell_bytes, context + _MARGIN)
        self._context = context
        self._rows: list[Row | None] = []
        self._cache = ClockCache(empty_kv(decoder), 0, 0)
        self._next_tokens = torch.zeros(0, dtype=torch.long)
        self._broken: list[Job] = []

    @property
    def rows(self) -> list[Row]:
        """The rows under way."""
        return [row for row in self._rows if row is not None]

    def take_broken(self) -> list[Job]:
        """Return the jobs of rows that left as the model computed no numbers for them."""
        broken, self._broken = self._broken, []
        return list(dict.fromkeys(broken))

    def has_room(self, entering: Sequence[Row]) -> bool:
        """Whether these rows could be decoded beside the present ones."""
        rows = [*self.rows, *entering]
        longest = max(row.length for row in rows)
        fits = len(rows) == 1 or len(rows) * (longest + _MARGIN) <= self._max_cells
        return fits and len(rows) <= self._max_rows

    def admit(self, entering: Sequence[tuple[Row, Prefilled]]) -> list[tuple[Row, Delta]]:
        """Take rows in and draw their next tokens."""
        self._make_room(len(entering), max(len(prefilled.kv[0]) for _, prefilled in entering))
        free = (slot for slot, row in enumerate(self._rows) if row is None)
        slots = [slot for slot, _ in zip(free, entering, strict=False)]
        for slot, (row, prefilled) in zip(slots, entering, strict=True):
            self._cache.admit(slot, prefilled.kv)
            self._rows[slot] = row
        return self._extend(slots, torch.stack([prefilled.logits_V for _, prefilled in entering]))

    def remove_cancelled(self) -> int:
        """Let rows go that nobody waits for; return their number."""
        leaving = [i for i, row in enumerate(self._rows) if row is not None and row.job.is_cancelled]
        for slot in leaving:
            self._rows[slot] = None
        self._shrink()
        return len(leaving)

    def pop_youngest_if_full(self) -> Row | None:
        """Remove the row with the fewest tokens where the next step would exceed the memory."""
        rows = self.rows
        longest = max((row.length for row in rows), default=0)
        if len(rows) < 2 or len(rows) * (longest + 1) <= self._max_cells:
            return None
        youngest = min(rows, key=lambda row: len(row.tokens))
        self._rows[self._rows.index(youngest)] = None
        self._shrink()
        return youngest

    def step(self) -> list[tuple[Row, Delta]]:
        """Decode one token for every row; empty slots are computed along and ignored."""
        self._make_room(0, 0)
        slots = [slot for slot, row in enumerate(self._rows) if row is not None]
        self._cache.begin_step(slots)
        positions_B = torch.tensor([0 if row is None else row.length - 1 for row in self._rows])
        hidden_BD = self._decoder.hidden(self._next_tokens, positions_B, self._cache.attend)
        if len(slots) < len(self._rows):
            hidden_BD = hidden_BD[torch.tensor(slots)]
        deltas = self._extend(slots, self._decoder.logits(hidden_BD))
        self._shrink()
        return deltas

    def _make_room(self, num_entering: int, longest_entering: int) -> None:
        """Enlarge the cache by half where slots or columns are missing, or by what the memory allows."""
        rows = self.rows
        least_slots = len(rows) + num_entering
        least_columns = max([longest_entering, *(row.length for row in rows)]) + 1
        num_slots, num_columns = len(self._rows), self._cache.num_columns
        if least_slots <= num_slots and least_columns <= num_columns:
            return
        if least_slots > num_slots:
            num_slots = max(least_slots, min(num_slots * 3 // 2, self._max_rows))
        if least_columns > num_columns:
            num_columns = max(least_columns, min(num_columns * 3 // 2, self._context)) + _MARGIN
        if num_slots * num_columns > self._max_cells:
            # Columns that a longer row has left are given back, and then free slots. What is
            # left fits: `has_room` and `pop_youngest_if_full` have seen to that.
            num_columns = min(num_columns, least_columns * 3 // 2 + _MARGIN)
            num_slots = max(least_slots, min(num_slots, self._max_cells // num_columns))
            num_columns = max(least_columns, min(num_columns, self._max_cells // num_slots))
        self._resize(num_slots, num_columns)

    def _resize(self, num_slots: int, num_columns: int) -> None:
        """Move the rows, in their order, to the first slots of a cache of this size."""
        slots = [slot for slot, row in enumerate(self._rows) if row is not None]
        self._cache.resize(slots, num_slots, num_columns)
        next_tokens = self._next_tokens.new_zeros(num_slots)
        next_tokens[: len(slots)] = self._next_tokens[torch.tensor(slots, dtype=torch.long)]
        self._next_tokens = next_tokens
        self._rows = [*self.rows, *[None] * (num_slots - len(slots))]

    def _shrink(self) -> None:
        """Drop free slots once half are free; start anew when all are."""
        slots = [slot for slot, row in enumerate(self._rows) if row is not None]
        if not slots:
            if self._rows:
                self._rows, self._next_tokens = [], self._next_tokens[:0]
                self._cache = ClockCache(empty_kv(self._decoder), 0, 0)
        elif len(slots) * 2 <= len(self._rows):
            self._cache.keep(slots)
            self._next_tokens = self._next_tokens[torch.tensor(slots)]
            self._rows = [self._rows[slot] for slot in slots]

    def _extend(self, slots: Sequence[int], logits_BV: Tensor) -> list[tuple[Row, Delta]]:
        """Draw the next token of the rows in `slots`; rows that end leave."""
        rows = [row for slot in slots if (row := self._rows[slot]) is not None]
        tokens, broken = _draw(rows, logits_BV)
        logprobs = _logprobs(rows, tokens, logits_BV)
        self._next_tokens[torch.tensor(slots)] = torch.tensor(tokens)
        deltas = []
        for slot, row, token, logprob in zip(slots, rows, tokens, logprobs, strict=True):
            if row in broken:
                self._rows[slot] = None
                self._broken.append(row.job)
                continue
            delta = row.accept(token, logprob)
            if delta is not None:
                deltas.append((row, delta))
                if delta.finish is not None:
                    self._rows[slot] = None
        return deltas


def _draw(rows: Sequence[Row], logits_BV: Tensor) -> tuple[list[int], set[Row]]:
    """Draw a token per row, together for all rows of the same settings.

    Return the rows too that have no distribution: where one logit is not a number, or is infinite, no
    log-probability of theirs is a number.
    """
    alike: dict[tuple[float, int, float], list[int]] = {}
    for number, row in enumerate(rows):
        decoding = row.job.decoding
        temperature = decoding.temperature if decoding.temperature >= _COLDEST else 0.0
        alike.setdefault((temperature, decoding.top_k, decoding.top_p), []).append(number)
    tokens = [0] * len(rows)
    broken = set()
    for (temperature, top_k, top_p), numbers in alike.items():
        uniforms_B = torch.tensor([rows[number].next_uniform for number in numbers], dtype=torch.float64)
        chosen_BV = logits_BV if len(alike) == 1 else logits_BV[torch.tensor(numbers)]
        drawn = sample(chosen_BV, uniforms_B, temperature=temperature, top_k=top_k, top_p=top_p)
        for number, token, logprob in zip(numbers, *(drawn_B.tolist() for drawn_B in drawn), strict=True):
            row = rows[number]
            if math.isnan(logprob):
                broken.add(row)
            tokens[number] = row.forced.popleft() if row.forced else token
    return tokens, broken


def _logprobs(rows: Sequence[Row], tokens: Sequence[int], logits_BV: Tensor) -> list[TokenLogprob | None]:
    """Return log-probabilities at temperature 1 for the rows that want them."""
    told: list[TokenLogprob | None] = [None] * len(rows)
    for number, (row, token) in enumerate(zip(rows, tokens, strict=True)):
        num_top = row.job.decoding.num_top
        if num_top is None:
            continue
        logprobs_V = logits_BV[number].log_softmax(-1)
        top = logprobs_V.topk(min(num_top, len(logprobs_V)))
        pairs = tuple(zip(top.indices.tolist(), top.values.tolist(), strict=True))
        told[number] = TokenLogprob(token=token, logprob=float(logprobs_V[token]), top=pairs)
    return told
