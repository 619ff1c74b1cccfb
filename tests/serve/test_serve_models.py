"""What is asked of a model: the prompt that its run trained it with, wherever in the run it lies."""

import copy
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from starlette.testclient import TestClient

import zerone
from fakes import byte_tokenizer, tiny_model
from processes import call_main
from report_runs import make_group, make_problem
from zerone.config import build_config, to_yaml
from zerone.errors import ConfigError, ModelError, RunDirError
from zerone.jobs.rl import prompt_encoder
from zerone.model.loading import load_model, save_model
from zerone.prompts.r1 import write_prompt
from zerone.runs.directory import RunDir
from zerone.serve.application import create_app
from zerone.serve.models import Limits, Served, open_model
from zerone.serve.page import page_response
from zerone.serve.refusals import Refusal
from zerone.serve.schemas import ChatRequest, Message
from zerone.serve.telemetry import Prices
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
    run.model_path.symlink_to(Path(zerone.__file__).parent / "world" / "embedded")
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
    # A request's own looks at the final answer only, where the reasoning is split off.
    assert cut["stop_reason"] == (stop if is_raw else None)
    assert cut["message"][field] == whole[field][: end - len(stop) if is_raw else end].rstrip()
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


def with_template(path: Path, template: Any) -> Served:
    """Save a model with this chat template and open it."""
    save_model(tiny_model(), byte_tokenizer(), path)
    settings = path / "tokenizer_config.json"
    told = {**json.loads(settings.read_text(encoding="utf-8")), "chat_template": template}
    settings.write_text(json.dumps(told), encoding="utf-8")
    return open_model(str(path), Limits())


@pytest.mark.parametrize(
    "template",
    ["{% for m in messages", "{{ tools | length }}", 5, [{"name": "tool_use", "template": CHATML}]],
    ids=["no Jinja", "needs tools", "no text", "none by default"],
)
def test_a_chat_template_that_fails_at_any_question_is_refused_at_the_start(
    tmp_path: Path, template: Any
) -> None:
    with pytest.raises(ModelError, match=r"chat template in .*plain fails at any question"):
        with_template(tmp_path / "plain", template)


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ messages[0].content or 1 / 0 }}", "division by zero"),
        ("{{ messages[0].content or (1 + 'a') }}", "unsupported operand"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "recursion"),
        ("{{ range(1000000) | list }}", "Range too big"),
        ("{{ raise_exception('two turns, please') }}", "two turns, please"),
        ("{{ messages[0].content }}", "writes nothing"),
    ],
)
def test_messages_that_a_chat_template_fails_at_are_the_request_that_is_refused(
    tmp_path: Path, template: str, text: str
) -> None:
    """One of the templates writes nothing for an empty message, and no engine can continue that."""
    served = with_template(tmp_path / "plain", template)
    with pytest.raises(Refusal, match=text) as caught:
        served.prompter.encode_chat([Message(role="user", content="")], thinks=True)
    assert caught.value.status == 400


def test_a_run_of_another_version_is_asked_as_it_was_trained(tmp_path: Path) -> None:
    """What its other sections say that this version does not know is no matter here."""
    run = run_with_model(tmp_path / "run", "prompt.style=boxed", 'sampling.stop=["@@"]')
    text = RunDir(run).config_path.read_text(encoding="utf-8")
    RunDir(run).config_path.write_text(text + "\nlater:\n  option: 1\n", encoding="utf-8")
    served = open_model(str(run), Limits())
    assert served.prompter.style == "boxed"
    assert served.trained_stop == ("@@",)


def test_a_run_that_does_not_tell_how_it_was_trained_is_not_served_in_another_way(tmp_path: Path) -> None:
    run = run_with_model(tmp_path / "run", "prompt.style=boxed")
    RunDir(run).config_path.write_text("prompt: [", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"config\.yaml is not a YAML file"):
        open_model(str(run), Limits())


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


def with_generation_settings(path: Path, **settings: Any) -> Served:
    save_model(tiny_model(), byte_tokenizer(), path)
    (path / "generation_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return open_model(str(path), Limits())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("temperature", value) for value in ("hot", [1], float("nan"), float("inf"), -1)),
        *(("top_p", value) for value in (0, 2, float("nan"), "all")),
        *(("top_k", value) for value in ("few", -2, float("inf"))),
    ],
)
def test_settings_by_which_nothing_can_be_drawn_are_refused_at_the_start(
    tmp_path: Path, name: str, value: Any
) -> None:
    with pytest.raises(ModelError, match=f"as {name}, by which nothing can be sampled"):
        with_generation_settings(tmp_path / "plain", **{name: value})


def test_a_top_k_of_minus_one_is_none_as_in_vllm(tmp_path: Path) -> None:
    assert with_generation_settings(tmp_path / "plain", top_k=-1).top_k == 0


# What the chat page offers ------------------------------------------------------------------------


def suggestions_of(model: str) -> list[str]:
    """Return what /v1/models says that a model can be asked."""
    served = open_model(model, Limits(kv_bytes=1 << 24))
    with TestClient(create_app([served], None, Prices.read("1,1")), base_url="http://localhost") as client:
        (found,) = client.get("/v1/models").json()["data"]
    return list(found["suggestions"])


def test_the_embedded_model_is_offered_problems_of_its_world() -> None:
    assert suggestions_of("embedded") == ["Use the numbers 3, 5, 7 to make 22.", "What is 12 * 3 - 4?"]


def test_a_model_of_rl_is_offered_problems_that_it_was_trained_on(tmp_path: Path) -> None:
    run = RunDir(run_with_model(tmp_path / "run"))
    kinds = [("sums", 1), ("sums", 1), ("geometry", 2), ("long", 3)]
    groups = [make_group(make_problem(*kind), [("a", True, 3)]) for kind in kinds]
    problems = [replace(g.group.problem, prompt=f"question {i}") for i, g in enumerate(groups)]
    problems[3] = replace(problems[3], prompt="long " * 100)
    pairs = zip(groups, problems, strict=True)
    changed = [replace(one, group=replace(one.group, problem=problem)) for one, problem in pairs]
    run.record_step({"step": 1}, {"step": 1}, changed)
    assert suggestions_of(str(run.path)) == ["question 0", "question 2"]


def test_a_model_of_sft_is_offered_what_it_was_shown(tmp_path: Path) -> None:
    rows = [{"prompt": f"question {i % 4}", "completion": f"<answer>{i}</answer>"} for i in range(8)]
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    run = run_with_model(tmp_path / "run", f"data.path={data}")
    assert suggestions_of(str(run)) == ["question 0", "question 1", "question 2"]
    data.write_text("no longer JSON", encoding="utf-8")
    assert suggestions_of(str(run)) == []
    data.unlink()
    assert suggestions_of(str(run)) == []


def test_a_model_of_unknown_training_is_offered_nothing(tmp_path: Path) -> None:
    model = tmp_path / "other"
    model.symlink_to(Path(zerone.__file__).parent / "world" / "embedded")
    assert suggestions_of(str(model)) == []


def test_the_page_has_a_field_for_the_reasoning_budget() -> None:
    """Without a browser: the field is there, and goes into the request under the name that is read."""
    page = bytes(page_response().body).decode("utf-8")
    assert 'id="budget"' in page
    assert 'body.thinking_budget = Number($("budget").value)' in page
    assert "thinking_budget" in ChatRequest.model_fields
