"""A turn is read alike from data, from requests and from what endpoints answer; nothing is passed over."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_server import Answered, serving
from zerone.data.demonstrations import read_demonstrations
from zerone.engine.remote import Draw, Endpoint, EndpointClient
from zerone.errors import DataError, EndpointError
from zerone.prompts.messages import REASONING, ROLES, read_message
from zerone.serve.schemas import ChatRequest
from zerone.types import Demonstration, Message

Fields = dict[str, Any]


def user(content: Any = "q?", **more: Any) -> Fields:
    return {"role": "user", "content": content, **more}


def assistant(content: Any = "a", **more: Any) -> Fields:
    return {"role": "assistant", "content": content, **more}


def answer(content: str = "a", **more: Any) -> Message:
    return Message(role="assistant", content=content, takes_form=True, **more)


def text(content: str, **more: Any) -> Fields:
    return {"type": "text", "text": content, **more}


def thinking(content: Any, kind: str = "thinking", name: str = "thinking") -> Fields:
    return {"type": kind, name: content}


EMPTY: tuple[Any, ...] = ("", " \n", None, [], {})

READ: list[tuple[Fields, Message]] = [
    *((assistant(**{name: "t"}), answer(thought="t")) for name in REASONING),
    (assistant(reasoning_content="t", reasoning="t"), answer(thought="t")),
    (assistant(reasoning_content="t", reasoning="", thinking=None), answer(thought="t")),
    *((assistant(**{name: empty}), answer()) for name in REASONING for empty in EMPTY),
    (assistant([text("a")]), answer()),
    (assistant([text("a"), text("b")]), answer("ab")),
    (assistant(["a", text("b")]), answer("ab")),
    (assistant([text("a", image_url=None, annotations=[])]), answer()),
    (assistant([{"type": "output_text", "text": "a"}]), answer()),
    (user([{"type": "input_text", "text": "q?"}]), Message(role="user", content="q?")),
    (assistant([thinking("t"), text("a")]), answer(thought="t")),
    (assistant([thinking([text("t"), text("u")]), text("a")]), answer(thought="tu")),
    (assistant([thinking("t", "reasoning", "reasoning"), text("a")]), answer(thought="t")),
    (assistant([thinking("t", "reasoning_text", "text"), text("a")]), answer(thought="t")),
    (assistant([thinking("t"), text("a")], reasoning_content="t"), answer(thought="t")),
    (assistant(reasoning_content=[text("t")]), answer(thought="t")),
    ({"from": "gpt", "value": "a"}, answer()),
    ({"from": "human", "value": "q?"}, Message(role="user", content="q?")),
    ({"from": "human", "value": "q?", "weight": 0}, Message(role="user", content="q?")),
    ({"role": "developer", "content": "s"}, Message(role="system", content="s")),
    ({"from": "system", "value": "s", "weight": None}, Message(role="system", content="s")),
    (assistant(weight=0), answer(is_trained=False)),
    (assistant(weight=0.0), answer(is_trained=False)),
    (assistant(weight=1), answer()),
    (assistant(weight=1.0), answer()),
    (assistant(tool_calls=[], function_call=None, tool_call_id=""), answer()),
    (assistant(function_call={"name": None, "arguments": ""}), answer()),
    (assistant(refusal=None, audio=None, annotations=[]), answer()),
    (assistant(id="x", name="N", timestamp=3, model="m", finish_reason="stop", token_count=7), answer()),
    (user(" q? "), Message(role="user", content="q?")),
    (assistant(" a \n"), answer(" a \n")),
]


@pytest.mark.parametrize(("item", "message"), READ)
def test_a_message_is_read_in_whatever_words_it_comes(item: Fields, message: Message) -> None:
    assert read_message(item, "message 1") == message


@pytest.mark.parametrize("content", ["", " ", None, [], [text("")]])
def test_a_system_message_that_says_nothing_is_absent(content: Any) -> None:
    assert read_message({"role": "system", "content": content}, "message 1") is None


REFUSED: list[tuple[Any, str]] = [
    # What may be reasoning, or say what is learnt, under a name that is not known.
    *(
        (assistant(**{name: "t"}), f"has the field '{name}', which is not read")
        for name in ("thought", "thoughts", "think", "cot", "chain_of_thought", "analysis", "rationale")
    ),
    (assistant(reasoning_details=[{"type": "reasoning.text", "text": "t"}]), "'reasoning_details'"),
    (assistant(redacted_thinking="t"), "'redacted_thinking'"),
    (assistant(train=False), "'train'"),
    (assistant(loss=True), "'loss'"),
    (assistant(mask=[0, 1]), "'mask'"),
    (assistant(prefix=True), "'prefix'"),
    (assistant(image="x.png"), "'image'"),
    (assistant(audio={"id": "x"}), "'audio'"),
    # Tools.
    (assistant(tool_calls=[{"id": "1"}]), "tool calls are not trained; leave the line out, or write"),
    (assistant(None, tool_calls=[{"id": "1"}]), "tool calls are not trained"),
    (assistant(function_call={"name": "f"}), "tool calls are not trained"),
    *(
        ({"role": role, "content": "x"}, "tool calls are not trained")
        for role in ("tool", "function", "observation", "ipython", "function_call")
    ),
    # Weights.
    *((assistant(weight=weight), "it is 1, or 0") for weight in (0.5, -1, 2, "0", True, False, [1])),
    (user(weight=1), "only the assistant's turns are trained on"),
    # Parts.
    *(
        (user([text("q"), {"type": kind, kind: {"url": "x"}}]), f'a part of type "{kind}"; only text is read')
        for kind in ("image_url", "image", "input_audio", "video", "file", "refusal", "tool_use")
    ),
    (user([{"text": "q"}]), "must be text"),
    (user([{"type": "text"}]), "is empty"),
    (user([{"type": "text", "text": 3}]), "must be text, not 3"),
    (user([{"type": "text", "text": "q", "image_url": "x"}]), "'image_url', which is not read"),
    (user([3]), "must be text"),
    (user([{"type": None, "text": "q"}]), "must be text"),
    # Reasoning.
    (
        assistant(reasoning_content="t", reasoning="u"),
        "different reasoning in reasoning_content and reasoning",
    ),
    (assistant([thinking("t"), text("a")], thinking="u"), "different reasoning in its content and thinking"),
    (assistant(reasoning_content=1), "`reasoning_content` of message 1 must be text, not 1"),
    (assistant(thinking=True), "`thinking` of message 1 must be text"),
    (user(reasoning_content="t"), "only the assistant's may"),
    ({"role": "system", "content": "s", "thinking": "t"}, "only the assistant's may"),
    (assistant([thinking("t")]), "the content of message 1 is empty"),
    (assistant([thinking([thinking("t")]), text("a")]), "reasoning within reasoning"),
    # The rest.
    (assistant(None), "the content of message 1 must be text, not null"),
    (assistant(""), "is empty"),
    (assistant(7), "must be text, not 7"),
    (assistant("\ud800"), "half of a surrogate pair"),
    ({"content": "a"}, "has role null"),
    ({"role": "narrator", "content": "a"}, 'has role "narrator"; use one of system, user, assistant'),
    ({"role": ["user"], "content": "a"}, "use one of"),
    ({"role": "user", "from": "gpt", "content": "a"}, "has both 'role' and 'from'"),
    ({"role": "user", "content": "a", "value": "b"}, "has both 'content' and 'value'"),
    ("hello", "message 1 must be"),
    (None, "message 1 must be"),
]


@pytest.mark.parametrize(("item", "complaint"), REFUSED)
def test_what_is_not_understood_is_refused_and_never_dropped(item: Any, complaint: str) -> None:
    with pytest.raises(DataError) as caught:
        read_message(item, "message 1")
    assert complaint in str(caught.value)


SAID = st.text("ab \n", min_size=1).filter(str.strip)


@given(
    thought=st.none() | SAID,
    name=st.sampled_from(REASONING),
    content=SAID,
    is_in_parts=st.booleans(),
    role=st.sampled_from([role for role, meant in ROLES.items() if meant == "assistant"]),
    empty=st.dictionaries(
        st.sampled_from([*REASONING, "tool_calls", "weight", "audio", "foo"]),
        st.sampled_from([None, "", [], {}]),
    ),
)
def test_no_character_of_a_message_is_lost(
    thought: str | None, name: str, content: str, is_in_parts: bool, role: str, empty: Fields
) -> None:
    item: Fields = {**empty, "role": role, "content": [text(c) for c in content] if is_in_parts else content}
    if thought is not None:
        item[name] = thought
    assert read_message(item, "m") == answer(content, thought=thought)


# Requests and replies are read alike ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "turn"),
    [
        (user(), ("user", "q?")),
        (user([text("a"), text("b")]), ("user", "ab")),
        (user([text("a", cache=None)]), ("user", "a")),
        ({"role": "developer", "content": "s"}, ("system", "s")),
        (assistant(None), ("assistant", "")),
        (assistant(reasoning_content="t", thinking="t"), ("assistant", "a")),
        (assistant(tool_calls=[], name="N"), ("assistant", "a")),
    ],
)
def test_a_turn_of_a_request_is_the_same_message(message: Fields, turn: tuple[str, str]) -> None:
    body = ChatRequest.model_validate({"model": "m", "messages": [message, user()]})
    read = body.messages[0].turn
    assert (read.role, read.content) == turn


def chat(message: Any) -> Any:
    """Return what an endpoint is read to say that answers with this message."""
    body = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    with (
        serving(lambda *_: Answered(body=body)) as server,
        EndpointClient(Endpoint(url=server.url, model="m", tries=1)) as client,
    ):
        return client.chat([{"role": "user", "content": "hello"}], Draw())


@pytest.mark.parametrize(
    ("message", "content", "reasoning"),
    [
        *((assistant(**{name: "t"}), "a", "t") for name in REASONING),
        (assistant(reasoning_content="t", reasoning="t"), "a", "t"),
        (assistant(reasoning_content="", reasoning="t"), "a", "t"),
        (assistant(reasoning_content=None, thinking="t"), "a", "t"),
        (assistant(None, reasoning_content="t"), "", "t"),
        (assistant([text("a"), text("b")]), "ab", ""),
        (assistant([thinking("t"), text("a")]), "a", "t"),
        (assistant([thinking([text("t")]), text("a")]), "a", "t"),
        (assistant(None, refusal="No."), "No.", ""),
        (assistant(audio=None, tool_calls=None, annotations=[]), "a", ""),
        (assistant(" a\n"), " a\n", ""),
        ({"content": "a"}, "a", ""),
    ],
)
def test_a_reply_is_read_as_a_message_of_data_is(message: Fields, content: str, reasoning: str) -> None:
    reply = chat(message)
    assert (reply.text, reply.reasoning) == (content, reasoning)


@pytest.mark.parametrize(
    "message", ["a", None, {"content": 7}, {"content": [{"type": "image"}]}, {"content": "a", "thinking": 3}]
)
def test_a_reply_that_is_no_message_is_an_error_and_no_empty_answer(message: Any) -> None:
    with pytest.raises(EndpointError, match="cannot be read"):
        chat(message)


# Rows ---------------------------------------------------------------------------------------------


def read(folder: Path, row: Fields) -> Demonstration:
    (folder / "d.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    (one,) = read_demonstrations(folder / "d.jsonl").demonstrations
    return one


Q, S = Message(role="user", content="q?"), Message(role="system", content="s")
VERBATIM = Message(role="assistant", content="a")
SHAREGPT = [{"from": "human", "value": "q?"}, {"from": "gpt", "value": "a"}]

ROWS: list[tuple[Fields, list[Message]]] = [
    ({"prompt": "q?", "completion": "a"}, [Q, VERBATIM]),
    ({"prompt": "q?", "completion": "a", "messages": None, "conversations": []}, [Q, VERBATIM]),
    ({"messages": [user(), assistant()], "prompt": None}, [Q, answer()]),
    ({"messages": [user(), assistant()], "prompt": "q?", "prompt_id": 7}, [Q, answer()]),
    ({"messages": [user(), assistant()], "source": "x", "score": 0.5}, [Q, answer()]),
    ({"messages": [{"role": "system", "content": ""}, user(), assistant()]}, [Q, answer()]),
    ({"messages": [user(), assistant()], "system": "s"}, [S, Q, answer()]),
    (
        {"messages": [{"role": "developer", "content": "s"}, user(), assistant()], "system": " s"},
        [S, Q, answer()],
    ),
    ({"messages": [user(), assistant(thinking="t")], "analysis": "t"}, [Q, answer(thought="t")]),
    (
        {"messages": [user(), assistant("<think>t</think>a")], "thinking": "t"},
        [Q, answer("<think>t</think>a")],
    ),
    # ShareGPT.
    ({"conversations": SHAREGPT}, [Q, answer()]),
    ({"conversation": SHAREGPT, "id": "x"}, [Q, answer()]),
    ({"conversations": [user(), assistant()]}, [Q, answer()]),
    ({"conversations": SHAREGPT, "system": "s", "tools": "", "images": []}, [S, Q, answer()]),
    (
        {
            "conversations": [
                *SHAREGPT,
                {"from": "human", "value": "q?"},
                {"from": "gpt", "value": "b", "weight": 0},
            ]
        },
        [Q, answer(), Q, answer("b", is_trained=False)],
    ),
    # Alpaca.
    ({"instruction": "q?", "output": "a"}, [Q, answer()]),
    ({"instruction": "q?", "input": "", "output": "a", "text": "q? a"}, [Q, answer()]),
    (
        {"instruction": "Add:", "input": "1, 2", "output": "3"},
        [Message(role="user", content="Add:\n\n1, 2"), answer("3")],
    ),
    ({"instruction": "q?", "output": "a", "system": "s", "history": []}, [S, Q, answer()]),
    ({"instruction": "q?", "output": "a", "history": [["q?", "b"]]}, [Q, answer("b"), Q, answer()]),
    ({"instruction": "q?", "output": "a", "reasoning": "t"}, [Q, answer(thought="t")]),
    # TRL.
    ({"prompt": [user()], "completion": [assistant()]}, [Q, answer()]),
    ({"prompt": [user()], "completion": "a"}, [Q, VERBATIM]),
    ({"prompt": "q?", "completion": [assistant(reasoning_content="t")]}, [Q, answer(thought="t")]),
    (
        {"prompt": [user(), assistant("b"), user()], "completion": [assistant()]},
        [Q, answer("b", is_trained=False), Q, answer()],
    ),
    ({"prompt": [{"role": "system", "content": "s"}, user()], "completion": [assistant()]}, [S, Q, answer()]),
    ({"prompt": "q?", "completion": "a", "label": True, "weight": 1}, [Q, VERBATIM]),
    # Reasoning beside a completion.
    *(({"prompt": "q?", "completion": "a", name: "t"}, [Q, answer(thought="t")]) for name in REASONING),
    ({"prompt": "q?", "completion": "a", "reasoning_content": ""}, [Q, VERBATIM]),
]


@pytest.mark.parametrize(("row", "messages"), ROWS)
def test_a_row_is_read_in_every_form_that_data_come_in(
    tmp_path: Path, row: Fields, messages: list[Message]
) -> None:
    assert list(read(tmp_path, row).messages) == messages


REFUSED_ROWS: list[tuple[Fields, str]] = [
    *(
        (
            {"prompt": "q?", "completion": "a", name: "t"},
            f"has {name!r} beside 'prompt', and no message holds",
        )
        for name in ("thought", "think", "cot", "chain_of_thought", "rationale", "analysis", "scratchpad")
    ),
    (
        {"messages": [user(), assistant()], "reasoning_content": "t"},
        "has 'reasoning_content' beside 'messages'",
    ),
    ({"conversations": SHAREGPT, "thinking": "t"}, "has 'thinking' beside 'conversations'"),
    ({"prompt": "q?", "completion": "a", "reasoning": "t", "thinking": "u"}, "different reasoning"),
    ({"prompt": "q?", "completion": [assistant(thinking="t")], "thinking": "u"}, "different reasoning"),
    ({"prompt": "q?", "completion": "a", "reasoning": {"effort": "low"}}, "`reasoning` must be text"),
    *(
        ({"messages": [user(), assistant()], name: value}, f"has the field {name!r}, which is not trained on")
        for name, value in (
            ("tools", [{"type": "function"}]),
            ("images", ["x.png"]),
            ("videos", ["x"]),
            ("chat_template_kwargs", {"enable_thinking": False}),
            ("loss_mask", [0, 1]),
        )
    ),
    ({"prompt": "q?", "completion": "a", "label": False}, "marked as not to be learned"),
    ({"prompt": "q?", "completion": "a", "weight": 0}, "marked as not to be learned"),
    ({"prompt": "q?", "completion": "a", "weight": 0.5}, "marked as not to be learned"),
    ({"messages": [user(), assistant()], "prompt": "other?"}, "has 'prompt' beside 'messages'"),
    ({"messages": [user(), assistant()], "prompt": "q?", "completion": "a"}, "not both"),
    ({"messages": [user(), assistant()], "conversations": SHAREGPT}, "not both"),
    ({"instruction": "q?", "output": "a", "prompt": "q?", "completion": "a"}, "not both"),
    (
        {"messages": [{"role": "system", "content": "s"}, user(), assistant()], "system": "z"},
        "different system",
    ),
    ({"messages": [user(), assistant()], "system": "s", "system_prompt": "z"}, "different system"),
    ({"messages": [user(), assistant(weight=0)]}, "every message of the assistant's has weight 0"),
    (
        {"prompt": [user(), assistant()], "completion": "a"},
        "`completion` is of role 'assistant' where 'user'",
    ),
    ({"prompt": "q?", "chosen": "a", "rejected": "b"}, "pairs are for `zerone reward-model`"),
    ({"instruction": "q?"}, "no field 'output'"),
    ({"instruction": "q?", "output": ""}, "`output` is empty"),
    ({"instruction": "q?", "output": "a", "history": "b"}, "`history` must be a list"),
    ({"instruction": "q?", "output": "a", "history": [["b"]]}, "`history` must be a list"),
    (
        {"conversations": [{"from": "gpt", "value": "a"}]},
        "message 1 is of role 'assistant' where 'user' is due",
    ),
    ({"conversations": [*SHAREGPT, {"from": "observation", "value": "x"}]}, "tool calls are not trained"),
    ({"conversations": "hello"}, "`conversations` must be a list"),
    ({"text": "q? a"}, "no field 'prompt'"),
]


@pytest.mark.parametrize(("row", "complaint"), REFUSED_ROWS)
def test_a_row_that_would_be_learnt_in_part_is_refused_with_its_line(
    tmp_path: Path, row: Fields, complaint: str
) -> None:
    with pytest.raises(DataError) as caught:
        read(tmp_path, row)
    assert str(caught.value).startswith(f"{tmp_path / 'd.jsonl'}:1: ")
    assert complaint in str(caught.value)


def test_only_turns_of_weight_one_are_trained_on(tmp_path: Path) -> None:
    from zerone.prompts.r1 import write_chat

    row = {"messages": [user(), assistant("A", weight=0), user("r?"), assistant("B", weight=1)]}
    ((prompt, completion),) = write_chat(read(tmp_path, row).messages)
    assert (completion, prompt.endswith("User: q?\nAssistant:A\nUser: r?\nAssistant:")) == ("B", True)


def nested(depth: int, inner: Any = None) -> Any:
    for _ in range(depth):
        inner = [{"type": "thinking", "thinking": inner if isinstance(inner, list) else [text("t")]}]
    return inner


@pytest.mark.parametrize("depth", [10, 100, 300, 450])
@pytest.mark.parametrize("field", ["content", "thinking", "tool_calls", "foo", "weight", "role"])
def test_what_is_nested_deeply_is_refused_and_no_crash(tmp_path: Path, field: str, depth: int) -> None:
    with pytest.raises(DataError):
        read(tmp_path, {"messages": [user(), assistant() | {field: nested(depth)}]})
    with pytest.raises(EndpointError, match="cannot be read"):
        chat({"content": nested(depth)})
