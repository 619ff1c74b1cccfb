"""Users' own problems: one JSON object per line, with a question and its answer.

In: a file, the names of its two fields, and where needed an expression that finds the answer in
its field (GSM8K: `#### (.+)$`). Out: problems that are judged as exact numbers where the answer
is one and as exact text elsewhere. Every complaint names the file and the line.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

from zerone.errors import DataError
from zerone.problems.numerals import plain_number
from zerone.seeding import seed_from
from zerone.types import Problem

FAMILY = "jsonl"

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_LONGEST_NUMBER = 40
"""Digits; the verifier of numbers reads no more than that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProblemFile:
    """The problems of a file; of those with equal prompts only the first is kept, the rest counted."""

    problems: tuple[Problem, ...]
    num_duplicates: int


def read_problems(
    path: Path, prompt_field: str, answer_field: str, answer_pattern: str | None
) -> ProblemFile:
    """Read a JSONL file of problems; blank lines are skipped.

    Raises DataError, before anything else is done with the data, for the first thing that is wrong.
    """
    pattern = None if answer_pattern is None else _compile(answer_pattern)
    problems: dict[str, Problem] = {}
    num_read = 0
    for place, record in _records(path):
        prompt = _text_of(record, prompt_field, "data.prompt_field", place)
        answer = _text_of(record, answer_field, "data.answer_field", place)
        if pattern is not None:
            answer = _find_answer(pattern, answer, place)
        problem = _problem(prompt, answer)
        problems.setdefault(problem.id, problem)
        num_read += 1
    if not problems:
        raise DataError(f"{path} is empty; it needs one JSON object per line with a question and its answer")
    return ProblemFile(problems=tuple(problems.values()), num_duplicates=num_read - len(problems))


def _compile(answer_pattern: str) -> re.Pattern[str]:
    try:
        pattern = re.compile(answer_pattern)
    except re.error as error:
        raise DataError(
            f"data.answer_pattern={answer_pattern!r} is not a regular expression: {error}"
        ) from error
    if pattern.groups == 0:
        raise DataError(
            f"data.answer_pattern={answer_pattern!r} has no group; put parentheses around what is the "
            "answer, as in '#### (.+)$'"
        )
    return pattern


def _records(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield ("file:line", object) for each line that is not blank."""
    try:
        with path.open("rb") as file:
            # Split as bytes: text mode would also end lines at characters that JSON strings may hold.
            for number, line in enumerate(file, start=1):
                content = line.removeprefix(_BYTE_ORDER_MARK) if number == 1 else line
                if content.strip():
                    place = f"{path}:{number}"
                    yield place, _parse(content, place)
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist; data.path must name a JSONL file") from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}; data.path must name a JSONL file") from error


def _parse(line: bytes, place: str) -> Mapping[str, Any]:
    try:
        # Decimal keeps a number as it is written: 0.1 must not become its nearest binary fraction.
        record = json.loads(line.decode("utf-8"), parse_float=Decimal, parse_constant=_refuse_constant)
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
        raise DataError(f'{place}: a JSON object is needed, as in {{"prompt": ..., "answer": ...}}')
    return record


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON value")


def _text_of(record: Mapping[str, Any], field: str, option: str, place: str) -> str:
    """Return a field as text; numbers are written out, anything else but text is refused."""
    if field not in record:
        present = ", ".join(map(repr, record)) or "no fields"
        raise DataError(f"{place}: no field {field!r}; the line has {present}; choose one by {option}=NAME")
    value = record[field]
    if isinstance(value, Decimal):
        # Written out only where that is short: 1e999999999 in a file must not fill the memory.
        value = f"{value:f}" if abs(value.adjusted()) < _LONGEST_NUMBER else str(value)
    elif isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise DataError(
            f"{place}: field {field!r} must hold text or a number, not {json.dumps(value, default=str)[:40]}"
        )
    if not value.strip():
        raise DataError(f"{place}: field {field!r} is empty")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(
            f"{place}: field {field!r} holds half of a surrogate pair, which is no character"
        ) from error
    return value


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


def _problem(prompt: str, answer: str) -> Problem:
    prompt, answer = prompt.strip(), answer.strip()
    number = plain_number(answer)
    return Problem(
        id=f"{FAMILY}-{hashlib.blake2b(prompt.encode(), digest_size=12).hexdigest()}",
        family=FAMILY,
        level=1,
        language="zh" if re.search("[\u4e00-\u9fff]", prompt) else "en",
        prompt=prompt,
        verifier="exact" if number is None else "number",
        spec={"answer": answer if number is None else number},
    )


def _position(problem: Problem) -> Fraction:
    """Return a number in [0, 1) that depends on the problem's id alone."""
    return Fraction(seed_from("jsonl-split", problem.id), 2**63)


def split_problems(
    problems: Sequence[Problem], eval_share: float
) -> tuple[tuple[Problem, ...], tuple[Problem, ...]]:
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


def _advice(problems: Sequence[Problem], eval_share: float) -> str:
    """Say which share nearest to the wanted one leaves neither side empty, if any does."""
    positions = [_position(problem) for problem in problems]
    percents = [percent for percent in range(1, 100) if min(positions) < percent / 100 <= max(positions)]
    if not percents:
        return "add problems (each goes to the side that its hash names)"
    nearest = min(percents, key=lambda percent: abs(percent / 100 - eval_share))
    return f"add problems, or set data.eval_share={nearest / 100}"
