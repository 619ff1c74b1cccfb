"""Draws training problems from fixed sets: epochs over one set, or several sets by their weights.

In: problems, a seed. Out: mixtures, whose problem j of step i depends on (seed, i, j) only. So a run that is
resumed needs no position in the data, and meets the problems that an uninterrupted one meets.
"""

import functools
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

from zerone.seeding import rng_from
from zerone.types import Problem


class Mixture(Protocol):
    """A source of training problems; what it draws depends on nothing but its arguments."""

    def draw(self, step: int, num_problems: int, first: int = 0) -> Sequence[Problem]:
        """Return problems `first` .. `first + num_problems - 1` of a step."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ListMixture:
    """A user's own problems, shuffled anew in each epoch."""

    seed: int
    problems: Sequence[Problem]

    problems_per_step: int

    def draw(self, step: int, num_problems: int, first: int = 0) -> list[Problem]:
        """Return the step's share of the endless shuffle; what is taken beyond it is extra.

        Extra problems (`first` > 0) come from anywhere in the list, by (seed, step, position).
        """
        if not first:
            start = step * self.problems_per_step
            return [self.at(position) for position in range(start, start + num_problems)]
        return [
            rng_from(self.seed, "extra", step, j).choice(self.problems)
            for j in range(first, first + num_problems)
        ]

    def at(self, position: int) -> Problem:
        """Return the problem at a position of the endless shuffle."""
        epoch, offset = divmod(position, len(self.problems))
        return self.problems[_shuffled(self.seed, epoch, len(self.problems))[offset]]


@functools.lru_cache(maxsize=32)
def _shuffled(seed: int, epoch: int, size: int) -> list[int]:
    """Return the order of an epoch."""
    order = list(range(size))
    rng_from(seed, "epoch", epoch).shuffle(order)
    return order


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightedMixture:
    """Several sets, each in epochs of its own, in shares as their weights are.

    Sets take turns as evenly as their weights allow (Webster's method, by which the m-th problem of a set of
    weight w comes at time (m - 1/2) / w), so every step has its share of each.
    """

    seed: int
    parts: tuple[ListMixture, ...]
    weights: tuple[float, ...]
    problems_per_step: int

    @property
    def problems(self) -> list[Problem]:
        """All problems of all sets."""
        return [problem for part in self.parts for problem in part.problems]

    def draw(self, step: int, num_problems: int, first: int = 0) -> list[Problem]:
        """Return the step's share; what is taken beyond it is extra, by (seed, step, position)."""
        if not first:
            places = turns(self.weights, step * self.problems_per_step)
            return [self.parts[part].at(place) for part, place in itertools.islice(places, num_problems)]
        extra = []
        for j in range(first, first + num_problems):
            rng = rng_from(self.seed, "extra", step, j)
            (part,) = rng.choices(self.parts, self.weights)
            extra.append(rng.choice(part.problems))
        return extra


def turns(weights: Sequence[float], start: int) -> Iterator[tuple[int, int]]:
    """Yield whose turn it is from a position on, as (set, how many turns it had before), without end."""
    total = sum(map(_exact, weights))
    shares = [_exact(weight) / total for weight in weights]
    # At this time no more than `start` turns are over: each set has had at most half a turn beyond its share.
    time = max(0, start - len(shares))
    taken = [int(time * share + Fraction(1, 2)) for share in shares]
    for position in itertools.count(sum(taken)):
        number = min(range(len(shares)), key=lambda k: ((taken[k] + Fraction(1, 2)) / shares[k], k))
        if position >= start:
            yield number, taken[number]
        taken[number] += 1


def _exact(weight: float) -> Fraction:
    """Return a weight as it is written: 0.1 is a tenth."""
    return Fraction(str(weight))
