"""Runs a graph of stages in one directory, and never does twice what is done.

In: a graph, one configuration per stage, a directory. Out: a subdirectory per stage, the lineage of
every model in it, `summary.json`. A stage is known by what it is made from: its options, its
revision and the hashes of its inputs. While these are the same, a finished stage is left alone and
an unfinished one goes on where it was, wherever the process was killed.
"""

import resource
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from zerone import __version__
from zerone.config import Config
from zerone.config.reading import REFERENCES, flat_options
from zerone.config.staged import differences
from zerone.engine.opening import check_engine
from zerone.errors import ConfigError, FileError, Interrupted, RunDirError
from zerone.files import write_yaml
from zerone.identity import is_model
from zerone.jobs.origins import differences_from_defaults
from zerone.model.loading import hash_weights
from zerone.pipeline.graph import Graph, Source, Stage, StageDisplay, StageInputs, options_of
from zerone.pipeline.judges import with_own_judges
from zerone.pipeline.own_inputs import with_own_inputs
from zerone.pipeline.summary import sum_up
from zerone.processes.machine import commit_of_source
from zerone.processes.stopping import stop_requests
from zerone.runs.commands import as_typed, command_of_process, command_to_resume
from zerone.runs.directory import RECIPE_NAME, RunDir, write_atomically
from zerone.runs.lineage import Lineage, Node, write_lineage
from zerone.runs.records import Output, Record, Records, read_recipe_of_stages
from zerone.runs.start import OF_RESUMING, changed_since, gone_on_with
from zerone.trackers.tracking import check_tracker


class State(StrEnum):
    """What becomes of a stage."""

    DONE = "done"
    RESUME = "goes on"
    RUN = "runs"
    REPEAT = "runs again"
    LEFT_OUT = "left out"


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A stage, what becomes of it and why, and roughly what that takes."""

    stage: Stage
    state: State
    reason: str
    seconds: float
    num_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which stages: all that are not done; `start` and all after it again; `only` one."""

    start: str | None = None
    only: str | None = None


class PipelineDisplay(Protocol):
    """What shows a pipeline."""

    def begin(self, plan: Sequence[Planned]) -> None:
        """Show what is about to run."""
        ...

    def stage_begins(self, name: str, state: State, reason: str) -> StageDisplay:
        """Show that a stage begins; return what shows its work."""
        ...

    def stage_ends(self, name: str, state: State, seconds: float) -> None:
        """Show that a stage is done, now or since before."""
        ...


