"""Which rows are decoded together, and when: the two policies of the torch engine over its one batch.

`Waves` is for rollouts: all requests that are submitted together are one wave. What all their prompts
begin with is computed once, each prompt once, memory is set aside at once, and waiting rows take
freed slots a group at a time. `Arrivals` is for a server: rows come at any time and are admitted in
their order, long prompts piece by piece, so that rows under way never wait for more than one piece;
prompts that were computed lately are remembered, and memory is bounded.
"""

import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from zerone.engine.api import Request
from zerone.engine.row import Row
from zerone.engine.torch.batch import MARGIN, Batch, Bounded, Reserved, Told
from zerone.engine.torch.prefill import PiecewisePrefill, Prefilled, empty_kv, prefill, prefill_prefix
from zerone.engine.torch.prompt_memory import PromptMemory
from zerone.model.decoder import Decoder
from zerone.model.packed import common_prefix

PIECE_TOKENS = 512
"""Prompt tokens that are computed between two steps."""

_REFILL_PART = 8
"""Waiting rows of a wave are admitted when one slot in eight is free: prefill in batches, few idle slots."""

_ROWS_PER_PROMPT = 8
_LONGEST_WAIT_S = 0.03
"""Prompts wait until there is one for so many rows under way, but no longer than so many seconds.

A pass over prompts holds all rows up, and costs nearly the same for one short prompt as for three.
"""


class Admission(Protocol):
    """Rows that wait, and the batch that they enter."""

    def enter(self, rows: Sequence[Row]) -> None:
        """Take rows that wait from now on; any thread may call."""
        ...

    def advance(self) -> Told:
        """Admit what is due, and decode one token for all rows."""
        ...

    def drop_cancelled(self) -> int:
        """Let rows go that nobody waits for; return their number."""
        ...

    def unfinished(self) -> list[Row]:
        """Return all rows under way or waiting."""
        ...

    @property
    def num_active(self) -> int:
        """Rows being decoded, those included whose prompt is being computed."""
        ...

    @property
    def num_waiting(self) -> int:
        """Rows that were accepted and not begun."""
        ...


class Waves:
    """One submission after the other, each with a batch and a prefix of its own."""

    def __init__(self, decoder: Decoder, slots: int) -> None:
        self._decoder = decoder
        self._slots = slots
        self._coming: deque[deque[Row]] = deque()
        self._waiting: deque[Row] = deque()
        self._batch: Batch | None = None
        self._prefix: tuple[int, ...] = ()
        self._prefix_kv: list[Tensor] = []
        self._prefilled: dict[Request, Prefilled] = {}

    def enter(self, rows: Sequence[Row]) -> None:
        """Take the rows of a wave."""
        self._coming.append(deque(rows))

    def advance(self) -> Told:
        """Admit what is due, and decode one token for all rows."""
        if self._batch is None:
            if not self._coming:
                return []
            self._begin(self._coming.popleft())
        batch = self._batch
        assert batch is not None
        told: Told = []
        if self._waiting and batch.num_free * _REFILL_PART >= batch.num_slots:
            told += self._admit(batch)
        if not batch.is_empty:
            told += batch.step(has_waiting=bool(self._waiting))
        self._end_if_done()
        return told

    def drop_cancelled(self) -> int:
        """Let rows go that nobody waits for; return their number."""
        before = len(self.unfinished())
        waves = [[row for row in wave if not row.request.is_cancelled] for wave in self._coming]
        self._coming = deque(deque(wave) for wave in waves if wave)
        self._waiting = deque(row for row in self._waiting if not row.request.is_cancelled)
        if self._batch is not None:
            self._batch.remove_cancelled()
        self._end_if_done()
        return before - len(self.unfinished())

    def unfinished(self) -> list[Row]:
        """Return all rows under way or waiting."""
        under_way = [] if self._batch is None else self._batch.rows
        return [*under_way, *self._waiting, *(row for wave in self._coming for row in wave)]

    @property
    def num_active(self) -> int:
        """Rows being decoded."""
        return 0 if self._batch is None else len(self._batch.rows)

    @property
    def num_waiting(self) -> int:
        """Rows that were accepted and not begun."""
        return len(self._waiting) + sum(map(len, self._coming))

    def _begin(self, rows: deque[Row]) -> None:
        """Compute what all prompts begin with, and set memory aside for as long as they may get."""
        requests = list(dict.fromkeys(row.request for row in rows))
        self._prefix = common_prefix([request.prompt_ids for request in requests])
        self._prefix_kv = prefill_prefix(self._decoder, self._prefix)
        longest = max(len(request.prompt_ids) + request.sampling.max_tokens for request in requests)
        columns = longest - len(self._prefix) + MARGIN
        memory = Reserved(min(self._slots, len(rows)), columns, self._prefix_kv, len(self._prefix))
        self._batch = Batch(self._decoder, memory)
        self._waiting = rows

    def _end_if_done(self) -> None:
        if self._batch is not None and not self._waiting and self._batch.is_empty:
            self._batch, self._prefilled, self._prefix_kv = None, {}, []

    def _admit(self, batch: Batch) -> Told:
        """Fill free slots with waiting rows; their prompts are computed in one pass."""
        entering = [self._waiting.popleft() for _ in range(min(batch.num_free, len(self._waiting)))]
        missing = list(dict.fromkeys(row.request for row in entering if row.request not in self._prefilled))
        if missing:
            rests = [request.prompt_ids[len(self._prefix) :] for request in missing]
            prefilled = prefill(self._decoder, self._prefix, self._prefix_kv, rests)
            self._prefilled.update(zip(missing, prefilled, strict=True))
        told = batch.admit([(row, self._prefilled[row.request]) for row in entering])
        still_waiting = {row.request for row in self._waiting}
        for request in [request for request in self._prefilled if request not in still_waiting]:
            del self._prefilled[request]
        return told


