"""Conventions of the verifier `math` by topic: what is the same answer, what is another, what is none."""

import pytest

from zerone.rewards.math.verifier import check_gold, verify_math
from zerone.types import Outcome

M1 = r"\begin{pmatrix}1&2\\3&4\end{pmatrix}"
COLUMN = r"\begin{pmatrix}1\\2\end{pmatrix}"

RIGHT = {
    "spaces": [("1 1/2", "3/2"), ("2 x", "2x"), (r"\sin x  y", r"\sin xy")],
    "solved": [("5=x", "x=5"), ("x=10/2", "x=5"), ("x=5", "x-5=0"), ("2y=4x+6", "y=2x+3")],
    "sets": [
        (r"\{\{3,2\},\{1\}\}", r"\{\{1\},\{2,3\}\}"),
        (r"\emptyset", r"\{\}"),
        (r"\{5\}", "5"),
        (r"1,2", r"\{2,1\}"),
        (r"x\in\{1,2\}", "1,2"),
        (r"\{1\pm2, 7\}", "3,-1,7"),
        (r"(1,\{2,3\})", r"(1,\{3,2\})"),
    ],
    "raised signs": [
        ("10²³", "10^{23}"),
        ("10⁻³", "0.001"),
        ("x₁", "x_1"),
        ("a₁₀", "a_{10}"),
        ("⅓", "1/3"),
        ("2⅔", "8/3"),
        ("5 cm²", r"5\text{ cm}^2"),
        ("52₈", "52_8"),
        ("log₂8", "3"),
        ("∛8", "2"),
    ],
    "matrices": [
        (rf"3{COLUMN}", r"\begin{pmatrix}3\\6\end{pmatrix}"),
        (rf"-{COLUMN}", r"\begin{pmatrix}-1\\-2\end{pmatrix}"),
        (r"\frac12\left[\begin{array}{c}1\\2\end{array}\right]", r"\begin{pmatrix}1/2\\1\end{pmatrix}"),
        (rf"t{COLUMN}+{COLUMN}", rf"{COLUMN}+t{COLUMN}"),
        (r"\begin{pmatrix}1+t\\2+2t\end{pmatrix}", rf"{COLUMN}+t{COLUMN}"),
        (rf"(1,{COLUMN})", rf"(1,{COLUMN})"),
    ],
    "units": [
        ("60 miles per hour", "60"),
        (r"60\text{ miles per hour}", "60 mph"),
        ("60 km/hr", r"60\text{ km/h}"),
        ("5 m/s", r"5\text{ meters per second}"),
        ("9.8 m/s²", r"9.8 \text{m}/\text{s}^2"),
        ("3/4 km/h", "3/4"),
        ("y=2x/m", "2x/m"),
    ],
    "Chinese": [
        ("5元", "5"),
        ("5元", "¥5"),
        ("5美元", r"\$5"),
        ("12厘米", "12 cm"),
        ("12平方厘米", r"12\text{ cm}^2"),
        (r"12\text{厘米}", "12"),
        ("60千米/小时", "60 km/h"),
        ("60千米每小时", "60 km/h"),
        ("30度", r"30^\circ"),
        (r"\sin 30度", r"\frac12"),
        ("x=2或x=3", "2,3"),
        ("1、2、3", "1,2,3"),
        ("无解", r"\text{无解}"),
        ("5。", "5"),
    ],
    "scientific": [
        ("2.5e-3", "0.0025"),
        ("100000", "1e5"),
        ("1E5", "100000"),
        ("1e-5", "0.00001"),
        ("2e-05", "0.00002"),
        ("-2.5e+3", "-2500"),
        ("1/1e5", "0.00001"),
        ("1.5e3 cm", "1500"),
        ("2e-3", r"2\cdot e-3"),
    ],
    "names": [
        ("f^{-1}(x)=2x", "2x"),
        ("f^{-1}(x)=2x", "f^{-1}(x)=x+x"),
        ("a_{n+1}=2n", "2n"),
        ("|AB|=5", "5"),
        (r"\overline{AB}=5", "5"),
        ("f'(x)=2x", "2x"),
        ("P(X=2)=0.5", r"\frac12"),
        ("P(A|B)=0.5", "0.5"),
        ("f(2)=5", "5"),
        ("x_1=1,x_2=2", "1,2"),
        ("x_1=1,x_2=2", r"x=1\text{ or }x=2"),
        ("x_{1}=1,x_{2}=2", "x_1=1,x_2=2"),
        (r"∠A=30°", "30"),
    ],
    "real sets": [
        (r"(-\infty,\infty)", r"\mathbb{R}"),
        (r"x\in\mathbb R", r"(-\infty,+\infty)"),
        (r"\mathbb{R}\setminus\{1,0\}", r"(-\infty,0)\cup(0,1)\cup(1,\infty)"),
        (r"\mathbb{R}-\{0\}", r"\mathbb{R}\setminus\{0\}"),
        (r"\mathbb{R}\backslash\{\sqrt2\}", r"(-\infty,\sqrt2)\cup(\sqrt2,\infty)"),
        (r"[0,5]\setminus\{2\}", r"[0,2)\cup(2,5]"),
        (r"\mathbb{Z}\setminus\{0,1\}", r"\mathbb{Z}\setminus\{1,0\}"),
        ("x>1 and x<3", "(1,3)"),
        (r"x<3\text{ and }x\ge1", "[1,3)"),
        ("x>1且x<3", "1<x<3"),
        ("(0,1)U(2,3)", r"(0,1)\cup(2,3)"),
        (r"(-\infty,2) U (3,\infty)", "x<2 or x>3"),
        ("U(x+1)(x-1)", "(x+1)U(x-1)"),
    ],
}
"""By topic: (answer, gold)."""

