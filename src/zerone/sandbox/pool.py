"""Sandboxes for many callers at once, each made before it is asked for.

In: jobs, from any thread. Out: executions. A zygote that dies is made anew; the job that it had is
an error of the sandbox, never a verdict.
"""

import atexit
import os
import queue
import threading
from types import TracebackType

from zerone.errors import SandboxError, SandboxUnavailable
from zerone.sandbox.execution import Execution, Job, Limits
from zerone.sandbox.factory import BACKENDS, Nursery
from zerone.sandbox.sandbox import Cell
from zerone.sandbox.self_test import examine_promises

HOW_TO_ENABLE = """\
To run untrusted programs zerone needs one of
- bubblewrap: apt-get install bubblewrap (dnf, pacman, apk: the same name)
- a kernel with unprivileged user namespaces and Landlock (Linux 6.7 or newer)
- the address of a remote executor, see docs/sandbox.md
Both local ways need unprivileged user namespaces. Where they are shut:
- Ubuntu 23.10 and newer: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0
- Debian: sysctl -w kernel.unprivileged_userns_clone=1
- Docker: --security-opt for each of seccomp=unconfined, apparmor=unconfined, systempaths=unconfined
`zerone sandbox doctor` shows what holds here. Nothing was run."""


class _Bench:
    """A zygote and the cell that waits, for one caller at a time."""

    def __init__(self, nursery: Nursery) -> None:
        self._nursery = nursery
        self._waiting: Cell | None = None

    def execute(self, job: Job, limits: Limits) -> Execution:
        """Run a job in the waiting cell, or in a new one where that has other limits."""
        cell, self._waiting = self._waiting, None
        if cell is not None and cell.limits != limits:
            cell.close()
            cell = None
        execution = (cell or self._nursery.cell(limits)).run(job)
        self._waiting = self._nursery.cell(limits)
        return execution

    def close(self) -> None:
        """End the zygote and the waiting cell."""
        cell, self._waiting = self._waiting, None
        try:
            if cell is not None:
                cell.close()
        finally:
            self._nursery.close()


_examined: set[str] = set()
_examining = threading.Lock()


def open_nursery(backend: str) -> Nursery:
    """Return a zygote of the backend; `auto` takes the first that works here, or refuses."""
    reasons = []
    for name in BACKENDS if backend == "auto" else (backend,):
        try:
            return _examined_nursery(name)
        except SandboxUnavailable as error:
            reasons.append(str(error))
    raise SandboxUnavailable("\n".join(["no isolation works here", *reasons, HOW_TO_ENABLE]))


def _examined_nursery(backend: str) -> Nursery:
    """Return a zygote whose backend has kept every promise in this process."""
    nursery = Nursery(backend)
    with _examining:
        if backend not in _examined:
            broken = [finding for finding in examine_promises(nursery) if not finding.is_kept]
            if broken:
                nursery.close()
                complaints = "; ".join(f"{finding.promise}: {finding.detail}" for finding in broken)
                raise SandboxUnavailable(
                    f"sandbox backend {backend!r} failed its isolation self-test: {complaints}"
                )
            _examined.add(backend)
    return nursery


class SandboxPool:
    """The local executor: as many sandboxes at once as there are cores, unless told otherwise."""

    def __init__(self, num_benches: int | None = None, backend: str = "auto") -> None:
        self._backend = backend
        self._num = num_benches or len(os.sched_getaffinity(0))
        self._free: queue.LifoQueue[_Bench | None] = queue.LifoQueue()
        for _ in range(self._num):
            self._free.put(None)
        self._owner = os.getpid()
        self._closing = threading.Lock()
        atexit.register(self.close)

    def execute(self, job: Job, limits: Limits) -> Execution:
        """Run a job in a sandbox of its own; wait where all are busy."""
        if os.getpid() != self._owner:
            raise SandboxError("a pool of sandboxes cannot be used in a fork of its process; make a new one")
        bench = self._free.get()
        is_whole = False
        try:
            if bench is None:
                bench = _Bench(open_nursery(self._backend))
            execution = bench.execute(job, limits)
            is_whole = True
        finally:
            if not is_whole and bench is not None:
                bench.close()
            self._free.put(bench if is_whole else None)
        return execution

    def close(self) -> None:
        """Wait for running jobs and end everything; a later job starts anew."""
        if os.getpid() != self._owner:
            return
        with self._closing:
            benches = [self._free.get() for _ in range(self._num)]
            for bench in benches:
                if bench is not None:
                    bench.close()
                self._free.put(None)

    def __enter__(self) -> "SandboxPool":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
