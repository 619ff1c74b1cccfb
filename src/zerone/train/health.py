"""One line per step that says whether a run is learning, and if not, why and what to change.

In: the metrics of a step and of those before. Out: a sentence. "Reward 0, loss 0" alone has
puzzled users of every GRPO trainer; the reasons can be told apart from the rollouts.
"""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

Metrics = Mapping[str, Any]

_WINDOW = 5
_LEARNING = 0.01
_WORSE = -0.03


def verdict(history: Sequence[Metrics], now: Metrics) -> str:
    """Return the sentence for a step: what is in the way, or else how the reward moves."""
    return _obstacle(now) or _trend(history, now)


def _obstacle(now: Metrics) -> str | None:
    """Return what keeps the run from learning, the most telling cause first."""
    num_answers = now["num_sampled_tokens"] / max(1.0, now["response_tokens"])
    silent = f"{1 - now['groups_with_signal']:.0%} of groups are all equal"
    # A critic tells the answers of one group from those of another, so PPO needs no signal within.
    is_silent = now["groups_with_signal"] < 0.1 and "value_loss" not in now
    obstacles = (
        (
            now["verifier_errors"] > 0.05 * num_answers,
            _failure(now),
        ),
        (now["kl"] > 1.0, f"KL to the reference is {now['kl']:.2f}: lower optim.learning_rate"),
        (
            is_silent and now["groups_all_right"] > 0.5,
            f"{silent}, {now['groups_all_right']:.0%} all right: use harder problems or rl.refill",
        ),
        (
            now["truncated"] > 0.25,
            f"{now['truncated']:.0%} of answers run out of room: raise sampling.max_tokens",
        ),
        (
            now["no_answer"] > 0.8,
            f"{now['no_answer']:.0%} of completions have no parsable answer: raise prompt.examples or "
            "reward.format",
        ),
        (
            is_silent,
            f"{silent}, {now['groups_all_wrong']:.0%} all wrong: use easier problems or a larger "
            "rl.group_size",
        ),
    )
    return next((sentence for is_so, sentence in obstacles if is_so), None)


def _failure(now: Metrics) -> str:
    """Say what failed: a function of the user's by its name and first reason, or else the verifier."""
    for name, found in now.get("reward_failures", {}).items():
        return f"reward {name!r} failed on {found['count']} answers (left out): {found['first']}"
    return f"the verifier failed on {now['verifier_errors']} answers (left out): mend the verifier"


def _trend(history: Sequence[Metrics], now: Metrics) -> str:
    """Compare the mean reward of the last steps with that of the steps before them."""
    every = [*(line["reward_mean"] for line in history), now["reward_mean"]]
    rewards = [reward for reward in every if reward is not None]  # None where nothing was judged
    recent, before = rewards[-_WINDOW:], rewards[-2 * _WINDOW : -_WINDOW]
    signal = f"{now['groups_with_signal']:.0%} of groups carry signal"
    if not before:
        return f"warming up: {signal}"
    change = fmean(recent) - fmean(before)
    moved = f"reward {change:+.3f} in {_WINDOW} steps"
    if change > _LEARNING:
        return f"learning: {moved}"
    if (now["accuracy"] or 0.0) > 0.95:
        return f"solved: {now['accuracy']:.0%} right; harder problems would teach more"
    if change < _WORSE:
        return f"getting worse: {moved}; lower optim.learning_rate"
    if now["entropy"] < 0.02:
        return f"flat, and entropy is down to {now['entropy']:.3f}: raise loss.clip_high or lower the rate"
    return f"flat: {moved}, {signal}"