WRONG = {
    "spaces": [("1 1/2", "11/2"), ("11/2", "1 1/2")],
    "solved": [("3x+2=17", "x=5"), ("x-5=0", "x=5"), ("x+1=2, y=2", "x=1, y=2"), ("3x=15", "5")],
    "sets": [
        (r"\{\{1\},\{2,3\}\}", r"\{\{1,2\},\{3\}\}"),
        (r"\{\emptyset\}", r"\emptyset"),
        (r"\emptyset", r"\{\emptyset\}"),
        (r"(1,\{2\})", "(1,2)"),
        (r"\{\{1\}\}", r"\{1\}"),
        (r"\{\{1,2\}\}", "1,2"),
    ],
    "raised signs": [("10²³", "10^8"), ("x₁", "x_2"), ("2⅔", "7/3"), ("10⁻³", "10^3")],
    "matrices": [(rf"2{COLUMN}", COLUMN), (rf"{COLUMN}+t{COLUMN}", rf"{COLUMN}+2t{COLUMN}")],
    "units": [("60 miles per hour", "60 km/h"), ("5 m/s", "5 m/s^2"), ("5 m", "5"), ("5x m/s", "5x")],
    "Chinese": [
        ("5元", "6"),
        ("5元", r"5\text{ dollars}"),
        ("12平方厘米", "12厘米"),
        ("x=2或x=4", "2,3"),
        ("1、234", "1234"),
        ("无解", "有解"),
        ("无解", "5"),
    ],
    "scientific": [("2.5e-3", "0.0024"), ("2e-3", "0.002"), ("1e5", "10000"), ("1/1e5", "100000")],
    "names": [
        ("x(x+1)=6", "6"),
        ("x(2)=10", "10"),
        ("|x|=5", "5"),
        ("P(X=2)=0.5", "P(X=3)=0.5"),
        ("f''(x)=2", "f'(x)=2"),
        ("x_1=1,x_2=2", "x_1=2,x_2=1"),
        ("x_1=1,x_2=3", "1,2"),
        ("a_n=2n", "a=2n"),
    ],
    "real sets": [
        (r"(-\infty,\infty]", r"\mathbb{R}"),
        (r"\mathbb{R}-\{0\}", r"\mathbb{R}"),
        (r"\mathbb{R}\setminus\{1\}", r"(-\infty,0)\cup(0,\infty)"),
        (r"[0,5]\setminus\{7\}", "[0,5]"),
        ("x>1 and x<3", r"(-\infty,3)\cup(1,\infty)"),
        ("x>1 or x<3", "(1,3)"),
        ("(x+1)U(x-1)", "U"),
    ],
}
UNREAD = {
    "raised signs": [("\\frac⁴²", "2"), ("①②", "12"), ("x⁻", "x")],
    "matrices": [
        (M1 + r"\begin{pmatrix}1&0\\0&1\end{pmatrix}", M1),
        (rf"{M1}^2", r"\begin{pmatrix}7&10\\15&22\end{pmatrix}"),
        (r"A=\begin{pmatrix}2&0\\0&2\end{pmatrix}^{-1}", r"\begin{pmatrix}1/2&0\\0&1/2\end{pmatrix}"),
        (rf"{M1}^T", r"\begin{pmatrix}1&3\\2&4\end{pmatrix}"),
        (rf"{COLUMN}+{COLUMN}", r"\begin{pmatrix}2\\4\end{pmatrix}"),
        (rf"{COLUMN}\cdot{COLUMN}", "5"),
        # Not (2-1) times the column.
        (rf"2-{COLUMN}", COLUMN),
    ],
    "units": [(r"5\text{ per hour}", "5"), ("2 times per day", "2")],
    "Chinese": [
        *((f"5{word}", "5") for word in ("万", "万元", "亿", "多", "百", "分之一", "个半")),
        (r"5\text{万}", "5"),
        ("负5", "5"),
        ("半5", "5"),
    ],
    "scientific": [("1e5.5", "100000"), ("2e3x", "2000x"), ("1e99999", "1")],
    "real sets": [("x<1 and x>3", r"(-\infty,1)\cup(3,\infty)")],
}

