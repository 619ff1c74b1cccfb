"""What the official `openai` client may rely on, against a live server with the embedded model."""

import asyncio
import json
import math
from typing import Any, get_args

import httpx2 as httpx
import pytest
from transformers import AutoTokenizer

import zerone.model.loading
from serving import KEY, Live, chat, events
from zerone.prompts.r1 import write_prompt

openai = pytest.importorskip("openai")

SHORT = {"max_tokens": 24, "seed": 7}
# Without sampling the embedded model thinks about it for 31 tokens; about many others it guesses at once.
QUESTION = (
    "Sam has 13 coins. Sam sells 7. The pile grows to 5 times its size. How many coins does Sam have now?"
)
ASKED = [{"role": "user", "content": QUESTION}]


@pytest.fixture(scope="module")
def client(server: Live) -> Any:
    return openai.OpenAI(base_url=server.url + "/v1", api_key=KEY, max_retries=0)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    directory = zerone.model.loading.find_directory("embedded")
    return AutoTokenizer.from_pretrained(directory)


def ask(client: Any, **more: Any) -> Any:
    return client.chat.completions.create(
        **{"model": "embedded", "messages": ASKED, "temperature": 0, **SHORT, **more}
    )


def complete(client: Any, **more: Any) -> Any:
    return client.completions.create(
        **{"model": "embedded", "prompt": "Question:", "temperature": 0, **SHORT, **more}
    )


def post(server: Live, body: Any, path: str = "/v1/chat/completions") -> Any:
    """Send a body as it is, where the client would not."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    return httpx.post(server.url + path, content=content, headers=headers, timeout=30)


def error_of(answer: Any, status: int = 400) -> dict[str, Any]:
    """Return the error, which must have OpenAI's shape."""
    assert answer.status_code == status, answer.text
    error: dict[str, Any] = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    return error


# Models -------------------------------------------------------------------------------------------


def test_models_are_listed(client: Any) -> None:
    assert [model.id for model in client.models.list()] == ["embedded"]


def test_a_model_is_retrieved_by_name(client: Any) -> None:
    assert client.models.retrieve("embedded").owned_by == "zerone"


def test_an_unknown_model_is_not_found(client: Any) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("gpt-9")
    assert caught.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError):
        ask(client, model="gpt-9")


# Chat ---------------------------------------------------------------------------------------------


def test_an_answer_has_the_shape_of_openai(client: Any) -> None:
    answer = ask(client)
    assert answer.object == "chat.completion"
    assert answer.id.startswith("chatcmpl-")
    assert answer.model == "embedded"
    assert [choice.index for choice in answer.choices] == [0]
    assert answer.choices[0].message.role == "assistant"


def test_the_thought_is_in_both_reasoning_fields(client: Any) -> None:
    message = ask(client, max_tokens=200).choices[0].message
    assert message.reasoning_content
    assert message.reasoning == message.reasoning_content
    assert "<think>" not in message.reasoning
    assert "</think>" not in message.content
    assert "<answer>" not in message.content


def test_the_prompt_is_the_template_of_training(client: Any, tokenizer: Any) -> None:
    answer = ask(client)
    assert answer.usage.prompt_tokens == len(tokenizer(write_prompt(QUESTION))["input_ids"])
    raw = complete(client, prompt=write_prompt(QUESTION)).choices[0].text
    whole = ask(client, extra_body={"reasoning_format": "none"}).choices[0].message
    assert whole.content == raw
    assert whole.reasoning is None


def test_tokens_are_counted_as_the_tokenizer_does(client: Any) -> None:
    answer = ask(client, max_tokens=10)
    usage = answer.usage
    assert usage.completion_tokens == 10
    assert answer.choices[0].finish_reason == "length"
    assert usage.total_tokens == usage.prompt_tokens + 10
    assert 0 < usage.completion_tokens_details.reasoning_tokens <= 10


