"""A run begins or goes on: its directory is checked against the wish, and what it keeps is settled.

In: a configuration, a run directory, what the run is made from. Out: the environment, which a run that
goes on takes from its beginning, and the run's first files. Where other code, libraries or another processor
go on with a run, that is said and kept. Every command that trains in a run directory begins here.
"""

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import transformers
import yaml

from zerone import __version__
from zerone.config import Config, to_yaml
from zerone.config.staged import differences
from zerone.device import Kind
from zerone.errors import RunDirError
from zerone.model.loading import width_of
from zerone.processes.machine import available_cores, commit_of_source, cpu_name, known_machine, precision_for
from zerone.runs.checkpoint import checkpoints
from zerone.runs.directory import RunDir


def prepare_run(
    config: Config, run: RunDir, resume: bool, precision: str | None = None, *, kind: Kind = "cpu"
) -> dict[str, Any]:
    """Check the directory against the wish, and return the environment that the run keeps.

    `precision` is that of a run which has no choice, `kind` where it computes (bf16 on a GPU). Raises
    RunDirError for a directory that holds a run already without `resume`, or one of another configuration.
    """
    if run.has_run:
        if not resume:
            raise RunDirError(
                f"{run.path} already holds a run; go on with it by --resume or choose another --run-dir"
            )
        if lines := _differences(run, config):
            more = [f"  and {len(lines) - 10} more"] if len(lines) > 10 else []
            raise RunDirError(
                f"{run.path} was started with another configuration:\n"
                + "\n".join([*lines[:10], *more])
                + "\nResume with the same options, or choose another --run-dir"
            )
        return run.read_environment()
    if kind == "cpu" and config.model.device == "cuda":
        print("note: model.device=cuda is for RL and SFT; this computes on the CPU", file=sys.stderr)
    wanted = config.model.precision
    if kind == "cuda" and wanted == "auto":
        wanted = "bf16"
    precision = precision or precision_for(width_of(config.model.path), wanted)
    threads = config.model.threads or known_machine().threads
    return {
        **_program(),
        "platform": sys.platform,
        "cores": available_cores(),
        "precision": precision,
        "device": kind,
        "threads": threads,
        "seed": config.seed,
        "command": " ".join(["zerone", *sys.argv[1:]]),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "model": config.model.path,
    }


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
    *("model.gradient_checkpointing", "model.offload"),
)
"""Options of memory and time, which change nothing but the last bits of sums."""

_OF_RESUMING = ("reward.if_function_changed", *OF_MEMORY)
"""Options that may be others when a run is resumed than at its beginning."""


def _differences(run: RunDir, config: Config) -> list[str]:
    """Return the options in which the run's configuration and the given one differ, a line each."""
    try:
        before, now = yaml.safe_load(run.read_config_yaml()), config.model_dump(mode="json")
        found = differences(before, now, _OF_RESUMING)
    except (ValueError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise RunDirError(f"{run.config_path} is damaged ({error}); choose another --run-dir") from error
    return [f"  {line}" for line in found]


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
    if not run.has_run:
        hashes = {key: given.sha256 for key, given in inputs.items()}
        run.start(to_yaml(config), {**environment, **hashes, "data": data})
        return
    known = run.read_environment()
    latest = _latest(known)
    for key, given in inputs.items():
        is_same = (latest.get(key) or None) == (given.sha256 or None)
        if not is_same and not given.may_change:  # what there is none of need not be on file
            raise RunDirError(
                f"{given.name} has changed since {run.path} was started from it; {given.remedy}"
            )
    changing = {key: given.sha256 for key, given in inputs.items() if given.may_change}
    began = yaml.safe_load(run.read_config_yaml())
    _go_on(run, {**_of_memory(began), **known}, {**_program(), **changing, **_of_memory(config.model_dump())})


def _of_memory(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of memory that a configuration has; one of an earlier version may lack some."""
    pairs = ((name, name.split(".")) for name in OF_MEMORY)
    return {name: tree[section][key] for name, (section, key) in pairs if key in tree.get(section, {})}


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
