"""What is held back of a stream and what is sent: the same however the stream is cut."""

import importlib.resources
import json
import math
import time
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models

from zerone.engine.api import TokenLogprob
from zerone.engine.text import CharacterStream, StopStream, ThoughtStream
from zerone.prompts.r1 import parse_completion, write_completion
from zerone.serve.chat_prompt import answer_only
from zerone.serve.telemetry import Usage
from zerone.serve.wire import ChatWire, Choice, CompletionWire, WholeWire, event

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


EMBEDDED = Tokenizer.from_file(
    str(importlib.resources.files("zerone") / "world" / "embedded" / "tokenizer.json")
)


def told(tokenizer: Tokenizer, ids: list[int]) -> str:
    """Return what a stream of these tokens says."""
    stream = CharacterStream(SimpleNamespace(backend_tokenizer=tokenizer))
    return "".join(stream.feed(token) or "" for token in ids) + stream.close()


def bytes_as_tokens() -> Tokenizer:
    """Return a tokenizer in the manner of Llama 2: what it has no word for is written byte by byte."""
    names = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "\u2581", "a", "\u2581the", "\u4e2d"]
    tokenizer = Tokenizer(
        models.BPE({name: i for i, name in enumerate(names)}, [], byte_fallback=True, unk_token="<unk>")
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("\u2581", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return tokenizer


def id_of(tokenizer: Tokenizer, name: str) -> int:
    number = tokenizer.token_to_id(name)
    assert number is not None
    return number


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
        ("<think>never closed <answer>7</answer>", "never closed", "7"),
        ("<think>never closed <answer>7</answer>? No", "never closed <answer>7</answer>? No", ""),
        ("<think>never closed <answer>7", "never closed <answer>7", ""),
        ("<think>never closed \\boxed{7}", "never closed \\boxed{7}", ""),
        ("<think>to end with </think> is usual</think>7", "to end with", "is usual</think>7"),
        ("Sure. <think>a</think>7", "a", "Sure. 7"),
        ("Sure.\n\n<think>\na\n</think>\n\n<answer>7</answer>", "a", "Sure.\n\n\n\n7"),
        ("Sure <think>a", "a", "Sure"),
        ("opened by nobody</think> 7", "opened by nobody", "7"),
        ("<think>a</think>\n<think>b</think>7", "a\nb", "7"),
        ("<think>a</think>7\n<think>b</think>\n8", "a\nb", "7\n\n8"),
        ("<think>a</think>7\n<think>b", "a\nb", "7"),
        ("<think><think>a</think>7", "<think>a", "7"),
        ("<think>a</think></think>7", "a", "</think>7"),
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
    st.text(alphabet="ab", max_size=12),
    st.lists(st.text(alphabet="ab", min_size=1, max_size=3), max_size=2),
    st.lists(st.text(alphabet="ab", min_size=1, max_size=3), max_size=2),
)
def test_the_stop_string_that_is_complete_first_ends_a_text(
    text: str, stops: list[str], kept: list[str]
) -> None:
    """Those of training are kept, as they were there; one that a request names too is cut off."""
    ends = {stop: text.find(stop) + len(stop) for stop in [*stops, *kept] if stop in text}
    stop = min(ends, key=lambda stop: (ends[stop], -len(stop)), default="")
    said = text
    if stop:
        said = text[: ends[stop] - len(stop)] + ("" if stop in stops else stop)
    for pieces in ([text], list(text)):
        stream = StopStream(stops, kept)
        told = "".join(stream.feed(piece) for piece in pieces if not stream.is_stopped)
        assert told + ("" if stream.is_stopped else stream.close()) == said
        assert stream.is_stopped == bool(stop)


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
        ("<think>cut off in the mid", ""),
        (" <think>cut off", ""),
        ("The tag <think> opens a thought.", "The tag <think> opens a thought."),
    ],
)
def test_thoughts_of_earlier_answers_are_left_out(sent_back: str, answer: str) -> None:
    assert answer_only(sent_back) == answer


def test_bytes_that_are_no_text_do_not_end_the_stream() -> None:
    """A byte that cannot follow changes the text of those before it, which is said already."""
    tokenizer = bytes_as_tokens()
    newline, broken, a, the = (id_of(tokenizer, name) for name in ("<0x0A>", "<0xF0>", "a", "\u2581the"))
    said = told(tokenizer, [a, newline, broken, a, the, the])
    assert said.startswith("a\n")
    assert said.endswith("a the the")


@given(st.lists(st.integers(min_value=1, max_value=260), max_size=30))
def test_any_tokens_of_bytes_can_be_told(ids: list[int]) -> None:
    told(bytes_as_tokens(), ids)


@given(st.text(max_size=20))
def test_characters_of_several_tokens_are_told_whole(text: str) -> None:
    tokenizer = bytes_as_tokens()
    ids = [id_of(tokenizer, f"<0x{byte:02X}>") for byte in text.encode()]
    assert told(tokenizer, ids) == text.removeprefix(" ")


@example([602])  # a whole character and the beginning of another
@given(st.lists(st.integers(min_value=0, max_value=900), max_size=40))
def test_a_stream_says_what_its_tokens_say(ids: list[int]) -> None:
    whole, said = EMBEDDED.decode(ids, skip_special_tokens=False), told(EMBEDDED, ids)
    assert whole.startswith(said)
    assert set(whole[len(said) :]) <= {"\ufffd"}


def test_endless_broken_bytes_are_told_in_time_that_grows_with_their_number() -> None:
    tokenizer = bytes_as_tokens()
    broken, a = id_of(tokenizer, "<0xF0>"), id_of(tokenizer, "a")
    begun = time.process_time()
    said = told(tokenizer, [broken] * 20_000 + [a])
    assert time.process_time() - begun < 10.0, "about 0.5 s; squared it was minutes"
    assert said.endswith("a")
    assert len(said) > 19_000


def test_an_event_is_one_line_for_every_reader_of_lines() -> None:
    said = "a\u2028b\u2029c\x85d\r\ne\x0b\x0c\x1c"
    written = event({"content": said}).decode()
    assert written.splitlines() == [written.strip(), ""]
    assert json.loads(written.removeprefix("data: ")) == {"content": said}


def test_a_logprob_that_is_no_number_is_told_as_the_lowest() -> None:
    model: Any = SimpleNamespace(name="m", fingerprint="f", tokenizer=SimpleNamespace(decode=lambda ids: "a"))
    told_nan = TokenLogprob(token=1, logprob=math.nan, top=((1, -math.inf),))
    choices = {0: Choice(content=["a"], logprobs=[told_nan], finish="stop")}
    wires: list[WholeWire] = [
        ChatWire(model, streams=False, counts=False, has_logprobs=True),
        CompletionWire(model, counts=False, has_logprobs=True),
    ]
    for wire in wires:
        written = json.dumps(wire.whole(choices, Usage(num_prompt=1)), allow_nan=False)
        assert written.count("-9999.0") == 2
