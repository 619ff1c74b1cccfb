"""A run whose numbers are on file: any change of what training computes shows here.

Tolerance: other processors and BLAS builds add in another order. Moving every weight at random by
its last bit stands in for that: it moved these figures by 5e-6 at most after four steps, and no
token. 1e-3 is far above it and far below what a changed formula does. Should a difference fall on
a draw all the same, an answer changes and with it everything after; tokens are therefore compared
in the first step alone, before any update.
"""

import json
import math
from pathlib import Path

import pytest

from golden.make_tiny_rl import FIGURES, GOLDEN_PATH, run_tiny


def test_the_tiny_run_is_the_golden_one(tmp_path: Path) -> None:
    golden = json.loads(GOLDEN_PATH.read_text(encoding="utf-8"))
    found = run_tiny(tmp_path)
    assert len(found) == len(golden)
    assert found[0]["first_completion"] == golden[0]["first_completion"]
    for step, (line, expected) in enumerate(zip(found, golden, strict=True), start=1):
        for name in FIGURES:
            # Losses near zero are differences of larger terms: 1e-5 is their rounding.
            assert line[name] == pytest.approx(expected[name], rel=1e-3, abs=1e-5), f"step {step}: {name}"


def test_the_golden_run_is_worth_comparing() -> None:
    """Every figure moves, so that none of them is right by being zero."""
    golden = json.loads(GOLDEN_PATH.read_text(encoding="utf-8"))
    for name in FIGURES:
        values = [line[name] for line in golden]
        assert all(map(math.isfinite, values))
        assert len(set(values)) > 1, name
    assert golden[-1]["reward_mean"] > golden[0]["reward_mean"]
