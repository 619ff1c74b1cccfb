"""A pool of processes that can be killed, for work that may not return.

In: JSON requests. Out: JSON answers, or `WorkerTimeout`, or `VerifierError`. Each worker is a fresh
Python process (not a fork: the parent has threads and maybe a GPU) that imports its libraries once
and then answers one line per line. The deadline is the parent's: whoever asks waits on the pipe, and
a worker that is late is killed and replaced. No signals, no timers, so any thread may ask. The
deadline counts the worker's processor time: on a busy machine an honest request is no slower.
"""

import atexit
import contextlib
import json
import os
import queue
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zerone.errors import VerifierError

START_SECONDS = 30.0
"""A worker imports sympy; on a machine that is busy or reads from a cold disk that takes its time."""

_STALL = 5
"""Times the deadline by the clock, after which a worker that was given no processor is given up."""

_LONGEST_LINE = 1 << 20
"""Of an answer; a worker that writes more is given up."""


class WorkerTimeout(Exception):
    """The request took more processor time than its deadline, or broke the worker twice."""


class WorkerStalled(VerifierError):
    """The worker got too little of the processor to decide anything."""


class _Died(Exception):
    """The worker ended before it answered."""


_BY_REQUEST = frozenset(-number for number in (signal.SIGXCPU, signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS))
"""Exit codes of a worker that a request broke: out of time, stack or memory. Any other end is ours."""


def import_path() -> str:
    """Return where another Python finds this package and all that this one finds."""
    return os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, sys.path)])


class _Worker:
    """One process and its pipes."""

    def __init__(self, command: list[str], stall: float, longest_line: int) -> None:
        self._stall, self._longest_line = stall, longest_line
        self._command = " ".join(command)
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            # Nothing of the environment is needed but where to find the package and its libraries.
            env={"PYTHONPATH": import_path(), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._in, self._out = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._out, False)
        self.is_ready = False
        self._is_silent = False

    def ask(self, request: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        try:
            os.write(self._in, (json.dumps(request) + "\n").encode())
        except OSError as error:
            raise _Died from error
        return self._read_line(seconds)

    def wait_until_ready(self) -> None:
        try:
            message = self._read_line(START_SECONDS)
        except (WorkerTimeout, WorkerStalled, _Died) as error:
            raise VerifierError(f"a worker did not start ({self._command})") from error
        if "failed" in message:
            raise VerifierError(f"a worker cannot work: {message['failed']}")
        self.is_ready = True

    def _read_line(self, seconds: float) -> dict[str, Any]:
        start, used_before = time.monotonic(), self._seconds_used()
        poll = select.poll()
        poll.register(self._out, select.POLLIN | select.POLLHUP)
        line = b""
        while not line.endswith(b"\n"):
            left = seconds - (self._seconds_used() - used_before)
            if left <= 0:
                raise WorkerTimeout
            if time.monotonic() - start > self._stall * seconds:
                raise WorkerStalled(f"a worker got no answer out in {self._stall * seconds:g} s")
            # One thread uses no more processor time than passes, so there is nothing to see before.
            if not poll.poll(max(left, 0.01) * 1000):
                continue
            piece = os.read(self._out, 1 << 16)
            line += piece
            if not piece or len(line) > self._longest_line:
                self._is_silent = not piece
                raise _Died
        message: dict[str, Any] = json.loads(line)
        return message

    def _seconds_used(self) -> float:
        """Return the processor time of the worker so far; the clock's where the system does not tell."""
        try:
            status = Path(f"/proc/{self._process.pid}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return time.monotonic()
        # The name in brackets may hold anything; user and system time are fields 14 and 15.
        user, system = status.rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def kill(self) -> int:
        """End the process, if it has not ended yet, and return its exit code."""
        if self._process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                # One that closed its pipe is about to end by itself, with the code that says why.
                self._process.wait(0.2 if self._is_silent else 0)
            self._process.kill()
        code = self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            # Closing flushes what the dead worker never read.
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()
        return code


class WorkerPool:
    """Up to `size` workers of `python -m MODULE ARGUMENTS`, started when first needed.

    A worker first prints `{"ready": true}`, or `{"failed": reason}`, then one line for each that it reads.
    """

    def __init__(
        self,
        module: str,
        arguments: tuple[str, ...],
        size: int,
        seconds: float,
        *,
        stall: float = _STALL,
        longest_line: int = _LONGEST_LINE,
    ) -> None:
        # -P: the folder that the run was started in is no place to import from.
        self._command = [sys.executable, "-P", "-m", module, *arguments]
        self._seconds, self._limits = seconds, (stall, longest_line)
        self._process_id = os.getpid()
        self._workers: queue.LifoQueue[_Worker | None] = queue.LifoQueue()
        self._alive: set[_Worker] = set()
        self._lock = threading.Lock()
        self._is_closed = False
        for _ in range(size):
            self._workers.put(None)
        atexit.register(self.close)

    @property
    def is_mine(self) -> bool:
        """Whether this process made the pool; after a fork the pipes belong to the parent."""
        return self._process_id == os.getpid()

    @property
    def process_ids(self) -> tuple[int, ...]:
        """The workers that run now."""
        with self._lock:
            return tuple(worker._process.pid for worker in self._alive)

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return a worker's answer; the time in the queue and of the start does not count.

        A worker that dies is replaced and asked once more. Raises WorkerTimeout after the deadline
        or when the request breaks both, and VerifierError when they end for any other reason.
        """
        code = 0
        for _ in range(2):
            worker = self._take()
            is_done = False
            try:
                answer = worker.ask(request, self._seconds)
                is_done = True
                return answer
            except _Died:
                code = worker.kill()
            finally:
                # Also when the thread is interrupted: a worker in the middle of a request is of no use.
                self._workers.put(worker if is_done else self._replace(worker))
        if code in _BY_REQUEST:
            raise WorkerTimeout
        raise VerifierError(f"two workers ended with exit code {code} before they answered")

    def warm_up(self) -> None:
        """Start one worker and wait for it; raise VerifierError where that is not possible."""
        worker = self._take()
        self._workers.put(worker)

    def close(self) -> None:
        """End all workers; what is asked afterwards raises VerifierError."""
        self._is_closed = True
        if self.is_mine:
            with self._lock:
                workers, self._alive = tuple(self._alive), set()
            for worker in workers:
                worker.kill()

    def _take(self) -> _Worker:
        worker = self._workers.get()
        is_usable = False
        try:
            if worker is None:
                worker = self._start()
            if not worker.is_ready:
                worker.wait_until_ready()
            is_usable = True
            return worker
        finally:
            if not is_usable:
                if worker is not None:
                    self._discard(worker)
                self._workers.put(None)

    def _start(self) -> _Worker:
        if self._is_closed:
            raise VerifierError("the pool of workers is closed")
        try:
            worker = _Worker(self._command, *self._limits)
        except OSError as error:
            raise VerifierError(f"cannot start a worker process: {error}") from error
        with self._lock:
            self._alive.add(worker)
        return worker

    def _replace(self, worker: _Worker) -> _Worker | None:
        """Kill a worker and start its successor, which imports while nobody waits for it."""
        self._discard(worker)
        with contextlib.suppress(VerifierError):
            return self._start()
        return None

    def _discard(self, worker: _Worker) -> None:
        worker.kill()
        with self._lock:
            self._alive.discard(worker)
