"""The golden pipeline: a base, reinforcement learning, its answers, and fine-tuning of the base on them.

To accept a change of the numbers, write the file anew and say in the commit why they moved:
PYTHONPATH=src:tests python tests/golden/make_tiny_pipeline.py
"""

import json
import tempfile
from pathlib import Path
from typing import Any

from pipelines import Notes, small_pipeline
from zerone.runs.directory import RunDir

GOLDEN_PATH = Path(__file__).with_name("tiny_pipeline.json")
FIGURES = {
    "first": ("loss", "grad_norm", "reward_mean"),
    "second": ("loss", "grad_norm", "num_trained_tokens"),
}


def run_tiny(folder: Path) -> dict[str, Any]:
    """Return the figures of every step of the stages that train, and the tokens of the first completion."""
    small_pipeline(folder).run(False, Notes())
    runs = {stage: RunDir(folder / "run" / stage) for stage in FIGURES}
    (answer,) = runs["first"].query(
        "SELECT completion_ids FROM rollouts WHERE step = 1 AND position = 0 AND sample = 0"
    )
    return {
        "first_completion": memoryview(answer["completion_ids"]).cast("i").tolist(),
        **{
            stage: [{name: line[name] for name in names} for line in runs[stage].read_metrics()]
            for stage, names in FIGURES.items()
        },
    }


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        text = json.dumps(run_tiny(Path(folder)), indent=1) + "\n"
    GOLDEN_PATH.write_text(text, encoding="utf-8")
