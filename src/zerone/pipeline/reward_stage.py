"""Training a reward model as a stage of a pipeline: what is helpful, and what is safe.

In: the model that it starts from, and preferences: a file of yours, or those of the embedded world.
Out: the reward model, and how good it is on held-out preferences for the pipeline's summary.
"""

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from zerone.config import Config
from zerone.data.jsonl import objects_of
from zerone.data.preferences import Kind
from zerone.data.sources import open_source
from zerone.errors import DataError
from zerone.identity import sha256_of_value
from zerone.pipeline.graph import Source, StageDisplay, StageFunction, StageInputs, with_inputs
from zerone.reward_model.embedded import embedded_rows
from zerone.reward_model.run import read_data, train_reward_model
from zerone.runs.directory import RunDir, write_atomically
from zerone.runs.lineage import Lineage, Node

OPTIONS = (
    *("model.threads", "data.eval_share", "curate.general", "reward_model"),
    *("optim.warmup_updates", "optim.beta1", "optim.beta2", "optim.weight_decay", "optim.max_grad_norm"),
)
"""What shapes a reward model; which preferences, their hash says."""

ROWS_PER_REQUEST = 2
"""Pairs or labelled responses that come of one request (rewards/request_pairs.py)."""


def run_reward_stage(kind: Kind) -> StageFunction:
    """Return the stage that makes of the input `model` a judge of what is helpful, or of what is safe."""
    return partial(_run, kind)


def _run(
    kind: Kind, inputs: StageInputs, directory: Path, resume: bool, display: StageDisplay
) -> Mapping[str, Path]:
    run = RunDir(directory)
    path = _preferences(kind, inputs.config, directory)
    config = with_inputs(StageInputs(config=inputs.config, paths={**inputs.paths, "data": path}))
    summary = train_reward_model(config, run, run.has_run, display.say)
    quality = directory / "quality.json"
    write_atomically(quality, json.dumps({"reward_models": {kind: _quality(summary)}}, indent=2) + "\n")
    return {"reward_model": run.model_path, "summary": quality}


def _quality(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a reader of the pipeline's summary wants to know of a reward model."""
    return {"before": summary["base"], **summary["final"], "num_trained": summary["num_trained"]}


# Which preferences --------------------------------------------------------------------------------

_ONLY_IN_PREFERENCES = frozenset(("chosen", "judgments", "is_safe"))


def _preferences(kind: Kind, config: Config, directory: Path) -> Path:
    """Return the user's file, or write those of the embedded world, which the seed decides."""
    own = _own_preferences(config)
    if own is not None:
        return Path(own)
    path = directory / "preferences.jsonl"
    rows = embedded_rows(kind, config.curate.general * ROWS_PER_REQUEST, config.seed)
    write_atomically(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


def _own_preferences(config: Config) -> str | None:
    """Return what `data.path` names if that holds preferences.

    For all stages at once it names problems, which the stages of reinforcement learning take.
    """
    path = config.data.path
    if path is None:
        return None
    example = '{"prompt": ..., "chosen": ..., "rejected": ...}'
    _, first = next(objects_of(path, "data.path", example), ("", {}))
    return None if _ONLY_IN_PREFERENCES.isdisjoint(first) else path


def preferences_of(kind: Kind) -> Source:
    """Return the preferences that a stage learns from, as a source."""
    return Source(lineage=partial(_lineage, kind), check=partial(_check, kind))


def _check(kind: Kind, config: Config) -> None:
    """Raise DataError for a file of the user's with a bad line, too few examples, or the other kind."""
    own = _own_preferences(config)
    if own is not None and (found := read_data(config).kind) != kind:
        raise DataError(f"{own} is about {found}; give {kind}.data.path=FILE.jsonl, or {kind}.data.path=null")


def _lineage(kind: Kind, config: Config) -> Lineage:
    own = _own_preferences(config)
    about: dict[str, Any]
    if own is not None:
        source = open_source(own)
        sha256, about = source.sha256(), dict(source.about)
    else:
        about = {"family": f"requests, {kind}", "draw": f"row i is a function of ({config.seed}, i)"}
        sha256 = sha256_of_value(about)
    return Lineage.of(Node(name=f"preferences.{kind}", kind="data", sha256=sha256, about=about))
