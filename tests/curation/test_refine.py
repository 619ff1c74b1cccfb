"""The rule-based refiner: first person, tidy wording, a faithful summary with the answer."""

import pytest

from zerone.corpus.words import WORDS
from zerone.curation.drafts import Draft
from zerone.curation.few_shot import read_plain
from zerone.curation.filters import Limits, reason_against
from zerone.curation.refine import first_person, refine_by_rules, tidy
from zerone.prompts.r1 import Style, parse_completion, write_completion
from zerone.types import Problem

CHAIN = "40+10=50 check 50-10=40\n50*2=101 check 101/2 wrong\nwait 50*2=100 check 100/2=50\n100-1=99"


def problem(language: str = "en", verifier: str = "number", answer: str = "99") -> Problem:
    return Problem(
        id="p",
        family="arithmetic",
        level=5,
        language=language,
        prompt="?",
        verifier=verifier,
        spec={"answer": answer},
    )


def draft(thought: str, answer: str, **about: str) -> Draft:
    return Draft(
        problem=problem(**about),
        source="r1_zero",
        number=1,
        text=write_completion(thought, answer),
        style=Style.TAGS,
    )


def test_a_draft_becomes_a_thought_in_the_first_person_and_a_summary() -> None:
    (refined,) = refine_by_rules([draft(CHAIN, "99")], Style.BOXED)
    assert refined is not None
    assert refined.text == (
        f"<think>I work this out step by step.\n{CHAIN}</think>\nThe answer is \\boxed{{99}}."
    )
    assert refined.style is Style.BOXED
    assert reason_against(refined, Limits()) is None


def test_a_chinese_draft_stays_chinese() -> None:
    (refined,) = refine_by_rules([draft("40+59=99 对", "99", language="zh")], Style.BOXED)
    assert refined is not None
    assert refined.text.endswith("</think>\n答案是\\boxed{99}。")
    assert "我一步一步来算。" in refined.text
    assert reason_against(refined, Limits()) is None


@pytest.mark.parametrize("style", list(Style))
def test_every_style_is_well_formed(style: Style) -> None:
    (refined,) = refine_by_rules([draft(CHAIN, "99")], style)
    assert refined is not None
    assert parse_completion(refined.text, style).is_well_formed


def test_a_request_keeps_its_short_thought_and_its_answer_as_summary() -> None:
    (refined,) = refine_by_rules(
        [draft("This is about Ann.", "Good morning, Ann!", verifier="judge")], Style.BOXED
    )
    assert refined is not None
    assert refined.text == "<think>This is about Ann.</think>\nGood morning, Ann!"
    assert refined.style is Style.SUMMARY


def test_a_draft_without_answer_cannot_be_refined() -> None:
    bare = Draft(problem=problem(), source="s", number=0, text="<think>a</think>", style=Style.TAGS)
    assert refine_by_rules([bare, draft("a", "99")], Style.BOXED)[0] is None


@pytest.mark.parametrize(
    ("said", "refined"),
    [
        ("We are lost, we were wrong.", "I am lost, I was wrong."),
        ("Let's see: we're done and we'll stop.", "Let me see: I'm done and I'll stop."),
        ("It gives us our answer, ours alone.", "It gives me my answer, mine alone."),
        ("We aren't there, but we've tried.", "I am not there, but I've tried."),
        ("In the US were 3 wells, I think.", "In the US were 3 wells, I think."),
        ("We need 42.", "I need 42."),
    ],
)
def test_we_becomes_i(said: str, refined: str) -> None:
    assert first_person(said, problem()) == refined


def test_chinese_we_becomes_i() -> None:
    assert first_person("我们先算，让咱们看看。", problem("zh")) == "我先算，让我看看。"


def test_markup_and_repeated_lines_go_and_calculations_stay() -> None:
    said = "## Plan\n\n\n\n**First**,  I add:\n- the tens\n2*3=6\n2*3=6\n-5+7=2  \n> so"
    assert tidy(said) == "Plan\n\nFirst, I add:\nthe tens\n2*3=6\n-5+7=2\nso"


@pytest.mark.parametrize(
    "said",
    [
        "2**3 + 4**2 = 24",
        "return x**2 + y**2",
        "x ** 2 + y ** 2",
        "(-2)**3 + [1][0]**(2)",
        "f(**a, **b) and {**a,**b}",
        "__init__ calls __new__, then self.__x + self.__y",
        'if __name__ == "__main__": pass',
    ],
)
def test_powers_unpacking_and_names_of_python_stay(said: str) -> None:
    assert tidy(said) == said


@pytest.mark.parametrize(
    ("said", "plain"),
    [
        ("**Step 1:** add, **then** stop.", "Step 1: add, then stop."),
        ("**x = 2**, __not yet__ and __Note__:", "x = 2, not yet and Note:"),
        ("\u6211**\u5148**\u7b97 **2+3=5**", "\u6211\u5148\u7b97 2+3=5"),
    ],
)
def test_emphasis_goes(said: str, plain: str) -> None:
    assert tidy(said) == plain


@pytest.mark.parametrize(
    ("text", "solution"),
    [
        ("3+4=7 yes\nResult: 3+4", ("3+4=7 yes", "3+4")),
        ("3+4=7\nResult: 7\n\nProblem: next?\n1+1=2\nResult: 2", ("3+4=7", "7")),
        ("3+4=7", None),
        ("3+4=7\nResult: \n", None),
        ("Result: 7", None),
    ],
)
def test_plain_solutions_are_read_up_to_the_next_problem(text: str, solution: object) -> None:
    assert read_plain(text, WORDS["en"]) == solution


def test_programs_are_read_to_their_end() -> None:
    text = "I add one.\nResult: def f(x):\n    return x + 1\n\nProblem: next"
    found = ("I add one.", "def f(x):\n    return x + 1")
    assert read_plain(text, WORDS["en"], of_lines=True) == found
