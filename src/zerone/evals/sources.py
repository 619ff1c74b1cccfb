"""From what a user names to the problems of a suite.

In: a suite's name, or a file; for a published suite also where its data are. Out: problems, with the
suite's protocol where it is a published one. A file is known by its name or by its columns; any other
JSONL holds problems of the user's own.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path

from zerone.config import Config
from zerone.data.jsonl import Fields, read_problems
from zerone.data.records import Row, read_rows
from zerone.errors import DataError, UserError
from zerone.evals.programs import is_mbpp_test
from zerone.evals.published import PUBLISHED, Published, problems_of
from zerone.evals.suites import SUITE_NAMES, fields_of, suite_named
from zerone.hub import PREFIX
from zerone.types import Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What to evaluate on. `published` is None for embedded suites and a user's own problems.

    `left_out` has how many problems of the data are not among them, by reason.
    """

    name: str
    problems: tuple[Problem, ...]
    published: Published | None
    is_embedded: bool = False
    left_out: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which part of a data set is wanted: the first `limit` problems, of contests between two dates.

    Dates are written YYYY-MM-DD and included (the paper's LiveCodeBench: 2024-08-01 to 2025-01-31).
    """

    since: str | None = None
    until: str | None = None
    limit: int | None = None


def load_source(config: Config, suite: str, data: str | None, choice: Choice) -> Source:
    """Return the suite that a user names; raises UserError or DataError for what cannot be used."""
    if suite in SUITE_NAMES:
        if data is not None:
            raise UserError(f"suite {suite!r} is in the package and takes no --data")
        named = suite_named(suite, 1)
        return replace(_source(named.name, named.problems, None, choice), is_embedded=True)
    if suite in PUBLISHED:
        return _source_of_rows(config, PUBLISHED[suite], _rows_of(PUBLISHED[suite], data), choice)
    path = Path(suite)
    if path.is_dir():
        raise UserError(f"--suite {suite} is a directory; name one file of problems")
    if not path.is_file():
        raise UserError(
            f"no suite is named {suite!r}, and there is no such file; there are {', '.join(SUITE_NAMES)}, "
            f"and with --data {', '.join(PUBLISHED)}"
        )
    return _source_of_file(config, path, choice)


def _source_of_file(config: Config, path: Path, choice: Choice) -> Source:
    rows = read_rows(path)
    fields = fields_of(config.data)
    published = recognise(path.name, rows[0])
    if published is not None:
        return _source_of_rows(config, published, rows, choice)
    if not _is_own(rows[0], fields):
        _refuse_incomplete(path.name, rows[0], fields)
    return _source(path.stem, read_problems(path, fields).problems, None, choice)


def _source_of_rows(config: Config, published: Published, rows: list[Row], choice: Choice) -> Source:
    """Return a published suite without what can never be judged right, which is counted."""
    chosen = _chosen(_split(published, rows), choice)
    obstacles = [published.obstacle(row) for row in chosen]
    kept = [row for row, obstacle in zip(chosen, obstacles, strict=True) if obstacle is None]
    left_out = Counter(obstacle for obstacle in obstacles if obstacle is not None)
    if left_out and not kept:
        raise UserError(f"no problem of suite {published.name!r} can be graded: {counted(left_out)}")
    source = _source(published.name, problems_of(published, kept, config.seed), published, choice)
    return replace(source, left_out=dict(left_out))


def counted(left_out: Mapping[str, int]) -> str:
    """Return how many problems are left out for which reason, in words."""
    return ", ".join(f"{number} {reason}" for reason, number in sorted(left_out.items()))


def _source(name: str, problems: Sequence[Problem], published: Published | None, choice: Choice) -> Source:
    if not problems:
        raise UserError(f"no problem of suite {name!r} is left; widen --since and --until")
    return Source(name=name, problems=tuple(problems[: choice.limit]), published=published)


def _rows_of(published: Published, data: str | None) -> list[Row]:
    if data is None:
        raise UserError(
            f"suite {published.name!r} needs its data: --data FILE (as published), or --data hub, which "
            f"downloads {published.repository} (extra `hf`)"
        )
    return read_rows(f"{PREFIX}{published.hub}" if data == "hub" else data)


def _split(published: Published, rows: list[Row]) -> list[Row]:
    """Return the rows of the test split, where one file holds all splits."""
    if published.name == "mbpp" and any(is_mbpp_test(row) for row in rows):
        return [row for row in rows if is_mbpp_test(row)]
    return rows


def _chosen(rows: Sequence[Row], choice: Choice) -> list[Row]:
    if choice.since is None and choice.until is None:
        return list(rows)
    first, last = (_date(text, option) for text, option in ((choice.since, "since"), (choice.until, "until")))
    return [row for row in rows if (first or date.min) <= _date_of(row) <= (last or date.max)]


def _date(text: str | None, option: str) -> date | None:
    try:
        return None if text is None else date.fromisoformat(text)
    except ValueError as error:
        raise UserError(f"--{option} {text!r} is not a date; write YYYY-MM-DD") from error


def _date_of(row: Row) -> date:
    text = row.text("contest_date")
    try:
        return date.fromisoformat(text[:10])
    except ValueError as error:
        raise row.error(
            ("contest_date",), f"must begin with a date as YYYY-MM-DD, not {text[:30]!r}"
        ) from error


_FILE_NAMES = {
    "aime24": "aime[_-]?(20)?24",
    "aime25": "aime[_-]?(20)?25",
    "math500": "math[_-]?500",
    "gsm8k": "gsm[_-]?8k",
    "gpqa": "gpqa",
    "mmlu_pro": "mmlu[_-]?pro",
    "mmlu": "mmlu",
    "livecodebench": "livecodebench|lcb",
    "codeforces": "codeforces",
    "humaneval": "human[_-]?eval",
    "mbpp": "mbpp",
    "ifeval": "if[_-]?eval",
    "alpaca_eval": "alpaca",
    "arena_hard": "arena",
}

_KNOWN_BY_COLUMNS = tuple(name for name in _FILE_NAMES if name not in ("aime24", "aime25", "gsm8k"))
"""The others have columns that anybody's problems might have."""


def recognise(file_name: str, row: Row) -> Published | None:
    """Return the published suite that a file holds, or None for problems of the user's own."""
    for name, pattern in _FILE_NAMES.items():
        if re.search(pattern, file_name, re.IGNORECASE) and PUBLISHED[name].fits(row):
            return PUBLISHED[name]
    return next((PUBLISHED[name] for name in _KNOWN_BY_COLUMNS if PUBLISHED[name].fits(row)), None)


_ANYBODYS = frozenset(("question", "Question", "problem", "answer", "Answer", "prompt", "task_id"))
"""Columns that say nothing of what a file is."""


def _is_own(row: Row, fields: Fields) -> bool:
    """Whether a line has what a problem of the user's own needs: a question, and what judges it."""
    return row.has(fields.prompt) and (fields.verifier == "code" or row.has(fields.answer, "verifier"))


def _refuse_incomplete(file_name: str, row: Row, fields: Fields) -> None:
    """Raise DataError for a file of a published suite that lacks a column of it."""
    found = _suite_lacking(file_name, row)
    if found is None:
        return
    lacks = ", ".join(" or ".join(map(repr, names)) for names in found.columns if not row.has(*names))
    raise DataError(
        f"{row.place}: no column {lacks}, which the suite {found.name} has; the line has "
        f"{', '.join(map(repr, row.values)) or 'none'}. Problems of your own have {fields.prompt!r} and "
        f"{fields.answer!r}, or what data.prompt_field and data.answer_field name"
    )


def _suite_lacking(file_name: str, row: Row) -> Published | None:
    """Return the suite of a file's name, or the one that has all its columns but one, unless anybody has."""
    for name, pattern in _FILE_NAMES.items():
        if re.search(pattern, file_name, re.IGNORECASE):
            return PUBLISHED[name]
    for published in PUBLISHED.values():
        present = [names for names in published.columns if row.has(*names)]
        if len(present) == len(published.columns) - 1 and not {n for p in present for n in p} <= _ANYBODYS:
            return published
    return None
