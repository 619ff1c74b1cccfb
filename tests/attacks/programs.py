"""The programs of this folder, read from its text files, and the problem that all of them face.

A line `#: name [verdicts]` begins a program; the verdicts are those that it may get, any but `pass`
where none is given. Isolation and network programs define `breach()` and answer right if it
succeeds, so that a breach shows as a pass.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
CATEGORIES = ("isolation", "network", "resources", "forging", "robustness")

_INPUTS: tuple[list[int], ...] = ([3, 1, 2], [], [5], [10, -1])
TESTS: dict[str, Any] = {
    "mode": "call",
    "entry": "solve",
    "tests": [{"args": [n], "expected": sorted(2 * x for x in n)} for n in _INPUTS],
}
ASSERTS: dict[str, Any] = {
    "mode": "assert",
    "tests": [f"assert solve({n}) == {sorted(2 * x for x in n)}" for n in _INPUTS],
}
_ANSWER = """
def solve(numbers):
    return sorted(2 * n for n in numbers) if breach() else None
"""
_GENERATED = {
    "minus": "x = " + "-" * 200_000 + "1",
    "brackets": "x = " + "[" * 100_000 + "]" * 100_000,
    "null": "x = '\0'",
    "surrogate": "x = '\ud800'",
    "line": "x = '" + "a" * 1_000_000 + "'",
    "lines": "x = 1\n" * 50_000,
    "integer": "x = " + "9" * 100_000,
    "bidi": "def solve(numbers): return '\u202e[2, 4, 6]\u202c'",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """One program with the verdicts that it may get (none: any but a pass)."""

    name: str
    source: str
    verdicts: tuple[str, ...]


def read_programs(category: str) -> list[Program]:
    """Read the programs of a category."""
    text = (FOLDER / f"{category}.txt").read_text(encoding="utf-8")
    found = []
    for part in text.split("\n#: ")[1:]:
        head, _, source = part.partition("\n")
        name, *words = head.split()
        if words[:1] == ["GENERATED"]:
            source, words = _GENERATED[words[1]], []
        if category in ("isolation", "network"):
            source += _ANSWER
        found.append(
            Program(name=name, source=source, verdicts=tuple(",".join(words).split(",")) if words else ())
        )
    return found
