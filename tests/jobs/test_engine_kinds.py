"""Runs whose rollouts come from another engine than the one in the trainer's process."""

import json
from importlib import util
from pathlib import Path

import pytest

from processes import arguments_of, call_main
from scripted import save_talking_model, write_problems
from sft_runs import arguments as sft_arguments
from sft_runs import demonstrations


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("kinds")
    save_talking_model(path / "base")
    write_problems(path / "problems.jsonl")
    return path


@pytest.mark.parametrize(
    "changes",
    [(), ("model.trainer=parallel",), ("lora.rank=2",), ("model.precision=bf16",)],
    ids=["local", "parallel", "adapters", "bf16"],
)
def test_a_run_over_a_child_process_is_the_run_of_this_process_byte_for_byte(
    folder: Path, changes: tuple[str, ...]
) -> None:
    runs = [folder / "-".join((kind, *changes)) for kind in ("torch", "process")]
    for kind, run in zip(("torch", "process"), runs, strict=True):
        options = ("rl.steps=2", f"engine.kind={kind}", *changes)
        code, _, err = call_main(folder, *arguments_of(folder, run.name, *options))
        assert code == 0, err
    for file in ("metrics.jsonl", "model/model.safetensors"):
        here, there = ((run / file).read_bytes() for run in runs)
        assert here == there, file


def refuse_to_start(*_: object, **__: object) -> None:
    raise AssertionError("an engine was started that nobody asks")


def test_a_dry_run_and_a_replay_start_no_engine(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = arguments_of(folder, "recorded", "rl.steps=1", "engine.kind=process")
    code, _, err = call_main(folder, *run)
    assert code == 0, err
    monkeypatch.setattr("zerone.engine.opening.ChildEngine", refuse_to_start)
    trial = arguments_of(folder, "trial", "engine.kind=process")
    for arguments in (
        [*trial, "--dry-run"],
        ["replay", str(folder / "recorded"), f"--run-dir={folder / 'again'}"],
    ):
        code, _, err = call_main(folder, *arguments)
        assert code == 0, err
    with pytest.raises(AssertionError, match="nobody asks"):
        call_main(folder, *arguments_of(folder, "started", "engine.kind=process"))


def test_a_run_goes_on_with_more_patience_or_memory_and_not_with_another_engine(folder: Path) -> None:
    run = arguments_of(folder, "patient", "rl.steps=1")
    code, _, err = call_main(folder, *run)
    assert code == 0, err
    for changes in (["engine.timeout=900"], ["engine.gpu_share=0.3", "rl.steps=2"]):
        code, _, err = call_main(folder, *run, "--resume", *changes)
        assert code == 0, err
    code, _, err = call_main(folder, *run, "--resume", "rl.steps=2", "engine.kind=process")
    assert code == 2
    assert "engine.kind: torch  (now: process)" in err


def test_fine_tuning_is_measured_by_the_engine_that_is_asked_for_and_by_none_without_a_suite(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "data.jsonl").write_text(demonstrations(), encoding="utf-8")
    for kind in ("torch", "process"):
        code, _, err = call_main(folder, *sft_arguments(folder, f"sft-{kind}", f"engine.kind={kind}"))
        assert code == 0, err
    here, there = (
        {path.name: json.loads(path.read_bytes())["suites"] for path in (folder / run / "evals").iterdir()}
        for run in ("sft-torch", "sft-process")
    )
    assert here == there
    assert here
    monkeypatch.setattr("zerone.engine.opening.ChildEngine", refuse_to_start)
    options = ("engine.kind=process", "sft.suite=none")
    code, _, err = call_main(folder, *sft_arguments(folder, "unmeasured", *options))
    assert code == 0, err


def test_pass_rates_are_sampled_by_the_engine_that_is_asked_for(folder: Path) -> None:
    """Byte for byte the same; so are cold starts and rejection sampling, which open models alike."""
    found = {}
    for kind in ("torch", "process"):
        out = folder / f"rates-{kind}.jsonl"
        options = (f"model.path={folder / 'base'}", f"data.path={folder / 'problems.jsonl'}")
        small = ("sampling.max_tokens=16", "model.precision=fp32", "model.threads=1", f"engine.kind={kind}")
        code, _, err = call_main(
            folder, "data", "pass-rates", f"--out={out}", "--samples=2", *options, *small
        )
        assert code == 0, err
        found[kind] = out.read_bytes()
    assert found["torch"] == found["process"]


@pytest.mark.skipif(util.find_spec("vllm") is not None, reason="vLLM is installed")
@pytest.mark.parametrize(
    "command", [["data", "pass-rates", "--out=rates.jsonl"], ["r1", "--recipe=r1_tiny", "--dry-run"]]
)
def test_every_command_that_samples_refuses_an_engine_that_is_not_installed(
    folder: Path, command: list[str]
) -> None:
    options = (f"model.path={folder / 'base'}", f"data.path={folder / 'problems.jsonl'}", "engine.kind=vllm")
    code, _, err = call_main(folder, *command, *options)
    assert (code, "pip install 'zerone[vllm]'" in err) == (2, True), err


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        (["engine.kind=sglang"], "engine.kind"),
        (["engine.kind=process", "engine.timeout=0"], "engine.timeout"),
        (["engine.gpu_share=1.5"], "engine.gpu_share"),
        pytest.param(
            ["engine.kind=vllm"],
            "pip install 'zerone[vllm]'",
            marks=pytest.mark.skipif(util.find_spec("vllm") is not None, reason="vLLM is installed"),
        ),
    ],
)
def test_an_engine_that_cannot_be_had_is_refused_before_any_work(
    folder: Path, changes: list[str], complaint: str
) -> None:
    code, _, err = call_main(folder, *arguments_of(folder, "refused", *changes))
    assert code == 2
    assert complaint in err
    assert not (folder / "refused" / "metrics.jsonl").exists()
