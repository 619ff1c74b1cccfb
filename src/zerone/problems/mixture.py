"""The endless training mixture and the fixed evaluation suites, drawn from the problem families.

Problem i of a mixture is a function of (seed, i) alone, so a resumed run needs no data position
and two runs of one seed see the same problems.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol

from zerone.data.split import Split, split_of
from zerone.problems import arithmetic, countdown, functions, requests, selections
from zerone.seeding import rng_from
from zerone.types import Problem


class Family(Protocol):
    """What a module must offer to be a family of procedural problems."""

    FAMILY: str
    LEVELS: tuple[int, ...]

    def draw(self, rng: Random, level: int, language: str) -> Problem:
        """Draw one problem; its `id` is its key for the split."""
        ...


class OrderedFamily(Family, Protocol):
    """A family that says when training takes which level."""

    def level_at(self, step: int, position: int) -> int:
        """Return the level of a training step's problem at a position, both counted from 0."""
        ...


FAMILIES: Mapping[str, Family] = {
    countdown.FAMILY: countdown,
    arithmetic.FAMILY: arithmetic,
}
"""What `zerone zero` trains on and what the suites `mixed` and `hard` are made of."""

MIX_FAMILIES: tuple[Family, ...] = (countdown, arithmetic, functions, selections)
"""What `zerone zero --mix` trains on, in equal shares: every family that a rule can check."""

CORPUS_SHARES: tuple[tuple[Family, float], ...] = (
    (countdown, 0.34),
    (arithmetic, 0.31),
    (functions, 0.15),
    (selections, 0.10),
    (requests, 0.10),
)
"""What the embedded base is made from: every family, with its share of the corpus."""

CHINESE_SHARE = 0.12


def draw_from_split(rng: Random, family: Family, level: int, language: str, split: Split) -> Problem:
    """Draw until the problem belongs to the wanted split."""
    while True:
        problem = family.draw(rng, level, language)
        if split_of(problem.id) == split:
            return problem


def draw_any(rng: Random, split: Split, families: Sequence[Family] = tuple(FAMILIES.values())) -> Problem:
    """Draw family, level and language, then a problem of them."""
    return draw_of(rng, rng.choice(families), split)


def draw_of(rng: Random, family: Family, split: Split) -> Problem:
    """Draw language and level, then a problem of them."""
    language = "zh" if rng.random() < CHINESE_SHARE else "en"
    return draw_from_split(rng, family, rng.choice(family.LEVELS), language, split)


def draw_weighted(rng: Random, split: Split) -> Problem:
    """Draw a problem of any family, by the families' shares of the corpus."""
    families, shares = zip(*CORPUS_SHARES, strict=True)
    return draw_of(rng, rng.choices(families, shares)[0], split)


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedMixture:
    """Some families and all their levels in equal shares, 12% of the problems in Chinese."""

    seed: int
    families: Sequence[Family] = tuple(FAMILIES.values())

    def draw(self, step: int, num_problems: int, first: int = 0) -> list[Problem]:
        """Return problems `first` on of a step; problem j of step i depends on (seed, i, j) only."""
        return [
            draw_any(rng_from(self.seed, "train", step, j), "train", self.families)
            for j in range(first, first + num_problems)
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyMixture:
    """One family in English, its levels in the family's own order."""

    seed: int
    family: OrderedFamily

    def draw(self, step: int, num_problems: int, first: int = 0) -> list[Problem]:
        """Return problems `first` on of a step; problem j of step i depends on (seed, i, j) only."""
        problems = []
        for j in range(first, first + num_problems):
            rng = rng_from(self.seed, "train", step, j)
            problems.append(draw_from_split(rng, self.family, self.family.level_at(step, j), "en", "train"))
        return problems


_MIXED_SIZE = 500
_HARD_SIZE = 48
_MIX_SIZE = 304
_MIX_HARD_PER_FAMILY = 16
_FAMILY_SIZE = 100
_LANGUAGES_SIZE = 100


_MOST_DRAWS = 10_000
"""So many draws in a row that are all known: there is no other problem."""


def distinct_problems(
    name: str, wanted: Sequence[tuple[Family, int]], chinese_share: float = CHINESE_SHARE
) -> list[Problem]:
    """Return one evaluation problem per wanted (family, level), no two alike; fixed by `name`."""
    problems: dict[str, Problem] = {}
    for i, (family, level) in enumerate(wanted):
        rng = rng_from("suite", name, i)
        language = "zh" if rng.random() < chinese_share else "en"
        draws = (draw_from_split(rng, family, level, language, "eval") for _ in range(_MOST_DRAWS))
        problem = next((drawn for drawn in draws if drawn.id not in problems), None)
        if problem is None:
            raise AssertionError(f"{name}: {family.FAMILY} of level {level} holds fewer problems than wanted")
        problems[problem.id] = problem
    return list(problems.values())


def mixed_suite() -> list[Problem]:
    """500 evaluation problems: countdown and word problems, every level, in equal shares."""
    return _cells("mixed", _levels(tuple(FAMILIES.values())), _MIXED_SIZE)


def hard_suite() -> list[Problem]:
    """48 evaluation problems of the highest level of both ("mini-aime")."""
    return _cells("hard", _highest(tuple(FAMILIES.values())), _HARD_SIZE)


def mix_suite() -> list[Problem]:
    """Evaluation problems of every family and level in equal shares."""
    return _cells("mix", _levels(MIX_FAMILIES), _MIX_SIZE)


def mix_hard_suite() -> list[Problem]:
    """Evaluation problems of the highest level of every family."""
    return _cells("mix-hard", _highest(MIX_FAMILIES), _MIX_HARD_PER_FAMILY * len(MIX_FAMILIES))


def languages_suite() -> list[Problem]:
    """100 evaluation problems of countdown and word problems, every level, half of them in Chinese."""
    levels = _levels(tuple(FAMILIES.values()))
    cells = [levels[i % len(levels)] for i in range(_LANGUAGES_SIZE)]
    return distinct_problems("languages", cells, chinese_share=0.5)


def family_suite(name: str, family: Family) -> list[Problem]:
    """Evaluation problems of one family; fewer of the first level, which has few in all."""
    first, *others = [(family, level) for level in family.LEVELS]
    return _cells(name, [first, *others, *others], _FAMILY_SIZE)


def _levels(families: Sequence[Family]) -> list[tuple[Family, int]]:
    return [(family, level) for family in families for level in family.LEVELS]


def _highest(families: Sequence[Family]) -> list[tuple[Family, int]]:
    return [(family, family.LEVELS[-1]) for family in families]


def _cells(name: str, cells: Sequence[tuple[Family, int]], size: int) -> list[Problem]:
    return distinct_problems(name, [cells[i % len(cells)] for i in range(size)])
