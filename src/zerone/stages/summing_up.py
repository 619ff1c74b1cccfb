"""What a pipeline came to, or has come to so far: models, data, figures, time.

In: the records of its stages. Out: the tree of `summary.json`, into which every output named `summary`
of a stage goes as it is.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from zerone.errors import RunDirError
from zerone.identity import is_model
from zerone.run_dir import RunDir
from zerone.stages.ppo_stage import GRPO, PPO, beside_grpo
from zerone.stages.records import Records

SUMMARY = "summary"
"""An output of this name is a JSON object that goes into `summary.json` (figures of an evaluation)."""


def sum_up(records: Records, stages: Sequence[str], seed: int) -> dict[str, Any]:
    """Return the summary of those stages that were started, in the order given."""
    found = [record for name in stages if (record := records.read(name))]
    models = {
        record.stage: {"path": str(path), "sha256": output.sha256}
        for record in found
        for name, output in record.outputs.items()
        if name == "model" and is_model(path := records.path_of(record.stage) / output.path)
    }
    summary: dict[str, Any] = {
        "models": models,
        "stages": {record.stage: {"seconds": record.seconds} for record in found},
        "wall_s": round(sum(record.seconds for record in found), 1),
        "peak_rss_bytes": max((record.peak_rss_bytes for record in found), default=0),
        "seed": seed,
    }
    for record in found:
        if SUMMARY in record.outputs:
            path = records.path_of(record.stage) / record.outputs[SUMMARY].path
            try:
                summary = _merged(summary, json.loads(path.read_text(encoding="utf-8")))
            except (OSError, ValueError, AttributeError) as error:
                raise RunDirError(
                    f"cannot read {path}: {error}; do the stage again by --from {record.stage}"
                ) from error
    if {GRPO, PPO} <= {record.stage for record in found if record.is_done}:
        summary[PPO] = beside_grpo(RunDir(records.path_of(GRPO)), RunDir(records.path_of(PPO)))
    return summary


def _merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Return two trees as one; where both have a value, the other's counts."""
    return {**one} | {
        key: _merged(one[key], value)
        if isinstance(value, Mapping) and isinstance(one.get(key), Mapping)
        else value
        for key, value in other.items()
    }
