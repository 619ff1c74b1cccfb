"""Gold answers of choice questions: a letter in any form, with the choices or without them."""

import json
import time
from pathlib import Path

import pytest

from zerone.data.choices import labelled_letter, listed_choice, listed_choices
from zerone.data.jsonl import Fields, read_problems
from zerone.rewards.accuracy import verify_choice
from zerone.rewards.choice import gold_letter
from zerone.rewards.ground_truth import gold_complaint
from zerone.rewards.scoring import score_row
from zerone.types import Outcome, Problem

FIVE = ["one", "two", "three", "four", "some text"]
FORMS = [
    "E",
    "(E)",
    "[E]",
    "E.",
    "E)",
    "(E).",
    "**E**",
    "$E$",
    "`E`",
    '"E"',
    "\\text{E}",
    "\\text{(E)}",
    "\\textbf{(E)}",
]
FORMS += [
    "\\mathrm{E}",
    "\\boxed{E}",
    "$\\text{(E)}$",
    "\\(E\\)",
    "\uff25",
    "\uff08E\uff09",
    "E\u3002",
    " E \n",
]
LABELLED = [
    "E: some text",
    "E. some text",
    "E) some text",
    "(E) some text",
    "E - some text",
    "**E.** some text",
]
LABELLED += [
    "**E: some text**",
    "\\text{(E) some text}",
    "E\u3001some text",
    "E\uff1asome text",
    "(E): some text",
]


def read(tmp_path: Path, question: str, answer: object, **fields: object) -> Problem:
    path = tmp_path / "problems.jsonl"
    path.write_text(json.dumps({"prompt": question, "answer": answer, **fields}) + "\n", encoding="utf-8")
    return read_problems(path, Fields()).problems[0]


@pytest.mark.parametrize("form", [*FORMS, *LABELLED])
@pytest.mark.parametrize("choices", [[], FIVE])
def test_every_form_is_the_letter_as_gold_and_as_answer(form: str, choices: list[str]) -> None:
    assert gold_letter(form, choices) == "E"
    assert verify_choice(form, {"answer": "E", "choices": choices}).outcome is Outcome.CORRECT
    assert verify_choice(form, {"answer": "D", "choices": choices}).outcome is Outcome.WRONG
    for answer in ("E", "(E)", "E: some text", "\\text{E}"):
        assert verify_choice(answer, {"answer": form, "choices": choices}).outcome is Outcome.CORRECT
    assert verify_choice("D", {"answer": form, "choices": choices}).outcome is Outcome.WRONG
    row = {
        "id": 1,
        "verifier": "choice",
        "answer": form,
        "choices": choices,
        "completion": "The answer is E.",
    }
    assert score_row(row)["outcome"] == "correct"


@pytest.mark.parametrize(
    "text", ["maybe", "None of A and B", "Vitamin C", "A or B", "not sure", "perhaps", "the answer is wrong"]
)
def test_a_gold_answer_may_say_what_would_be_a_doubt_of_a_model(text: str) -> None:
    assert gold_letter(f"E: {text}", []) == "E"
    assert gold_letter(f"E: {text}", ["a1", "b2", "c3", "d4", text]) == "E"
    with pytest.raises(ValueError, match="names none"):
        gold_letter(f"D: {text}", ["a1", "b2", "c3", "d4", text])


LISTS = {
    "lines with full stops": "Which?\nA. one\nB. two\nC. three\nD. four\nE. some text",
    "lines with brackets": "Which?\nA) one\nB) two\nC) three\nD) four\nE) some text",
    "lines in brackets": "Which?\n(A) one\n(B) two\n(C) three\n(D) four\n(E) some text",
    "lines with colons": "Which?\nA: one\nB: two\nC: three\nD: four\nE: some text",
    "bullets": "Which?\n\n- A. one\n- B. two\n- C. three\n- D. four\n- E. some text",
    "bold": "Which?\n**A.** one\n**B.** two\n**C.** three\n**D.** four\n**E.** some text",
    "bold brackets": "Which?\n**(A)** one\n**(B)** two\n**(C)** three\n**(D)** four\n**(E)** some text",
    "one line": "Which? (A) one (B) two (C) three (D) four (E) some text",
    "one line with brackets": "Which? A) one B) two C) three D) four E) some text",
    "enumerated": "Which? A. one; B. two; C. three; D. four; E. some text",
    "tabs": "Which?\tA. one\tB. two\tC. three\tD. four\tE. some text",
    "square brackets": "Which? [A] one [B] two [C] three [D] four [E] some text",
    "Chinese": "哪一个？\nA．one\nB．two\nC．three\nD．four\nE．some text",
    "Chinese commas": "哪一个？\nA、one\nB、two\nC、three\nD、four\nE、some text",
    "Chinese on one line": "哪一个？ A. one  B. two  C. three  D. four  E. some text",
    "Chinese brackets": "哪个？（A）one（B）two（C）three（D）four（E）some text",
    "a request behind it": "Which?\n(A) one\n(B) two\n(C) three\n(D) four\n(E) some text\n\nAnswer:",
    "behind a formula": "\\[z = c.\\](A) one\n(B) two\n(C) three\n(D) four\n(E) some text",
    "points before it": "Of (A) and (B)?\nA) one\nB) two\nC) three\nD) four\nE) some text",
    "LaTeX": "Which?\n$\\textbf{(A)}\\ one\\qquad\\textbf{(B)}\\ two\\qquad \\textbf{(C) } three$ "
    "$\\textbf{(D)}\\ four\\qquad\\textbf{(E)}\\ some text$",
}


