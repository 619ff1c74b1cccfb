"""Figures reach a tracker in its own process; whatever becomes of that process, the run goes on.

Packages that may be absent are played by modules in a folder, which fail in every way that one can.
"""

import importlib.util
import json
import time
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

import pytest

from fakes import number_problem
from killing import fork_and_kill, moment
from processes import arguments_of, call_main, metrics_of, wait_until
from scripted import save_talking_model, write_problems
from zerone.config import Config, build_config
from zerone.errors import ConfigError, UserError
from zerone.runs.directory import RunDir
from zerone.trackers import tracking
from zerone.trackers.api import Figure, Table, as_json, from_json
from zerone.trackers.tracking import check_tracker, figures_of, sample_table, tracked
from zerone.types import Credited, Finish, Graded, Group, Outcome, Rollout

PACKAGES = ("trackio", "wandb", "tensorboard")


def write_data(folder: Path) -> None:
    """Write demonstrations and pairs."""
    demonstrations = [
        {"prompt": f"Say {i % 10} ({i}).", "completion": f"<think>ab</think>\n<answer>{i % 10}</answer>"}
        for i in range(24)
    ]
    pairs = [
        {
            "prompt": f"Ask {i}",
            "chosen": "please " + "a" * (i % 5),
            "rejected": "listen " + "b" * ((i + 2) % 5),
        }
        for i in range(40)
    ]
    for name, rows in (("data.jsonl", demonstrations), ("pairs.jsonl", pairs)):
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def run_in(folder: Path) -> RunDir:
    """Return a run that has begun, as far as a tracker looks at it."""
    run = RunDir(folder / "some-run")
    run.path.mkdir()
    run.start("seed: 0\n", {"zerone": "1", "model_sha256": "ab" * 32, "cpu": "secret"})
    return run


def lines_of(run: RunDir | Path) -> list[dict[str, Any]]:
    path = run.tracker_path if isinstance(run, RunDir) else run / "tracker"
    return [json.loads(line) for line in (path / "figures.jsonl").read_text(encoding="utf-8").splitlines()]


def steps_of(lines: list[dict[str, Any]], stream: str = "train") -> list[int]:
    return [line["step"] for line in lines if any(key.startswith(f"{stream}/") for key in line)]


def tell(config: Config, run: RunDir, steps: range, *, is_done: bool = False) -> None:
    with tracked(config, run) as told:
        for step in steps:
            told.step({"step": step, "loss": 1 / step})
        if is_done:
            told.finish({"steps": steps[-1]})


# What is told -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"step": 3, "loss": 0.5}, {"a/loss": 0.5}),
        ({"accuracy": None}, {}),
        ({"loss": float("nan"), "kl": float("inf"), "num": 0}, {"a/num": 0}),
        ({"verdict": "learning"}, {"a/verdict": "learning"}),
        ({"by": {"sums/1": 0.5, "sums/2": None}}, {"a/by/sums/1": 0.5}),
        (
            {"hard": {"pass_at_1_ci": [0.1, 0.3]}},
            {"a/hard/pass_at_1_ci/low": 0.1, "a/hard/pass_at_1_ci/high": 0.3},
        ),
        ({"x_ci": [None, 0.3]}, {"a/x_ci/high": 0.3}),
        ({"list": [1, 2, 3]}, {}),
        ({}, {}),
    ],
)
def test_nested_values_become_figures_by_path(
    values: Mapping[str, Any], expected: Mapping[str, Figure]
) -> None:
    assert figures_of("a", values) == expected


def test_figures_come_through_json_as_they_were() -> None:
    figures: dict[str, Figure] = {
        "a": 1,
        "b": 0.5,
        "c": "text \u2028",
        "d": Table(("x", "y"), ((1, "<b>"), (None, ""))),
    }
    assert from_json(json.loads(json.dumps(as_json(figures)))) == figures


def credited(number: int, text: str) -> Credited:
    problem = number_problem(number)
    members = tuple(
        Graded(
            rollout=Rollout(
                problem=problem,
                sample=sample,
                prompt_ids=(1,),
                completion_ids=(2, 3),
                sampler_logprobs=(0.0, 0.0),
                text=f"{text}{sample}",
                finish=Finish.STOP,
                weight_version=0,
            ),
            outcome=Outcome.CORRECT if sample else Outcome.WRONG,
            parts={"accuracy": float(sample)},
            reward=float(sample),
            answer=None,
        )
        for sample in range(2)
    )
    return Credited(group=Group(problem=problem, members=members), advantages=(-1.0, 1.0))


