"""An engine in a process of its own, as the server sees it.

Decoding is thousands of small products, each of which gives the interpreter up and wants it back, and
waits for it beside an event loop that writes JSON all the while. So each gets an interpreter of its own:
requests go through a pipe, and what comes of them comes back through another (messages.py).

A heartbeat tells whether the process lives: four times a second it is asked for a sign. One that gives
none (stopped, or hung) is given up after some seconds, and what it was answering fails. An engine that
was given up, or ended by itself, is started again. Nothing here waits for an engine but threads of its own.
"""

import logging
import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from subprocess import Popen

from zerone.engine.api import Deliver, Event, Failure, QueueFull, Request, sink_all
from zerone.engine.link import EngineLink
from zerone.engine.messages import Json, event_from, request_message
from zerone.engine.serving import EngineSpec
from zerone.errors import EngineError, ModelError

_log = logging.getLogger(__name__)

_END_SECONDS = 10.0
"""What an engine may take to finish its step and end, before it is killed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """Seconds that an engine may take; counted in beats that this process was awake for."""

    beat: float = 0.25
    silent: float = 1.5
    """After which `/health` says that it does not answer."""
    lost: float = 10.0
    """After which its requests fail and it is started again."""
    step: float = 300.0
    """For one step, after which it hangs, whatever sign its other threads give."""
    load: float = 1800.0
    """For the model, where the engine is started again."""
    again: float = 1.0
    """Before it is started again; twice as long each time while it ends within a minute."""
    again_at_most: float = 60.0


class EngineProcess:
    """Starts an engine's process at once; `wait_until_ready` tells whether the model could be loaded."""

    def __init__(self, spec: EngineSpec, patience: Patience | None = None) -> None:
        self.capacity = spec.max_rows + spec.max_waiting
        self.num_cancelled = 0
        self._spec = spec
        self._patience = patience or Patience()
        self._requests: dict[int, Request] = {}
        self._numbers: dict[Request, int] = {}
        self._num_missing: dict[int, int] = {}
        self._num_requests = 0
        self.num_open = 0
        """Completions accepted and not ended."""
        self._num_decoded = 0
        """How many of them the engine decodes, as it told last."""
        self._num_cancelled_before = 0
        """By engines that ended."""
        self._lock = threading.Lock()
        self._deliver: Deliver = sink_all
        self._is_up = True
        self._is_stopping = threading.Event()
        self._num_unanswered = 0
        """Beats since the engine gave a sign."""
        self._why_lost = ""
        self._replies: queue.SimpleQueue[Json] = queue.SimpleQueue()
        self._link = EngineLink(spec)
        self._link_lock = threading.Lock()
        """Held while an engine is started or the last one is ended, never by who submits."""
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def wait_until_ready(self) -> None:
        """Return when the model is loaded; raises ModelError where it cannot be."""
        try:
            self._link.wait_until_ready()
        except ModelError:
            self.stop()
            raise

    def start(self, deliver: Deliver | None = None) -> None:
        """Begin to hand on what comes, in a thread of its own."""
        self._deliver = deliver or sink_all
        self._thread.start()
        threading.Thread(target=self._beat, name="heartbeat", daemon=True).start()

    def stop(self) -> None:
        """Throw away what is under way and end the process."""
        self._is_stopping.set()
        with self._link_lock:
            self._link.end(0.0 if self._is_silent else _END_SECONDS)
        if self._thread.is_alive():
            self._thread.join(_END_SECONDS)
        if not self._thread.is_alive():
            self._link.close()

    def kill(self) -> None:
        """End the process without waiting for what it is at, loading the model above all."""
        self._link.kill()
        self.stop()

    @property
    def is_alive(self) -> bool:
        """Whether requests are accepted; they are answered unless there is a `fault`."""
        return self._thread.is_alive() and self._is_up

    @property
    def fault(self) -> str | None:
        """What keeps the engine from answering now, or None."""
        if not self._thread.is_alive():
            return "the engine has stopped; start the server again"
        if not self._is_up:
            return "the engine has ended and is being started again; try again after some seconds"
        if self._is_silent:
            return (
                f"the engine has given no sign for {self._num_unanswered * self._patience.beat:.1f} s; after "
                f"{self._patience.lost:g} s its requests fail and it is started again"
            )
        return None

    @property
    def num_active(self) -> int:
        """Completions being decoded, as the engine told last."""
        return min(self._num_decoded, self.num_open)

    @property
    def num_waiting(self) -> int:
        """Completions that were accepted and not begun."""
        return max(0, self.num_open - self._num_decoded)

    def submit(self, requests: Sequence[Request]) -> None:
        """Accept all requests or none; raises QueueFull. Where there is no engine now, they fail at once."""
        with self._lock:
            is_up = self._is_up
            if is_up:
                if self.num_open + sum(request.num_samples for request in requests) > self.capacity:
                    raise QueueFull
                self._link.send({"submit": [self._opened(request) for request in requests]})
        if not is_up:
            self._deliver([(request, Failure(message="the engine has stopped")) for request in requests])

    def cancel(self, requests: Sequence[Request]) -> None:
        """Stop the work on these requests before the next step."""
        for request in requests:
            request.cancel()
        with self._lock:
            numbers = [self._numbers[request] for request in requests if request in self._numbers]
            if numbers:
                self._link.send({"cancel": numbers})

    def ask(self, message: Json, seconds: float) -> Json:
        """Send a message about the weights and return the reply; raises EngineError where none comes."""
        with self._lock:
            while not self._replies.empty():  # to a message whose sender has given up
                self._replies.get_nowait()
            if not self._is_up:
                raise EngineError(f"the engine takes no weights: {self.fault}")
            self._link.send(message)
        try:
            reply = self._replies.get(timeout=seconds)
        except queue.Empty:
            raise EngineError(f"the engine took no weights within {seconds:g} s") from None
        if "error" in reply:
            raise EngineError(f"the engine took no weights: {reply['error']}")
        return reply

    @property
    def _process(self) -> "Popen[bytes]":
        return self._link.process

    @property
    def _is_silent(self) -> bool:
        return self._num_unanswered * self._patience.beat >= self._patience.silent

    def _opened(self, request: Request) -> Json:
        self._num_requests += 1
        self._requests[self._num_requests], self._numbers[request] = request, self._num_requests
        self._num_missing[self._num_requests] = request.num_samples
        self.num_open += request.num_samples
        return request_message(self._num_requests, request)

    def _close(self, number: int) -> Request:
        request = self._requests.pop(number)
        del self._numbers[request]
        self.num_open -= self._num_missing.pop(number)
        return request

    # The engine's life ----------------------------------------------------------------------------

    def _run(self) -> None:
        """Hand on what engines say, one after the other."""
        pause = self._patience.again
        while True:
            try:
                for message in self._link.messages():
                    self._num_unanswered = 0
                    self._read(message)
            finally:  # whatever ends this thread, nobody is to wait for an answer any more
                is_early = self._fail_all()
            ending = self._link.ending()
            if self._is_stopping.is_set():
                if is_early:
                    _log.error("the engine ended (%s) before its answers did", ending)
                return
            _log.error("%s (%s); it is started again", self._why_lost or "the engine ended", ending)
            is_short_lived = time.monotonic() - self._link.started_s < self._patience.again_at_most
            pause = min(2 * pause, self._patience.again_at_most) if is_short_lived else self._patience.again
            if not self._start_again(pause):
                return

    def _start_again(self, pause: float) -> bool:
        """Start an engine; return False where the server ends meanwhile."""
        while not self._is_stopping.wait(pause):
            with self._link_lock:
                if self._is_stopping.is_set():
                    return False
                self._link.close()
                self._link = EngineLink(self._spec)
            try:
                self._link.wait_until_ready()
            except ModelError as error:
                self._link.kill()
                pause = min(2 * pause, self._patience.again_at_most)
                _log.error("the engine could not be started again: %s; the next try is in %g s", error, pause)
                continue
            with self._lock:
                self._is_up, self._num_unanswered, self._why_lost = True, 0, ""
            return True
        return False

    def _beat(self) -> None:
        """Ask the engine for a sign of life, and end one that gives none."""
        patience = self._patience
        while not self._is_stopping.wait(patience.beat):
            if not self._is_up:
                if time.monotonic() - self._link.started_s > patience.load:
                    self._link.kill()
                continue
            if not self._num_unanswered:
                self._link.send({"ping": True})
            self._num_unanswered += 1
            if self._num_unanswered * patience.beat >= patience.lost:
                self._give_up(f"the engine gave no sign for {patience.lost:g} s")

    def _give_up(self, why: str) -> None:
        self._why_lost = why
        self._link.kill()  # so that its messages end, and `_run` goes on

    def _fail_all(self) -> bool:
        """Let go of all requests; return whether there were any."""
        why = self._why_lost or "the engine has stopped"
        with self._lock:
            self._is_up, self._num_decoded = False, 0
            self._num_cancelled_before = self.num_cancelled
            requests = [self._close(number) for number in list(self._requests)]
        self._replies.put({"error": why})
        if requests:
            self._deliver([(request, Failure(message=why)) for request in requests])
        return bool(requests)

    # What it says ---------------------------------------------------------------------------------

    def _read(self, message: Json) -> None:
        if "pong" in message:
            if message["pong"] > self._patience.step:
                self._give_up(f"a step of the engine has taken more than {self._patience.step:g} s")
        elif "weights" in message:
            self._replies.put(message["weights"])
        elif "active" in message:
            with self._lock:
                self._num_decoded = message["active"]
                self.num_cancelled = self._num_cancelled_before + message["cancelled"]
                for number in message["gone"]:
                    self._close(number)
        else:
            self._hand_on(message)

    def _hand_on(self, message: Json) -> None:
        said: list[tuple[Request, Event]] = []
        with self._lock:
            for number, told in message["events"]:
                event = event_from(told)
                said.append((self._requests[number], event))
                if event.finish is not None:
                    self._num_missing[number] -= 1
                    self.num_open -= 1
                    if not self._num_missing[number]:
                        self._close(number)
            for number, text, is_lasting in message["failures"]:
                said.append((self._close(number), Failure(message=text, is_lasting=is_lasting)))
        self._deliver(said)
