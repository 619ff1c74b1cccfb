"""One sentence per step that says whether a run is learning, and if not, why and what to change.

In: the metrics of a step and of those before. Out: a sentence that begins with one of `STATES`. The
trend is looked at before the obstacle, and the obstacle is told behind a trend that it may explain:

1. completions without a verdict, as their figures tell nothing;
2. a collapse to less than half of the best level;
3. a rise, of accuracy apart from format and from other parts of the reward; a fall;
4. what is in the way: saturated, truncated, without an answer, no signal, far from the reference;
5. why nothing moves: too slow, without entropy, not yet certain, noisy, or flat.

What counts as a change, against the noise of the rewards, trend.py tests and says.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from zerone.train.trend import (
    LIKELY,
    SHORTEST,
    WINDOW,
    Collapse,
    Metrics,
    Trend,
    collapse_of,
    has_other_problems,
    num_completions,
    trend_of,
)

STATES = (
    "no verdict",
    "collapsed",
    "learning",
    "learning the format only",
    "reward without accuracy",
    "getting worse",
    "saturated",
    "truncated",
    "no answer",
    "no signal",
    "far from the reference",
    "warming up",
    "too slow",
    "uncertain",
    "noisy",
    "low entropy",
    "flat",
)
"""How sentences begin, up to a colon or `at`; docs/debug.md explains each."""

_SATURATED = 0.95
_HARDLY_MOVED = 1.02
"""Largest ratio of later updates of a step below which its updates changed next to nothing: 1.0005 at a
learning rate of 1e-6, where nothing is learned, and 1.07 to 1.4 in a run of the same model that learns."""
_TOO_SLOW_GAIN = 0.05
_NOISY = 0.05
"""Standard error of a change over the window from which on a change worth having can hide in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a run is to become: how many steps, and which checkpoints there are to go back to."""

    steps: int
    checkpoint_every: int
    checkpoint_keep: int


def is_learning(sentence: str) -> bool:
    """Whether a sentence says that the run learns and that nothing is in its way."""
    return sentence.partition(":")[0] == "learning" and ";" not in sentence


def verdict(history: Sequence[Metrics], now: Metrics, plan: Plan | None = None) -> str:
    """Return the sentence for a step; the module's docstring has the order of what is looked at."""
    steps = [*history, now]
    blocked, rise = _without_verdict(now), _rise(steps, plan)
    if blocked:
        return blocked
    collapse = _collapse(steps)
    if collapse:
        return _collapsed(collapse, rise, now, plan)
    obstacle = _obstacle(steps)
    trend = rise or _fall(steps, has_cause=obstacle is not None)
    if trend and obstacle and not obstacle.startswith("saturated"):
        return f"{trend}; {obstacle}"
    return trend or obstacle or _still(steps)


def _without_verdict(now: Metrics) -> str | None:
    """Say what failed: a function of the user's by its name and first reason, or else the verifier."""
    count = now["verifier_errors"]
    if count <= 0.05 * num_completions(now) and now["accuracy"] is not None:
        return None
    for name, found in now.get("reward_failures", {}).items():
        return (
            f"no verdict: reward {name!r} failed on {found['count']} completions (left out): {found['first']}"
        )
    return (
        f"no verdict: the verifier failed on {count} completions (left out); `zerone reward test` shows why"
    )


def _collapse(steps: Sequence[Metrics]) -> Collapse | None:
    """Return the collapse of accuracy or of the reward, or of format where few completions are correct."""
    found = collapse_of(steps, "accuracy") or collapse_of(steps, "reward_mean")
    form = collapse_of(steps, "format")
    if found or form is None:
        return found
    before = [step["accuracy"] or 0.0 for step in steps if step.get("step", 0) < form.step]
    return form if (steps[-1]["accuracy"] or 0.0) <= max(before, default=0.0) / 2 else None


def _collapsed(found: Collapse, rise: str | None, now: Metrics, plan: Plan | None) -> str:
    """Say when the level was lost, and where to begin again; a new rise comes first."""
    if found.name == "reward_mean":
        levels = f"reward {found.before:.3f} -> {found.now:.3f}"
    else:
        levels = f"{found.name} {found.before:.1%} -> {found.now:.1%}"
    fell = f"collapsed at step {found.step}: {levels}"
    if rise:
        return f"{rise}; but {fell}"
    if plan is None:
        return f"{fell}; go back to a checkpoint from before it and lower optim.learning_rate"
    kept = _checkpoint_before(found.step, int(now.get("step", 0)), plan)
    if kept is None:
        return f"{fell}; no checkpoint from before is kept, start again with a lower optim.learning_rate"
    return f"{fell}; go back to checkpoints/step_{kept:06d} (model.path) and lower optim.learning_rate"


