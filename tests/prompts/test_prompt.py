"""The parser of completions: what counts as thought, answer and good form."""

import re
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from zerone.prompts.r1 import (
    ANSWER_OPEN,
    R1_ZERO_PREFIX,
    TAGS,
    THINK_OPEN,
    Example,
    Parsed,
    is_visible,
    parse_completion,
    reasoning_of,
    write_completion,
    write_prompt,
)


def parsed(thought: str | None, answer: str | None, is_well_formed: bool = False) -> Parsed:
    return Parsed(thought=thought, answer=answer, is_well_formed=is_well_formed)


CASES = {
    "as asked for": ("<think>a</think>\n<answer>4</answer>", parsed("a", "4", True)),
    "white space around everything": (
        " <think>\na\n</think>\n\n<answer> 4 </answer>\n",
        parsed("a", "4", True),
    ),
    "nothing between the blocks": ("<think>a</think><answer>4</answer>", parsed("a", "4", True)),
    "Chinese": ("<think>等等，不对</think>\n<answer>四</answer>", parsed("等等，不对", "四", True)),
    "a comparison in the thought": ("<think>3<4</think>\n<answer>4</answer>", parsed("3<4", "4", True)),
    "empty text": ("", parsed(None, None)),
    "no tags": ("the answer is 4", parsed(None, None)),
    "missing opener of the thought": ("a</think>\n<answer>4</answer>", parsed("a", "4")),
    "missing closer of the thought": ("<think>a\n<answer>4</answer>", parsed(None, "4")),
    "missing opener of the answer": ("<think>a</think>\n4</answer>", parsed("a", None)),
    "missing closer of the answer": ("<think>a</think>\n<answer>4", parsed("a", None)),
    "cut within the last tag": ("<think>a</think>\n<answer>4</answer", parsed("a", None)),
    "no thought": ("<answer>4</answer>", parsed(None, "4")),
    "no answer": ("<think>a</think>", parsed("a", None)),
    "answer before the reasoning": ("<answer>4</answer>\n<think>a</think>", parsed("a", "4")),
    "answer inside the thought": (
        "<think>a <answer>4</answer></think>",
        parsed("a <answer>4</answer>", None),
    ),
    "closer before opener": ("<think>a</think></answer>4<answer>", parsed("a", None)),
    "text before": ("So: <think>a</think>\n<answer>4</answer>", parsed("a", "4")),
    "text between": ("<think>a</think> so <answer>4</answer>", parsed("a", "4")),
    "text after the answer": ("<think>a</think>\n<answer>4</answer> or 5", parsed("a", "4")),
    "two answers": ("<think>a</think><answer>4</answer><answer>5</answer>", parsed("a", "5")),
    "an unfinished second answer": ("<think>a</think><answer>4</answer><answer>5", parsed("a", "4")),
    "an answer within an answer": ("<think>a</think><answer>4<answer>5</answer>", parsed("a", "5")),
    "an answer closed twice": ("<think>a</think><answer>4</answer>5</answer>", parsed("a", "4")),
    "a new thought after an answer": (
        "<think>a</think><answer>4</answer><think>b</think><answer>5</answer>",
        parsed("a", "5"),
    ),
    "a thought opened twice": ("<think><think>a</think><answer>4</answer>", parsed("<think>a", "4")),
    "an opened thought in the answer": ("<think>a</think><answer><think>4</answer>", parsed("a", "<think>4")),
    "a closed thought in the answer": (
        "<think>a</think><answer>4</think></answer>",
        parsed("a", "4</think>"),
    ),
    "never closed, and a block in its middle": ("<think>a <answer>4</answer>? No", parsed(None, None)),
    "never closed, and two blocks at its end": (
        "<think>a <answer>4</answer><answer>5</answer>",
        parsed(None, "5"),
    ),
    "never closed again": (
        "<think>a</think>\n<think>b <answer>4</answer>, or",
        parsed("a\nb <answer>4</answer>, or", None),
    ),
    "reasoning again": ("<think>a</think>\n<think>b</think><answer>4</answer>", parsed("a\nb", "4")),
    "empty thought": ("<think></think>\n<answer>4</answer>", parsed("", "4")),
    "blank thought": ("<think> \n</think>\n<answer>4</answer>", parsed("", "4")),
    "empty answer": ("<think>a</think>\n<answer></answer>", parsed("a", "")),
    "blank answer": ("<think>a</think>\n<answer>\t</answer>", parsed("a", "")),
    "other case": ("<THINK>a</THINK>\n<ANSWER>4</ANSWER>", parsed(None, None)),
    "white space in a tag": ("<think >a</think>\n<answer>4</answer>", parsed("<think >a", "4")),
}


