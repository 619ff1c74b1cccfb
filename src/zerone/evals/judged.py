"""One answer with its verdict, from wherever the answer came: what all figures are computed from."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from zerone.types import Finish, Graded, Outcome, Problem

_WITHOUT_VOTE = frozenset(("code", "instructions", "pairwise"))
"""Verifiers that judge what an answer does or how it reads: no two such answers are the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """An answer, what it cost and what was found.

    `answer` is its canonical form (None: no vote). `details` are what a suite's own figures need, such
    as the instructions that were followed.
    """

    problem: Problem
    sample: int
    text: str
    prompt_tokens: int
    num_tokens: int
    is_truncated: bool
    outcome: Outcome
    answer: str | None
    is_well_formed: bool
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_right(self) -> bool:
        """Whether the verifier found the answer right."""
        return self.outcome is Outcome.CORRECT

    @property
    def has_verdict(self) -> bool:
        """Whether there is a verdict: a verifier, judge or endpoint that failed gives none."""
        return self.outcome is not Outcome.INFRASTRUCTURE_ERROR


def judged_of(graded: Graded) -> Judged:
    """Return a graded rollout as evaluation sees it."""
    rollout = graded.rollout
    return Judged(
        problem=rollout.problem,
        sample=rollout.sample,
        text=rollout.text,
        prompt_tokens=len(rollout.prompt_ids),
        num_tokens=len(rollout.completion_ids),
        is_truncated=rollout.finish is Finish.LENGTH,
        outcome=graded.outcome,
        answer=graded.answer,
        is_well_formed=bool(graded.parts["format"]),
    )


def is_majority_right(answers: Sequence[Judged]) -> float | None:
    """Return 1.0 if the most frequent canonical answer to a problem is right; ties go to the earlier one.

    Answers that could not be read have no vote, and where none could, the vote is lost. None where there
    is no vote: of a kind of problem whose answers have no canonical form, or without any verdict.
    """
    with_verdict = [judged for judged in answers if judged.has_verdict]
    if not with_verdict or with_verdict[0].problem.verifier in _WITHOUT_VOTE:
        return None
    votes = Counter(judged.answer for judged in with_verdict if judged.answer is not None)
    if not votes:
        return 0.0
    winner = votes.most_common(1)[0][0]
    first = next(judged for judged in with_verdict if judged.answer == winner)
    return float(first.is_right)
