"""Users' own problems: one JSON object per line, with a question and its answer.

In: rows by name (data/sources.py), the names of their fields, and where needed an expression that finds the
answer in its field; published data sets need neither (data/adapters.py). Out: problems that are judged as
exact numbers where the answer is one, as mathematics where it is LaTeX, as a choice where choices are given
or listed in the question, as exact text elsewhere. Rows of verl (a chat as prompt, the answer in
`reward_model`) and tests of programs as data sets have them (data/code_tests.py) are read too.
Every complaint names the file and the line. How lines, JSON and numbers are taken here is how they are
taken in the rows of published data sets (data/records.py) and of `zerone reward score` too.
"""

import difflib
import hashlib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol, TypeVar

from zerone.data.adapters import PROBLEMS, Adapter, adapted, adapter_for
from zerone.data.choices import LETTERS, choice_prompt, listed_choice
from zerone.data.code_tests import code_spec, question_with_code
from zerone.data.numerals import plain_number
from zerone.data.sources import Line, open_source
from zerone.errors import DataError
from zerone.seeding import seed_from
from zerone.types import Problem

FAMILY = "jsonl"

NAMED_VERIFIERS = ("number", "exact", "choice", "math", "code")
"""What a line's own field `verifier` may say; anything else in it is ignored."""

_JUDGE = "judge"
"""A line may also say that no rule can judge it; a model must then."""

_COUNTDOWN, _COUNTDOWN_SPEC = "countdown", ("numbers", "target")
"""A line may have numbers and a target in place of an answer."""

