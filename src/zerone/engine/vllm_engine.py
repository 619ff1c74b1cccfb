"""vLLM as an engine instead of our own decoder: on GPUs, where that is installed.

vLLM batches, caches and samples; what it draws goes through the same rows (row.py) as with our own
engine, so reasoning, stop strings and budgets are the same in every engine. Reasoning that has used
up its budget is closed by beginning anew behind the closing tag, which vLLM's prefix cache makes
cheap.
"""

import logging
import math
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from zerone.engine.api import (
    Completion,
    Event,
    Failure,
    Request,
    SamplingParams,
    TokenLogprob,
    check_context,
    generate_with,
)
from zerone.engine.row import Row, rows_of
from zerone.engine.weights import WeightSource
from zerone.types import Rollout

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Drawn:
    """The next tokens of a request; `logprobs` has for each, where wanted, itself and the likeliest ones."""

    request: str
    tokens: Sequence[int]
    logprobs: Sequence[Mapping[int, float] | None]
    is_last: bool


class Requests(Protocol):
    """What is needed of vLLM: requests by name, decoded together, and new weights."""

    def add(self, request: str, row: Row) -> None:
        """Begin to continue what a row has."""
        ...

    def abort(self, requests: Sequence[str]) -> None:
        """Forget requests."""
        ...

    def step(self) -> list[Drawn]:
        """Draw the next tokens."""
        ...

    def load(self, source: WeightSource) -> str:
        """Load weights and return their hash; raises EngineError where they did not land."""
        ...

    def sleep(self) -> None:
        """Give up the memory of weights and cache until `load`."""
        ...


class VllmEngine:
    """Samples by vLLM, as `TorchEngine` does by our decoder."""

    def __init__(
        self,
        requests: Requests,
        tokenizer: Any,
        end_ids: Sequence[int],
        *,
        max_rows: int,
        context: int = 1 << 62,
    ) -> None:
        self._context = context
        self.weight_version = 0
        self.weight_hash = ""
        self.num_cancelled = 0
        self._requests = requests
        self._tokenizer = tokenizer
        self._end_ids = frozenset(end_ids)
        self._max_rows = max_rows
        self._rows: dict[str, Row] = {}
        self._arrived: list[Row] = []
        self._num_requests = 0
        self._lock = threading.Lock()

    def update_weights(self, source: WeightSource, version: int) -> None:
        """Load the weights into vLLM; raises EngineError where they did not land."""
        self.weight_version = -1
        self.weight_hash = self._requests.load(source)
        self.weight_version = version

    def sleep(self) -> None:
        """Give up the memory of weights and cache until the next `update_weights`."""
        self._requests.sleep()

    def close(self) -> None:
        """Give up the memory; vLLM itself ends with this process."""
        self.sleep()

    @property
    def num_active(self) -> int:
        """Completions under way; vLLM does not tell which of them wait."""
        return min(len(self._rows), self._max_rows)

    @property
    def num_waiting(self) -> int:
        """Completions beyond those that are decoded at once."""
        return max(0, len(self._rows) - self._max_rows) + len(self._arrived)

    @property
    def is_busy(self) -> bool:
        """Whether completions are under way or wait."""
        return bool(self._rows or self._arrived)

    def holds(self, request: Request) -> bool:
        """Return whether any completion of this request is under way or waits."""
        with self._lock:
            return any(row.request is request for row in (*self._rows.values(), *self._arrived))

    def submit(self, requests: Sequence[Request]) -> None:
        """Accept requests; who submits them sees to their number."""
        check_context(requests, self._context)
        rows = rows_of(requests, self._tokenizer, self._end_ids)
        for row in rows:
            row.weights = self.weight_version, self.weight_hash
        with self._lock:
            self._arrived += rows

    def cancel(self, requests: Sequence[Request]) -> None:
        """Stop the work on these requests before the next step."""
        for request in requests:
            request.cancel()

    def events(self) -> list[tuple[Request, Event]]:
        """Begin what has arrived, draw the next tokens of all, and return what came of it."""
        self._drop_cancelled()
        self._admit()
        told: list[tuple[Request, Event]] = []
        for drawn in self._requests.step() if self._rows else ():
            if drawn.request in self._rows:  # else it was given up meanwhile
                told += self._take(drawn)
        return told

    def generate(self, requests: Sequence[Request], sampling: SamplingParams) -> list[list[Rollout]]:
        """Return the rollouts of each request in the order of its seeds."""
        return generate_with(self, requests, sampling)

    def _drop_cancelled(self) -> None:
        with self._lock:
            waiting = [row for row in self._arrived if not row.request.is_cancelled]
            self.num_cancelled += len(self._arrived) - len(waiting)
            self._arrived = waiting
        given_up = [request for request, row in self._rows.items() if row.request.is_cancelled]
        self.num_cancelled += len(given_up)
        for request in given_up:
            del self._rows[request]
        if given_up:
            self._requests.abort(given_up)

    def _admit(self) -> None:
        with self._lock:
            arrived, self._arrived = self._arrived, []
            begun = [self._enter(row) for row in arrived]
        for request in begun:
            self._requests.add(request, self._rows[request])

    def _enter(self, row: Row) -> str:
        self._num_requests += 1
        request = str(self._num_requests)
        self._rows[request] = row
        return request

    def _take(self, drawn: Drawn) -> list[tuple[Request, Event]]:
        """Give a row what was drawn for it, and what it forces then; return what there is to send."""
        row = self._rows[drawn.request]
        told: list[tuple[Request, Event]] = []
        following = deque(zip(drawn.tokens, drawn.logprobs, strict=True))
        is_forced = False
        while following:
            token, logprobs = following.popleft()
            logprob = math.nan if logprobs is None else logprobs[token]
            event = row.accept(token, logprob, _told(row, token, logprobs))
            if event is not None:
                told.append((row.request, event))
                if isinstance(event, Completion) or event.finish is not None:
                    self._leave(drawn)
                    return told
            if row.forced:  # so what was drawn behind this token does not follow it
                is_forced = True
                following = deque((forced, None) for forced in row.forced)
                row.forced.clear()
        if is_forced:
            self._leave(drawn)
            self._requests.add(self._enter(row), row)
        elif drawn.is_last:
            told += self._lose(drawn.request)
        return told

    def _lose(self, name: str) -> list[tuple[Request, Event]]:
        """Fail the request of a completion that vLLM gave up before its end; the others go on."""
        request = self._rows.pop(name).request
        if request.is_cancelled:
            return []
        _log.error("vLLM ended a completion before its end and its length; its request is given up")
        request.cancel()  # so that its other completions leave as well
        return [(request, Failure(message="the engine gave this completion up"))]

    def _leave(self, drawn: Drawn) -> None:
        del self._rows[drawn.request]
        if not drawn.is_last:
            self._requests.abort([drawn.request])


def _told(row: Row, token: int, logprobs: Mapping[int, float] | None) -> TokenLogprob | None:
    num_top = row.request.sampling.num_top
    if logprobs is None or num_top is None:
        return None
    likeliest = sorted(logprobs.items(), key=lambda pair: -pair[1])[:num_top]
    return TokenLogprob(token=token, logprob=logprobs[token], top=tuple(likeliest))
