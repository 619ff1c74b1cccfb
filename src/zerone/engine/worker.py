"""The process of an engine: `python -m zerone.engine.worker`, talked to through its pipes.

It decodes in its main thread. Where products have been shared by the threads of more than one thread of
a process, libgomp counts more of them than cores, and lets them sleep instead of spin while they wait
for each other: SmolLM2's steps for 8 rows take 53 ms in the main thread and 83 ms in a second one. The
process ends when its input does, so never after its server.
"""

import functools
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import BinaryIO

from safetensors import SafetensorError

from zerone.engine.api import Delta, Event, Failure, Request, sink_all
from zerone.engine.messages import Json, event_message, line_of, request_from
from zerone.engine.scheduler import Scheduler
from zerone.engine.serving import VLLM, EngineSpec, load_engine, use_this_machine
from zerone.engine.vllm import load_vllm
from zerone.engine.weights import FileWeights, hash_of
from zerone.errors import EngineError, ZeroneError


class Worker:
    """An engine between two streams of messages."""

    def __init__(self, scheduler: Scheduler, source: Iterable[bytes], target: BinaryIO) -> None:
        self._scheduler = scheduler
        self._source = source
        self._target = target
        self._requests: dict[int, Request] = {}
        """The requests that have not ended; a cancelled one leaves when none of its answers is under way."""
        self._num_missing: dict[int, int] = {}
        self._lock = threading.Lock()
        self._write_lock = threading.Lock()
        self._last_step_s = time.monotonic()
        """When the step under way began, or the work."""
        self._said: Json = {"events": [], "failures": []}
        self._state = (0, 0)

    def run(self) -> None:
        """Answer until the input ends."""
        threading.Thread(target=self._listen, name="listener", daemon=True).start()
        self._scheduler.run(self._deliver, self._tell_state)

    def _listen(self) -> None:
        try:
            for line in self._source:
                message: Json = json.loads(line)
                if "ping" in message:
                    self._write({"pong": self._step_seconds()})
                elif "cancel" in message:
                    with self._lock:
                        requests = [
                            self._requests[number] for number in message["cancel"] if number in self._requests
                        ]
                    self._scheduler.cancel(requests)
                elif "load" in message:
                    self._scheduler.call(functools.partial(self._load, *message["load"]))
                elif "sleep" in message:
                    self._scheduler.call(self._sleep)
                else:
                    self._submit(message["submit"])
        finally:  # an engine that hears nothing any more would keep its clients waiting for ever
            self._scheduler.end()

    def _submit(self, messages: Sequence[Json]) -> None:
        requests = {
            message["number"]: request_from(message, functools.partial(self._take, message["number"]))
            for message in messages
        }
        with self._lock:
            if not self._requests:
                self._last_step_s = time.monotonic()
            self._requests |= requests
            self._num_missing |= {number: request.num_samples for number, request in requests.items()}
        self._scheduler.submit(list(requests.values()))

    def _step_seconds(self) -> float:
        """Return how long the step under way has taken; said by another thread, also while that one hangs."""
        with self._lock:
            return time.monotonic() - self._last_step_s if self._requests else 0.0

    def _take(self, number: int, event: Event) -> None:
        """Put what is said of a request into the next message."""
        if number not in self._requests:  # it was given up; this had been held back for longer pieces
            return
        if isinstance(event, Failure):
            self._said["failures"].append((number, event.message, event.is_lasting))
            self._forget(number)
            return
        self._said["events"].append((number, event_message(event)))
        if not isinstance(event, Delta) or event.finish is not None:
            self._num_missing[number] -= 1
            if not self._num_missing[number]:
                self._forget(number)

    def _load(self, path: str, version: int) -> None:
        """Load weights in the engine's thread, and say of which hash they are."""
        source, engine = FileWeights(Path(path)), self._scheduler.engine
        try:
            engine.update_weights(source, version)
            engine.weight_hash = hash_of(source)
        except (EngineError, OSError, SafetensorError) as error:
            self._write({"weights": {"error": str(error)}})
            return
        self._write({"weights": {"version": version, "hash": engine.weight_hash}})

    def _sleep(self) -> None:
        self._scheduler.engine.sleep()
        self._write({"weights": {}})

    def _forget(self, number: int) -> None:
        with self._lock:
            del self._requests[number], self._num_missing[number]

    def _deliver(self, said: Sequence[tuple[Request, Event]]) -> None:
        sink_all(said)
        self._write(self._said)
        self._said = {"events": [], "failures": []}

    def _tell_state(self) -> None:
        """Say how many answers are under way, and which requests were given up, where that has changed."""
        with self._lock:
            self._last_step_s = time.monotonic()
            cancelled = [number for number, request in self._requests.items() if request.is_cancelled]
        gone = [number for number in cancelled if not self._scheduler.holds(self._requests[number])]
        for number in gone:
            self._forget(number)
        state = (self._scheduler.num_active, self._scheduler.num_cancelled)
        if gone or state != self._state:
            self._state = state
            self._write({"active": state[0], "cancelled": state[1], "gone": gone})

    def _write(self, message: Json) -> None:
        with self._write_lock:
            self._target.write(line_of(message))
            self._target.flush()


def _load(spec: EngineSpec) -> Scheduler:
    if spec.kind == VLLM:
        return load_vllm(spec)
    use_this_machine(spec.directory, spec.threads)
    # The server counts what it hands on; counted here as well, a row on its way would be so twice.
    return load_engine(replace(spec, max_waiting=sys.maxsize))


def main() -> None:
    """Load the model that the first line names, say so, and answer until the input ends."""
    source = sys.stdin.buffer
    spec = EngineSpec(**json.loads(source.readline()))
    # What a library prints must not come between the messages.
    target = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    try:
        scheduler = _load(spec)
    except ZeroneError as error:
        target.write(line_of({"failed": str(error)}))
        target.flush()
        return
    target.write(line_of({"ready": True}))
    target.flush()
    try:
        Worker(scheduler, source, target).run()
    except BrokenPipeError:  # the server is gone, and nobody listens any more
        os._exit(0)


def _ignore(_number: int, _frame: FrameType | None) -> None:
    pass


if __name__ == "__main__":
    # Sent to all processes of a service, these are for the server, which lets answers under way end.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _ignore)
    main()
