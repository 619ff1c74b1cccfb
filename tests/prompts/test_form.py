"""SFT teaches the form that evaluation asks for, whatever form the data come in, or refuses them."""

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processes import call_main
from scripted import save_talking_model
from zerone.corpus.documents import SOLUTIONS
from zerone.corpus.words import WORDS
from zerone.data.demonstrations import read_demonstrations
from zerone.errors import DataError
from zerone.problems import arithmetic
from zerone.problems.mixture import draw_from_split
from zerone.prompts.form import check_form, in_form
from zerone.prompts.r1 import Style, parse_completion, write_chat, write_completion
from zerone.seeding import rng_from
from zerone.types import Demonstration, Message

TAGS, BOXED, SUMMARY = Style


def written(content: str, style: Style, thought: str | None = "t") -> str:
    (message,) = in_form(
        [Message(role="assistant", content=content, thought=thought, takes_form=True)], style
    )
    return message.content


@pytest.mark.parametrize("style", list(Style))
@pytest.mark.parametrize(
    "answer",
    ["42", "-7", "3/4", "\\frac{1}{2}", "x = 5, y = 3", "Paris", "True", "B", "5 cm", "\u56db", "[1, 2]"],
)
def test_a_plain_final_answer_gets_the_form_of_the_style(answer: str, style: Style) -> None:
    text = written(answer, style)
    assert text == write_completion("t", answer, style)
    parsed = parse_completion(text, style)
    assert (parsed.thought, parsed.answer, parsed.is_well_formed) == ("t", answer, True)


@pytest.mark.parametrize("style", list(Style))
@pytest.mark.parametrize(
    ("content", "thought"),
    [
        ("4", "t"),
        ("<think>t</think>4", None),
        ("<think>t</think>\n\n4", None),
        (" \n<think>t</think>\n4", None),
        ("t</think>\n4", None),
        ("<think>t</think>\n4", "t"),
        ("<think></think>\n4", "t"),
        ("\\boxed{4}", "t"),
        ("The answer is \\boxed{4}.", "t"),
        ("<answer>4</answer>", "t"),
        ("<think>t</think>\n<answer>4</answer>", None),
    ],
)
def test_one_answer_is_learnt_alike_however_it_is_written(
    content: str, thought: str | None, style: Style
) -> None:
    parsed = parse_completion(written(content, style, thought), style)
    assert (parsed.thought, parsed.answer, parsed.is_well_formed) == ("t", "4", True)


@pytest.mark.parametrize(
    ("content", "style", "text"),
    [
        # A summary with a box has no place beside answer tags, and is not lost.
        ("So \\boxed{4}, done.", TAGS, "<think>t\n\nSo \\boxed{4}, done.</think>\n<answer>4</answer>"),
        ("So \\boxed{4}, done.", BOXED, "<think>t</think>\nSo \\boxed{4}, done."),
        ("So \\boxed{4}, done.", SUMMARY, "<think>t</think>\nSo \\boxed{4}, done."),
        # No box fits around a sentence.
        ("We add them and get four.", BOXED, "<think>t</think>\nWe add them and get four."),
        ("So 2+2 is 4.", BOXED, "<think>t</think>\nSo 2+2 is 4."),
        ("Hello!", BOXED, "<think>t</think>\nHello!"),
        ("{", BOXED, "<think>t</think>\n{"),
        ("a\nb = 4", BOXED, "<think>t</think>\na\nb = 4"),
        ("42.", BOXED, "<think>t</think>\nThe answer is \\boxed{42}."),
        # What has the form already stays as it is.
        ("<answer>4</answer>\n", TAGS, "<think>t</think>\n<answer>4</answer>\n"),
        ("I say <answer>4</answer>.", TAGS, "<think>t</think>\nI say <answer>4</answer>."),
    ],
)
def test_what_becomes_of_a_final_answer(content: str, style: Style, text: str) -> None:
    assert written(content, style) == text


@pytest.mark.parametrize("style", list(Style))
def test_a_thought_that_never_ends_gets_no_answer(style: Style) -> None:
    assert written("<think>on and on", style, None) == "<think>on and on"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("4", "<answer>4</answer>"),
        ("2+2, so \\boxed{4}", "<think>2+2, so \\boxed{4}</think>\n<answer>4</answer>"),
    ],
)
def test_an_answer_without_a_thought_gets_none_but_its_own_words(content: str, text: str) -> None:
    assert written(content, TAGS, None) == text


