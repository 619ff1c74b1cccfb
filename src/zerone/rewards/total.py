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
from zerone.rewards.user import Asked, RewardFailure, UserReward, ask
from zerone.rewards.verifiers import FAILURES, answer_for, verifier_named
from zerone.types import Finish, Graded, Outcome, Rollout

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
class NamedReward:
    """A function of the user's among several, with its weight; it is recorded under its name."""

    weight: float
    function: UserReward


def _ignore(failure: RewardFailure) -> None:
    """Nobody is told of a failure, but that its completion counts as not judged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardRules:
    """What the parts are measured by.

    `max_tokens` and `overlong_buffer` are tokens (the buffer is needed where overlong has a weight);
    `detector` tells languages of Latin letters apart; `user` is a function of the user's own, `functions`
    are more of them by name, `failed` is told of each of their failures, and `step` (counted from 1) is the
    run's as they see it. `preferences` are reward models by what they judge: requests of their kind are not
    judged by a rule.
    """

    style: Style = Style.TAGS
    max_tokens: int = 0
    overlong_buffer: int = 0
    detector: Detector | None = None
    user: UserReward | None = None
    functions: Mapping[str, NamedReward] = field(default_factory=dict)
    failed: Callable[[RewardFailure], None] = _ignore
    step: int = 0
    preferences: Mapping[str, Preference] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Own:
    """What the functions of the user's said of a completion; one that failed leaves it without a verdict."""

    parts: Mapping[str, float]
    has_failed: bool


def grade(
    rollout: Rollout,
    weights: RewardWeights,
    opened: str = "",
    rules: RewardRules | None = None,
    preferred: Mapping[str, float] | None = None,
    known: dict[str | None, Verdict] | None = None,
    own: Own | None = None,
) -> Graded:
    """Judge one rollout; `opened` is what the prompt already wrote of the completion.

    `preferred` is what reward models said of it, `own` what the user's functions said, `known` the
    verdicts on other answers to the same problem, to which this one is added (see `grade_all`).
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
    own = own or _own_parts([rollout], weights, opened, rules)[0]
    verdict = NO_VERDICT if own.has_failed else verdict
    parts |= {**own.parts, **(preferred or {})}
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
    told = preferences_of(rollouts, opened, models)
    return tuple(
        _without_verdict(grade(rollout, weights, opened, rules, None, known, own))
        if preferred is None
        else grade(rollout, weights, opened, rules, preferred, known, own)
        for rollout, preferred, own in zip(
            rollouts, told, _own_parts(rollouts, weights, opened, rules), strict=True
        )
    )


def _own_parts(
    rollouts: Sequence[Rollout], weights: RewardWeights, opened: str, rules: RewardRules
) -> list[Own]:
    """Ask each of the user's functions about the rollouts of a group; None leaves a part out of one sum."""
    functions = {name: named.function for name, named in rules.functions.items() if named.weight}
    if weights.user and rules.user is not None:
        functions = {"user": rules.user, **functions}
    if not functions or not rollouts:
        return [Own(parts={}, has_failed=False) for _ in rollouts]
    asked = [_asked(rollout, opened + rollout.text, rules) for rollout in rollouts]
    problem = rollouts[0].problem
    told = {name: ask(name, function, asked, problem, rules.step) for name, function in functions.items()}
    for values in told.values():
        for failure in (value for value in values if isinstance(value, RewardFailure)):
            rules.failed(failure)
    return [
        Own(
            parts={name: value for name, value in of_one.items() if isinstance(value, float)},
            has_failed=any(isinstance(value, RewardFailure) for value in of_one.values()),
        )
        for of_one in (dict(zip(told, values, strict=True)) for values in zip(*told.values(), strict=True))
    ]


def _asked(rollout: Rollout, text: str, rules: RewardRules) -> Asked:
    return Asked(
        completion=text,
        answer=parse_completion(text, style_for(rollout.problem, rules.style)).answer,
        num_tokens=len(rollout.completion_ids),
        completion_ids=rollout.completion_ids,
        is_truncated=rollout.finish is Finish.LENGTH,
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
    if name in rules.functions:
        return rules.functions[name].weight
    if name == "accuracy" and kind_of(rollout.problem) in rules.preferences:
        return 0.0
    return float(getattr(weights, name))


def _language(rollout: Rollout, text: str, parsed: Parsed, rules: RewardRules) -> float:
    return language_share(reasoning_of(text), rollout.problem.language, rules.detector)


def _repetition(rollout: Rollout, text: str, parsed: Parsed, rules: RewardRules) -> float:
    return repetition_punishment(text)


def _overlong(rollout: Rollout, text: str, parsed: Parsed, rules: RewardRules) -> float:
    return overlong_punishment(len(rollout.completion_ids), rules.max_tokens, rules.overlong_buffer)


_OPTIONAL: dict[str, Callable[[Rollout, str, Parsed, RewardRules], float]] = {
    "language": _language,
    "repetition": _repetition,
    "overlong": _overlong,
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