Case = tuple[str, str, str]


def cases(table: dict[str, list[tuple[str, str]]]) -> list[Case]:
    return [(topic, *pair) for topic, pairs in table.items() for pair in pairs]


def name_of(case: object) -> str:
    return ascii(case)[:50]


@pytest.mark.parametrize("case", cases(RIGHT), ids=name_of)
def test_the_same_answer_in_another_spelling_is_right(case: Case) -> None:
    _, answer, gold = case
    assert verify_math(answer, {"answer": gold}).outcome is Outcome.CORRECT


@pytest.mark.parametrize("case", cases(WRONG), ids=name_of)
def test_another_answer_is_wrong(case: Case) -> None:
    _, answer, gold = case
    assert verify_math(answer, {"answer": gold}).outcome is Outcome.WRONG


@pytest.mark.parametrize("case", cases(UNREAD), ids=name_of)
def test_what_is_no_answer_is_not_read(case: Case) -> None:
    _, answer, gold = case
    assert verify_math(answer, {"answer": gold}).outcome is Outcome.UNPARSABLE


def test_gold_answers_of_all_topics_can_be_judged_against() -> None:
    golds = {gold for table in (RIGHT, WRONG) for _, _, gold in cases(table)}
    assert {gold: reason for gold in golds if (reason := check_gold(gold)) is not None} == {}


def test_a_set_in_a_set_votes_apart_from_its_elements() -> None:
    answers = [r"\{\{1,2\},3\}", r"\{1,2,3\}", r"\{\{1\},\{2,3\}\}", r"(1,\{2\})", "(1,2)", r"\{\emptyset\}"]
    votes = [verify_math(answer, {"answer": "7"}).canonical for answer in answers]
    assert len(set(votes)) == len(answers) and None not in votes
