"""`zerone sft` from the command line: what a run leaves, what it refuses, and that it goes on exactly."""

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch

from forking import fork
from processes import call_main, metrics_of
from scripted import save_talking_model, write_problems
from sft_runs import arguments, demonstrations
from zerone.config import build_config
from zerone.evals.suites import suite_for_sft
from zerone.model.loading import load_model
from zerone.pipeline.estimates import sft_estimate
from zerone.runs.directory import RunDir

NUM_STEPS = 17


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a base model, demonstrations and problems, shared by the runs here."""
    path = tmp_path_factory.mktemp("sft")
    save_talking_model(path / "base")
    write_problems(path / "problems.jsonl", count=4)
    (path / "data.jsonl").write_text(demonstrations(), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def finished(folder: Path) -> Path:
    """Return a run that was left alone."""
    code, _, err = call_main(folder, *arguments(folder, "finished"))
    assert code == 0, err
    return folder / "finished"


def assert_same_run(found: Path, expected: Path) -> None:
    for name in ("metrics.jsonl", "model/model.safetensors", "best/model.safetensors"):
        assert (found / name).read_bytes() == (expected / name).read_bytes(), name
    evals = [
        {step: (e["loss"], e["suites"]) for step, e in RunDir(run).read_evals().items()}
        for run in (found, expected)
    ]
    assert evals[0] == evals[1]


def test_a_run_leaves_every_documented_file(finished: Path) -> None:
    names = {path.relative_to(finished).as_posix() for path in finished.rglob("*") if path.is_file()}
    steps = len(metrics_of(finished))
    assert steps == NUM_STEPS
    assert names >= {
        "config.yaml",
        "environment.json",
        "metrics.jsonl",
        "timing.jsonl",
        "evals/step_000000.json",
        "evals/step_000003.json",
        f"evals/step_{steps:06d}.json",
        f"checkpoints/step_{steps:06d}/optimizer.safetensors",
        "model/config.json",
        "model/tokenizer.json",
        "best/model.safetensors",
        "best/provenance.json",
        "summary.json",
    }
    assert "rollouts.sqlite" not in names
    assert not [name for name in names if ".tmp" in name or ".old" in name]


def test_summary_compares_base_best_and_final(finished: Path) -> None:
    summary = json.loads((finished / "summary.json").read_text(encoding="utf-8"))
    evals = RunDir(finished).read_evals()
    assert summary["base"]["loss"] > summary["final"]["loss"] >= summary["best"]["loss"]
    assert summary["best"]["loss"] == min(evaluation["loss"] for evaluation in evals.values())
    assert summary["steps"] == NUM_STEPS
    assert summary["num_trained"] + summary["num_held_out"] == 40
    for moment in ("base", "best", "final"):
        figures = summary[moment]["suites"]["problems"]
        low, high = figures["pass_at_1_ci"]
        assert 0 <= low <= figures["pass_at_1"] <= high <= 1
    assert summary["final"]["suites"]["problems"]["format"] > summary["base"]["suites"]["problems"]["format"]


def test_best_is_the_model_of_the_step_that_its_provenance_names(finished: Path) -> None:
    summary = json.loads((finished / "summary.json").read_text(encoding="utf-8"))
    provenance = json.loads((finished / "best" / "provenance.json").read_text(encoding="utf-8"))
    assert provenance["step"] == summary["best"]["step"]
    assert load_model(str(finished / "best"), torch.float32).sha256


def test_the_best_of_a_run_that_only_gets_worse_is_its_base(folder: Path) -> None:
    changes = ("sft.learning_rate=0.1", "sft.epochs=1", "sft.batch_size=16", "sft.suite=none", "eval.every=1")
    code, _, err = call_main(folder, *arguments(folder, "worse", *changes))
    assert code == 0, err
    summary = json.loads((folder / "worse" / "summary.json").read_text(encoding="utf-8"))
    assert summary["best"]["step"] == 0
    assert summary["final"]["loss"] > summary["base"]["loss"]
    base, best = (
        load_model(str(path), torch.float32) for path in (folder / "base", folder / "worse" / "best")
    )
    found = best.module.state_dict()
    assert all(torch.equal(weights, found[name]) for name, weights in base.module.state_dict().items())


@pytest.mark.parametrize("step", [2, 10])
def test_a_run_that_goes_on_from_a_checkpoint_ends_like_one_left_alone(
    folder: Path, finished: Path, step: int
) -> None:
    """A crash after two more steps: their records and a later best model are on file already."""
    name = f"resumed-{step}"
    code, _, err = call_main(folder, *arguments(folder, name, "checkpoint.keep=99"))
    assert code == 0, err
    run = folder / name
    for path in (run / "checkpoints").iterdir():
        if int(path.name.removeprefix("step_")) > step:
            shutil.rmtree(path)
    shutil.rmtree(run / "model")
    (run / "summary.json").unlink()
    code, _, err = call_main(folder, *arguments(folder, name, "checkpoint.keep=99"), "--resume")
    assert code == 0, err
    assert_same_run(run, finished)


def test_a_killed_run_ends_like_one_left_alone(folder: Path, finished: Path) -> None:
    process = fork(folder, *arguments(folder, "killed"))
    for line in process.stdout:
        if line.startswith("step 5/"):
            break
    assert process.poll() is None
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    code, _, err = call_main(folder, *arguments(folder, "killed"), "--resume")
    assert code == 0, err
    assert_same_run(folder / "killed", finished)


def test_resuming_a_finished_run_changes_nothing(folder: Path, finished: Path) -> None:
    """Not even what it took, which the process that goes on cannot know of itself."""
    again = folder / "again"
    shutil.copytree(finished, again)
    timing = again / "timing.jsonl"
    lines = [json.loads(line) for line in timing.read_text(encoding="utf-8").splitlines()]
    lines[4]["peak_rss_bytes"] = 2**50  # as if another process had needed more than this one ever will
    timing.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    code, _, err = call_main(folder, *arguments(folder, "again"), "--resume")
    assert code == 0, err
    for file in ("metrics.jsonl", "environment.json", "model/model.safetensors"):
        assert (again / file).read_bytes() == (finished / file).read_bytes()
    expected, found = (
        json.loads((run / "summary.json").read_text(encoding="utf-8")) for run in (finished, again)
    )
    assert found == expected | {"peak_rss_bytes": 2**50}


def test_changed_data_is_refused_on_resume(folder: Path, finished: Path) -> None:
    data = folder / "data.jsonl"
    before = data.read_text(encoding="utf-8")
    data.write_text(demonstrations(41), encoding="utf-8")
    try:
        code, _, err = call_main(folder, *arguments(folder, "finished"), "--resume")
    finally:
        data.write_text(before, encoding="utf-8")
    assert code == 2
    assert "data.jsonl has changed since" in err


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        (["sft.max_tokens=20"], "longer than 20 tokens"),
        (["data.path=nowhere.jsonl"], "does not exist"),
        (["data.path=null"], "SFT needs data.path=FILE.jsonl"),
        (["sft.suite=maths"], "is not a suite"),
        (["data.eval_share=0.0001"], "leaves none for evaluation"),
    ],
)
def test_what_the_user_can_mend_is_said_before_anything_is_written(
    folder: Path, changes: list[str], complaint: str
) -> None:
    code, _, err = call_main(folder, *arguments(folder, "refused", *changes))
    assert code == 2
    assert complaint in err
    assert not RunDir(folder / "refused").has_run


def test_long_answers_are_left_out_and_counted(folder: Path) -> None:
    long = json.dumps({"prompt": "Long?", "completion": "a" * 900}) + "\n"
    (folder / "long.jsonl").write_text(demonstrations() + long, encoding="utf-8")
    changes = (f"data.path={folder / 'long.jsonl'}", "sft.suite=none", "sft.epochs=1", "sft.max_tokens=500")
    code, out, err = call_main(folder, *arguments(folder, "long", *changes))
    assert code == 0, err
    assert "1 longer than 500 tokens left out" in out
    assert RunDir(folder / "long").read_evals()[0]["suites"] == {}


def test_dry_run_prints_the_configuration_and_writes_nothing(folder: Path) -> None:
    code, out, _ = call_main(folder, *arguments(folder, "dry"), "--dry-run")
    assert code == 0
    assert "batch_size: 4" in out
    assert not (folder / "dry").exists()


def test_the_suite_has_its_own_number_of_completions(folder: Path) -> None:
    changes = [f"data.path={folder / 'problems.jsonl'}", "eval.hard_samples=16", "eval.mixed_samples=2"]
    for name in ("hard", "mixed", "sums", str(folder / "problems.jsonl")):
        config = build_config({}, [*changes, f"sft.suite={name}", "sft.samples=3"])
        suite = suite_for_sft(config)
        assert suite is not None
        assert suite.num_samples == 3


def test_its_evaluations_are_in_the_estimate() -> None:
    def seconds(*changes: str) -> float:
        return sft_estimate(100_000)(build_config({}, ["sft.suite=hard", *changes])).seconds

    without = seconds("sft.suite=none")
    assert without < seconds("sft.samples=1") < seconds("sft.samples=16")
    assert seconds("eval.every=0") < seconds("eval.every=10") < seconds("eval.every=1")
    assert seconds("eval.problems=4") < seconds("eval.problems=32")
    assert seconds() < seconds("sft.suite=mine.jsonl")
