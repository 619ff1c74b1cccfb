"""The thread that answers: jobs from any thread go in, deltas go out as they are made.

All jobs are decoded together (train/batch.py). Waiting jobs are admitted in the order of their arrival
between two steps; a prompt longer than a piece is computed over several of them, so that answers
under way never wait for more than one piece. The queue is bounded: what does not fit is refused
at once, and what was accepted is answered.
"""

import functools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import torch

from zerone.engine.jobs import Deliver, Delta, Failure, Job, QueueFull, sink_all
from zerone.engine.pacing import Pacer
from zerone.engine.row import Row, rows_of
from zerone.engine.torch.batch import Batch
from zerone.engine.torch.prefill import PiecewisePrefill, Prefilled, empty_kv, prefill
from zerone.engine.torch.prompt_memory import PromptMemory
from zerone.model.decoder import Decoder

_log = logging.getLogger(__name__)

PIECE_TOKENS = 512
"""Prompt tokens that are computed between two steps."""

NO_NUMBERS = (
    "the model computes no numbers here (NaN): its weights are damaged, or its training went out of bounds; "
    "serve another checkpoint"
)

_ROWS_PER_PROMPT = 8
_LONGEST_WAIT_S = 0.03
"""Prompts wait until there is one for so many answers under way, but no longer than so many seconds.

A pass over prompts holds all answers up, and costs nearly the same for one short prompt as for three.
"""


