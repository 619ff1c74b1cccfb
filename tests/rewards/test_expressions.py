"""Exact arithmetic on untrusted text: what is read, what it is worth, and what is refused at no cost."""

import ast
import re
import time
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from problem_reader import calculate
from zerone.rewards.expressions import Expression, parse_expression, parse_number

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
    start = time.process_time()
    assert parse_expression(text) is None
    # Microseconds where it is bounded, minutes where it is not.
    assert time.process_time() - start < 0.5


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
            assert isinstance(node.value, int)
            return Fraction(node.value)
        assert isinstance(node, ast.BinOp), ast.dump(node)
        left, right = value(node.left), value(node.right)
        match node.op:
            case ast.Add():
                return left + right
            case ast.Sub():
                return left - right
            case ast.Mult():
                return left * right
            case _:
                return left / right

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
        calculate(left[1], operator, right[1]),
        left[2] + right[2],
    )


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
        ("$-5", Fraction(-5)),
        ("-$5", Fraction(-5)),
        ("- $5", Fraction(-5)),
        ("$ 5", Fraction(5)),
        ("$1,234.50", Fraction("1234.5")),
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
        "-$-7",
        "5 apples",
        "x=5",
        "\\boxed{5}",
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


@given(st.fractions(min_value=-1000, max_value=1000, max_denominator=500))
def test_fractions_are_read_back(value: Fraction) -> None:
    assert parse_number(f"{value.numerator}/{value.denominator}") == value


@given(st.integers(-(10**9), 10**9), st.integers(0, 10**6 - 1))
def test_thousands_separators_and_decimals_change_nothing(whole: int, decimals: int) -> None:
    text = f"{whole:,}.{decimals:06d}"
    sign = -1 if text.startswith("-") else 1
    assert parse_number(text) == sign * (abs(whole) + Fraction(decimals, 10**6))
