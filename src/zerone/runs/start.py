"""A run begins or goes on: its directory is checked against the wish, and what it keeps is settled.

In: a configuration, a run directory, what the run is made from. Out: the environment, which a run that
goes on takes from its beginning, and the run's first files. Where other code, libraries or another processor
go on with a run, that is said and kept. Every command that trains in a run directory begins here.
"""

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

from zerone import __version__, hub
from zerone.config import Config, to_yaml
from zerone.config.reading import flat_options, read_tree, with_references
from zerone.config.staged import differences
from zerone.device import Kind
from zerone.errors import ConfigError, FileError, RunDirError
from zerone.files import refuse_overwriting
from zerone.model.loading import width_of
from zerone.processes.machine import available_cores, commit_of_source, cpu_name, precision_for
from zerone.processes.ranks import started_ranks
from zerone.processes.threads import threads_for
from zerone.runs.checkpoint import checkpoints
from zerone.runs.commands import command_of_process
from zerone.runs.directory import RunDir, write_atomically

_HASHES = {
    "model.path": "model_sha256",
    "lora.path": "adapter_sha256",
    "data.path": "data_sha256",
    "data.pass_rates": "pass_rates_sha256",
    "reward.helpfulness_model": "reward_models",
    "reward.safety_model": "reward_models",
}
"""What names an input -> where the run keeps the input's hash: it is known by that, wherever it lies now."""

_FREE = ("checkpoint.every", "checkpoint.keep", "log.sample_every")
"""Options that change nothing in what is trained or measured: a run that goes on may have others."""


