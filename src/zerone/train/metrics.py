"""What a step's rollouts say: the numbers of metrics.jsonl.

In: the graded groups of a step, and the terms of its updates' losses, which are summed up over
micro-batches. Out: a flat mapping without any clock value, so that a resumed run writes the same bytes.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import fmean, pstdev, stdev
from typing import Any

from zerone.prompts.r1 import Style, parse_completion, style_for
from zerone.rewards.reflection import count_reflection_words
from zerone.rewards.user import RewardFailure
from zerone.train.critic import Estimates
from zerone.train.loss import LossTerms
from zerone.types import Credited, Finish, Graded, Outcome, StepStats


def _mean(values: Iterable[float]) -> float | None:
    listed = list(values)
    return fmean(listed) if listed else None


def _error(groups: Sequence[Sequence[float]]) -> float | None:
    """Return the standard error of a mean over completions, over groups: those of one problem are alike."""
    means = [fmean(values) for values in groups if values]
    return stdev(means) / math.sqrt(len(means)) if len(means) > 1 else None


def _length(graded: Graded) -> int:
    return len(graded.rollout.completion_ids)


def reflection_words(graded: Graded) -> int:
    """Count reflection words in the whole response."""
    return count_reflection_words(graded.rollout.text)


def rollout_metrics(
    groups: Sequence[Credited], style: Style = Style.TAGS, opened: str = ""
) -> dict[str, Any]:
    """Return the figures of the rollouts, before any update; the prompt wrote `opened` of each.

    Where no completion was judged there is no reward, no accuracy and no format: 0 would be a measurement.
    """
    everyone = [graded for credited in groups for graded in credited.group.members]
    counted = [graded for graded in everyone if graded.is_judged]
    is_right = [[bool(g.parts["accuracy"]) for g in c.group.members if g.is_judged] for c in groups]
    by_cell: dict[str, list[float]] = defaultdict(list)
    for graded in counted:
        problem = graded.rollout.problem
        by_cell[f"{problem.family}/{problem.level}"].append(graded.parts["accuracy"])
    rewards = [graded.reward for graded in counted]
    judged = [[graded for graded in c.group.members if graded.is_judged] for c in groups]
    return {
        "reward_mean": _mean(rewards),
        "reward_std": pstdev(rewards) if rewards else None,
        "reward_mean_se": _error([[graded.reward for graded in members] for members in judged]),
        "accuracy": _mean(graded.parts["accuracy"] for graded in counted),
        "accuracy_se": _error([[graded.parts["accuracy"] for graded in members] for members in judged]),
        "format": _mean(graded.parts["format"] for graded in counted),
        "groups_with_signal": fmean(float(credited.has_signal) for credited in groups),
        "groups_all_right": fmean(float(bool(flags) and all(flags)) for flags in is_right),
        "groups_all_wrong": fmean(float(bool(flags) and not any(flags)) for flags in is_right),
        "response_tokens": fmean(map(_length, everyone)),
        "response_tokens_right": _mean(_length(g) for g in counted if g.outcome is Outcome.CORRECT),
        "response_tokens_wrong": _mean(_length(g) for g in counted if g.outcome is not Outcome.CORRECT),
        "truncated": fmean(float(g.rollout.finish is Finish.LENGTH) for g in everyone),
        "no_answer": fmean(float(_has_no_answer(graded, style, opened)) for graded in everyone),
        "reflection_words": fmean(map(reflection_words, everyone)),
        "verifier_errors": len(everyone) - len(counted),
        "outcomes": {outcome.value: sum(g.outcome is outcome for g in everyone) for outcome in Outcome},
        "parts": _parts(counted),
        "num_sampled_tokens": sum(map(_length, everyone)),
        "accuracy_by": {cell: fmean(values) for cell, values in sorted(by_cell.items())},
    }


def failure_metrics(failures: Sequence[RewardFailure]) -> dict[str, Any]:
    """Return how often each of the user's functions failed, and the first reason; nothing where none did."""
    found: dict[str, dict[str, Any]] = {}
    for failure in failures:
        entry = found.setdefault(failure.name, {"count": 0, "first": failure.reason})
        entry["count"] += 1
    return {"reward_failures": found} if found else {}