def test_max_completion_tokens_counts_exactly(client: Any) -> None:
    answer = ask(client, max_tokens=openai.omit, max_completion_tokens=3)
    assert answer.usage.completion_tokens == 3


def test_an_answer_that_ends_by_itself_says_stop(client: Any) -> None:
    assert ask(client, max_tokens=400).choices[0].finish_reason == "stop"


def test_without_a_limit_an_answer_may_fill_the_context(client: Any) -> None:
    answer = ask(client, max_tokens=openai.omit)
    assert answer.usage.total_tokens <= 1024


def test_n_answers_have_indices_and_differ(client: Any) -> None:
    answer = ask(client, n=4, temperature=1.0, max_tokens=60)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    texts = {choice.message.reasoning_content for choice in answer.choices}
    assert len(texts) > 1


def test_a_seed_repeats_an_answer(client: Any) -> None:
    answers = [ask(client, temperature=1.0, seed=11, n=2).choices for _ in range(2)]
    texts = [[choice.message.reasoning_content for choice in choices] for choices in answers]
    assert texts[0] == texts[1]


def test_other_seeds_give_other_answers(client: Any) -> None:
    texts = {ask(client, temperature=1.5, seed=seed).choices[0].message.reasoning for seed in range(6)}
    assert len(texts) > 1


def test_a_seed_holds_whatever_is_decoded_beside_it(client: Any, server: Live) -> None:
    alone = ask(client, temperature=1.0, seed=3).choices[0].message.reasoning

    async def crowd() -> list[Any]:
        many = openai.AsyncOpenAI(base_url=server.url + "/v1", api_key=KEY)
        return await asyncio.gather(*(ask(many, temperature=1.0, seed=seed) for seed in range(6)))

    assert asyncio.run(crowd())[3].choices[0].message.reasoning == alone


def test_a_stop_string_ends_the_answer_and_is_not_in_it(client: Any) -> None:
    whole = ask(client, max_tokens=200).choices[0].message
    stop = whole.content[:2]
    answer = ask(client, max_tokens=200, stop=stop).choices[0]
    assert (answer.finish_reason, answer.stop_reason) == ("stop", stop)
    assert (answer.message.reasoning, answer.message.content) == (whole.reasoning, "")
    again = ask(client, max_tokens=200, stop=["@@", stop]).choices[0]
    assert again.message.content == answer.message.content


def test_a_stop_string_in_the_reasoning_ends_nothing(client: Any) -> None:
    whole = ask(client, max_tokens=200).choices[0].message
    stop = whole.reasoning[10:16]
    assert stop not in whole.content
    answer = ask(client, max_tokens=200, stop=stop).choices[0]
    assert (answer.message.reasoning, answer.message.content) == (whole.reasoning, whole.content)
    assert answer.stop_reason is None


def test_logprobs_belong_to_the_tokens(client: Any) -> None:
    answer = ask(client, logprobs=True, top_logprobs=3, max_tokens=8)
    told = answer.choices[0].logprobs.content
    assert len(told) == 8
    for token in told:
        assert len(token.top_logprobs) == 3
        assert token.top_logprobs[0].token == token.token  # greedy
        assert token.logprob <= 0
        assert sum(math.exp(top.logprob) for top in token.top_logprobs) <= 1.0001
        assert bytes(token.bytes).decode() == token.token


def test_thinking_can_be_turned_off(client: Any) -> None:
    for extra in (
        {"enable_thinking": False},
        {"chat_template_kwargs": {"enable_thinking": False}},
        {"chat_template_kwargs": {}, "enable_thinking": False},
        {"reasoning_effort": "none"},
    ):
        answer = ask(client, extra_body=extra)
        assert answer.choices[0].message.reasoning is None
        assert answer.usage.completion_tokens_details.reasoning_tokens == 0


def test_a_thought_ends_within_its_budget(client: Any) -> None:
    answer = ask(client, max_tokens=60, extra_body={"thinking_budget": 5})
    assert answer.usage.completion_tokens_details.reasoning_tokens <= 8
    free = ask(client, max_tokens=60)
    assert free.usage.completion_tokens_details.reasoning_tokens > 8