def test_two_different_thoughts_are_refused() -> None:
    with pytest.raises(DataError, match="reasoning in its content and other reasoning beside it"):
        written("<think>u</think>\n4", TAGS, "t")


@given(st.text("4<>/think answerboxed{}\\ \n.", max_size=40), st.sampled_from(list(Style)))
def test_a_completion_as_it_stands_is_never_touched(content: str, style: Style) -> None:
    message = Message(role="assistant", content=content)
    assert in_form([message], style) == [message]


@given(
    st.text("4<>/thinkanswer {}\\.b", min_size=1, max_size=30).filter(str.strip), st.sampled_from(list(Style))
)
def test_no_word_of_an_answer_is_lost(content: str, style: Style) -> None:
    text = written(content, style, None)
    kept = [word for word in content.replace("<", " <").replace(">", "> ").split() if word[0] != "<"]
    assert all(word.rstrip(".") in text for word in kept)


def test_earlier_answers_stand_in_prompts_as_a_chat_sends_them_back() -> None:
    said = [
        Message(role="user", content="a?"),
        Message(role="assistant", content="A", thought="t", takes_form=True),
        Message(role="user", content="b?"),
        Message(role="assistant", content="B", thought="u", takes_form=True),
    ]
    (_, first), (prompt, second) = write_chat(in_form(said, TAGS), TAGS)
    assert (first, second) == (write_completion("t", "A"), write_completion("u", "B"))
    assert prompt.endswith("User: a?\nAssistant:A\nUser: b?\nAssistant:")


# Data that fit no style ---------------------------------------------------------------------------


def demonstration(content: str) -> Demonstration:
    said = (Message(role="user", content="q?"), Message(role="assistant", content=content))
    return Demonstration(id="d", messages=said)


PLAIN, TAGGED, IN_BOX = (
    f"<think>t</think>\n{answer}" for answer in ("4", "<answer>4</answer>", "So \\boxed{4}.")
)


@pytest.mark.parametrize(
    ("completion", "style", "fix"),
    [
        (PLAIN, TAGS, "2 fit prompt.style=summary)"),
        (PLAIN, BOXED, "2 fit prompt.style=summary)"),
        (TAGGED, BOXED, "2 fit prompt.style=tags)"),
        (TAGGED, SUMMARY, "2 fit prompt.style=tags)"),
        (IN_BOX, TAGS, "2 fit prompt.style=boxed)"),
        (IN_BOX, SUMMARY, "2 fit prompt.style=boxed)"),
        ("4", TAGS, "2 fit prompt.style=summary)"),
        ("<think>t", SUMMARY, "none fits"),
        ("<think>t", TAGS, "none fits"),
    ],
)
def test_completions_of_which_none_fits_the_style_are_refused_with_one_that_does(
    completion: str, style: Style, fix: str
) -> None:
    with pytest.raises(
        DataError, match=f"none of the 2 completions of d.jsonl .*prompt.style={style}"
    ) as caught:
        check_form([demonstration(completion)] * 2, style, "d.jsonl")
    assert fix in str(caught.value)


@pytest.mark.parametrize(("completion", "style"), [(TAGGED, TAGS), (IN_BOX, BOXED), (PLAIN, SUMMARY)])
def test_completions_that_fit_are_counted_with_those_that_do_not(completion: str, style: Style) -> None:
    missing = check_form([demonstration(completion), demonstration("<think>t")], style, "d.jsonl")
    assert missing == {"a thought": 1, "an answer in the form": 0 if style is BOXED else 1}


@pytest.mark.parametrize(("said", "is_taken"), [("summary", True), ("boxed", False), ("formal", False)])
def test_a_row_that_calls_itself_a_summary_needs_no_box(said: str, is_taken: bool) -> None:
    rows = [replace(demonstration(PLAIN), style=said)] * 2
    for style, is_fine in ((BOXED, is_taken), (TAGS, False), (SUMMARY, True)):
        with nullcontext() if is_fine else pytest.raises(DataError):
            check_form(rows, style, "d.jsonl")


# Trained and measured -----------------------------------------------------------------------------

