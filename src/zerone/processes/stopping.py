"""A wish to stop: the first signal asks the work to end where it loses nothing, the next one ends it at once.

In: Ctrl-C, SIGTERM or SIGHUP. Out: for work that is patient, a wish that it looks at between its steps; for
all other work, which can be killed at any moment and resumed, a KeyboardInterrupt. Where patient work waits
for a model behind HTTP, which may think for minutes, the wish is an Interrupted right there: nothing was
changed meanwhile.
"""

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from zerone.errors import Interrupted

_ONE_WISH_S = 1.0
"""A terminal that closes sends several signals: within this time they are one wish."""


class Stopping:
    """Whether a signal to stop came, and what that means now: a wish to honour, or an end at once."""

    def __init__(self) -> None:
        self._came_at: float | None = None
        self._is_patient = False
        self._num_waits = 0

    @property
    def is_wished(self) -> bool:
        """Whether a signal came."""
        return self._came_at is not None

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """Take a signal; a second one always ends at once."""
        if self._came_at is None:
            self._came_at = time.monotonic()
            if not self._is_patient:
                raise KeyboardInterrupt
            # What the signal interrupted may have been writing to the same stream, or the stream is gone.
            with suppress(RuntimeError, OSError):
                print("stopping after this step; once more to stop at once", file=sys.stderr)
            if self._num_waits:
                raise Interrupted("stopped while an endpoint was asked")
        elif number == signal.SIGINT or time.monotonic() - self._came_at > _ONE_WISH_S:
            raise KeyboardInterrupt

    @contextmanager
    def patiently(self) -> Iterator[None]:
        """Take a signal as a wish, which the work honours at the end of a step."""
        yield from self._with_patience(True)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Raise KeyboardInterrupt at a signal, and for a wish that is not honoured yet."""
        if self.is_wished:
            raise KeyboardInterrupt
        yield from self._with_patience(False)

    @contextmanager
    def unbroken(self) -> Iterator[None]:
        """Finish what must not be cut in the middle; a signal to end at once is honoured afterwards."""
        was_wished, is_patient = self.is_wished, self._is_patient
        yield from self._with_patience(True)
        if self.is_wished and not was_wished and not is_patient:
            raise KeyboardInterrupt

    def _with_patience(self, is_patient: bool) -> Iterator[None]:
        before, self._is_patient = self._is_patient, is_patient
        try:
            yield
        finally:
            self._is_patient = before

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Mark that the main thread only waits; raises Interrupted where stopping is wished for."""
        self._num_waits += 1
        try:
            if self.is_wished:
                raise Interrupted("stopped while an endpoint was asked")
            yield
        finally:
            self._num_waits -= 1


_active: list[Stopping] = []
"""The one that has the signals of this process; what runs inside of it shares it."""


@contextmanager
def stop_requests() -> Iterator[Stopping]:
    """Take the signals, at once until the work says otherwise; within another one, share that."""
    if _active:
        yield _active[0]
        return
    stopping = Stopping()
    before = {}
    with suppress(ValueError):  # not the main thread, as in a notebook server: no signals here
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
                before[number] = signal.signal(number, stopping.on_signal)
    if before:
        _active.append(stopping)
    try:
        yield stopping
    finally:
        if before:
            _active.remove(stopping)
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def waiting() -> Iterator[None]:
    """Mark that the main thread only waits; raises Interrupted where stopping is wished for."""
    if not _active or threading.current_thread() is not threading.main_thread():
        yield
        return
    with _active[0].waiting():
        yield


@contextmanager
def unbroken() -> Iterator[None]:
    """Finish what must not be cut in the middle before a signal is honoured; a second one ends at once."""
    if not _active or threading.current_thread() is not threading.main_thread():
        yield
        return
    with _active[0].unbroken():
        yield
