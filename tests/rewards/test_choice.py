"""Choice questions: one letter and no doubt about it, or nothing."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerone.data.choices import LETTERS, choice_prompt
from zerone.data.jsonl import Fields, read_problems
from zerone.rewards.accuracy import verify_choice
from zerone.rewards.choice import gold_letter, letter_of
from zerone.rewards.ground_truth import gold_complaint
from zerone.types import Outcome

MMLU = Path(__file__).parents[3] / "shared" / "data" / "mmlu_stem.jsonl"
CHOICES = ["Paris", "London, the capital", "Vitamin C", "none of these"]


@pytest.mark.parametrize(
    "answer",
    [
        "B",
        "b",
        " B \n",
        "(B)",
        "[B]",
        "B.",
        "B)",
        "(B).",
        "**B**",
        "`B`",
        "$B$",
        r"\(B\)",
        r"\boxed{B}",
        r"\text{(B)}",
        r"$\boxed{\text{B}}$",
        "The answer is B",
        "the answer is (B).",
        "Answer: B",
        "**Answer: B**",
        "The correct answer is: **B**",
        "Final answer: $\\boxed{B}$",
        "Option B",
        "choice B.",
        "So the best option is B",
        "\uff22",
        "(\uff22)",
        "答案是B",
        "答案：B。",
        "正确答案为 B",
        "选B",
        "因此选择B",
        "B. London, the capital",
        "(B) London, the capital",
        "B: london, the capital.",
        "London, the capital",
        "The answer is London, the capital",
        "B. It is the only one with a comma",
    ],
)
def test_one_letter_is_read_in_many_forms(answer: str) -> None:
    assert letter_of(answer, CHOICES) == "B"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("", "nothing"),
        ("E", "no such choice"),
        ("A or B", "two letters"),
        ("A, B", "two letters"),
        ("AB", "two letters"),
        ("A/B", "two letters"),
        ("(A) (B)", "two letters"),
        ("A\nB", "two letters"),
        ("A B C D", "all letters"),
        ("Answer A and B", "two letters"),
        ("The answer is A. Or B.", "two letters"),
        ("A. Paris, not B", "a second letter"),
        ("not B", "a denial"),
        ("B?", "a doubt"),
        ("B maybe", "a doubt"),
        ("I think B", "not a form that is read"),
        ("A. London, the capital", "the letter and the text of different choices"),
        ("A. It is not London, the capital", "quotes another choice"),
        ("C. Vitamin B", "names another letter"),
        ("Vitamin", "a part of a choice"),
        ("a dog", "an article"),
        ("\u0412", "Cyrillic"),
        ("\u0391", "Greek"),
        ("1", "a number"),
        ("B" * 3000, "far too long"),
        ("\x00", "no text"),
    ],
)
def test_an_answer_in_doubt_names_no_letter(answer: str, reason: str) -> None:
    assert letter_of(answer, CHOICES) is None, reason


@pytest.mark.parametrize(
    "answer",
    [
        "B is correct",
        "b is correct.",
        "(B) is correct",
        "**B** is the answer",
        "Option B is correct",
        "Option B is the right one",
        "B is the answer",
        "B must be the correct answer",
        "B is the best option, as it has no vitamins",
        "b) London",
        "(b) London",
        "B - London",
        "The answer is option b) London",
        "The answer must be B",
        "The answer has to be (B).",
        "I think the answer is B",
        "I believe that the correct answer is (B).",
        "Ans. B",
        "Ans: B",
        "应选B",
        "故选B。",
        "选择B项",
        "选B项",
        "因此，应选B",
        "答案应该是B",
        "B项正确",
        "B是正确答案",
        "B. 因为它最大",
    ],
)
@pytest.mark.parametrize("choices", [(), ("Paris", "London", "Rome", "Berlin")])
def test_a_letter_is_read_with_words_that_stand_by_it(answer: str, choices: tuple[str, ...]) -> None:
    assert letter_of(answer, choices) == "B"


@pytest.mark.parametrize(
    "answer",
    [
        "(A) is wrong",
        "(A) isn't it",
        "A. is not correct",
        "A isn't correct",
        "A is not the answer",
        "A is the wrong answer",
        "A is the only one not correct",
        "A is correct?",
        "A is correct, maybe",
        "A is correct. B is correct",
        "Is A correct?",
        "(A)?",
        "(A)\uff1f",
        "A. maybe",
        "A. I guess",
        "A. just a guess",
        "A: no, wait",
        "A. not",
        "A...",
        "(A) or (b)",
        "(a) or (b)",
        "A, b",
        "A, a and b",
        "A. 12 or 15",
        "A. Paris is wrong",
        "I think the answer is A or B",
        "The answer is not A",
        "The answer must not be A",
        "I think A",
        "A-bomb",
        "C-section",
        "A.London",
        "A Dog",
        "C Major",
        "不选A",
        "不应选A",
        "A项错误",
        "A. 不对",
        "A. 可能",
        "A。吗",
    ],
)
@pytest.mark.parametrize("choices", [(), ("Paris", "London", "Rome", "Berlin")])
def test_a_denial_a_doubt_or_an_alternative_names_no_letter(answer: str, choices: tuple[str, ...]) -> None:
    assert letter_of(answer, choices) is None


@pytest.mark.parametrize(
    ("answer", "choices", "letter"),
    [
        ("B London", ["Paris", "London"], "B"),
        ("B.London", ["Paris", "London"], "B"),
        ("The answer is B London.", ["Paris", "London"], "B"),
        ("B London", ["Paris", "London, England"], None),
        ("A London", ["Paris", "London"], None),
        ("A dog", ["cat", "dog"], None),
        ("B London", (), None),
        ("B London", ["B London", "London"], None),  # the text of A, the letter of B
        ("B cells", ["B cells", "T cells"], "A"),
        ("A. 12 or 15", ["12 or 15", "12", "15"], "A"),
        ("A. 12 or 15. Both solve it", ["12 or 15", "12", "15"], "A"),
        ("A. 12 or 15", ["12", "15"], None),
        ("A. Maybe", ["Maybe", "Yes", "No"], "A"),
        ("B. No", (), "B"),
        ("D. None of the above", (), "D"),
        ("E is correct", ["Paris", "London"], None),
        ("a is correct", ["error", "a"], "B"),
    ],
)
def test_a_choice_known_by_its_text_settles_what_its_letter_leaves_open(
    answer: str, choices: list[str], letter: str | None
) -> None:
    assert letter_of(answer, choices) == letter


def test_a_choice_that_is_a_small_letter_is_meant_by_it() -> None:
    choices = ["error", "a", "b", "c"]
    assert [letter_of(text, choices) for text in ("a", "A", "c", "C", "D", "error")] == list("BADCDA")


def test_two_equal_choices_are_never_meant_by_their_text() -> None:
    assert letter_of("same", ["same", "same", "other"]) is None


@pytest.mark.parametrize(
    ("gold", "letter"), [("C", "C"), ("(c)", "C"), (2, "C"), (0, "A"), ("Vitamin C", "C"), ("Paris", "A")]
)
def test_a_gold_is_a_letter_a_position_or_a_text(gold: object, letter: str) -> None:
    assert gold_letter(gold, CHOICES) == letter


@pytest.mark.parametrize("gold", [4, -1, True, "E", "", None, 2.0, "Rome", "A or B"])
def test_a_gold_that_names_no_choice_is_an_error(gold: object) -> None:
    with pytest.raises(ValueError, match="names none of 4 choices"):
        gold_letter(gold, CHOICES)


@given(text=st.text(max_size=60) | st.lists(st.sampled_from("ABCD().:* or\n"), max_size=9).map("".join))
def test_an_answer_is_right_for_at_most_one_gold(text: str) -> None:
    outcomes = [verify_choice(text, {"answer": letter, "choices": CHOICES}).outcome for letter in LETTERS[:4]]
    assert outcomes.count(Outcome.CORRECT) <= 1
    assert (Outcome.CORRECT in outcomes) == (Outcome.UNPARSABLE not in outcomes)


@given(
    chosen=st.sets(st.sampled_from(LETTERS[:4]), min_size=2),
    glue=st.sampled_from([" ", ", ", " or ", "/", ""]),
)
def test_naming_several_letters_never_earns(chosen: set[str], glue: str) -> None:
    assert letter_of(glue.join(sorted(chosen)), CHOICES) is None


@pytest.mark.parametrize("piece", ["A", "$", "\\text{", "{", "*", "(", "answer is ", "\u0301"])
def test_a_megabyte_is_refused_at_once(piece: str) -> None:
    assert letter_of(piece * 1_000_000, CHOICES) is None
    assert letter_of(piece * (1999 // len(piece)), CHOICES) is None


def test_choices_are_shown_under_their_letters() -> None:
    prompt = choice_prompt("Where?", ["Paris", "Rome"], "en")
    assert prompt.splitlines()[:3] == ["Where?", "A. Paris", "B. Rome"]
    assert "一个选项" in choice_prompt("哪里？", ["Paris", "Rome"], "zh")


@pytest.mark.skipif(not MMLU.exists(), reason="the published MMLU file is not here")
def test_mmlu_is_read_as_published() -> None:
    file = read_problems(MMLU, Fields(prompt="question"))
    assert len(file.problems) + file.num_duplicates == 3018
    assert {problem.verifier for problem in file.problems} == {"choice"}
    assert not any(map(gold_complaint, file.problems))
    assert "\nD. " in file.problems[0].prompt


@pytest.mark.skipif(not MMLU.exists(), reason="the published MMLU file is not here")
def test_every_form_of_every_mmlu_answer_is_right_and_no_other_letter_is() -> None:
    for line in MMLU.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        own = record["choices"][record["answer"]]
        letter = LETTERS[record["answer"]]
        for text in (letter, f"({letter})", f"{letter}. {own}", f"The answer is {letter}."):
            assert verify_choice(text, record).outcome is Outcome.CORRECT, text
        for other in set("ABCD") - {letter}:
            assert verify_choice(other, record).outcome is Outcome.WRONG
