"""Verifiers and the arithmetic under them: exact, bounded, and not to be crashed by any text."""

import ast
import re
import time
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes import number_problem
from scripted import member
from zerone.rewards.accuracy import VERIFIERS, verify_countdown, verify_exact, verify_number
from zerone.rewards.expressions import Expression, parse_expression, parse_number
from zerone.rewards.total import RewardWeights, grade, grade_all
from zerone.types import Outcome, Problem, Rollout

# Expressions --------------------------------------------------------------------------------------

HOSTILE = [
    "",
    "   ",
    "(",
    ")",
    "()",
    "3+",
    "*3",
    "3 4",
    "3(4)",
    "3**4",
    "2^10",
    "9**9**9**9",
    "9" * 13,
    "9" * 100_000,
    "(" * 100_000,
    "(" * 25 + "1" + ")" * 25,
    "1+" * 100_000 + "1",
    "1/0",
    "1/(2-2)",
    "1/(1/0)",
    "-3",
    "+3",
    "3--4",
    "3.5+1",
    "1e9",
    "1_000",
    "0x10",
    "x",
    "__import__('os')",
    "3+4=7",
    "3+4 # seven",
    "3;4",
    "3\x004",
    "\u0663+\u0664",
    "\uff13+\uff14",
    "\u00b2+1",
    "\u2460",
    "\u0967",
    "\U0001d7d8",
    "\ud800",
    "3+\u200b4",
    "nan",
    "inf",
    "True",
    "3//4",
    "7%4",
    "3,4",
    "[3]",
    "three plus four",
]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: repr(text)[:20])
def test_hostile_text_is_unparsable_and_costs_nothing(text: str) -> None:
    start = time.perf_counter()
    assert parse_expression(text) is None
    found = verify_countdown(text, {"numbers": [3, 4], "target": 7})
    assert (found.outcome, found.canonical) == (Outcome.UNPARSABLE, None)
    # Microseconds where it is bounded, minutes where it is not.
    assert time.perf_counter() - start < 0.5


@given(st.text(max_size=220))
def test_no_text_crashes_the_parsers(text: str) -> None:
    for verifier, spec in (
        (verify_countdown, {"numbers": [1, 2], "target": 3}),
        (verify_number, {"answer": "3"}),
        (verify_exact, {"answer": "three"}),
    ):
        assert verifier(text, spec).outcome in (Outcome.CORRECT, Outcome.WRONG, Outcome.UNPARSABLE)


@given(st.text(alphabet="0123456789+-*/() \u00d7\u00f7", max_size=40))
def test_text_that_looks_like_arithmetic_is_what_fractions_say_or_nothing(text: str) -> None:
    found = parse_expression(text)
    if found is not None:
        plain = text.replace("\u00d7", "*").replace("\u00f7", "/")
        assert found.value == _fraction(plain)


def _fraction(text: str) -> Fraction:
    """Evaluate by Python's own grammar: an independent reading of what the parser accepted."""

    def value(node: ast.expr) -> Fraction:
        if isinstance(node, ast.Constant):
            return Fraction(node.value)
        assert isinstance(node, ast.BinOp), ast.dump(node)
        left, right = value(node.left), value(node.right)
        return {
            ast.Add: lambda: left + right,
            ast.Sub: lambda: left - right,
            ast.Mult: lambda: left * right,
            ast.Div: lambda: left / right,
        }[type(node.op)]()

    # Python refuses leading zeros in numbers, which mean nothing here.
    plain = re.sub(r"\d+", lambda match: str(int(match[0])), text)
    return value(ast.parse(plain.strip(), mode="eval").body)


@st.composite
def expressions(draw: st.DrawFn, depth: int = 4) -> tuple[str, Fraction, tuple[int, ...]]:
    """Draw (text, value, numbers) together; every operation is in parentheses of its own."""
    if depth == 0 or draw(st.booleans()):
        number = draw(st.integers(0, 99))
        return str(number), Fraction(number), (number,)
    left, right = draw(expressions(depth=depth - 1)), draw(expressions(depth=depth - 1))
    operator = draw(st.sampled_from("+-*/" if right[1] else "+-*"))
    space = draw(st.sampled_from(["", " "]))
    return (
        f"({left[0]}{space}{operator}{space}{right[0]})",
        _apply(operator, left[1], right[1]),
        left[2] + right[2],
    )


def _apply(operator: str, left: Fraction, right: Fraction) -> Fraction:
    match operator:
        case "+":
            return left + right
        case "-":
            return left - right
        case "*":
            return left * right
        case _:
            return left / right


@given(expressions())
def test_expressions_have_the_value_that_fractions_give(drawn: tuple[str, Fraction, tuple[int, ...]]) -> None:
    text, value, numbers = drawn
    found = parse_expression(text)
    assert found is not None or len(text) > 200
    if found is not None:
        assert (found.value, found.numbers) == (value, numbers)


