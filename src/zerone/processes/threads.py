"""torch's threads: how many, and whether they spin or sleep while they wait for each other.

In: a number of threads. Out: torch uses it, and where others need the cores as well, its threads sleep.

An operation is done when its slowest thread is. Beside another process that computes, one thread spins, for
the whole time that the kernel gives it, where the thread it waits for should run: sampling with two threads
beside one busy process falls to a twentieth and less. So a watch looks, twice a second, at what others take
of our cores, and has a `Crowd` come and go.
"""

import os
import threading
import time
from collections.abc import Callable

import torch

from zerone.processes.crowd import Crowd
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
            self._crowd.gather(work.cores, self._threads)
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
