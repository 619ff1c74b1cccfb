"""The check for a GPU machine (benchmarks/gpu_check.py): correctness on a CPU, and that it can fail."""

import json
from pathlib import Path

import pytest
import torch

import gpu_check
from gpu_check import compared, credited, of_trainer, of_transformers, opened, parse_arguments, sample


def arguments(folder: Path, *more: str) -> list[str]:
    return ["--device=cpu", "--threads=1", f"--json={folder / 'found.json'}", *more]


def test_the_correctness_half_passes_on_a_cpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_check.main(arguments(tmp_path)) == 0
    found = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    assert len(found["checks"]) == 13
    assert found["conditions"]["engine"] == "process"
    out = capsys.readouterr().out
    assert "FAILED" not in out
    assert "no figures: torch sees no GPU here" in out


def test_figures_are_measured_where_they_are_asked_for_and_the_peer_is_skipped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = parse_arguments(arguments(tmp_path, "--engine=torch", "--figures"))
    figures = gpu_check.check(given)["figures"]
    assert figures["trl"].startswith("skipped: ")
    for name in ("engine_tokens_per_s", "trainer_tokens_per_s", "peak_of_a_pass_bytes", "step_s"):
        assert figures[name] > 0
    for name in (name for name in figures if "share" in name):
        assert 0 < figures[name] < 1
    assert "trainer_share_of_matmul_peak" in capsys.readouterr().out


def test_other_weights_in_the_engine_and_a_wrong_token_break_the_bounds(tmp_path: Path) -> None:
    given = parse_arguments(arguments(tmp_path, "--engine=torch"))
    gpu_check.save_random_model(tmp_path / "model", gpu_check.TINY)
    given.model = str(tmp_path / "model")
    with opened(given, "fp32") as setup:
        setup.engine.update_weights(setup.trainer.weights(), 0)
        groups = credited(setup, sample(setup, 0))
        ours, recorded = of_trainer(setup, groups)
        theirs = of_transformers(setup, groups)
        assert all(one.is_kept for one in compared("same", ours, theirs, "fp32"))
        assert not any(one.is_kept for one in compared("shifted", ours[1:], theirs[:-1], "bf16"))
        with torch.no_grad():
            for parameter in setup.trainer.module.parameters():
                parameter.mul_(1.01)
        moved, _ = of_trainer(setup, groups)
        assert not any(one.is_kept for one in compared("moved", moved, recorded, "fp32"))


def test_what_is_no_number_is_not_within_its_bound() -> None:
    assert not gpu_check.Check(name="", value=float("nan"), bound=1.0).is_kept
