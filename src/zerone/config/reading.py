"""Defaults, a recipe and the command line become one `Config`, and a `Config` becomes YAML.

A recipe (YAML in recipes/) sets what differs from the defaults, `key=value` on the command line
sets what differs from the recipe. Unknown keys are refused with a suggestion.
"""

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from zerone.config.presets import PRESETS
from zerone.config.sections import PARTS, named_entries
from zerone.config.tree import Config, options
from zerone.errors import ConfigError, FileError
from zerone.files import parse_yaml, read_yaml, write_yaml

SEVERAL_STAGES = "stages"
"""The section of a recipe that holds what differs from stage to stage (staged.py)."""


REFERENCES = (
    *("model.path", "lora.path", "data.path", "data.pass_rates"),
    *("reward.helpfulness_model", "reward.safety_model"),
)
"""Options that name what a run is made from; a run keeps them relative to its directory where it can."""

_NAMED = {
    "reward.functions": ("function", PARTS, ("weight",)),
    "data.mixture": (
        "path",
        (),
        ("weight", "prompt_field", "answer_field", "answer_pattern", "choices_field", "verifier"),
    ),
}
"""The options that hold mappings, whose entries may be given one by one -> what an entry is by itself, the
names that are taken, and what else an entry may say."""
_ENTRY = re.compile(
    "|".join(
        rf"{re.escape(option)}\.[^.]+(?:\.(?:{'|'.join((leaf, *others))}))?"
        for option, (leaf, _, others) in _NAMED.items()
    )
)


def _entry_of(key: str) -> tuple[str, str, str | None]:
    """Return the option, the name and what is said of it."""
    section, option, name, *leaf = key.split(".")
    return f"{section}.{option}", name, leaf[0] if leaf else None


