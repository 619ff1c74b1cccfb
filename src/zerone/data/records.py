"""Rows of a published data set, from CSV or any source (data/sources.py), as the suites read them.

In: a name. Out: rows that know where they stand, so that a complaint names file, line and column. Lines, JSON
and numbers are taken as in a user's own problems (data/jsonl.py).
"""

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zerone import hub
from zerone.data.files import text_of
from zerone.data.jsonl import parse_object, visible_text, with_floats, written
from zerone.data.sources import open_source
from zerone.errors import DataError

HUB = "hub:"
_LONGEST_FIELD = 1 << 30
"""Characters of a CSV field; tests of a programming problem may fill megabytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row and its place, as `file:line`.

    In `values` fractions are `Decimal`, so that `text` and `optional` give a number as it is written;
    whoever asks for a value that is no text gets a float.
    """

    place: str
    values: Mapping[str, Any]

    def has(self, *names: str) -> bool:
        """Whether the row has any of these columns."""
        return any(name in self.values for name in names)

    def get(self, *names: str) -> Any:
        """Return the first of these columns that the row has; raises DataError if it has none."""
        found = self._found(*names)
        try:
            return with_floats(found)
        except RecursionError as error:
            raise self.error(names, "is nested too deeply") from error

    def _found(self, *names: str) -> Any:
        for name in names:
            if name in self.values:
                return self.values[name]
        present = ", ".join(repr(name) for name in list(self.values)[:12]) or "none"
        wanted = " or ".join(map(repr, names))
        raise DataError(f"{self.place}: no column {wanted}; the line has {present}")

    def text(self, *names: str) -> str:
        """Return a column that must hold visible text, or a number, which is written out."""
        return visible_text(self._found(*names), lambda what: self.error(names, what))

    def optional(self, *names: str) -> str | None:
        """Return a column as text where the row has it and it is not empty."""
        value = next((self.values[name] for name in names if self.values.get(name) is not None), None)
        text = "" if value is None else str(written(value))
        return text if text.strip() else None

    def list_of(self, kind: type, *names: str) -> list[Any]:
        """Return a column that must hold a list of values of one type; JSON in a text is read."""
        value = self.json(*names)
        if not isinstance(value, list) or not all(isinstance(item, kind) for item in value):
            raise self.error(names, f"must hold a list of {kind.__name__}")
        return value

    def json(self, *names: str) -> Any:
        """Return a column whose text is JSON, or that holds a list or an object already."""
        value = self.get(*names)
        if not isinstance(value, str):
            return value
        try:
            return json.loads(value)
        except (ValueError, RecursionError) as error:
            raise self.error(names, f"is not valid JSON: {error}") from error

    def error(self, names: tuple[str, ...], what: str) -> DataError:
        """Return the complaint about a column."""
        name = next((name for name in names if name in self.values), names[0])
        return DataError(f"{self.place}: column {name!r} {what}")


def read_rows(source: str | Path) -> list[Row]:
    """Return the rows of a file or of a data set on the Hub; raises DataError for the first bad line."""
    name = _named(str(source))
    path = Path(name)
    is_csv = [suffix for suffix in path.suffixes if suffix != ".gz"][-1:] == [".csv"]
    is_here = not name.startswith(hub.PREFIX)
    rows = list(_csv_rows(path, text_of(path)) if is_csv and is_here else _json_rows(name))
    if not rows:
        raise DataError(f"{name} is empty; it needs one row per problem")
    return rows


def _json_rows(name: str) -> Iterator[Row]:
    for line in open_source(name, "--data", "test").lines():
        values = parse_object(line.content, line.place, '{"question": ..., "answer": ...}')
        yield Row(place=line.place, values=values)


def _csv_rows(path: Path, text: str) -> Iterator[Row]:
    csv.field_size_limit(_LONGEST_FIELD)
    reader = csv.DictReader(io.StringIO(text), strict=True)
    try:
        for values in reader:
            place = f"{path}:{reader.line_num}"
            if None in values or None in values.values():
                raise DataError(f"{place}: {len(reader.fieldnames or ())} columns are expected by the header")
            yield Row(place=place, values={str(key): value for key, value in values.items()})
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num}: not valid CSV: {error}") from error


_OLD_HUB_NAME = re.compile(
    r"(?P<repository>[\w.-]+/[\w.-]+)"
    r"(?:(?P<files>/[\w./*-]+\.jsonl?)|(?::(?P<config>[\w.-]*))?(?::(?P<split>[\w.\[\]:%-]+))?)"
)


def _named(source: str) -> str:
    """Return the name of a data set on the Hub, which `hub:` writes with colons, as data/hub.py has it."""
    if not source.startswith(HUB):
        return source
    match = _OLD_HUB_NAME.fullmatch(source.removeprefix(HUB))
    if match is None:
        return hub.PREFIX + source.removeprefix(HUB)
    config, split = match["config"] or "", match["split"] or ""
    part = match["files"] or (f"/{config}" if config else "")
    return f"{hub.PREFIX}{match['repository']}{part}" + (f"#{split}" if split else "")
