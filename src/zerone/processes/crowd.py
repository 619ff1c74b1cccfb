"""A way to have torch's threads sleep, not spin, while they wait for each other.

In: nothing. Out: libgomp counts more threads than cores, and spins only 100 turns, microseconds (see
GOMP_SPINCOUNT in its manual). One more team of threads, which does nothing, is what makes it count so; it
can come and go while others work. How many threads share an operation stays the same, and so does every sum.
"""

import ctypes
import os
import threading
from collections.abc import Callable
from pathlib import Path

import torch


class Crowd:
    """A team of threads that does nothing, so that libgomp counts more threads than cores."""

    def __init__(self) -> None:
        self._end: threading.Event | None = None
        self._thread: threading.Thread | None = None

    @property
    def is_there(self) -> bool:
        """Whether the team exists, and threads sleep while they wait."""
        return self._thread is not None

    def gather(self, cores: int, threads: int) -> None:
        """Start the team, beside so many threads of ours; it stays until it is dispersed.

        Nothing happens without libgomp.
        """
        start_team = _libgomp()
        size = max(2, cores - threads + 2)  # libgomp does not count a team's first thread again
        if self._thread is not None or start_team is None:
            return
        self._end, is_up = threading.Event(), threading.Event()
        self._thread = threading.Thread(
            target=_hold, args=(start_team, size, is_up, self._end), name="crowd", daemon=True
        )
        self._thread.start()
        is_up.wait()

    def disperse(self) -> None:
        """End the team: libgomp ends a team with the thread that started it."""
        if self._thread is not None and self._end is not None:
            self._end.set()
            self._thread.join()
            self._thread = self._end = None


def _hold(start_team: Callable[[int], None], size: int, is_up: threading.Event, end: threading.Event) -> None:
    start_team(size)
    is_up.set()
    end.wait()


def _libgomp() -> Callable[[int], None] | None:
    """Return what starts a team of so many threads in the libgomp that torch uses; None without one."""
    library = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    try:
        loaded = ctypes.CDLL(str(library), mode=os.RTLD_NOLOAD | os.RTLD_NOW)
        parallel = loaded.GOMP_parallel  # found in what the library is linked to
        nothing = ctypes.cast(ctypes.CDLL(None).free, ctypes.c_void_p)  # free(NULL) does nothing
    except (OSError, AttributeError):
        return None
    parallel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    parallel.restype = None
    return lambda size: parallel(nothing, None, size, 0)
