"""An engine at work in a thread: requests from any thread go in, events are handed on as they come.

The engine may be the torch engine or vLLM. The queue is bounded: what does not fit is refused at once,
and what was accepted is completed or fails.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from zerone.engine.api import Deliver, Delta, Engine, Event, Failure, QueueFull, Request, sink_all
from zerone.engine.pacing import Pacer

_log = logging.getLogger(__name__)


class Counted(Protocol):
    """What tells how many completions it is at."""

    @property
    def num_active(self) -> int:
        """Completions under way."""
        ...

    @property
    def num_waiting(self) -> int:
        """Completions accepted and not begun."""
        ...

    @property
    def num_cancelled(self) -> int:
        """Completions given up as nobody waited for them, since the start."""
        ...


class LocalEngine(Engine, Counted, Protocol):
    """An engine of this process, which tells what it is at."""

    weight_hash: str

    def holds(self, request: Request) -> bool:
        """Return whether any completion of this request is under way or waits."""
        ...


class Scheduler:
    """Runs an engine in a thread; `deliver` is called there with the events that are due."""

    def __init__(self, engine: LocalEngine, capacity: int) -> None:
        self.engine = engine
        self.capacity = capacity
        self._open: dict[Request, int] = {}
        """Requests under way, with the number of their completions that have not ended."""
        self._calls: deque[Callable[[], None]] = deque()
        self._wake = threading.Condition()
        self._is_stopping = False
        self._pacer = Pacer(sink_all)
        self._thread = threading.Thread(name="scheduler", daemon=True)

    def start(self, deliver: Deliver | None = None) -> None:
        """Begin to work. Without `deliver` the sinks are called in the scheduler's thread."""
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
        """Whether requests are being completed."""
        return self._thread.is_alive()

    @property
    def fault(self) -> str | None:
        """What keeps it from working now, in words, or None."""
        return None if self.is_alive else "the engine has stopped; start the server again"

    @property
    def num_active(self) -> int:
        """Completions under way."""
        return self.engine.num_active

    @property
    def num_waiting(self) -> int:
        """Completions that were accepted and not begun."""
        return self.engine.num_waiting

    @property
    def num_cancelled(self) -> int:
        """Completions given up as nobody waited for them, since the start."""
        return self.engine.num_cancelled

    def submit(self, requests: Sequence[Request]) -> None:
        """Accept all requests or none; raises QueueFull."""
        num_new = sum(request.num_samples for request in requests)
        with self._wake:
            if self.num_active + self.num_waiting + num_new > self.capacity:
                raise QueueFull
            self.engine.submit(requests)
            self._open |= {request: request.num_samples for request in requests}
            self._wake.notify()

    def cancel(self, requests: Sequence[Request]) -> None:
        """Stop the work on these requests before the next step."""
        self.engine.cancel(requests)
        with self._wake:
            for request in requests:
                self._open.pop(request, None)
            self._wake.notify()

    def call(self, work: Callable[[], None]) -> None:
        """Have work done in the engine's thread before the next step."""
        with self._wake:
            self._calls.append(work)
            self._wake.notify()

    def holds(self, request: Request) -> bool:
        """Return whether any completion of this request is under way or waits."""
        return self.engine.holds(request)

    def run(self, deliver: Deliver | None = None, notice: Callable[[], None] = lambda: None) -> None:
        """Work in this thread until `end` is called; `notice` is called after every step."""
        if deliver is not None:
            self._pacer = Pacer(deliver)
        try:
            while self._wait_for_work():
                while self._calls:
                    self._calls.popleft()()
                try:
                    told = self.engine.events() if self.engine.is_busy else []
                except (RuntimeError, MemoryError) as error:  # torch out of memory, above all
                    _log.exception("a step failed; the requests under way are given up")
                    self._fail_all(f"the engine failed: {type(error).__name__}")
                else:
                    self._close(told)
                    self._pacer.hand_on(told, self.engine.num_active)
                notice()
        finally:
            self._fail_all("the server is stopping")

    def _wait_for_work(self) -> bool:
        """Sleep until there is something to do; return False when there never will be again."""
        with self._wake:
            while not (self._is_stopping or self._calls or self.engine.is_busy):
                self._wake.wait()
            return not self._is_stopping

    def _close(self, told: Sequence[tuple[Request, Event]]) -> None:
        """Strike off the completions that have ended."""
        with self._wake:
            for request, event in told:
                is_end = not isinstance(event, Delta) or event.finish is not None
                if is_end and request in self._open:
                    self._open[request] -= 1
                    if isinstance(event, Failure) or not self._open[request]:
                        del self._open[request]

    def _fail_all(self, message: str) -> None:
        with self._wake:
            requests = list(self._open)
            self._open.clear()
        self._pacer.fail(requests, Failure(message=message))
