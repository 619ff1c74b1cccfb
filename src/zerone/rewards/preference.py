"""Preference as a reward: what reward models say about answers that no rule can judge (R1 paper, eq. 8-10).

In: the answers to a general request, and reward models, or language models that judge by a rubric.
Out: a part of the reward for each, from 0 to 1, named after what the model judges. A request belongs to
the helpful or to the harmless set and is judged by that set's model, in place of a rule; reasoning keeps
its rules. R1 lets preference count only in the last part of its training, as policies learn to please a
model before they learn to please people.
"""

from collections.abc import Callable, Mapping, Sequence

from zerone.rewards.verifiers import FAILURES
from zerone.types import Problem, Rollout

Preference = Callable[[Sequence[tuple[str, str]]], Sequence[float | None]]
"""(prompt, response) pairs -> a reward from 0 to 1 for each, None where there is no verdict."""

HELPFULNESS, SAFETY = "helpfulness", "safety"
KINDS = (HELPFULNESS, SAFETY)

_HARMFUL = "refuse"
"""The `kind` of a request that is to be refused (problems/requests.py)."""


def kind_of(problem: Problem) -> str | None:
    """Return what a general request is judged for, or None for a problem that a rule judges."""
    if problem.verifier != "judge":
        return None
    return SAFETY if problem.spec.get("kind") == _HARMFUL else HELPFULNESS


def preferences_of(
    rollouts: Sequence[Rollout], opened: str, models: Mapping[str, Preference]
) -> list[Mapping[str, float] | None]:
    """Return the part of each answer of a group: none for reasoning, None without a verdict."""
    kind = kind_of(rollouts[0].problem) if rollouts else None
    if kind is None or kind not in models:
        return [{}] * len(rollouts)
    asked = [(rollout.problem.prompt, opened + rollout.text) for rollout in rollouts]
    try:
        return [_part(kind, reward) for reward in models[kind](asked)]
    except FAILURES:
        return [_one(kind, models[kind], question) for question in asked]


def _one(kind: str, model: Preference, question: tuple[str, str]) -> Mapping[str, float] | None:
    """Judge an answer by itself, as one that is too long must not cost its group the verdict."""
    try:
        (reward,) = model([question])
    except FAILURES:
        return None
    return _part(kind, reward)


def _part(kind: str, reward: float | None) -> Mapping[str, float] | None:
    return None if reward is None else {kind: reward}


def is_due(step: int, num_steps: int, share: float) -> bool:
    """Whether a step, counted from 0, lies in the last `share` of the steps."""
    return step >= first_due(num_steps, share)


def first_due(num_steps: int, share: float) -> int:
    """Return the first step, counted from 0, of the last `share` of the steps.

    They are at least one: of a few steps a small share would round to none, and nothing would be judged.
    """
    return num_steps - max(1, round(share * num_steps))
