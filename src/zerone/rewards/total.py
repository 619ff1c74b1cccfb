"""The reward of a rollout: its parts, each recorded, and their weighted sum.

In: a `Rollout`. Out: a `Graded`. R1-Zero's reward is accuracy plus format (R1 paper, 2.2.2), both
0 or 1 before weighting. A verifier that fails is counted, shown, and its sample left out of
training; it is never a wrong answer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from zerone.prompt import parse_completion
from zerone.rewards.accuracy import VERIFIERS, Verdict
from zerone.types import Graded, Outcome, Rollout


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardWeights:
    """How much each part counts."""

    accuracy: float = 1.0
    format: float = 0.1


def grade(rollout: Rollout, weights: RewardWeights, opened: str = "") -> Graded:
    """Judge one rollout; `opened` is what the prompt already wrote of the completion."""
    parsed = parse_completion(opened + rollout.text)
    verdict = _verify(parsed.answer, rollout)
    parts = {
        "accuracy": float(verdict.outcome is Outcome.CORRECT),
        "format": float(parsed.is_well_formed),
    }
    return Graded(
        rollout=rollout,
        outcome=verdict.outcome,
        parts=parts,
        reward=_weighted(parts, weights),
        answer=verdict.canonical,
    )


def grade_all(rollouts: Sequence[Rollout], weights: RewardWeights, opened: str = "") -> tuple[Graded, ...]:
    """Judge the rollouts of a group."""
    return tuple(grade(rollout, weights, opened) for rollout in rollouts)


def _weighted(parts: Mapping[str, float], weights: RewardWeights) -> float:
    return weights.accuracy * parts["accuracy"] + weights.format * parts["format"]


def _verify(answer: str | None, rollout: Rollout) -> Verdict:
    if answer is None:
        return Verdict(outcome=Outcome.UNPARSABLE, canonical=None)
    problem = rollout.problem
    try:
        return VERIFIERS[problem.verifier](answer, problem.spec)
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError):
        # The border between untrusted output and the loop: a verifier's failure is an outcome.
        return Verdict(outcome=Outcome.INFRASTRUCTURE_ERROR, canonical=None)