class Arrivals:
    """Rows in the order of their arrival, admitted between two steps."""

    def __init__(self, decoder: Decoder, memory: Bounded) -> None:
        self._decoder = decoder
        self._batch = Batch(decoder, memory)
        self._memory = PromptMemory(empty_kv(decoder))
        self._waiting: deque[Row] = deque()
        self._entering: list[Row] = []
        """Rows off the queue whose prompts are being computed; neither waiting nor in the batch yet."""
        self._piecewise: tuple[Row, PiecewisePrefill] | None = None
        self._wait_until_s = float("inf")
        self._lock = threading.Lock()

    def enter(self, rows: Sequence[Row]) -> None:
        """Take rows that wait from now on."""
        with self._lock:
            self._waiting.extend(rows)

    def advance(self) -> Told:
        """Admit what fits, and decode one token for all rows."""
        told = self._admit()
        while (youngest := self._batch.pop_youngest_if_full()) is not None:
            with self._lock:
                self._waiting.appendleft(youngest)
        if not self._batch.is_empty:
            told += self._batch.step(has_waiting=bool(self._waiting))
        return told

    def drop_cancelled(self) -> int:
        """Let rows go that nobody waits for; return their number."""
        num_dropped = self._batch.remove_cancelled()
        if self._piecewise is not None and self._piecewise[0].request.is_cancelled:
            self._piecewise = None
            num_dropped += 1
        with self._lock:
            kept = [row for row in self._waiting if not row.request.is_cancelled]
            num_dropped += len(self._waiting) - len(kept)
            if len(kept) < len(self._waiting):
                self._waiting = deque(kept)
        return num_dropped

    def unfinished(self) -> list[Row]:
        """Return all rows under way or waiting."""
        with self._lock:
            rows = [*self._batch.rows, *self._waiting]
        return rows if self._piecewise is None else [*rows, self._piecewise[0]]

    @property
    def num_active(self) -> int:
        """Rows being decoded, those included whose prompt is being computed."""
        return len({*self._batch.rows, *self._entering})

    @property
    def num_waiting(self) -> int:
        """Rows that were accepted and not begun."""
        return len(self._waiting) + (self._piecewise is not None)

    def _admit(self) -> Told:
        if self._piecewise is None:
            entering = [] if self._waits_for_more() else self._take()
            if not entering:
                return []
            if entering[0].length <= PIECE_TOKENS:
                return self._admitted(self._prefill(entering))
            _, known_kv = self._memory.beginning([entering[0].ids])
            piecewise = PiecewisePrefill(self._decoder, entering[0].ids, known_kv)
            self._piecewise = entering[0], piecewise
            self._entering = []
        row, piecewise = self._piecewise
        if piecewise.result is None:
            piecewise.advance(PIECE_TOKENS)
        if piecewise.result is None or not self._batch.has_room([row]):
            return []
        result, entering = piecewise.result, [row]
        self._memory.remember(row.ids, result.kv)
        with self._lock:
            self._piecewise, self._entering = None, entering
            while self._waiting and self._waiting[0].ids == row.ids:
                if not self._batch.has_room([*entering, self._waiting[0]]):
                    break
                entering.append(self._waiting.popleft())
        return self._admitted([(row, result) for row in entering])

    def _admitted(self, entering: Sequence[tuple[Row, Prefilled]]) -> Told:
        told = self._batch.admit(entering)
        self._entering = []
        return told

    def _waits_for_more(self) -> bool:
        """Return whether so many answers are under way that prompts had better come together."""
        waiting, now_s = len(self._waiting), time.monotonic()
        if waiting * _ROWS_PER_PROMPT >= len(self._batch.rows) or now_s > self._wait_until_s:
            self._wait_until_s = float("inf")
            return False
        if waiting:
            self._wait_until_s = min(self._wait_until_s, now_s + _LONGEST_WAIT_S)
        return True

    def _take(self) -> list[Row]:
        """Take rows off the queue: one long one, or short ones of a piece's tokens together."""
        entering: list[Row] = []
        num_tokens = 0
        with self._lock:
            self._entering = entering
            while self._waiting and self._batch.has_room([*entering, self._waiting[0]]):
                row = self._waiting[0]
                # The rows of one prompt share its prefill.
                is_shared = entering and not row.tokens and entering[-1].request is row.request
                num_tokens += 0 if is_shared else row.length
                if entering and num_tokens > PIECE_TOKENS:
                    break
                entering.append(self._waiting.popleft())
                if num_tokens > PIECE_TOKENS:
                    break
        return entering

    def _prefill(self, rows: Sequence[Row]) -> list[tuple[Row, Prefilled]]:
        """Compute the prompts of short rows, each once, in one packed pass."""
        prompts = list(dict.fromkeys(row.ids for row in rows))
        known, known_kv = self._memory.beginning(prompts)
        rests = [prompt[len(known) :] for prompt in prompts]
        prefilled = [rest.after(known_kv) for rest in prefill(self._decoder, known, known_kv, rests)]
        self._memory.remember(prompts[-1], prefilled[-1].kv)
        by_ids = dict(zip(prompts, prefilled, strict=True))
        return [(row, by_ids[row.ids]) for row in rows]