def _with_entries(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Put `reward.functions.NAME=...` and `reward.functions.NAME.weight=...` into `reward.functions`."""
    entries = [key for key in flat if _ENTRY.fullmatch(key)]
    found = {key: value for key, value in flat.items() if key not in entries}
    for option in dict.fromkeys(_entry_of(key)[0] for key in entries):
        main, taken, _ = _NAMED[option]
        try:
            named = named_entries(found.get(option, {}), main, taken)
            for key in entries:
                of, name, leaf = _entry_of(key)
                if of != option:
                    continue
                known = named.get(name)
                inner = dict(known) if isinstance(known, Mapping) else {}
                if leaf is None and isinstance(flat[key], str):
                    leaf = main
                named[name] = flat[key] if leaf is None else {**inner, leaf: flat[key]}
            found[option] = named_entries(named, main, taken)
        except ValueError as error:
            raise ConfigError(f"{option}: {error}") from error
    return found


def _is_text(key: str) -> bool:
    """Whether an option, or an entry of one, holds free text that is taken as it is typed."""
    if not _ENTRY.fullmatch(key):
        return key in _text_options()
    return _entry_of(key)[0] == "data.mixture" and _entry_of(key)[2] not in (None, "weight")


def _text_options(section: type[BaseModel] = Config, prefix: str = "") -> set[str]:
    """Return the options that hold free text."""
    found: set[str] = set()
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found |= _text_options(field.annotation, f"{prefix}{name}.")
        elif field.annotation in (str, str | None):
            found.add(prefix + name)
    return found


def _default_of(key: str) -> Any:
    value: Any = Config()
    for part in key.split("."):
        value = getattr(value, part)
    return value


def refuse_unknown(key: str) -> None:
    """Raise ConfigError, with a suggestion, unless `key` is an option."""
    known = options()
    if key in known or _ENTRY.fullmatch(key):
        return
    inside = [option for option in known if option.startswith(f"{key}.")]
    if inside:
        raise ConfigError(f"{key!r} is a section, not an option; did you mean {inside[0]!r}?")
    leaf = key.rsplit(".", 1)[-1]
    by_leaf = [option for option in known if option.rsplit(".", 1)[-1] == leaf]
    close = by_leaf or difflib.get_close_matches(key, known, n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
    raise ConfigError(f"unknown option {key!r}.{hint} `zerone config show` lists all of them.")


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and name not in options():
            flat |= _flatten(value, f"{name}.")
        else:
            flat[name] = value
    return flat


def _nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for key, value in flat.items():
        *sections, leaf = key.split(".")
        node = tree
        for section in sections:
            node = node.setdefault(section, {})
        node[leaf] = value
    return tree


def parse_overrides(overrides: Iterable[str]) -> dict[str, Any]:
    """Read `a.b=value` arguments; values are YAML, except for text options, which are taken as typed.

    A regular expression may hold what YAML would read as a comment or a list.
    """
    flat: dict[str, Any] = {}
    for override in overrides:
        key, equals, value = override.removeprefix("--").partition("=")
        if not equals:
            raise ConfigError(f"{override!r} is not an override; write key=value, as in rl.steps=20")
        if _is_text(key):
            flat[key] = None if value == "null" else value
            continue
        try:
            flat[key] = parse_yaml(value)
        except ValueError as error:
            raise ConfigError(f"the value of {override!r} is not valid YAML") from error
        if isinstance(flat[key], str):
            flat[key] = _number_or_text(flat[key])
    return flat


def repeated(overrides: Iterable[str]) -> list[str]:
    """Return a line for each option that is given another value later: the last one counts."""
    values: dict[str, str] = {}
    lines = []
    for override in overrides:
        key, equals, value = override.removeprefix("--").partition("=")
        if equals and values.get(key, value) != value:
            lines.append(f"{key}={values[key]} is replaced by {key}={value}, which is given later")
        values[key] = value
    return lines


def _number_or_text(text: str) -> float | str:
    """YAML 1.1 reads 1e-3 as text; nobody who types it means text."""
    try:
        return float(text)
    except ValueError:
        return text


def read_recipe(path: Path) -> dict[str, Any]:
    """Read a YAML file into flat dotted keys."""
    tree = read_tree(path)
    if SEVERAL_STAGES in tree:
        raise ConfigError(f"{path} is a recipe of several stages; run it by `zerone r1`")
    flat = flat_options(tree)
    is_of_run = (path.parent / "environment.json").is_file()
    return _resolved(flat, path.parent) if is_of_run else flat


def _resolved(flat: Mapping[str, Any], directory: Path) -> dict[str, Any]:
    """Return a run's options with what is named relative to its directory as it is found now."""
    return {
        key: resolve_reference(value, directory) if key in REFERENCES and isinstance(value, str) else value
        for key, value in flat.items()
    }


def resolve_reference(value: str, directory: Path) -> str:
    """Return where the thing is that a run keeps under `value`."""
    if value.startswith(("./", "../")) and (there := directory / value).exists():
        return str(there.resolve())
    return value


def with_references(config: Config, directory: Path, root: Path) -> Config:
    """Return a configuration as a run in `directory` keeps it: what lies in `root` is named relative to it.

    What a user named relative to the working directory, and would read like that, is written out.
    """
    flat = flat_options(config.model_dump())
    for key in REFERENCES:
        if not isinstance(value := flat[key], str):
            continue
        path = Path(value)
        if path.is_absolute() and path.is_relative_to(root):
            relative = os.path.relpath(path, directory)
            flat[key] = relative if relative.startswith("../") else f"./{relative}"
        elif value.startswith(("./", "../")):
            flat[key] = str(path.absolute())
    return Config.model_validate(_nest(flat))


def read_tree(path: Path) -> Mapping[str, Any]:
    """Read a YAML file of sections."""
    try:
        tree = read_yaml(path)
    except FileError as error:
        raise ConfigError(str(error)) from error
    if not isinstance(tree, Mapping):
        raise ConfigError(f"{path} must hold a mapping of sections, not {type(tree).__name__}")
    return tree


def read_run_options(path: Path) -> Mapping[str, Any]:
    """Return the sections that a run has saved, which may be of an older version, with other options.

    Raises FileError where a section or an option that is known holds what it cannot.
    """
    try:
        tree = read_tree(path)
        sections = {key.split(".")[0] for key in options() if "." in key}
        for key in sections & tree.keys():
            if not isinstance(tree[key], Mapping):
                raise ConfigError(f"{path}: {key} must be a section of options, not {tree[key]!r:.40}")
        known = {key: value for key, value in flat_options(tree).items() if key in options()}
        _refuse_kinds(known, path)
    except ConfigError as error:
        raise FileError(f"{error}; the file is damaged") from error
    return tree


def _refuse_kinds(flat: Mapping[str, Any], path: Path) -> None:
    """Raise ConfigError for a value of the wrong kind; what goes together is the run's own affair."""
    try:
        Config.model_validate(_nest(flat))
    except ValidationError as error:
        for problem in error.errors():
            if problem["loc"]:
                raise ConfigError(f"{path}: {_explain(problem)}") from error


def flat_options(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return a tree of options as flat dotted keys."""
    return {
        key: _number_or_text(value) if isinstance(value, str) and key not in _text_options() else value
        for key, value in _flatten(tree).items()
    }


def _preset_of(flat: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what the preset stands for that is named here; it yields to what is named beside it."""
    return PRESETS.get(str(flat.get("rl.preset", "none")), {})


def build_config(recipe: Mapping[str, Any], overrides: Iterable[str] = ()) -> Config:
    """Put defaults, recipe and overrides together; raise ConfigError for what cannot be."""
    given = parse_overrides(overrides)
    flat = _with_entries({**_preset_of(recipe), **recipe, **_preset_of(given), **given})
    for key, value in flat.items():
        refuse_unknown(key)
        # pydantic would take true for 1; the one option that is a switch says so in its default.
        if isinstance(value, bool) and not isinstance(_default_of(key), bool):
            raise ConfigError(f"{key}={value}: expected a value, got a switch ({options()[key]})")
    try:
        return Config.model_validate(_nest(flat))
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(problem) for problem in error.errors())) from error


def _explain(problem: Any) -> str:
    key = ".".join(map(str, problem["loc"]))
    message = str(problem["msg"]).removeprefix("Value error, ")
    if not key:
        return message
    return f"{key}={problem['input']!r}: {message} ({options().get(key, '')})"


def to_yaml(config: Config, *, with_descriptions: bool = False) -> str:
    """Write the resolved tree; with descriptions each option is explained on its line."""
    # One line per option, however long, as its description goes behind it.
    plain = write_yaml(config.model_dump())
    if not with_descriptions:
        return plain
    described, path = [], list[str]()
    for line in plain.splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        path = [*path[:depth], line.strip().split(":")[0]]
        description = options().get(".".join(path))
        described.append(f"{line:<34}  # {description}" if description else line)
    return "\n".join(described) + "\n"
