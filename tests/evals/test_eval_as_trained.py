"""`zerone eval` of a run's model: it is asked as its run asked it, unless another way is named."""

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from evaluating import evaluate
from fakes import Shape, byte_tokenizer, tiny_model
from zerone.config import build_config, to_yaml
from zerone.engine.api import Request, SamplingParams
from zerone.engine.torch.engine import TorchEngine
from zerone.model.loading import save_model
from zerone.prompts.r1 import R1_ZERO_PREFIX, Style, shown_examples, write_prompt
from zerone.runs.directory import RunDir
from zerone.types import Rollout

TEMPLATE = "{% for m in messages %}<chat>{{ m['content'] }}{% endfor %}"
AS_TRAINED = ["sampling.temperature=0.8", "sampling.max_tokens=48", 'sampling.stop=["</answer>"]']


@dataclass
class Asked:
    """What the engine was given: prompts as text, and how to draw."""

    prompts: list[str] = field(default_factory=list)
    samplings: list[SamplingParams] = field(default_factory=list)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """Return what is asked from now on; answers are cut off after two tokens."""
    seen, generate = Asked(), TorchEngine.generate

    def spied(
        self: TorchEngine, requests: Sequence[Request], sampling: SamplingParams
    ) -> list[list[Rollout]]:
        seen.prompts += [byte_tokenizer().decode(request.prompt_ids) for request in requests]
        seen.samplings.append(sampling)
        return generate(self, requests, replace(sampling, max_tokens=2))

    monkeypatch.setattr(TorchEngine, "generate", spied)
    return seen


def a_run(path: Path, *options: str) -> RunDir:
    """Return a finished run that asked its model, which has a chat template, in some way."""
    run = RunDir(path).lock()
    run.start(to_yaml(build_config({}, list(options))), {})
    run.unlock()
    tokenizer = copy.deepcopy(byte_tokenizer())
    tokenizer.chat_template = TEMPLATE
    save_model(tiny_model(Shape(context=2048)), tokenizer, run.model_path)
    return run


def measure(model: Path, *arguments: str | Path) -> dict[str, Any]:
    """Run `zerone eval` on one problem, once."""
    return evaluate(model, *arguments, "--limit", "1", "--k", "1", "model.precision=fp32", "model.threads=1")


@pytest.fixture
def gsm8k(tmp_path: Path) -> Path:
    path = tmp_path / "gsm8k.jsonl"
    path.write_text(json.dumps({"question": "What is 1 + 2?", "answer": "1 + 2 = 3\n#### 3"}) + "\n")
    return path


# The run's way ------------------------------------------------------------------------------------


def test_a_model_that_was_tuned_for_a_box_is_asked_for_one(asked: Asked, tmp_path: Path) -> None:
    run = a_run(tmp_path / "dev1", "prompt.style=boxed", "prompt.open_thought=true")
    for model in (run.path, run.model_path):
        assert measure(model, "--suite", "sums")["protocol"]["form"] == "template:boxed"
    assert asked.prompts[0] == asked.prompts[1]
    assert "inside \\boxed{}" in asked.prompts[0] and asked.prompts[0].endswith("Assistant:<think>")


def test_the_packages_suites_are_drawn_as_in_training_with_its_worked_examples(
    asked: Asked, tmp_path: Path
) -> None:
    run = a_run(tmp_path / "sums", "prompt.examples=3", *AS_TRAINED)
    found = measure(run.path, "--suite", "sums")
    assert asked.prompts[0].startswith(write_prompt("", shown_examples(3)).removesuffix("\nAssistant:"))
    assert asked.samplings == [SamplingParams(temperature=0.8, max_tokens=48, stop=("</answer>",))]
    assert found["protocol"].items() >= {"temperature": 0.8, "max_tokens": 48}.items()


def test_other_suites_are_drawn_as_in_the_paper_in_the_runs_prompt_and_not_as_a_chat(
    asked: Asked, tmp_path: Path, gsm8k: Path
) -> None:
    run = a_run(tmp_path / "sums", "prompt.examples=3", *AS_TRAINED)
    found = measure(run.path, "--suite", "gsm8k", "--data", gsm8k)
    assert asked.prompts == [write_prompt("What is 1 + 2?", shown_examples(3))]
    drawn = {"temperature": 0.6, "top_p": 0.95, "stop": ["</answer>"], "form": "template:tags"}
    assert found["protocol"].items() >= drawn.items()
    assert asked.samplings[0].max_tokens > 48, "the context's, not the run's"


def test_a_checkpoint_of_the_run_is_asked_in_the_same_way(asked: Asked, tmp_path: Path) -> None:
    run = a_run(tmp_path / "dev1", "prompt.style=boxed")
    checkpoint = run.checkpoints_path / "step_000003" / "model"
    checkpoint.parent.mkdir(parents=True)
    run.model_path.rename(checkpoint)
    assert measure(checkpoint, "--suite", "sums")["protocol"]["form"] == "template:boxed"


# Another way --------------------------------------------------------------------------------------


def test_what_is_given_goes_before_the_run(asked: Asked, tmp_path: Path, gsm8k: Path) -> None:
    run = a_run(tmp_path / "sums", "prompt.examples=3", *AS_TRAINED)
    found = measure(run.path, "--suite", "sums", "prompt.examples=0", "sampling.temperature=0")
    assert asked.prompts[0].startswith(f"{R1_ZERO_PREFIX}User: ") and "</answer>." in asked.prompts[0]
    assert found["protocol"].items() >= {"temperature": 0.0, "max_tokens": 48}.items()
    found = measure(run.path, "--suite", "sums", "--recipe", "zero")
    assert found["protocol"].items() >= {"temperature": 1.0, "max_tokens": 448, "stop": []}.items()
    found = measure(run.path, "--suite", "gsm8k", "--data", gsm8k, "--recipe", "zero")
    assert asked.prompts[-1] == write_prompt("What is 1 + 2?"), "the recipe's prompt, but no chat"
    found = measure(run.path, "--suite", "gsm8k", "--data", gsm8k, "--chat")
    assert found["protocol"]["form"] == "chat" and asked.prompts[-1].startswith("<chat>")


def test_of_the_run_nothing_but_the_prompt_and_the_sampling_is_taken(asked: Asked, tmp_path: Path) -> None:
    """What it was trained on, and from, says nothing of the file that is measured on."""
    own = ["data.path=gone.jsonl", "data.prompt_field=q", "data.answer_field=a", "model.path=gone"]
    run = a_run(tmp_path / "run", "prompt.style=boxed", "seed=7", *own)
    suite = tmp_path / "mine.jsonl"
    suite.write_text(json.dumps({"prompt": "What is 1 + 2?", "answer": 3}) + "\n", encoding="utf-8")
    found = measure(run.path, "--suite", suite)
    assert (found["protocol"]["form"], found["protocol"]["seed"]) == ("template:boxed", 0)
    assert asked.prompts == [write_prompt("What is 1 + 2?", (), Style.BOXED)]


@pytest.mark.parametrize("written", ["prompt: [", "prompt: {mood: glad}", "prompt: 3", "- 1"])
def test_a_configuration_that_cannot_be_read_is_as_none(
    written: str, asked: Asked, tmp_path: Path, gsm8k: Path
) -> None:
    run = a_run(tmp_path / "run", "prompt.style=boxed")
    run.config_path.write_text(f"{written}\n", encoding="utf-8")
    found = measure(run.path, "--suite", "gsm8k", "--data", gsm8k)
    assert found["protocol"]["form"] == "chat", "as of any model with a template"
    assert measure(run.path, "--suite", "sums")["protocol"]["form"] == "template:tags"
