"""A process of its own that makes sandboxes, so that the trainer never forks.

In: requests on standard input, one JSON line each. Out: executions on standard output, one line
each. It keeps one sandbox waiting, imports nothing but the standard library, has an empty
environment and ends when its input does. Run as root it needs its rights for control groups only;
each sandbox gives them up before it starts.
"""

import contextlib
import json
import sys
from itertools import count

from zerone.sandbox.bubblewrap import bubblewrap_path
from zerone.sandbox.cell import Cell, Isolation
from zerone.sandbox.cgroup import find_cgroup, remove_stale
from zerone.sandbox.execution import Limits, read_request, write_execution
from zerone.sandbox.interpreter import find_interpreter
from zerone.sandbox.namespaces import check_landlock


def choose_isolation(backend: str) -> Isolation:
    """Return the isolation by name; `auto` is bubblewrap where it is installed."""
    if backend == "auto":
        backend = "bubblewrap" if bubblewrap_path() else "namespaces"
    if backend == "namespaces":
        check_landlock()
    cgroup = find_cgroup()
    if cgroup is not None:
        remove_stale(cgroup)
    return Isolation(backend=backend, interpreter=find_interpreter(), cgroup=cgroup)


def serve(isolation: Isolation) -> None:
    """Answer the requests that come, a waiting cell for the next one always at hand."""
    numbers = count(1)
    limits = Limits()
    waiting: Cell | None = Cell(isolation, limits, next(numbers))
    try:
        for line in sys.stdin:
            job, wanted = read_request(line)
            if waiting is not None and wanted != limits:
                waiting.close()
                waiting = None
            limits = wanted
            cell, waiting = waiting or Cell(isolation, limits, next(numbers)), None
            print(write_execution(cell.run(job)), flush=True)
            waiting = Cell(isolation, limits, next(numbers))
    finally:
        if waiting is not None:
            waiting.close()


def main() -> None:
    """Serve until standard input ends; a failure of the sandbox is the last line."""
    with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):
        try:
            isolation = choose_isolation(sys.argv[1])
            print(json.dumps({"backend": isolation.description}), flush=True)
            serve(isolation)
        except OSError as error:
            if isinstance(error, BrokenPipeError):
                raise
            print(json.dumps({"error": str(error), "kind": type(error).__name__}), flush=True)