class Pipeline:
    """A graph in a directory. Raises ConfigError for stages that the graph does not have."""

    def __init__(
        self, graph: Graph, configs: Mapping[str, Config], directory: Path, selection: Selection
    ) -> None:
        known = graph.names
        graph = with_own_inputs(with_own_judges(graph, configs), configs)
        for name in (selection.start, selection.only):
            if name in known and name not in graph.names:
                raise ConfigError(f"stage {name} is left out, as options name what it would make")
            if name is not None and name not in graph.names:
                raise ConfigError(f"no stage is named {name!r}; there are {', '.join(graph.names)}")
        self.left_out = tuple(name for name in known if name not in graph.names)
        # Stages write paths into their configurations, so one directory must have one spelling.
        self.directory = directory.resolve()
        self._graph = graph
        self._configs = configs
        self._selection = selection
        self._records = Records(self.directory)
        self._sources: dict[tuple[str, str], Lineage] = {}

    @property
    def stages(self) -> tuple[str, ...]:
        """The names of what it runs, in order."""
        return self._graph.names

    # What will happen -----------------------------------------------------------------------------

    def plan(self) -> list[Planned]:
        """Return what a run would do now; nothing is written."""
        self._check_recipe()
        start, again = self._selection.start, self._again()
        plan: list[Planned] = []
        moving: set[str] = set()
        for stage in self._graph.stages:
            if self._selection.only not in (None, stage.name):
                state, reason = State.LEFT_OUT, ""
            elif stage.name in again:
                state, reason = State.RUN, f"by --from {start}"
            elif moved := [name for name in stage.parents if name in moving]:
                known = self._records.read(stage.name)
                state = State.REPEAT if known and known.is_done else State.RUN
                reason = f"after {', '.join(moved)}"
            else:
                state, reason = self._assess(stage)
            if state not in (State.DONE, State.LEFT_OUT):
                moving.add(stage.name)
                self._check_sources(stage)
            plan.append(self._planned(stage, state, reason))
        return plan

    def _check_sources(self, stage: Stage) -> None:
        """Raise for a file, model, engine or tracker that cannot be used: its stage may be hours away."""
        check_tracker(self._configs[stage.name])
        check_engine(self._configs[stage.name].engine)
        for given in stage.inputs.values():
            if isinstance(given, Source):
                given.check(self._configs[stage.name])

    def _require_of_machine(self, stages: Sequence[Stage]) -> None:
        """Raise before the first stage for what a later one needs of this machine and does not find."""
        for stage in stages:
            for given in stage.inputs.values():
                if isinstance(given, Source):
                    given.require(self._configs[stage.name])

    def _again(self) -> tuple[str, ...]:
        """Return the stages that are done again whatever they were made from."""
        start, only = self._selection.start, self._selection.only
        wanted = self._graph.with_descendants(start) if start else ()
        return tuple(name for name in wanted if only in (None, name))

    def _planned(self, stage: Stage, state: State, reason: str) -> Planned:
        known = self._records.read(stage.name)
        estimate = stage.estimate(self._configs[stage.name])
        seconds = known.seconds if known and known.is_done else estimate.seconds
        return Planned(stage=stage, state=state, reason=reason, seconds=seconds, num_bytes=estimate.num_bytes)

    def _assess(self, stage: Stage) -> tuple[State, str]:
        """Return what becomes of a stage whose parents are done, and why."""
        record = self._records.read(stage.name)
        for parent in stage.parents:
            known = self._records.read(parent)
            if known is None or not known.is_done:
                raise RunDirError(
                    f"stage {stage.name} needs {parent}, which is not done; run it first, or leave out --only"
                )
            if complaint := self._records.complaint(known):
                raise RunDirError(
                    f"stage {stage.name} needs {parent}, and {complaint}; put it back, or leave out --only"
                )
        made_from = self._made_from(stage)
        if record is None:
            return State.RUN, ""
        if changes := _changes(record.made_from, made_from):
            return State.REPEAT, "; ".join(changes)
        if not record.is_done:
            return State.RESUME, ""
        complaint = self._records.complaint(record)
        return (State.REPEAT, complaint) if complaint else (State.DONE, "")

    def _made_from(self, stage: Stage) -> dict[str, Any]:
        return {
            "revision": stage.revision,
            "options": options_of(stage, self._configs[stage.name]),
            "inputs": {role: self._input_sha256(stage, role) for role in stage.inputs},
        }

    def _input_sha256(self, stage: Stage, role: str) -> str:
        given = stage.inputs[role]
        if isinstance(given, Source):
            return self._source_lineage(stage, role, given).node.sha256
        parent, _, output = given.partition(".")
        return self._done(parent).outputs[output].sha256

    def _done(self, name: str) -> Record:
        """Return the record of a finished stage, with its outputs as they are now."""
        record = self._records.read(name)
        if record is None or not record.is_done:
            raise AssertionError(f"stage {name} is not done, and was named")
        return self._records.as_on_disk(record)

    def _source_lineage(self, stage: Stage, role: str, source: Source) -> Lineage:
        key = (stage.name, role)
        if key not in self._sources:
            self._sources[key] = source.lineage(self._configs[stage.name])
        return self._sources[key]

    # The recipe -----------------------------------------------------------------------------------

    def _check_recipe(self) -> None:
        """Refuse another recipe than the directory's, except for stages that are to be run again."""
        path = self.directory / RECIPE_NAME
        if not path.exists():
            return
        try:
            saved = read_recipe_of_stages(path)
        except FileError as error:
            raise FileError(f"{error}; choose another --run-dir") from error
        changed = {
            name: _differences(saved[name], config.model_dump(mode="json"))
            for name, config in self._configs.items()
            if name in saved
        }
        again = self._again()
        lines = [
            f"  {name}: {line}" for name, found in changed.items() if name not in again for line in found
        ]
        if lines:
            more = [f"  and {len(lines) - 10} more"] if len(lines) > 10 else []
            raise RunDirError(
                f"{self.directory} was started with another recipe:\n"
                + "\n".join([*lines[:10], *more])
                + "\nResume with the same options, do stages again with the new ones by --from STAGE, or "
                "choose another --run-dir"
            )

    def _write_recipe(self) -> None:
        tree = {"stages": {name: config.model_dump(mode="json") for name, config in self._configs.items()}}
        write_atomically(self.directory / RECIPE_NAME, write_yaml(tree))

    # Running --------------------------------------------------------------------------------------

    def run(self, resume: bool, display: PipelineDisplay) -> dict[str, Any]:
        """Do what is not done, in order, and return the summary.

        Raises RunDirError for a directory that is in use or holds another pipeline; what a stage
        raises passes through, and the next run goes on from there.
        """
        lock = RunDir(self.directory)
        if (self.directory / RECIPE_NAME).exists() and not (resume or self._selection.start):
            raise RunDirError(
                f"{self.directory} already holds a pipeline; resume it with --resume, or choose "
                "another --run-dir"
            )
        lock.lock()
        try:
            plan = self.plan()
            display.begin(plan)
            working = [planned.stage for planned in plan if planned.state not in (State.DONE, State.LEFT_OUT)]
            self._require_of_machine(working)
            if working:
                # Its figures would be those of models that are about to change.
                RunDir(self.directory).remove_summary()
            for name in reversed(self._again()):
                self._records.discard(name)
            self._write_recipe()
            lock.write_environment({"command": command_of_process()})
            with stop_requests() as stopping:
                for stage in self._graph.stages:
                    if stopping.is_wished:
                        raise self._stopped(f"before stage {stage.name}")
                    if self._selection.only in (None, stage.name):
                        self._bring_about(stage, display)
            return self._summarise()
        finally:
            lock.unlock()

    def _bring_about(self, stage: Stage, display: PipelineDisplay) -> None:
        state, reason = self._assess(stage)
        if state is State.DONE:
            display.stage_ends(stage.name, state, self._done(stage.name).seconds)
            return
        if state is State.REPEAT:
            self._records.discard(stage.name)
        by = {"zerone": __version__, "commit": commit_of_source()}
        if state is not State.RESUME:
            self._records.start(Record(stage=stage.name, made_from=self._made_from(stage), by=by))
        elif (begun := self._records.read(stage.name)) and (changed := changed_since(begun.by, by)):
            self._records.write(replace(begun, by=gone_on_with(begun.by, changed)))
        record = self._execute(stage, state, display.stage_begins(stage.name, state, reason))
        display.stage_ends(stage.name, State.DONE, record.seconds)

    def _execute(self, stage: Stage, state: State, display: StageDisplay) -> Record:
        """Run a stage to its end; write the lineage of its models, and last the record that it is done."""
        record = self._records.read(stage.name)
        if record is None:
            raise AssertionError(f"stage {stage.name} runs without a record")
        directory = self._records.path_of(stage.name)
        inputs = StageInputs(config=self._configs[stage.name], paths=self._input_paths(stage))
        begun = time.perf_counter()
        try:
            made = stage.run(inputs, directory, state is State.RESUME, display)
            finished = replace(record, outputs=self._outputs(stage, directory, made))
            for name in stage.outputs:
                if is_model(made[name]):
                    write_lineage(made[name], self._lineage(finished, name))
            record = finished
        except (Interrupted, KeyboardInterrupt) as error:
            raise self._stopped(f"in stage {stage.name}") from error
        finally:
            spent = round(record.seconds + time.perf_counter() - begun, 3)
            peak = max(record.peak_rss_bytes, _peak_rss_bytes())
            record = replace(record, seconds=spent, peak_rss_bytes=peak)
            self._records.write(record)
        return record

    def _stopped(self, where: str) -> Interrupted:
        """Return how to resume."""
        again = f"the same call with resume=True (in {self.directory})"  # of a program that uses the package
        if command := command_of_process():
            again = as_typed(command_to_resume(command, self.directory))
        return Interrupted(f"stopped {where}; resume with: {again}")

    def _input_paths(self, stage: Stage) -> dict[str, Path]:
        paths = {}
        for role, given in stage.inputs.items():
            if isinstance(given, str):
                parent, _, output = given.partition(".")
                paths[role] = self._records.path_of(parent) / self._done(parent).outputs[output].path
            elif given.path is not None:
                paths[role] = given.path
        return paths

    def _outputs(self, stage: Stage, directory: Path, made: Mapping[str, Path]) -> dict[str, Output]:
        if set(made) != set(stage.outputs):
            raise AssertionError(f"stage {stage.name} made {sorted(made)}, not {sorted(stage.outputs)}")
        return {
            name: Output(
                path=made[name].relative_to(directory).as_posix(), sha256=self._records.sha256_of(made[name])
            )
            for name in stage.outputs
        }

    # What came of it ------------------------------------------------------------------------------

    def _lineage(self, record: Record, output: str) -> Lineage:
        """Return the lineage of an output: what made it, and the lineages of what it was made from."""
        stage = self._graph.by_name[record.stage]
        parents = {}
        for role, given in stage.inputs.items():
            if isinstance(given, Source):
                parents[role] = self._source_lineage(stage, role, given)
            else:
                parent, _, name = given.partition(".")
                parents[role] = self._lineage(self._done(parent), name)
        made = record.outputs[output]
        path = self._records.path_of(record.stage) / made.path
        about: dict[str, Any] = {"weights_sha256": hash_weights(path)} if is_model(path) else {}
        if made.is_edited:
            about["edited"] = "by hand, after the stage"
        options = options_of(stage, self._configs[stage.name])
        node = Node(
            name=f"{stage.name}.{output}",
            kind="model" if is_model(path) else "data",
            sha256=made.sha256,
            about=about,
            made_by={
                "stage": stage.name,
                "does": stage.makes,
                "seed": options.pop("seed"),
                "options": differences_from_defaults(options),
                "identity": record.identity,
                **record.by,
                "outputs": {name: other.sha256 for name, other in record.outputs.items()},
            },
            inputs={role: lineage.root for role, lineage in parents.items()},
        )
        return Lineage.of(node, parents.values())

    def _summarise(self) -> dict[str, Any]:
        """Return, and write where all stages are done and fit each other, what the pipeline came to."""
        names = self._graph.names
        summary = sum_up(self._records, names, self._configs[names[0]].seed)
        if all((record := self._records.read(name)) and record.is_done for name in names) and all(
            self._assess(stage)[0] is State.DONE for stage in self._graph.stages
        ):
            RunDir(self.directory).write_summary(summary)
        return summary


def _changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return how what a stage is made from has changed; inputs are known by their hashes."""
    found = _differences(old["options"], new["options"])
    if old["revision"] != new["revision"]:
        found.append(f"revision {old['revision']}, now {new['revision']}")
    before, after = old["inputs"], new["inputs"]
    return found + [
        f"its {role} changed" for role in {**before, **after} if before.get(role) != after.get(role)
    ]


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return the options that differ, except where inputs lie; adapters are not an input of any stage."""
    inputs = set(REFERENCES) - {"lora.path"}
    before, after = (
        {key: value for key, value in flat_options(tree).items() if key not in inputs} for tree in (old, new)
    )
    return differences(before, after, OF_RESUMING)


def _peak_rss_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