def _checkpoint_before(step: int, now: int, plan: Plan) -> int | None:
    """Return the newest checkpoint of before a step that is still kept after step `now`."""
    saved = range(plan.checkpoint_every, now + 1, plan.checkpoint_every)
    return max(
        (saved_step for saved_step in saved[-plan.checkpoint_keep :] if saved_step < step), default=None
    )


def _rise(steps: Sequence[Metrics], plan: Plan | None) -> str | None:
    """Say what rises by more than its noise: accuracy, or only other parts of the reward."""
    accuracy, reward = trend_of(steps, "accuracy"), trend_of(steps, "reward_mean")
    form = trend_of(steps, "format")
    if accuracy is None or reward is None:
        return None
    if accuracy.is_rise:
        return _paced(accuracy, f"accuracy {_points(accuracy)}", plan)
    if form is not None and form.is_rise and not reward.is_fall:
        return _rise_of_format(steps, accuracy, reward, form, plan)
    if not reward.is_rise:
        return None
    return _rise_of_reward(steps, accuracy, reward, plan)


def _rise_of_format(
    steps: Sequence[Metrics], accuracy: Trend, reward: Trend, form: Trend, plan: Plan | None
) -> str:
    """Say that the format is learned, and what of accuracy."""
    if accuracy.is_fall or accuracy.p_rise < LIKELY:
        return _rise_of_reward(steps, accuracy, reward, plan) or ""
    level = f"{steps[-1]['accuracy']:.1%}" if _ever_correct(steps) else "0%, no completion was ever correct"
    return (
        f"learning the format only: format {_points(form)}, accuracy does not move ({level}); "
        "use easier problems or prompt.examples"
    )


def _rise_of_reward(
    steps: Sequence[Metrics], accuracy: Trend, reward: Trend, plan: Plan | None
) -> str | None:
    """Say by what the reward rises where accuracy does not surely; None if only the problems changed."""
    if accuracy.is_fall:
        return (
            f"reward without accuracy: reward {_change(reward)} while accuracy {_points(accuracy)}; "
            "`zerone reward audit` lists wins that should not be"
        )
    if accuracy.p_rise < LIKELY:
        return _paced(reward, f"reward {_change(reward)}, accuracy {_points(accuracy)} so far", plan)
    part = _rising_part(steps)
    if part is None and has_other_problems(steps[-reward.num_steps :]):
        return None
    by = f" by {part}, accuracy does not move" if part else ""
    return _paced(reward, f"reward {_change(reward)}{by}", plan)


def _paced(trend: Trend, said: str, plan: Plan | None) -> str:
    """Say that it learns, or that it does so too slowly for the steps that are planned."""
    gain = 0.0 if plan is None else trend.per_step * plan.steps
    if plan is not None and gain < _TOO_SLOW_GAIN:
        return (
            f"too slow: {said}, which makes {gain:+.3f} in rl.steps={plan.steps}; raise optim.learning_rate"
        )
    return f"learning: {said}"


def _ever_correct(steps: Sequence[Metrics]) -> bool:
    return any(step["accuracy"] for step in steps)


def _rising_part(steps: Sequence[Metrics]) -> str | None:
    """Return the part of the reward that rises most surely, beside accuracy and format."""
    names = [name for name in steps[-1].get("parts") or {} if name not in ("accuracy", "format")]
    trends = {name: trend_of(steps, f"parts.{name}") for name in names}
    sure = {name: trend.p_rise for name, trend in trends.items() if trend and trend.p_rise < LIKELY}
    return min(sure, key=lambda name: sure[name], default=None)


def _fall(steps: Sequence[Metrics], *, has_cause: bool) -> str | None:
    """Say what falls by more than its noise; without another cause the rate is the first suspect."""
    for name, label in (("accuracy", "accuracy"), ("reward_mean", "reward")):
        trend = trend_of(steps, name)
        is_own = name == "accuracy" or not has_other_problems(steps[-trend.num_steps :] if trend else [])
        if trend and trend.is_fall and is_own:
            moved = _points(trend) if name == "accuracy" else _change(trend)
            return f"getting worse: {label} {moved}" + ("" if has_cause else "; lower optim.learning_rate")
    return None


def _points(trend: Trend) -> str:
    return f"{100 * trend.change:+.1f} points in {trend.num_steps} steps"


def _change(trend: Trend) -> str:
    return f"{trend.change:+.3f} in {trend.num_steps} steps"


