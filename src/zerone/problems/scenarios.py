"""Problems of all scenarios: reasoning, and from some step on general requests among them.

In: a mixture of reasoning problems, and the step from which on there are requests: those of the embedded
world, or those among a user's own problems. Out: a mixture.
R1's last RL stage trains on both, and on general prompts only while preference is rewarded (R1 paper,
3.2.2): before, nothing could tell good answers to them from bad ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from zerone.problems import requests
from zerone.problems.mixture import draw_of
from zerone.seeding import rng_from
from zerone.types import Problem

GENERAL_SHARE = 0.45
"""Of the problems of a step. The paper does not report its mix; of its 146,000 prompts for RL, 66,000
are general ones (Table 4)."""


class Reasoning(Protocol):
    """A mixture whose problem j of step i depends on nothing but (i, j)."""

    def draw(self, step: int, num_problems: int, first: int = 0) -> Sequence[Problem]:
        """Return problems `first` .. `first + num_problems - 1` of a step."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class AllScenarios:
    """Reasoning problems; from step `general_from` on, counted from 0, requests in some places."""

    seed: int
    reasoning: Reasoning
    general_from: int

    def draw(self, step: int, num_problems: int, first: int = 0) -> list[Problem]:
        """Return problems `first` on of a step; problem j of step i depends on (seed, i, j) only."""
        return [
            draw_of(rng_from(self.seed, "scenarios", step, j), requests, "train")
            if step >= self.general_from and _is_general(j)
            else self.reasoning.draw(step, 1, first=j)[0]
            for j in range(first, first + num_problems)
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnScenarios:
    """A user's own problems: before step `general_from`, counted from 0, those of reasoning alone.

    From then on all of them, with as many requests among them as the user has.
    """

    reasoning: Reasoning
    everything: Reasoning
    general_from: int

    def draw(self, step: int, num_problems: int, first: int = 0) -> Sequence[Problem]:
        """Return problems `first` on of a step."""
        mixture = self.everything if step >= self.general_from else self.reasoning
        return mixture.draw(step, num_problems, first)


def _is_general(place: int) -> bool:
    """Whether a request stands in a place: evenly spread, so that every step has its share of them."""
    return int((place + 1) * GENERAL_SHARE) > int(place * GENERAL_SHARE)
