"""Values that mean nothing are taken at every address alike; what asks for something is refused by name."""

import json
from collections.abc import Iterator
from typing import Any

import httpx2 as httpx
import pytest

from serving_scripts import Scripted, scripted_server

openai = pytest.importorskip("openai")

BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "3+4?"}]},
    "/v1/completions": {"prompt": "3+4?"},
    "/v1/responses": {"input": "3+4?"},
}
ADDRESSES = list(BODIES)


@pytest.fixture(scope="module")
def server() -> Iterator[Scripted]:
    with scripted_server() as live:
        live.engine.text = "<think>3+4=7</think>\n<answer>7</answer>"
        yield live


def post(server: Scripted, address: str, **fields: Any) -> Any:
    body = {"model": "scripted", **BODIES[address], **fields}
    return httpx.post(server.url + address, json=body, timeout=30)


def said(server: Scripted, address: str, **fields: Any) -> str:
    answer = post(server, address, **fields)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    if "output" in found:
        return "".join(part["text"] for item in found["output"] for part in item["content"])
    (choice,) = found["choices"]
    return json.dumps(choice.get("message", choice.get("text")))


NOTHING: list[dict[str, Any]] = [
    {"tools": []},
    {"functions": []},
    {"tools": [], "tool_choice": "auto", "parallel_tool_calls": True},
    {"tool_choice": "none"},
    {"tool_choice": "auto"},
    {"function_call": "none"},
    {"parallel_tool_calls": False},
    {"logit_bias": {}},
    {"logit_bias": {"50256": 0, "11": 0.0}},
    {"metadata": {}},
    {"metadata": {"user": "ann", "trace": "1"}},
    {"store": False},
    {"store": True},
    {"service_tier": "auto"},
    {"service_tier": "flex"},
    {"modalities": ["text"]},
    {"top_k": -1},
    {"top_k": 0},
    {"top_k": -1.0},
    {"min_p": 0},
    {"min_p": 0.0},
    {"repetition_penalty": 1},
    {"repetition_penalty": 1.0, "length_penalty": 1.0},
    {"presence_penalty": 0, "frequency_penalty": 0.0},
    {"stop": ""},
    {"stop": []},
    {"stop": [""]},
    {"stop": None},
    {"verbosity": "low"},
    {"prompt_cache_key": "key", "prompt_cache_retention": "24h"},
    {"safety_identifier": "user-1", "user": "user-1"},
    {"cache_control": {"type": "ephemeral"}},
    {"stream_options": {"continuous_usage_stats": False}},
    {"stream_options": {"include_usage": False, "include_obfuscation": False}},
    {"stream_options": {}},
    {"response_format": {"type": "text"}},
    {"truncation": "disabled"},
    {"include": []},
    {"background": False},
    {"suffix": ""},
    {"echo": False},
    {"best_of": 1},
    {"top_logprobs": 0},
    {"logprobs": False},
    {"logprobs": None},
    {"prediction": {"type": "content", "content": ""}},  # Mistral's client
    {"safe_prompt": False},
    {"chat_template_kwargs": {}},
    {"chat_template": None, "documents": None, "guided_json": None, "structured_outputs": None},
    {"enable_thinking": True},
    {"thinking": {"type": "enabled"}},
    {"add_generation_prompt": True},
    {"continue_final_message": False},
    {"include_reasoning": True},
    {"separate_reasoning": True, "stream_reasoning": True},  # SGLang
    {"skip_special_tokens": True, "spaces_between_special_tokens": True},
    {"ignore_eos": False, "min_tokens": 0, "include_stop_str_in_output": False},  # vLLM
    {"use_beam_search": False, "stop_token_ids": [], "bad_words": []},
    {"return_token_ids": False, "return_tokens_as_token_ids": False, "priority": 0},
    {"request_id": "r1", "mm_processor_kwargs": {}, "vllm_xargs": {}},
    {"do_sample": True, "typical_p": 1.0, "details": False, "return_full_text": False},  # TGI
    {"cache_prompt": True, "mirostat": 0, "repeat_penalty": 1.0, "n_probs": 0, "id_slot": -1},  # llama.cpp
    {"xtc_probability": 0, "dry_multiplier": 0, "tfs": 1, "top_a": 0},
    {"keep_alive": "5m", "options": {}},  # Ollama
    {"keep_alive": 300},
    {"extra_body": {}},
    {"transforms": [], "provider": {}, "plugins": []},  # OpenRouter
    {"usage": {"include": False}},
    {"text": {"format": {"type": "text"}, "verbosity": "medium"}},
    {"context_management": []},
    {"max_tool_calls": 3},
    {"previous_response_id": None, "conversation": None, "prompt_cache_options": {"mode": "implicit"}},
    {"unheard_of": None},
    {"n": 1.0},
    {"seed": 1234.0},
    {"top_k": 50.0},
    {"temperature": 0},
    {"top_p": 1},
]


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("fields", NOTHING, ids=lambda fields: json.dumps(fields)[:60])
def test_what_means_nothing_changes_nothing(server: Scripted, address: str, fields: dict[str, Any]) -> None:
    assert said(server, address, **fields) == said(server, address)


