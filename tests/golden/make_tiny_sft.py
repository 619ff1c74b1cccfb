"""The golden run of SFT: six steps of a tiny model on a dozen answers, seeded from end to end.

To accept a change of the numbers, write the file anew and say in the commit why they moved:
PYTHONPATH=src:tests python tests/golden/make_tiny_sft.py
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import torch

from fakes import byte_tokenizer
from scripted import make_config, new_run, talking_model
from training import held_out_loss, make_learner
from zerone.train.sft import Hooks, examples_of, train
from zerone.types import Demonstration, Message

GOLDEN_PATH = Path(__file__).with_name("tiny_sft.json")
FIGURES = ("loss", "grad_norm", "learning_rate", "num_trained_tokens")


def _demonstrations(count: int) -> list[Demonstration]:
    return [
        Demonstration(
            id=str(i),
            messages=(
                Message(role="user", content=f"Say {i % 10}, please."),
                Message(
                    role="assistant", content=f"<think>{'ab' * (i % 4)}</think><answer>{i % 10}</answer>"
                ),
            ),
        )
        for i in range(count)
    ]


def run_tiny(folder: Path) -> list[dict[str, Any]]:
    """Return the figures of each step, and last the loss on answers that were held out."""
    torch.set_num_threads(1)
    config = make_config(
        sft__epochs=2,
        sft__batch_size=4,
        sft__microbatch_tokens=256,
        sft__learning_rate=0.003,
        sft__warmup_share=0.2,
        sft__final_share=0.1,
        optim__weight_decay=0.1,
        optim__max_grad_norm=1.35,
    )
    model = talking_model()
    sides = [
        [example for one in part for example in examples_of(one, byte_tokenizer(), config)]
        for part in (_demonstrations(12), _demonstrations(16)[12:])
    ]
    run = new_run(folder / "run")
    hooks = Hooks(before_step=lambda step: None, after_step=lambda metrics, timing: None)
    train(config, make_learner(model, config).state, sides[0], run, hooks)
    held_out = held_out_loss(model, sides[1], config.sft.microbatch_tokens)
    lines = [{name: line[name] for name in FIGURES} for line in run.read_metrics()]
    return [*lines, {"held_out": held_out}]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        GOLDEN_PATH.write_text(json.dumps(run_tiny(Path(folder)), indent=1) + "\n", encoding="utf-8")
