"""Rows by name: a file, a directory of shards, a data set on the Hub, or a source of a user's own package.

In: what `data.path` says. Out: the rows in order, each as the bytes of one JSON value with its place, and
what is recorded of them. Problems, demonstrations and preferences are all read through here.

| name | rows |
|---|---|
| `FILE` | JSONL, a JSON list, Parquet, also gzipped (data/files.py) |
| `DIR`, `DIR#SPLIT` | the files of a directory by the order of names; those of a split, where names tell it |
| `hf:OWNER/NAME[/CONFIG][@REVISION][#SPLIT]` | one split of a data set on the Hub (data/hub.py) |
| `SCHEME:TEXT` | what the entry point SCHEME of the group `zerone.sources` returns for TEXT |
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from zerone import hub
from zerone.data.adapters import default_config
from zerone.data.files import as_json, numbered_rows
from zerone.data.hub import FORMATS, by_name, fetch_files, split_of_name
from zerone.errors import DataError
from zerone.identity import sha256_of_file, sha256_of_text

GROUP = "zerone.sources"
"""The entry points by which a package adds schemes."""

RowsOf = Callable[[str], Iterable[Mapping[str, Any]]]
"""What stands behind a scheme of a user's: what follows `SCHEME:` -> rows."""

_SCHEME = re.compile(r"(?P<scheme>[a-z][a-z0-9_-]+):(?P<rest>.*)", re.DOTALL)
_TAKEN = ("hf", "hub", "http", "https", "file")

_registered: dict[str, RowsOf] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A row: the bytes of its JSON, and where it stands; `number` counts within its file, from 1."""

    place: str
    number: int
    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What a name stands for.

    `title` is for a line that describes the data, `known_by` are names by which a data set may be recognised,
    `about` says where the rows are from, for the lineage. `lines` may be called again and again.
    """

    title: str
    lines: Callable[[], Iterator[Line]]
    sha256: Callable[[], str]
    known_by: tuple[str, ...] = ()
    about: Mapping[str, Any] = field(default_factory=dict)


def register_source(scheme: str, rows_of: RowsOf) -> None:
    """Add a scheme in this process, as an entry point of the group `zerone.sources` does in each."""
    if not re.fullmatch(r"[a-z][a-z0-9_-]+", scheme) or scheme in _TAKEN:
        raise DataError(
            f"{scheme!r} cannot name a source; take two or more small letters, other than {_TAKEN}"
        )
    _registered[scheme] = rows_of


def open_source(name: str | Path, named_by: str = "data.path", split: str = "train") -> Source:
    """Return what a name stands for; raises DataError for what is not there.

    `named_by` is what names it, for a message, and `split` the one that is taken of several.
    """
    text = str(name)
    if text.startswith(hub.PREFIX):
        return _of_hub(hub.parse(text, "dataset", DataError), split)
    path = Path(text).expanduser()
    if path.is_dir():
        return _of_directory(path, None, named_by)
    if not path.exists():
        folder, mark, wanted = text.rpartition("#")
        if mark and Path(folder).expanduser().is_dir():
            return _of_directory(Path(folder).expanduser(), wanted, named_by)
        if (match := _SCHEME.fullmatch(text)) is not None:
            return _of_scheme(match["scheme"], match["rest"], text)
        raise DataError(
            f"{path} does not exist; {named_by} must name a file of rows, as JSONL{_hub_hint(str(path))}"
        )
    return Source(
        title=path.name,
        lines=lambda: _lines_of_file(path, str(path), named_by),
        sha256=lambda: sha256_of_file(path),
        known_by=(path.name,),
        about={"path": text},
    )


# Files --------------------------------------------------------------------------------------------


def _lines_of_file(path: Path, called: str, named_by: str) -> Iterator[Line]:
    try:
        with path.open("rb") as file:
            for number, content in numbered_rows(file, called):
                yield Line(place=f"{called}:{number}", number=number, content=content)
    except OSError as error:
        raise DataError(
            f"cannot read {path}: {error.strerror or error}; {named_by} must name a file of rows, as JSONL"
        ) from error


def _hub_hint(text: str) -> str:
    is_owned = re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", text) and not Path(text).suffix
    return f"; a data set on the Hub is {hub.PREFIX}{text}" if is_owned else ""


def _lines_of_files(files: Iterable[tuple[str, Path]], named_by: str) -> Iterator[Line]:
    for called, path in files:
        yield from _lines_of_file(path, called, named_by)


