"""PPO with a critic beside GRPO: the first steps of R1-Zero once more, by the other algorithm.

In: the base and the problems of R1-Zero, in the same order. Out: a policy that no later stage uses, and
for the pipeline's summary what both cost and came to in the same steps. Times are read when a pipeline
is summed up: they are no function of what a stage is made from, so they are not among its outputs.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from zerone.checkpoint import checkpoints
from zerone.run_dir import RunDir
from zerone.stages import rl_stage
from zerone.stages.graph import Stage, StageDisplay, StageInputs

PPO = "ppo"
GRPO = "r1_zero"


def ppo_stage(grpo: Stage) -> Stage:
    """Return the stage that stands beside `grpo`; recipes set `rl.algorithm: ppo` and few steps for it."""
    return replace(
        grpo, name=PPO, makes="a policy by PPO, to set GRPO beside", run=_run, outputs=("policy", "prompts")
    )


def _run(inputs: StageInputs, directory: Path, resume: bool, display: StageDisplay) -> Mapping[str, Path]:
    rl = inputs.config.rl.model_copy(update={"algorithm": "ppo"})
    config = inputs.config.model_copy(update={"rl": rl})
    made = rl_stage.run_rl(replace(inputs, config=config), directory, resume, display)
    return {"policy": made["model"], "prompts": made["prompts"]}


def beside_grpo(grpo: RunDir, ppo: RunDir) -> dict[str, Any]:
    """Return figures of both over the steps that both made; ratios are PPO's over GRPO's.

    Seconds are medians over the steps. `state_bytes` is what the last checkpoint holds of weights and
    optimiser, of the critic too; gradients come on top, one number for each weight. Right answers are
    those of the last common step, before its update.
    """
    steps = {"grpo": grpo, "ppo": ppo}
    metrics = {name: run.read_metrics() for name, run in steps.items()}
    num_steps = min(map(len, metrics.values()))
    timing = {name: run.read_timing()[:num_steps] for name, run in steps.items()}
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
    saved = checkpoints(run.checkpoints_path)
    files = saved[-1].rglob("*.safetensors") if saved else ()
    return sum(file.stat().st_size for file in files if file.name != "reference.safetensors")
