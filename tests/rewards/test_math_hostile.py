"""Answers that are built to be slow, large or deep: all end soon, and the workers go on."""

import contextlib
import time

import pytest

from zerone.rewards.math.answers import read_answer, read_gold
from zerone.rewards.math.terms import Unreadable
from zerone.rewards.math.verifier import verify_math
from zerone.types import Outcome

SETS = r"\mathbb{R}\setminus\{0\}"
HARD = r"\ln 2+\sin x"

REFUSED = {
    "tower": "9^{9^{9^{9}}}",
    "tower without braces": "9^9^9^9",
    "power of ten": "10^{10^{10}}",
    "large exponent": "3^{1000000000}",
    "factorial": "99999999!",
    "factorial of a factorial": "((9!)!)!",
    "sum": r"\sum_{i=1}^{1000000000000} i^i",
    "product": r"\prod_{i=1}^{1000000000} i",
    "binomial": r"\binom{1000000000}{500000000}",
    "parentheses": "(" * 2000 + "1" + ")" * 2000,
    "braces": "{" * 5000 + "1" + "}" * 5000,
    "dollar signs": "$ " * 50_000,
    "decimals": "0.1 " * 50_000,
    "digits": "9" * 1_000_000,
    "long sum": "1+" * 100_000 + "1",
    "tower in a set": r"\mathbb{R}\setminus\{9^{9^{9^9}}\}",
    "letters side by side": "x " * 390,
    "functions of functions": r"\sin " * 390 + "x",
    "bars": "|" * 790,
    "logarithms as bases": r"\log_" * 390 + "2",
    "tower in a sine": r"\sin(9^{9^{9}})",
    "power of a large power": r"\sin(1)+(9^{999})^{999}",
    "coprime denominators": "+".join(rf"\frac{{1}}{{{p}^{{999}}}}" for p in range(3, 200, 2)),
    "exponential tower": r"e^{e^{e^{e^{e^{e}}}}}",
    "gamma of a large number": r"(\pi^{20})!",
    "factorials": "+".join(rf"\frac{{1}}{{{k}!+1}}" for k in range(2900, 2999)),
    "backslashes": "\\" * 1_000_000,
    "NUL bytes": "\x00" * 1_000_000,
    "plus or minus": r"1\pm" * 400 + "1",
    "commas": "," * 1999,
    "list": ", ".join(map(str, range(300))),
    "letters": "x y " * 490,
    "mixed numbers": r"1\frac{1}{2}" * 150,
    "digits of another script": "\U0001d7d8" * 100_000,
    "surrogates": "\ud800" * 1000,
}
READ = {
    "expansion": "(a+b+c+d)^{60}(a-b)^{60}",
    "nested roots": r"\sqrt{" * 30 + "2" + "}" * 30,
    "many cube roots": "+".join(rf"\sqrt[3]{{{k}}}" for k in range(2, 60)),
    "many sines": "+".join(rf"\sin({k}x)^{{{k}}}" for k in range(1, 50)),
    "continued fraction": r"\frac{1}{1+" * 30 + "x" + "}" * 30,
    "tangents of a large number": r"\tan(\tan(\tan(10^{5000})))",
    "root of a large semiprime": rf"\sqrt{{{(10**30 + 57) * (10**31 + 33)}}}",
    "spaces": " " * 1_000_000 + "1",
    "absolute values": "|" * 60 + "x" + "|" * 60,
    "tower of i": "i^{i^{i^{i}}}",
}
SLOW = {
    "nested roots of x": (r"\sqrt{x+" * 30 + "2" + "}" * 30, HARD),
    "tower of symbols": ("x^{y^{z^{x^{y^{z^{x^{y^{z}}}}}}}}", HARD),
    "tower for math-verify": (r"\mathbb{R}\setminus\{9^{9^{9^9}}\}\cup\{1\}", SETS),
    "logarithm to a complex base": (r"\log_{\arcsin 5}(\sqrt[3]{\pi})", HARD),
}


BOUND_S = 15.0
"""A second is what a verdict may take, and a new worker takes one; the rest is for a busy machine."""


def judged(answer: str, gold: str) -> tuple[Outcome, float]:
    """Judge an answer, then an honest one; return the outcome and how long the first took."""
    start = time.monotonic()
    outcome = verify_math(answer, {"answer": gold}).outcome
    seconds = time.monotonic() - start
    assert verify_math(r"\ln 8", {"answer": r"3\ln 2"}).outcome is Outcome.CORRECT
    return outcome, seconds


@pytest.fixture(scope="module", autouse=True)
def _warm() -> None:
    verify_math(r"\ln 8", {"answer": r"3\ln 2"})


@pytest.mark.parametrize("name", REFUSED)
def test_bombs_are_refused_at_no_cost(name: str) -> None:
    outcome, seconds = judged(REFUSED[name], HARD)
    assert outcome is Outcome.UNPARSABLE
    assert seconds < BOUND_S


@pytest.mark.parametrize("name", READ)
def test_large_answers_are_judged_in_time(name: str) -> None:
    outcome, seconds = judged(READ[name], HARD)
    assert outcome is Outcome.WRONG
    assert seconds < BOUND_S


def test_an_answer_that_takes_too_long_is_a_timeout_and_the_pool_lives() -> None:
    outcome, seconds = judged(*SLOW["tower for math-verify"])
    assert outcome is Outcome.TIMEOUT
    assert seconds < BOUND_S


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_every_slow_answer_ends_in_time_and_the_pool_lives(name: str) -> None:
    outcome, seconds = judged(*SLOW[name])
    assert outcome in (Outcome.TIMEOUT, Outcome.WRONG, Outcome.UNPARSABLE)
    assert seconds < BOUND_S


def test_a_bomb_as_gold_answer_is_a_failure_of_ours() -> None:
    assert verify_math("1", {"answer": "9^{9^{9}}"}).outcome is Outcome.INFRASTRUCTURE_ERROR


NESTED = [
    r"(@, n\in\mathbb{Z})",
    r"(n@, any integer n)",
    r"\{x: @\}",
    "x=(@,1)",
    r"x\ne(@,1), y",
    r"(@ if x>0, 1 otherwise)",
    r"\begin{cases} @ & x>0\\1&x<0\end{cases}",
    r"\begin{cases} 1 & @\\1&x<0\end{cases}",
    "[x=@]",
    "(1)(@>0)",
    "(1 for @)",
    r"(@\approx 1)",
    "-(@)>x",
    r"1\pm(@)",
    "(x=y=@)",
    "((1,2)=@)",
    "(a,b)=(@,2)",
    r"\mathbb{R}\setminus\{@\}",
    r"\lfloor @\rfloor",
]
"""Notation with a place for more of it: what is read twice at each level takes for ever at thirty."""


@pytest.mark.parametrize("outer", NESTED)
def test_notation_within_notation_is_read_in_time(outer: str) -> None:
    start = time.process_time()
    for inner in NESTED:
        text = "x"
        while len(longer := outer.replace("@", inner.replace("@", text))) <= 2_000:
            text = longer
        for read in (read_answer, read_gold):
            with contextlib.suppress(Unreadable):
                read(text)
    assert time.process_time() - start < BOUND_S


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "open('x','w')",
        "exit()",
        r"\input{/etc/passwd}",
        r"\write18{ls}",
        "def f(): pass",
        "x.__class__",
        "[].append(1)",
        "eval('1')",
        r"\def\x{1}\x",
    ],
)
def test_programs_are_no_answers(text: str) -> None:
    assert verify_math(text, {"answer": "1"}).outcome is Outcome.UNPARSABLE
