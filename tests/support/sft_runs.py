"""Demonstrations and arguments of small runs of `zerone sft`."""

import json
from pathlib import Path
from typing import Any


def demonstrations(count: int = 40) -> str:
    """Return lines of answers that are always well formed, in both forms by turns."""
    lines: list[dict[str, Any]] = []
    for i in range(count):
        question, answer = f"Say {i % 10}, please ({i}).", f"<think>ab</think>\n<answer>{i % 10}</answer>"
        if i % 2:
            lines.append({"prompt": question, "completion": answer})
        else:
            turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
            lines.append({"messages": turns})
    return "".join(json.dumps(line) + "\n" for line in lines)


def arguments(folder: Path, name: str, *changes: str) -> list[str]:
    """Return the arguments of a small run in `folder / name`; the folder holds model, data and problems."""
    return [
        "sft",
        f"--run-dir={folder / name}",
        f"model.path={folder / 'base'}",
        f"data.path={folder / 'data.jsonl'}",
        "data.eval_share=0.3",
        "model.precision=fp32",
        "model.threads=1",
        "sft.epochs=2",
        "sft.batch_size=4",
        "sft.learning_rate=0.02",
        "sft.microbatch_tokens=800",
        f"sft.suite={folder / 'problems.jsonl'}",
        "sampling.max_tokens=16",
        "eval.every=3",
        "eval.hard_samples=2",
        "checkpoint.every=2",
        *changes,
    ]
