"""What may happen to the process of any command: its screen goes, a signal ends it, its place is deleted.

In: the standard streams and signals as the process got them. Out: streams that never fail a run, and
signals that end every command as Ctrl-C does. Installed once, before anything is computed.
"""

import errno
import gc
import io
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

from zerone.errors import UserError

ENDING = (signal.SIGTERM, signal.SIGHUP)
_ONE_WISH_S = 1.0
"""Signals to end within this time are one wish: a closing terminal sends several."""


class _Losable(io.FileIO):
    """A standard stream whose reader may go away or whose disk may be full: the rest is written nowhere."""

    lost: OSError | None = None

    def write(self, data: Any) -> int:
        """Write; after the first failure nothing fails any more."""
        try:
            return super().write(data) or 0
        except OSError as error:
            self.lost = error
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self.fileno())
            os.close(null)
            return memoryview(data).nbytes


class Streams:
    """Standard output and error of this process, and what became of them."""

    def __init__(self) -> None:
        self._out: _Losable | None = None
        self._err: _Losable | None = None

    def install(self) -> None:
        """Put losable streams in place of the process's own; others (of a test, say) stay as they are."""
        while (fd := os.open(os.devnull, os.O_RDWR)) < 3:  # a closed stream must not become a file of the run
            pass
        os.close(fd)
        if sys.stdin is None:
            sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - it stays to the end
        if sys.stdout is None or sys.stdout is sys.__stdout__:
            self._out, sys.stdout = _losable(1, sys.stdout)
        if sys.stderr is None or sys.stderr is sys.__stderr__:
            self._err, sys.stderr = _losable(2, sys.stderr)

    def close(self) -> str | None:
        """Write what is left; return why something of standard output was lost that someone may have wanted.

        A reader that went away (`| head`, a closed terminal) has seen what it wanted.
        """
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        if self._out is not None:
            # The process ends: to look through all that torch has loaded for cycles would take it a second.
            gc.freeze()
        lost = self._out.lost if self._out is not None else None
        return None if lost is None or lost.errno in (errno.EPIPE, errno.EIO) else lost.strerror


def is_output_lost() -> bool:
    """Whether nobody can read any more what goes to standard output."""
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return isinstance(raw, _Losable) and raw.lost is not None


def _losable(fd: int, stream: TextIO | None) -> tuple[_Losable, TextIO]:
    if stream is not None:
        with suppress(OSError):
            stream.flush()
    raw = _Losable(fd, "w", closefd=False)
    text = io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=stream.encoding if stream is not None else "utf-8",
        errors="backslashreplace",  # a name that is not UTF-8 is shown, not fatal
        line_buffering=fd == 2 or raw.isatty(),
    )
    return raw, text


@contextmanager
def ending_like_interrupt() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the command as Ctrl-C does; one that was ignored (nohup) stays so."""
    told = 0.0

    def end(number: int, frame: FrameType | None) -> None:
        nonlocal told
        if number == signal.SIGHUP and signal.getsignal(signal.SIGTERM) is not end:
            os.kill(os.getpid(), signal.SIGTERM)  # a server has an end of its own, which knows SIGTERM alone
            return
        is_new, told = time.monotonic() - told > _ONE_WISH_S, time.monotonic()
        if is_new:
            raise KeyboardInterrupt

    before = {}
    with suppress(ValueError):  # not the main thread: no signals here
        for number in ENDING:
            if signal.getsignal(number) is signal.SIG_DFL:
                before[number] = signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def check_surroundings(arguments: list[str]) -> None:
    """Raise UserError where the working directory is gone, or an argument is not text."""
    try:
        Path.cwd()
    except FileNotFoundError as error:
        raise UserError(
            "the working directory has been deleted; change to another and start again"
        ) from error
    for argument in arguments:
        try:
            argument.encode("utf-8")
        except UnicodeEncodeError as error:
            raise UserError(f"the argument {argument!a} is not UTF-8; rename what it names") from error
