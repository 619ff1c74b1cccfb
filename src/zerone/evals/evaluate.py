"""Evaluates a policy on a suite while it is being trained.

In: an engine that holds the weights, a suite, the number of samples per problem. Out: the figures
that summary.json and the report show. `zerone eval`, which can be stopped and goes on, and which
also asks endpoints, is protocol.py.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from zerone.engine.api import Engine, SamplingParams
from zerone.evals.figures import figures_of, shares_of
from zerone.evals.judged import Judged, is_majority_right, judged_of
from zerone.rewards.total import RewardRules, RewardWeights, grade_all
from zerone.train.loop import requests_for
from zerone.types import Graded, Problem

__all__ = ["Suite", "evaluate", "figures", "is_majority_right", "judged_answers"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """A fixed set of problems with the number of samples to draw for each."""

    name: str
    problems: Sequence[Problem]
    num_samples: int


def evaluate(
    engine: Engine,
    suite: Suite,
    sampling: SamplingParams,
    to_prompt: Callable[[Problem], tuple[int, ...]],
    seed: int,
    opened: str = "",
    rules: RewardRules | None = None,
) -> dict[str, Any]:
    """Sample and judge every problem of the suite; return its figures with 95% intervals.

    `problems` has the share of correct completions of each, by which runs are compared in pairs.
    """
    judged = judged_answers(engine, suite, sampling, to_prompt, seed, opened, rules)
    return {**figures_of(judged), "problems": shares_of(judged)}


def judged_answers(
    engine: Engine,
    suite: Suite,
    sampling: SamplingParams,
    to_prompt: Callable[[Problem], tuple[int, ...]],
    seed: int,
    opened: str = "",
    rules: RewardRules | None = None,
) -> list[list[Judged]]:
    """Sample and judge every problem of the suite; return its answers, grouped by problem.

    The samples depend on (seed, suite, position, sample) alone, so two models meet the same draws.
    """
    requests = requests_for(suite.problems, to_prompt, suite.num_samples, (seed, "eval", suite.name))
    rollouts = engine.generate(requests, sampling)
    return [_judged(grade_all(answers, RewardWeights(), opened, rules)) for answers in rollouts]


def figures(graded: Sequence[Sequence[Graded]]) -> dict[str, Any]:
    """Return the figures of judged samples, grouped by problem."""
    return figures_of([_judged(answers) for answers in graded])


def _judged(answers: Sequence[Graded]) -> list[Judged]:
    return [judged_of(one) for one in answers]
