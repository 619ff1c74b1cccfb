"""Sandboxes for many callers at once: one worker process per core, each with a sandbox waiting.

In: jobs, from any thread. Out: executions. A worker that dies or falls silent is killed and made
anew; the job that it had is an error of the sandbox, never a verdict.
"""

import atexit
import contextlib
import json
import os
import queue
import select
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from zerone.errors import SandboxError, SandboxUnavailable
from zerone.sandbox.execution import Execution, Job, Limits, read_execution, write_request

_ROOT = str(Path(__file__).parents[2])
_PROGRAM = "import sys; sys.path.insert(0, sys.argv[2]); from zerone.sandbox.worker import main; main()"
_START_S = 60.0
_GRACE_S = 20.0
HOW_TO_ENABLE = (
    "to run untrusted programs, zerone needs one of: bubblewrap (`apt-get install bubblewrap`), or a "
    "kernel with unprivileged user namespaces and Landlock (Linux 6.7). Where user namespaces are "
    "shut: `sysctl kernel.unprivileged_userns_clone=1` (Debian), "
    "`sysctl kernel.apparmor_restrict_unprivileged_userns=0` or an AppArmor profile for bwrap "
    "(Ubuntu 23.10 and newer), `--security-opt seccomp=unconfined --security-opt systempaths=unconfined` "
    "for Docker. Or give the address of a remote executor. `zerone sandbox doctor` shows what is missing"
)


class _Worker:
    """A conversation with one worker process."""

    def __init__(self, backend: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _PROGRAM, backend, _ROOT],
            env={},
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self._text = b""
        self.backend = str(self._read(_START_S)["backend"])

    def _line(self, within_s: float) -> bytes:
        assert self._process.stdout is not None
        name = self._process.stdout.fileno()
        parts = [self._text]
        while b"\n" not in parts[-1]:
            if not select.select([name], [], [], within_s)[0]:
                raise SandboxError(f"a sandbox worker has been silent for {within_s:.0f} s")
            part = os.read(name, 1 << 20)
            if not part:
                raise SandboxError(f"a sandbox worker ended (exit code {self._process.wait()})")
            parts.append(part)
        line, _, self._text = b"".join(parts).partition(b"\n")
        return line

    def _read(self, within_s: float) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self._line(within_s))
        if "error" in answer:
            kind = SandboxUnavailable if answer["kind"] == "SandboxUnavailable" else SandboxError
            raise kind(answer["error"])
        return answer

    def execute(self, job: Job, limits: Limits) -> Execution:
        """Send a job and wait for its execution."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(write_request(job, limits).encode("ascii") + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # The worker ended while it waited; its last line says why.
        line = self._line(limits.wall_s + _GRACE_S)
        if line.startswith(b'{"error"'):
            raise SandboxError(json.loads(line)["error"])
        return read_execution(line.decode("ascii"))

    def close(self, within_s: float = 5.0) -> None:
        """End the worker, and with it its sandboxes."""
        assert self._process.stdin is not None and self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


class SandboxPool:
    """The local executor; workers start with the first job."""

    def __init__(self, num_workers: int | None = None, backend: str = "auto") -> None:
        self._backend = backend
        self._free: queue.LifoQueue[_Worker | None] = queue.LifoQueue()
        for _ in range(num_workers or len(os.sched_getaffinity(0))):
            self._free.put(None)
        self._lock = threading.Lock()
        self._workers: set[_Worker] = set()
        self._owner = os.getpid()
        atexit.register(self.close)

    def execute(self, job: Job, limits: Limits) -> Execution:
        """Run a job in a sandbox of its own; wait for a worker where all are busy."""
        if os.getpid() != self._owner:
            raise SandboxError("a pool of sandboxes cannot be used in a fork of its process; make a new one")
        worker = self._free.get()
        try:
            if worker is None:
                worker = _Worker(self._backend)
                with self._lock:
                    self._workers.add(worker)
            execution = worker.execute(job, limits)
        except BaseException:
            self._discard(worker)
            self._free.put(None)
            raise
        self._free.put(worker)
        return execution

    def _discard(self, worker: _Worker | None) -> None:
        if worker is not None:
            with self._lock:
                self._workers.discard(worker)
            worker.close(0.0)

    def close(self) -> None:
        """End all workers; the pool can be used again and starts new ones."""
        if os.getpid() != self._owner:
            return
        with self._lock:
            workers, self._workers = self._workers, set()
        for worker in workers:
            worker.close()
        kept = self._free.qsize()
        with contextlib.suppress(queue.Empty):
            for _ in range(kept):
                self._free.get_nowait()
        for _ in range(kept):
            self._free.put(None)

    def __enter__(self) -> "SandboxPool":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
