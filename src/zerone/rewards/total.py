"""The reward of a rollout: its parts, each recorded, and their weighted sum.

In: a `Rollout`. Out: a `Graded`. R1-Zero's reward is accuracy plus format (R1 paper, 2.2.2), both
0 or 1 before weighting; R1 adds language consistency (2.3.2). Punishments are parts below 0. A
verifier that fails is counted, shown, and its sample left out of training; it is never a wrong
answer. General requests may be judged by reward models in place of a rule (preference.py).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

from zerone.prompts.r1 import Parsed, Style, parse_completion, reasoning_of, style_for
from zerone.rewards.accuracy import NO_VERDICT, UNPARSABLE, Verdict, verdict_of
from zerone.rewards.language import Detector, language_share
from zerone.rewards.preference import KINDS, Preference, kind_of, preferences_of
from zerone.rewards.shape import overlong_punishment, repetition_punishment
from zerone.rewards.user import UserReward, user_reward
from zerone.rewards.verifiers import FAILURES, answer_for, verifier_named
from zerone.types import Graded, Outcome, Rollout

_GOOD = 2 / 3
"""A preference reward that counts as right where no rule says what is: 7 of 10 points."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardWeights:
    """How much each part counts; an optional part with weight 0 is neither computed nor recorded."""

    accuracy: float = 1.0
    format: float = 0.1
    language: float = 0.0
    repetition: float = 0.0
    overlong: float = 0.0
    user: float = 0.0
    preference: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardRules:
    """What the parts are measured by.

    `max_tokens` and `overlong_buffer` are tokens (the buffer is needed where overlong has a weight);
    `detector` tells languages of Latin letters apart; `user` is a function of the user's own.
    `preferences` are reward models by what they judge: requests of their kind are not judged by a rule.
    """

    style: Style = Style.TAGS
    max_tokens: int = 0
    overlong_buffer: int = 0
    detector: Detector | None = None
    user: UserReward | None = None
    preferences: Mapping[str, Preference] = field(default_factory=dict)


def grade(
    rollout: Rollout,
    weights: RewardWeights,
    opened: str = "",
    rules: RewardRules | None = None,
    preferred: Mapping[str, float] | None = None,
    known: dict[str | None, Verdict] | None = None,
) -> Graded:
    """Judge one rollout; `opened` is what the prompt already wrote of the completion.

    `preferred` is what reward models said of it, `known` the verdicts on other answers to the same
    problem, to which this one is added (see `grade_all`).
    """
    rules = rules or RewardRules()
    text = opened + rollout.text
    style = style_for(rollout.problem, rules.style)
    parsed = parse_completion(text, style)
    answer, known = _answer(parsed, text, rollout, style), {} if known is None else known
    if answer not in known:
        known[answer] = _verify(answer, rollout)
    verdict = known[answer]
    if preferred and verdict is NO_VERDICT:
        verdict = _preferred_verdict(parsed.answer or "", preferred)
    parts = {
        "accuracy": float(verdict.outcome is Outcome.CORRECT),
        "format": float(parsed.is_well_formed),
    }
    try:
        for name, measure in _OPTIONAL.items():
            if getattr(weights, name):
                parts[name] = measure(rollout, text, parsed, rules)
    except FAILURES:
        verdict = NO_VERDICT
    parts |= preferred or {}
    return Graded(
        rollout=rollout,
        outcome=verdict.outcome,
        parts=parts,
        reward=sum(_weight(name, rollout, weights, rules) * value for name, value in parts.items()),
        answer=verdict.canonical,
    )


def grade_all(
    rollouts: Sequence[Rollout],
    weights: RewardWeights,
    opened: str = "",
    rules: RewardRules | None = None,
) -> tuple[Graded, ...]:
    """Judge the rollouts of a group, those of a general request by its reward model at once.

    They answer one problem, so the same answer is verified once: late in training most programs are.
    """
    rules = rules or RewardRules()
    models = rules.preferences if weights.preference else {}
    known: dict[str | None, Verdict] = {}
    return tuple(
        _without_verdict(grade(rollout, weights, opened, rules, known=known))
        if preferred is None
        else grade(rollout, weights, opened, rules, preferred, known)
        for rollout, preferred in zip(rollouts, preferences_of(rollouts, opened, models), strict=True)
    )


def _preferred_verdict(answer: str, preferred: Mapping[str, float]) -> Verdict:
    """Return the verdict on a request that has no rule (a user's own): what its model finds good is right."""
    return verdict_of(min(preferred.values()) >= _GOOD, answer)


def _without_verdict(graded: Graded) -> Graded:
    return replace(graded, outcome=NO_VERDICT.outcome, answer=NO_VERDICT.canonical)


def _weight(name: str, rollout: Rollout, weights: RewardWeights, rules: RewardRules) -> float:
    """Return what a part counts: a rule's verdict nothing where a reward model judges in its place."""
    if name in KINDS:
        return weights.preference
    if name == "accuracy" and kind_of(rollout.problem) in rules.preferences:
        return 0.0
    return float(getattr(weights, name))


def _language(rollout: Rollout, text: str, parsed: Parsed, rules: RewardRules) -> float:
    return language_share(reasoning_of(text), rollout.problem.language, rules.detector)


def _repetition(rollout: Rollout, text: str, parsed: Parsed, rules: RewardRules) -> float:
    return repetition_punishment(text)


def _overlong(rollout: Rollout, text: str, parsed: Parsed, rules: RewardRules) -> float:
    return overlong_punishment(len(rollout.completion_ids), rules.max_tokens, rules.overlong_buffer)


def _user(rollout: Rollout, text: str, parsed: Parsed, rules: RewardRules) -> float:
    if rules.user is None:
        raise ValueError("a weight for the user's reward, and no function")
    return user_reward(rules.user, text, parsed.answer, rollout.problem)


_OPTIONAL: dict[str, Callable[[Rollout, str, Parsed, RewardRules], float]] = {
    "language": _language,
    "repetition": _repetition,
    "overlong": _overlong,
    "user": _user,
}
PARTS = tuple(each.name for each in fields(RewardWeights) if each.name != "preference")
"""Every part that a reward may have, in the order of recording; KINDS follow where models judge."""


def _answer(parsed: Parsed, text: str, rollout: Rollout, style: Style) -> str | None:
    """Return what the verifier judges; a box's surroundings matter to mathematics."""
    if style is Style.BOXED and rollout.problem.verifier == "math":
        return answer_for("math", text)
    return parsed.answer


def _verify(answer: str | None, rollout: Rollout) -> Verdict:
    if answer is None:
        return UNPARSABLE
    problem = rollout.problem
    try:
        return verifier_named(problem.verifier)(answer, problem.spec)
    except FAILURES:
        # The border between untrusted output and the loop: a verifier's failure is an outcome.
        return NO_VERDICT
