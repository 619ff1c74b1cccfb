"""What is held back of a stream and what is sent: the same however the stream is cut."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerone.prompt import parse_completion, write_completion
from zerone.serve.chat_prompt import answer_only
from zerone.serve.text import StopStream, ThoughtStream

PIECES = st.lists(
    st.sampled_from(
        [
            "<think>",
            "</think>",
            "<answer>",
            "</answer>",
            "<",
            "</",
            "think>",
            "answer",
            ">",
            " ",
            "\n",
            "a",
            "4",
        ]
    ),
    max_size=12,
)


def split(pieces: list[str], **options: Any) -> tuple[str, str]:
    """Return thought and answer of a stream that arrives in these pieces."""
    stream = ThoughtStream(**{"is_thinking": False, "strips_answer": True, **options})
    parts = [*(stream.feed(piece) for piece in pieces), stream.close()]
    return "".join(part[0] for part in parts), "".join(part[1] for part in parts)


@pytest.mark.parametrize(
    ("text", "thought", "answer"),
    [
        ("<think>3+4=7</think>\n<answer>7</answer>", "3+4=7", "7"),
        (" \n<think> a </think> <answer> 7 </answer>\n", "a", "7"),
        ("<think>never closed <answer>7</answer>", "never closed <answer>7</answer>", ""),
        ("<think></think>\n<answer>7</answer>", "", "7"),
        ("no tags at all", "", "no tags at all"),
        ("<answer>7</answer>", "", "7"),
        ("<think>a</think>The tag <think> opens a thought.", "a", "The tag <think> opens a thought."),
        ("<think>a</answer>b</think>7", "a</answer>b", "7"),
        ("<thin", "", "<thin"),
        ("<think>a</thin", "a</thin", ""),
        ("", "", ""),
        ("  ", "", ""),
    ],
)
def test_thought_and_answer_are_told_apart(text: str, thought: str, answer: str) -> None:
    assert split([text]) == (thought, answer)
    assert split(list(text)) == (thought, answer)


@given(PIECES, st.booleans(), st.booleans())
def test_splitting_does_not_depend_on_how_the_stream_is_cut(
    pieces: list[str], is_thinking: bool, strips: bool
) -> None:
    options = {"is_thinking": is_thinking, "strips_answer": strips}
    whole = "".join(pieces)
    assert split([whole], **options) == split(pieces, **options) == split(list(whole), **options)


@given(st.text(alphabet="ab 1+=\n", min_size=1), st.text(alphabet="ab 1+=\n", min_size=1))
def test_a_well_formed_completion_is_split_as_the_parser_reads_it(thought: str, answer: str) -> None:
    text = write_completion(thought, answer)
    parsed = parse_completion(text)
    assert split(list(text)) == (parsed.thought, parsed.answer)


def test_a_prompt_that_opened_the_thought_needs_no_tag() -> None:
    assert split(["so", " it is</thi", "nk>7"], is_thinking=True) == ("so it is", "7")


def test_answer_tags_stay_where_the_model_does_not_use_them() -> None:
    assert split(["see <answer>"], strips_answer=False) == ("", "see <answer>")


@pytest.mark.parametrize(
    ("text", "stops", "kept"),
    [
        ("one END two", ("END",), "one "),
        ("one EN two", ("END",), "one EN two"),
        ("aab", ("ab",), "a"),
        ("x y z", ("z", "y"), "x "),
        ("abc", (), "abc"),
    ],
)
def test_a_text_ends_before_its_first_stop_string(text: str, stops: tuple[str, ...], kept: str) -> None:
    for pieces in ([text], list(text)):
        stream = StopStream(stops)
        said = ""
        for piece in pieces:
            said += stream.feed(piece)
            if stream.is_stopped:
                break
        else:
            said += stream.close()
        assert (said, stream.is_stopped) == (kept, kept != text)


@given(
    st.text(alphabet="ab", max_size=20), st.lists(st.text(alphabet="ab", min_size=1, max_size=3), max_size=3)
)
def test_stop_strings_are_found_wherever_the_stream_is_cut(text: str, stops: list[str]) -> None:
    stream = StopStream(stops)
    said = "".join(stream.feed(character) for character in text if not stream.is_stopped)
    said += "" if stream.is_stopped else stream.close()
    starts = [text.find(stop) + len(stop) for stop in stops if stop in text]
    if not starts:
        assert said == text
    else:
        end = min(starts)
        assert stream.is_stopped
        assert text.startswith(said)
        assert any(text[:end] == said + stop for stop in stops)


def test_a_million_hostile_characters_take_no_time() -> None:
    stream = ThoughtStream(is_thinking=True, strips_answer=True)
    text = "<think></thin" * 80_000
    assert "".join(stream.feed(text[i : i + 7])[0] for i in range(0, len(text), 7))


@pytest.mark.parametrize(
    ("sent_back", "answer"),
    [
        ("<think>a</think>\n<answer>7</answer>", "7"),
        ("7", "7"),
        ("<answer>7</answer>", "7"),
        ("a</think> 7 ", "7"),
    ],
)
def test_thoughts_of_earlier_answers_are_left_out(sent_back: str, answer: str) -> None:
    assert answer_only(sent_back) == answer
