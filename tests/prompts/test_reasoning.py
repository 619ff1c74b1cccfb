"""Where reasoning ends: one meaning in training, evaluation, scoring, curation and serving."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from zerone.curation.drafts import Draft
from zerone.curation.filters import Limits, Reason, reason_against
from zerone.data.preferences import final_answer
from zerone.engine.remote import Reply
from zerone.engine.text import ThoughtStream
from zerone.evals.asking import Form, answer_of
from zerone.prompts.r1 import (
    ANSWER_CLOSE,
    ANSWER_OPEN,
    TAGS,
    THINK_CLOSE,
    THINK_OPEN,
    ReasoningSplitter,
    Style,
    last_answer,
    parse_completion,
    split_reasoning,
    visible_answer,
    without_reasoning,
)
from zerone.rewards.scoring import score_row
from zerone.rewards.total import RewardRules, RewardWeights, grade
from zerone.rewards.verifiers import answer_for
from zerone.types import Finish, Outcome, Problem, Rollout

NEVER_CLOSED = [
    "<think>",
    "<think>\n",
    "<think>so it is \\boxed{4}",
    "<think>so it is \\boxed{4}.\n\nHence 4.",
    "<think>\nThe final answer is 4.",
    "<think>Answer: C",
    "<think>Therefore, option (C) is correct.",
    "<think>the block <answer>4</answer> would say",
    "<think>the block <answer>4</answer> and then <answer>5",
    "<think>\\boxed{4} and then </thin",
    "<think>\\boxed{4} and then < /think>",
    "<think>\\boxed{4}</THINK>4",
    "<think><think>\\boxed{4}",
    " \n<think>\\boxed{4}",
    "Sure. <think>\\boxed{4}",
    "Sure.\n<think>\n\\boxed{4}",
    "The answer is \\boxed{4}. <think>Or is it \\boxed{5}",
    "<think>a</think>\n<think>again, \\boxed{4}",
    "<think>a</think><think>\\boxed{4}",
    "<think>a</think>\\boxed{4}\n\n<think>Wait, \\boxed{5}",
    "a</think>\n\n<think>\\boxed{4}",
    "<think>等等，答案是 C",
    "<think>```python\nprint(4)\n```",
    "<think>def f():\n    return 4",
]


def problem(verifier: str = "math", answer: Any = "4", **spec: Any) -> Problem:
    return Problem(
        id="p",
        family="f",
        level=1,
        language="en",
        prompt="2+2?",
        verifier=verifier,
        spec={"answer": answer, **spec},
    )


def rollout(text: str, asked: Problem) -> Rollout:
    return Rollout(
        problem=asked,
        sample=0,
        prompt_ids=(),
        completion_ids=(1,),
        sampler_logprobs=(0.0,),
        text=text,
        finish=Finish.LENGTH,
        weight_version=0,
    )


def streamed(pieces: Sequence[str], **options: Any) -> tuple[str, str]:
    """Return reasoning and answer as a server sends them."""
    stream = ThoughtStream(**{"is_thinking": False, "strips_answer": False, **options})
    parts = [*(stream.feed(piece) for piece in pieces), stream.close()]
    return "".join(part[0] for part in parts), "".join(part[1] for part in parts)


@pytest.mark.parametrize("text", NEVER_CLOSED)
def test_reasoning_that_never_closes_has_no_answer_for_any_reader(text: str) -> None:
    assert split_reasoning(text).answer is None
    assert [parse_completion(text, style).answer for style in Style] == [None] * 3
    for found in (last_answer(text), visible_answer(text), final_answer(text) or None):
        assert found is None
    for verifier in ("math", "number", "exact", "choice", "code"):
        assert answer_for(verifier, text) is None


@pytest.mark.parametrize("text", NEVER_CLOSED)
@pytest.mark.parametrize("verifier", ["math", "number", "exact", "choice", "code"])
def test_it_is_unparsable_in_training_evaluation_and_scoring_and_not_curated(
    text: str, verifier: str
) -> None:
    asked = problem(verifier, "C" if verifier == "choice" else "4")
    for style in Style:
        graded = grade(rollout(text, asked), RewardWeights(), rules=RewardRules(style=style))
        assert (graded.outcome, graded.answer, graded.parts["accuracy"]) == (Outcome.UNPARSABLE, None, 0.0)
        draft = Draft(problem=asked, number=0, text=text, style=style, source="test")
        assert reason_against(draft, Limits()) is Reason.MALFORMED
        for is_chat in (False, True):
            assert answer_of(asked, text, Form(is_chat=is_chat, style=style)) is None
    row = {"id": 1, "verifier": verifier, "answer": asked.spec["answer"], "completion": text}
    assert score_row(row)["outcome"] == "unparsable"


@pytest.mark.parametrize("text", [text for text in NEVER_CLOSED if text.lstrip().startswith(THINK_OPEN)])
def test_it_means_the_same_where_the_prompt_opened_it(text: str) -> None:
    rest = text.lstrip().removeprefix(THINK_OPEN)
    asked = problem()
    graded = grade(rollout(rest, asked), RewardWeights(), THINK_OPEN, RewardRules(style=Style.BOXED))
    assert graded.outcome is Outcome.UNPARSABLE
    row = {"verifier": "math", "answer": "4", "completion": rest, "open_thought": True}
    assert score_row(row)["outcome"] == "unparsable"
    for strips in (False, True):
        reasoning, content = streamed([rest], is_thinking=True, strips_answer=strips)
        assert "4" in reasoning + content or "4" not in rest


@pytest.mark.parametrize("text", NEVER_CLOSED)
def test_a_server_puts_it_into_the_reasoning_and_its_reader_finds_no_answer(text: str) -> None:
    reasoning, content = streamed(list(text))
    assert content in ("", "Sure.", "The answer is \\boxed{4}.", "\\boxed{4}", "a</think>")
    if not content:  # what was said before the reasoning is an answer to a reader who sees nothing else
        reply = Reply(text="", reasoning=reasoning, is_truncated=True, prompt_tokens=1, completion_tokens=1)
        assert answer_of(problem(), reply.whole, Form(is_chat=True)) is None
        assert split_reasoning(reply.whole).answer is None or not reasoning


CLOSED = [
    ("<think>a</think>4", "a", "4"),
    ("<think>\na\n</think>\n\n4\n", "a", "4"),
    ("<think></think>4", "", "4"),
    ("<think>I close with </think>, then</think>4", "I close with", ", then</think>4"),
    ("<think>quoted `</think>` and on</think>4", "quoted `", "` and on</think>4"),
    ("<think>a</think>The tag <think> opens it.", "a", "The tag <think> opens it."),
    ("<think>a</think>The tag </think> closes it.", "a", "The tag </think> closes it."),
    ("<think>a</think>`<think>` and `</think>`", "a", "`<think>` and `</think>`"),
    ("<think>a</think>4</think>", "a", "4</think>"),
    ("<think>a</think>\n<think>b</think>\n4", "a\nb", "4"),
    ("<think>a</think>4\n  <think>b</think>\n5", "a\nb", "4\n  \n5"),
    ("<think>a</think>4\n<think>b</think>5", "a\nb", "4\n5"),
    ("<think>a<think>b</think>4", "a<think>b", "4"),
    ("Sure! <think>a</think>4", "a", "Sure! 4"),
    ("Sure!<think>a</think>4", "a", "Sure!\n4"),
    ("Sure!\n\n<think>a</think>\n\n4", "a", "Sure!\n\n\n\n4"),
    ("\ufeff<think>a</think>4", "a", "\ufeff\n4"),
    ("4", None, "4"),
    ("", None, ""),
    ("a < b, and </ or <thin", None, "a < b, and </ or <thin"),
    ("<answer>4</answer>", None, "<answer>4</answer>"),
    ("<think>a<answer>4</answer>", None, "<answer>4</answer>"),
    ("<think>a<answer>4</answer>\n", None, "<answer>4</answer>"),
    ("<think>say <answer>3</answer> or\n<answer>4</answer>", None, "<answer>4</answer>"),
]


@pytest.mark.parametrize(("text", "reasoning", "answer"), CLOSED)
def test_reasoning_goes_to_its_first_closing_tag(text: str, reasoning: str | None, answer: str) -> None:
    split = split_reasoning(text)
    assert split.answer is not None
    assert (split.answer.strip(), split.reasoning and split.reasoning.strip()) == (answer, reasoning)
    for pieces in ([text], list(text)):
        if ANSWER_OPEN not in text:
            assert streamed(pieces) == (reasoning or "", answer)
    if visible_answer(text):
        assert visible_answer(text) == answer


@pytest.mark.parametrize(
    ("text", "reasoning", "answer"), [("a</think>4", "a", "4"), ("a\\boxed{3}</think>\n\\boxed{4}", "", "4")]
)
def test_a_closing_tag_alone_was_opened_by_a_prompt_that_is_not_here(
    text: str, reasoning: str, answer: str
) -> None:
    assert (visible_answer(text) or "").endswith(answer) or last_answer(text) == answer
    assert streamed(list(text), is_thinking=True)[1] == visible_answer(text)
    assert streamed(list(text), strips_answer=True)[1] == visible_answer(text)
    # A server that knows its prompt and cannot wait has sent the text before it as what it was.
    assert streamed(list(text)) == ("", text)


def test_a_prompt_that_closed_the_reasoning_leaves_the_rest_to_the_answer() -> None:
    assert streamed(list("a</think>4"), strips_answer=True, is_closed=True) == ("", "a4")
    assert streamed(list("<think>a</think>4"), strips_answer=True, is_closed=True) == ("", "a4")
    stream = ThoughtStream(is_thinking=False, strips_answer=True, is_closed=True)
    assert stream.feed("at once") == ("", "at once")


def test_a_model_that_is_not_asked_to_reason_may_speak_of_the_tag() -> None:
    assert streamed(["The tag <think> opens."], is_reasoner=False) == ("", "The tag <think> opens.")
    assert streamed([" <thi", "nk>a</think>4"], is_reasoner=False) == ("a", "4")


def test_a_stream_that_need_not_wait_sends_at_once() -> None:
    stream = ThoughtStream(is_thinking=True, strips_answer=False)
    assert [stream.feed(piece) for piece in ("so <", "b", "</think>x", "<thin", "g")] == [
        ("so", ""),
        (" <b", ""),
        ("", "x"),
        ("", ""),
        ("", "<thing"),
    ]


@pytest.mark.parametrize(
    ("sent_back", "said"),
    [
        ("<think>a</think>4", "4"),
        ("<think>a", ""),
        ("a</think>4", "4"),
        ("Sure. <think>a</think>4", "Sure. 4"),
        ("<think>a </think> b</think>4", "b</think>4"),
        ("The tag <think> opens.", "The tag <think> opens."),
        ("4\n<think> is a tag", "4\n<think> is a tag"),
    ],
)
def test_an_earlier_turn_is_sent_on_without_its_reasoning(sent_back: str, said: str) -> None:
    assert without_reasoning(sent_back) == said


def test_what_a_server_told_apart_stays_apart() -> None:
    """Its reasoning may hold the text of the tag, which its tokens told from the tag itself."""
    reply = Reply(
        text="4",
        reasoning="I write </think> and then 5",
        is_truncated=False,
        prompt_tokens=1,
        completion_tokens=9,
    )
    assert visible_answer(reply.whole) == "4"
    assert "5" in (split_reasoning(reply.whole).reasoning or "")


# Any text, cut anywhere ---------------------------------------------------------------------------

SCRAPS = st.lists(
    st.sampled_from([*TAGS, *TAGS, "<", "</", "think>", "answer", ">", " ", "\n", "a", "4", "。", "\u200b"]),
    max_size=14,
).map("".join)
TEXTS = st.text(max_size=40) | SCRAPS


@st.composite
def cut(draw: st.DrawFn, texts: st.SearchStrategy[str] = TEXTS) -> tuple[str, list[str]]:
    """Return a text, and the same in pieces."""
    text = draw(texts)
    places = sorted(draw(st.sets(st.integers(0, len(text)), max_size=8)))
    return text, [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]


@given(cut(), st.booleans(), st.booleans(), st.booleans(), st.booleans())
@example(("<think>a<answer>4</answer> ", ["<think>a<ans", "wer>4</answer", "> "]), False, False, True, True)
def test_no_split_depends_on_how_a_text_is_cut(
    given_text: tuple[str, list[str]], is_open: bool, is_closed: bool, waits: bool, anywhere: bool
) -> None:
    text, pieces = given_text
    options = {"is_open": is_open, "is_closed": is_closed, "waits": waits, "comes_anywhere": anywhere}

    def split(pieces: Sequence[str]) -> tuple[str, str, bool, int]:
        splitter = ReasoningSplitter(**options)
        parts = [*(splitter.feed(piece) for piece in pieces), splitter.close()]
        reasoning, answer = ("".join(part) for part in zip(*parts, strict=True))
        return reasoning, answer, splitter.is_open, splitter.reasoning_end

    assert split(pieces) == split([text]) == split(list(text))


@given(cut(), st.booleans())
def test_a_stream_in_the_r1_zero_template_is_split_as_the_whole_text_is(
    given_text: tuple[str, list[str]], is_thinking: bool
) -> None:
    text, pieces = given_text
    split = split_reasoning(THINK_OPEN + text if is_thinking else text)
    reasoning, content = streamed(pieces, is_thinking=is_thinking, strips_answer=True)
    if split.reasoning is not None:
        assert reasoning == split.reasoning.strip()
    if split.answer is not None:
        untagged = split.answer.replace(ANSWER_OPEN, "").replace(ANSWER_CLOSE, "")
        assert "".join(content.split()) == "".join(untagged.split())


def stray(text: str) -> bool:
    """Whether a closing tag comes before any opening one."""
    return THINK_CLOSE in text.partition(THINK_OPEN)[0]


@given(cut(TEXTS.map(lambda text: text.replace(ANSWER_OPEN, ""))), st.booleans())
def test_a_stream_that_does_not_wait_is_split_as_the_whole_text_is(
    given_text: tuple[str, list[str]], is_thinking: bool
) -> None:
    text, pieces = given_text
    whole = THINK_OPEN + text if is_thinking else text
    if stray(whole):
        return
    split = split_reasoning(whole)
    reasoning, content = streamed(pieces, is_thinking=is_thinking)
    if split.reasoning is not None:
        assert reasoning == split.reasoning.strip()
    if split.answer is not None:
        assert content == split.answer.strip()


@given(TEXTS)
def test_nothing_is_lost_or_added_but_tags_and_line_ends(text: str) -> None:
    splitter = ReasoningSplitter()
    parts = [*splitter.feed(text), *splitter.close()]
    told, given_text = (Counter(each.replace("\n", "")) for each in ("".join(parts), text))
    lost = given_text - told
    assert not told - given_text
    closed, opened = lost["/"], lost["<"] - lost["/"]
    assert sum(lost.values()) == closed * len(THINK_CLOSE) + opened * len(THINK_OPEN)
    assert opened <= text.count(THINK_OPEN) and closed <= text.count(THINK_CLOSE)


@pytest.mark.parametrize(
    "piece",
    ["<think>", "</think>", "<answer>", "</answer>", "<answer>a</answer>", " ", "<", "a", "\n<think>"],
)
def test_a_long_stream_takes_time_that_grows_with_its_length(piece: str) -> None:
    """About 0.3 s each; with the square of the length it were minutes."""
    for is_thinking, strips_answer in ((False, True), (True, True), (False, False)):
        stream = ThoughtStream(is_thinking=is_thinking, strips_answer=strips_answer)
        for _ in range(100_000):
            stream.feed(piece)
        stream.close()
