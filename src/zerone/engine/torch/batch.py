"""The rows that are decoded together: admission and departure at any step, one token per step for all.

What is kept for them follows the admission policy (admission.py). `Reserved` is memory for a whole wave
of rows, set aside at once behind what all their prompts begin with. `Bounded` grows and shrinks with
rows that come at any time, within so many bytes: columns that a long row has left are given back before
others would exceed it, a row that does not fit waits, and when growing rows fill it, the youngest
leaves and is computed again later.

Dimensions: B rows being decoded, V vocabulary.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from zerone.engine.api import Delta, Event, Failure, Request, TokenLogprob
from zerone.engine.row import Row
from zerone.engine.torch.cache import ClockCache
from zerone.engine.torch.prefill import Prefilled, empty_kv
from zerone.engine.torch.sampling import sample
from zerone.model.decoder import Decoder

MARGIN = 64
"""Columns beyond the longest row: the cache moves its rows once in so many steps."""
NO_NUMBERS = (
    "the model computes no numbers here (NaN): its weights are damaged, or its training went out of bounds; "
    "serve another checkpoint"
)


@dataclass(frozen=True, slots=True)
class Reserved:
    """Memory for `slots` rows of `columns` tokens beyond the prefix, set aside at once."""

    slots: int
    columns: int
    prefix_kv: Sequence[Tensor]
    num_prefix: int


@dataclass(frozen=True, slots=True)
class Bounded:
    """Memory that grows and shrinks with the rows, up to `max_bytes` and `max_rows`."""

    context: int
    max_rows: int
    max_bytes: int


Told = list[tuple[Request, Event]]
"""What a step has told of some requests, in order."""


class Batch:
    """The rows under way and their cache; used by one thread."""

    def __init__(self, decoder: Decoder, memory: Reserved | Bounded) -> None:
        self._decoder = decoder
        self._memory = memory
        self._num_prefix, self._max_cells = 0, 0
        self._rows: list[Row | None] = []
        if isinstance(memory, Reserved):
            self._num_prefix = memory.num_prefix
            self._rows = [None] * memory.slots
            self._cache = ClockCache(memory.prefix_kv, memory.slots, memory.columns)
        else:
            element = torch.empty(0, dtype=decoder.dtype).element_size()
            cell_bytes = 2 * decoder.num_kv_heads * decoder.head_dim * decoder.num_layers * element
            # One row always fits: without that the longest request could wait for ever.
            self._max_cells = max(memory.max_bytes // cell_bytes, memory.context + MARGIN)
            self._cache = ClockCache(empty_kv(decoder), 0, 0)
        self._next_tokens = torch.zeros(len(self._rows), dtype=torch.long)

    @property
    def rows(self) -> list[Row]:
        """The rows under way."""
        return [row for row in self._rows if row is not None]

    @property
    def is_empty(self) -> bool:
        """Whether no row is under way."""
        return not any(row is not None for row in self._rows)

    @property
    def num_slots(self) -> int:
        """Rows that are computed together, free slots included."""
        return len(self._rows)

    @property
    def num_free(self) -> int:
        """Slots without a row."""
        return sum(row is None for row in self._rows)

    def has_room(self, entering: Sequence[Row]) -> bool:
        """Whether these rows could be decoded beside the present ones."""
        assert isinstance(self._memory, Bounded)
        rows = [*self.rows, *entering]
        longest = max(row.length for row in rows)
        fits = len(rows) == 1 or len(rows) * (longest + MARGIN) <= self._max_cells
        return fits and len(rows) <= self._memory.max_rows

    def admit(self, entering: Sequence[tuple[Row, Prefilled]]) -> Told:
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
        leaving = [i for i, row in enumerate(self._rows) if row is not None and row.request.is_cancelled]
        for slot in leaving:
            self._rows[slot] = None
        self._shrink(has_waiting=True)
        return len(leaving)

    def pop_youngest_if_full(self) -> Row | None:
        """Remove the row with the fewest tokens where the next step would exceed the memory."""
        rows = self.rows
        longest = max((row.length for row in rows), default=0)
        if len(rows) < 2 or len(rows) * (longest + 1) <= self._max_cells:
            return None
        youngest = min(rows, key=lambda row: len(row.tokens))
        self._rows[self._rows.index(youngest)] = None
        self._shrink(has_waiting=True)
        return youngest

    def step(self, *, has_waiting: bool) -> Told:
        """Decode one token for every row; empty slots are computed along and ignored.

        `has_waiting` is whether rows wait for the free slots.
        """
        self._make_room(0, 0)
        slots = [slot for slot, row in enumerate(self._rows) if row is not None]
        self._cache.begin_step(slots)
        positions_B = torch.tensor([0 if row is None else row.length - 1 for row in self._rows])
        hidden_BD = self._decoder.hidden(self._next_tokens, positions_B, self._cache.attend)
        if len(slots) < len(self._rows):
            hidden_BD = hidden_BD[torch.tensor(slots)]
        told = self._extend(slots, self._decoder.logits(hidden_BD))
        self._shrink(has_waiting=has_waiting)
        return told

    def _make_room(self, num_entering: int, longest_entering: int) -> None:
        """Enlarge the cache by half where slots or columns are missing, or by what the memory allows."""
        memory = self._memory
        if isinstance(memory, Reserved):
            return
        rows = self.rows
        least_slots = len(rows) + num_entering
        least_columns = max([longest_entering, *(row.length for row in rows)]) + 1
        num_slots, num_columns = len(self._rows), self._cache.num_columns
        if least_slots <= num_slots and least_columns <= num_columns:
            return
        if least_slots > num_slots:
            num_slots = max(least_slots, min(num_slots * 3 // 2, memory.max_rows))
        if least_columns > num_columns:
            num_columns = max(least_columns, min(num_columns * 3 // 2, memory.context)) + MARGIN
        if num_slots * num_columns > self._max_cells:
            # Columns that a longer row has left are given back, and then free slots. What is
            # left fits: `has_room` and `pop_youngest_if_full` have seen to that.
            num_columns = min(num_columns, least_columns * 3 // 2 + MARGIN)
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

    def _shrink(self, *, has_waiting: bool) -> None:
        """Drop the free slots where that saves enough; see `_is_sparse`."""
        slots = [slot for slot, row in enumerate(self._rows) if row is not None]
        if not slots:
            if self._rows and isinstance(self._memory, Bounded):  # begin anew
                self._rows, self._next_tokens = [], self._next_tokens[:0]
                self._cache = ClockCache(empty_kv(self._decoder), 0, 0)
        elif self._is_sparse(len(slots), has_waiting=has_waiting):
            self._cache.keep(slots)
            self._next_tokens = self._next_tokens[torch.tensor(slots)]
            self._rows = [self._rows[slot] for slot in slots]

    def _is_sparse(self, num_rows: int, *, has_waiting: bool) -> bool:
        """Whether half the slots are free; in a wave a quarter of more than 8 that no row waits for."""
        num_slots = len(self._rows)
        if isinstance(self._memory, Bounded):
            return num_rows * 2 <= num_slots
        return not has_waiting and (num_slots - num_rows) * 4 >= num_slots > 8

    def _extend(self, slots: Sequence[int], logits_BV: Tensor) -> Told:
        """Draw the next token of the rows in `slots`; rows that end leave."""
        rows = [row for slot in slots if (row := self._rows[slot]) is not None]
        tokens, logprobs = _draw(rows, logits_BV)
        self._next_tokens[torch.tensor(slots)] = torch.tensor(tokens)
        told: Told = []
        for number, (slot, row) in enumerate(zip(slots, rows, strict=True)):
            token, logprob = tokens[number], logprobs[number]
            event: Event | None
            if not row.request.streams:
                event = row.accept(token, logprob)
            elif math.isnan(logprob):
                event = Failure(message=NO_NUMBERS, is_lasting=True)
            else:
                event = row.accept(token, logprob, _told(row, token, logits_BV[number]))
            if event is not None:
                if not isinstance(event, Delta) or event.finish is not None:
                    self._rows[slot] = None
                told.append((row.request, event))
        return told


def _draw(rows: Sequence[Row], logits_BV: Tensor) -> tuple[list[int], list[float]]:
    """Draw a token per row, together for all rows of the same settings; return their log-probabilities too.

    Where one logit is not a number, or is infinite, no log-probability of its row is a number.
    """
    alike: dict[tuple[float, int, float], list[int]] = {}
    for number, row in enumerate(rows):
        alike.setdefault(row.settings, []).append(number)
    tokens, logprobs = [0] * len(rows), [0.0] * len(rows)
    for (temperature, top_k, top_p), numbers in alike.items():
        uniforms_B = torch.tensor([rows[number].next_uniform for number in numbers], dtype=torch.float64)
        chosen_BV = logits_BV if len(alike) == 1 else logits_BV[torch.tensor(numbers)]
        drawn = sample(chosen_BV, uniforms_B, temperature=temperature, top_k=top_k, top_p=top_p)
        for number, token, logprob in zip(numbers, *(drawn_B.tolist() for drawn_B in drawn), strict=True):
            forced = rows[number].forced
            tokens[number] = forced.popleft() if forced else token
            logprobs[number] = logprob
    return tokens, logprobs


def _told(row: Row, token: int, logits_V: Tensor) -> TokenLogprob | None:
    """Return the log-probabilities at temperature 1 that a stream wants to be told."""
    num_top = row.request.sampling.num_top
    if num_top is None:
        return None
    logprobs_V = logits_V.log_softmax(-1)
    top = logprobs_V.topk(min(num_top, len(logprobs_V)))
    pairs = tuple(zip(top.indices.tolist(), top.values.tolist(), strict=True))
    return TokenLogprob(token=token, logprob=float(logprobs_V[token]), top=pairs)