def test_samples_are_one_completion_of_each_of_the_first_groups() -> None:
    table = sample_table([credited(number, f"text {number} ") for number in range(20)])
    assert len(table.rows) == 8
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    assert [row["completion"] for row in rows] == [f"text {number} 0" for number in range(8)]
    assert {row["outcome"] for row in rows} == {"wrong"} and {row["advantage"] for row in rows} == {-1.0}


# Lines of JSON ------------------------------------------------------------------------------------


def test_a_run_without_a_tracker_leaves_no_trace_of_one(tmp_path: Path) -> None:
    run = run_in(tmp_path)
    tell(Config(), run, range(1, 4), is_done=True)
    assert not run.tracker_path.exists()


def test_lines_hold_configuration_figures_samples_and_summary(tmp_path: Path) -> None:
    run = run_in(tmp_path)
    config = build_config({}, ["log.tracker=jsonl", "log.sample_every=2", "log.name=mine", "rl.steps=7"])
    with tracked(config, run) as told:
        hard = {"pass_at_1": 0.25, "problems": {"one": 0.25}}  # of which there may be thousands
        told.evaluation({"step": 0, "seconds": 1.0, "suites": {"hard": hard}})
        for step in (1, 2):
            told.step({"step": step, "loss": 0.5}, {"step": step, "total_s": 2.0}, [credited(step, "text ")])
        told.finish({"steps": 2})
    first, evaluation, one, two, last = lines_of(run)
    assert first["name"] == "mine" and first["config"]["rl.steps"] == 7
    assert first["config"]["origin.model_sha256"] == "ab" * 32 and "secret" not in json.dumps(first)
    assert evaluation == {"step": 0, "eval/seconds": 1.0, "eval/hard/pass_at_1": 0.25}
    assert one == {"step": 1, "train/loss": 0.5, "time/total_s": 2.0}
    assert two["samples"]["rows"][0][2] == "text 0"
    assert last == {"summary": {"summary/steps": 2}}


def test_a_run_that_goes_on_repeats_no_step_and_keeps_its_identity(tmp_path: Path) -> None:
    run, config = run_in(tmp_path), build_config({}, ["log.tracker=jsonl"])
    tell(config, run, range(1, 8))
    identity = (run.tracker_path / "identity").read_text(encoding="utf-8")
    tell(config, run, range(6, 11), is_done=True)  # from the checkpoint of step 5
    lines = lines_of(run)
    assert steps_of(lines) == list(range(1, 11))
    assert [list(line) for line in lines if "step" not in line] == [
        ["project", "name", "config"],
        ["summary"],
    ]
    assert (run.tracker_path / "identity").read_text(encoding="utf-8") == identity


def test_another_tracker_on_resume_begins_with_what_comes(tmp_path: Path, packages: Path) -> None:
    run = run_in(tmp_path)
    write_package(packages, "wandb", "")
    tell(build_config({}, ["log.tracker=wandb"]), run, range(1, 6))
    tell(build_config({}, ["log.tracker=jsonl"]), run, range(4, 7))
    assert steps_of(lines_of(run)) == [4, 5, 6]


