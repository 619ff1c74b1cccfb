"""Printed commands work as pasted: the program by a name that a shell finds, and how a run is resumed."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from broken_sandbox import break_sandbox
from pipelines import Notes, small_config, small_pipeline
from processes import arguments_of, call_main
from report_runs import Page
from scripted import save_talking_model, write_problems
from zerone.cli.main import _how_to_call
from zerone.errors import SandboxUnavailable
from zerone.jobs.origins import _prepare_once, require_verifiers
from zerone.report.page import render
from zerone.runs.commands import as_typed, command_of_process, command_to_resume, program
from zerone.runs.directory import RunDir

# The program --------------------------------------------------------------------------------------


def _installation(folder: Path) -> Path:
    """Return the programs of a virtual environment that has `zerone`."""
    bin_path = folder / "my env" / "bin"
    bin_path.mkdir(parents=True)
    for name in ("python", "zerone"):
        (bin_path / name).write_text("#!/bin/sh\necho called\n", encoding="utf-8")
        (bin_path / name).chmod(0o755)
    return bin_path


def test_an_activated_environment_calls_the_program_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bin_path = _installation(tmp_path)
    monkeypatch.setattr(sys, "executable", str(bin_path / "python"))
    monkeypatch.setenv("PATH", str(bin_path))
    assert program() == "zerone"
    assert _how_to_call("run `zerone sandbox doctor`") == []


@pytest.mark.parametrize("others", ["", "another installation"])
def test_without_activation_the_path_of_the_program_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, others: str
) -> None:
    bin_path = _installation(tmp_path)
    monkeypatch.setattr(sys, "executable", str(bin_path / "python"))
    monkeypatch.setenv("PATH", str(_installation(tmp_path / others)) if others else "/nowhere")
    monkeypatch.chdir(tmp_path)
    assert program() == "'my env/bin/zerone'", "short where it can be"
    monkeypatch.chdir("/usr")
    assert shlex.split(program()) == [str(bin_path / "zerone")]
    monkeypatch.chdir(bin_path)
    assert shlex.split(program()) == [str(bin_path / "zerone")]
    found = subprocess.run(["/bin/sh", "-c", program()], capture_output=True, text=True, check=True)
    assert found.stdout == "called\n"
    assert program() in _how_to_call("run `zerone sandbox doctor`")[0]
    assert _how_to_call("no such file") == []


def test_a_package_without_a_script_is_called_as_a_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert program() == f"{tmp_path / 'python'} -m zerone"
    assert as_typed("zerone zero seed=1") == f"{tmp_path / 'python'} -m zerone zero seed=1"


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["/a/.venv/bin/zerone", "zero"], "zerone zero"),
        (["/a/src/zerone/__main__.py", "r1", "--run-dir", "my runs/a"], "zerone r1 --run-dir 'my runs/a'"),
        (
            ["zerone", "zero", "data.answer_pattern=#### (.+)$"],
            "zerone zero 'data.answer_pattern=#### (.+)$'",
        ),
        (["zerone", "zero", 'sampling.stop=["it\'s"]'], "zerone zero 'sampling.stop=[\"it'\"'\"'s\"]'"),
        (["/usr/lib/ipykernel_launcher.py", "-f", "kernel.json"], ""),
        (["/a/pytest/__main__.py", "-q"], ""),
        ([""], ""),
    ],
)
def test_only_a_command_of_ours_is_recorded_and_it_is_quoted(
    monkeypatch: pytest.MonkeyPatch, argv: list[str], expected: str
) -> None:
    monkeypatch.setattr(sys, "argv", argv)
    assert command_of_process() == expected
    assert shlex.split(command_of_process())[1:] == (argv[1:] if expected else [])


# How a run is resumed -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "resuming"),
    [
        ("zerone zero", "zero --resume runs/a"),
        ("zerone zero --run-dir runs/a", "zero --resume runs/a"),
        ("zerone zero --mix --recipe tiny 'data.answer_pattern=#### (.+)$'", "zero --resume runs/a"),
        ("zerone sft --recipe sft data.path=d.jsonl", "sft --resume runs/a"),
        ("zerone r1 --from dev1 --only dev1 dev1.sft.epochs=1", "r1 --resume runs/a"),
        ("zerone distill T small seed=2", "distill T small seed=2 --run-dir runs/a --resume"),
        ("zerone distill T --run-dir=b --on-policy", "distill T --on-policy --run-dir runs/a --resume"),
        ("zerone distill T --resume --run-dir runs/a 'a=b c'", "distill T 'a=b c' --run-dir runs/a --resume"),
        ("zerone ablate grpo --pipeline runs/r", "ablate grpo --pipeline runs/r --run-dir runs/a --resume"),
        ("zerone reward-model train p.jsonl", "reward-model train p.jsonl --run-dir runs/a --resume"),
        ('zerone distill "it\'s"', "distill 'it'\"'\"'s' --run-dir runs/a --resume"),
        ("zerone distill it's", "distill 'it'\"'\"'s' --run-dir runs/a --resume"),
    ],
)
def test_a_run_is_resumed_by_its_directory_or_by_its_own_command(command: str, resuming: str) -> None:
    assert command_to_resume(command, Path("runs/a")) == f"zerone {resuming}"


def test_a_directory_with_a_blank_is_quoted() -> None:
    assert command_to_resume("zerone zero", Path("my runs/a")) == "zerone zero --resume 'my runs/a'"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("commands")
    save_talking_model(path / "base")
    write_problems(path / "problems.jsonl")
    return path


def _printed(page: str) -> list[str]:
    """Return the arguments of the command that a page prints under "To resume"."""
    text = Page(page).text
    line = next(line for line in text.splitlines() if "--resume" in line)
    return shlex.split(line.partition("To resume: ")[2])


@pytest.mark.parametrize(
    "changes",
    [
        ("seed=3", "rl.steps=1"),
        ("rl.steps=1", "data.answer_pattern=(.+)$", 'sampling.stop=["it\'s", "a b"]'),
        ("--quiet", "rl.steps=1", "reward.format=0.2"),
    ],
)
def test_the_command_that_a_report_prints_resumes_the_run(
    folder: Path, tmp_path: Path, changes: tuple[str, ...]
) -> None:
    first, _, *arguments = arguments_of(folder, "unused", *changes)
    arguments = [argument for argument in arguments if not argument.startswith("--run-dir")]
    run = RunDir(tmp_path / "my run")
    code, out, err = call_main(folder, first, "--recipe=tiny", *arguments, "--run-dir", str(run.path))
    assert code == 0, out + err
    run.remove_summary()
    command = _printed(render(run))
    assert command == ["zerone", "zero", "--resume", str(run.path)]
    code, out, err = call_main(folder, *command[1:])
    assert (code, run.read_summary() is not None) == (0, True), out + err


def test_a_run_of_a_program_is_resumed_by_the_command_of_its_kind(folder: Path, tmp_path: Path) -> None:
    code, out, err = call_main(folder, *arguments_of(folder, "without", "rl.steps=1", "seed=7"))
    assert code == 0, out + err
    run = RunDir(folder / "without")
    run.remove_summary()
    run.write_environment({**run.read_environment(), "command": ""})
    command = _printed(render(run))
    assert command == ["zerone", "zero", "--resume", str(run.path)]
    assert call_main(folder, *command[1:])[0] == 0


def test_a_pipeline_and_its_stages_are_resumed_by_the_pipeline_s_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["zerone", "r1", "--recipe", "r1_tiny", "--only", "first", "a=b c"])
    small_pipeline(tmp_path, only="base").run(False, Notes())
    small_pipeline(tmp_path, only="first").run(True, Notes())
    run = RunDir(tmp_path / "run")
    expected = ["zerone", "r1", "--resume", str(run.path)]
    assert _printed(render(run)) == expected
    stage = RunDir(run.path / "first")
    stage.remove_summary()
    assert _printed(render(stage)) == expected
    assert json.loads((run.path / "environment.json").read_text())["command"].endswith("'a=b c'")


# What a pipeline needs ----------------------------------------------------------------------------


ON_FUNCTIONS = {"first": ("data.path=null", "data.family=mix")}


def test_without_a_sandbox_a_pipeline_stops_before_its_first_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_sandbox(monkeypatch)
    _prepare_once.cache_clear()
    pipeline = small_pipeline(tmp_path, changes=ON_FUNCTIONS)
    assert len(pipeline.plan()) == 4, "what would be done can be looked at"
    notes = Notes()
    with pytest.raises(SandboxUnavailable, match="apt-get install bubblewrap"):
        pipeline.run(False, notes)
    assert notes.begun == []
    assert not (tmp_path / "run" / "base").exists()


def test_a_stage_that_is_left_out_needs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    break_sandbox(monkeypatch)
    _prepare_once.cache_clear()
    notes = Notes()
    small_pipeline(tmp_path, changes=ON_FUNCTIONS, only="base").run(False, notes)
    assert notes.ended == ["base"]


@pytest.mark.parametrize(
    ("rows", "is_refused"),
    [
        ('{"prompt": "p", "answer": "7"}\n', False),
        ('{"prompt": "p", "answer": "\\\\frac{1}{2}", "verifier": "math"}\n', False),
        ('{"prompt": "p", "answer": "7"}\n{"prompt": "f", "verifier": "code", "answer": '
         '{"mode": "call", "entry": "f", "tests": [{"args": [1], "expected": 1}]}}\n', True),
    ],
)  # fmt: skip
def test_only_problems_that_are_judged_by_running_programs_need_a_sandbox(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: str, is_refused: bool
) -> None:
    break_sandbox(monkeypatch)
    _prepare_once.cache_clear()
    (tmp_path / "p.jsonl").write_text(rows + '{"prompt": "q", "answer": "8"}\n', encoding="utf-8")
    config = small_config(tmp_path, f"data.path={tmp_path / 'p.jsonl'}", "data.eval_share=0.5")
    if is_refused:
        with pytest.raises(SandboxUnavailable):
            require_verifiers(config)
    else:
        require_verifiers(config)