def test_old_thoughts_are_left_out_of_the_prompt(client: Any) -> None:
    history = [*ASKED, {"role": "assistant", "content": "7"}, {"role": "user", "content": "And 5 + 5?"}]
    plain = ask(client, messages=history).usage.prompt_tokens
    thoughtful = [dict(turn) for turn in history]
    thoughtful[1] |= {
        "content": "<think>three and four</think>\n<answer>7</answer>",
        "reasoning_content": "x " * 99,
    }
    assert ask(client, messages=thoughtful).usage.prompt_tokens == plain
    assert plain > ask(client).usage.prompt_tokens


def test_a_message_that_came_back_can_be_sent_again(client: Any) -> None:
    message = ask(client, max_tokens=200).choices[0].message
    turns = [*ASKED, message.model_dump(), {"role": "user", "content": "Why?"}]
    assert ask(client, messages=turns).choices


def test_a_system_message_and_text_parts_are_read(client: Any) -> None:
    parts = [{"type": "text", "text": text} for text in (QUESTION[:9], QUESTION[9:])]
    by_parts = ask(client, messages=[{"role": "user", "content": parts}])
    assert by_parts.usage.prompt_tokens == ask(client).usage.prompt_tokens
    system = [{"role": "system", "content": "Be brief."}, *ASKED]
    assert ask(client, messages=system).usage.prompt_tokens > by_parts.usage.prompt_tokens


# Streams ------------------------------------------------------------------------------------------


def collect(stream: Any) -> tuple[dict[int, dict[str, str]], list[Any]]:
    """Return what each answer of a stream says, by field, and the chunks."""
    said: dict[int, dict[str, str]] = {}
    chunks = list(stream)
    for chunk in chunks:
        for choice in chunk.choices:
            for name in ("role", "content", "reasoning_content", "reasoning"):
                parts = said.setdefault(choice.index, {})
                parts[name] = parts.get(name, "") + (getattr(choice.delta, name, None) or "")
    return said, chunks


def test_a_stream_says_what_the_whole_answer_says(client: Any) -> None:
    whole = ask(client, max_tokens=200).choices[0].message
    said, _ = collect(ask(client, max_tokens=200, stream=True))
    assert said[0]["content"] == whole.content
    assert said[0]["reasoning_content"] == said[0]["reasoning"] == whole.reasoning
    assert said[0]["role"] == "assistant"


def test_each_delta_holds_thought_or_answer(client: Any) -> None:
    _, chunks = collect(ask(client, max_tokens=200, stream=True))
    deltas = [choice.delta for chunk in chunks for choice in chunk.choices]
    assert any(getattr(delta, "reasoning_content", None) for delta in deltas)
    assert len({chunk.id for chunk in chunks}) == 1


def test_a_stream_ends_with_one_reason(client: Any) -> None:
    _, chunks = collect(ask(client, stream=True, n=3, temperature=1.0))
    reasons = [
        (choice.index, choice.finish_reason)
        for chunk in chunks
        for choice in chunk.choices
        if choice.finish_reason
    ]
    assert sorted(index for index, _ in reasons) == [0, 1, 2]


