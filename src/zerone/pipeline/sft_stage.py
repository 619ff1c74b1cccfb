"""Supervised fine-tuning as a stage of a pipeline: cold start, rejection-sampled data, students.

In: a base model and a file of demonstrations from earlier stages. Out: the model after the last step,
and the one with the lowest held-out loss.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zerone.jobs.sft import run_sft
from zerone.pipeline.graph import StageDisplay, StageInputs, with_inputs
from zerone.runs.directory import RunDir

OPTIONS = ("model.precision", "model.threads", "data.eval_share", "prompt", "optim", "sft")
"""What shapes a model that is fine-tuned; which demonstrations, their hash says."""


def run_sft_stage(
    inputs: StageInputs, directory: Path, resume: bool, display: StageDisplay
) -> Mapping[str, Path]:
    """Fine-tune the input `model` (or `model.path`) on the input `data` (or `data.path`)."""
    run = RunDir(directory)
    run_sft(with_inputs(inputs), run, resume, _Progress(display))
    return {"model": run.model_path, "best": run.best_path}


class _Progress:
    """Shows a run as a stage, in one line."""

    def __init__(self, display: StageDisplay) -> None:
        self._display = display
        self._num_steps = 1

    def start(self, num_steps: int, environment: Mapping[str, Any]) -> None:
        """Say what is about to run."""
        self._num_steps = num_steps
        self._display.say(f"{environment['model']}: {num_steps} steps on {environment['data']}")

    def step(self, metrics: Mapping[str, Any], timing: Mapping[str, Any]) -> None:
        """Show a finished step."""
        self._display.progress(
            metrics["step"] / self._num_steps,
            f"step {metrics['step']}/{self._num_steps}  loss {metrics['loss']:.4f}  {timing['total_s']:.1f}s",
        )

    def evaluation(self, evaluation: Mapping[str, Any]) -> None:
        """Show an evaluation."""
        suites = "".join(
            f"  {name} {found['pass_at_1']:.1%} (no readable answer {found['unparsable']:.1%})"
            for name, found in evaluation["suites"].items()
        )
        self._display.say(f"after step {evaluation['step']}: held-out loss {evaluation['loss']:.4f}{suites}")
