"""Runs whose rollouts come from another engine than the one in the trainer's process."""

from importlib import util
from pathlib import Path

import pytest

from processes import arguments_of, call_main
from scripted import save_talking_model, write_problems


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("kinds")
    save_talking_model(path / "base")
    write_problems(path / "problems.jsonl")
    return path


def test_a_run_over_a_child_process_is_the_run_of_this_process_byte_for_byte(folder: Path) -> None:
    for kind in ("torch", "process"):
        code, _, err = call_main(folder, *arguments_of(folder, kind, "rl.steps=2", f"engine.kind={kind}"))
        assert code == 0, err
    for file in ("metrics.jsonl", "model/model.safetensors"):
        here, there = ((folder / kind / file).read_bytes() for kind in ("torch", "process"))
        assert here == there, file


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