def test_usage_comes_last_when_asked_for(client: Any) -> None:
    _, chunks = collect(ask(client, stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].choices == []
    assert chunks[-1].usage == ask(client).usage
    assert all(chunk.usage is None for chunk in chunks[:-1])
    _, plain = collect(ask(client, stream=True))
    assert all(chunk.usage is None for chunk in plain)


def test_streams_carry_logprobs(client: Any) -> None:
    _, chunks = collect(ask(client, stream=True, logprobs=True, max_tokens=8))
    told = [
        t for chunk in chunks for choice in chunk.choices if choice.logprobs for t in choice.logprobs.content
    ]
    assert len(told) == 8


def test_a_stream_is_framed_as_events(server: Live) -> None:
    answer = post(server, chat(stream=True, max_tokens=5, temperature=0))
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert all(event["object"] == "chat.completion.chunk" for event in events(answer.text))


def test_no_stream_breaks_a_character(client: Any, server: Live) -> None:
    """The prompt leads the model to Chinese, whose characters are several of its tokens."""
    prompt = "<think>我们来算一算"
    whole = complete(client, prompt=prompt, max_tokens=40, temperature=1.0, seed=5).choices[0].text
    stream = complete(client, prompt=prompt, max_tokens=40, temperature=1.0, seed=5, stream=True)
    assert "".join(chunk.choices[0].text for chunk in stream) == whole
    assert any(ord(character) > 0x2E80 for character in whole)
    assert not whole.endswith("\ufffd")


def test_a_stop_string_is_found_across_chunks(client: Any) -> None:
    whole = complete(client, max_tokens=40).choices[0].text
    stop = whole[10:16]
    chunks = list(complete(client, max_tokens=40, stop=[stop], stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole[: whole.index(stop)]
    assert [chunk.choices[0].stop_reason for chunk in chunks] == [None] * (len(chunks) - 1) + [stop]


def test_the_async_client_streams(server: Live) -> None:
    async def talk() -> str:
        client = openai.AsyncOpenAI(base_url=server.url + "/v1", api_key=KEY)
        stream = await ask(client, stream=True)
        return "".join([getattr(chunk.choices[0].delta, "reasoning", None) or "" async for chunk in stream])

    assert asyncio.run(talk())


# Completions --------------------------------------------------------------------------------------


def test_completions_take_text_and_tokens(client: Any, tokenizer: Any) -> None:
    text = complete(client, prompt="Question: 1 + 1").choices[0].text
    ids = tokenizer("Question: 1 + 1")["input_ids"]
    assert complete(client, prompt=ids).choices[0].text == text


def test_several_prompts_are_answered_in_order(client: Any, tokenizer: Any) -> None:
    prompts = ["Question: 1 + 1", "The", "User: hello\nAssistant:"]
    alone = [complete(client, prompt=prompt).choices[0].text for prompt in prompts]
    together = complete(client, prompt=prompts, n=2)
    assert [choice.index for choice in together.choices] == list(range(6))
    assert [choice.text for choice in together.choices[::2]] == alone
    ids = [tokenizer(prompt)["input_ids"] for prompt in prompts]
    assert [choice.text for choice in complete(client, prompt=ids).choices] == alone


def test_completions_have_a_default_length(client: Any) -> None:
    assert complete(client, max_tokens=openai.omit).usage.completion_tokens <= 16


def test_completions_tell_logprobs_in_their_own_shape(client: Any) -> None:
    told = complete(client, logprobs=2, max_tokens=5).choices[0].logprobs
    assert (
        len(told.tokens) == len(told.token_logprobs) == len(told.top_logprobs) == len(told.text_offset) == 5
    )
    assert told.text_offset[0] == 0


def test_completions_tell_the_drawn_token_beside_the_likeliest_ones(client: Any) -> None:
    """As OpenAI's do: there may be one more than were asked for, and with 0 there is the drawn one."""
    unlikely = {"temperature": 2.0, "seed": 1, "max_tokens": 20}
    for num_top in (0, 2):
        told = complete(client, logprobs=num_top, **unlikely).choices[0].logprobs
        pairs = list(zip(told.tokens, told.token_logprobs, told.top_logprobs, strict=True))
        assert all(token in top and len(top) <= num_top + 1 for token, _, top in pairs)
        assert any(len(top) == num_top + 1 for _, _, top in pairs), "every token drawn was a likeliest one"
        # Pieces of characters have one text in common, and the likeliest of them counts.
        assert all(top[token] == logprob for token, logprob, top in pairs if "\ufffd" not in token)


# Refusals -----------------------------------------------------------------------------------------


def test_a_context_that_is_too_small_is_an_error(client: Any) -> None:
    for more in ({"max_tokens": 1020}, {"messages": [{"role": "user", "content": "what " * 2000}]}):
        with pytest.raises(openai.BadRequestError) as caught:
            ask(client, **more)
        assert caught.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError):
        complete(client, prompt="a" * 900_000)


@pytest.mark.parametrize(
    ("path", "body", "param", "remedy"),
    [
        ("/v1/chat/completions", chat(max_tokens=5000), "messages", "lower max_completion_tokens"),
        ("/v1/completions", {"prompt": "a", "max_tokens": 5000}, "prompt", "lower max_tokens"),
        ("/v1/completions", {"prompt": "a " * 5000, "max_tokens": 5}, "prompt", "shorten it"),
        ("/v1/responses", {"input": "a", "max_output_tokens": 5000}, "input", "lower max_output_tokens"),
    ],
)
def test_what_is_too_long_is_told_by_the_names_of_the_request(
    server: Live, path: str, body: dict[str, Any], param: str, remedy: str
) -> None:
    error = error_of(post(server, {"model": "embedded", **body}, path))
    assert (error["param"], error["code"]) == (param, "context_length_exceeded")
    assert remedy in error["message"]


@pytest.mark.parametrize(
    ("path", "fault", "message"),
    [
        (
            "/v1/chat/completions",
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            "messages.0.content.0.type: Input should be 'text'",
        ),
        (
            "/v1/chat/completions",
            {"tools": [{"type": "function"}]},
            "tools: this server cannot do what this value asks for; leave it out or send an empty one",
        ),
        (
            "/v1/completions",
            {"prompt": "a", "repetition_penalty": 1.1},
            "repetition_penalty: this server cannot do what this value asks for; leave it out or send 1",
        ),
        ("/v1/chat/completions", {"stop": ["a", 3]}, "stop.1: Input should be a valid string"),
        ("/v1/completions", {"prompt": [1, "a"]}, "prompt.1: Input should be a valid integer"),
        ("/v1/completions", {"prompt": ["a", ""]}, "prompt.1: String should have at least 1 character"),
        ("/v1/completions", {"prompt": {}}, "prompt: Input should be a valid list"),
        (
            "/v1/responses",
            {"input": [{"role": "user", "content": [{"type": "input_image"}]}]},
            "input.0.content.0.type: Input should be 'input_text', 'output_text' or 'reasoning_text'",
        ),
    ],
)
def test_a_refusal_names_the_field_and_what_it_may_be(
    server: Live, path: str, fault: dict[str, Any], message: str
) -> None:
    body = chat() if "chat" in path else {"model": "embedded"}
    assert error_of(post(server, {**body, **fault}, path))["message"] == message


@pytest.mark.parametrize("key", ["-", "wrong", KEY + "x", KEY[:-1], "é"])
def test_a_wrong_key_is_refused(server: Live, key: str) -> None:
    for path in ("/v1/models", "/metrics", "/", "/openapi.json", "/nowhere"):
        answer = httpx.get(server.url + path, headers={b"Authorization": f"Bearer {key}".encode()})
        assert error_of(answer, 401)["code"] == "invalid_api_key"


def test_health_needs_no_key(server: Live) -> None:
    answer = httpx.get(server.url + "/health")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


FAULTS: list[dict[str, Any]] = [
    {"temperature": -1},
    {"temperature": math.nan},
    {"temperature": math.inf},
    {"temperature": "hot"},
    {"temperature": 2.5},
    {"top_p": 0},
    {"top_p": 1.1},
    {"top_k": -2},
    {"n": 0},
    {"n": 65},
    {"n": 1e9},
    {"n": True},
    {"seed": 2**70},
    {"seed": 1.5},
    {"max_tokens": 0},
    {"max_tokens": -5},
    {"max_completion_tokens": "7"},
    {"stop": ["a"] * 5},
    {"stop": [3]},
    {"stop": "x" * 300},
    {"top_logprobs": 3},
    {"logprobs": True, "top_logprobs": 21},
    {"logprobs": 5},
    {"stream": "yes"},
    {"stream_options": {"include_usage": True}},
    {"messages": []},
    {"messages": "hello"},
    {"continue_final_message": True},
    {"messages": [{"role": "tool", "content": "a"}]},
    {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
    {"messages": [{"role": "user", "content": "\ud800"}]},
    {"messages": [None]},
    {"model": None},
    {"model": 5},
    {"model": "\udcff"},
    {"tools": [{"type": "function"}]},
    {"response_format": {"type": "json_object"}},
    {"presence_penalty": 0.5},
    {"logit_bias": {"5": 1}},
    {"chat_template_kwargs": {"tokenize": True}},
    {"thinking_budget": 0},
    {"reasoning_format": "maybe"},
    {"reasoning_format": "none", "thinking_budget": 5},
    {"\ud800": 1},
    {"unheard_of": 1},
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: json.dumps(fault)[:40])
def test_what_cannot_be_done_is_refused_with_a_reason(server: Live, fault: dict[str, Any]) -> None:
    error = error_of(post(server, {**chat(max_tokens=2), **fault}))
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    "fault",
    [
        {"prompt": ""},
        {"prompt": []},
        {"prompt": [[]]},
        {"prompt": [1, "a"]},
        {"prompt": [768]},
        {"prompt": [-1]},
        {"prompt": ["a"] * 65},
        {"prompt": "a", "best_of": 1000000000},
        {"prompt": "a", "echo": True},
        {},
        {"prompt": ["a", "b"], "n": 64},
        {"prompt": "a", "suffix": "b"},
        {"prompt": "a", "logprobs": 21},
    ],
    ids=lambda fault: json.dumps(fault)[:40],
)
def test_completions_refuse_with_a_reason(server: Live, fault: dict[str, Any]) -> None:
    error_of(post(server, {"model": "embedded", "max_tokens": 2, **fault}, "/v1/completions"))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"x"',
        b"\xff\xfe",
        b"[" * 100000,
        b'{"a":' * 50000,
        b"1" * 10000,
        b'{"model":"embedded","messages":[{"role":"user","content":"\\u0000"}],"n":' + b"9" * 5000 + b"}",
    ],
)
def test_a_body_that_is_no_request_is_refused(server: Live, body: bytes) -> None:
    error_of(post(server, body))