def _of_directory(path: Path, split: str | None, named_by: str) -> Source:
    """Return the rows of a directory of shards; a file of unknown kind in it is refused, not passed over."""
    names = sorted(one.name for one in path.iterdir() if one.is_file() and not _is_beside(one.name))
    shards = [name for name in names if name.removesuffix(".gz").endswith(FORMATS)]
    if others := sorted(set(names) - set(shards)):
        raise DataError(
            f"{path} holds {others[0]!r} among its files, which is not read: a directory of rows holds "
            f"JSONL, JSON "
            f"and Parquet files; take it away, or name one file by {named_by}"
        )
    splits = by_name(shards)
    if not shards:
        inside = sorted(one.name for one in path.iterdir() if one.is_dir() and not one.name.startswith("."))
        hint = f"; it has the directories {', '.join(inside)}, name one" if inside else ""
        raise DataError(f"cannot read {path}: a directory without JSONL, JSON or Parquet files{hint}")
    if split is None and len({split_of_name(name) for name in shards}) > 1:
        raise DataError(
            f"{path} holds the splits {', '.join(splits)}; name one as {path}#{next(iter(splits))}"
        )
    chosen = shards if split is None else splits.get(split, [])
    if not chosen:
        raise DataError(f"{path} has no split {split!r}; there are: {', '.join(splits)}")
    return Source(
        title=path.name if split is None else f"{path.name}#{split}",
        lines=lambda: _lines_of_files(((str(path / name), path / name) for name in chosen), named_by),
        sha256=lambda: sha256_of_text("".join(f"{sha256_of_file(path / name)}  {name}\n" for name in chosen)),
        known_by=(path.resolve().name, *chosen),
        about={"path": str(path), "files": len(chosen), **({} if split is None else {"split": split})},
    )


_BESIDE = re.compile(
    r"\..*|_.*|README.*|LICEN[CS]E.*|.*\.md|.*\.card\.json|.*\.pass_rates\.jsonl"
    r"|dataset_infos?\.json|dataset_dict\.json|state\.json",
    re.IGNORECASE,
)
"""Names of files that stand beside data and tell about them."""


def _is_beside(name: str) -> bool:
    return _BESIDE.fullmatch(name) is not None


# The Hub ------------------------------------------------------------------------------------------


def _of_hub(reference: hub.Reference, split: str) -> Source:
    wanted = reference.split or split
    files = fetch_files(reference, default_config(reference.repository), wanted)
    commit = str(hub.revision_of(reference))
    shards = [(f"{hub.PREFIX}{reference.repository}/{name}", path) for name, path in files]

    def lines() -> Iterator[Line]:
        for called, path in shards:
            is_read = called.removesuffix(".gz").endswith(FORMATS)
            yield from (_lines_of_file if is_read else _converted)(path, called, "data.path")

    return Source(
        title=reference.written,
        lines=lines,
        sha256=lambda: sha256_of_text("".join(f"{sha256_of_file(path)}  {name}\n" for name, path in files)),
        known_by=(reference.repository, *(name for name, _ in files)),
        about={"path": reference.written, "revision": commit, "split": wanted},
    )


def _converted(path: Path, called: str, named_by: str) -> Iterator[Line]:
    """Yield the rows of an Arrow or CSV file with the library datasets."""
    try:
        from datasets import load_dataset
        from datasets.exceptions import DatasetsError
    except ImportError as error:
        raise DataError(
            f"{called} is neither JSON nor Parquet and needs the library datasets; install it by "
            "`pip install 'zerone[hf]'`"
        ) from error
    kind = "arrow" if called.endswith(".arrow") else "csv"
    options = {"sep": "\t"} if ".tsv" in called else {}
    try:
        rows = load_dataset(kind, data_files=[str(path)], split="train", **options)
    except (DatasetsError, OSError, ValueError) as error:
        raise DataError(f"{called} cannot be read: {error}") from error
    for number, row in enumerate(rows, start=1):
        yield Line(place=f"{called}:{number}", number=number, content=as_json(row, f"{called}:{number}"))


# Schemes of a user's package ----------------------------------------------------------------------


def _of_scheme(scheme: str, rest: str, text: str) -> Source:
    rows_of = _registered.get(scheme) or _by_entry_point(scheme, text)

    def lines() -> Iterator[Line]:
        for number, row in enumerate(_rows(rows_of, rest, text), start=1):
            place = f"{text}:{number}"
            yield Line(place=place, number=number, content=as_json(row, place))

    return Source(
        title=text,
        lines=lines,
        sha256=lambda: sha256_of_text("".join(line.content.decode() + "\n" for line in lines())),
        known_by=(text,),
        about={"path": text},
    )


_FAULTS = (
    OSError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
    ImportError,
)
"""What a source of a user's own may raise."""


def _by_entry_point(scheme: str, text: str) -> RowsOf:
    points = {point.name: point for point in entry_points(group=GROUP)}
    if scheme not in points:
        known = ", ".join(sorted({"hf", *_registered, *points}))
        raise DataError(
            f"{text} does not exist, and no source is named {scheme!r}; there are {known}. A package adds "
            f"one by an "
            f"entry point of the group {GROUP!r}"
        )
    try:
        found = points[scheme].load()
    except _FAULTS as error:
        raise DataError(
            f"the source {scheme!r} ({points[scheme].value}) cannot be loaded: {type(error).__name__}: "
            f"{error}"
        ) from error
    if not callable(found):
        raise DataError(f"the source {scheme!r} ({points[scheme].value}) must be a function of one text")
    rows_of: RowsOf = found
    return rows_of


def _rows(rows_of: RowsOf, rest: str, text: str) -> Iterator[Mapping[str, Any]]:
    try:
        for row in rows_of(rest):
            if not isinstance(row, Mapping):
                raise TypeError(f"gave {type(row).__name__} as a row, not a mapping")
            yield row
    except _FAULTS as error:
        raise DataError(f"the source of {text} failed: {type(error).__name__}: {error}") from error
