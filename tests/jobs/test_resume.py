"""What a run that goes on says of itself: what it took in all, and by which programs it was made."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pipelines import Made, Notes, make_base, small_config, small_graph, small_pipeline
from scripted import save_talking_model
from zerone import __version__
from zerone.errors import Interrupted, RunDirError
from zerone.jobs.origins import run_lineage
from zerone.jobs.upkeep import spent
from zerone.pipeline.graph import Graph, StageDisplay, StageInputs
from zerone.processes.machine import commit_of_source
from zerone.runs.directory import RunDir
from zerone.runs.lineage import read_lineage
from zerone.runs.start import Input, begin_run, prepare_run

# What it took -------------------------------------------------------------------------------------


def _run_of_two_steps(path: Path) -> RunDir:
    """Return a run that another process finished, or nearly."""
    run = RunDir(path)
    lines = [
        {"step": 1, "total_s": 10.0, "between_s": 4.5, "peak_rss_bytes": 3 * 2**50},
        {"step": 2, "total_s": 10.0, "between_s": 0.5, "peak_rss_bytes": 2**50},
    ]
    (path / "timing.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for step, seconds in ((0, 4.0), (1, 6.0), (2, 8.0)):
        run.write_eval(step, {"step": step, "seconds": seconds, "peak_rss_bytes": 2**49})
    return run


def test_memory_is_that_of_the_process_that_needed_most(tmp_path: Path) -> None:
    run = _run_of_two_steps(tmp_path)
    assert spent(run)["peak_rss_bytes"] == 3 * 2**50
    run.write_eval(2, {"step": 2, "seconds": 8.0, "peak_rss_bytes": 5 * 2**50})
    assert spent(run)["peak_rss_bytes"] == 5 * 2**50


def test_an_evaluation_before_which_a_process_died_counts_in_the_time(tmp_path: Path) -> None:
    """That of step 1 was on file when step 2 began, so nothing between the steps has its time."""
    assert spent(_run_of_two_steps(tmp_path))["wall_s"] == (4.5 + 10) + (6 + 10) + 8


def test_a_run_without_records_of_memory_says_this_process_s(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    run.write_eval(0, {"step": 0, "seconds": 1.0})
    assert 10e6 < spent(run)["peak_rss_bytes"] < 2**40


# By which programs it was made -------------------------------------------------------------------


def _begin(folder: Path, *, resume: bool = False, sha256: str = "a" * 64) -> RunDir:
    """Begin a run, or go on with it, as every command does before it trains."""
    run, config = RunDir(folder / "run").lock(), small_config(folder)
    environment = prepare_run(config, run, resume, precision="fp32")
    begin_run(config, run, environment, {"data_sha256": Input(name="data", sha256=sha256)}, "problems")
    run.unlock()
    return run


def _by_others(run: RunDir) -> dict[str, str]:
    """Make a run one that another commit and another torch began, and that has a checkpoint of step 3."""
    others = {"commit": "0" * 40, "torch": "1.0.0"}
    run.write_environment({**run.read_environment(), **others})
    checkpoint = run.checkpoints_path / "step_000003"
    checkpoint.mkdir(parents=True)
    (checkpoint / "progress.json").write_text('{"step": 3, "updates": 3}', encoding="utf-8")
    return others


def test_going_on_with_the_same_program_changes_nothing_and_says_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (_begin(tmp_path).path / "environment.json").read_bytes()
    assert (_begin(tmp_path, resume=True).path / "environment.json").read_bytes() == before
    assert capsys.readouterr().err == ""


def test_another_program_is_told_in_one_line_and_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = _begin(tmp_path)
    others = _by_others(run)
    before = run.read_environment()
    now = {"commit": commit_of_source(), "torch": torch.__version__}
    _begin(tmp_path, resume=True)
    assert run.read_environment() == {**before, "resumed": [{"step": 3, **now}]}
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: ")
    assert all(f"{key} {others[key]} (now {now[key]})" in line for key in others)
    kept = (run.path / "environment.json").read_bytes()
    _begin(tmp_path, resume=True)
    assert ((run.path / "environment.json").read_bytes(), capsys.readouterr().err) == (kept, "")


def test_what_is_refused_leaves_no_trace(tmp_path: Path) -> None:
    run = _begin(tmp_path)
    _by_others(run)
    before = (run.path / "environment.json").read_bytes()
    with pytest.raises(RunDirError, match="data has changed since"):
        _begin(tmp_path, resume=True, sha256="b" * 64)
    assert (run.path / "environment.json").read_bytes() == before


def test_the_lineage_of_a_run_names_every_program(tmp_path: Path) -> None:
    run = _begin(tmp_path)
    others = _by_others(run)
    _begin(tmp_path, resume=True)
    save_talking_model(run.model_path)
    made_by = run_lineage(small_config(tmp_path), run, "is tested").node.made_by
    assert made_by["commit"] == others["commit"]
    assert made_by["resumed"] == [{"step": 3, "commit": commit_of_source(), "torch": torch.__version__}]


def test_the_lineage_of_a_stage_names_every_program(tmp_path: Path) -> None:
    def stopping(inputs: StageInputs, directory: Path, resume: bool, display: StageDisplay) -> Made:
        if not resume:
            raise Interrupted("stopped")
        return make_base(inputs, directory, resume, display)

    graph = Graph(stages=tuple(replace(stage, run=stopping) for stage in small_graph().stages[:1]))
    with pytest.raises(Interrupted):
        small_pipeline(tmp_path, graph=graph).run(False, Notes())
    record = tmp_path / "run" / "base" / "stage.json"
    value = json.loads(record.read_text(encoding="utf-8"))
    value["by"]["commit"] = "0" * 40
    record.write_text(json.dumps(value), encoding="utf-8")
    small_pipeline(tmp_path, graph=graph).run(True, Notes())
    lineage = read_lineage(tmp_path / "run" / "base" / "model")
    assert lineage is not None
    made_by = lineage.node.made_by
    assert (made_by["zerone"], made_by["commit"]) == (__version__, "0" * 40)
    assert made_by["resumed"] == [{"commit": commit_of_source()}]
