"""Stop strings look at the final answer only where the reasoning is split off, however the text is cut."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving_scripts import CHATML, Scripted, scripted_server
from zerone.engine.text import ThoughtStream

openai = pytest.importorskip("openai")

THOUGHT, TAGGED = "Question: 3+4?\n\nI add. User: 7\n\n", "</think>\n<answer>7, as 3+4=7</answer>"


@pytest.fixture(scope="module")
def server() -> Iterator[Scripted]:
    with scripted_server() as live:
        yield live


@pytest.fixture(scope="module")
def chat_server() -> Iterator[Scripted]:
    """A model that is asked through a chat template, so that `<answer>` is text."""
    with scripted_server(CHATML) as live:
        yield live


def ask(server: Scripted, text: str, *, tags: bool = False, **more: Any) -> Any:
    server.engine.text, server.engine.tags_are_tokens = text, tags
    client = openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0)
    messages = [{"role": "user", "content": "3+4?"}]
    return client.chat.completions.create(**{"model": "scripted", "messages": messages, **more})


@pytest.mark.parametrize("tags", [False, True])
@pytest.mark.parametrize(
    ("stops", "content", "stop_reason"),
    [
        (["Question:", "</s>", "<|im_end|>"], "7, as 3+4=7", None),  # what lm-eval sends for gsm8k
        (["\n\n"], "7, as 3+4=7", None),
        (["\n"], "7, as 3+4=7", None),
        (["User:"], "7, as 3+4=7", None),
        (["add"], "7, as 3+4=7", None),
        (["</think>"], "7, as 3+4=7", None),  # it ends the reasoning, and is no part of the answer
        ([", as"], "7", ", as"),
        (["=7", ","], "7", ","),
        (["</answer>"], "7, as 3+4=7", "</answer>"),
        (["7</answer>"], "7, as 3+4=", "7</answer>"),
    ],
)
def test_a_stop_string_in_the_reasoning_does_not_end_a_completion(
    server: Scripted, tags: bool, stops: list[str], content: str, stop_reason: str | None
) -> None:
    text = f"<think>{THOUGHT}{TAGGED}"
    choice = ask(server, text, tags=tags, stop=stops).choices[0]
    assert choice.message.reasoning == THOUGHT.strip()
    assert (choice.message.content, choice.stop_reason) == (content, stop_reason)
    assert choice.finish_reason == "stop"
    chunks = list(ask(server, text, tags=tags, stop=stops, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == content
    assert chunks[-1].choices[0].stop_reason == stop_reason


@pytest.mark.parametrize(
    ("text", "stops", "content"),
    [
        ("<think>a\n\nb</think>\n\nOne.\n\nTwo.", ["\n\n"], "One."),
        ("<think>a</think>\n\n\n\nOne.", ["\n\n"], "One."),
        ("<think>a</think>One <answer> two", ["<answer>"], "One"),
        ("<think>a</think>\n\nQ: again", ["Q:"], ""),
        ("no reasoning Q: at all", ["Q:"], "no reasoning"),
        ("<thin Q: air", ["Q:"], "<thin"),
        ("<think>Q: only reasoning", ["Q:"], ""),
        ("<think>a</think>\U0001f600 Q:", ["\U0001f600"], ""),
        ("<think>\u7b54\u6848</think>\u7b54\u6848\uff1a7", ["\u6848"], "\u7b54"),
    ],
)
def test_the_final_answer_ends_at_the_first_stop_string_in_it(
    chat_server: Scripted, text: str, stops: list[str], content: str
) -> None:
    for tags in (False, True):
        assert ask(chat_server, text, tags=tags, stop=stops).choices[0].message.content == content


def test_endless_white_space_is_ended_by_a_stop_string_of_it(chat_server: Scripted) -> None:
    answer = ask(chat_server, "<think>a</think>7" + "\n" * 2000, stop=["\n\n"], max_tokens=3000)
    assert answer.choices[0].stop_reason == "\n\n"
    assert answer.usage.completion_tokens < 40


def test_where_nothing_is_split_off_a_stop_string_ends_the_text_wherever_it_is(server: Scripted) -> None:
    text = f"<think>{THOUGHT}{TAGGED}"
    whole = ask(server, text, stop=["User:"], extra_body={"reasoning_format": "none"}).choices[0]
    assert whole.message.content == text[: text.index("User:")]
    client = openai.OpenAI(base_url=server.url + "/v1", api_key="none")
    plain = client.completions.create(model="scripted", prompt="a", stop=["User:"], max_tokens=500)
    assert plain.choices[0].text == text[: text.index("User:")]


def test_responses_look_at_the_answer_too(server: Scripted) -> None:
    server.engine.text, server.engine.tags_are_tokens = f"<think>{THOUGHT}{TAGGED}", False
    client = openai.OpenAI(base_url=server.url + "/v1", api_key="none")
    for streams in (False, True):
        more = {"extra_body": {"stop": ["User:", ", as"]}, "stream": streams}
        found = client.responses.create(model="scripted", input="3+4?", **more)
        response = list(found)[-1].response if streams else found
        assert response.output[0].content[0].text == THOUGHT.strip()
        assert response.output_text == "7"


def test_a_string_that_ended_the_completions_of_training_still_ends_the_reasoning() -> None:
    text = f"<think>{THOUGHT}{TAGGED}"
    with scripted_server(trained_stop=("add",)) as server:
        choice = ask(server, text, stop=["add"]).choices[0]
        assert (choice.message.reasoning, choice.message.content) == ("Question: 3+4?\n\nI add", "")
        assert (choice.finish_reason, choice.stop_reason) == ("stop", None)
    with scripted_server(trained_stop=("as",)) as server:
        assert ask(server, text).choices[0].message.content == "7, as"
        choice = ask(server, text, stop=["as"]).choices[0]
        assert (choice.message.content, choice.stop_reason) == ("7,", "as")


# The stream itself --------------------------------------------------------------------------------


def split(pieces: Sequence[str], **options: Any) -> tuple[str, str, str | None]:
    stream = ThoughtStream(**options)
    parts = []
    for piece in pieces:
        parts.append(stream.feed(piece))
        if stream.answer.is_stopped:
            break
    parts.append(stream.close())
    reasoning, answer = ("".join(part[number] for part in parts) for number in (0, 1))
    return reasoning, answer, stream.answer.cut_off


PIECES = st.lists(
    st.sampled_from(
        ["<think>", "</think>", "<answer>", "</answer>", "<", "</", "answer>", " ", "\n", "a", "ab", "b>"]
    ),
    max_size=14,
)
STOPS = st.lists(
    st.sampled_from(["a", "ab", "ba", "\n", "\n\n", " a", "a ", "</answer>", "a</answer>", "<answer>", "<"]),
    max_size=3,
)


@given(PIECES, STOPS, st.booleans(), st.booleans(), st.booleans())
def test_where_a_text_ends_does_not_depend_on_how_it_is_cut(
    pieces: list[str], stops: list[str], is_thinking: bool, strips: bool, is_closed: bool
) -> None:
    options = {
        "is_thinking": is_thinking and not is_closed,
        "strips_answer": strips,
        "is_closed": is_closed,
        "stops": stops,
    }
    whole = "".join(pieces)
    assert split([whole], **options) == split(pieces, **options) == split(list(whole), **options)


@given(PIECES, STOPS, st.booleans())
def test_reasoning_is_the_same_with_and_without_stop_strings(
    pieces: list[str], stops: list[str], strips: bool
) -> None:
    free = split(pieces, is_thinking=True, strips_answer=strips)
    reasoning, answer, cut_off = split(pieces, is_thinking=True, strips_answer=strips, stops=stops)
    assert reasoning == free[0]
    if cut_off is None:
        assert answer == free[1]
    else:
        assert free[1].startswith(answer)
        assert cut_off not in answer
