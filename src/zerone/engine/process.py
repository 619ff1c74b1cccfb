"""An engine in a process of its own, as the server sees it.

Decoding is thousands of small products, each of which gives the interpreter up and wants it back, and
waits for it beside an event loop that writes JSON all the while. So each gets an interpreter of its own:
jobs go through a pipe, and what comes of them comes back through another (engine_messages.py).
"""

import contextlib
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict

from zerone.engine.jobs import Deliver, Delta, Failure, Job, QueueFull, sink_all
from zerone.engine.messages import Json, delta_from, job_message, line_of
from zerone.engine.serving import EngineSpec
from zerone.errors import ModelError
from zerone.processes.worker_pool import import_path

_log = logging.getLogger(__name__)

_END_SECONDS = 10.0
"""What an engine may take to finish its step and end, before it is killed."""


class EngineProcess:
    """Starts an engine's process at once; `wait_until_ready` tells whether the model could be loaded."""

    def __init__(self, spec: EngineSpec) -> None:
        self.capacity = spec.max_rows + spec.max_waiting
        self.num_cancelled = 0
        self._jobs: dict[int, Job] = {}
        self._numbers: dict[Job, int] = {}
        self._num_missing: dict[int, int] = {}
        self._num_jobs = 0
        self._num_open = 0
        """Answers accepted and not ended."""
        self._num_decoded = 0
        """How many of them the engine decodes, as it told last."""
        self._lock = threading.Lock()
        self._deliver: Deliver = sink_all
        self._has_ended = False
        self._process = _start(spec)
        self._thread = threading.Thread(target=self._listen, name="engine", daemon=True)

    def wait_until_ready(self) -> None:
        """Return when the model is loaded; raises ModelError where it cannot be."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise ModelError(
                f"the engine ended before it was ready ({self._ending()}); see its message above"
            )
        message: Json = json.loads(line)
        if "failed" in message:
            self.stop()
            raise ModelError(message["failed"])

    def start(self, deliver: Deliver | None = None) -> None:
        """Begin to hand on what comes, in a thread of its own."""
        self._deliver = deliver or sink_all
        self._thread.start()

    def stop(self) -> None:
        """Throw away what is under way and end the process."""
        assert self._process.stdin is not None and self._process.stdout is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._thread.is_alive():
            self._thread.join()
        self._process.stdout.close()

    def kill(self) -> None:
        """End the process without waiting for what it is at, loading the model above all."""
        self._process.kill()
        self.stop()

    @property
    def is_alive(self) -> bool:
        """Whether jobs are being answered."""
        return self._thread.is_alive() and not self._has_ended

    @property
    def num_active(self) -> int:
        """Answers being decoded, as the engine told last."""
        return min(self._num_decoded, self._num_open)

    @property
    def num_waiting(self) -> int:
        """Answers that were accepted and not begun."""
        return max(0, self._num_open - self._num_decoded)

    def submit(self, jobs: Sequence[Job]) -> None:
        """Accept all jobs or none; raises QueueFull."""
        with self._lock:
            if self._num_open + sum(job.num_samples for job in jobs) > self.capacity:
                raise QueueFull
            messages = [self._opened(job) for job in jobs]
            self._send({"submit": messages})
            is_too_late = self._has_ended
        if is_too_late:
            self._fail_all()

    def cancel(self, jobs: Sequence[Job]) -> None:
        """Stop the work on these jobs before the next step."""
        for job in jobs:
            job.cancel()
        with self._lock:
            numbers = [self._numbers[job] for job in jobs if job in self._numbers]
            if numbers:
                self._send({"cancel": numbers})

    def _opened(self, job: Job) -> Json:
        self._num_jobs += 1
        self._jobs[self._num_jobs], self._numbers[job] = job, self._num_jobs
        self._num_missing[self._num_jobs] = job.num_samples
        self._num_open += job.num_samples
        return job_message(self._num_jobs, job)

    def _close(self, number: int) -> Job:
        job = self._jobs.pop(number)
        del self._numbers[job]
        self._num_open -= self._num_missing.pop(number)
        return job

    def _send(self, message: Json) -> None:
        assert self._process.stdin is not None
        # It has ended, or is about to as `stop` has closed its input; the listener sees that as well.
        with contextlib.suppress(OSError, ValueError):
            self._process.stdin.write(line_of(message))
            self._process.stdin.flush()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        try:
            for line in self._process.stdout:
                if not line.endswith(b"\n"):  # it was killed while it wrote
                    break
                self._read(json.loads(line))
        finally:  # whatever ends this thread, nobody is to wait for an answer any more
            with self._lock:
                self._has_ended, self._num_decoded = True, 0
                is_early = bool(self._jobs)
            self._fail_all()
        if is_early or self._process.wait():
            _log.error("the engine ended (%s); start the server again", self._ending())

    def _read(self, message: Json) -> None:
        if "active" not in message:
            self._hand_on(message)
            return
        with self._lock:
            self._num_decoded, self.num_cancelled = message["active"], message["cancelled"]
            for number in message["gone"]:
                self._close(number)

    def _hand_on(self, message: Json) -> None:
        said: list[tuple[Job, Delta | Failure]] = []
        with self._lock:
            for number, told in message["deltas"]:
                delta = delta_from(told)
                said.append((self._jobs[number], delta))
                if delta.finish is not None:
                    self._num_missing[number] -= 1
                    self._num_open -= 1
                    if not self._num_missing[number]:
                        self._close(number)
            said += [(self._close(number), Failure(message=text)) for number, text in message["failures"]]
        self._deliver(said)

    def _fail_all(self) -> None:
        with self._lock:
            jobs = [self._close(number) for number in list(self._jobs)]
        if jobs:
            self._deliver([(job, Failure(message="the engine has stopped")) for job in jobs])

    def _ending(self) -> str:
        code = self._process.wait()
        return f"killed by signal {-code}" if code < 0 else f"exit code {code}"


def _start(spec: EngineSpec) -> "subprocess.Popen[bytes]":
    process = subprocess.Popen(
        # -P: the folder that the server was started in is no place to import from.
        [sys.executable, "-P", "-m", "zerone.engine.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": import_path()},
        start_new_session=True,  # Ctrl-C is for the server, which lets answers under way end
    )
    assert process.stdin is not None
    with contextlib.suppress(OSError):  # it has ended already, as `wait_until_ready` finds
        process.stdin.write(line_of(asdict(spec)))
        process.stdin.flush()
    return process