def _obstacle(steps: Sequence[Metrics]) -> str | None:
    """Return what is in the way, a cause before its effects."""
    now = steps[-1]
    # A critic tells the completions of one group from those of another, so PPO needs no signal within.
    is_silent = now["groups_with_signal"] < 0.1 and "value_loss" not in now
    alike = f"{1 - now['groups_with_signal']:.0%} of groups have zero variance"
    correct, wrong = now["groups_all_right"], now["groups_all_wrong"]
    recent = steps[-WINDOW:]
    # Where the user's own functions or reward models judge, correct is not what is asked for.
    by_rule = not {*(now.get("parts") or {})} - _OF_RULES
    is_hopeless = by_rule and len(recent) >= SHORTEST and not _ever_correct(recent)
    obstacles = (
        (
            (now["accuracy"] or 0.0) > _SATURATED or (is_silent and correct > 0.5),
            f"saturated: {now['accuracy'] or 0.0:.0%} correct, {correct:.0%} of groups all correct; "
            "use harder problems or rl.refill",
        ),
        (
            now["truncated"] > 0.25,
            f"truncated: {now['truncated']:.0%} of completions are truncated; raise sampling.max_tokens",
        ),
        (
            now["no_answer"] > 0.8,
            f"no answer: {now['no_answer']:.0%} of completions have no answer in the form of prompt.style; "
            "raise prompt.examples or reward.format",
        ),
        (is_silent, f"no signal: {alike}, {wrong:.0%} all incorrect; {_remedy(now, by_rule=by_rule)}"),
        (is_hopeless, f"no signal: no completion of {len(recent)} steps was correct; {_EASIER}"),
        (
            now["kl"] > 1.0,
            f"far from the reference: KL is {now['kl']:.2f} nats per token; lower optim.learning_rate",
        ),
    )
    return next((sentence for is_so, sentence in obstacles if is_so), None)


def _remedy(now: Metrics, *, by_rule: bool) -> str:
    """Say what gives groups signal: another reward where it does not tell correct from incorrect ones."""
    mixed = 1 - now["groups_all_right"] - now["groups_all_wrong"]
    if mixed - now["groups_with_signal"] > _UNTOLD:
        return (
            f"in {mixed:.0%} of groups some completions are correct and the reward is the same for all; "
            "check the functions and weights of reward"
        )
    return _EASIER if by_rule else f"check the functions and weights of reward, or {_EASIER}"


_OF_RULES = {"accuracy", "format", "language", "repetition", "overlong"}
_EASIER = "use easier problems or a larger rl.group_size"
_UNTOLD = 0.1
"""Share of groups from which on it counts that correctness changes no reward."""


def _still(steps: Sequence[Metrics]) -> str:
    """Say why a figure that does not move does not."""
    now, trend, what = steps[-1], trend_of(steps, "reward_mean"), "reward"
    signal = f"{now['groups_with_signal']:.0%} of groups have signal"
    if trend and has_other_problems(steps[-trend.num_steps :]):
        trend, what = trend_of(steps, "accuracy"), "accuracy on the kinds of problems that stayed"
    if trend is None:
        return f"warming up: {signal}; a trend needs {SHORTEST} steps"
    moved = f"{what} {trend.change:+.3f} +/- {2 * trend.error:.3f} in {trend.num_steps} steps"
    ratio = _largest_ratio(steps[-WINDOW:])
    if ratio is not None and ratio < _HARDLY_MOVED:
        return (
            f"too slow: the policy hardly changes (largest ratio {ratio:.4f}), {moved}; "
            "raise optim.learning_rate"
        )
    if now["entropy"] < 0.02 and now.get("num_trained_tokens") != 0:
        return (
            f"low entropy: {now['entropy']:.3f} nats per token leave nothing to explore, {moved}; "
            "raise loss.clip_high or lower optim.learning_rate"
        )
    chance = min(trend.p_rise, trend.p_fall)
    if chance < LIKELY:
        return f"uncertain: {moved}, which noise alone gives with p = {chance:.2g}; more steps tell"
    if trend.error > _NOISY:
        return f"noisy: {moved}; raise rl.problems_per_step, or go on to judge by more steps"
    return f"flat: {moved}, {signal}; raise optim.learning_rate or the share of groups with signal"


def _largest_ratio(steps: Sequence[Metrics]) -> float | None:
    """Return how far updates led from the policy that sampled; None where a step's one update cannot tell."""
    told = [step.get("ratio_max") if step.get("num_updates", 0) > 1 else None for step in steps]
    known = [ratio for ratio in told if ratio is not None]
    return max(known) if len(known) == len(steps) else None
