"""R1-Zero from the command line: what a run leaves, how it stops, and how it goes on."""

import json
import os
import resource
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fakes import Shape, byte_tokenizer, tiny_model
from forking import fork
from processes import arguments_of, call_main, metrics_of, start
from scripted import save_talking_model, write_problems
from zerone.model.loading import load_model, save_model
from zerone.runs.directory import RunDir
from zerone.runs.lineage import lineage_of_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a base model and problems, shared by the runs of this file."""
    path = tmp_path_factory.mktemp("zero")
    save_talking_model(path / "base")
    write_problems(path / "problems.jsonl")
    return path


@pytest.fixture(scope="module")
def finished(folder: Path) -> tuple[Path, str]:
    """Return a run that a process made from start to end, and what it printed."""
    process = start(folder, *arguments_of(folder, "finished"))
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return folder / "finished", out


# What a run leaves --------------------------------------------------------------------------------


def test_a_run_leaves_every_documented_file(finished: tuple[Path, str]) -> None:
    run, _ = finished
    names = {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()}
    assert names >= {
        "config.yaml",
        "environment.json",
        "metrics.jsonl",
        "timing.jsonl",
        "rollouts.sqlite",
        "evals/step_000000.json",
        "evals/step_000002.json",
        "evals/step_000004.json",
        "checkpoints/step_000003/model/model.safetensors",
        "checkpoints/step_000004/model/model.safetensors",
        "model/config.json",
        "model/model.safetensors",
        "model/tokenizer.json",
        "summary.json",
        "report.html",
    }
    assert not [name for name in names if name.endswith(".tmp")]


def test_summary_has_all_documented_keys(finished: tuple[Path, str]) -> None:
    run, _ = finished
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    assert summary.keys() == {"base", "final", "steps", "wall_s", "peak_rss_bytes", "seed"}
    of_all = ["pass_at_1", "format", "response_tokens", "reflection_words", "unparsable"]
    for moment in ("base", "final"):
        assert summary[moment].keys() == {"mixed", "hard"}
        for suite, names in (("mixed", of_all), ("hard", [*of_all, "cons_at_16"])):
            figures = summary[moment][suite]
            assert figures.keys() == {*names, *(f"{name}_ci" for name in names)}
            for name in names:
                low, high = figures[f"{name}_ci"]
                assert low <= figures[name] <= high
    assert (summary["steps"], summary["seed"]) == (4, 0)
    assert 0 < summary["wall_s"] < 300
    assert 50e6 < summary["peak_rss_bytes"] < 3e9


METRICS = {
    *(["step", "reward_mean", "reward_std", "accuracy", "format", "groups_with_signal", "groups_all_right"]),
    *(["groups_all_wrong", "response_tokens", "response_tokens_right", "response_tokens_wrong", "truncated"]),
    *(
        [
            "reflection_words",
            "verifier_errors",
            "entropy",
            "kl",
            "mismatch_kl",
            "ratio_max",
            "clip_low",
            "clip_high",
        ]
    ),
    *(["grad_norm", "loss", "learning_rate", "num_updates", "num_trained_tokens", "num_sampled_tokens"]),
    *(["weight_version", "accuracy_by", "verdict"]),
}


def test_metrics_have_all_documented_keys_and_nothing_of_the_clock(finished: tuple[Path, str]) -> None:
    run, _ = finished
    lines = metrics_of(run)
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    for line in lines:
        assert line.keys() >= METRICS
        assert not [name for name in line if name.endswith("_s") or "time" in name or "second" in name]
    timings = [json.loads(line) for line in (run / "timing.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [timing["step"] for timing in timings] == [1, 2, 3, 4]
    assert all(timing["total_s"] > 0 for timing in timings)


def test_evaluations_are_whole_at_the_ends_and_hard_in_between(finished: tuple[Path, str]) -> None:
    run, _ = finished
    suites = {step: sorted(found["suites"]) for step, found in RunDir(run).read_evals().items()}
    assert suites == {0: ["hard", "mixed"], 2: ["hard"], 4: ["hard", "mixed"]}


def test_environment_says_where_and_how_it_ran(finished: tuple[Path, str], folder: Path) -> None:
    run, _ = finished
    environment = json.loads((run / "environment.json").read_text(encoding="utf-8"))
    documented = "zerone commit python platform cpu cores torch transformers precision threads seed command"
    assert environment.keys() >= {*documented.split(), "started", "model", "model_sha256"}
    assert (environment["precision"], environment["threads"]) == ("fp32", 1)
    assert environment["model"] == str(folder / "base")
    assert environment["model_sha256"] == load_model(str(folder / "base"), torch.float32).sha256


def test_a_piped_run_prints_a_line_per_step_and_where_things_are(finished: tuple[Path, str]) -> None:
    run, out = finished
    lines = out.splitlines()
    steps = [line for line in lines if line.startswith("step ")]
    assert [line.split()[1] for line in steps] == ["1", "2", "3", "4"]
    for line, metrics in zip(steps, metrics_of(run), strict=True):
        assert metrics["verdict"] in line
    assert any(line.endswith(str(run / "report.html")) for line in lines)
    # Its problems are its own: one suite, not the same one under two names.
    tables = [line for line in lines if "pass@1" in line or "pass_at_1" in line]
    assert len(tables) == 4
    assert all("held-out" in line for line in tables)
    assert "\x1b[" not in out


def test_the_final_model_is_the_last_checkpoint_and_has_learned(
    finished: tuple[Path, str], folder: Path
) -> None:
    run, _ = finished
    final = load_model(str(run / "model"), torch.float32).module.state_dict()
    last = load_model(str(run / "checkpoints" / "step_000004" / "model"), torch.float32).module.state_dict()
    base = load_model(str(folder / "base"), torch.float32).module.state_dict()
    assert all(torch.equal(final[name], last[name]) for name in final)
    assert any(not torch.equal(final[name], base[name]) for name in final)


def test_the_final_model_says_what_it_was_made_from(finished: tuple[Path, str], folder: Path) -> None:
    run, _ = finished
    lineage = lineage_of_model(str(run))
    assert {lineage.nodes[key].name for key in lineage.node.inputs.values()} == {"base", "problems"}
    assert lineage.node.made_by["options"]["rl.steps"] == 4
    assert lineage.node.about["weights_sha256"] == load_model(str(run / "model"), torch.float32).sha256


def test_report_and_rollouts_can_be_asked_for_again(finished: tuple[Path, str], folder: Path) -> None:
    run, _ = finished
    code, out, _ = call_main(folder, "report", str(run))
    assert (code, out.strip()) == (0, str(run / "report.html"))
    code, out, _ = call_main(folder, "rollouts", str(run), "--best", "1")
    assert code == 0
    assert "Say " in out


def test_eval_of_a_run_prints_one_json_object(finished: tuple[Path, str], folder: Path) -> None:
    run, _ = finished
    options = ["sampling.max_tokens=8", "model.precision=fp32", "model.threads=1"]
    code, out, _ = call_main(folder, "eval", str(run), "--suite", "sums", "--k", "2", "--json", *options)
    assert code == 0
    figures = json.loads(out)
    for name in ("pass_at_1", "format", "response_tokens", "reflection_words"):
        low, high = figures[f"{name}_ci"]
        assert low <= figures[name] <= high
    assert (figures["suite"], figures["num_samples"]) == ("sums", 2)
    assert figures["levels"].keys() == {"sums/1", "sums/2", "sums/3"}
    assert figures["model_sha256"] == load_model(str(run / "model"), torch.float32).sha256


# Stopping and going on ----------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "terminate"])
def test_a_signal_saves_and_exits_with_130_and_resume_finishes_the_same_run(
    number: signal.Signals, finished: tuple[Path, str], folder: Path
) -> None:
    expected, _ = finished
    name = f"stopped-{number.name}"
    process = fork(folder, *arguments_of(folder, name))
    for line in process.stdout:
        if line.startswith("step 1 "):
            break
    os.kill(process.pid, number)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "stopped after step" in err
    assert "--resume" in err
    assert "Traceback" not in err
    assert not (folder / name / "summary.json").exists()
    assert 1 <= len(metrics_of(folder / name)) < 4
    code, _, err = call_main(folder, *arguments_of(folder, name), "--resume")
    assert code == 0, err
    for file in ("metrics.jsonl", "model/model.safetensors"):
        assert (folder / name / file).read_bytes() == (expected / file).read_bytes()


def test_resuming_a_finished_run_changes_nothing(finished: tuple[Path, str], folder: Path) -> None:
    expected, _ = finished
    shutil.copytree(expected, folder / "again")
    code, _, err = call_main(folder, *arguments_of(folder, "again"), "--resume")
    assert code == 0, err
    for file in (
        "metrics.jsonl",
        "timing.jsonl",
        "config.yaml",
        "environment.json",
        "summary.json",
        "model/model.safetensors",
    ):
        assert (folder / "again" / file).read_bytes() == (expected / file).read_bytes()


def _flip(path: Path) -> None:
    """Change one bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["optimizer.safetensors", "model/model.safetensors", "model/tokenizer.json"])
