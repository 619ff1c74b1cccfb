"""A recipe of several stages becomes one `Config` per stage, all of them checked before any work.

In: a recipe file whose section `stages` maps a stage's name to what differs there from the rest of
the file, and `key=value` arguments, where `STAGE.key=value` is for one stage. Out: a `Config` for
each stage. The later wins: defaults, recipe, recipe of the stage, arguments, arguments of the stage.
A name may stand for several stages (`*_distilled`); what is said of one stage alone comes after it.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from zerone.config.reading import SEVERAL_STAGES, build_config, flat_options, read_tree, refuse_unknown
from zerone.config.tree import Config, options
from zerone.errors import ConfigError

STUDENTS = "students"
"""The section of a recipe that names the students which learn from R1 (pipeline/students.py); [] for none."""

LEFT_OUT = "leave_out"
"""The section of a recipe that names stages which are not run, and which no other stage needs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedRecipe:
    """What differs from the defaults: for all stages, and by stage; which students are distilled (None: the
    default ones), and which stages are left out.
    """

    common: Mapping[str, Any]
    stages: Mapping[str, Mapping[str, Any]]
    students: tuple[str, ...] | None = None
    left_out: tuple[str, ...] = ()


def read_staged_recipe(path: Path) -> StagedRecipe:
    """Read a YAML file; one without a section `stages` is the same for all of them."""
    tree = dict(read_tree(path))
    stages = tree.pop(SEVERAL_STAGES, None) or {}
    if not isinstance(stages, Mapping):
        raise ConfigError(f"`{SEVERAL_STAGES}` in {path} must map names of stages to options")
    students = tree.pop(STUDENTS, None)
    left_out = _names(LEFT_OUT, tree.pop(LEFT_OUT, None) or (), path)
    of_stages = {}
    for name, section in stages.items():
        if not isinstance(section, Mapping | None):
            raise ConfigError(f"`{SEVERAL_STAGES}.{name}` in {path} must be a mapping of options")
        of_stages[str(name)] = flat_options(section or {})
    return StagedRecipe(
        common=flat_options(tree),
        stages=of_stages,
        students=None if students is None else _names(STUDENTS, students, path),
        left_out=left_out,
    )


def _names(section: str, names: Any, path: Path) -> tuple[str, ...]:
    if isinstance(names, str) or not isinstance(names, Sequence):
        raise ConfigError(f"`{section}` in {path} must be a list of names")
    return tuple(map(str, names))


def build_stage_configs(
    recipe: StagedRecipe,
    names: Sequence[str],
    overrides: Iterable[str] = (),
    beneath: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Config]:
    """Return the configuration of every stage in `names`; raises ConfigError for what cannot be.

    `beneath` are options by stage that take the place of defaults: anything else wins over them.
    """
    for name in recipe.stages:
        if "*" not in name:  # a recipe may speak of kinds of stages that are not wanted this time
            _refuse_unknown_stage(name, names)
    for key in recipe.common:
        refuse_unknown(key)
    common, of_stages = _shared_out(overrides, names)
    configs = {}
    for name in names:
        flat = {**(beneath or {}).get(name, {}), **_told(recipe, name, names)}
        try:
            configs[name] = build_config(flat, [*common, *of_stages[name]])
        except ConfigError as error:
            raise ConfigError(f"stage {name}: {error}") from error
    return configs


def _told(recipe: StagedRecipe, name: str, names: Sequence[str]) -> dict[str, Any]:
    """Return what a recipe says of a stage; its own name has the last word, after patterns."""
    flat = dict(recipe.common)
    for pattern in sorted(recipe.stages, key=lambda pattern: pattern in names):
        flat |= recipe.stages[pattern] if fnmatchcase(name, pattern) else {}
    return flat


def is_given(
    section: str, recipe: StagedRecipe, name: str, names: Sequence[str], overrides: Iterable[str]
) -> bool:
    """Whether a recipe or an argument gives a stage any option of a section."""
    common, of_stages = _shared_out(overrides, names)
    arguments = (argument.removeprefix("--") for argument in (*common, *of_stages[name]))
    return any(key.startswith(f"{section}.") for key in (*_told(recipe, name, names), *arguments))


def _shared_out(overrides: Iterable[str], names: Sequence[str]) -> tuple[list[str], dict[str, list[str]]]:
    """Tell arguments for all stages from those for one."""
    common: list[str] = []
    of_stages: dict[str, list[str]] = {name: [] for name in names}
    of_kinds: dict[str, list[str]] = {name: [] for name in names}
    sections = {option.split(".")[0] for option in options()}
    for override in overrides:
        given = override.removeprefix("--")
        first, _, rest = given.removeprefix(f"{SEVERAL_STAGES}.").partition(".")
        is_marked = given.startswith(f"{SEVERAL_STAGES}.")
        key = rest.partition("=")[0]
        if named := [name for name in names if fnmatchcase(name, first)]:
            for name in named:
                # Of one stage alone counts before what is said of several.
                (of_stages if first == name else of_kinds)[name].append(rest)
        elif is_marked or (first not in sections and key in options()):
            _refuse_unknown_stage(first, names)
        else:
            if "=" in given:
                refuse_unknown(given.partition("=")[0])
            common.append(override)
    return common, {name: [*of_kinds[name], *of_stages[name]] for name in names}


def _refuse_unknown_stage(name: str, names: Sequence[str]) -> None:
    if any(fnmatchcase(known, name) for known in names):
        return
    close = difflib.get_close_matches(name, names, n=2, cutoff=0.5)
    hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
    raise ConfigError(f"no stage is named {name!r}.{hint} There are {', '.join(names)}.")


def differences(old: Mapping[str, Any], new: Mapping[str, Any], but: Sequence[str] = ()) -> list[str]:
    """Return the options in which two trees of options differ, one line each, without some."""
    before, after = flat_options(old), flat_options(new)
    return [
        f"{key}: {before.get(key, 'not there')}  (now: {after.get(key, 'not there')})"
        for key in {**before, **after}
        if key not in but
        if key not in before or key not in after or before[key] != after[key]
    ]