ASKS: list[dict[str, Any]] = [
    {"tools": [{"type": "function", "function": {"name": "f"}}]},
    {"functions": [{"name": "f"}]},
    {"tool_choice": "required"},
    {"tool_choice": {"type": "function", "function": {"name": "f"}}},
    {"function_call": {"name": "f"}},
    {"logit_bias": {"5": 1}},
    {"logit_bias": []},
    {"modalities": ["text", "audio"]},
    {"audio": {"voice": "alloy"}},
    {"min_p": 0.05},
    {"repetition_penalty": 1.1},
    {"presence_penalty": 0.5},
    {"frequency_penalty": -0.5},
    {"response_format": {"type": "json_object"}},
    {"truncation": "auto"},
    {"include": ["reasoning.encrypted_content"]},
    {"background": True},
    {"suffix": "end"},
    {"echo": True},
    {"best_of": 2},
    {"stream": True, "stream_options": {"continuous_usage_stats": True}},
    {"stream": True, "stream_options": {"include_obfuscation": True}},
    {"thinking": {"type": "disabled"}},
    {"web_search_options": {}},
    {"ignore_eos": True},
    {"min_tokens": 5},
    {"include_stop_str_in_output": True},
    {"stop_token_ids": [3]},
    {"use_beam_search": True},
    {"guided_choice": ["a", "b"]},
    {"structured_outputs": {"choice": ["a"]}},
    {"cache_salt": "s"},
    {"do_sample": False},
    {"mirostat": 2},
    {"min_p": False},
    {"repetition_penalty": True},
    {"store": "yes"},
    {"metadata": "yes"},
    {"service_tier": 1},
    {"top_k": -2},
    {"top_k": 1.5},
    {"n": 1.5},
    {"n": True},
    {"n": "1"},
    {"seed": 0.5},
    {"prediction": {"type": "content", "content": "7"}},
    {"unheard_of": 1},
    {"unheard_of": []},
]


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("fields", ASKS, ids=lambda fields: json.dumps(fields)[:60])
def test_what_asks_for_something_is_refused_by_name(
    server: Scripted, address: str, fields: dict[str, Any]
) -> None:
    answer = post(server, address, **fields)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error["param"] in fields
    assert list(fields)[-1] in error["message"]
    assert len(error["message"].split()) > 4


@pytest.mark.parametrize(
    ("address", "fields"),
    [
        ("/v1/chat/completions", {"max_tokens": 3.0}),
        ("/v1/chat/completions", {"max_completion_tokens": 3.0}),
        ("/v1/chat/completions", {"max_completion_tokens": 3e0, "logprobs": True, "top_logprobs": 2.0}),
        ("/v1/completions", {"max_tokens": 3.0, "logprobs": 2.0}),
        ("/v1/responses", {"max_output_tokens": 3.0}),
    ],
)
def test_whole_numbers_may_be_written_as_floats(
    server: Scripted, address: str, fields: dict[str, Any]
) -> None:
    answer = post(server, address, **fields)
    assert answer.status_code == 200, answer.text
    usage = answer.json()["usage"]
    assert usage.get("completion_tokens", usage.get("output_tokens")) == 3


def test_tokens_of_a_prompt_may_be_written_as_floats(server: Scripted) -> None:
    for prompt in ([5.0, 6.0], [5, 6.0], [[5.0, 6.0]]):
        assert post(server, "/v1/completions", prompt=prompt).status_code == 200
        assert server.engine.requests[-1].prompt_ids == (5, 6)
    assert post(server, "/v1/completions", prompt=[5.5]).status_code == 400


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("/v1/chat/completions", "max_tokens"),
        ("/v1/chat/completions", "max_completion_tokens"),
        ("/v1/completions", "max_tokens"),
        ("/v1/responses", "max_output_tokens"),
    ],
)
def test_a_limit_of_minus_one_is_the_end_of_the_context(server: Scripted, address: str, name: str) -> None:
    assert post(server, address, **{name: -1}).status_code == 200
    job = server.engine.requests[-1]
    assert job.sampling.max_tokens == 4096 - len(job.prompt_ids)
    for wrong in (0, -2, 1.5):
        error = post(server, address, **{name: wrong}).json()["error"]
        assert error["param"] == name


def test_a_top_k_of_minus_one_turns_off_the_models_own(server: Scripted) -> None:
    for address in ADDRESSES:
        assert post(server, address, top_k=-1).status_code == 200
        assert server.engine.requests[-1].sampling.top_k == 0


def test_empty_stop_strings_are_left_out_beside_others(server: Scripted) -> None:
    for address in ADDRESSES:
        assert post(server, address, stop=["", "\n\n", ""]).status_code == 200
        assert server.engine.requests[-1].sampling.cut_stop == ("\n\n",)


def test_parts_of_a_message_may_be_marked_for_a_cache(server: Scripted) -> None:
    for mark in ({"type": "ephemeral"}, {"type": "ephemeral", "ttl": "1h"}, None):
        part = {"type": "text", "text": "3+4?", "cache_control": mark}
        messages = [{"role": "user", "content": [part]}]
        assert post(server, "/v1/chat/completions", messages=messages).status_code == 200
        part = {"type": "input_text", "text": "3+4?", "cache_control": mark}
        assert post(server, "/v1/responses", input=[{"role": "user", "content": [part]}]).status_code == 200


def test_what_openais_client_may_send_with_every_request_is_taken(server: Scripted) -> None:
    client = openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0)
    settings = {
        "model": "scripted",
        "metadata": {"a": "b"},
        "store": True,
        "service_tier": "default",
        "prompt_cache_key": "k",
        "safety_identifier": "s",
        "parallel_tool_calls": True,
        "tools": [],
        "tool_choice": "auto",
        "extra_body": {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0},
    }
    found = client.chat.completions.create(
        messages=[{"role": "user", "content": "3+4?"}],
        modalities=["text"],
        logit_bias={},
        verbosity="medium",
        functions=[],
        **settings,
    )
    assert found.choices[0].message.content == "7"
    assert client.responses.create(input="3+4?", text={"verbosity": "low"}, **settings).output_text == "7"