def test_a_line_that_a_crash_has_cut_is_removed(tmp_path: Path) -> None:
    run, config = run_in(tmp_path), build_config({}, ["log.tracker=jsonl"])
    tell(config, run, range(1, 3))
    with (run.tracker_path / "figures.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step": 3, "train/lo')
    tell(config, run, range(3, 5))
    assert steps_of(lines_of(run)) == [1, 2, 3, 4]


def test_a_killed_run_has_told_all_that_it_did(tmp_path: Path) -> None:
    run, config = run_in(tmp_path), build_config({}, ["log.tracker=jsonl"])

    def work() -> None:
        with tracked(config, run) as told:
            for step in range(1, 101):
                told.step({"step": step, "loss": 0.5})
            time.sleep(60)

    assert fork_and_kill(work, 4)
    wait_until(lambda: steps_of(lines_of(run))[-1:] == [100], "the tracker lost steps of a killed run")
    tell(config, run, range(90, 121))
    assert steps_of(lines_of(run)) == list(range(1, 121))


# Packages that fail -------------------------------------------------------------------------------

WANDB = """
import json, os, sys, time
from pathlib import Path
TOLD = Path(__file__).with_name("told.jsonl")
def tell(*what):
    with TOLD.open("a") as file:
        file.write(json.dumps(what) + "\\n")
class Settings:
    def __init__(self, **given): self.given = given
class Table:
    def __init__(self, columns, data): self.columns, self.data = columns, data
class Summary(dict):
    pass
class Run:
    def __init__(self): self.summary = Summary()
    def log(self, figures, step):
        {log}
        tell("log", step, {{k: getattr(v, "data", v) for k, v in figures.items()}})
    def finish(self, exit_code):
        {finish}
        tell("finish", exit_code, dict(self.summary))
def init(settings, **given):
    {init}
    tell("init", given, settings.given, {{k: v for k, v in os.environ.items() if "WANDB" in k or "HF_" in k}})
    return Run()
{top}
"""


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of packages that come before all others."""
    folder = tmp_path / "packages"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    return folder


def write_package(packages: Path, name: str, log: str = "", **parts: str) -> None:
    """Write a package that does as wandb, but for statements at some points."""
    points = {"log": log, "finish": "", "init": "", "top": "", **parts}
    text = WANDB.format(**{key: part or "pass" for key, part in points.items()})
    (packages / f"{name}.py").write_text(text, encoding="utf-8")
    importlib.invalidate_caches()


def told(packages: Path, what: str) -> list[Any]:
    path = packages / "told.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [entry[1:] for entry in map(json.loads, lines) if entry[0] == what]


def test_wandb_is_told_once_and_keeps_all_here_unless_asked(tmp_path: Path, packages: Path) -> None:
    write_package(packages, "wandb")
    run = run_in(tmp_path)
    tell(build_config({}, ["log.tracker=wandb", "log.project=p"]), run, range(1, 4), is_done=True)
    [(given, settings, environment)] = told(packages, "init")
    assert (given["project"], given["name"], given["mode"]) == ("p", "some-run", "offline")
    assert environment["WANDB_MODE"] == "offline" and environment["WANDB_ERROR_REPORTING"] == "false"
    assert environment["HF_HUB_OFFLINE"] == "1"
    assert settings["console"] == "off" and settings["disable_git"] and settings["x_disable_stats"]
    assert [step for step, _ in told(packages, "log")] == [1, 2, 3]
    assert told(packages, "finish") == [[0, {"summary/steps": 3}]]


def test_wandb_sends_when_asked_and_the_run_goes_on_under_its_identity(
    tmp_path: Path, packages: Path
) -> None:
    write_package(packages, "wandb")
    run, config = run_in(tmp_path), build_config({}, ["log.tracker=wandb", "log.online=true"])
    tell(config, run, range(1, 4))
    tell(config, run, range(3, 6), is_done=True)
    first, second = told(packages, "init")
    assert first[0]["mode"] == "online" and "WANDB_MODE" not in first[2]
    assert first[0]["id"] == second[0]["id"] and second[0]["resume"] == "allow"
    assert [step for step, _ in told(packages, "log")] == [1, 2, 3, 4, 5]
    assert [code for code, _ in told(packages, "finish")] == [1, 0]


FAULTS = {
    "an error at one step": (
        {"log": "if step == 2: raise ValueError('no room')"},
        [1, 3, 4],
        1,
        "ValueError: no room",
    ),
    "an exit at one step": ({"log": "if step == 2: sys.exit(3)"}, [1, 3, 4], 1, "SystemExit: 3"),
    "an error at every step": ({"log": "raise OSError('disk')"}, [], 4, "OSError: disk"),
    "a death at one step": ({"log": "if step == 2: os._exit(9)"}, [1, 3, 4], 1, "its process ended"),
    "a death at every step": ({"log": "os._exit(9)"}, [], 5, "its process ended"),
    "a hang at one step": ({"log": "if step == 2: time.sleep(99)"}, [1, 3, 4], 1, "does not reply within"),
    "an error when opened": ({"init": "raise PermissionError('not logged in')"}, [], 5, "not logged in"),
    "an exit when opened": ({"init": "raise SystemExit('bye')"}, [], 5, "bye"),
    "a death when opened": ({"init": "os._exit(1)"}, [], 5, "its process ended"),
    "an error when imported": ({"top": "raise ImportError('libfoo.so')"}, [], 5, "libfoo.so"),
    "an error at the end": ({"finish": "raise RuntimeError('upload')"}, [1, 2, 3, 4], 1, "upload"),
    "a hang at the end": ({"finish": "time.sleep(99)"}, [1, 2, 3, 4], 1, "does not reply within"),
    "noise on its output": ({"log": "print('x' * 99999)"}, [1, 2, 3, 4], 0, ""),
    "a lost reply channel": (
        {"log": "os.closerange(3, 20) if step == 2 else None"},
        [1, 3, 4],
        None,
        "its process",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_no_failure_of_a_tracker_stops_a_run(
    fault: str,
    tmp_path: Path,
    packages: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    parts, reached, num_missed, reason = FAULTS[fault]
    write_package(packages, "wandb", **parts)
    monkeypatch.setattr(tracking, "REPLY_SECONDS", 5.0)
    monkeypatch.setattr(tracking, "END_SECONDS", 20.0)
    run = run_in(tmp_path)
    tell(build_config({}, ["log.tracker=wandb"]), run, range(1, 5), is_done=True)
    out, err = capfd.readouterr()
    steps = [step for step, _ in told(packages, "log")]
    assert steps == reached or fault == "a lost reply channel"
    warnings = [line for line in err.splitlines() if line.startswith("warning: tracker wandb: ")]
    if num_missed == 0:
        assert warnings == [] and out == ""
        return
    assert len(warnings) == 2, err  # what it was, and how much of it; never once per step
    assert reason in warnings[0] and "the run goes on" in warnings[0] and str(run.path) in warnings[0]
    if num_missed is not None:
        assert f"{num_missed} of 5 messages" in warnings[1]


def test_a_tracker_slower_than_the_run_holds_nothing_up(
    tmp_path: Path, packages: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    write_package(packages, "wandb", "time.sleep(30)")
    monkeypatch.setattr(tracking, "END_SECONDS", 0.5)
    monkeypatch.setattr(tracking, "_MOST_WAITING", 10)
    run = run_in(tmp_path)
    start = time.monotonic()
    tell(build_config({}, ["log.tracker=wandb"]), run, range(1, 101))
    assert time.monotonic() - start < 10
    assert "slower than the run" in capfd.readouterr().err


def test_a_folder_that_cannot_be_made_costs_the_tracker_alone(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = run_in(tmp_path)
    run.tracker_path.write_text("in the way", encoding="utf-8")
    tell(build_config({}, ["log.tracker=jsonl"]), run, range(1, 4), is_done=True)
    assert "warning: tracker jsonl:" in capfd.readouterr().err


# What is refused before the run -------------------------------------------------------------------


@pytest.mark.parametrize("name", PACKAGES)
def test_a_missing_package_is_named_with_its_extra(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda module: None)
    extra = "trackers" if name == "trackio" else name
    with pytest.raises(ConfigError, match=rf"log.tracker={name} needs .* pip install 'zerone\[{extra}\]'"):
        check_tracker(build_config({}, [f"log.tracker={name}"]))


@pytest.mark.parametrize("name", PACKAGES)
@pytest.mark.parametrize("command", ["zero", "sft", "reward-model", "r1"])
def test_every_training_command_says_so_before_any_work(
    name: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda module: None if module == name else found(module))
    write_data(tmp_path)
    commands = {
        "zero": ["zero"],
        "sft": ["sft", f"data.path={tmp_path / 'data.jsonl'}"],
        "reward-model": ["reward-model", "train", str(tmp_path / "pairs.jsonl")],
        "r1": ["r1", "--recipe=r1_tiny"],
    }
    code, _, err = call_main(
        tmp_path, *commands[command], f"--run-dir={tmp_path / 'run'}", f"log.tracker={name}"
    )
    assert code == 2 and f"log.tracker={name} needs" in err
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_trackio_is_asked_where_it_should_send_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda module: object())
    for name in ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL"):
        monkeypatch.delenv(name, raising=False)
    config = build_config({}, ["log.tracker=trackio", "log.online=true"])
    with pytest.raises(ConfigError, match="TRACKIO_SPACE_ID"):
        check_tracker(config)
    monkeypatch.setenv("TRACKIO_SPACE_ID", "me/space")
    check_tracker(config)


@pytest.mark.parametrize(
    "overrides",
    [
        ["log.tracker=mlflow"],
        ["log.tracker=true"],
        ["log.online=true"],
        ["log.tracker=jsonl", "log.online=true"],
        ["log.tracker=tensorboard", "log.online=true"],
        ["log.tracker=wandb", "log.project=a/b"],
        ["log.tracker=wandb", "log.project="],
        ["log.tracker=wandb", "log.project=../up"],
        ["log.tracker=wandb", "log.name="],
        ["log.tracker=wandb", f"log.name={'x' * 101}"],
    ],
)
def test_options_that_cannot_be_are_refused(overrides: list[str]) -> None:
    with pytest.raises(UserError, match=r"log\."):
        build_config({}, overrides)


# Whole runs ---------------------------------------------------------------------------------------

COMMON = ("log.tracker=jsonl", "model.threads=1", "model.precision=fp32", "data.eval_share=0.25")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a base model, problems, demonstrations and pairs."""
    path = tmp_path_factory.mktemp("tracked")
    save_talking_model(path / "base")
    write_problems(path / "problems.jsonl")
    write_data(path)
    return path


def test_a_tracker_changes_no_figure_of_a_run_and_has_all_of_them(folder: Path) -> None:
    for name, tracker in (("alone", "none"), ("tracked", "jsonl")):
        changes = (f"log.tracker={tracker}", "log.sample_every=2", "rl.steps=4")
        code, _, err = call_main(folder, *arguments_of(folder, name, *changes))
        assert code == 0 and "warning" not in err, err
    alone, tracked_run = folder / "alone", folder / "tracked"
    assert (alone / "metrics.jsonl").read_bytes() == (tracked_run / "metrics.jsonl").read_bytes()
    lines = lines_of(tracked_run)
    steps = [line for line in lines if "train/loss" in line]
    metrics = metrics_of(tracked_run)
    assert [line["train/loss"] for line in steps] == [line["loss"] for line in metrics]
    assert ["samples" in line for line in steps] == [False, True, False, True]
    evaluations = RunDir(tracked_run).read_evals()
    assert steps_of(lines, "eval") == sorted(evaluations)
    last = lines[-1]["summary"]
    suite = next(iter(evaluations[4]["suites"]))
    assert last[f"summary/final/{suite}/pass_at_1"] == evaluations[4]["suites"][suite]["pass_at_1"]
    assert "model" in [row[0] for row in last["lineage"]["rows"]]


def test_a_run_killed_at_any_moment_has_each_step_once(folder: Path) -> None:
    command = arguments_of(
        folder, "killed", "rl.steps=8", "checkpoint.every=3", "eval.every=2", "log.tracker=jsonl"
    )
    rng, attempt = Random(0), 0

    def work() -> None:
        resume = ("--resume",) if (folder / "killed" / "config.yaml").exists() else ()
        code, _, err = call_main(folder, *command, *resume)
        assert code == 0, err

    while attempt < 4 and fork_and_kill(work, moment(rng, attempt, 0.5, 2.5)):
        attempt += 1
    if not (folder / "killed" / "summary.json").exists():
        work()
    lines = lines_of(folder / "killed")
    assert steps_of(lines) == list(range(1, 9))
    assert steps_of(lines, "eval") == [0, 2, 4, 6, 8]
    losses = [line["train/loss"] for line in lines if "train/loss" in line]
    assert losses == [line["loss"] for line in metrics_of(folder / "killed")]


def test_a_run_resumed_with_another_tracker_is_the_same_run(folder: Path) -> None:
    stopped = arguments_of(folder, "changed", "rl.steps=4")
    assert call_main(folder, *stopped)[0] == 0
    (folder / "changed" / "summary.json").unlink()
    code, _, err = call_main(folder, *stopped, "--resume", "log.tracker=jsonl", "log.name=later")
    assert code == 0, err
    assert lines_of(folder / "changed")[-1]["summary"]["summary/steps"] == 4


def test_fine_tuning_is_tracked(folder: Path) -> None:
    code, _, err = call_main(
        folder,
        *("sft", f"--run-dir={folder / 'sft'}", f"data.path={folder / 'data.jsonl'}", *COMMON),
        *(f"model.path={folder / 'base'}", "sft.suite=none", "sft.batch_size=4", "sft.epochs=1"),
    )
    assert code == 0, err
    lines, metrics = lines_of(folder / "sft"), metrics_of(folder / "sft")
    assert [line["train/loss"] for line in lines if "train/loss" in line] == [
        line["loss"] for line in metrics
    ]
    assert steps_of(lines, "eval") == sorted(RunDir(folder / "sft").read_evals())
    assert "summary/best/loss" in lines[-1]["summary"]


def test_a_reward_model_is_tracked(folder: Path) -> None:
    code, _, err = call_main(
        folder,
        *("reward-model", "train", str(folder / "pairs.jsonl"), f"--run-dir={folder / 'reward'}"),
        *(f"model.path={folder / 'base'}", "reward_model.batch_size=8", "reward_model.epochs=1", *COMMON),
    )
    assert code == 0, err
    lines, metrics = lines_of(folder / "reward"), metrics_of(folder / "reward")
    assert [line["train/loss"] for line in lines if "train/loss" in line] == [
        line["loss"] for line in metrics
    ]
    assert len(steps_of(lines, "eval")) == 2 and "summary/final/accuracy" in lines[-1]["summary"]


# The packages themselves, where they are installed -------------------------------------------------


def tell_all(kind: str, run: RunDir) -> None:
    """Tell of two parts of a run, samples and summary among them."""
    config = build_config({}, [f"log.tracker={kind}", "log.sample_every=1", "log.project=ours"])
    hostile = "<think>\u202e[x](javascript:1) </think>"
    for steps in (range(1, 4), range(3, 6)):
        with tracked(config, run) as told:
            for step in steps:
                told.step(
                    {"step": step, "loss": 1 / step, "verdict": "learning"}, {}, [credited(step, hostile)]
                )
            told.evaluation({"step": 5, "suites": {"hard": {"pass_at_1": 0.5}}})
            told.finish({"steps": 5})


def test_tensorboard_itself_takes_everything(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = run_in(tmp_path)
    tell_all("tensorboard", run)
    events = EventAccumulator(str(run.tracker_path)).Reload()
    losses = [(event.step, event.value) for event in events.Scalars("train/loss")]
    assert losses == [(step, pytest.approx(1 / step)) for step in range(1, 6)]
    assert {"train/verdict/text_summary", "samples/text_summary", "config/text_summary"} <= set(
        events.Tags()["tensors"]
    )
    assert "warning" not in capfd.readouterr().err


def test_trackio_itself_takes_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("trackio")
    import sqlite3

    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    run = run_in(tmp_path)
    tell_all("trackio", run)
    with sqlite3.connect(tmp_path / "trackio" / "ours.db") as database:
        rows = database.execute("SELECT step, metrics FROM metrics ORDER BY id").fetchall()
        runs = database.execute("SELECT COUNT(DISTINCT run_id) FROM metrics").fetchone()[0]
    losses = [
        (step, values["train/loss"]) for step, text in rows if "train/loss" in (values := json.loads(text))
    ]
    assert losses == [(step, pytest.approx(1 / step)) for step in range(1, 6)] and runs == 1
    assert "warning" not in capfd.readouterr().err


def test_trackio_that_cannot_write_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("trackio")
    (tmp_path / "trackio").write_text("in the way", encoding="utf-8")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    tell(build_config({}, ["log.tracker=trackio"]), run_in(tmp_path), range(1, 4), is_done=True)
    assert "warning: tracker trackio:" in capfd.readouterr().err


def test_wandb_itself_takes_everything(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("wandb")
    run = run_in(tmp_path)
    tell_all("wandb", run)
    folders = sorted((run.tracker_path / "wandb").glob("offline-run-*"))
    identity = (run.tracker_path / "identity").read_text(encoding="utf-8")
    assert len(folders) == 2 and all(folder.name.endswith(identity) for folder in folders)
    tables = [path for folder in folders for path in folder.rglob("samples_*.table.json")]
    assert len(tables) == 5
    assert "warning" not in capfd.readouterr().err
