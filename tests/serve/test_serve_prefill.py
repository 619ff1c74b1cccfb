"""A last message of the assistant's is gone on with, and a conversation may end with a system message."""

from collections.abc import Iterator
from typing import Any

import httpx2 as httpx
import pytest

from serving import KEY, Live
from serving_scripts import CHATML, Scripted, scripted_server

openai = pytest.importorskip("openai")

R1 = CHATML.replace("<|assistant|>{% endif %}", "<|assistant|><think>\n{% endif %}")
QWEN = CHATML.replace(
    "<|assistant|>{% endif %}",
    "<|assistant|>{% if enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}",
)
USER = {"role": "user", "content": "3+4?"}
SYSTEM = {"role": "system", "content": "Be brief."}


def begun(content: Any, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, Scripted]]:
    with (
        scripted_server() as zero,
        scripted_server(CHATML) as chatml,
        scripted_server(R1) as r1,
        scripted_server(QWEN) as qwen,
    ):
        yield {"zero": zero, "chatml": chatml, "r1": r1, "qwen": qwen}


def ask(server: Scripted, text: str, messages: list[Any], **more: Any) -> Any:
    server.engine.text = text
    client = openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0)
    found = client.chat.completions.create(model="scripted", messages=messages, **more)
    return found.choices[0].message


@pytest.mark.parametrize(
    ("name", "last", "tail"),
    [
        ("chatml", begun("The answer is "), "<|assistant|>The answer is "),
        ("chatml", begun([{"type": "text", "text": "The"}]), "<|assistant|>The"),
        ("chatml", begun("<think>I add"), "<|assistant|><think>I add"),
        ("chatml", begun("", reasoning_content="I add"), "<|assistant|><think>I add"),
        ("chatml", begun("It is", reasoning="I add"), "<|assistant|><think>I add</think>\nIt is"),
        ("r1", begun("The answer is"), "<|assistant|><think></think>\nThe answer is"),
        ("r1", begun("<think>I add"), "<|assistant|><think>\nI add"),
        ("r1", begun("<think>I add</think>It is"), "<|assistant|><think>\nI add</think>It is"),
        ("r1", begun(None, reasoning_content="I add"), "<|assistant|><think>\nI add"),
        ("r1", begun("It is", reasoning_content="I add"), "<think>\nI add</think>\nIt is"),
        ("qwen", begun("The answer is"), "<|assistant|><think>\n\n</think>\n\nThe answer is"),
        ("zero", begun("The answer is"), "Assistant:<think></think>\n<answer>The answer is"),
        ("zero", begun("<answer>7"), "Assistant:<think></think>\n<answer>7"),
        ("zero", begun("<think>I add"), "Assistant:<think>I add"),
        ("zero", begun("It is", reasoning="I add"), "Assistant:<think>I add</think>\n<answer>It is"),
        ("zero", begun("", reasoning="I add"), "Assistant:<think>I add"),
        ("zero", begun(""), "User: 3+4?\nAssistant:"),
        ("zero", begun(None), "User: 3+4?\nAssistant:"),
        ("chatml", begun("  "), "<|user|>3+4?<|end|><|assistant|>"),
    ],
)
@pytest.mark.parametrize("flags", [{}, {"continue_final_message": True, "add_generation_prompt": False}])
def test_a_prompt_ends_with_what_the_assistant_began(
    servers: dict[str, Scripted], name: str, last: dict[str, Any], tail: str, flags: dict[str, Any]
) -> None:
    server = servers[name]
    ask(server, "7", [SYSTEM, USER, last], extra_body=flags)
    assert server.engine.prompts[-1].endswith(tail)
    assert "Be brief." in server.engine.prompts[-1]


@pytest.mark.parametrize(
    ("name", "last", "text", "reasoning", "content"),
    [
        ("chatml", begun("The answer is"), " 7.", None, " 7."),
        ("chatml", begun("The"), "<think>no</think>7", None, "no7"),
        ("chatml", begun("<think>a</think>"), "\n\n7", None, "7"),
        ("zero", begun("<answer>"), "\n7\n</answer>", None, "7"),
        ("zero", begun("", reasoning="I"), " add </think>\n<answer> 7 </answer>", " add", "7"),
        ("chatml", begun("<think>I add"), " 3 and 4</think>7", " 3 and 4", "7"),
        ("r1", begun("", reasoning_content="I add"), " 3 and 4</think>7", " 3 and 4", "7"),
        ("r1", begun("<think>a</think>It"), " is 7", None, " is 7"),
        ("zero", begun("It is"), " 7</answer>", None, " 7"),
        ("zero", begun("<think>I add"), " 3</think>\n<answer>7</answer>", " 3", "7"),
        ("qwen", begun("It is"), " 7", None, " 7"),
    ],
)
def test_what_comes_is_told_as_the_part_that_it_goes_on(
    servers: dict[str, Scripted],
    name: str,
    last: dict[str, Any],
    text: str,
    reasoning: str | None,
    content: str,
) -> None:
    message = ask(servers[name], text, [USER, last])
    assert (message.reasoning, message.content) == (reasoning, content)