def test_nul_and_line_breaks_are_but_text(server: Live) -> None:
    assert post(server, chat("\x00\r\n\x1b[31m", max_tokens=2)).status_code == 200


def test_a_null_means_that_a_field_is_absent(server: Live) -> None:
    body = chat(max_tokens=2, tools=None, stop=None, response_format=None, logit_bias=None, n=None)
    assert post(server, body).status_code == 200


def test_a_form_is_no_json(server: Live) -> None:
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "text/plain"}
    answer = httpx.post(server.url + "/v1/chat/completions", content=json.dumps(chat()), headers=headers)
    error_of(answer)


def test_addresses_and_methods_that_are_not_there(server: Live) -> None:
    headers = {"Authorization": f"Bearer {KEY}"}
    error_of(httpx.get(server.url + "/v1/nothing", headers=headers), 404)
    error_of(httpx.get(server.url + "/v1/chat/completions", headers=headers), 405)
    error_of(httpx.delete(server.url + "/v1/models", headers=headers), 405)


# Metrics ------------------------------------------------------------------------------------------


def test_metrics_count_tokens_and_cost_per_key(server: Live, client: Any) -> None:
    before = server.metric("zerone_completion_tokens_total"), server.metric("zerone_cost_usd_total")
    usage = ask(client).usage
    text = server.get("/metrics")
    assert server.metric("zerone_completion_tokens_total") == before[0] + usage.completion_tokens
    cost = (usage.prompt_tokens * 0.55 + usage.completion_tokens * 2.19) / 1e6
    assert server.metric("zerone_cost_usd_total") == pytest.approx(before[1] + cost)
    assert 'zerone_cost_usd_total{key="tester",model="embedded"}' in text
    assert "zerone_time_to_first_token_seconds_bucket" in text
    assert KEY not in text


