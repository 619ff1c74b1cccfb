"""Answers jobs by vLLM instead of our own decoder: on GPUs, where that is installed.

vLLM batches, caches and samples; what it draws goes through the same rows (row.py) as with our own
engine, so thoughts, stop strings and budgets are the same whoever decodes. A thought that has used
up its budget is closed by beginning anew behind the closing tag, which vLLM's prefix cache makes
cheap.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from zerone.engine.jobs import Deliver, Delta, Failure, Job, TokenLogprob, sink_all
from zerone.engine.pacing import Pacer
from zerone.engine.row import Row, rows_of

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Drawn:
    """The next tokens of a request; `logprobs` has for each, where wanted, itself and the likeliest ones."""

    request: str
    tokens: Sequence[int]
    logprobs: Sequence[Mapping[int, float] | None]
    is_last: bool


class Requests(Protocol):
    """What is needed of vLLM: requests by name, decoded together."""

    def add(self, request: str, row: Row) -> None:
        """Begin to continue what a row has."""
        ...

    def abort(self, requests: Sequence[str]) -> None:
        """Forget requests."""
        ...

    def step(self) -> list[Drawn]:
        """Draw the next tokens."""
        ...


class VllmScheduler:
    """Answers jobs in the thread that calls `run`, as `Scheduler` does."""

    def __init__(self, requests: Requests, tokenizer: Any, end_ids: Sequence[int], *, max_rows: int) -> None:
        self._requests = requests
        self._tokenizer = tokenizer
        self._end_ids = frozenset(end_ids)
        self._max_rows = max_rows
        self._rows: dict[str, Row] = {}
        self._arrived: list[Row] = []
        self._num_requests = 0
        self._wake = threading.Condition()
        self._is_stopping = False
        self._pacer = Pacer(sink_all)
        self.num_cancelled = 0

    @property
    def num_active(self) -> int:
        """Answers under way; vLLM does not tell which of them wait."""
        return min(len(self._rows), self._max_rows)

    @property
    def num_waiting(self) -> int:
        """Answers beyond those that are decoded at once."""
        return max(0, len(self._rows) - self._max_rows) + len(self._arrived)

    def holds(self, job: Job) -> bool:
        """Return whether any answer to this job is under way or waits."""
        with self._wake:
            return any(row.job is job for row in (*self._rows.values(), *self._arrived))

    def submit(self, jobs: Sequence[Job]) -> None:
        """Accept jobs; whoever submits them sees to their number."""
        rows = rows_of(jobs, self._tokenizer, self._end_ids)
        with self._wake:
            self._arrived += rows
            self._wake.notify()

    def cancel(self, jobs: Sequence[Job]) -> None:
        """Stop the work on these jobs before the next step."""
        for job in jobs:
            job.cancel()

    def end(self) -> None:
        """Have `run` return before the next step."""
        with self._wake:
            self._is_stopping = True
            self._wake.notify()

    def run(self, deliver: Deliver | None = None, notice: Callable[[], None] = lambda: None) -> None:
        """Answer in this thread until `end` is called; `notice` is called after every step."""
        if deliver is not None:
            self._pacer = Pacer(deliver)
        while self._wait_for_work():
            self._drop_cancelled()
            self._admit()
            deltas: list[tuple[Row, Delta]] = []
            for drawn in self._requests.step() if self._rows else ():
                if drawn.request in self._rows:  # else it was given up meanwhile
                    deltas += self._take(drawn)
            self._pacer.hand_on(deltas, len(self._rows))
            notice()
        jobs = dict.fromkeys(row.job for row in (*self._rows.values(), *self._arrived))
        self._pacer.fail(list(jobs), Failure(message="the server is stopping"))

    def _wait_for_work(self) -> bool:
        with self._wake:
            while not (self._is_stopping or self._arrived or self._rows):
                self._wake.wait()
            return not self._is_stopping

    def _drop_cancelled(self) -> None:
        with self._wake:
            waiting = [row for row in self._arrived if not row.job.is_cancelled]
            self.num_cancelled += len(self._arrived) - len(waiting)
            self._arrived = waiting
        given_up = [request for request, row in self._rows.items() if row.job.is_cancelled]
        self.num_cancelled += len(given_up)
        for request in given_up:
            del self._rows[request]
        if given_up:
            self._requests.abort(given_up)

    def _admit(self) -> None:
        with self._wake:
            arrived, self._arrived = self._arrived, []
            begun = [self._enter(row) for row in arrived]
        for request in begun:
            self._requests.add(request, self._rows[request])

    def _enter(self, row: Row) -> str:
        self._num_requests += 1
        request = str(self._num_requests)
        self._rows[request] = row
        return request

    def _take(self, drawn: Drawn) -> list[tuple[Row, Delta]]:
        """Give a row what was drawn for it, and what it forces then; return what there is to send."""
        row = self._rows[drawn.request]
        deltas: list[tuple[Row, Delta]] = []
        following = deque(zip(drawn.tokens, drawn.logprobs, strict=True))
        is_forced = False
        while following:
            token, logprobs = following.popleft()
            delta = row.accept(token, _told(row, token, logprobs))
            if delta is not None:
                deltas.append((row, delta))
                if delta.finish is not None:
                    self._leave(drawn)
                    return deltas
            if row.forced:  # so what was drawn behind this token does not follow it
                is_forced = True
                following = deque((forced, None) for forced in row.forced)
                row.forced.clear()
        if is_forced:
            self._leave(drawn)
            self._requests.add(self._enter(row), row)
        elif drawn.is_last:
            self._lose(drawn.request)
        return deltas

    def _lose(self, request: str) -> None:
        """Fail the job of an answer that vLLM has given up before its end; the other jobs go on."""
        job = self._rows.pop(request).job
        if not job.is_cancelled:
            _log.error("vLLM ended an answer before its end and its length; its request is given up")
            job.cancel()  # so that its other answers leave as well
            self._pacer.fail([job], Failure(message="the engine gave this answer up"))

    def _leave(self, drawn: Drawn) -> None:
        del self._rows[drawn.request]
        if not drawn.is_last:
            self._requests.abort([drawn.request])


def _told(row: Row, token: int, logprobs: Mapping[int, float] | None) -> TokenLogprob | None:
    if logprobs is None or row.job.decoding.num_top is None:
        return None
    likeliest = sorted(logprobs.items(), key=lambda pair: -pair[1])[: row.job.decoding.num_top]
    return TokenLogprob(token=token, logprob=logprobs[token], top=tuple(likeliest))