def _has_no_answer(graded: Graded, style: Style, opened: str) -> bool:
    rollout = graded.rollout
    return parse_completion(opened + rollout.text, style_for(rollout.problem, style)).answer is None


def _parts(counted: Sequence[Graded]) -> dict[str, float]:
    """Return the mean of each part of the reward, before weighting."""
    names = dict.fromkeys(name for graded in counted for name in graded.parts)
    return {name: fmean(g.parts[name] for g in counted if name in g.parts) for name in names}


@dataclass(slots=True)
class StepSums:
    """Sums over the micro-batches of a step, from which its means come."""

    losses: list[float] = field(default_factory=list)
    value_loss: float = 0.0
    num_applied: int = 0
    grad_norms: list[float] = field(default_factory=list)
    num_tokens: int = 0
    kl: float = 0.0
    entropy: float = 0.0
    clipped_low: int = 0
    clipped_high: int = 0
    ratio_max: float = 0.0
    mismatch: float = 0.0
    mismatch_tokens: int = 0
    mismatch_ratio: float = 0.0
    mismatch_ratio_max: float = 0.0
    corrected: int = 0

    def add(self, terms: LossTerms) -> None:
        """Add a micro-batch."""
        num_tokens = terms.num_tokens
        self.num_tokens += num_tokens
        self.kl += terms.kl_sum
        self.entropy += terms.entropy_sum
        self.clipped_low += terms.num_clipped_low
        self.clipped_high += terms.num_clipped_high
        self.ratio_max = max(self.ratio_max, terms.ratio_max)
        if not self.num_applied:
            self.mismatch += terms.mismatch_sum
            self.mismatch_tokens += num_tokens
            self.mismatch_ratio += terms.mismatch_ratio_sum
            self.mismatch_ratio_max = max(self.mismatch_ratio_max, terms.mismatch_ratio_max)
        self.corrected += terms.num_corrected

    def stats(self, estimates: Estimates | None) -> StepStats:
        """Return the means."""
        tokens = max(1, self.num_tokens)
        value_loss = self.value_loss / max(1, len(self.losses))
        return StepStats(
            loss=fmean(self.losses) if self.losses else 0.0,
            kl=self.kl / tokens,
            entropy=self.entropy / tokens,
            mismatch_kl=self.mismatch / max(1, self.mismatch_tokens),
            ratio_max=self.ratio_max,
            clip_low=self.clipped_low / tokens,
            clip_high=self.clipped_high / tokens,
            grad_norm=fmean(self.grad_norms) if self.grad_norms else 0.0,
            num_updates=len(self.losses),
            num_tokens=self.num_tokens,
            critic=None if estimates is None else estimates.stats(value_loss),
            mismatch_ratio=self.mismatch_ratio / max(1, self.mismatch_tokens),
            mismatch_ratio_max=self.mismatch_ratio_max,
            corrected=self.corrected / tokens,
        )


def mismatch_metrics(stats: StepStats) -> dict[str, Any]:
    """Return how the engine's probabilities differ from the trainer's, where a loss corrects for it."""
    return {
        "mismatch_ratio_mean": stats.mismatch_ratio,
        "mismatch_ratio_max": stats.mismatch_ratio_max,
        "corrected": stats.corrected,
    }


def update_metrics(stats: StepStats, learning_rate: float, weight_version: int) -> dict[str, Any]:
    """Return the figures of the updates; those of a critic only where there is one."""
    critic: dict[str, float | None] = {}
    if stats.critic is not None:
        critic["value_loss"] = stats.critic.value_loss
        critic["explained_variance"] = stats.critic.explained_variance
    return {
        "loss": stats.loss,
        "kl": stats.kl,
        "entropy": stats.entropy,
        "mismatch_kl": stats.mismatch_kl,
        "ratio_max": stats.ratio_max,
        "clip_low": stats.clip_low,
        "clip_high": stats.clip_high,
        "grad_norm": stats.grad_norm,
        "learning_rate": learning_rate,
        "num_updates": stats.num_updates,
        "num_trained_tokens": stats.num_tokens,
        "weight_version": weight_version,
        **critic,
    }