def parsed(text: str) -> Expression:
    found = parse_expression(text)
    assert found is not None, text
    return found


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1-2-3", -4),
        ("100/10/5", 2),
        ("2+3*4", 14),
        ("2*3+4*5", 26),
        ("10-4/2", 8),
        ("8/3*3", 8),
        ("1/3+1/3+1/3", 1),
        ("((((7))))", 7),
        ("007", 7),
        ("6\u00d77", 42),
        ("6\u22c57", 42),
        ("84\u00f72", 42),
        ("50\u22128", 42),
        ("\uff086+1\uff09*6", 42),
        (" 6 *\t7\n", 42),
        ("999999999999+1", 10**12),
        ("(" * 20 + "5" + ")" * 20, 5),
    ],
)
def test_precedence_associativity_and_spellings(text: str, value: int) -> None:
    assert parsed(text).value == value


@given(expressions(), expressions(), st.sampled_from("+*"))
def test_canonical_form_does_not_care_for_the_order_of_operands(
    one: tuple[str, Any, Any], other: tuple[str, Any, Any], operator: str
) -> None:
    texts = [f"{a}{operator}{b}" for a, b in ((one[0], other[0]), (other[0], one[0]))]
    forms = [parse_expression(text) for text in texts]
    if forms[0] is not None and forms[1] is not None:
        assert forms[0].canonical == forms[1].canonical


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("3+8", "8+3", True),
        ("(3+8)*2", "2*(8+3)", True),
        ("3 + 8", "(3+8)", True),
        ("07*2", "2*7", True),
        ("3-8", "8-3", False),
        ("3/8", "8/3", False),
        ("2+2", "2*2", False),
        ("2+3+4", "2+(3*4)", False),
    ],
)
def test_canonical_form_joins_and_parts_votes(one: str, other: str, is_same: bool) -> None:
    assert (parsed(one).canonical == parsed(other).canonical) is is_same


# Countdown ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        ("3*(8-5)/2", Outcome.WRONG),
        ("(3+5)*8", Outcome.CORRECT),
        ("8*3+8*5", Outcome.WRONG),
        ("64", Outcome.WRONG),
        ("(3+5)*8*1", Outcome.WRONG),
        ("8*8", Outcome.WRONG),
        ("(3+5)*8=64", Outcome.UNPARSABLE),
    ],
    ids=[
        "another value",
        "right",
        "a number twice",
        "the target itself",
        "a foreign number",
        "twice",
        "equation",
    ],
)
def test_countdown_wants_the_value_from_each_number_at_most_once(answer: str, outcome: Outcome) -> None:
    assert verify_countdown(answer, {"numbers": [3, 5, 8, 2], "target": 64}).outcome is outcome


def test_countdown_numbers_given_twice_may_be_used_twice_and_some_left_over() -> None:
    spec = {"numbers": [8, 8, 3], "target": 64}
    assert verify_countdown("8*8", spec).outcome is Outcome.CORRECT
    assert verify_countdown("8*8*8/8", spec).outcome is Outcome.WRONG


def test_countdown_takes_no_rounded_value() -> None:
    spec = {"numbers": [1, 3, 3], "target": 1}
    assert verify_countdown("1/3*3", spec).outcome is Outcome.CORRECT
    assert verify_countdown("3/3", spec).outcome is Outcome.CORRECT
    assert verify_countdown("3/3+1", spec).outcome is Outcome.WRONG


# Numbers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("7", Fraction(7)),
        (" 7 ", Fraction(7)),
        ("-7", Fraction(-7)),
        ("+7", Fraction(7)),
        ("\u22127", Fraction(-7)),
        ("7.0", Fraction(7)),
        ("0.1", Fraction(1, 10)),
        ("7.", Fraction(7)),
        ("1,234", Fraction(1234)),
        ("1,234,567.5", Fraction("1234567.5")),
        ("3/4", Fraction(3, 4)),
        ("6 / 8", Fraction(3, 4)),
        ("1.5/3", Fraction(1, 2)),
        ("-1/2", Fraction(-1, 2)),
        ("$5", Fraction(5)),
        ("\u20ac5", Fraction(5)),
        ("-\u00a55", Fraction(-5)),
        (".5", Fraction(1, 2)),
        ("20%", Fraction(20)),
        ("20%.", Fraction(20)),
        ("007", Fraction(7)),
        ("0", Fraction(0)),
        ("-0", Fraction(0)),
        ("9" * 40, Fraction(10**40 - 1)),
    ],
)
def test_numbers_are_read_exactly(text: str, value: Fraction) -> None:
    assert parse_number(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "%",
        "$",
        "seven",
        "7 apples",
        "1,23",
        "12,34,567",
        "1/0",
        "1/0.0",
        "1/2/3",
        "/2",
        "2/",
        "1e5",
        "1_000",
        "0x1f",
        "--7",
        "7-",
        "nan",
        "inf",
        "\u0667",
        "\uff17",
        "\u00b2",
        "9" * 41,
        "1" * 100_000,
        "7 8",
        "7\x00",
        "\ud800",
    ],
    ids=lambda text: repr(text)[:20],
)
def test_what_is_no_number_is_unparsable(text: str) -> None:
    assert parse_number(text) is None
    assert verify_number(text, {"answer": "7"}).outcome is Outcome.UNPARSABLE


