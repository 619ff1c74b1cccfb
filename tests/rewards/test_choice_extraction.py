"""The choice that is stated in prose: read where one is stated, and nowhere else."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerone.evals.asking import Form, answer_of
from zerone.rewards.choice import letter_of
from zerone.rewards.choice_extraction import find_choice
from zerone.rewards.scoring import score_row
from zerone.types import Problem

STATED = [
    ("Final Answer: C", "C"),
    ("**Answer:**\n\n**C**", "C"),
    ("Answer:\nC", "C"),
    ("**Final Answer**\n\nC", "C"),
    ("The correct answer is C.", "C"),
    ("The answer is: C", "C"),
    ("Option C is correct.", "C"),
    ("We compute F = ma.\n\nTherefore, the force acts as described in option (C), as required.", "C"),
    ("Therefore the particle moves left, which is option (C).", "C"),
    ("答案：C", "C"),
    ("因此，正确答案是 C。", "C"),
    ("经过计算，可知其值为3。\n\n因此，正确答案是 C。", "C"),
    ("The velocity is 3 m/s. So the answer is C, since A and B violate conservation.", "C"),
    ("The answer is C because options A, B and D are incorrect.", "C"),
    ("First I thought A. The answer is A. Wait, that's wrong. The answer is D.", "D"),
    ("The answer is B.\n\nActually, option D is correct.", "D"),
    ("The answer is A. No, it's B.", "B"),
    ("Answer: A\nNo.\nanswer: D.", "D"),
    ("A is wrong. B is wrong. D is wrong. Only option C remains.", "C"),
    ("Let's see.\n\nC", "C"),
    ("Let's see.\n\n**C**", "C"),
    ("C\n\nBecause the others fail on A and B.", "C"),
    ("I choose C.", "C"),
    ("So I would pick option (C).", "C"),
    ("故选C。", "C"),
    ("本题选 C", "C"),
    ("综上所述，应选(C)。", "C"),
    ("选项C正确。", "C"),
    ("所以正确的选项是C", "C"),
    ("The correct option is (C) 42 m.", "C"),
    ("The best choice would be C.", "C"),
    ("The right answer must be option C.", "C"),
    ("Hence, the final answer is $\\boxed{C}$.", "C"),
    ("The final answer is \\boxed{\\text{C}}", "C"),
    ("The final answer is \\(\\boxed{\\text{(C)}}\\).", "C"),
    ("The answer to the question is **C**.", "C"),
    ("The answer is **C) 42 m**.", "C"),
    ("My final answer: C", "C"),
    ("ANSWER: C", "C"),
    ("Ans: (C)", "C"),
    ("answer = C", "C"),
    ("Answer: $C$", "C"),
    ("### Answer\n\nC", "C"),
    ("### Final Answer:\n**(C)**", "C"),
    ("Thus, the correct answer is indeed C.", "C"),
    ("So, it's C.", "C"),
    ("Thus, (C) is the answer.", "C"),
    ("(C) is correct.", "C"),
    ("C is the correct answer because of the law.", "C"),
    ("Therefore, (C).", "C"),
    ("Hence option C.", "C"),
    ("The answer is c.", "C"),
    ("the correct answer is (c).", "C"),
    ("Correct answer: C. 42 m", "C"),
    ("**Answer: C. 42 m**", "C"),
    ("Answer: Option C", "C"),
    ("I think the correct answer is C.", "C"),
    ("I believe option C is correct.", "C"),
    ("正确答案：**C**", "C"),
    ("答案为C。", "C"),
    ("答案应该是C", "C"),
    ("最终答案：\\boxed{C}", "C"),
    ("【答案】C", "C"),
    ("答案：\n\nC", "C"),
    ("因此选C。", "C"),
    ("C选项正确", "C"),
    ("C是正确答案。", "C"),
    ("我选择C。", "C"),
    ("答案是(C)。", "C"),
    ("因此,选项C是正确的。", "C"),
    ("所以答案选C", "C"),
    ("A项错误，B项错误，C项正确，D项错误。", "C"),
    ("A错误。B错误。D错误。故选C。", "C"),
    ("The answer is (C) - the third one.", "C"),
    ("Answer:C", "C"),
    ("Answer: C\n\nExplanation: A is wrong because B holds.", "C"),
    ("Option A is incorrect. Option B is incorrect. Option C is correct. Option D is incorrect.", "C"),
    ("The correct answer is C, not B.", "C"),
    ("The answer is C rather than B.", "C"),
    ("<answer>C</answer>", "C"),
    ("So <answer>\nC\n</answer>", "C"),
    ("The correct answer is:\n\nC. 42 m", "C"),
    ("The correct answer is\n\nC", "C"),
    ("Therefore, the correct choice is: **C**", "C"),
    ("The answer is C. I hope this helps!", "C"),
    ("The correct answer is C) because... the other options A) and D) are too small.", "C"),
    ("Answer: C (42 m)", "C"),
    ("Therefore, the answer is option C: 42 m.", "C"),
    ("We are left with option C.", "C"),
    ("This matches option C.", "C"),
    ("This corresponds to choice (C).", "C"),
    ("The answer should be D, not C", "D"),
    ("So the best answer is clearly B, although A is tempting.", "B"),
    ("The answer is D: both B and C.", "D"),
    ("The correct answer is A and it follows from the law.", "A"),
    ("Among the options, only (C) fits.", "C"),
    ("The answer is B. Option B is correct because A, C and D are smaller.", "B"),
    ("Answer: B. Hmm, let me check. Yes, it holds.", "B"),
    ("I think A at first. But option B is the best answer.", "B"),
    ("First, (A) is false. Second, (B) is false. Therefore, the answer is (C).", "C"),
    ("Final answer: D. None of the above", "D"),
    ("最终答案是：D。", "D"),
    ("答案：C。因为A和B都不对。", "C"),
    ("所以，答案是 B，而不是 A。", "B"),
    ("The correct answer is option (D) because A only holds if x>0.", "D"),
    ("**Final Answer: (B)**", "B"),
    ("> **Answer: B**", "B"),
    ("- Answer: B", "B"),
    ("__Answer:__ B", "B"),
    ("Answer:\t B", "B"),
    ("Answer : B", "B"),
    ('Answer: "B"', "B"),
    ("Answer: [B]", "B"),
    ("The answer is 'B'.", "B"),
    ("ＡＮＳＷＥＲ：Ｂ", "B"),
    ("The answer is A.\n\nWait, I made a mistake. The answer is B.", "B"),
    ("答案是A。不对，应该是B。", "B"),
    ("答案是A。等等，重新计算，答案是B。", "B"),
    ("Answer: A\n\nCorrection: Answer: B", "B"),
    ("\\boxed{A}\n\nOops, \\boxed{B}", "B"),
    ("Option A is correct. Wait, no: option B is correct.", "B"),
    ("So the correct answer choice is C.", "C"),
    ("I'm confident the answer is C.", "C"),
    ("This means that the answer is C!", "C"),
    ("Answer: **Option C**", "C"),
    ("Therefore, **C** is the correct answer.", "C"),
    ('Thus the answer should be "C".', "C"),
    ("Putting it together, C is correct.", "C"),
    ("Hence, C", "C"),
    ("Therefore C.", "C"),
    ("So C.", "C"),
    ("Based on the above, the correct response is C.", "C"),
    ("The correct answer, therefore, is C.", "C"),
    ("The correct answer (after checking) is C.", "C"),
    ("Out of these, the best answer is C", "C"),
    ("$\\textbf{Answer: } \\mathbf{C}$", "C"),
    ("\\[\\boxed{\\mathrm{C}}\\]", "C"),
    ("Final answer: $\\text{C}$.", "C"),
    ("**Final answer:** (C) 3 m/s", "C"),
    ("The final answer is: $\\boxed{\\textbf{(C)}\\ 42}$", "C"),
    ("答案是 **C**", "C"),
    ("选择 C 选项。", "C"),
    ("因此本题的正确答案为选项 C。", "C"),
    ("所以，选C。", "C"),
    ("应该选 C。", "C"),
    ("本题答案：C。", "C"),
    ("答案为 (C)。", "C"),
    ("正确答案：C. 细胞", "C"),
    ("综上，C 项正确。", "C"),
    ("综上所述，正确选项为 C。", "C"),
    ("故正确答案为C项。", "C"),
    ("答：C", "C"),
    ("解：……故答案为：C．", "C"),
    ("故选：C．", "C"),
    ("故选 C", "C"),
    ("【答案】 C 【解析】略", "C"),
    ("答案：(C) 因为光速不变。", "C"),
    ("正确的是 C。", "C"),
    ("A 不对，B 不对，D 不对，所以选 C。", "C"),
    ("We can rule out A and B. D is impossible. The answer is C.", "C"),
    ("A: wrong\nB: wrong\nC: right\nD: wrong\n\nAnswer: C", "C"),
    ("Looking at the options:\nA) no\nB) no\nC) yes\nD) no\nThe correct option is C)", "C"),
    ("The answer is C\n\nA is wrong because ...\nB is wrong because ...\nD is wrong because ...", "C"),
    ("Answer: C\nReasoning: if A were true, B would follow.", "C"),
    ("The answer is option (c).", "C"),
    ("answer: c", "C"),
    ("(c) is correct", "C"),
    ("So it must be C.", "C"),
    ("That leaves option C.", "C"),
    ("Answer: C.\nConfidence: 90%", "C"),
    ("The answer is C with probability 0.9.", "C"),
    ("C.", "C"),
    ("C)", "C"),
    ("(C).", "C"),
    ("Option C", "C"),
    ("option c", "C"),
    ("C - Paris", "C"),
    ("C: Paris", "C"),
    ("Initially I thought B, but the correct answer is C.", "C"),
    ("I first chose A, however the right answer is D.", "D"),
    ("Answer: A\n\nOn second thought, the answer is B.", "B"),
    ("The answer is (B). Let me double-check: yes.", "B"),
    ("The answer is A... wait, actually B. So the final answer is B.", "B"),
    ("Thus, statement C is true and the answer is C.", "C"),
    ("Hence the answer is D. All of the above.", "D"),
    ("The answer is D) All of the above.", "D"),
    ("Answer: D (both A and B)", "D"),
    ("The correct answer is D, both A and B are correct.", "D"),
]

NOT_STATED = [
    "A or B",
    "The answer is A or B.",
    "The answer is A and B.",
    "The answer is either A or B.",
    "Answer: A, B",
    "答案：A或B",
    "答案是A和B",
    "答案是A、B",
    "选A还是B",
    "Options A and B are wrong.",
    "We can eliminate A, B, and D.",
    "Therefore, we rule out option (C).",
    "Therefore option C is wrong.",
    "So option A cannot be true.",
    "The answer is not A.",
    "答案不是C",
    "不选C",
    "排除A、B、D",
    "A is wrong. B is wrong. D is wrong.",
    "Option A is correct. Option B is correct.",
    "I do not know.",
    "The answer is probably C.",
    "Maybe the answer is C?",
    "Is the answer C?",
    "The answer is C?",
    "Answer: C or maybe D",
    "The answer could be A.",
    "If option C is correct, then A is wrong.",
    "One might think option B is correct.",
    "The answer is 42.",
    "The answer is A large number.",
    "A. Paris\nB. London\nC. Rome\nD. Bonn",
    "Answer choices:\nA) 1\nB) 2\nC) 3\nD) 4",
    "Let A be a matrix and B its inverse. Then C = AB.",
    "The answer is C. Wait, that's wrong.",
    "选项A错误，选项B错误。",
    "The incorrect answer is A.",
    "The wrong answer is A.",
    "Therefore f(A) = 3.",
    "Answer:",
    "",
    "Option A is not correct.",
    "Neither A nor B is correct.",
    "The answer is B or C, I am not sure.",
    "Both A and C are correct.",
    "Answer: A / C",
    "The answers are A, C and D.",
    "I would not choose C.",
    "Don't pick A.",
    "The answer isn't A.",
    "\\boxed{A, B}",
    "\\boxed{A} or \\boxed{B}",
    "Option (A) is wrong",
    "Let's pick A as the starting point.",
    "We choose A as the origin.",
    "选项：\nA. 1\nB. 2\nC. 3",
    "选项:A、B、C、D",
    "\\boxed{A} and \\boxed{B}",
    "The answer can't be A.",
    "A and B are both plausible.",
    "\\boxed{E} or D?",
    "The answer is A, B.",
    "The answer is A/B",
    "Answer: A&B",
    "Answer: AB",
    "Answer: A and possibly B",
    "答案是A吗",
    "答案可能是A",
    "如果选项A正确，则B错误。",
    "A不正确",
    "选项A是不正确的",
    "We must exclude option (B), leaving A and C.",
    "The answer is C, but it might be D.",
    "The answer is C or D",
    "the answer is a large number",
    "The answer is in option list",
    "Is it A? Is it B?",
    "Both (A) and (B) are correct.",
    "Therefore, both (A) and (C).",
    "So A or C.",
    "Answer: none",
    "Answer: None of these",
    "None of the options is correct.",
    "It is not C. It is not D.",
    "The answer is A? No.",
    "The answer is neither A nor B.",
    "Options B, C and D are incorrect.",
    "So A is out. B is out.",
    "A is eliminated. B is eliminated.",
    "We exclude A and D.",
    "It's between B and C.",
    "It is either B or C.",
    "I'd guess B or C.",
    "Not A. Not B.",
    "The answer is B/C.",
    "B and C are correct.",
    "A, B, C",
    "ABCD",
    "答案是A或者B",
    "答案：AB",
    "答案：A、C",
    "A和B都对",
    "A、B错误",
    "可能是A",
    "不是A",
    "答案不是A，也不是B",
    "不应该选A",
    "排除A",
    "因此排除A",
    "选项A、B、C都不正确。",
    "The answer depends on A.",
    "Consider option C.",
    "What about option C?",
    "Let us check option C: it fails.",
    "Option C looks plausible.",
    "Suppose the answer is C.",
    "If the answer is C, then x=2.",
    "The answer would be C if x>0, else D.",
    "Let's see whether the answer is C.",
    "Why is option A correct?",
    "Vitamin C is an acid.",
    "Plan B is cheaper.",
    "Type A blood.",
    "In case C, x=3.",
    "Therefore, set C contains A.",
    "Thus triangle ABC is right.",
    "So angle C = 90.",
    "Hence, by Theorem B, x = 2.",
    "The student who answered C is wrong.",
    "It cannot be C.",
    "Answer: I don't know",
    "Answer: unknown",
    "Answer: 3",
    "The correct answer is 3.",
    "The answer is Ca.",
    "The answer is BC.",
    "The answer is D-glucose",
    "Answer: A-bomb",
    "Answer - C",
]


def read(text: str, choices: tuple[str, ...] = ()) -> str | None:
    """Return the letter that the verifier sees of a completion."""
    found = find_choice(text, choices)
    return None if found is None else letter_of(found, choices)


@pytest.mark.parametrize(("text", "letter"), STATED)
def test_a_choice_that_is_stated_in_prose_is_found(text: str, letter: str) -> None:
    assert read(text) == letter


@pytest.mark.parametrize(("text", "letter"), STATED)
def test_it_is_found_behind_reasoning_in_evaluation_and_in_scoring(text: str, letter: str) -> None:
    completion = f"<think>Answer: A? Or B, C, D.</think>\n\n{text}"
    problem = Problem(
        id="p", family="f", level=1, language="en", prompt="?", verifier="choice", spec={"answer": letter}
    )
    found = answer_of(problem, completion, Form(is_chat=True))
    assert found is not None and letter_of(found) == letter
    for gold in "ABCD":
        row = {"id": 1, "verifier": "choice", "answer": gold, "completion": completion}
        assert score_row(row)["outcome"] == ("correct" if gold == letter else "wrong")


@pytest.mark.parametrize("text", NOT_STATED)
def test_a_choice_that_is_not_stated_is_not_guessed(text: str) -> None:
    assert read(text) is None
    row = {"id": 1, "verifier": "choice", "answer": "A", "completion": f"<think>A</think>{text}"}
    assert score_row(row)["outcome"] == "unparsable"


CITIES = ("Paris", "London, the capital", "Vitamin C", "none of these")


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("The correct answer is London, the capital.", "B"),
        ("**Answer:** London, the capital", "B"),
        ("It is an island. So the answer is **B) London, the capital**.", "B"),
        ("It is an island.\n\nB. London, the capital", "B"),
        ("B. London, the capital\n\nIt is an island.", "B"),
        ("The answer is \\boxed{\\text{London, the capital}}", "B"),
        ("So <answer>London, the capital</answer>", "B"),
        ("The answer is A. London, the capital", None),
        ("The answer is A) London, the capital.", None),
        ("The answer is E.", None),
        ("\\boxed{E}", None),
        ("Option E is correct.", None),
        ("The answer is C: Vitamin C.", "C"),
        ("The answer is D, none of these.", "D"),
        ("Vitamin C is an acid. The answer is D.", "D"),
        ("A. Paris\nB. London, the capital\nC. Vitamin C\nD. none of these\n\nThe answer is C.", "C"),
        ("A. Paris\nB. London, the capital\nC. Vitamin C\nD. none of these", None),
        ("Option C is correct. $\\boxed{3.2}$", "C"),
        ("Paris", "A"),
        ("Rome", None),
    ],
)
def test_the_texts_of_the_choices_are_known(text: str, letter: str | None) -> None:
    assert read(text, CITIES) == letter


STRONG_FORMS = ["The answer is {}.", "Answer: {}", "答案：{}。", "\\boxed{{{}}}"]


@given(
    first=st.sampled_from("ABCD"),
    last=st.sampled_from("ABCD"),
    cue=st.sampled_from(["Wait, that is wrong.", "No.", "Correction:", "不对，", "Actually,", "\n\n"]),
    forms=st.tuples(st.sampled_from(STRONG_FORMS), st.sampled_from(STRONG_FORMS)),
)
def test_a_later_correction_wins(first: str, last: str, cue: str, forms: tuple[str, str]) -> None:
    assert read(f"{forms[0].format(first)}\n{cue}\n{forms[1].format(last)}") == last


@given(
    letters=st.lists(st.sampled_from("ABCD"), min_size=2, max_size=4, unique=True),
    form=st.sampled_from([*STRONG_FORMS, "I choose {}.", "{}"]),
    glue=st.sampled_from([" or ", " and ", ", ", "/", " 或 ", "、", " 和 "]),
)
def test_several_letters_are_no_answer(letters: list[str], form: str, glue: str) -> None:
    assert read(form.format(glue.join(letters))) is None


SCRAPS = [
    "A",
    "(B)",
    "C.",
    "option ",
    "answer is ",
    "not ",
    ", ",
    "\n",
    "Wait, ",
    "选",
    "\\boxed{C}",
    "<answer>",
]


@given(st.lists(st.sampled_from(SCRAPS)).map("".join) | st.text(max_size=60))
def test_what_is_found_is_one_letter(text: str) -> None:
    found = find_choice(text)
    assert found is None or letter_of(found) is not None


PIECES = [
    "answer ",
    "A is correct, ",
    "the answer is A or ",
    "\\boxed{A} ",
    "\\boxed{",
    "wait, ",
    "选A",
    "答案是",
]
PIECES += ["**", "(", "A\n", "I choose A. ", "<answer>", "only option ", "\u0301", "\ufdfa", "\ue000"]


@pytest.mark.parametrize("piece", PIECES)
def test_a_megabyte_of_statements_is_read_at_once(piece: str) -> None:
    """At most half a second; only the end of a long text is read."""
    start = time.process_time()
    find_choice(piece * (1_000_000 // len(piece)))
    assert time.process_time() - start < 5
