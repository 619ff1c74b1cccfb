"""What is asked of a model: the prompt that its run trained it with, wherever in the run it lies."""

import copy
import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from starlette.testclient import TestClient

import zerone
from fakes import byte_tokenizer, tiny_model
from processes import call_main
from zerone.config import build_config, to_yaml
from zerone.errors import RunDirError
from zerone.model.loading import load_model, save_model
from zerone.prompt import write_prompt
from zerone.run_dir import RunDir
from zerone.serve.application import create_app
from zerone.serve.models import Limits, open_model
from zerone.serve.schemas import Message
from zerone.serve.telemetry import Prices
from zerone.stages.zero import prompt_encoder
from zerone.types import Problem

CHAT, PLAIN = "/v1/chat/completions", "/v1/completions"
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


QUESTION = {"role": "user", "content": "Use the numbers 3, 5, 7 to make 22."}


def answer_of(address: str, model: Path, **fields: Any) -> dict[str, Any]:
    """Return a model's first choice, drawn greedily; text on its own is a plain completion."""
    served = open_model(str(model), Limits(kv_bytes=1 << 24))
    with TestClient(create_app([served], None, Prices.read("1,1")), base_url="http://localhost") as client:
        body = {"model": served.name, "temperature": 0, "max_tokens": 40, **fields}
        answer = client.post(address, json=body)
    assert answer.status_code == 200, answer.text
    choice: dict[str, Any] = answer.json()["choices"][0]
    return choice


def run_with_model(path: Path, *overrides: str) -> Path:
    """Write a run and its final model: the embedded one, which answers in the tags."""
    run = started_run(path, byte_tokenizer(), *overrides)
    run.model_path.symlink_to(Path(zerone.__file__).parent / "data" / "embedded")
    return path


@pytest.mark.parametrize("is_raw", [False, True])
def test_a_run_that_ended_answers_with_a_string_still_does(tmp_path: Path, is_raw: bool) -> None:
    """It never learnt what comes after. The string is part of the text, as in training."""
    asked = {"messages": [QUESTION], "reasoning_format": "none" if is_raw else "split"}
    free = run_with_model(tmp_path / "free")
    whole = answer_of(CHAT, free, **asked)["message"]
    field = "content" if is_raw else "reasoning"
    stop = whole[field][10:16]
    assert len(stop) == 6
    run = run_with_model(tmp_path / "stopping", f"sampling.stop={json.dumps([stop])}")
    choice = answer_of(CHAT, run, **asked)
    end = whole[field].index(stop) + len(stop)
    assert choice["finish_reason"] == "stop"
    assert choice["message"][field] == whole[field][:end].rstrip()
    # The client's own comes beside it, and is cut off.
    assert choice["stop_reason"] is None, "nothing was cut off"
    cut = answer_of(CHAT, run, **asked, stop=["@@", stop])
    assert cut["stop_reason"] == stop
    assert cut["message"][field] == whole[field][: end - len(stop)].rstrip()
    # A plain completion is drawn as the client says.
    prompt = {"prompt": write_prompt(QUESTION["content"])}
    assert answer_of(PLAIN, run, **prompt)["text"] == answer_of(PLAIN, free, **prompt)["text"]


def test_a_chat_in_the_terminal_ends_answers_as_the_run_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = []
    for stops in ([], ["</think>"]):
        run = run_with_model(tmp_path / f"run{len(stops)}", f"sampling.stop={json.dumps(stops)}")
        monkeypatch.setattr("sys.stdin", io.StringIO("What is 3 + 4?\n"))
        code, out, err = call_main(tmp_path, "chat", str(run), "--temperature", "0", "--max-tokens", "80")
        assert code == 0, err
        said.append(out.strip())
    assert said[0]
    assert not said[1]


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


@pytest.mark.parametrize("text", [None, "{no json"])
def test_a_model_without_readable_generation_settings_is_served(tmp_path: Path, text: str | None) -> None:
    save_model(tiny_model(), byte_tokenizer(), tmp_path / "plain")
    path = tmp_path / "plain" / "generation_config.json"
    path.unlink(missing_ok=True)
    if text is not None:
        path.write_text(text, encoding="utf-8")
    served = open_model(str(tmp_path / "plain"), Limits())
    assert (served.temperature, served.top_p, served.top_k) == (1.0, 1.0, 0)
