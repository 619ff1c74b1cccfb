"""Scores one completion by one verifier: what `zerone reward score` and `zerone reward test` print.

In: a row `{"id", "verifier", "answer", "completion", the verifier's own options}`. Out: a row
`{"id", "outcome", "reward", "parts"}`; docs/rewards.md is the contract. A row that cannot be judged is
an infrastructure error with reward null and a reason, and stops no other row.
"""

from collections.abc import Callable, Mapping
from typing import Any

from zerone.data.code_tests import code_spec
from zerone.data.jsonl import with_floats, written
from zerone.prompts.r1 import THINK_OPEN, Style, last_answer, parse_completion, reasoning_of
from zerone.rewards.language import language_code, language_share, lingua_detector
from zerone.rewards.shape import overlong_punishment, repetition_punishment
from zerone.rewards.user import Asked, RewardFailure, ask, load_user_reward
from zerone.rewards.verifiers import FAILURES, NAMES, answer_for, verifier_named
from zerone.types import Outcome, Problem

Row = Mapping[str, Any]

_DEFAULT_THRESHOLD = 0.5
_OF_THE_ROW = frozenset(("id", "verifier", "completion"))


def score_row(row: Row, functions: frozenset[str] = frozenset()) -> dict[str, Any]:
    """Return the scored row; never raises for what a row may hold.

    A row may name only those functions of the user's that `functions` lists: rows are data, and data
    must not choose what code runs. An answer may be a `Decimal`, as `problems.jsonl.parse_json` gives it.
    """
    identity = None
    try:
        row = {key: value if key == "answer" else with_floats(value) for key, value in row.items()}
        identity = row.get("id")
        outcome, reward, parts, extra = _score(row, functions)
    except KeyError as error:
        return failed_row(identity, f"field {error} is missing, or has none of the values that it may have")
    except FAILURES as error:
        return failed_row(identity, str(error) or type(error).__name__)
    is_judged = outcome is not Outcome.INFRASTRUCTURE_ERROR
    scored = {"id": identity, "outcome": outcome.value, "reward": reward if is_judged else None}
    return scored | {"parts": parts if is_judged else {}} | extra


def failed_row(identity: object, reason: str) -> dict[str, Any]:
    """Return the row of what could not be judged."""
    outcome = Outcome.INFRASTRUCTURE_ERROR.value
    return {"id": identity, "outcome": outcome, "reward": None, "parts": {}, "error": reason[:500]}


_Scored = tuple[Outcome, float | None, dict[str, float], dict[str, Any]]


def _score(row: Row, functions: frozenset[str]) -> _Scored:
    completion, name = row.get("completion"), row.get("verifier")
    if not isinstance(completion, str):
        raise ValueError(f"field 'completion' must hold text, not {type(completion).__name__}")
    if not isinstance(name, str):
        raise ValueError("field 'verifier' must name a verifier")
    if row.get("open_thought"):
        completion = THINK_OPEN + completion
    if name in _MEASURES:
        return _MEASURES[name](completion, row)
    if name in functions:
        return _score_user(name, completion, row)
    if name not in NAMES:
        known = ", ".join([*NAMES, *_MEASURES])
        raise LookupError(
            f"no verifier is named {name!r}; there are {known}, and functions that --function names"
        )
    return _score_answer(name, completion, row)


def _score_answer(name: str, completion: str, row: Row) -> _Scored:
    spec = _spec(row)
    answer = answer_for(name, completion, spec)
    if answer is None:
        return Outcome.UNPARSABLE, 0.0, {"accuracy": 0.0}, {"extracted": None}
    verdict = verifier_named(name)(answer, spec)
    accuracy = float(verdict.outcome is Outcome.CORRECT)
    return verdict.outcome, accuracy, {"accuracy": accuracy}, {"extracted": answer[:1000]}


def _spec(row: Row) -> dict[str, Any]:
    """Return what the verifier needs; a number as answer is taken as it is written."""
    spec = {key: value for key, value in row.items() if key not in _OF_THE_ROW}
    if row["verifier"] == "code" and (tests := code_spec(spec)) is not None:
        return tests
    if "answer" in spec:
        is_place = row["verifier"] == "choice"
        spec["answer"] = with_floats(spec["answer"] if is_place else written(spec["answer"]))
    return spec


def _score_format(completion: str, row: Row) -> _Scored:
    is_fine = parse_completion(completion, Style(row.get("style", Style.TAGS))).is_well_formed
    return _measured(Outcome.CORRECT if is_fine else Outcome.WRONG, "format", float(is_fine))


def _score_language(completion: str, row: Row) -> _Scored:
    language = row.get("language") or row.get("answer")
    if not isinstance(language, str):
        raise ValueError("field 'language' must name a language, as in en or zh")
    language, among = language_code(language), row.get("latin_languages")  # before a detector is loaded
    if among and not (isinstance(among, list | tuple) and all(isinstance(name, str) for name in among)):
        raise ValueError(f"field 'latin_languages' must be a list of languages, not {among!r}")
    share = language_share(
        reasoning_of(completion), language, lingua_detector(tuple(among)) if among else None
    )
    is_enough = share >= float(row.get("threshold", _DEFAULT_THRESHOLD))
    return _measured(Outcome.CORRECT if is_enough else Outcome.WRONG, "language", share)


def _score_repetition(completion: str, row: Row) -> _Scored:
    value = repetition_punishment(completion)
    return _measured(Outcome.WRONG if value <= -_DEFAULT_THRESHOLD else Outcome.CORRECT, "repetition", value)


def _score_overlong(completion: str, row: Row) -> _Scored:
    tokens, limit, buffer = (int(row[name]) for name in ("num_tokens", "max_tokens", "buffer"))
    value = overlong_punishment(tokens, limit, buffer)
    return _measured(Outcome.WRONG if value < 0 else Outcome.CORRECT, "overlong", value)


def _score_user(name: str, completion: str, row: Row) -> _Scored:
    problem = Problem(
        id=str(row.get("id")),
        family=str(row.get("family", "")),
        level=int(row.get("level", 1)),
        language=str(row.get("language", "en")),
        prompt=str(row.get("prompt", "")),
        verifier=name,
        spec=_spec(row),
        row=with_floats(dict(row)),
    )
    asked = Asked(
        completion=completion,
        answer=last_answer(completion),
        num_tokens=int(row.get("num_tokens", 0)),
        is_truncated=bool(row.get("truncated", False)),
    )
    (value,) = ask("user", load_user_reward(name), [asked], problem, int(row.get("step", 0)))
    if isinstance(value, RewardFailure):
        raise ValueError(value.reason)
    if value is None:
        return Outcome.UNPARSABLE, None, {}, {}
    return _measured(Outcome.CORRECT if value > 0 else Outcome.WRONG, "user", value)


def _measured(outcome: Outcome, part: str, value: float) -> _Scored:
    return outcome, value, {part: value}, {}


_MEASURES: Mapping[str, Callable[[str, Row], _Scored]] = {
    "format": _score_format,
    "language": _score_language,
    "repetition": _score_repetition,
    "overlong": _score_overlong,
}