@pytest.mark.parametrize(("text", "expected"), CASES.values(), ids=CASES.keys())
def test_completion_is_taken_apart(text: str, expected: Parsed) -> None:
    assert parse_completion(text) == expected


def _has_no_tag(text: str) -> bool:
    return not any(tag in text for tag in TAGS)


# Letters of the tags are drawn often, so that pieces of tags meet the real ones.
SCRAPS = st.lists(st.sampled_from(["<", ">", "/", "think", "answer", "a", " ", "\n", "等"]), max_size=8).map(
    "".join
)
CONTENT = (st.text(max_size=20) | SCRAPS).filter(_has_no_tag).filter(is_visible)


@given(thought=CONTENT, answer=CONTENT)
@example(thought="</think", answer="<answer")
@example(thought="x<", answer=">y<")
def test_what_is_written_is_read_back(thought: str, answer: str) -> None:
    assert parse_completion(write_completion(thought, answer)) == parsed(
        thought.strip(), answer.strip(), True
    )


PIECES = st.lists(st.sampled_from([*TAGS, *TAGS, "a", " ", "\n", "<think", "answer>"]), max_size=9).map(
    "".join
)


def _is_as_asked_for(text: str) -> bool:
    """Judge good form by counting and cutting, without the parser's regular expression."""
    if any(text.count(tag) != 1 for tag in TAGS):
        return False
    before, _, rest = text.partition(TAGS[0])
    thought, _, rest = rest.partition(TAGS[1])
    between, _, rest = rest.partition(TAGS[2])
    answer, last, after = rest.partition(TAGS[3])
    is_filled = bool(thought.strip() and answer.strip() and last)
    return is_filled and not (before.strip() or between.strip() or after.strip())


@given(text=PIECES)
@example(text="<think>a</think><answer>a</answer>")
@example(text=" <think>a</think>\n<answer> a</answer>\n")
@example(text="<answer>a</answer><think>a</think>")
def test_well_formed_is_one_full_thought_then_one_full_answer(text: str) -> None:
    assert parse_completion(text).is_well_formed == _is_as_asked_for(text)


@given(text=PIECES | st.text(max_size=40))
def test_any_text_is_accepted_and_parts_come_from_it(text: str) -> None:
    found = parse_completion(text)
    for part in (found.thought, found.answer):
        assert part is None or part == part.strip()
        # Several stretches are one part, with a line end between where there is no white space.
        assert part is None or not Counter("".join(part.split())) - Counter("".join(text.split()))


@given(text=PIECES)
@example(text="<answer>4</answer>5</answer>")
def test_answer_holds_no_answer_tag(text: str) -> None:
    answer = parse_completion(text).answer
    assert answer is None or ("<answer>" not in answer and "</answer>" not in answer)


HOSTILE = {
    "openers": lambda n: "<think>" * n,
    "closers": lambda n: "</answer>" * n,
    "all tags": lambda n: "".join(TAGS) * n,
    "answers": lambda n: "<think>a</think>" + "<answer>a</answer>" * n,
    "almost tags": lambda n: "</answe" * n,
    "angle brackets": lambda n: "<" * n,
    "white space": lambda n: "<think>" + " " * n + "</think>",
}