def test_earlier_reasoning_is_left_out_and_that_of_the_beginning_is_not(servers: dict[str, Scripted]) -> None:
    turns = [USER, begun("7", reasoning_content="old"), USER, begun("It is", reasoning_content="new")]
    for server in servers.values():
        ask(server, "7", turns)
        prompt = server.engine.prompts[-1]
        assert "new" in prompt
        assert "old" not in prompt


@pytest.mark.parametrize("name", ["zero", "chatml"])
@pytest.mark.parametrize(
    "flags", [{"continue_final_message": False}, {"add_generation_prompt": True}], ids=str
)
def test_a_new_turn_after_the_assistants_may_be_asked_for(
    servers: dict[str, Scripted], name: str, flags: dict[str, Any]
) -> None:
    server = servers[name]
    ask(server, "7", [USER, begun("It is 7.")], extra_body=flags)
    tail = {"zero": "Assistant:It is 7.\nAssistant:", "chatml": "It is 7.<|end|><|assistant|>"}[name]
    assert server.engine.prompts[-1].endswith(tail)


@pytest.mark.parametrize(
    ("messages", "flags", "words"),
    [
        ([USER], {"continue_final_message": True}, "a last message that is the assistant's"),
        ([USER], {"add_generation_prompt": False}, "a last message of the assistant's"),
        (
            [USER, begun("a")],
            {"continue_final_message": True, "add_generation_prompt": True},
            "exclude each other",
        ),
    ],
)
def test_flags_that_contradict_the_conversation_are_refused(
    servers: dict[str, Scripted], messages: list[Any], flags: dict[str, Any], words: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=words):
        ask(servers["chatml"], "7", messages, extra_body=flags)


@pytest.mark.parametrize(
    ("name", "messages", "tail"),
    [
        ("zero", [SYSTEM], "Be brief.\nAssistant:"),
        ("zero", [USER, SYSTEM], "User: 3+4?\nAssistant:Be brief.\nAssistant:"),
        ("zero", [USER, begun("7"), SYSTEM], "Assistant:7\nBe brief.\nAssistant:"),
        ("zero", [begun("So")], "Assistant:<think></think>\n<answer>So"),
        ("zero", [{"role": "developer", "content": "Be brief."}], "Be brief.\nAssistant:"),
        ("chatml", [SYSTEM], "<|system|>Be brief.<|end|><|assistant|>"),
        ("chatml", [USER, SYSTEM], "3+4?<|end|><|system|>Be brief.<|end|><|assistant|>"),
        ("r1", [SYSTEM], "Be brief.<|end|><|assistant|><think>\n"),
    ],
)
def test_a_conversation_may_end_with_any_role(
    servers: dict[str, Scripted], name: str, messages: list[Any], tail: str
) -> None:
    server = servers[name]
    ask(server, "<think>a</think>7", messages)
    assert server.engine.prompts[-1].endswith(tail)


def test_a_system_message_that_the_template_would_lose_is_refused() -> None:
    """Some templates take a system message along with the user's first one only."""
    template = "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}{{ '>' }}"
    with scripted_server(template) as server:
        for messages in ([SYSTEM], [USER, SYSTEM]):
            with pytest.raises(openai.BadRequestError, match="leaves out what the system says"):
                ask(server, "7", messages)


def test_responses_go_on_and_end_with_system_messages_too(servers: dict[str, Scripted]) -> None:
    server = servers["zero"]
    client = openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0)
    server.engine.text = " 7</answer>"
    found = client.responses.create(model="scripted", input=[USER, begun("It is")])
    assert found.output_text == " 7"
    assert found.output[-1].type == "message"
    server.engine.text = "<think>a</think>\n<answer>7</answer>"
    found = client.responses.create(model="scripted", input=[SYSTEM])
    assert found.output_text == "7"
    answer = httpx.post(server.url + "/v1/responses", json={"model": "scripted", "input": [], "n": 1})
    assert answer.status_code == 400


@pytest.mark.parametrize("num_tokens", [5, 12, 31, 33, 36])
def test_a_completion_that_was_cut_off_goes_on_as_it_would_have(server: Live, num_tokens: int) -> None:
    """In its reasoning or in its final answer: what came back is sent back as it is."""
    client = openai.OpenAI(base_url=server.url + "/v1", api_key=KEY, max_retries=0)
    question = "Sam has 13 coins. Sam sells 7. The pile grows to 5 times its size. How many coins now?"

    def asked(*more: Any, **fields: Any) -> Any:
        turns = [{"role": "user", "content": question}, *more]
        return client.chat.completions.create(
            model="embedded", messages=turns, temperature=0, **fields
        ).choices[0]

    whole = asked(max_tokens=300)
    part = asked(max_tokens=num_tokens)
    if part.finish_reason == "stop":
        assert part.message.content == whole.message.content
        return
    rest = asked(part.message.model_dump(), max_tokens=300)

    def joined(name: str) -> str:
        pieces = [getattr(one.message, name) or "" for one in (part, rest)]
        return "".join("".join(pieces).split())

    for name in ("reasoning", "content"):
        assert joined(name) == "".join((getattr(whole.message, name) or "").split())
