"""A data set on the Hugging Face Hub becomes files: those of one split of one configuration, nothing else.

In: `hf:OWNER/NAME[/CONFIG][@REVISION][#SPLIT]`, or files in place of the configuration. Out: the paths of
these files in the cache of huggingface_hub, at one commit. Which files make a split, the YAML at the top of
the repository's README.md says, or else their names (`train-00000-of-00002.parquet`, `data/test.jsonl`), by
the rules of the library `datasets`. No program of a repository is fetched or run.
"""

import fnmatch
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from zerone import hub
from zerone.errors import DataError

FORMATS = (".jsonl", ".json", ".ndjson", ".parquet")
"""Endings of files that are read here; others are read by the library `datasets`."""

CONVERTED = (".arrow", ".csv", ".tsv")

_CARD = "README.md"
_KEYWORDS: Mapping[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "dev", "val"),
    "test": ("test", "testing", "eval", "evaluation"),
}
"""A split -> the words in a file's path that tell it."""

_IS_FILE = re.compile(r"[*?]|\.(?:jsonl?|ndjson|parquet|arrow|csv|tsv)(?:\.gz)?$")

Splits = dict[str, list[str]]


def fetch_files(reference: hub.Reference, config: str | None, split: str) -> list[tuple[str, Path]]:
    """Return name and path of each file of a split, fetched unless they are in the cache; raises DataError.

    `config` is taken where the reference names none, of several of which none is the default.
    """
    return hub.once(("files", reference, config, split), lambda: _fetch_files(reference, config, split))


def _fetch_files(reference: hub.Reference, config: str | None, split: str) -> list[tuple[str, Path]]:
    directory = hub.fetch(reference, [_CARD], DataError)
    files = [name for name in hub.files_of(reference, directory, DataError) if is_data(name)]
    are_named = reference.part is not None and _IS_FILE.search(reference.part) is not None
    if are_named:
        splits = {split: _matching(files, [str(reference.part)])}
    else:
        splits = _splits_of(reference, config, _card(directory), files)
    names = splits.get(split, [])
    if not names:
        raise DataError(_no_split(reference, split, {name: found for name, found in splits.items() if found}))
    if not are_named:
        _check_whole(reference, names)
    return [(name, hub.fetch_file(reference, name, DataError)) for name in names]


def _check_whole(reference: hub.Reference, names: Sequence[str]) -> None:
    """Raise DataError where shards are missing, as in a cache that was filled by half."""
    wanted = {int(match[1]) for name in names if (match := re.search(r"-\d{5}-of-(\d{5})\b", name))}
    if len(wanted) == 1 and len(names) < (number := wanted.pop()):
        raise DataError(
            f"{reference.called} is not whole: {len(names)} of {number} files are there ({names[0]}, ...); "
            "fetch them with network (HF_HUB_OFFLINE=0)"
        )


def is_data(name: str) -> bool:
    """Whether a file of a repository holds rows, by its ending."""
    return name.removesuffix(".gz").endswith((*FORMATS, *CONVERTED)) and Path(name).name not in _ABOUT


_ABOUT = frozenset(("dataset_infos.json", "dataset_info.json", "dataset_dict.json", "state.json"))
"""Files that tell about a data set, written by older versions of `datasets`."""


def _no_split(reference: hub.Reference, split: str, splits: Splits) -> str:
    where = reference.called
    if reference.part is not None and _IS_FILE.search(reference.part):
        return f"{where} has no file {reference.part!r} of rows"
    if not splits:
        return (
            f"{where} has no files of rows that can be read (JSON, JSONL, Parquet, Arrow, CSV); a program in "
            f"it, if "
            "there is one, is never run. Look for a copy with Parquet files, or try @refs/convert/parquet"
        )
    listed = ", ".join(splits)
    example = f"{_base(reference)}#{next(iter(splits))}"
    return f"{where} has no split {split!r}; there are: {listed}. Name one as {example}"


def _base(reference: hub.Reference) -> str:
    return reference.written.partition("#")[0]


# Configurations and splits ------------------------------------------------------------------------


def _card(directory: Path) -> Mapping[str, Any]:
    """Return the YAML at the top of README.md; nothing where there is none that can be read."""
    try:
        text = (directory / _CARD).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    match = re.match(r"\ufeff?\s*---[ \t]*\r?\n(.*?)^---", text, re.DOTALL | re.MULTILINE)
    try:
        found = yaml.safe_load(match[1]) if match else None
    except (yaml.YAMLError, RecursionError):
        return {}
    return found if isinstance(found, Mapping) else {}


