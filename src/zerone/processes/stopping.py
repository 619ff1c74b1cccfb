"""A wish to stop: the first signal asks the loop to end after its step, and ends at once what only waits.

In: Ctrl-C, SIGTERM or SIGHUP. Out: a wish that a loop looks at between its steps. Where the main thread
waits for a model behind HTTP, which may think for minutes, the wish is an Interrupted right there: nothing
was changed meanwhile.
"""

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType

from zerone.errors import Interrupted

_ONE_WISH_S = 1.0
"""A terminal that closes sends several signals: within this time they are one wish."""


@dataclass(slots=True)
class _Wish:
    """Whether somebody listens for a wish, when it came, and whether the main thread only waits."""

    is_heard: bool = False
    came_at: float | None = None
    num_waits: int = 0


_wish = _Wish()


@contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """Turn the first signal into a wish that the loop honours; the next one stops at once."""

    def on_signal(number: int, frame: FrameType | None) -> None:
        if _wish.came_at is None:
            _wish.came_at = time.monotonic()
            # What the signal interrupted may have been writing to the same stream, or the stream is gone.
            with suppress(RuntimeError, OSError):
                print("stopping after this step; once more to stop at once", file=sys.stderr)
            if _wish.num_waits:
                raise Interrupted("stopped while an endpoint was asked")
        elif number == signal.SIGINT or time.monotonic() - _wish.came_at > _ONE_WISH_S:
            raise KeyboardInterrupt

    before = {}
    with suppress(ValueError):  # not the main thread, as in a notebook server: no signals here
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
                before[number] = signal.signal(number, on_signal)
    _wish.is_heard, _wish.came_at = bool(before), None
    try:
        yield lambda: _wish.came_at is not None
    finally:
        _wish.is_heard = False
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def waiting() -> Iterator[None]:
    """Mark that the main thread only waits; raises Interrupted where stopping is wished for."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _wish.num_waits += 1
    try:
        if _wish.is_heard and _wish.came_at is not None:
            raise Interrupted("stopped while an endpoint was asked")
        yield
    finally:
        _wish.num_waits -= 1
