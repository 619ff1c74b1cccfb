"""What a step's rollouts say: the numbers of metrics.jsonl.

In: the graded groups of a step and the stats of its updates. Out: a flat mapping without any clock
value, so that a resumed run writes the same bytes.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from statistics import fmean, pstdev
from typing import Any

from zerone.prompt import Style, parse_completion, style_for
from zerone.rewards.reflection import count_reflection_words
from zerone.types import Credited, Finish, Graded, Outcome, StepStats


def _mean(values: Iterable[float]) -> float | None:
    listed = list(values)
    return fmean(listed) if listed else None


def _length(graded: Graded) -> int:
    return len(graded.rollout.completion_ids)


def reflection_words(graded: Graded) -> int:
    """Count reflection words in the whole response."""
    return count_reflection_words(graded.rollout.text)


def rollout_metrics(groups: Sequence[Credited], style: Style = Style.TAGS) -> dict[str, Any]:
    """Return the figures of the rollouts, before any update."""
    everyone = [graded for credited in groups for graded in credited.group.members]
    counted = [graded for graded in everyone if graded.is_judged]
    is_right = [[bool(g.parts["accuracy"]) for g in c.group.members if g.is_judged] for c in groups]
    by_cell: dict[str, list[float]] = defaultdict(list)
    for graded in counted:
        problem = graded.rollout.problem
        by_cell[f"{problem.family}/{problem.level}"].append(graded.parts["accuracy"])
    rewards = [graded.reward for graded in counted] or [0.0]
    return {
        "reward_mean": fmean(rewards),
        "reward_std": pstdev(rewards),
        "accuracy": _mean(graded.parts["accuracy"] for graded in counted) or 0.0,
        "format": _mean(graded.parts["format"] for graded in counted) or 0.0,
        "groups_with_signal": fmean(float(credited.has_signal) for credited in groups),
        "groups_all_right": fmean(float(bool(flags) and all(flags)) for flags in is_right),
        "groups_all_wrong": fmean(float(bool(flags) and not any(flags)) for flags in is_right),
        "response_tokens": fmean(map(_length, everyone)),
        "response_tokens_right": _mean(_length(g) for g in counted if g.outcome is Outcome.CORRECT),
        "response_tokens_wrong": _mean(_length(g) for g in counted if g.outcome is not Outcome.CORRECT),
        "truncated": fmean(float(g.rollout.finish is Finish.LENGTH) for g in everyone),
        "no_answer": fmean(float(_has_no_answer(graded, style)) for graded in everyone),
        "reflection_words": fmean(map(reflection_words, everyone)),
        "verifier_errors": len(everyone) - len(counted),
        "outcomes": {outcome.value: sum(g.outcome is outcome for g in everyone) for outcome in Outcome},
        "parts": _parts(counted),
        "num_sampled_tokens": sum(map(_length, everyone)),
        "accuracy_by": {cell: fmean(values) for cell, values in sorted(by_cell.items())},
    }


def _has_no_answer(graded: Graded, style: Style) -> bool:
    rollout = graded.rollout
    return parse_completion(rollout.text, style_for(rollout.problem, style)).answer is None


def _parts(counted: Sequence[Graded]) -> dict[str, float]:
    """Return the mean of each part of the reward, before weighting."""
    names = dict.fromkeys(name for graded in counted for name in graded.parts)
    return {name: fmean(g.parts[name] for g in counted if name in g.parts) for name in names}


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