@given(st.fractions(min_value=-1000, max_value=1000, max_denominator=500))
def test_fractions_are_read_back(value: Fraction) -> None:
    assert parse_number(f"{value.numerator}/{value.denominator}") == value


@given(st.integers(-(10**9), 10**9), st.integers(0, 10**6 - 1))
def test_thousands_separators_and_decimals_change_nothing(whole: int, decimals: int) -> None:
    text = f"{whole:,}.{decimals:06d}"
    sign = -1 if text.startswith("-") else 1
    assert parse_number(text) == sign * (abs(whole) + Fraction(decimals, 10**6))


def test_numbers_that_are_equal_vote_together() -> None:
    votes = {verify_number(text, {"answer": "0.5"}).canonical for text in ("1/2", "0.50", "2/4", ".5")}
    assert votes == {"1/2"}
    assert verify_number("1/2", {"answer": "0.5"}).outcome is Outcome.CORRECT
    assert verify_number("0.49", {"answer": "0.5"}).outcome is Outcome.WRONG


# Exact texts --------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", ["Paris", " paris\n", "PARIS"])
def test_exact_ignores_case_and_white_space_around(answer: str) -> None:
    assert verify_exact(answer, {"answer": "Paris"}).outcome is Outcome.CORRECT


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        ("Pari s", Outcome.WRONG),
        ("Paris.", Outcome.WRONG),
        ("", Outcome.UNPARSABLE),
        (" \n", Outcome.UNPARSABLE),
    ],
)
def test_exact_forgives_nothing_else(answer: str, outcome: Outcome) -> None:
    assert verify_exact(answer, {"answer": "Paris"}).outcome is outcome


def test_exact_counts_white_space_inside_as_one_space() -> None:
    assert verify_exact("new   York", {"answer": "New York"}).outcome is Outcome.CORRECT


# The whole reward ---------------------------------------------------------------------------------


def rollout_of(text: str, problem: Problem | None = None) -> Rollout:
    return member(text=text, problem=problem or number_problem(7)).rollout


WEIGHTS = RewardWeights(accuracy=1.0, format=0.1)


@pytest.mark.parametrize(
    ("text", "outcome", "parts", "reward"),
    [
        ("<think>a</think><answer>7</answer>", Outcome.CORRECT, (1.0, 1.0), 1.1),
        ("<think>a</think><answer>8</answer>", Outcome.WRONG, (0.0, 1.0), 0.1),
        ("<think>a</think><answer>seven</answer>", Outcome.UNPARSABLE, (0.0, 1.0), 0.1),
        ("<answer>7</answer>", Outcome.CORRECT, (1.0, 0.0), 1.0),
        ("7", Outcome.UNPARSABLE, (0.0, 0.0), 0.0),
        ("", Outcome.UNPARSABLE, (0.0, 0.0), 0.0),
    ],
)
def test_reward_is_the_weighted_sum_of_recorded_parts(
    text: str, outcome: Outcome, parts: tuple[float, float], reward: float
) -> None:
    found = grade(rollout_of(text), WEIGHTS)
    assert found.outcome is outcome
    assert found.parts == {"accuracy": parts[0], "format": parts[1]}
    assert found.reward == pytest.approx(reward)


def test_what_the_prompt_opened_belongs_to_the_completion() -> None:
    text = "a</think><answer>7</answer>"
    assert grade(rollout_of(text), WEIGHTS).parts["format"] == 0.0
    assert grade(rollout_of(text), WEIGHTS, opened="<think>").parts["format"] == 1.0


def _broken(verifier: str, spec: dict[str, Any]) -> Problem:
    problem = number_problem()
    return Problem(
        id="broken",
        family=problem.family,
        level=1,
        language="en",
        prompt="?",
        verifier=verifier,
        spec=spec,
    )


@pytest.mark.parametrize(
    "problem",
    [
        _broken("countdown", {}),
        _broken("countdown", {"numbers": 3, "target": 3}),
        _broken("number", {"answer": 7}),
        _broken("exact", {}),
        _broken("no such verifier", {}),
    ],
    ids=["no spec", "spec of another type", "number as number", "no answer", "unknown verifier"],
)
def test_a_verifier_that_fails_is_no_wrong_answer(problem: Problem) -> None:
    found = grade(rollout_of("<answer>7</answer>", problem), WEIGHTS)
    assert found.outcome is Outcome.ERROR
    assert (found.reward, found.answer) == (0.0, None)


def test_a_group_is_graded_member_by_member() -> None:
    texts = ["<answer>7</answer>", "<answer>8</answer>"]
    found = grade_all([rollout_of(text) for text in texts], WEIGHTS)
    assert [graded.outcome for graded in found] == [Outcome.CORRECT, Outcome.WRONG]
    assert [graded.answer for graded in found] == ["7", "8"]


@pytest.mark.parametrize("name", ["countdown", "number", "exact"])
def test_verifiers_of_the_problems_are_there(name: str) -> None:
    verifier: Callable[..., Any] = VERIFIERS[name]
    assert callable(verifier)
