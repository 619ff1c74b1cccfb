"""A fine-tuning whose numbers are on file: any change of what it computes shows here.

Tolerance: as for the golden run of RL (test_tiny_rl.py), other processors and BLAS builds add in
another order, which moves these figures in their sixth digit at most. Nothing is drawn from the model, so
no difference can grow into another answer.
"""

import json
import math
from pathlib import Path

import pytest

from golden.make_tiny_sft import GOLDEN_PATH, run_tiny


def test_the_tiny_fine_tuning_is_the_golden_one(tmp_path: Path) -> None:
    golden = json.loads(GOLDEN_PATH.read_text(encoding="utf-8"))
    found = run_tiny(tmp_path)
    assert len(found) == len(golden)
    for step, (line, expected) in enumerate(zip(found, golden, strict=True), start=1):
        assert line == pytest.approx(expected, rel=1e-4), f"step {step}"


def test_the_golden_fine_tuning_is_worth_comparing() -> None:
    """Every figure moves, clipping takes hold in some steps and not in others, and something is learned."""
    *steps, last = json.loads(GOLDEN_PATH.read_text(encoding="utf-8"))
    for name in ("loss", "grad_norm", "learning_rate"):
        values = [line[name] for line in steps]
        assert all(map(math.isfinite, values))
        assert len(set(values)) == len(steps), name
    assert min(line["grad_norm"] for line in steps) < 1.35 < max(line["grad_norm"] for line in steps)
    assert steps[-1]["loss"] < steps[0]["loss"]
    assert last["held_out"] < steps[0]["loss"]
