"""PPO with a critic beside GRPO: the first steps of R1-Zero once more, by the other algorithm.

In: the base and the problems of R1-Zero, in the same order. Out: a policy that no later stage uses;
`summing_up.py` sets what both cost and came to side by side.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from zerone.pipeline import rl_stage
from zerone.pipeline.graph import Stage, StageDisplay, StageInputs
from zerone.pipeline.summary import PPO
from zerone.processes.ranks import apart


def ppo_stage(grpo: Stage) -> Stage:
    """Return the stage that stands beside `grpo`; recipes set `rl.algorithm: ppo` and few steps for it."""
    return replace(
        grpo, name=PPO, makes="a policy by PPO, to set GRPO beside", run=_run, outputs=("policy", "prompts")
    )


def _run(inputs: StageInputs, directory: Path, resume: bool, display: StageDisplay) -> Mapping[str, Path]:
    rl = inputs.config.rl.model_copy(update={"algorithm": "ppo"})
    config = inputs.config.model_copy(update={"rl": rl})
    with apart():  # the critic's pass is computed in one process
        made = rl_stage.run_rl(replace(inputs, config=config), directory, resume, display)
    return {"policy": made["model"], "prompts": made["prompts"]}