FORMS: dict[str, Any] = {
    "messages with reasoning_content": lambda q, t, a: {
        "messages": [
            {"role": "user", "content": q},
            {"role": "assistant", "content": a, "reasoning_content": t},
        ]
    },
    "messages with the thought in the content": lambda q, t, a: {
        "messages": [
            {"role": "user", "content": q},
            {"role": "assistant", "content": f"<think>{t}</think>\n\n{a}"},
        ]
    },
    "ShareGPT": lambda q, t, a: {
        "conversations": [{"from": "human", "value": q}, {"from": "gpt", "value": f"<think>{t}</think>\n{a}"}]
    },
    "TRL": lambda q, t, a: {
        "prompt": [{"role": "user", "content": q}],
        "completion": [{"role": "assistant", "thinking": t, "content": a}],
    },
    "Alpaca with reasoning": lambda q, t, a: {"instruction": q, "input": "", "output": a, "reasoning": t},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("form")
    save_talking_model(path / "base")
    problems = [{"prompt": f"Say 7, please ({i}).", "answer": 7} for i in range(60, 68)]
    (path / "problems.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in problems), encoding="utf-8"
    )
    for name, form in FORMS.items():
        rows = [form(f"Say 7, please ({i}).", "ab", "7") for i in range(60)]
        (path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_every_form_of_the_data_is_the_same_lesson(folder: Path) -> None:
    for style in Style:
        lessons = {
            tuple(
                pair
                for one in read_demonstrations(folder / f"{name}.jsonl").demonstrations
                for pair in write_chat(in_form(one.messages, style), style)
            )
            for name in FORMS
        }
        assert len(lessons) == 1
        assert all(parse_completion(text, style).is_well_formed for _, text in next(iter(lessons)))


@pytest.mark.parametrize("style", list(Style))
def test_a_model_trained_on_a_chat_is_measured_as_it_was_trained(folder: Path, style: Style) -> None:
    code, _, err = call_main(
        folder,
        "sft",
        f"--run-dir={folder / style}",
        f"model.path={folder / 'base'}",
        f"data.path={folder / 'messages with reasoning_content.jsonl'}",
        f"prompt.style={style}",
        *("data.eval_share=0.1", "model.precision=fp32", "model.threads=1", "sft.epochs=8"),
        *("sft.batch_size=8", "sft.learning_rate=0.02", "eval.every=1000", "checkpoint.every=1000"),
        f"sft.suite={folder / 'problems.jsonl'}",
        *("sampling.max_tokens=48", "sampling.temperature=0.3", "eval.hard_samples=4"),
    )
    assert code == 0, err
    summary = json.loads((folder / style / "summary.json").read_text(encoding="utf-8"))
    (found,) = summary["final"]["suites"].values()
    # Without the form around it, a chat would teach 0% and 0% in tags and boxes.
    assert found["format"] >= 0.9
    assert found["pass_at_1"] >= 0.9


@pytest.mark.slow
@pytest.mark.parametrize("style", list(Style))
def test_the_embedded_model_learns_from_a_chat_to_answer_in_every_style(tmp_path: Path, style: Style) -> None:
    """84 to 95% well formed, 91 to 94% correct (benchmarks/sft_forms.py)."""
    problems = [
        draw_from_split(rng_from("chat", i), arithmetic, arithmetic.LEVELS[i % 2], "en", "train")
        for i in range(368)
    ]
    rows = [{"prompt": problem.prompt, "answer": problem.spec["answer"]} for problem in problems[320:]]
    (tmp_path / "held_out.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8"
    )
    form = FORMS["messages with reasoning_content"]
    with (tmp_path / "d.jsonl").open("w", encoding="utf-8") as file:
        for problem in problems[:320]:
            rng = rng_from("chat solution", problem.id)
            solved = SOLUTIONS[problem.family].careful(problem, WORDS["en"], rng)
            file.write(json.dumps(form(problem.prompt, solved.thought, solved.answer)) + "\n")
    code, _, err = call_main(
        tmp_path,
        *("sft", f"--run-dir={tmp_path / 'run'}", f"data.path={tmp_path / 'd.jsonl'}"),
        *(f"prompt.style={style}", f"sft.suite={tmp_path / 'held_out.jsonl'}", "eval.every=1000"),
        *("eval.hard_samples=4", "sampling.max_tokens=120"),
    )
    assert code == 0, err
    summary = json.loads((tmp_path / "run" / "summary.json").read_text(encoding="utf-8"))
    (found,) = summary["final"]["suites"].values()
    assert found["format"] >= 0.7
    assert found["pass_at_1"] >= 0.7
