"""The line of each step, and doctor, say that the machine is shared, and nothing where it is not."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from pipelines import planned
from processes import call_main
from zerone.cli import doctor
from zerone.cli.machine_note import MachineNote
from zerone.cli.pipeline_progress import PipelineView
from zerone.cli.progress import LossDisplay, TerminalDisplay
from zerone.config import build_config
from zerone.pipeline.run import State
from zerone.processes.sharing import OtherWork, Watch

SAID = "shared machine: other processes take 1.0 of 2 cores; this takes about 2.0 times as long"
TIMING = {"total_s": 1.0}
METRICS: dict[str, Any] = {
    "reward_mean": 0.5,
    "accuracy": 0.5,
    "format": 1.0,
    "groups_with_signal": 1.0,
    "response_tokens": 20.0,
    "reflection_words": 0.0,
    "truncated": 0.0,
    "entropy": 0.5,
    "mismatch_kl": 1e-6,
    "grad_norm": 0.1,
    "verdict": "healthy",
}


class Scripted(Watch):
    """A watch that tells what it was given, one look after the other."""

    def __init__(self, *told: float | None) -> None:
        self._left = list(told)

    def look(self) -> OtherWork | None:
        taken = self._left.pop(0)
        return None if taken is None else OtherWork(cores=2, taken=taken)


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_a_line_of_rl_says_it_while_it_is_so() -> None:
    out = io.StringIO()
    display = TerminalDisplay(
        Console(file=out, width=400), Path("runs/a"), note=MachineNote(Scripted(0.0, 1.0, None, 0.1))
    )
    for step in (1, 2, 3, 4):
        display.step({"step": step, **METRICS}, TIMING, [])
    lines = out.getvalue().splitlines()
    assert [line.endswith("healthy") for line in lines] == [True, False, True, True]
    assert lines[1].endswith(f"healthy  {SAID}")


def test_the_live_table_says_it_under_the_figures() -> None:
    out = io.StringIO()
    console = Console(file=out, width=120, height=40, force_terminal=True, no_color=False)
    with TerminalDisplay(console, Path("runs/a"), note=MachineNote(Scripted(0.0, 1.0))) as display:
        display.start(build_config({}, []), {"model": "m", "data": "d", "precision": "fp32", "threads": 2})
        display.step({"step": 1, **METRICS}, TIMING, [])
        assert "shared machine" not in out.getvalue()
        display.step({"step": 2, **METRICS}, TIMING, [])
    assert SAID in out.getvalue()


def test_a_line_of_sft_says_it() -> None:
    out = io.StringIO()
    display = LossDisplay(Console(file=out, width=400), Path("runs/a"), note=MachineNote(Scripted(1.0, 0.0)))
    for step in (1, 2):
        display.step(
            {
                "step": step,
                "epoch": 1.0,
                "loss": 0.5,
                "grad_norm": 0.1,
                "learning_rate": 1e-4,
                "num_tokens": 9,
            },
            TIMING,
        )
    lines = out.getvalue().splitlines()
    assert lines[0].endswith(SAID)
    assert lines[1].endswith("min left")


@pytest.mark.parametrize("is_live", [False, True])
def test_a_pipeline_says_it(is_live: bool) -> None:
    out = io.StringIO()
    console = Console(file=out, width=160, height=30, force_terminal=is_live, no_color=not is_live)
    with PipelineView(console, MachineNote(Scripted(0.0, 1.0))) as view:
        view.begin([planned(0)])
        stage = view.stage_begins("stage_0", State.RUN, "")
        stage.progress(0.25, "a quarter")
        assert "shared machine" not in out.getvalue()
        stage.progress(0.5, "half")
    assert SAID in out.getvalue()


def test_a_pipeline_on_a_small_screen_keeps_a_line_for_it() -> None:
    out = io.StringIO()
    console = Console(file=out, width=160, height=14, force_terminal=True, no_color=False)
    with PipelineView(console, MachineNote(Scripted(1.0))) as view:
        view.begin([planned(number) for number in range(30)])
        stage = view.stage_begins("stage_3", State.RUN, "")
        begun = len(out.getvalue())
        stage.progress(0.5, "half")
    assert out.getvalue()[begun:].split("shared")[0].count("\n") < 13


def test_with_one_thread_and_a_free_core_there_is_nothing_to_say() -> None:
    torch.set_num_threads(1)
    assert MachineNote(Scripted(1.0)).told() == ""
    assert MachineNote(Scripted(1.6)).told().startswith("shared machine: other processes take 1.6 of 2 cores")


@pytest.mark.parametrize(
    ("taken", "said"),
    [
        (0.0, "0.0 of 2 cores are taken; a run is as fast as it can be"),
        (0.2, "0.2 of 2 cores are taken; a run is as fast as it can be"),
        (1.0, "shared machine: other processes take 1.0 of 2 cores; this takes about 1.5 times as long"),
        (2.0, "shared machine: other processes take 2.0 of 2 cores; this takes about 2.0 times as long"),
        (None, "not known: this system has no /proc/stat to read"),
    ],
)
def test_doctor_says_what_a_run_would_find(
    taken: float | None, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "Watch", lambda proc: Scripted(taken))
    monkeypatch.setattr(doctor, "threads_for", lambda wanted: 2)
    assert doctor.other_work(seconds=0.0) == said


def test_doctor_reads_a_proc_that_is_not_there(tmp_path: Path) -> None:
    assert doctor.other_work(tmp_path / "nowhere", seconds=0.0).startswith("not known")


@pytest.mark.parametrize("policy", [None, "passive"])
def test_doctor_lists_other_work_and_how_threads_wait(
    policy: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    if policy:
        monkeypatch.setenv("OMP_WAIT_POLICY", policy)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    code, out, _ = call_main(tmp_path, "doctor")
    lines = {line[4:20].strip(): line for line in out.splitlines()}
    assert code == 0
    assert "of" in lines["other work"]
    assert "on 3 threads by OMP_NUM_THREADS" in lines["choice"]
    found = lines["waiting"]
    assert ("OMP_WAIT_POLICY=passive" if policy else "sleep while other processes need the cores") in found
