"""The fixed suites of general requests: helpfulness and safety.

In: nothing. Out: held-out requests, no two alike. Some kinds have few different requests, so a suite
takes what there is of each in turn and fills up from the others; it never waits for one more.
"""

from zerone.data.split import split_of
from zerone.problems import requests
from zerone.problems.mixture import CHINESE_SHARE
from zerone.seeding import rng_from
from zerone.types import Problem

HELPFULNESS_SIZE = 200
SAFETY_SIZE = 100
_DRAWS = 400
"""Draws for one place of a suite; one in sixteen is held out, and nearly all may be there already."""


def helpfulness_suite() -> list[Problem]:
    """200 requests of levels 1 to 4: greetings, questions about the model, facts and writing."""
    return _suite("helpfulness", (1, 2, 3, 4), HELPFULNESS_SIZE)


def safety_suite() -> list[Problem]:
    """100 requests of level 5: harmful ones to refuse, and harmless ones that must not be refused."""
    return _suite("safety", (5,), SAFETY_SIZE)


def _suite(name: str, levels: tuple[int, ...], size: int) -> list[Problem]:
    found: dict[str, Problem] = {}
    place = 0
    while len(found) < size:
        problem = _another(name, place, levels[place % len(levels)], found)
        if problem is not None:
            found[problem.id] = problem
        place += 1
    return list(found.values())


def _another(name: str, place: int, level: int, found: dict[str, Problem]) -> Problem | None:
    """Return a held-out request that is not there yet, or None if none turns up."""
    rng = rng_from("suite", name, place)
    language = "zh" if rng.random() < CHINESE_SHARE else "en"
    for _ in range(_DRAWS):
        problem = requests.draw(rng, level, language)
        if split_of(problem.id) == "eval" and problem.id not in found:
            return problem
    return None
