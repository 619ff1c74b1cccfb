"""What is asked of a model: the prompt that its run trained it with, wherever in the run it lies."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from fakes import byte_tokenizer, tiny_model
from zerone.config import build_config, to_yaml
from zerone.errors import RunDirError
from zerone.model.loading import load_model, save_model
from zerone.run_dir import RunDir
from zerone.serve.models import Limits, open_model
from zerone.serve.schemas import Message
from zerone.stages.zero import prompt_encoder
from zerone.types import Problem

CHATML = "{%- for m in messages -%}<|im_start|>{{ m.role }} {{ m.content }}<|im_end|>{%- endfor -%}"


def started_run(path: Path, tokenizer: Any, *overrides: str) -> RunDir:
    """Write a run with a checkpoint and no final model."""
    run = RunDir(path)
    path.mkdir(parents=True)
    run.start(to_yaml(build_config({}, list(overrides))), {})
    save_model(tiny_model(), tokenizer, run.checkpoints_path / "step_2" / "model")
    return run


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("prompt.examples=2",),
        ("prompt.style=boxed", "prompt.open_thought=true"),
        ("prompt.examples=3", "prompt.style=summary"),
    ],
)
@pytest.mark.parametrize("place", ["", "model", "best", "checkpoints/step_2/model"])
def test_a_model_of_a_run_is_asked_as_it_was_trained(
    tmp_path: Path, overrides: tuple[str, ...], place: str
) -> None:
    """Also one whose base came with a chat template: the run did not train with that."""
    tokenizer = copy.deepcopy(byte_tokenizer())  # that is shared by all tests
    tokenizer.chat_template = CHATML
    run = started_run(tmp_path / "run", tokenizer, *overrides)
    for path in (run.model_path, run.best_path):
        save_model(tiny_model(), tokenizer, path)
    served = open_model(str(run.path / place), Limits())
    asked = served.prompter.encode_chat([Message(role="user", content="What is 1 + 1?")], thinks=True)
    problem = Problem(
        id="p", family="", level=1, language="en", prompt="What is 1 + 1?", verifier="", spec={}
    )
    trained = prompt_encoder(
        build_config({}, list(overrides)), load_model(str(run.model_path), torch.float32)
    )
    assert asked.ids == trained(problem)
    assert asked.split.opens_in_thought == ("prompt.open_thought=true" in overrides)
    assert not served.prompter.uses_template


def test_a_model_without_a_run_is_asked_through_its_own_template(tmp_path: Path) -> None:
    tokenizer = copy.deepcopy(byte_tokenizer())  # that is shared by all tests
    tokenizer.chat_template = CHATML
    save_model(tiny_model(), tokenizer, tmp_path / "plain")
    served = open_model(str(tmp_path / "plain"), Limits())
    asked = served.prompter.encode_chat([Message(role="user", content="Why?")], thinks=True)
    assert tokenizer.decode(asked.ids) == "<|im_start|>user Why?<|im_end|>"


def test_a_run_without_a_model_says_what_can_be_served(tmp_path: Path) -> None:
    run = started_run(tmp_path / "run", byte_tokenizer())
    with pytest.raises(RunDirError, match="no finished model"):
        open_model(str(run.path), Limits())
