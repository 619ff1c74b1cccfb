"""How much of this machine other processes use, and what that costs.

In: /proc/stat, and the processor time of this process and its descendants. Out: the cores that others took
since the last look, and a sentence for the user who waits. Where there is no /proc nothing is said. What a
hypervisor gave to other machines (steal) counts as taken by others.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100

SHARED = 0.25
"""Cores that others take of what our threads want, above which a machine is called shared: a browser or a
monitor takes less, a process that computes takes more."""

SHORTEST_S = 0.25
"""Below this the ticks of the counters (10 ms) say too little."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherWork:
    """The cores that this process may use, and how many of them others took, on average."""

    cores: int
    taken: float

    def is_in_the_way(self, threads: int) -> bool:
        """Whether so many threads of ours find no core for each."""
        return self.taken + threads - self.cores > SHARED


def own_cores() -> frozenset[int]:
    """Return the numbers of the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def busy_seconds(cores: frozenset[int], proc: Path = PROC) -> float | None:
    """Return the seconds that these cores were at work or stolen since the start; None where nobody tells."""
    total = 0
    try:
        lines = (proc / "stat").read_text(encoding="ascii").splitlines()
        for line in lines:
            name, *fields = line.split()
            if name.removeprefix("cpu").isdecimal() and int(name.removeprefix("cpu")) in cores:
                user, nice, system, _idle, _waits, interrupts, soft, *steal = map(int, fields[:8])
                total += user + nice + system + interrupts + soft + sum(steal)
    except (OSError, ValueError):
        return None
    return total / _TICKS if total else None


def family_seconds(root: int, proc: Path = PROC) -> float:
    """Return the processor time of a process and its descendants, those that have ended included."""
    parents: dict[int, int] = {}
    seconds: dict[int, float] = {}
    for folder in proc.iterdir():
        if folder.name.isdecimal():
            try:
                text = (folder / "stat").read_text(encoding="utf-8", errors="replace")
                # The name in brackets may hold anything. Then: state, parent (4), and user and system time,
                # its own (14, 15) and that of children that have ended (16, 17).
                fields = text.rpartition(")")[2].split()
                parents[int(folder.name)] = int(fields[1])
                seconds[int(folder.name)] = sum(map(int, fields[11:15])) / _TICKS
            except (OSError, ValueError, IndexError):
                continue  # it has ended meanwhile
    children: dict[int, list[int]] = {}
    for process, parent in parents.items():
        children.setdefault(parent, []).append(process)
    total, todo = 0.0, [root]
    while todo:
        process = todo.pop()
        total += seconds.get(process, 0.0)
        todo += children.get(process, [])
    return total


def own_family(proc: Path = PROC) -> Callable[[], float]:
    """Return what tells the processor time of this process and its descendants.

    Where torchrun started this process, the others that it started are no strangers either.
    """
    root = os.getppid() if "TORCHELASTIC_RUN_ID" in os.environ else os.getpid()
    return lambda: family_seconds(root, proc)


class Watch:
    """Looks again and again at what others take of the cores of this process."""

    def __init__(
        self,
        own_seconds: Callable[[], float] | None = None,
        proc: Path = PROC,
        clock: Callable[[], float] = time.monotonic,
        shortest_s: float = SHORTEST_S,
    ) -> None:
        self._cores = own_cores()
        self._own_seconds = own_seconds or own_family(proc)
        self._proc, self._clock, self._shortest_s = proc, clock, shortest_s
        self._last = self._read()
        self._told: OtherWork | None = None

    def look(self) -> OtherWork | None:
        """Return what others took since the last look; None where that is not known.

        Where the last look was too short ago to tell, what it told is said again.
        """
        if self._last is None or self._clock() - self._last[0] < self._shortest_s:
            return self._told
        before, self._last = self._last, self._read()
        self._told = None
        if self._last is not None:
            seconds, busy, own = (now - then for now, then in zip(self._last, before, strict=True))
            cores = len(self._cores)
            self._told = OtherWork(cores=cores, taken=min(max((busy - own) / seconds, 0.0), float(cores)))
        return self._told

    def _read(self) -> tuple[float, float, float] | None:
        busy = busy_seconds(self._cores, self._proc)
        return None if busy is None else (self._clock(), busy, self._own_seconds())


def sentence(work: OtherWork | None, threads: int, *, is_at_work: bool) -> str:
    """Return a sentence where a machine is shared, with what that costs so many threads of ours; else "".

    `is_at_work`: our threads worked while others took that much, and have what they left. Else ours are
    yet to come, and all share the cores evenly.
    """
    if work is None or not work.is_in_the_way(threads):
        return ""
    left = work.cores - work.taken if is_at_work else work.cores * threads / (threads + work.taken)
    times = f"about {threads / left:.1f}" if left > threads / 10 else "over 10"
    return (
        f"shared machine: other processes take {work.taken:.1f} of {work.cores} cores; "
        f"this takes {times} times as long"
    )
