"""A user's working day by the command line alone: variants, a notebook, runs that fail, a run that moves."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

import write_notebook
from processes import arguments_of, call_main, metrics_of
from scripted import save_talking_model, write_problems

SHORT = ("eval.every=0", "eval.problems=1", "eval.hard_samples=2")
SMALL = (
    *("rl.steps=2", "rl.problems_per_step=2", "rl.group_size=4", "rl.refill=0"),
    *("rl.minibatches=2", "sampling.max_tokens=16", *SHORT),
)
EMBEDDED = ("--recipe=tiny", "model.threads=1", "model.precision=fp32", *SHORT)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("day")
    save_talking_model(path / "base")
    write_problems(path / "problems.jsonl")
    return path


def zero(folder: Path, *arguments: str) -> None:
    code, _, err = call_main(folder, *arguments)
    assert code == 0, err


def test_three_variants_are_a_word_each_and_are_compared_in_one_page(folder: Path) -> None:
    for name, line, has_kl in (
        ("dr_grpo", "scale: none", False),
        ("dapo", "clip_high: 0.28", False),
        ("r1_zero", "reference_every: 25", True),
    ):
        zero(folder, *arguments_of(folder, name, "--recipe=zero", f"rl.preset={name}", *SMALL))
        assert line in (folder / name / "config.yaml").read_text(encoding="utf-8")
        assert (metrics_of(folder / name)[-1]["kl"] > 0) is has_kl
    page = folder / "compared.html"
    code, _, err = call_main(folder, "report", str(folder / "dr_grpo"), str(folder / "dapo"), f"--out={page}")
    assert code == 0, err
    assert "dapo" in page.read_text(encoding="utf-8")


def test_the_notebook_runs_to_its_end_and_again_without_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [f"model.path={save_talking_model(tmp_path / 'base')}", "model.threads=1", *SMALL]
    options += [f"data.path={write_problems(tmp_path / 'problems.jsonl')}", "model.precision=fp32"]
    program = write_notebook.SOURCE.read_text(encoding="utf-8")
    own = program.replace("OVERRIDES: list[str] = []", f"OVERRIDES: list[str] = {options!r}")
    assert own != program
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notebook.py").write_text(own, encoding="utf-8")
    for _ in range(2):
        result = subprocess.run(
            [sys.executable, "notebook.py"], capture_output=True, text=True, timeout=300, check=False
        )
        assert result.returncode == 0, result.stderr
        assert "trained" in result.stdout
    assert len(metrics_of(tmp_path / "runs" / "notebook")) == 2


NOTHING = "def nothing(completion, answer, problem):\n    return 0.0\n"


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("fast", ("optim.learning_rate=0.05", "rl.steps=4"), "collapsed at step 2: format "),
        ("slow", ("optim.learning_rate=1e-6", "rl.steps=5"), "too slow: the policy hardly changes"),
        (
            "silent",
            ("reward.accuracy=0", "reward.format=0", "reward.user=1", "rl.steps=2"),
            "no signal: 100% of groups have zero variance",
        ),
    ],
)
def test_a_run_that_fails_says_why_in_its_last_sentence(
    name: str, options: tuple[str, ...], sentence: str, tmp_path: Path
) -> None:
    if name == "silent":
        (tmp_path / "own.py").write_text(NOTHING, encoding="utf-8")
        options = (*options, f"reward.function={tmp_path / 'own.py'}:nothing")
    zero(tmp_path, "zero", f"--run-dir={tmp_path / name}", *EMBEDDED, *options)
    said = metrics_of(tmp_path / name)[-1]["verdict"]
    assert said.startswith(sentence)
    assert ("functions and weights of reward" in said) is (name == "silent")


def test_a_run_that_was_killed_goes_on_by_its_name_alone_grows_moves_and_ends_as_one_left_alone(
    folder: Path, tmp_path: Path
) -> None:
    arguments = [*arguments_of(folder, "killed", "rl.steps=6", *SHORT)]
    process = subprocess.Popen(
        [sys.executable, "-m", "zerone", *arguments], stdout=subprocess.PIPE, text=True, env=os.environ.copy()
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("step 2 "):
            os.kill(process.pid, signal.SIGKILL)
            break
    process.stdout.close()
    assert process.wait(60) == -signal.SIGKILL
    zero(folder, "zero", "--resume", str(folder / "killed"))
    zero(folder, "zero", "--resume", str(folder / "killed"), "rl.steps=7")
    shutil.move(folder / "killed", tmp_path / "moved")
    zero(tmp_path, "zero", "--resume", str(tmp_path / "moved"), "rl.steps=8")
    zero(folder, *arguments_of(folder, "alone", "rl.steps=8", *SHORT))
    for name in ("metrics.jsonl", "model/model.safetensors"):
        assert (tmp_path / "moved" / name).read_bytes() == (folder / "alone" / name).read_bytes()


def test_a_model_made_by_transformers_is_trained_exported_and_read_back(folder: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder / "base")
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = Qwen2Config(
        vocab_size=len(tokenizer), num_key_value_heads=2, eos_token_id=tokenizer.eos_token_id, **sizes
    )
    torch.manual_seed(0)
    Qwen2ForCausalLM(config).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    shutil.copy(folder / "problems.jsonl", tmp_path / "problems.jsonl")
    options = ("rl.steps=2", "loss.kl_coef=0.001", "model.trainer=parallel", *SHORT)
    zero(tmp_path, *arguments_of(tmp_path, "run", *options))
    zero(tmp_path, "export", str(tmp_path / "run"), "--to=hf", f"--out={tmp_path / 'out'}")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    asked = AutoTokenizer.from_pretrained(tmp_path / "out")(["Say 3."], return_tensors="pt")
    assert model.generate(**asked, max_new_tokens=4, do_sample=False).shape[1] > asked["input_ids"].shape[1]
    assert json.loads((tmp_path / "run/summary.json").read_text(encoding="utf-8"))["steps"] == 2
