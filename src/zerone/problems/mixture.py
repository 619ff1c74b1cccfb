"""The endless training mixture and the fixed evaluation suites, drawn from the problem families.

Problem i of a mixture is a function of (seed, i) alone, so a resumed run needs no data position
and two runs of one seed see the same problems.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol

from zerone.problems import arithmetic, countdown
from zerone.problems.split import Split, split_of
from zerone.seeding import rng_from
from zerone.types import Problem


class Family(Protocol):
    """What a module must offer to be a family of procedural problems."""

    FAMILY: str
    LEVELS: tuple[int, ...]

    def draw(self, rng: Random, level: int, language: str) -> Problem:
        """Draw one problem; its `id` is its key for the split."""
        ...


FAMILIES: Mapping[str, Family] = {
    countdown.FAMILY: countdown,
    arithmetic.FAMILY: arithmetic,
}
CHINESE_SHARE = 0.12


def draw_from_split(rng: Random, family: Family, level: int, language: str, split: Split) -> Problem:
    """Draw until the problem belongs to the wanted split."""
    while True:
        problem = family.draw(rng, level, language)
        if split_of(problem.id) == split:
            return problem


def draw_any(rng: Random, split: Split) -> Problem:
    """Draw family, level and language, then a problem of them."""
    family = rng.choice(list(FAMILIES.values()))
    language = "zh" if rng.random() < CHINESE_SHARE else "en"
    return draw_from_split(rng, family, rng.choice(family.LEVELS), language, split)


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedMixture:
    """All families and levels in equal shares, 12% of the problems in Chinese."""

    seed: int

    def draw(self, step: int, num_problems: int, first: int = 0) -> list[Problem]:
        """Return problems `first` on of a step; problem j of step i depends on (seed, i, j) only."""
        return [
            draw_any(rng_from(self.seed, "train", step, j), "train")
            for j in range(first, first + num_problems)
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyMixture:
    """One family, all levels in equal shares, in English."""

    seed: int
    family: Family

    def draw(self, step: int, num_problems: int, first: int = 0) -> list[Problem]:
        """Return problems `first` on of a step; problem j of step i depends on (seed, i, j) only."""
        problems = []
        for j in range(first, first + num_problems):
            rng = rng_from(self.seed, "train", step, j)
            level = rng.choice(self.family.LEVELS)
            problems.append(draw_from_split(rng, self.family, level, "en", "train"))
        return problems


@dataclass(frozen=True, slots=True, kw_only=True)
class ListMixture:
    """A user's own problems, shuffled anew in each epoch."""

    seed: int
    problems: Sequence[Problem]

    problems_per_step: int

    def draw(self, step: int, num_problems: int, first: int = 0) -> list[Problem]:
        """Return the step's share of the endless shuffle; what is drawn beyond it is extra.

        Extra problems (`first` > 0) come from anywhere in the list, by (seed, step, position).
        """
        if not first:
            start = step * self.problems_per_step
            return [self._at(position) for position in range(start, start + num_problems)]
        return [
            rng_from(self.seed, "extra", step, j).choice(self.problems)
            for j in range(first, first + num_problems)
        ]

    def _at(self, position: int) -> Problem:
        epoch, offset = divmod(position, len(self.problems))
        return self.problems[_shuffled(self.seed, epoch, len(self.problems))[offset]]


@functools.lru_cache(maxsize=2)
def _shuffled(seed: int, epoch: int, size: int) -> list[int]:
    """Return the order of an epoch."""
    order = list(range(size))
    rng_from(seed, "epoch", epoch).shuffle(order)
    return order


_MIXED_SIZE = 500
_HARD_SIZE = 48


def distinct_problems(
    name: str, wanted: Sequence[tuple[Family, int]], chinese_share: float = CHINESE_SHARE
) -> list[Problem]:
    """Return one evaluation problem per wanted (family, level), no two alike; fixed by `name`."""
    problems: dict[str, Problem] = {}
    for i, (family, level) in enumerate(wanted):
        rng = rng_from("suite", name, i)
        language = "zh" if rng.random() < chinese_share else "en"
        while (problem := draw_from_split(rng, family, level, language, "eval")).id in problems:
            continue
        problems[problem.id] = problem
    return list(problems.values())


def mixed_suite() -> list[Problem]:
    """500 evaluation problems: every family and level in equal shares."""
    cells = [(family, level) for family in FAMILIES.values() for level in family.LEVELS]
    return distinct_problems("mixed", [cells[i % len(cells)] for i in range(_MIXED_SIZE)])


def hard_suite() -> list[Problem]:
    """48 evaluation problems of the highest level of every family ("mini-aime")."""
    families = list(FAMILIES.values())
    cells = [(families[i % len(families)], families[i % len(families)].LEVELS[-1]) for i in range(_HARD_SIZE)]
    return distinct_problems("hard", cells)
