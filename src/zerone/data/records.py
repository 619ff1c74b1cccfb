"""Rows of a published data set, from JSONL, a JSON list, Parquet, CSV (each also gzipped) or the Hub.

In: a file, or `hub:OWNER/NAME` with the extra `hf`. Out: rows that know where they stand, so that a
complaint names file, line and column. Nothing is fetched unless the user writes `hub:`. Lines, JSON and
numbers are taken as in a user's own problems (data/jsonl.py).
"""

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from zerone.data.files import text_of
from zerone.data.jsonl import lines_of, parse_object, visible_text, with_floats, written
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
    if str(source).startswith(HUB):
        return _hub_rows(str(source).removeprefix(HUB))
    path = Path(source)
    is_csv = [suffix for suffix in path.suffixes if suffix != ".gz"][-1:] == [".csv"]
    rows = list(_csv_rows(path, text_of(path)) if is_csv else _json_rows(path))
    if not rows:
        raise DataError(f"{path} is empty; it needs one row per problem")
    return rows


def _json_rows(path: Path) -> Iterator[Row]:
    for number, line in lines_of(path, "--data"):
        place = f"{path}:{number}"
        yield Row(place=place, values=parse_object(line, place, '{"question": ..., "answer": ...}'))


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


_HUB_NAME = re.compile(
    r"(?P<repository>[\w.-]+/[\w.-]+)"
    r"(?:/(?P<files>[\w./*-]+\.jsonl?)|(?::(?P<config>[\w.-]*))?(?::(?P<split>[\w.\[\]:%-]+))?)"
)


def hub_arguments(name: str) -> dict[str, str | None]:
    """Return what `load_dataset` is given for `OWNER/NAME[:CONFIG[:SPLIT]]` or `OWNER/NAME/FILES.jsonl`.

    Files are named where a repository holds a program for loading, which the library runs no more.
    """
    match = _HUB_NAME.fullmatch(name)
    if match is None:
        raise DataError(
            f"{HUB}{name} is not a data set; write {HUB}OWNER/NAME[:CONFIG[:SPLIT]], or {HUB}OWNER/NAME/FILES "
            "with files that end in .json or .jsonl"
        )
    repository, files = match["repository"], match["files"]
    if files is not None:
        return {"path": "json", "data_files": f"hf://datasets/{repository}/{files}", "split": "train"}
    return {"path": repository, "name": match["config"] or None, "split": match["split"] or "test"}


def _hub_rows(name: str) -> list[Row]:
    """Read a data set of the Hub with the library datasets."""
    arguments = hub_arguments(name)
    try:
        from datasets import load_dataset
        from datasets.exceptions import DatasetsError
    except ImportError as error:
        raise DataError(
            f"{HUB}{name} needs the library datasets; install it by `pip install 'zerone[hf]'`, or give "
            "a local file"
        ) from error
    try:
        loaded = load_dataset(**arguments)
    except (DatasetsError, OSError, ValueError, RuntimeError) as error:
        raise DataError(f"{HUB}{name} cannot be loaded: {error}") from error
    return [
        Row(place=f"{HUB}{name}:{number}", values={key: _dated(value) for key, value in values.items()})
        for number, values in enumerate(loaded, start=1)
    ]


def _dated(value: Any) -> Any:
    """Write a date out again, which the library makes of a text that looks like one."""
    return value.isoformat() if isinstance(value, date) else value
