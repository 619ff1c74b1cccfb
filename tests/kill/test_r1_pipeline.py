"""`zerone r1 --recipe r1_tiny`, all of it: what it writes, and that kills leave no trace."""

import json
import shutil
import signal
import subprocess
from pathlib import Path
from random import Random
from typing import Any

import pytest

from killing import moment
from processes import start
from zerone.identity import sha256_of_path
from zerone.pipeline.r1 import r1_graph

pytestmark = pytest.mark.slow

MODELS = ("base", "r1_zero", "dev1", "dev2", "dev3", "r1")
SUITES = ("reasoning", "code", "format", "language", "helpfulness", "safety")


def arguments(run: Path) -> list[str]:
    return ["r1", "--recipe=r1_tiny", f"--run-dir={run}", *(["--resume"] if run.exists() else [])]


def finish(folder: Path, name: str) -> Path:
    done = start(folder, *arguments(folder / name))
    _, err = done.communicate(timeout=900)
    assert done.returncode == 0, err[-2000:]
    return folder / name


def hashes_of(run: Path) -> dict[str, str]:
    """Return the hash of everything that the stages made, as it is on disk."""
    found = {}
    for name in r1_graph().names:
        record = json.loads((run / name / "stage.json").read_text(encoding="utf-8"))
        for output, made in record["outputs"].items():
            found[f"{name}.{output}"] = sha256_of_path(run / name / made["path"])
            assert made["sha256"] == found[f"{name}.{output}"]
    return found


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finish(tmp_path_factory.mktemp("r1"), "whole")


def summary_of(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    return found


def test_the_summary_has_every_model_on_every_suite(run: Path) -> None:
    models = summary_of(run)["models"]
    assert set(models) == set(MODELS)
    for name, model in models.items():
        assert Path(model["path"]).is_dir()
        assert set(SUITES) <= set(model["suites"])
        for suite, found in model["suites"].items():
            if found["score"] is None:
                assert found["left_out"], (name, suite)
            else:
                low, high = found["ci"]
                assert 0 <= low <= found["score"] <= high <= 1
                assert found["n"] > 0
        assert model["response_tokens"] > 0


def test_the_summary_has_students_data_reward_models_and_costs(run: Path) -> None:
    found = summary_of(run)
    students = found["students"]
    assert len(students) >= 3
    assert len({student["architecture"] for student in students}) >= 2
    assert len({student["parameters"] for student in students}) == len(students)
    for student in students:
        assert {"base_score", "distilled_score", "direct_rl_score"} <= set(student)
    assert {"cold_start", "rejection_sampling"} <= set(found["data"])
    assert set(found["reward_models"]) == {"helpfulness", "safety"}
    ppo = found["ppo"]
    assert ppo["steps"] == 2
    assert ppo["total_s_ratio"] == pytest.approx(ppo["total_s_ppo"] / ppo["total_s_grpo"], abs=0.01)
    assert 1.9 < ppo["state_bytes_ratio"] < 2.1, "a critic of the policy's size"
    assert found["wall_s"] > 0
    assert found["peak_rss_bytes"] > 0
    assert found["seed"] == 0


def test_a_pipeline_killed_ten_times_ends_with_the_same_hashes(run: Path) -> None:
    """Where the pipeline is over too soon to be killed, it begins anew; a slow machine gets more time."""
    rng, kills, reached = Random(3), 0, set[str]()
    again = run.parent / "killed"
    while kills < 10 or len(reached) < 5:
        assert kills < 30, "kills fell on few stages"
        process = start(run.parent, *arguments(again))
        try:
            process.wait(timeout=moment(rng, max(0, kills - 10), 8, 22))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
            reached.update(path.parent.name for path in again.glob("*/stage.json"))
        else:
            assert process.returncode == 0, process.communicate()[1][-2000:]
            assert hashes_of(again) == hashes_of(run)
            shutil.rmtree(again)
    assert hashes_of(finish(run.parent, "killed")) == hashes_of(run)