def test_a_flipped_bit_in_a_checkpoint_is_told_and_the_one_before_leads_to_the_same_end(
    name: str, finished: tuple[Path, str], folder: Path, tmp_path: Path
) -> None:
    expected, _ = finished
    run = tmp_path / "damaged"
    shutil.copytree(expected, run)
    last = run / "checkpoints" / "step_000004"
    _flip(last / name)
    code, _, err = call_main(folder, *arguments_of(folder, "damaged"), f"--run-dir={run}", "--resume")
    assert code == 0, err
    assert f"{last} is damaged ({name} is not what was written)" in err
    assert "step_000003" in err
    for file in ("metrics.jsonl", "model/model.safetensors"):
        assert (run / file).read_bytes() == (expected / file).read_bytes()


def test_a_run_without_a_sound_checkpoint_is_refused_by_name(
    finished: tuple[Path, str], folder: Path, tmp_path: Path
) -> None:
    run = tmp_path / "damaged"
    shutil.copytree(finished[0], run)
    for path in (run / "checkpoints").iterdir():
        _flip(path / "optimizer.safetensors")
    before = (run / "metrics.jsonl").read_bytes()
    code, _, err = call_main(folder, *arguments_of(folder, "damaged"), f"--run-dir={run}", "--resume")
    assert code == 1
    assert "step_000004 is damaged" in err
    assert (run / "metrics.jsonl").read_bytes() == before


