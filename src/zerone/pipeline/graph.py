"""What a stage of a pipeline declares: what it needs, what it makes, what it costs.

In: nothing; the registry (r1.py) writes these down. Out: a checked `Graph`. A stage is a function
that can go on where it was, in a directory of its own; everything else about it (when it runs, when
it need not, its lineage) follows from what is declared here.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from zerone.config import Config
from zerone.errors import ConfigError
from zerone.identity import sha256_of_path
from zerone.runs.lineage import Lineage, Node


class StageDisplay(Protocol):
    """What shows a stage while it runs."""

    def say(self, text: str) -> None:
        """Show a line."""
        ...

    def progress(self, share: float, note: str) -> None:
        """Show which share of the stage is done, and what it last did."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class StageInputs:
    """What a stage is given: its configuration, and the outputs of earlier stages by role."""

    config: Config
    paths: Mapping[str, Path]


PATHS = {
    "model": ("model", "path"),
    "data": ("data", "path"),
    "helpfulness": ("reward", "helpfulness_model"),
    "safety": ("reward", "safety_model"),
}
"""Role of an input -> section and option that hold its path."""


def with_inputs(inputs: StageInputs) -> Config:
    """Return the configuration with the inputs that have one of these roles as its paths."""
    config = inputs.config
    for role, (section, option) in PATHS.items():
        if role in inputs.paths:
            changed = getattr(config, section).model_copy(update={option: str(inputs.paths[role])})
            config = config.model_copy(update={section: changed})
    return config


StageFunction = Callable[[StageInputs, Path, bool, StageDisplay], Mapping[str, Path]]
"""(inputs, directory, resume, display) -> outputs by name, all of them inside the directory.

With `resume` the directory holds what an earlier try left, made from the same inputs. What a stage
makes is a function of its inputs: it must not depend on the clock or on where it was interrupted.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """An input from outside of the pipeline: a base model, problems, data of the package.

    `path` is where it lies, if the stage is to be given it as it is given the outputs of other stages.
    `check` raises a UserError for what the stage could not use, when a plan is made. `require` raises one for
    what this machine lacks to use it, before the first stage runs.
    """

    lineage: Callable[[Config], Lineage]
    path: Path | None = None
    check: Callable[[Config], object] = field(default=lambda config: None)
    require: Callable[[Config], object] = field(default=lambda config: None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a stage will roughly take."""

    seconds: float
    num_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage.

    `inputs` maps a role to `STAGE.OUTPUT` or to a source. `options` are the sections (or single
    options) of the configuration that shape the outputs: others may change without the stage being
    repeated. Raise `revision` when the code makes other outputs from the same inputs.
    """

    name: str
    makes: str
    run: StageFunction
    inputs: Mapping[str, "str | Source"]
    outputs: tuple[str, ...]
    options: tuple[str, ...]
    estimate: Callable[[Config], Estimate]
    revision: int = 1

    @property
    def parents(self) -> tuple[str, ...]:
        """The stages whose outputs it needs."""
        named = (given.partition(".")[0] for given in self.inputs.values() if isinstance(given, str))
        return tuple(dict.fromkeys(named))


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """Stages in an order in which they can run; raises ValueError for what cannot be one."""

    stages: tuple[Stage, ...]
    by_name: Mapping[str, Stage] = field(init=False)

    def __post_init__(self) -> None:
        by_name: dict[str, Stage] = {}
        for stage in self.stages:
            if stage.name in by_name or stage.name in Config.model_fields:
                raise ValueError(f"stage {stage.name!r}: the name is taken by another stage or by options")
            for given in stage.inputs.values():
                if isinstance(given, str):
                    _check_reference(stage.name, given, by_name)
            by_name[stage.name] = stage
        object.__setattr__(self, "by_name", by_name)

    @property
    def names(self) -> tuple[str, ...]:
        """The stages' names, in order."""
        return tuple(self.by_name)

    def with_descendants(self, name: str) -> tuple[str, ...]:
        """Return a stage and all that need it, directly or not, in order."""
        found = {name}
        for stage in self.stages:
            if found.intersection(stage.parents):
                found.add(stage.name)
        return tuple(other for other in self.names if other in found)

    def given(self, own: Mapping[str, Mapping[str, "Source"]]) -> "Graph":
        """Return the graph with sources as inputs of stages, by name and role, in place of what stages make.

        A stage whose output was replaced is left out where nothing needs it any more but what only measures
        it. With it go the measurement, and what made nothing but data for it.
        """
        stages = [replace(s, inputs={**s.inputs, **own.get(s.name, {})}) for s in self.stages]
        replaced = [self.by_name[name].inputs[role] for name, roles in own.items() for role in roles]
        candidates = {made.partition(".")[0] for made in replaced if isinstance(made, str)}
        while gone := _needless(stages, candidates):
            candidates |= {
                parent for s in stages if s.name in gone for parent in s.parents if self._makes_data(parent)
            }
            stages = [s for s in stages if s.name not in gone]
        return Graph(stages=tuple(stages))

    def without(self, names: Collection[str]) -> "Graph":
        """Return the graph without some stages; raises ConfigError where another needs one, or it has none so
        named.
        """
        for name in names:
            if name not in self.by_name:
                raise ConfigError(
                    f"no stage is named {name!r}, to leave out; there are {', '.join(self.names)}"
                )
        left = tuple(stage for stage in self.stages if stage.name not in names)
        for stage in left:
            if needed := sorted(set(stage.parents).intersection(names)):
                raise ConfigError(f"stage {needed[0]} cannot be left out: {stage.name} needs it")
        return Graph(stages=left)

    def _makes_data(self, name: str) -> bool:
        return set(self.by_name[name].outputs) <= {"data", "summary"}


def _needless(stages: Sequence[Stage], candidates: Collection[str]) -> set[str]:
    """Return the candidates among the stages that no other stage needs, with what only measures them."""
    gone = set()
    for name in (s.name for s in stages if s.name in candidates):
        needing = [s for s in stages if name in s.parents]
        if all(s.outputs == ("summary",) and s.parents == (name,) for s in needing):
            gone |= {name, *(s.name for s in needing)}
    return gone


def _check_reference(name: str, given: str, earlier: Mapping[str, Stage]) -> None:
    parent, _, output = given.partition(".")
    if parent not in earlier or output not in earlier[parent].outputs:
        raise ValueError(f"stage {name!r} needs {given!r}, which no earlier stage makes")


def options_of(stage: Stage, config: Config) -> dict[str, Any]:
    """Return the part of the configuration that shapes a stage's outputs; the seed always does."""
    values = config.model_dump(mode="json")
    found = {"seed": values["seed"]}
    for key in stage.options:
        value: Any = values
        for part in key.split("."):
            value = value[part]
        found[key] = value
    return found


def package_data(name: str, path: Path) -> Source:
    """Return files that ship with zerone, or any other that no stage makes, as a source."""
    return Source(
        lineage=lambda config: Lineage.of(Node(name=name, kind="package data", sha256=sha256_of_path(path)))
    )
