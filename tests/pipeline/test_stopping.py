"""Ctrl-C and SIGTERM end a pipeline after the step, in an evaluation and between stages, and lose nothing."""

import os
import signal
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipelines import Made, Notes, small_graph, small_pipeline
from zerone.engine.api import Event, Request
from zerone.engine.child import ChildEngine
from zerone.errors import Interrupted
from zerone.evals import evaluate as evaluation
from zerone.identity import sha256_of_path
from zerone.jobs import rl
from zerone.pipeline.graph import Graph, StageDisplay, StageInputs
from zerone.pipeline.rl_stage import run_rl
from zerone.processes.stopping import stop_requests, waiting
from zerone.runs.directory import RunDir

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SIGNALS = pytest.mark.parametrize("number", ENDING, ids=["ctrl-c", "terminate", "hang up"])


def send(number: int) -> None:
    os.kill(os.getpid(), number)


class Sender(Notes):
    """A display that sends the process a signal when it is shown something."""

    def __init__(self, number: int, at: str) -> None:
        super().__init__()
        self._number, self._at = number, at

    def progress(self, share: float, note: str) -> None:
        super().progress(share, note)
        if note.startswith(self._at):
            send(self._number)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a pipeline `run` that was left alone."""
    folder = tmp_path_factory.mktemp("stopping")
    small_pipeline(folder).run(False, Notes())
    return folder


def models_of(run: Path) -> dict[str, str]:
    return {name: sha256_of_path(run / name / "model") for name in ("base", "first", "second")}


def go_on_and_compare(folder: Path, name: str, stage: str) -> None:
    """Go on with a stopped pipeline: the stage goes on, and the whole is that of one left alone."""
    notes = Notes()
    small_pipeline(folder, name).run(True, notes)
    assert notes.begun[0][0] == stage
    assert models_of(folder / name) == models_of(folder / "run")


@SIGNALS
@pytest.mark.parametrize("stage", ["first", "second"])
def test_a_pipeline_ends_after_the_step(whole: Path, stage: str, number: int) -> None:
    name = f"step-{stage}-{number}"
    notes = Sender(number, "step 1/")
    if stage == "second":
        with pytest.raises(Interrupted):
            small_pipeline(whole, name).run(False, Sender(number, "step 1/"))
        small_pipeline(whole, name, only="first").run(True, Notes())
        small_pipeline(whole, name, only="answers").run(True, Notes())
    with pytest.raises(Interrupted, match=f"stopped in stage {stage}; resume with: "):
        small_pipeline(whole, name).run(stage == "second", notes)
    assert notes.begun[-1][0] == stage
    assert len(RunDir(whole / name / stage).read_metrics()) == 1
    go_on_and_compare(whole, name, stage)


@SIGNALS
@pytest.mark.parametrize("call", [0, 2], ids=["before the first step", "after the last step"])
def test_a_running_evaluation_is_broken_off_and_made_again(
    whole: Path, monkeypatch: pytest.MonkeyPatch, call: int, number: int
) -> None:
    name, calls = f"evaluation-{call}-{number}", list[int]()

    def evaluate(*arguments: Any) -> dict[str, Any]:
        calls.append(len(calls))
        if calls[-1] == call:  # two suites are measured at either end
            send(number)
            raise AssertionError("an evaluation went on")
        return original(*arguments)

    original = evaluation.evaluate
    monkeypatch.setattr(rl, "evaluate", evaluate)
    with pytest.raises(Interrupted, match="stopped in stage first; resume with: "):
        small_pipeline(whole, name).run(False, Notes())
    monkeypatch.undo()
    first = RunDir(whole / name / "first")
    assert sorted(first.read_evals()) == ([] if call == 0 else [0])
    assert len(first.read_metrics()) == (0 if call == 0 else 3)
    assert not (whole / name / "answers").exists()
    go_on_and_compare(whole, name, "first")
    assert {step: found["suites"] for step, found in first.read_evals().items()} == {
        step: found["suites"] for step, found in RunDir(whole / "run" / "first").read_evals().items()
    }


def test_an_evaluation_by_a_child_process_is_broken_off_too(
    whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines: list[ChildEngine] = []

    def events(engine: ChildEngine) -> list[tuple[Request, Event]]:
        engines.append(engine)
        send(signal.SIGTERM)
        raise AssertionError("an evaluation went on")

    changes = {"first": ("engine.kind=process",)}
    monkeypatch.setattr(ChildEngine, "events", events)
    with pytest.raises(Interrupted, match="stopped in stage first; resume with: "):
        small_pipeline(whole, "child", changes=changes).run(False, Notes())
    monkeypatch.undo()
    assert len(engines) == 1
    assert not engines[0]._process.is_alive
    small_pipeline(whole, "child", changes=changes).run(True, Notes())
    assert models_of(whole / "child") == models_of(whole / "run")


def changed(stage: str, run: Callable[..., Made]) -> Graph:
    return Graph(stages=tuple(replace(s, run=run) if s.name == stage else s for s in small_graph().stages))


@SIGNALS
def test_a_stage_without_steps_ends_at_once(whole: Path, number: int) -> None:
    def stopping(inputs: StageInputs, directory: Path, resume: bool, display: StageDisplay) -> Made:
        send(number)
        raise AssertionError("a stage went on")

    name, notes = f"at-once-{number}", Notes()
    with pytest.raises(Interrupted, match="stopped in stage answers"):
        small_pipeline(whole, name, graph=changed("answers", stopping)).run(False, notes)
    assert [begun for begun, _ in notes.begun] == ["base", "first", "answers"]
    go_on_and_compare(whole, name, "answers")


@SIGNALS
def test_a_wish_that_a_stage_did_not_honour_ends_the_pipeline_before_the_next_stage(
    whole: Path, number: int
) -> None:
    def deaf(inputs: StageInputs, directory: Path, resume: bool, display: StageDisplay) -> Made:
        made = run_rl(inputs, directory, resume, display)
        with stop_requests() as stopping, stopping.patiently():
            send(number)
        return made

    name, notes = f"between-{number}", Notes()
    with pytest.raises(Interrupted, match="stopped before stage answers; resume with: "):
        small_pipeline(whole, name, graph=changed("first", deaf)).run(False, notes)
    assert notes.ended == ["base", "first"]
    go_on_and_compare(whole, name, "answers")


def test_the_handlers_of_before_are_back_after_a_pipeline(whole: Path) -> None:
    before = {n: signal.getsignal(n) for n in ENDING}
    small_pipeline(whole, "handlers").run(False, Notes())
    assert {n: signal.getsignal(n) for n in ENDING} == before


def test_within_another_the_wish_is_shared_and_a_second_signal_ends_at_once() -> None:
    with stop_requests() as outer, outer.patiently():
        with stop_requests() as inner:
            send(signal.SIGTERM)
        assert inner is outer
        assert outer.is_wished
        with pytest.raises(KeyboardInterrupt), outer.at_once():
            raise AssertionError("a wish was forgotten")
        send(signal.SIGTERM)  # of the same moment, as of a terminal that closes: the same wish
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)


def test_patient_work_that_waits_for_an_endpoint_is_interrupted_there_and_other_work_at_once() -> None:
    for is_patient, error in ((True, Interrupted), (False, KeyboardInterrupt)):
        with stop_requests() as stopping, ExitStack() as stack:
            if is_patient:
                stack.enter_context(stopping.patiently())
            with pytest.raises(error), waiting():
                send(signal.SIGTERM)
            with pytest.raises(Interrupted), waiting():
                raise AssertionError("an endpoint was asked after a wish to stop")


def test_a_signal_that_is_ignored_stays_so(whole: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_requests() as stopping:
            send(signal.SIGHUP)
            assert not stopping.is_wished
    finally:
        signal.signal(signal.SIGHUP, before)