def _small_files(size: int) -> Callable[[], None]:
    """Return what a child process does before it starts: no file of it may grow beyond a size."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def test_a_full_disk_exits_with_1_and_the_run_goes_on_when_there_is_room(
    finished: tuple[Path, str], folder: Path
) -> None:
    expected, _ = finished
    size = (expected / "checkpoints" / "step_000004" / "optimizer.safetensors").stat().st_size
    process = fork(folder, *arguments_of(folder, "full"), before=_small_files(size - 1))
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1, err
    assert "cannot write" in err
    assert "Traceback" not in err
    assert len(err.splitlines()) < 24
    code, _, err = call_main(folder, *arguments_of(folder, "full"), "--resume")
    assert code == 0, err
    assert (folder / "full" / "metrics.jsonl").read_bytes() == (expected / "metrics.jsonl").read_bytes()


# What is refused -----------------------------------------------------------------------------------


def test_an_existing_run_is_not_overwritten(finished: tuple[Path, str], folder: Path) -> None:
    run, _ = finished
    before = (run / "metrics.jsonl").read_bytes()
    code, _, err = call_main(folder, *arguments_of(folder, "finished"))
    assert code == 2
    assert f"{run} already holds a run; resume it with --resume, or choose another --run-dir" in err
    assert (run / "metrics.jsonl").read_bytes() == before


def test_resume_with_another_configuration_shows_the_difference(
    finished: tuple[Path, str], folder: Path
) -> None:
    code, _, err = call_main(folder, *arguments_of(folder, "finished", "rl.steps=6", "seed=3"), "--resume")
    assert code == 2
    assert "was started with another configuration" in err
    assert "rl.steps: 4  (now: 6)" in err
    assert "seed: 0  (now: 3)" in err
    assert "group_size" not in err


def test_resume_with_other_weights_is_refused(finished: tuple[Path, str], folder: Path) -> None:
    run, _ = finished
    base = folder / "base"
    saved = (base / "model.safetensors").read_bytes()
    try:
        save_model(tiny_model(Shape(tied=False, context=1024), seed=9), byte_tokenizer(), base)
        code, _, err = call_main(folder, *arguments_of(folder, "finished"), "--resume")
    finally:
        shutil.copytree(run / "checkpoints" / "step_000004" / "model", base, dirs_exist_ok=True)
        (base / "model.safetensors").write_bytes(saved)
    assert code == 2
    assert f"{base} has changed since" in err