def _count_calls(function: Callable[[], object]) -> int:
    """Count the calls of Python and C functions, which is work that no clock is needed for."""
    calls = 0

    def count(frame: Any, event: str, argument: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        function()
    finally:
        sys.setprofile(None)
    return calls


@pytest.mark.parametrize("make", HOSTILE.values(), ids=HOSTILE.keys())
def test_work_grows_no_faster_than_the_text(make: Callable[[int], str]) -> None:
    """Each call is one pass of a linear search of `str` or one step of a pattern without repeats."""
    short, long = make(1_000), make(8_000)
    assert _count_calls(lambda: parse_completion(long)) <= 8 * _count_calls(lambda: parse_completion(short))


@pytest.mark.parametrize("make", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_megabyte_of_hostile_text_is_parsed(make: Callable[[int], str]) -> None:
    """Quadratic work would be 10**12 operations here: the suite would visibly hang."""
    text = make(1_000_000 // (len(make(2)) - len(make(1))))
    assert len(text) > 999_000
    assert not parse_completion(text).is_well_formed


@pytest.mark.parametrize(
    ("text", "reasoning"),
    [
        ("<think>b</think>\n<answer>d</answer>", "b"),
        ("a<think>b</think>c<answer>d</answer>e", "a b c e"),
        ("a</think>c<answer>d</answer>", "a c"),
        ("<think>b</think><answer>d</answer><answer>e</answer>", "b d"),
        ("<think>b</think><answer>d<answer>e</answer>", "b d"),
        ("<answer>a</answer><think>b</think><answer>d</answer>", "a b"),
        ("<think>a</think><answer>4</answer><think>b</think><answer>5</answer>", "a 4 b"),
        ("<think>b</think>a summary", "b"),
        ("a<think>b</think>a summary", "a b"),
        ("<think>b</think>c<answer>d", "b c"),
        ("<think>b</think>c</answer>", "b c"),
        ("b<answer>d</answer>e", "b e"),
        ("<think>b<answer>d", "b"),
        ("b</answer>", "b"),
        ("no tags", "no tags"),
    ],
)
def test_reasoning_is_all_that_is_not_the_final_answer(text: str, reasoning: str) -> None:
    assert reasoning_of(text).split() == reasoning.split()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<think></think><answer>d</answer>",
        "a<think> \u200b</think>c<answer>d</answer>e",
        "<think><think></think>c<answer>d</answer>",
        "<answer>d</answer>e",
        "<think><answer>d</answer>e",
        "</think>a",
    ],
)
def test_words_beside_the_tags_make_up_for_no_empty_thought(text: str) -> None:
    assert reasoning_of(text) == ""


@given(text=st.lists(st.sampled_from([*TAGS, "a", "b", " "]), max_size=9).map("".join))
def test_reasoning_and_answer_make_the_whole_text_unless_there_is_no_thought(text: str) -> None:
    reasoning, answer = reasoning_of(text), parse_completion(text).answer
    assert not any(tag in reasoning for tag in TAGS)
    # An answer before the reasoning counts as both, so that no reasoning is hidden there.
    if reasoning and answer is not None and ANSWER_OPEN not in text.partition(THINK_OPEN)[0]:
        spoken, said = (re.sub("|".join([*TAGS, r"\s"]), "", t) for t in (text, reasoning + answer))
        assert Counter(said) == Counter(spoken)


def test_prompt_is_prefix_then_question_and_leaves_the_thought_to_the_model() -> None:
    prompt = write_prompt("What is 2+2?")
    assert prompt.startswith(R1_ZERO_PREFIX)
    assert prompt.endswith("User: What is 2+2?\nAssistant:")


def test_examples_stand_before_the_question_as_completions_of_the_same_form() -> None:
    shown = Example(question="What is 1+1?", thought="1+1=2", answer="2")
    prompt = write_prompt("What is 2+2?", (shown,))
    completion = prompt.partition("What is 1+1?\nAssistant:")[2].partition("User: ")[0]
    assert parse_completion(completion) == parsed("1+1=2", "2", True)
    assert prompt.endswith("User: What is 2+2?\nAssistant:")


def test_template_asks_for_tags_and_names_no_way_of_thinking() -> None:
    """The paper's point: the reflection that emerges must not be asked for."""
    assert all(tag in R1_ZERO_PREFIX for tag in TAGS)
    words = set(R1_ZERO_PREFIX.lower().replace(".", " ").split())
    assert not words & {
        "wait",
        "check",
        "verify",
        "mistake",
        "careful",
        "carefully",
        "step",
        "steps",
        "try",
        "again",
    }
