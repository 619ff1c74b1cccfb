"""What a pipeline came to, or has come to so far: models, data, figures, time.

In: the records of its stages. Out: the tree of `summary.json`, into which every output named `summary`
of a stage goes as it is. Where GRPO and PPO both ran, what they cost is set side by side; times are no
function of what a stage is made from, so they are not among its outputs. Reports read this: nothing
here loads torch before there are checkpoints to look at.
"""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from zerone.errors import FileError
from zerone.files import read_json
from zerone.identity import is_model
from zerone.runs.directory import RunDir
from zerone.runs.records import Records
from zerone.runs.shapes import check_shape

PPO = "ppo"
GRPO = "r1_zero"
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
                found_here = read_json(path)
                check_shape(found_here, str(path))
            except FileError as error:
                raise FileError(f"{error}; do the stage again by --from {record.stage}") from error
            summary = _merged(summary, found_here)
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


def beside_grpo(grpo: RunDir, ppo: RunDir) -> dict[str, Any]:
    """Return figures of both over the steps that both made; ratios are PPO's over GRPO's.

    Seconds are medians over the steps. `state_bytes` is what the last checkpoint holds of weights and
    optimiser, of the critic too; gradients come on top, one number for each weight. Right answers are
    those of the last common step, before its update. Empty where one recorded no step, or its files are gone.
    """
    steps = {"grpo": grpo, "ppo": ppo}
    metrics = {name: run.read_metrics() for name, run in steps.items()}
    num_steps = min(map(len, metrics.values()))
    timing = {name: run.read_timing()[:num_steps] for name, run in steps.items()}
    if not all(timing.values()):
        return {}
    figures: dict[str, Any] = {"steps": num_steps}
    for key in ("total_s", "train_s"):
        seconds = {name: median(line[key] for line in lines) for name, lines in timing.items()}
        figures |= {f"{key}_{name}": round(value, 3) for name, value in seconds.items()}
        figures[f"{key}_ratio"] = round(seconds["ppo"] / seconds["grpo"], 3)
    sizes = {name: _state_bytes(run) for name, run in steps.items()}
    figures |= {f"state_bytes_{name}": size for name, size in sizes.items()}
    if sizes["grpo"] and sizes["ppo"]:
        figures["state_bytes_ratio"] = round(sizes["ppo"] / sizes["grpo"], 3)
    return figures | {f"accuracy_{name}": lines[num_steps - 1]["accuracy"] for name, lines in metrics.items()}


def _state_bytes(run: RunDir) -> int:
    """Return the bytes of the last checkpoint but for a reference model, which either may have."""
    from zerone.runs.checkpoint import checkpoints

    saved = checkpoints(run.checkpoints_path)
    files = saved[-1].rglob("*.safetensors") if saved else ()
    return sum(file.stat().st_size for file in files if file.name != "reference.safetensors")
