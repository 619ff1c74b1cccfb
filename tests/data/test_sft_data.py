"""Data for SFT: both forms are read, what is wrong is named with its line, and the chat template."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerone.data.demonstrations import read_demonstrations
from zerone.data.jsonl import split_problems
from zerone.errors import DataError
from zerone.prompts.r1 import Style, write_chat, write_prompt
from zerone.types import Message


def write(path: Path, *records: Any) -> Path:
    lines = [record if isinstance(record, str) else json.dumps(record) for record in records]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def user(content: str) -> dict[str, str]:
    return {"role": "user", "content": content}


def assistant(content: str, **more: str) -> dict[str, str]:
    return {"role": "assistant", "content": content, **more}


PAIR = {"prompt": "2+2?", "completion": "<think>4</think>\n4"}


def test_both_forms_say_the_same(tmp_path: Path) -> None:
    messages = {"messages": [user("2+2?"), assistant(str(PAIR["completion"]))]}
    read = read_demonstrations(write(tmp_path / "d.jsonl", PAIR, "", messages))
    assert read.num_duplicates == 1
    (one,) = read.demonstrations
    assert [message.role for message in one.messages] == ["user", "assistant"]
    assert one.messages[1].content == PAIR["completion"]


def test_answers_to_one_question_stay_on_one_side_of_the_split(tmp_path: Path) -> None:
    records = [{"prompt": f"{i}?", "completion": f"answer {j}"} for i in range(40) for j in range(3)]
    demonstrations = read_demonstrations(write(tmp_path / "d.jsonl", *records)).demonstrations
    trained, held_out = split_problems(demonstrations, 0.2)
    assert len(trained) + len(held_out) == 120
    assert not {d.messages[0] for d in trained} & {d.messages[0] for d in held_out}


@pytest.mark.parametrize(
    ("record", "complaint"),
    [
        ("{", "not valid JSON"),
        ([1], "a JSON object is needed"),
        ({"prompt": "a"}, "no field 'completion'; the line has 'prompt'"),
        ({"completion": "a"}, "no field 'prompt'"),
        ({}, "the line has no fields"),
        ({"prompt": 3, "completion": "a"}, "`prompt` must be text, not 3"),
        ({"prompt": "a", "completion": "  "}, "`completion` is empty"),
        ({"prompt": "a", "completion": "\ud800"}, "half of a surrogate pair"),
        ({"messages": [], "prompt": "a"}, "not both"),
        ({"messages": []}, "must be a list of messages"),
        ({"messages": "hello"}, "must be a list of messages"),
        ({"messages": ["hello"]}, "message 1 must be"),
        ({"messages": [{"role": "tool", "content": "x"}]}, 'message 1 has role "tool"'),
        ({"messages": [user("a")]}, "the last message must be the assistant's"),
        ({"messages": [{"role": "system", "content": "x"}]}, "the last message must be the assistant's"),
        ({"messages": [assistant("a")]}, "message 1 is of role 'assistant' where 'user' is due"),
        ({"messages": [user("a"), user("b")]}, "message 2 is of role 'user' where 'assistant' is due"),
        (
            {"messages": [{"role": "system", "content": "x"}, user("a"), assistant("b"), assistant("c")]},
            "message 4 is of role 'assistant' where 'user' is due",
        ),
        ({"messages": [user("a"), {"role": "assistant", "content": None}]}, "content of message 2 must be"),
        ({"messages": [user("a"), {"role": "assistant", "content": [{"text": "b"}]}]}, "must be text"),
        (
            {"messages": [user("a"), {"role": "assistant", "content": "b", "reasoning_content": 1}]},
            "`reasoning_content` of message 2 must be text",
        ),
    ],
)
def test_what_is_wrong_is_named_with_file_and_line(tmp_path: Path, record: Any, complaint: str) -> None:
    path = write(tmp_path / "d.jsonl", PAIR, record)
    with pytest.raises(DataError) as caught:
        read_demonstrations(path)
    assert str(caught.value).startswith(f"{path}:2: ")
    assert complaint in str(caught.value)


def test_missing_and_empty_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        read_demonstrations(tmp_path / "nowhere.jsonl")
    with pytest.raises(DataError, match="is empty"):
        read_demonstrations(write(tmp_path / "d.jsonl", ""))


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["messages", "role", "content", "prompt", "completion", "x"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)


@given(record=JSON_VALUES)
def test_any_json_is_read_or_refused_by_line(tmp_path_factory: pytest.TempPathFactory, record: Any) -> None:
    path = write(tmp_path_factory.getbasetemp() / "any.jsonl", json.dumps(record))
    try:
        (one,) = read_demonstrations(path).demonstrations
    except DataError as error:
        assert str(error).startswith(f"{path}:1: ")
    else:
        assert one.messages[-1].role == "assistant"


# The template -------------------------------------------------------------------------------------


@pytest.mark.parametrize("style", list(Style))
def test_one_question_gives_the_prompt_of_rl(style: Style) -> None:
    messages = [Message(role="user", content="2+2?"), Message(role="assistant", content="4")]
    assert write_chat(messages, style) == [(write_prompt("2+2?", style=style), "4")]


def test_system_message_stands_between_template_and_question() -> None:
    messages = [
        Message(role="system", content="Be brief."),
        Message(role="user", content="2+2?"),
        Message(role="assistant", content="4"),
    ]
    ((prompt, _),) = write_chat(messages)
    assert prompt == write_prompt("2+2?").replace("User: 2+2?", "Be brief.\nUser: 2+2?")


def test_thoughts_are_learnt_and_do_not_come_back_in_later_prompts() -> None:
    messages = [
        Message(role="user", content="a?"),
        Message(role="assistant", content="A", thought="secret"),
        Message(role="user", content="b?"),
        Message(role="assistant", content="<think>hidden</think>\nB"),
        Message(role="user", content="c?"),
        Message(role="assistant", content="C"),
    ]
    pairs = write_chat(messages)
    assert [completion for _, completion in pairs] == [
        "<think>secret</think>\nA",
        "<think>hidden</think>\nB",
        "C",
    ]
    assert pairs[2][0].endswith("User: a?\nAssistant:A\nUser: b?\nAssistant:B\nUser: c?\nAssistant:")
