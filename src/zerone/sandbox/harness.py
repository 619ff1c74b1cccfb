"""How a published harness runs a program and compares what comes of it, by the harness's name.

In: the name in `"harness"` of a problem's tests. Out: what is imported before the program, what counts
as its end, which of its objects is called, and which results count as the same. docs/evaluation.md
compares each harness with what is done here, point by point.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from zerone.errors import DataError
from zerone.sandbox.outputs import are_same_decimals, are_same_tokens, is_same_output
from zerone.sandbox.values import is_equal, is_same_json

BOUND_ENTRY = "_bound_entry_"
"""The name, among the program's own, of the one function that all tests call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Harness:
    """The conventions of a harness.

    `prelude` is run before the program. `as_function`: the program is the body of a function, which a
    `return` or an exit with any code ends. `keeps_instance`: all calls are made on one instance of the
    class. `is_exact`: no problem has a tolerance.
    """

    prelude: str = ""
    as_function: bool = False
    keeps_instance: bool = False
    is_exact: bool = False
    is_same_output: Callable[[str, str, float | None], bool] = is_same_output
    is_same_value: Callable[[Any, Any, float | None], bool] = is_same_json


# All names of these modules are there, of `typing` too, where it has the last word: `List[int]` in a
# signature and `Counter()`. The modules themselves come after, so `datetime` and `copy` are modules.
_CONTAINERS = ("collections", "heapq", "bisect", "copy")
_NUMBERS = ("math", "random", "statistics")
_SYSTEM = ("operator", "io", "sys", "json")
_NAMED = ("string", "re", "datetime", *_CONTAINERS, *_NUMBERS, "itertools", "functools", *_SYSTEM)
_OPENED = (*_NAMED, "builtins", "typing")
_RECURSION_LIMIT = 50_000

HARNESSES = {
    "own": Harness(),
    "livecodebench": Harness(
        prelude="".join(
            (
                *(f"from {name} import *\n" for name in _OPENED),
                f"import {', '.join(_NAMED)}\n",
                f"sys.setrecursionlimit({_RECURSION_LIMIT})\n",
            )
        ),
        as_function=True,
        keeps_instance=True,
        is_exact=True,
        is_same_output=are_same_decimals,
        is_same_value=is_equal,
    ),
    "codeforces": Harness(is_same_output=are_same_tokens),
}
OWN = HARNESSES["own"]


def harness_named(name: Any) -> Harness:
    """Return a harness; raises DataError for a name that there is not."""
    if not isinstance(name, str) or name not in HARNESSES:
        known = ", ".join(f'"{known}"' for known in HARNESSES)
        raise DataError(f'"harness" must be one of {known}, not {name!r}')
    return HARNESSES[name]


def binding(entry: str) -> str:
    """Return code that binds `Class.method` to one instance, or to a function where there is no class."""
    owner, _, method = entry.partition(".")
    return f"{BOUND_ENTRY} = {owner}().{method} if {owner!r} in globals() else {method}\n"
