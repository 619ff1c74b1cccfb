"""What a step's rollouts say: the numbers of metrics.jsonl and one line of verdict.

In: the graded groups of a step and the stats of its updates. Out: a flat mapping without any clock
value, so that a resumed run writes the same bytes.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, pstdev
from typing import Any

from zerone.prompt import parse_completion
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


def rollout_metrics(groups: Sequence[Credited]) -> dict[str, Any]:
    """Return the figures of the rollouts, before any update."""
    everyone = [graded for credited in groups for graded in credited.group.members]
    counted = [graded for graded in everyone if graded.outcome is not Outcome.ERROR]
    is_right = [[bool(graded.parts["accuracy"]) for graded in c.group.members] for c in groups]
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
        "groups_all_right": fmean(float(all(flags)) for flags in is_right),
        "groups_all_wrong": fmean(float(not any(flags)) for flags in is_right),
        "response_tokens": fmean(map(_length, everyone)),
        "response_tokens_right": _mean(_length(g) for g in everyone if g.outcome is Outcome.CORRECT),
        "response_tokens_wrong": _mean(_length(g) for g in everyone if g.outcome is not Outcome.CORRECT),
        "truncated": fmean(float(g.rollout.finish is Finish.LENGTH) for g in everyone),
        "no_answer": fmean(float(parse_completion(g.rollout.text).answer is None) for g in everyone),
        "reflection_words": fmean(map(reflection_words, everyone)),
        "verifier_errors": len(everyone) - len(counted),
        "num_sampled_tokens": sum(map(_length, everyone)),
        "accuracy_by": {cell: fmean(values) for cell, values in sorted(by_cell.items())},
    }


def update_metrics(stats: StepStats, learning_rate: float, weight_version: int) -> dict[str, Any]:
    """Return the figures of the updates."""
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
    }


_WINDOW = 5


def verdict(history: Sequence[Mapping[str, Any]], now: Mapping[str, Any]) -> str:
    """Say in one line whether the run is learning, and if not, why and what to change."""
    if now["groups_with_signal"] < 0.1:
        return _no_signal(now)
    if now["verifier_errors"] > 0.05 * now["num_sampled_tokens"] / max(1.0, now["response_tokens"]):
        return (
            f"verifier failed on {now['verifier_errors']} answers; they are left out: look into the verifier"
        )
    if now["truncated"] > 0.25:
        return f"{now['truncated']:.0%} of answers run out of room: raise sampling.max_tokens"
    if now["format"] < 0.2 and now["accuracy"] < 0.1:
        return f"only {now['format']:.0%} well-formed: raise reward.format or prompt.examples"
    before = [line["reward_mean"] for line in history[-2 * _WINDOW : -_WINDOW]]
    recent = [line["reward_mean"] for line in history[-_WINDOW:]] + [now["reward_mean"]]
    if not before:
        return f"warming up: {now['groups_with_signal']:.0%} of groups carry signal"
    change = fmean(recent) - fmean(before)
    trend = f"reward {change:+.3f} against {_WINDOW} steps before"
    if change > 0.01:
        return f"learning: {trend}"
    if now["entropy"] < 0.02:
        return f"flat and sure of itself (entropy {now['entropy']:.3f}): {trend}"
    if now["accuracy"] > 0.95:
        return f"solved: {now['accuracy']:.0%} right; harder problems would teach more"
    if change < -0.03:
        return f"getting worse: {trend}; lower optim.learning_rate"
    return f"flat: {trend}, {now['groups_with_signal']:.0%} of groups carry signal"


def _no_signal(now: Mapping[str, Any]) -> str:
    share = f"{1 - now['groups_with_signal']:.0%} of groups are all equal"
    if now["groups_all_right"] > 0.5:
        return f"{share}, {now['groups_all_right']:.0%} all right: use harder problems or rl.refill"
    if now["truncated"] > 0.5:
        return f"{share} because answers run out of room: raise sampling.max_tokens"
    if now["no_answer"] > 0.9:
        return f"{share}: no answer tags in {now['no_answer']:.0%}: raise prompt.examples or reward.format"
    return f"{share}, {now['groups_all_wrong']:.0%} all wrong: use easier problems or a larger rl.group_size"
