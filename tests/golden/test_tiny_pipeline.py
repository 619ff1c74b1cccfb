"""A pipeline whose numbers are on file: what a stage hands to the next shows here as well.

Tolerance: that of the golden run of RL, and for its reasons (test_tiny_rl.py).
"""

import json
import math
from pathlib import Path

import pytest

from golden.make_tiny_pipeline import FIGURES, GOLDEN_PATH, run_tiny


def test_the_tiny_pipeline_is_the_golden_one(tmp_path: Path) -> None:
    golden = json.loads(GOLDEN_PATH.read_text(encoding="utf-8"))
    found = run_tiny(tmp_path)
    assert found["first_completion"] == golden["first_completion"]
    for stage in FIGURES:
        assert len(found[stage]) == len(golden[stage])
        for step, (line, expected) in enumerate(zip(found[stage], golden[stage], strict=True), start=1):
            assert line == pytest.approx(expected, rel=1e-3, abs=1e-5), f"step {step} of {stage}"


def test_the_golden_pipeline_is_worth_comparing() -> None:
    """Losses and gradients of both stages move, so that none of them is right by being zero."""
    golden = json.loads(GOLDEN_PATH.read_text(encoding="utf-8"))
    for stage in FIGURES:
        for name in ("loss", "grad_norm"):
            values = [line[name] for line in golden[stage]]
            assert all(map(math.isfinite, values))
            assert len(set(values)) > 1, f"{name} of {stage}"
