"""The golden run: four steps of a tiny model, seeded from end to end.

To accept a change of the numbers, write the file anew and say in the commit why they moved:
PYTHONPATH=src:tests python tests/golden/make_tiny_rl.py
"""

import copy
import json
import tempfile
from pathlib import Path
from typing import Any

import torch

from scripted import make_config, make_engine, play_digits, talking_model
from training import make_learner

GOLDEN_PATH = Path(__file__).with_name("tiny_rl.json")
FIGURES = ("loss", "grad_norm", "reward_mean", "kl", "entropy", "clip_low", "clip_high")


def run_tiny(folder: Path) -> list[dict[str, Any]]:
    """Return per step the figures and the tokens of the first completion."""
    torch.set_num_threads(1)
    config = make_config(
        rl__steps=4,
        rl__problems_per_step=6,
        rl__minibatches=3,
        rl__epochs=2,
        rl__reference_every=2,
        loss__kl_coef=0.05,
        optim__learning_rate=0.003,
        sampling__max_tokens=24,
    )
    model = talking_model()
    learner = make_learner(model, config, reference=copy.deepcopy(model))
    run = play_digits(config, learner, make_engine(model), folder)
    firsts = run.query("SELECT completion_ids FROM rollouts WHERE position = 0 AND sample = 0 ORDER BY step")
    return [
        {name: line[name] for name in FIGURES}
        | {"first_completion": memoryview(row["completion_ids"]).cast("i").tolist()}
        for line, row in zip(run.read_metrics(), firsts, strict=True)
    ]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        GOLDEN_PATH.write_text(json.dumps(run_tiny(Path(folder)), indent=1) + "\n", encoding="utf-8")
