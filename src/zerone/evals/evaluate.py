"""Evaluates a policy on a suite: pass@1, pass@k, majority vote, format, length, reflection.

In: an engine that holds the weights, a suite, the number of samples per problem. Out: one
`SuiteResult`, which summary.json, the report and `zerone eval` show. pass@1 is the mean over all
samples (R1 paper, D.1); cons@k the share of problems whose most frequent answer is right.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from zerone.evals.intervals import mean_with_interval, pass_at_k
from zerone.metrics import reflection_words
from zerone.rewards.total import RewardRules, RewardWeights, grade_all
from zerone.rl import requests_for
from zerone.rollout.engine import Engine, Sampling
from zerone.types import Finish, Graded, Outcome, Problem

CONSENSUS_SAMPLES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """A fixed set of problems with the number of samples to draw for each."""

    name: str
    problems: Sequence[Problem]
    num_samples: int


def evaluate(
    engine: Engine,
    suite: Suite,
    sampling: Sampling,
    to_prompt: Callable[[Problem], tuple[int, ...]],
    seed: int,
    opened: str = "",
    rules: RewardRules | None = None,
) -> dict[str, Any]:
    """Sample and judge every problem of the suite; return its figures with 95% intervals.

    The samples depend on (seed, suite, position, sample) alone, so two models meet the same draws.
    """
    requests = requests_for(suite.problems, to_prompt, suite.num_samples, (seed, "eval", suite.name))
    rollouts = engine.generate(requests, sampling)
    graded = [grade_all(answers, RewardWeights(), opened, rules) for answers in rollouts]
    return figures(graded)


def figures(graded: Sequence[Sequence[Graded]]) -> dict[str, Any]:
    """Return the figures of judged samples, grouped by problem."""
    num_samples = len(graded[0])
    result: dict[str, Any] = {"num_problems": len(graded), "num_samples": num_samples}
    measures: dict[str, Callable[[Graded], float]] = {
        "pass_at_1": lambda g: g.parts["accuracy"],
        "format": lambda g: g.parts["format"],
        "response_tokens": lambda g: float(len(g.rollout.completion_ids)),
        "reflection_words": lambda g: float(reflection_words(g)),
        "truncated": lambda g: float(g.rollout.finish is Finish.LENGTH),
    }
    for name, measure in measures.items():
        mean, interval = mean_with_interval([fmean(map(measure, answers)) for answers in graded])
        result[name] = mean
        result[f"{name}_ci"] = list(interval)
    rights = [sum(g.outcome is Outcome.CORRECT for g in answers) for answers in graded]
    powers = [2**i for i in range(num_samples.bit_length()) if 2**i <= num_samples]
    result["pass_at_k"] = {str(k): fmean(pass_at_k(num_samples, c, k) for c in rights) for k in powers}
    if num_samples >= CONSENSUS_SAMPLES:
        votes = [is_majority_right(answers[:CONSENSUS_SAMPLES]) for answers in graded]
        consensus, interval = mean_with_interval(votes)
        result[f"cons_at_{CONSENSUS_SAMPLES}"] = consensus
        result[f"cons_at_{CONSENSUS_SAMPLES}_ci"] = list(interval)
    result["verifier_errors"] = sum(not g.is_judged for answers in graded for g in answers)
    result["levels"] = _levels(graded)
    return result


def is_majority_right(answers: Sequence[Graded]) -> float:
    """Return 1.0 if the most frequent canonical answer is right; ties go to the earlier answer.

    Answers that could not be read have no vote.
    """
    votes = Counter(graded.answer for graded in answers if graded.answer is not None)
    if not votes:
        return 0.0
    winner = votes.most_common(1)[0][0]
    first = next(graded for graded in answers if graded.answer == winner)
    return float(first.outcome is Outcome.CORRECT)


def _levels(graded: Sequence[Sequence[Graded]]) -> dict[str, dict[str, float]]:
    cells: dict[str, list[float]] = defaultdict(list)
    for answers in graded:
        problem = answers[0].rollout.problem
        cells[f"{problem.family}/{problem.level}"].append(fmean(g.parts["accuracy"] for g in answers))
    return {
        cell: {"pass_at_1": fmean(values), "num_problems": len(values)}
        for cell, values in sorted(cells.items())
    }