def prepare_run(
    config: Config, run: RunDir, resume: bool, precision: str | None = None, *, kind: Kind = "cpu"
) -> dict[str, Any]:
    """Check the directory against the wish, and return the environment that the run keeps.

    `precision` is that of a run which has no choice, `kind` where it computes (bf16 on a GPU). Raises
    RunDirError for a directory that holds a run already without `resume`, or one of another configuration,
    and FileError where the run would write over what it is made from.
    """
    refuse_overwriting({"--run-dir": run.path}, _given_paths(config, run))
    if run.has_run:
        if not resume:
            raise RunDirError(
                f"{run.path} already holds a run; resume it with --resume, or choose another --run-dir"
            )
        environment = run.read_environment()
        if lines := _differences(run, config, environment):
            more = [f"  and {len(lines) - 10} more"] if len(lines) > 10 else []
            raise RunDirError(
                f"{run.path} was started with another configuration:\n"
                + "\n".join([*lines[:10], *more])
                + "\nResume with the same options, or choose another --run-dir"
            )
        return environment
    if kind == "cpu" and config.model.device == "cuda":
        print("note: model.device=cuda is for RL and SFT; this computes on the CPU", file=sys.stderr)
    wanted = config.model.precision
    if kind == "cuda" and wanted == "auto":
        wanted = "bf16"
    precision = precision or precision_for(width_of(config.model.path), wanted)
    threads = threads_for(config.model.threads)
    ranks = started_ranks()
    return {
        **_program(),
        **({"ranks": ranks.size} if ranks.size > 1 else {}),
        "platform": sys.platform,
        "cores": available_cores(),
        "precision": precision,
        "device": kind,
        "threads": threads,
        "seed": config.seed,
        "command": command_of_process(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "model": _kept(config, run).model.path,
    }


def _given_paths(config: Config, run: RunDir) -> list[Path]:
    """Return what a run is given that has the name of something it writes in its own directory."""
    flat = flat_options(config.model_dump())
    given = [Path(value).expanduser().resolve() for key in _HASHES if isinstance(value := flat[key], str)]
    place = run.path.resolve()
    return [
        place for path in given if path.is_relative_to(place) and run.writes(path.relative_to(place).parts[0])
    ]


def _kept(config: Config, run: RunDir) -> Config:
    """Return the configuration as the run keeps it: without a path to where it happens to lie."""
    return with_references(config, run.path.absolute(), run.root)


def _program() -> dict[str, Any]:
    """Return what computes: where any of these is another, the same step can come out otherwise."""
    return {
        "zerone": __version__,
        "commit": commit_of_source(),
        "python": sys.version.split()[0],
        "cpu": cpu_name(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


OF_MEMORY = (
    *("rl.microbatch_tokens", "sft.microbatch_tokens"),
    *("model.gradient_checkpointing", "model.offload", "engine.gpu_share"),
)
"""Options of memory and time, which change nothing but the last bits of sums."""

OF_RESUMING = (
    *("reward.if_function_changed", "engine.timeout", *OF_MEMORY),
    *("log.sample_every", "log.tracker", "log.project", "log.name", "log.online"),
)
"""Options that say how a run is resumed or shown, and so may be others than at its beginning."""


def _differences(run: RunDir, config: Config, environment: Mapping[str, Any]) -> list[str]:
    """Return the options in which the run's configuration and the given one differ, a line each.

    Inputs whose hashes are known are compared by `begin_run`; steps may be added.
    """
    try:
        before = read_tree(run.config_path)
    except ConfigError as error:
        raise FileError(f"{error}; the file is damaged, choose another --run-dir") from error
    kept, now = flat_options(before), flat_options(config.model_dump(mode="json"))
    free = {*_FREE, *(["rl.steps"] if _is_longer(kept.get("rl.steps"), config) else [])}
    free |= {key for key, name in _HASHES.items() if environment.get(name) and kept.get(key) and now[key]}
    found = differences(kept, now, OF_RESUMING)
    return [f"  {line}" for line in found] if any(line.split(":")[0] not in free for line in found) else []


def _is_longer(steps: Any, config: Config) -> bool:
    """Whether a run only gets more steps: where preference is rewarded, the first ones depend on how many."""
    return isinstance(steps, int) and config.rl.steps >= steps and not config.reward.preference


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """What a run is made from: how a reader knows it, and the hash of its content, or of each of several.

    One that `may_change` is written down where it has changed, as another program is.
    """

    name: str
    sha256: str | Mapping[str, str]
    may_change: bool = False
    remedy: str = "put it back or choose another --run-dir"


def begin_run(
    config: Config, run: RunDir, environment: Mapping[str, Any], inputs: Mapping[str, Input], data: str
) -> None:
    """Write the first files of a run that begins; `data` says in a line what it learns from.

    Raises RunDirError where a run goes on and an input is another than before. Where another program
    goes on with it, that is said in a line and written down.
    """
    kept = to_yaml(_kept(config, run))
    if not run.has_run:
        hashes = {key: given.sha256 for key, given in inputs.items()}
        run.start(kept, {**environment, **hashes, **_commits_of(config), "data": data})
        return
    known = run.read_environment()
    latest = _latest(known)
    for key, given in inputs.items():
        # What an older version did not hash was compared by its path.
        is_same = key not in known or (latest.get(key) or None) == (given.sha256 or None)
        if not is_same and not given.may_change:
            raise RunDirError(
                f"{given.name} has changed since {run.path} was started from it; {given.remedy}"
            )
    changing = {key: given.sha256 for key, given in inputs.items() if given.may_change}
    now = _of_memory(flat_options(config.model_dump(mode="json")))
    began = _of_memory(flat_options(read_tree(run.config_path)))
    size = {"ranks": started_ranks().size}
    _go_on(run, {"ranks": 1, **began, **known}, {**_program(), **changing, **now, **size})
    if run.read_config_yaml() != kept:
        write_atomically(run.config_path, kept)


_COMMITS = {"model": "model_commits", "dataset": "data_commits"}
"""A kind of names on the Hub -> where environment.json has their commits."""


def keep_to_commits(run: RunDir) -> None:
    """Let names on the Hub stand at the commits at which the run began, where it goes on."""
    if run.has_run:
        known = run.read_environment()
        hub.pin({kind: known[key] for kind, key in _COMMITS.items() if isinstance(known.get(key), Mapping)})


def _commits_of(config: Config) -> dict[str, Any]:
    """Return the commits of the names on the Hub that a configuration holds."""
    texts = [value for value in flat_options(config.model_dump()).values() if isinstance(value, str)]
    commits = hub.pinned([*texts, *(part.path for part in config.data.mixture)])
    return {_COMMITS[kind]: found for kind, found in commits.items()}


def _of_memory(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of memory that a configuration has; one of an earlier version may lack some."""
    return {name: flat[name] for name in OF_MEMORY if name in flat}


def _go_on(run: RunDir, known: Mapping[str, Any], program: Mapping[str, Any]) -> None:
    changed = changed_since(known, program)
    if not changed:
        return
    found = checkpoints(run.checkpoints_path)
    step = int(found[-1].name.removeprefix("step_")) if found else 0
    run.write_environment(gone_on_with(run.read_environment(), {"step": step, **changed}))
    before = _latest(known)
    what = ", ".join(f"{key} {before.get(key)} (now {value})" for key, value in changed.items())
    other = "program" if set(changed) <= set(_program()) else "program or reward"
    if set(changed) <= set(OF_MEMORY):
        other = "use of memory"
    if set(changed) == {"ranks"}:
        other = "number of ranks"
    print(
        f"warning: {run.path} goes on after step {step} with another {other} than before, so that it may end "
        f"otherwise than a run left alone: {what}",
        file=sys.stderr,
    )


# Which programs made a thing ----------------------------------------------------------------------


def changed_since(known: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of `now` is other than when the work was begun or last gone on with."""
    before = _latest(known)
    return {key: value for key, value in now.items() if before.get(key) != value}


def _latest(known: Mapping[str, Any]) -> dict[str, Any]:
    latest = dict(known)
    for entry in known.get("resumed", ()):
        latest |= entry
    return latest


def gone_on_with(known: Mapping[str, Any], entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is known of some work with an entry more under `resumed`."""
    return {**known, "resumed": [*known.get("resumed", ()), dict(entry)]}


def programs_of(environment: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the lineage of a run's model says of programs: who began it, and who went on with it."""
    return {key: environment[key] for key in ("zerone", "commit", "resumed") if key in environment}