def test_metrics_have_no_label_from_a_client(server: Live) -> None:
    httpx.get(server.url + '/x"%0A1', headers={"Authorization": f"Bearer {KEY}"})
    assert 'route="other"' in server.get("/metrics")


# Responses ----------------------------------------------------------------------------------------


def respond(client: Any, **more: Any) -> Any:
    return client.responses.create(
        **{"model": "embedded", "input": QUESTION, "temperature": 0, "max_output_tokens": 24, **more}
    )


def test_a_response_says_what_a_chat_says(client: Any) -> None:
    message = ask(client, max_tokens=400).choices[0].message
    found = respond(client, max_output_tokens=400)
    assert (found.object, found.status, found.model) == ("response", "completed", "embedded")
    assert found.output_text == message.content
    thought, answer = found.output
    assert (thought.type, answer.type, answer.role) == ("reasoning", "message", "assistant")
    assert thought.content[0].text == message.reasoning_content
    assert (thought.summary, thought.encrypted_content) == ([], None)


def test_a_response_counts_tokens_as_a_chat_does(client: Any) -> None:
    chat_usage, usage = ask(client).usage, respond(client).usage
    assert usage.input_tokens == chat_usage.prompt_tokens
    assert usage.output_tokens == chat_usage.completion_tokens
    details = chat_usage.completion_tokens_details
    assert usage.output_tokens_details.reasoning_tokens == details.reasoning_tokens > 0
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens


