"""Reasoning that was ended by force, or never wanted: what the model writes then is its final answer."""

from collections.abc import Iterator
from typing import Any

import pytest

from serving_scripts import CHATML, Scripted, scripted_server

openai = pytest.importorskip("openai")

R1 = CHATML.replace("<|assistant|>{% endif %}", "<|assistant|><think>\n{% endif %}")
QWEN = CHATML.replace(
    "<|assistant|>{% endif %}",
    "<|assistant|>{% if enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}",
)
AGAIN = [
    ("<think>again", "again"),
    ("<think>\nagain</think>7", "again7"),
    ("\n\n<think>again</think>\n<answer>7</answer>", "again\n7"),
    ("again</think>\n\n7", "again\n\n7"),
    ("</think></think>7", "7"),
    ("<think><think>a</think>b</think>c", "abc"),
    ("plain 7", "plain 7"),
    ("<thin", "<thin"),
]


@pytest.fixture(scope="module", params=[None, CHATML, R1, QWEN], ids=["zero", "chatml", "r1", "qwen"])
def server(request: pytest.FixtureRequest) -> Iterator[Scripted]:
    with scripted_server(request.param) as live:
        yield live


def ask(server: Scripted, **more: Any) -> Any:
    client = openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0)
    messages = [{"role": "user", "content": "3+4?"}]
    found = client.chat.completions.create(**{"model": "scripted", "messages": messages, **more})
    return found if more.get("stream") else found.choices[0].message


def is_tagged(text: str) -> bool:
    return "think>" in text


@pytest.mark.parametrize(("text", "content"), AGAIN)
@pytest.mark.parametrize("tags", [False, True])
def test_a_model_that_reasons_again_after_its_budget_still_answers(
    server: Scripted, text: str, content: str, tags: bool
) -> None:
    opens = server.engine.tokenizer.chat_template == R1
    strips = server.engine.tokenizer.chat_template is None
    engine = server.engine
    engine.text, engine.tags_are_tokens = ("" if opens else "<think>") + "ab" + text, tags
    budget = 2 if opens else 3  # of the tag the last token counts
    message = ask(server, extra_body={"thinking_budget": budget})
    assert message.reasoning.startswith("a")
    if not strips:
        content = content.replace("again\n7", "again\n<answer>7</answer>")
    assert message.content == content
    chunks = ask(server, extra_body={"thinking_budget": budget}, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == content


@pytest.mark.parametrize(("text", "content"), AGAIN)
def test_a_model_that_reasons_although_nobody_wants_it_still_answers(
    server: Scripted, text: str, content: str
) -> None:
    template = server.engine.tokenizer.chat_template
    if template == CHATML:
        pytest.skip("this template closes nothing, so the model reasons as it likes")
    server.engine.text, server.engine.tags_are_tokens = text, False
    if template is not None:
        content = content.replace("again\n7", "again\n<answer>7</answer>")
    for extra in ({"enable_thinking": False}, {"chat_template_kwargs": {"enable_thinking": False}}):
        message = ask(server, extra_body=extra)
        assert (message.reasoning, message.content) == (None, content)
    assert server.engine.prompts[-1].rstrip().endswith("</think>")


def test_a_model_whose_template_closes_nothing_reasons_as_ever() -> None:
    with scripted_server(CHATML) as server:
        server.engine.text = "<think>a</think>7"
        message = ask(server, extra_body={"enable_thinking": False})
        assert (message.reasoning, message.content) == ("a", "7")
