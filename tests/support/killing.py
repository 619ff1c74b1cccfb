"""Work that is killed, for tests of resuming: in a forked process, which has all modules loaded."""

import os
import shutil
import signal
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from random import Random


def moment(rng: Random, attempt: int, least: float, most: float) -> float:
    """Return the seconds until a kill.

    Up to `most` at first, and longer with every attempt: on a slow or busy machine too the work must
    get to its end at last.
    """
    return least + rng.random() * (most - least) * (1 + attempt / 8)


def fork_and_kill(work: Callable[[], object], seconds: float) -> bool:
    """Do the work in a forked process and kill it after some seconds; return whether it was alive."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            assert os.waitstatus_to_exitcode(status) == 0
            return False
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return True


def kill_until_done(
    work: Callable[[], object], folder: Path, rng: Random, least: float, most: float, num_kills: int
) -> None:
    """Kill work that resumes in `folder` `num_kills` times, then let it come to its end.

    Where it ends before it was killed often enough, it begins anew and is killed sooner: on a fast
    machine too the kills must fall within it.
    """
    kills, attempts = 0, 0
    while kills < num_kills:
        attempts += 1
        assert attempts < 20 * num_kills, f"killed {kills} times only: the work is over too soon"
        if fork_and_kill(work, moment(rng, 0, least, most)):
            kills += 1
        else:
            shutil.rmtree(folder)
            least, most = 0.8 * least, 0.8 * most
    work()
