"""R1-Zero from the command line: bad input is refused before anything is written; users' own data."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from fakes import Kind, Shape, tiny_model
from processes import arguments_of, call_main, metrics_of
from scripted import save_talking_model, write_problems
from zerone.corpus.tokenizer import train_tokenizer
from zerone.model.loading import save_model
from zerone.runs.directory import RunDir

GSM8K = Path(__file__).parents[3] / "shared" / "data" / "gsm8k_train.jsonl"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a base model and problems, shared by the runs of this file."""
    path = tmp_path_factory.mktemp("zero")
    save_talking_model(path / "base")
    write_problems(path / "problems.jsonl")
    return path


# What is refused ----------------------------------------------------------------------------------


def test_a_run_directory_in_use_is_refused(folder: Path) -> None:
    holder = RunDir(folder / "held").lock()
    try:
        code, _, err = call_main(folder, *arguments_of(folder, "held"))
    finally:
        holder.unlock()
    assert code == 2
    assert f"{folder / 'held'} is in use by another process" in err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["model.path=nowhere"], "model directory nowhere does not exist"),
        (["data.path=nowhere.jsonl"], "nowhere.jsonl does not exist"),
        (
            ["data.answer_pattern=#### (.+)$"],
            "problems.jsonl:1: data.answer_pattern='#### (.+)$' does not match",
        ),
        (["sampling.max_tokens=1000"], "exceeds the model's context of 1024"),
        (["data.eval_share=0.0001"], "leaves none for evaluation"),
    ],
    ids=["model", "file", "pattern", "context", "share"],
)
def test_bad_input_is_refused_before_anything_is_written(
    changes: Sequence[str], message: str, folder: Path, tmp_path: Path
) -> None:
    arguments = arguments_of(folder, "refused", *changes)
    code, _, err = call_main(folder, *arguments, f"--run-dir={tmp_path / 'run'}")
    assert code == 2
    assert message in err
    assert [path.name for path in (tmp_path / "run").iterdir()] == [".lock"]


def test_a_run_directory_that_cannot_be_made_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no directory", encoding="utf-8")
    code, _, err = call_main(folder, *arguments_of(folder, "x"), f"--run-dir={tmp_path / 'file' / 'run'}")
    assert code == 2
    assert "cannot use" in err


@pytest.mark.parametrize("kl_coef", [0.001, 0.0])
def test_weights_that_blow_up_exit_with_1_and_reach_no_checkpoint(kl_coef: float, folder: Path) -> None:
    """The first update ruins the weights; without a KL term no group has a signal that would show it."""
    name = f"blown-up-{kl_coef}"
    ruin = ("optim.learning_rate=1e30", "rl.minibatches=1", f"loss.kl_coef={kl_coef}")
    code, _, err = call_main(folder, *arguments_of(folder, name, *ruin))
    assert code == 1
    assert "optim.learning_rate" in err
    assert not list((folder / name).glob("checkpoints/step_*"))
    assert not (folder / name / "model").exists()


# Users' own models and problems -------------------------------------------------------------------


@pytest.mark.skipif(not GSM8K.exists(), reason="the GSM8K file is not here")
@pytest.mark.parametrize("kind", ["qwen2", "llama"])
def test_gsm8k_as_published_runs_with_a_random_model_and_a_real_tokenizer(kind: Kind, tmp_path: Path) -> None:
    with GSM8K.open(encoding="utf-8") as file:
        texts = [json.loads(line)["question"] for _, line in zip(range(300), file, strict=False)]
    tokenizer = train_tokenizer(texts, 800)
    model = tiny_model(Shape(kind=kind, context=1024))
    model.resize_token_embeddings(len(tokenizer))
    save_model(model, tokenizer, tmp_path / "base")
    code, _, err = call_main(
        tmp_path,
        "zero",
        "--recipe=tiny",
        f"--run-dir={tmp_path / 'run'}",
        f"model.path={tmp_path / 'base'}",
        "model.precision=fp32",
        "model.threads=1",
        f"data.path={GSM8K}",
        "data.prompt_field=question",
        "data.answer_field=answer",
        "data.answer_pattern=#### (.+)$",
        "rl.steps=2",
        "sampling.max_tokens=16",
    )
    assert code == 0, err
    lines = metrics_of(tmp_path / "run")
    assert [line["step"] for line in lines] == [1, 2]
    assert all(line["num_trained_tokens"] > 0 for line in lines)
    rows = list(RunDir(tmp_path / "run").query("SELECT prompt, spec FROM groups"))
    published = {json.loads(line)["question"].strip() for line in GSM8K.open(encoding="utf-8")}
    assert len(rows) == 8
    assert all(row["prompt"] in published and json.loads(row["spec"])["answer"].isdigit() for row in rows)