@pytest.mark.parametrize("question", LISTS.values(), ids=LISTS.keys())
def test_a_letter_of_a_list_in_the_question_is_a_choice(question: str, tmp_path: Path) -> None:
    assert listed_choices(question) == FIVE
    for gold in ("E", "(E)", "\\text{E}", "**E**", "E.", "E: some text"):
        problem = read(tmp_path, question, gold)
        assert (problem.verifier, problem.spec) == ("choice", {"answer": "E", "choices": FIVE})
        assert problem.prompt == question
        assert gold_complaint(problem) is None
    for answer in ("E", "(E)", "E: some text", "some text", "The answer is E."):
        assert verify_choice(answer, problem.spec).outcome is Outcome.CORRECT
    assert verify_choice("D", problem.spec).outcome is Outcome.WRONG


@pytest.mark.parametrize(
    ("question", "answer", "verifier"),
    [
        ("Which grade did she get?", "A", "exact"),
        ("Which letter comes after D?", "E", "exact"),
        ("Points A, B and C lie on a line. Which is in the middle?", "B", "exact"),
        ("Let f(A) and f(B) be sets. Which is larger?", "A", "exact"),
        ("Vitamin A. Vitamin B. Which is soluble?", "A", "exact"),
        ("Which?\n(A) one\n(B) two", "E", "exact"),
        ("Which?\n(A) one", "A", "exact"),
        ("Which?\n(A) one\n(B) two", "two", "exact"),
        ("Which?\n(A) 1\n(B) 2", "2", "number"),
        ("Find both.\n(A) one\n(B) two", "A: 5, B: 6", "exact"),
        ("Which?\n(A) one\n(B) two", "A and B", "exact"),
        ("Which?\n(A) one\n(B) two", "AB", "exact"),
        ("Which?\n(A) one\n(B) two", "a", "exact"),
        ("Which?\n(A) one\n(B) two", "\\alpha", "math"),
        ("Solve.\n(A) $x=1$\n(B) $x=2$", "x = 2", "math"),
    ],
)
def test_other_answers_keep_their_verifier(question: str, answer: str, verifier: str, tmp_path: Path) -> None:
    assert read(tmp_path, question, answer).verifier == verifier


def test_a_verifier_that_was_asked_for_is_kept(tmp_path: Path) -> None:
    question = LISTS["one line"]
    assert read(tmp_path, question, "E", verifier="exact").verifier == "exact"
    assert read(tmp_path, question, "\\text{(E)}", verifier="math").verifier == "math"


def test_a_list_with_a_choice_that_cannot_be_read_is_one_of_letters() -> None:
    question = "Which picture? (A) (B) (C)"
    assert listed_choices(question) == ["", "", ""]
    assert listed_choice(question, "(B)") == {"answer": "B"}


@pytest.mark.parametrize("form", ["", "Ethanol", "E5", "e", "K", "AB", "E or D", "E, D", "5", "E.5"])
def test_what_is_no_letter_is_none(form: str) -> None:
    assert labelled_letter(form) is None


@pytest.mark.parametrize(
    "piece", ["(A)", "A.", "A. ", "\n", "{", "\\text{", "**", " ", "quad", "(A) (B) ", "\\ "]
)
def test_a_megabyte_of_labels_is_read_at_once(piece: str) -> None:
    start = time.process_time()
    listed_choice(piece * (1_000_000 // len(piece)), "A" * 1_000_000)
    listed_choice(piece * (1_000_000 // len(piece)), "A")
    assert time.process_time() - start < 10
