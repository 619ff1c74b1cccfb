"""torch's threads: how many, and whether they spin or sleep while they wait for each other.

In: a number of threads. Out: torch uses it, and where others need the cores as well, its threads sleep.

An operation is done when its slowest thread is. Beside another process that computes, one thread spins, for
the whole time that the kernel gives it, where the thread it waits for should run: sampling with two threads
beside one busy process falls to a twentieth and less. So a watch looks, twice a second, at what others take
of our cores. libgomp spins only 100 turns, microseconds, where it counts more threads than cores
(GOMP_SPINCOUNT in its manual). One more team of threads, which only sleeps, is what makes it count so, and is
what `Crowd` adds and takes away. How many threads share an operation stays the same, and so does every sum.
"""

import ctypes
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import torch

from zerone.processes.machine import known_machine
from zerone.processes.sharing import OtherWork, Watch
from zerone.processes.waiting import users_threads, users_wait_policy

LOOK_S = 0.5
"""Between two looks at what others take."""

_QUIET_LOOKS = 2
"""After which threads spin again: work that comes in bursts finds them asleep."""


def threads_for(wanted: int) -> int:
    """Return how many threads to compute with: what is wanted, else OMP_NUM_THREADS, else as measured."""
    return wanted or users_threads(os.environ) or known_machine().threads


def use_threads(count: int) -> None:
    """Compute with so many threads from now on, and watch how they wait."""
    torch.set_num_threads(count)
    _keeper.use(count)


class Crowd:
    """A team of threads that does nothing, so that libgomp counts more threads than cores."""

    def __init__(self) -> None:
        self._end: threading.Event | None = None
        self._thread: threading.Thread | None = None

    @property
    def is_there(self) -> bool:
        """Whether the team exists, and threads sleep while they wait."""
        return self._thread is not None

    def gather(self, size: int) -> None:
        """Start the team; it stays until it is dispersed. Nothing happens without libgomp."""
        start_team = _libgomp()
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


class Keeper:
    """Has threads sleep while others need the cores, and spin while none do."""

    def __init__(self, make_watch: Callable[[], Watch], crowd: Crowd) -> None:
        self._make_watch, self._crowd = make_watch, crowd
        self._threads = 1
        self._is_watching = False
        self._num_quiet = 0
        self._lock = threading.Lock()

    @property
    def is_crowded(self) -> bool:
        """Whether threads sleep now while they wait."""
        return self._crowd.is_there

    def use(self, threads: int) -> None:
        """Watch over so many threads; one alone waits for nobody, and a user's own policy is left alone."""
        with self._lock:
            self._threads = threads
            if threads < 2 or self._is_watching or users_wait_policy(os.environ) is not None:
                return
            self._is_watching = True
        threading.Thread(target=self._run, name="machine watch", daemon=True).start()

    def heed(self, work: OtherWork | None) -> None:
        """Gather or disperse the crowd after a look."""
        if work is None or self._threads < 2:
            self._crowd.disperse()
        elif work.is_in_the_way(self._threads):
            self._num_quiet = 0
            # With it libgomp counts one thread more than cores: the team's first is not counted again.
            self._crowd.gather(max(2, work.cores - self._threads + 2))
        else:
            self._num_quiet += 1
            if self._num_quiet >= _QUIET_LOOKS:
                self._crowd.disperse()

    def _run(self) -> None:
        watch, pause = self._make_watch(), threading.Event()
        while True:
            pause.wait(LOOK_S)
            self.heed(watch.look())
            with self._lock:
                if self._threads < 2:
                    self._is_watching = False
                    return


_keeper = Keeper(lambda: Watch(time.process_time), Crowd())
"""That of this process. Its own child processes need cores like all others."""
