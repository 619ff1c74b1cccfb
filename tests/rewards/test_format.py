"""Good form: a table of cases, the boxes of summaries, and no input that costs more than its length."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from format_cases import FORMAT_CASES
from zerone.prompts.r1 import (
    TAGS,
    Style,
    boxes,
    is_visible,
    last_answer,
    last_boxed,
    parse_completion,
    reasoning_of,
    write_completion,
    write_prompt,
)


def test_the_table_is_large_and_has_both_kinds_in_each_style() -> None:
    assert len(FORMAT_CASES) >= 60
    assert len({(reason, style) for reason, style, *_ in FORMAT_CASES}) == len(FORMAT_CASES)
    assert {(style, fine) for _, style, _, _, fine in FORMAT_CASES} == {
        (style, fine) for style in Style for fine in (True, False)
    }


@pytest.mark.parametrize(
    ("style", "opened", "completion", "is_fine"),
    [case[1:] for case in FORMAT_CASES],
    ids=[f"{style}: {reason}" for reason, style, *_ in FORMAT_CASES],
)
def test_good_form_is_told_from_bad(style: Style, opened: str, completion: str, is_fine: bool) -> None:
    assert parse_completion(opened + completion, style).is_well_formed is is_fine


TEXT = st.text(max_size=30).filter(lambda text: not any(tag in text for tag in TAGS) and is_visible(text))
BRACELESS = TEXT.filter(lambda text: not set(text) & set("{}\\"))


@given(thought=TEXT, answer=BRACELESS)
def test_a_boxed_completion_is_read_back(thought: str, answer: str) -> None:
    found = parse_completion(write_completion(thought, answer, Style.BOXED), Style.BOXED)
    assert (found.thought, found.answer, found.is_well_formed) == (thought.strip(), answer.strip(), True)


@given(thought=TEXT, answer=TEXT)
def test_a_summary_is_read_back(thought: str, answer: str) -> None:
    found = parse_completion(write_completion(thought, answer, Style.SUMMARY), Style.SUMMARY)
    assert (found.thought, found.answer, found.is_well_formed) == (thought.strip(), answer.strip(), True)


PIECES = st.lists(
    st.sampled_from([*TAGS, "\\boxed{", "}", "{", "\\{", "\\", "a", "4", " ", "\n", "\u200b", "$"]),
    max_size=14,
).map("".join)


@pytest.mark.parametrize("style", list(Style))
@given(text=PIECES)
def test_text_outside_always_spoils_the_form(style: Style, text: str) -> None:
    assert not parse_completion(f"x{text}", style).is_well_formed
    if style is Style.TAGS:
        assert not parse_completion(f"{text}x", style).is_well_formed


@pytest.mark.parametrize("style", list(Style))
@given(text=PIECES)
def test_well_formed_always_has_a_visible_thought_and_answer(style: Style, text: str) -> None:
    found = parse_completion(text, style)
    if found.is_well_formed:
        assert found.thought is not None and is_visible(found.thought)
        assert style is Style.BOXED or (found.answer is not None and is_visible(found.answer))


# Boxes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"\boxed{4}", "4"),
        (r"\boxed {4}", "4"),
        (r"\fbox{4}", "4"),
        (r"\boxed{3}, no: \boxed{4}", "4"),
        (r"\boxed{4} and \boxed{5", "4"),
        (r"\boxed{ then \boxed{4}", "4"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\{1\}}", r"\{1\}"),
        (r"\boxed{\left\{1\right\}}", r"\left\{1\right\}"),
        (r"\boxed{a\\{b}}", r"a\\{b}"),
        (r"{\boxed{4}}", "4"),
        (r"x = \boxed{4}.", "4"),
        (r"$\boxed{4}$ apples", "4"),
        ("- \\boxed{4}", "4"),
        (r"\boxed 4", None),
        (r"boxed{4}", None),
        (r"\boxed{4", None),
        (r"\boxed{{4}", None),
        (r"$-\boxed{4}$", None),
        (r"$- \boxed{4}$", None),
        (r"1\boxed{4}", None),
        (r"\boxed{4}.5", None),
        (r"\boxed{4}^2", None),
        (r"\boxed{4}!", None),
        (r"\boxed{4}0", None),
        (r"\boxed{4}%", None),
        (r"\boxed{5} or -\boxed{4}", None),
    ],
)
def test_the_last_whole_box_is_the_answer(text: str, answer: str | None) -> None:
    assert last_boxed(text) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<think>a</think><answer>4</answer>", "4"),
        (r"<think>\boxed{3}</think>\boxed{4}", "4"),
        (r"<think>\boxed{3}</think>", None),
        (r"<think>a</think><answer>\boxed{4}</answer>", r"\boxed{4}"),
        ("<think>a</think>4</think>5", None),
        (r"no tags: \boxed{4}", "4"),
        ("no tags: 4", None),
    ],
)
def test_the_answer_of_any_style_follows_the_last_thought(text: str, answer: str | None) -> None:
    assert last_answer(text) == answer


@pytest.mark.parametrize(
    ("text", "reasoning"),
    [
        ("<think>a</think><answer>4</answer>", "a"),
        ("a</think><answer>4</answer>", "a"),
        ("<think>a<answer>4</answer>", "a"),
        ("a<answer>4</answer>", "a"),
        ("<think>a", "a"),
        ("a", "a"),
        ("<think></think>a<answer>4</answer>", ""),
        ("", ""),
    ],
)
def test_leaving_out_a_tag_hides_no_reasoning(text: str, reasoning: str) -> None:
    assert reasoning_of(text) == reasoning


@pytest.mark.parametrize("style", list(Style))
def test_the_prompt_asks_for_the_style(style: Style) -> None:
    prompt = write_prompt("What is 2+2?", style=style)
    assert ("<answer>" in prompt) == (style is Style.TAGS)
    assert ("\\boxed{}" in prompt) == (style is Style.BOXED)
    assert prompt.endswith("User: What is 2+2?\nAssistant:")


# Hostile text -------------------------------------------------------------------------------------

MEGABYTE = {
    "openers": "<think>",
    "all tags": "".join(TAGS),
    "almost tags": "</answe",
    "boxes never closed": "\\boxed{",
    "boxes in boxes": "\\boxed{a",
    "closing braces": "}",
    "backslashes": "\\",
    "boxes": "\\boxed{4}",
    "zero-width spaces": "\u200b",
    "accents": "a\u0301\u0323",
    "NUL bytes": "\x00",
    "lone surrogates": "\ud800",
    "commands almost": "\\boxed ",
}


@pytest.mark.parametrize("style", list(Style))
@pytest.mark.parametrize("piece", MEGABYTE.values(), ids=MEGABYTE.keys())
def test_a_megabyte_is_parsed_at_once(piece: str, style: Style) -> None:
    """Linear work takes at most half a second here; quadratic work would take hours."""
    text = "<think>a</think>" + piece * (1_000_000 // len(piece))
    start = time.process_time()
    parse_completion(text, style)
    last_answer(text)
    reasoning_of(text)
    assert time.process_time() - start < 5


def test_a_box_within_a_million_braces_is_found() -> None:
    assert last_boxed("{" * 500_000 + r"\boxed{4}" + "}" * 500_000) == "4"
    nested = "\\boxed{" * 100_000 + "4" + "}" * 100_000
    assert len(boxes(nested)[0]) == 1