class Scheduler:
    """Answers jobs in a thread of its own; `deliver` is called there with the deltas that are due."""

    def __init__(
        self,
        decoder: Decoder,
        tokenizer: Any,
        end_ids: Sequence[int],
        *,
        context: int,
        max_rows: int,
        max_waiting: int,
        kv_bytes: int,
    ) -> None:
        self._decoder = decoder
        self._tokenizer = tokenizer
        self._end_ids = frozenset(end_ids)
        self.capacity = max_rows + max_waiting
        self._make_batch = functools.partial(Batch, decoder, context, max_rows, kv_bytes)
        self._batch = self._make_batch()
        self._memory = PromptMemory(empty_kv(decoder))
        self._waiting: deque[Row] = deque()
        self._entering: list[Row] = []
        """Rows off the queue whose prompts are being computed; neither waiting nor in the batch yet."""
        self._piecewise: tuple[Row, PiecewisePrefill] | None = None
        self._at_stake: list[Row] = []
        """All rows that the step under way began with, wherever it has put them meanwhile."""
        self._wake = threading.Condition()
        self._is_stopping = False
        self._pacer = Pacer(sink_all)
        self._wait_until_s = float("inf")
        self._thread = threading.Thread(name="scheduler", daemon=True)
        self.num_cancelled = 0

    def start(self, deliver: Deliver | None = None) -> None:
        """Begin to answer. Without `deliver` the sinks are called in the scheduler's thread."""
        self._thread = threading.Thread(target=self.run, args=(deliver,), name="scheduler", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Throw away what is under way and end the thread."""
        self.end()
        self._thread.join()

    def end(self) -> None:
        """Have `run` return before the next step."""
        with self._wake:
            self._is_stopping = True
            self._wake.notify()

    @property
    def is_alive(self) -> bool:
        """Whether jobs are being answered."""
        return self._thread.is_alive()

    @property
    def fault(self) -> str | None:
        """What keeps it from answering jobs now, in words, or None."""
        return None if self.is_alive else "the engine has stopped; start the server again"

    @property
    def num_active(self) -> int:
        """Answers being decoded, those included whose prompt is being computed."""
        return len({*self._batch.rows, *self._entering})

    @property
    def num_waiting(self) -> int:
        """Answers that were accepted and not begun."""
        return len(self._waiting) + (self._piecewise is not None)

    def submit(self, jobs: Sequence[Job]) -> None:
        """Accept all jobs or none; raises QueueFull."""
        rows = rows_of(jobs, self._tokenizer, self._end_ids)
        with self._wake:
            if self.num_active + self.num_waiting + len(rows) > self.capacity:
                raise QueueFull
            self._waiting.extend(rows)
            self._wake.notify()

    def cancel(self, jobs: Sequence[Job]) -> None:
        """Stop the work on these jobs before the next step."""
        for job in jobs:
            job.cancel()
        with self._wake:
            self._wake.notify()

    def holds(self, job: Job) -> bool:
        """Return whether any answer to this job is under way or waits."""
        return any(row.job is job for row in self._unfinished())

    def run(self, deliver: Deliver | None = None, notice: Callable[[], None] = lambda: None) -> None:
        """Answer in this thread until `end` is called; `notice` is called after every step."""
        if deliver is not None:
            self._pacer = Pacer(deliver)
        try:
            with torch.inference_mode():
                while self._wait_for_work():
                    try:
                        self._advance()
                    except (RuntimeError, MemoryError) as error:  # torch out of memory, above all
                        _log.exception("a step failed; the jobs under way are given up")
                        self._fail_all(f"the engine failed: {type(error).__name__}")
                    notice()
        finally:
            self._fail_all("the server is stopping")

    def _wait_for_work(self) -> bool:
        """Sleep until there is something to do; return False when there never will be again."""
        with self._wake:
            while not (self._is_stopping or self._waiting or self._piecewise or self._batch.rows):
                self._wake.wait()
            return not self._is_stopping

    def _advance(self) -> None:
        """Drop what was cancelled, admit what fits, and decode one token for all."""
        self._drop_cancelled()
        self._at_stake = self._unfinished()
        deltas = self._admit()
        while (youngest := self._batch.pop_youngest_if_full()) is not None:
            with self._wake:
                self._waiting.appendleft(youngest)
        if self._batch.rows:
            deltas += self._batch.step()
        self._pacer.hand_on(deltas, len(self._batch.rows))
        self._at_stake = []
        if broken := self._batch.take_broken():
            for job in broken:
                job.cancel()  # so that its other answers leave as well
            self._pacer.fail(broken, Failure(message=NO_NUMBERS, is_lasting=True))

    def _unfinished(self) -> list[Row]:
        with self._wake:
            rows = [*self._batch.rows, *self._waiting]
        return rows if self._piecewise is None else [*rows, self._piecewise[0]]

    def _drop_cancelled(self) -> None:
        self.num_cancelled += self._batch.remove_cancelled()
        if self._piecewise is not None and self._piecewise[0].job.is_cancelled:
            self._piecewise = None
            self.num_cancelled += 1
        with self._wake:
            kept = [row for row in self._waiting if not row.job.is_cancelled]
            self.num_cancelled += len(self._waiting) - len(kept)
            if len(kept) < len(self._waiting):
                self._waiting = deque(kept)

    def _admit(self) -> list[tuple[Row, Delta]]:
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
        with self._wake:
            self._piecewise, self._entering = None, entering
            while self._waiting and self._waiting[0].ids == row.ids:
                if not self._batch.has_room([*entering, self._waiting[0]]):
                    break
                entering.append(self._waiting.popleft())
        return self._admitted([(row, result) for row in entering])

    def _admitted(self, entering: Sequence[tuple[Row, Prefilled]]) -> list[tuple[Row, Delta]]:
        deltas = self._batch.admit(entering)
        self._entering = []
        return deltas

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
        with self._wake:
            self._entering = entering
            while self._waiting and self._batch.has_room([*entering, self._waiting[0]]):
                row = self._waiting[0]
                # The answers to one prompt share its prefill.
                is_shared = entering and not row.tokens and entering[-1].job is row.job
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

    def _fail_all(self, message: str) -> None:
        with self._wake:
            rows = [*self._at_stake, *self._unfinished()]
            self._waiting.clear()
        self._piecewise, self._entering, self._at_stake = None, [], []
        self._batch = self._make_batch()
        jobs = dict.fromkeys(row.job for row in rows)
        self._pacer.fail(list(jobs), Failure(message=message))