_LONGEST_NUMBER = 40
"""Digits; the verifier of numbers reads no more than that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fields:
    """Where question and answer stand in a line, and which verifier judges (`auto`: by the answer)."""

    prompt: str = "prompt"
    answer: str = "answer"
    answer_pattern: str | None = None
    choices: str = "choices"
    verifier: str = "auto"

    @property
    def are_given(self) -> bool:
        """Whether the user names a field; then no data set's own columns are looked for."""
        return (self.prompt, self.answer, self.answer_pattern, self.choices) != (
            "prompt",
            "answer",
            None,
            "choices",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ProblemFile:
    """The problems of a file; of those with equal prompts only the first is kept, the rest counted.

    `places` holds where each problem stands, as FILE:LINE, `read_as` the data set whose columns were found.
    """

    problems: tuple[Problem, ...]
    places: tuple[str, ...]
    num_duplicates: int
    num_unreadable: int = 0
    read_as: str | None = None


def read_problems(path: str | Path, fields: Fields, *, skip: bool = False) -> ProblemFile:
    """Read the problems of a source; blank lines are skipped, and with `skip` JSON that holds no problem.

    Raises DataError, before anything else is done with the data, for the first thing that is wrong.
    """
    problems: dict[str, tuple[str, Problem]] = {}
    num_read, unreadable = 0, list[DataError]()
    read_as: str | None = None
    for line, problem, adapter in _problem_lines(path, fields):
        if isinstance(problem, _NoProblem) and skip:
            unreadable.append(problem)
            continue
        if isinstance(problem, DataError):
            raise problem
        problems.setdefault(problem.id, (line.place, problem))
        num_read += 1
        read_as = None if adapter is None else adapter.title
    if unreadable and not problems:
        raise unreadable[0]
    if not problems:
        raise DataError(
            f"{path} is empty; it needs one JSON object per line with a prompt and its ground truth"
        )
    return ProblemFile(
        problems=tuple(problem for _, problem in problems.values()),
        places=tuple(place for place, _ in problems.values()),
        num_duplicates=num_read - len(problems),
        num_unreadable=len(unreadable),
        read_as=read_as,
    )


def read_lines(path: str | Path, fields: Fields) -> Iterator[tuple[Line, Problem | DataError]]:
    """Yield each line that is not blank, and its problem or what is wrong with it.

    Raises DataError where the source or the pattern cannot be used at all.
    """
    return ((line, problem) for line, problem, _ in _problem_lines(path, fields))


def _problem_lines(
    path: str | Path, fields: Fields
) -> Iterator[tuple[Line, Problem | DataError, Adapter | None]]:
    """Yield what `read_lines` does, and whose columns the rows are read by; the first row decides that."""
    if Path(path).suffix == ".csv" or ".csv" in Path(path).suffixes[-2:]:
        raise DataError(
            f"{path}: problems of your own are read from JSONL (one object per line), a JSON list or "
            "Parquet, not CSV"
        )
    pattern = None if fields.answer_pattern is None else _compile(fields.answer_pattern)
    source = open_source(path)
    adapter, is_first = None, True
    for line in source.lines():
        try:
            record = parse_object(line.content, line.place)
            if is_first and not fields.are_given:
                adapter = adapter_for(PROBLEMS, source.known_by, record)
            is_first = False
        except DataError as error:
            yield line, error, adapter
            continue
        try:
            read = adapted(adapter, record, line.place)
            yield line, _problem(read, record, fields, pattern, line.place), adapter
        except DataError as error:
            yield line, _NoProblem(*error.args), adapter


class _NoProblem(DataError):
    """A line of JSON without a problem in it, which may be left out."""


def _compile(answer_pattern: str) -> re.Pattern[str]:
    try:
        pattern = re.compile(answer_pattern)
    except re.error as error:
        raise DataError(
            f"data.answer_pattern={answer_pattern!r} is not a regular expression: {error}"
        ) from error
    if pattern.groups == 0:
        raise DataError(
            f"data.answer_pattern={answer_pattern!r} has no group; put parentheses around the "
            "ground truth, as in '#### (.+)$'"
        )
    return pattern


def objects_of(path: str | Path, named_by: str, example: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield place and JSON object of each line that is not blank, of a source that holds no problems.

    Raises DataError with the line; also for half of a surrogate pair, which no tokenizer and no file takes.
    """
    for line in open_source(path, named_by).lines():
        place = line.place
        record = parse_object(line.content, place, example)
        try:
            record = with_floats(record)
            json.dumps(record, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError as error:
            raise DataError(f"{place}: holds half of a surrogate pair, which is not a character") from error
        except RecursionError as error:
            raise DataError(f"{place}: is nested too deeply") from error
        yield place, record


def parse_json(text: str) -> Any:
    """Return what a JSON text says, its fractions as `Decimal`; raises ValueError kinds.

    Decimal keeps a number as it is written: 0.1 must not become its nearest binary fraction.
    """
    return json.loads(text, parse_float=_decimal, parse_constant=_refuse_constant)


def _decimal(number: str) -> Decimal:
    try:
        return Decimal(number)
    except InvalidOperation as error:
        raise ValueError(f"the exponent of {number[:40]} is out of all bounds") from error


def parse_object(
    line: bytes, place: str, example: str = '{"prompt": ..., "answer": ...}'
) -> Mapping[str, Any]:
    """Return the JSON object of a line; `place` and `example` are for the complaint."""
    try:
        record = parse_json(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise DataError(
            f"{place}: not UTF-8 (byte {error.start + 1} of the line); convert the file to UTF-8"
        ) from error
    except json.JSONDecodeError as error:
        raise DataError(
            f"{place}: not valid JSON: {error.msg} at character {error.pos + 1}; "
            "each line must be a JSON object of its own"
        ) from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place}: not usable JSON: {error}") from error
    if not isinstance(record, dict):
        raise DataError(f"{place}: a JSON object is needed, as in {example}")
    return record


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON value")


_NOTHING = object()


def _value_of(record: Mapping[str, Any], field: str) -> Any:
    """Return a field, or one inside of objects that is named with dots; `_NOTHING` where there is none."""
    if field in record:
        return record[field]
    value: Any = record
    for name in field.split("."):
        value = value.get(name, _NOTHING) if isinstance(value, Mapping) else _NOTHING
    return value


def _question_of(record: Mapping[str, Any], fields: Fields, place: str) -> str:
    """Return the question: text, or the one question of a chat, behind what its system message says."""
    value = _value_of(record, fields.prompt)
    if not isinstance(value, list) or not all(isinstance(one, Mapping) for one in value):
        return _text_of(record, fields.prompt, "data.prompt_field", place).strip()
    texts = [
        _said(message, f"{place}: message {number} of field {fields.prompt!r}")
        for number, message in enumerate(value, start=1)
    ]
    roles = [message["role"] for message in value]
    if roles.count("user") != 1 or roles[-1] != "user":
        raise DataError(
            f"{place}: field {fields.prompt!r} must end with the one question of the user; it has "
            f"{len(value)} messages: {', '.join(map(str, roles)) or 'none'}"
        )
    return "\n\n".join(texts)


def _said(message: Mapping[str, Any], where: str) -> str:
    """Return what a message of a prompt says; its text may be written in parts."""
    role, content = message.get("role"), message.get("content")
    if role not in ("system", "developer", "user"):
        raise DataError(
            f"{where} must be a system's or the user's, not {_shown(role)}; a problem has one question "
            "and no answer in its prompt"
        )
    if isinstance(content, list):
        texts = [part.get("text") if isinstance(part, Mapping) else part for part in content]
        if not all(isinstance(text, str) for text in texts):
            raise DataError(f"{where} has a part that is not text; problems are text alone")
        content = "".join(map(str, texts))
    return visible_text(content, lambda what: DataError(f"{where} {what}")).strip()


def _shown(value: Any) -> str:
    return json.dumps(value, default=str)[:40]


_GROUND_TRUTHS = ("reward_model.ground_truth", "verification_info.ground_truth", "ground_truth")
"""Where rows of verl and of PrimeIntellect have the answer, if there is none in its own field."""


def _answer_of(record: Mapping[str, Any], fields: Fields, place: str) -> str:
    """Return the gold answer, which may stand in a ground truth where the field itself is missing."""
    if _value_of(record, fields.answer) is _NOTHING:
        given = {**record, "verification_info": _object(record.get("verification_info"))}
        for name in _GROUND_TRUTHS:
            value = _value_of(given, name)
            if value is not _NOTHING and value is not None:
                one = value[0] if isinstance(value, list) and len(value) == 1 else value
                return _text_of({name: one}, name, "data.answer_field", place)
    return _text_of(record, fields.answer, "data.answer_field", place)


def _object(value: Any) -> Any:
    """Return a value, or what it says where it is the text of a JSON object."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            return parse_json(value)
        except (ValueError, RecursionError):
            return value
    return value


def _text_of(record: Mapping[str, Any], field: str, option: str, place: str) -> str:
    """Return a field as text; numbers are written out, anything else but text is refused."""
    value = _value_of(record, field)
    if value is _NOTHING:
        present = ", ".join(map(repr, record)) or "no fields"
        near = nearest_field(field, record)
        raise DataError(
            f"{place}: no field {field!r}; the line has {present}; choose one by {option}={near or 'NAME'}"
        )
    return visible_text(value, lambda what: DataError(f"{place}: field {field!r} {what}"))


_MEANT = {
    "prompt": ("question", "problem", "instruction", "query", "input", "text"),
    "answer": (
        "final_answer",
        "expected_answer",
        "ground_truth",
        "gold",
        "target",
        "solution",
        "label",
        "output",
    ),
}
"""A field -> what others call it, the likeliest first."""


def nearest_field(field: str, record: Mapping[str, Any]) -> str | None:
    """Return the field of a row that is most like a missing one, by its letters or by its meaning."""
    close = difflib.get_close_matches(field, map(str, record), n=1, cutoff=0.7)
    return next(iter(close), next((name for name in _MEANT.get(field, ()) if name in record), None))


def written(value: Any) -> Any:
    """Return a number as the text that it is in its file, and anything else as it is.

    A float comes from a table that is no text (the Hub's); it is written as shortly as it can be.
    """
    if isinstance(value, float) and math.isfinite(value):
        value = Decimal(repr(value))
    if isinstance(value, Decimal):
        # Written out only where that is short: 1e999999999 in a file must not fill the memory.
        return f"{value:f}" if abs(value.adjusted()) < _LONGEST_NUMBER else str(value)
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def with_floats(value: Any) -> Any:
    """Return a value of `parse_json` as `json.loads` gives it by itself, for what is no answer."""
    match value:
        case Decimal():
            return float(value)
        case list():
            return [with_floats(inner) for inner in value]
        case dict():
            return {key: with_floats(inner) for key, inner in value.items()}
        case _:
            return value


def visible_text(value: Any, complaint: Callable[[str], DataError]) -> str:
    """Return a text or a written number; raises `complaint(what is wrong)` for anything else."""
    text = written(value)
    if not isinstance(text, str):
        raise complaint(f"must hold text or a number, not {_shown(text)}")
    if not text.strip():
        raise complaint("is empty")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise complaint("holds half of a surrogate pair, which is not a character") from error
    return text


def _find_answer(pattern: re.Pattern[str], text: str, place: str) -> str:
    match = pattern.search(text)
    answer = match and match[1]
    if answer is None:
        raise DataError(
            f"{place}: data.answer_pattern={pattern.pattern!r} does not match the answer ...{text[-60:]!r}"
        )
    if not answer.strip():
        raise DataError(f"{place}: data.answer_pattern={pattern.pattern!r} finds an empty answer")
    return answer


_LATEX = re.compile(r"\\[A-Za-z{}$%,!]|\^|\$[^$]+\$")
# Digits or signs between short names (2k+2, (3,4], y = -2x); not a word, a date, a score or a version.
_FORMULA = re.compile(
    r"(?!\d+(?:[-/.]\d+)+$)(?=.*[\d+*/=<>-])(?!.*[A-Za-z]{3})[\w\s.,+*/=()\[\]{}<>|;!'-]{1,200}", re.ASCII
)


def _problem(
    record: Mapping[str, Any],
    published: Mapping[str, Any],
    fields: Fields,
    pattern: re.Pattern[str] | None,
    place: str,
) -> Problem:
    """Return the problem of a row; `published` is the row as it stands in its file."""
    prompt = _question_of(record, fields, place)
    language = _language(record, prompt)
    verifier = _verifier_of(record, fields)
    row: dict[str, Any] = json.loads(json.dumps(published, default=float))
    tests = _tests_of(row, fields, verifier, place)
    if verifier == "choice":
        spec = _choice_spec(record, fields, place)
        prompt = choice_prompt(prompt, spec["choices"], language)
    elif tests is not None:
        verifier, spec = "code", tests
        prompt = question_with_code(row, prompt, tests.get("entry", ""))
    elif verifier == _COUNTDOWN:
        spec = {name: with_floats(record[name]) for name in _COUNTDOWN_SPEC}
    elif verifier in ("code", _JUDGE):
        spec = {key: value for key, value in row.items() if key not in (fields.prompt, "verifier")}
    else:
        answer = _answer_of(record, fields, place)
        answer = (answer if pattern is None else _find_answer(pattern, answer, place)).strip()
        listed = listed_choice(prompt, answer) if verifier == "auto" else None
        verifier, spec = _answer_spec(answer, verifier) if listed is None else ("choice", listed)
    return Problem(
        id=f"{FAMILY}-{hashlib.blake2b(prompt.encode(), digest_size=12).hexdigest()}",
        family=FAMILY,
        level=1,
        language=language,
        prompt=prompt,
        verifier=verifier,
        spec=spec,
        row=row,
    )


def _tests_of(row: Mapping[str, Any], fields: Fields, verifier: str, place: str) -> dict[str, Any] | None:
    """Return the tests of a program in a data set's form, where a line has such and not an answer instead."""
    if verifier not in ("auto", "code") or (verifier == "auto" and fields.answer in row):
        return None
    try:
        return code_spec(row)
    except ValueError as error:
        raise DataError(f"{place}: {error}") from error


def _language(record: Mapping[str, Any], prompt: str) -> str:
    """Return the language that a line names by its two letters, or that its question is written in."""
    named = record.get("language")
    if isinstance(named, str) and re.fullmatch("[a-z]{2}", named):
        return named
    return "zh" if re.search("[\u4e00-\u9fff]", prompt) else "en"


def _verifier_of(record: Mapping[str, Any], fields: Fields) -> str:
    """Return the verifier that was asked for, that the line names, or that its fields call for."""
    named = record.get("verifier")
    if fields.verifier != "auto":
        return fields.verifier
    if isinstance(named, str) and named in (*NAMED_VERIFIERS, _JUDGE):
        return named
    if named == _COUNTDOWN and all(name in record for name in _COUNTDOWN_SPEC):
        return _COUNTDOWN
    return "choice" if fields.choices in record else "auto"


def _answer_spec(answer: str, verifier: str) -> tuple[str, dict[str, Any]]:
    """Return the verifier of an answer and what it needs; a number is handed on cleaned."""
    number = plain_number(answer)
    if verifier == "auto":
        is_formula = _LATEX.search(answer) or _FORMULA.fullmatch(answer)
        verifier = "number" if number is not None else "math" if is_formula else "exact"
    return verifier, {"answer": number if verifier == "number" and number is not None else answer}


def _choice_spec(record: Mapping[str, Any], fields: Fields, place: str) -> dict[str, Any]:
    """Return choices and answer of a choice question; a position counts from 0, as in MMLU."""
    choices = record.get(fields.choices)
    if not isinstance(choices, list) or not 2 <= len(choices) <= len(LETTERS):
        raise DataError(
            f"{place}: field {fields.choices!r} must hold a list of 2 to {len(LETTERS)} choices; choose "
            "another field by data.choices_field=NAME"
        )
    texts = [_text_of({"choice": choice}, "choice", "data.choices_field", place) for choice in choices]
    answer = record.get(fields.answer)
    if isinstance(answer, bool) or not isinstance(answer, int):
        answer = _text_of(record, fields.answer, "data.answer_field", place).strip()
    return {"choices": texts, "answer": answer}


class _Identified(Protocol):
    @property
    def id(self) -> str: ...


Example = TypeVar("Example", bound=_Identified)
"""A problem or a demonstration."""


def _position(problem: _Identified) -> Fraction:
    """Return a number in [0, 1) that depends on the problem's id alone."""
    return Fraction(seed_from("jsonl-split", problem.id), 2**63)


def split_problems(
    problems: Sequence[Example], eval_share: float
) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """Return (train, eval) problems.

    Each problem's side follows from its own id, so it stays when the file is reordered or grows.
    Raises DataError when a side would be empty.
    """
    held_out = tuple(problem for problem in problems if _position(problem) < eval_share)
    trained = tuple(problem for problem in problems if _position(problem) >= eval_share)
    if not held_out or not trained:
        empty = "evaluation" if not held_out else "training"
        raise DataError(
            f"data.eval_share={eval_share} of {len(problems)} problems leaves none for {empty}; "
            f"{_advice(problems, eval_share)}"
        )
    return trained, held_out


def _advice(problems: Sequence[_Identified], eval_share: float) -> str:
    """Say which share nearest to the wanted one leaves neither side empty, if any does."""
    positions = [_position(problem) for problem in problems]
    percents = [percent for percent in range(1, 100) if min(positions) < percent / 100 <= max(positions)]
    if not percents:
        return "add problems (each goes to the side that its hash names)"
    nearest = min(percents, key=lambda percent: abs(percent / 100 - eval_share))
    return f"add problems, or set data.eval_share={nearest / 100}"