def test_a_response_that_ran_out_of_room_is_incomplete(client: Any) -> None:
    found = respond(client, max_output_tokens=3)
    assert (found.status, found.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert found.usage.output_tokens == 3


@pytest.mark.parametrize("streams", [False, True])
def test_a_thought_that_ran_out_of_room_is_incomplete_and_has_no_message(client: Any, streams: bool) -> None:
    num_thought = respond(client, max_output_tokens=400).usage.output_tokens_details.reasoning_tokens
    found = respond(client, max_output_tokens=num_thought // 2, stream=streams)
    told = list(found) if streams else []
    response = told[-1].response if streams else found
    assert (response.status, response.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert [(item.type, item.status) for item in response.output] == [("reasoning", "incomplete")]
    assert response.output[0].content[0].text
    assert response.output_text == ""
    if streams:
        ended = [one.item for one in told if one.type == "response.output_item.done"]
        assert [(item.type, item.status) for item in ended] == [("reasoning", "incomplete")]
        assert not [one for one in told if one.type.startswith("response.output_text")]


@pytest.mark.parametrize("more", [0, 2])
def test_only_the_message_is_incomplete_where_room_ends_after_the_thought(client: Any, more: int) -> None:
    whole = respond(client, max_output_tokens=400)
    num_thought = whole.usage.output_tokens_details.reasoning_tokens
    found = respond(client, max_output_tokens=num_thought + more)
    assert found.usage.output_tokens_details.reasoning_tokens == num_thought
    assert found.output[0].content[0].text == whole.output[0].content[0].text
    kinds = [(item.type, item.status) for item in found.output]
    assert kinds == [("reasoning", "completed"), ("message", "incomplete")]


def test_items_that_came_back_can_be_sent_again_and_thoughts_are_left_out(client: Any) -> None:
    first = respond(client, max_output_tokens=400)
    asked = [{"role": "user", "content": QUESTION}]
    again = [{"role": "user", "content": [{"type": "input_text", "text": "And 5 + 6?"}]}]
    given = [item.model_dump(exclude_none=True) for item in first.output]
    found = respond(client, input=[*asked, *given, *again], instructions="Be short.")
    without = respond(client, input=[*asked, given[-1], *again], instructions="Be short.")
    assert found.usage.input_tokens == without.usage.input_tokens > first.usage.input_tokens
    assert found.output_text == without.output_text


def test_a_response_without_thought_has_no_reasoning_tokens(client: Any) -> None:
    found = respond(client, reasoning={"effort": "none"})
    assert [item.type for item in found.output] == ["message"]
    assert found.usage.output_tokens_details.reasoning_tokens == 0


@pytest.mark.parametrize("effort", get_args(get_args(openai.types.shared.ReasoningEffort)[0]))
def test_every_effort_that_openais_clients_know_is_taken(client: Any, effort: str) -> None:
    asked = ask(client, reasoning_effort=effort, max_tokens=60)
    assert (asked.choices[0].message.reasoning is None) == (effort == "none")
    assert respond(client, reasoning={"effort": effort}).reasoning.effort == effort


@pytest.mark.parametrize("num_tokens", [3, 400])
def test_the_events_of_a_response_build_what_the_whole_one_says(client: Any, num_tokens: int) -> None:
    whole = respond(client, max_output_tokens=num_tokens)
    told = list(respond(client, max_output_tokens=num_tokens, stream=True))
    assert [one.sequence_number for one in told] == list(range(len(told)))
    assert [one.type for one in told[:2]] == ["response.created", "response.in_progress"]
    assert told[-1].type == f"response.{whole.status}"
    last = told[-1].response
    assert [(item.type, item.status, item.content[0].text) for item in last.output] == [
        (item.type, item.status, item.content[0].text) for item in whole.output
    ]
    assert last.usage == whole.usage
    for kind, name in (("reasoning", "reasoning_text"), ("message", "output_text")):
        text = "".join(item.content[0].text for item in whole.output if item.type == kind)
        assert "".join(one.delta for one in told if one.type == f"response.{name}.delta") == text
        done = [one.text for one in told if one.type == f"response.{name}.done"]
        assert done == [item.content[0].text for item in whole.output if item.type == kind]
    items = [one.item.id for one in told if one.type == "response.output_item.added"]
    assert items == [one.item.id for one in told if one.type == "response.output_item.done"]
    assert items == [item.id for item in last.output]


def test_the_clients_own_helper_follows_a_stream_of_events(client: Any) -> None:
    more = {"model": "embedded", "input": QUESTION, "temperature": 0, "max_output_tokens": 400}
    with client.responses.stream(**more) as stream:
        for _ in stream:
            pass
        found = stream.get_final_response()
    assert found.output_text == respond(client, max_output_tokens=400).output_text


def test_the_async_client_gets_a_response(server: Live) -> None:
    async def run() -> Any:
        async with openai.AsyncOpenAI(base_url=server.url + "/v1", api_key=KEY) as client:
            return [one async for one in await respond(client, max_output_tokens=12, stream=True)]

    assert asyncio.run(run())[-1].response.usage.output_tokens == 12


@pytest.mark.parametrize(
    ("fault", "param"),
    [
        ({"input": []}, "input"),
        ({"input": ""}, "input"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]}, "input"),
        ({"input": [{"type": "function_call_output", "call_id": "1", "output": "2"}]}, "input"),
        ({"input": [{"type": "reasoning", "summary": []}]}, None),
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"background": True}, "background"),
        ({"truncation": "auto"}, "truncation"),
        ({"include": ["reasoning.encrypted_content"]}, "include"),
        ({"text": {"format": {"type": "json_object"}}}, "text"),
        ({"reasoning": {"summary": "auto"}}, "reasoning"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"max_output_tokens": 100_000}, "input"),
        ({"n": 2}, "n"),
        ({"input": "\ud800"}, "input"),
    ],
)
def test_what_a_response_cannot_be_is_refused(server: Live, fault: dict[str, Any], param: str | None) -> None:
    body = {"model": "embedded", "input": QUESTION, **fault}
    error = error_of(post(server, body, "/v1/responses"))
    assert error["param"] == param
    assert param is not None or "must hold a message" in error["message"]