def _splits_of(
    reference: hub.Reference, config: str | None, card: Mapping[str, Any], files: Sequence[str]
) -> Splits:
    """Return the files of each split of the configuration that is meant."""
    configs = _configs(card)
    if not configs:
        return _splits_in_folder(reference, files)
    name = _chosen(reference, config, configs)
    given = configs[name]
    folder = str(given.get("data_dir") or "").strip("/")
    inside = [file for file in files if not folder or file.startswith(f"{folder}/")]
    patterns = _patterns(given.get("data_files"))
    if patterns is None:
        return by_name(inside)
    prefix = f"{folder}/" if folder else ""
    return {
        split: _matching(inside, [prefix + pattern for pattern in wanted])
        for split, wanted in patterns.items()
    }


def _configs(card: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    given = card.get("configs")
    items = given if isinstance(given, list) else []
    return {str(one.get("config_name", "default")): one for one in items if isinstance(one, Mapping)}


def _chosen(reference: hub.Reference, config: str | None, configs: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the configuration: the one named, the only one, or the default of the data set."""
    if reference.part is not None:
        if reference.part in configs:
            return reference.part
        raise DataError(
            f"{reference.called} has no configuration {reference.part!r}; there are: {', '.join(configs)}"
        )
    marked = [name for name, given in configs.items() if given.get("default") is True]
    likely: list[str | None] = [*marked, "default", config, *(configs if len(configs) == 1 else ())]
    for name in likely:
        if name is not None and name in configs:
            return name
    first = next(iter(configs))
    raise DataError(
        f"{reference.called} has several configurations: {', '.join(configs)}; name one as "
        f"{hub.PREFIX}{reference.repository}/{first}"
    )


def _patterns(given: Any) -> dict[str, list[str]] | None:
    """Return the patterns of each split as a README's `data_files` has them, in any of its forms."""
    if isinstance(given, Mapping):
        return {str(split): _texts(paths) for split, paths in given.items()}
    if isinstance(given, list) and any(isinstance(one, Mapping) for one in given):
        found: dict[str, list[str]] = {}
        for one in given:
            if isinstance(one, Mapping):
                found.setdefault(str(one.get("split", "train")), []).extend(_texts(one.get("path")))
        return found
    return {"train": texts} if (texts := _texts(given)) else None


def _texts(given: Any) -> list[str]:
    items = given if isinstance(given, list) else [given]
    return [str(one).removeprefix("./") for one in items if isinstance(one, str)]


def _splits_in_folder(reference: hub.Reference, files: Sequence[str]) -> Splits:
    """Return the splits of a repository whose README says nothing; a part is then a folder."""
    if reference.part is None:
        top = [file for file in files if "/" not in file or file.startswith("data/")]
        return by_name(top or files)
    folder = f"{reference.part.strip('/')}/"
    inside = [file for file in files if file.startswith(folder)]
    if not inside:
        folders = sorted({file.partition("/")[0] for file in files if "/" in file})
        raise DataError(
            f"{reference.called} has no configuration or folder {reference.part!r}"
            + (f"; there are the folders {', '.join(folders)}" if folders else "; it has no folders of data")
        )
    return by_name(inside, folder)


def by_name(files: Sequence[str], below: str = "") -> Splits:
    """Return files sorted into splits by the words in their names; `train` is all where no word tells."""
    found: Splits = {}
    for file in sorted(files):
        split = split_of_name(file.removeprefix(below))
        if split is not None:
            found.setdefault(split, []).append(file)
    return found or ({"train": sorted(files)} if files else {})


def split_of_name(path: str) -> str | None:
    """Return the split that a file's path tells by a word of its own, the last one that does, or None."""
    for part in reversed(path.lower().split("/")):
        if (match := _SHARD.match(part)) is not None:
            return _canonical(match[1]) or match[1]
        for word in re.split(r"[-._ 0-9]+", part):
            if (split := _canonical(word)) is not None:
                return split
    return None


_SHARD = re.compile(r"(\w+)-\d{5}-of-\d{5}\b")


def _canonical(word: str) -> str | None:
    return next((split for split, words in _KEYWORDS.items() if word in words), None)


def _matching(files: Sequence[str], patterns: Sequence[str]) -> list[str]:
    """Return the files that a glob names; `**/` stands for any folders or none, a folder for all in it."""
    found = []
    for file in sorted(files):
        for pattern in patterns:
            plain = pattern.replace("**/", "")
            if (
                fnmatch.fnmatchcase(file, pattern)
                or fnmatch.fnmatchcase(file, plain)
                or ("**/" in pattern and fnmatch.fnmatchcase(file, pattern.replace("**/", "*/")))
            ):
                found.append(file)
                break
    return found
