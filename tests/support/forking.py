"""The command line in a forked process: a real process to be stopped and killed, without the seconds
that a fresh interpreter needs to load torch.

What must be seen from its first instruction on (start-up, the environment, threads of torch) is
`processes.start`'s.
"""

import os
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from processes import environment_of_runs
from zerone.cli.main import main


class Forked:
    """A process that runs `zerone ARGUMENTS`; what is used of `subprocess.Popen`, with pipes of text."""

    def __init__(self, pid: int, stdout: TextIO, stderr: TextIO) -> None:
        self.pid = pid
        self.stdout = stdout
        self.stderr = stderr
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit code, or None while it runs."""
        if self.returncode is None:
            done, status = os.waitpid(self.pid, os.WNOHANG)
            if done:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def communicate(self, timeout: float = 300) -> tuple[str, str]:
        """Wait for its end; return the rest of its output, which must be short enough for a pipe."""
        until = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > until:
                os.kill(self.pid, signal.SIGKILL)
            time.sleep(0.005)
        with self.stdout, self.stderr:
            return self.stdout.read(), self.stderr.read()


def fork(folder: Path, *arguments: str, before: Callable[[], object] = lambda: None) -> Forked:
    """Start `zerone ARGUMENTS`; `before` is called in the new process."""
    out, err = os.pipe(), os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch has threads, which sleep
        child = os.fork()
    if child == 0:
        _become(folder, arguments, (out[1], err[1]), before)
    os.close(out[1])
    os.close(err[1])
    return Forked(child, os.fdopen(out[0], encoding="utf-8"), os.fdopen(err[0], encoding="utf-8"))


def _become(
    folder: Path, arguments: tuple[str, ...], pipes: tuple[int, int], before: Callable[[], object]
) -> None:
    """Run the command line as a process of its own would, and end."""
    code = 1
    try:
        for number, pipe in zip((1, 2), pipes, strict=True):
            os.dup2(pipe, number)
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
        sys.stderr = os.fdopen(2, "w", 1, encoding="utf-8", closefd=False)
        os.environ.update(environment_of_runs(folder))
        sys.argv = ["zerone", *arguments]
        before()
        main()
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:  # pytest must not go on in here, whatever comes
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)
