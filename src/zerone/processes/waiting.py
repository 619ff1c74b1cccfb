"""How torch's threads wait for each other, said before torch is loaded.

In: the environment. Out: the environment with `GOMP_SPINCOUNT`, unless the user has said how threads wait.
libgomp, which comes with torch on Linux, reads it once, when it is loaded: so `zerone/__init__.py` calls
this, in every process that imports anything of zerone, and child processes inherit it.

While a machine is ours alone, threads that spin for the next operation are the fastest: with
`OMP_WAIT_POLICY=passive` sampling has half of the speed. Beside other processes spinning is what they lose
most by: a thread spins where the one it waits for should run. `processes/threads.py` looks after that.
"""

from collections.abc import Mapping, MutableMapping

SPINS = "300000"
"""Turns that a thread spins before it sleeps: milliseconds, longer than the gaps between the operations of
a decoding step. As many as libgomp takes by itself, said so that a user's own setting can be told from it."""

_VARIABLE = "GOMP_SPINCOUNT"
_USERS = (_VARIABLE, "OMP_WAIT_POLICY")
"""Variables of libgomp that say how threads wait."""


def set_wait_policy(environment: MutableMapping[str, str]) -> None:
    """Say how threads wait, where the user has not said it."""
    if users_wait_policy(environment) is None:
        environment[_VARIABLE] = SPINS


def users_wait_policy(environment: Mapping[str, str]) -> str | None:
    """Return the user's own setting as `NAME=value`, or None; what a zerone process has set is not one."""
    for name in _USERS:
        value = environment.get(name)
        if value is not None and (name, value) != (_VARIABLE, SPINS):
            return f"{name}={value}"
    return None


def users_threads(environment: Mapping[str, str]) -> int | None:
    """Return the number of threads that the user's OMP_NUM_THREADS asks for, or None."""
    first = environment.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(first) if first.isdecimal() and int(first) > 0 else None
