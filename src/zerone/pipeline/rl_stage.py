"""Reinforcement learning as a stage of a pipeline: R1-Zero, reasoning RL and all-scenario RL alike.

In: a base model or the model of an earlier stage, and problems. Out: the trained model, and the list
of all prompts that it was trained on, in order, so that its lineage ends at prompts.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zerone.config import Config
from zerone.jobs.origins import check_problems, problems_lineage, require_verifiers
from zerone.jobs.rl import run_zero
from zerone.pipeline.graph import Source, StageDisplay, StageInputs, with_inputs
from zerone.runs.directory import RunDir, shown_suites, write_atomically
from zerone.runs.lineage import lineage_of_model, model_directory
from zerone.train.algorithm import Algorithm
from zerone.types import Credited

OPTIONS = (
    *("model.precision", "model.threads", "data", "prompt", "sampling", "reward"),
    *("advantage", "loss", "optim", "rl"),
)
"""What shapes a model that is trained by reinforcement learning."""


def run_rl(
    inputs: StageInputs,
    directory: Path,
    resume: bool,
    display: StageDisplay,
    algorithm: Algorithm | None = None,
) -> Mapping[str, Path]:
    """Train the input `model`, or `model.path` where there is none; the directory is a run directory."""
    run = RunDir(directory)
    run_zero(with_inputs(inputs), run, resume, _Progress(display), algorithm)
    return {"model": run.model_path, "prompts": _write_prompts(run)}


class _Progress:
    """Shows a run as a stage: the display of `zerone zero`, in one line."""

    def __init__(self, display: StageDisplay) -> None:
        self._display = display
        self._num_steps = 1
        self._config: Mapping[str, Any] = {}

    def start(self, config: Config, environment: Mapping[str, Any]) -> None:
        """Say what is about to run."""
        self._num_steps, self._config = config.rl.steps, config.model_dump()
        shape = f"{config.rl.problems_per_step} problems x {config.rl.group_size} completions"
        self._display.say(f"{environment['model']}: {config.rl.steps} steps of {shape}")

    def step(self, metrics: Mapping[str, Any], timing: Mapping[str, Any], groups: Sequence[Credited]) -> None:
        """Show a finished step."""
        reward, accuracy = metrics["reward_mean"], metrics["accuracy"]
        judged = "nothing judged" if reward is None else f"reward {reward:.3f}  correct {accuracy:.1%}"
        self._display.progress(
            metrics["step"] / self._num_steps,
            f"step {metrics['step']}/{self._num_steps}  {judged}  tokens {metrics['response_tokens']:.0f}  "
            f"{timing['total_s']:.1f}s  {metrics['verdict']}",
        )

    def evaluation(self, step: int, suites: Mapping[str, Any]) -> None:
        """Show an evaluation."""
        figures = "  ".join(
            f"{name} {found['pass_at_1']:.1%} (no readable answer {found['unparsable']:.1%})"
            for name, found in shown_suites(suites, self._config).items()
        )
        self._display.say(f"eval after step {step}: pass@1 {figures}")


_PROMPTS = (
    "SELECT step, position, problem_id AS id, family, level, language, prompt FROM groups "
    "ORDER BY step, position"
)


def _write_prompts(run: RunDir) -> Path:
    """Write what the model was trained on; a function of the run, unlike the bytes of a database."""
    path = run.path / "prompts.jsonl"
    rows = (json.dumps(dict(row), ensure_ascii=False) for row in run.query(_PROMPTS))
    write_atomically(path, "".join(f"{row}\n" for row in rows))
    return path


# Where it begins ----------------------------------------------------------------------------------


BASE_MODEL = Source(
    lineage=lambda config: lineage_of_model(config.model.path),
    check=lambda config: model_directory(config.model.path),
)
"""The model that `model.path` names."""

PROBLEMS = Source(lineage=problems_lineage, check=check_problems, require=require_verifiers)
"""The problems that the section `data` names."""
