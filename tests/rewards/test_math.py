"""The verifier `math`: pairs with reasons, properties, votes, and the same verdict from everywhere."""

import asyncio
import itertools
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from zerone.processes.worker_pool import WorkerPool
from zerone.rewards.math import verifier as math
from zerone.rewards.math.verifier import check_gold, verify_math, verify_math_async
from zerone.types import Outcome

PAIRS = [
    json.loads(line)
    for line in (Path(__file__).parents[1] / "support" / "math_pairs.jsonl").read_text().splitlines()
]


def outcome_of(answer: str, gold: str) -> Outcome:
    return verify_math(answer, {"answer": gold}).outcome


# Pairs --------------------------------------------------------------------------------------------


def test_there_are_enough_pairs_and_each_has_a_reason() -> None:
    assert len(PAIRS) >= 300
    assert all(len(pair["reason"].split()) >= 2 for pair in PAIRS)
    assert len({(pair["answer"], pair["gold"]) for pair in PAIRS}) == len(PAIRS)


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: ascii(f"{pair['answer']} = {pair['gold']}")[:60])
def test_pairs_get_the_verdict_that_their_reason_gives(pair: dict[str, str]) -> None:
    assert outcome_of(pair["answer"], pair["gold"]) == pair["verdict"], pair["reason"]


def test_the_gold_answers_of_all_pairs_can_be_judged_against() -> None:
    assert {gold for gold in {pair["gold"] for pair in PAIRS} if check_gold(gold) is not None} == set()


# Gold answers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gold", "reason"),
    [
        ("", "empty"),
        (r"\frac{1}{2", "not closed"),
        ("1/0", "zero"),
        (r"\sum_{k=1}^{9} k", "leaves work"),
        ("x" * 3000, "characters"),
        ("x=4=42", "chain"),
        (r"\begin{cases} x \\ y \end{cases}", "math-verify"),
        ("42 apples", "apples"),
        (r"\ln 0", "sympy"),
    ],
)
def test_a_gold_answer_that_cannot_be_judged_is_found_before_training(gold: str, reason: str) -> None:
    found = check_gold(gold)
    assert found is not None and reason in found


@pytest.mark.parametrize("gold", ["1/0", "(1,2", r"\int x", ""])
def test_a_bad_gold_answer_is_a_failure_of_ours_and_no_wrong_answer(gold: str) -> None:
    assert outcome_of("42", gold) is Outcome.INFRASTRUCTURE_ERROR


@pytest.mark.parametrize("gold", [42, "42", " 42 ", r"\boxed{42}", r"The answer is $\boxed{42}$.", "$42$"])
def test_gold_answers_are_read_as_data_sets_write_them(gold: object) -> None:
    assert check_gold(str(gold)) is None
    assert verify_math("42", {"answer": gold}).outcome is Outcome.CORRECT
    assert verify_math("43", {"answer": gold}).outcome is Outcome.WRONG


def test_the_quick_path_for_numbers_and_the_grammar_agree() -> None:
    numbers = ["7", "-7", "07", "1,234", "1234", "0.5", "-.5", "1/2", r"\frac{1}{2}", r"\dfrac{2}{4}", "3/0"]
    numbers += ["7.0", "1/3", "0.333333", "0.3333333", "1,2", "12,345,678", r"\frac{0}{5}", "-1/2", "2/1"]
    for answer, gold in itertools.product(numbers, repeat=2):
        # A unit on one side does not count, and keeps both from the quick path.
        slow = outcome_of(rf"{answer}\text{{ units}}", rf"{gold}\text{{ units}}")
        assert outcome_of(answer, gold) is slow, (answer, gold)


# Votes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answers",
    [
        ["0.5", r"\frac12", "1/2", "$0.50$", "x=0.5", r"\boxed{\frac{2}{4}}"],
        [r"2\sqrt3", r"\sqrt{12}", r"\frac{6}{\sqrt3}"],
        ["1,2", r"\{2,1\}", "2, 1, 1"],
        ["(1, 0.5)", r"(1,\frac12)"],
        [r"\text{(C)}", r"\text{C}"],
        ["x^2-1", "(x-1)(x+1)"],
    ],
)
def test_equal_answers_vote_together(answers: list[str]) -> None:
    assert len({verify_math(answer, {"answer": "7"}).canonical for answer in answers}) == 1


def test_unequal_answers_vote_apart_and_unparsable_ones_not_at_all() -> None:
    answers = ["1", "2", "(1,2)", "1,2", "[1,2]", "x", r"\pi"]
    votes = [verify_math(answer, {"answer": "7"}).canonical for answer in answers]
    assert len(set(votes)) == len(answers) and None not in votes
    assert verify_math("1/0", {"answer": "7"}).canonical is None


# Properties ---------------------------------------------------------------------------------------


@st.composite
def expressions(draw: st.DrawFn, depth: int = 3) -> tuple[str, str, Fraction]:
    """Draw one value in two forms, LaTeX and plain, that share no spelling."""
    if depth == 0 or draw(st.booleans()):
        value = Fraction(draw(st.integers(0, 99)), draw(st.sampled_from([1, 1, 2, 3, 4, 7, 8, 10])))
        return _latex(value), _plain(value), value
    left, right = draw(expressions(depth=depth - 1)), draw(expressions(depth=depth - 1))
    operator = draw(st.sampled_from("+-*/^"))
    if operator == "^":
        power = draw(st.integers(0, 3))
        assume(left[2] or power)
        return rf"\left({left[0]}\right)^{{{power}}}", f"({left[1]})**{power}", left[2] ** power
    if operator == "/":
        assume(right[2])
        return rf"\frac{{{left[0]}}}{{{right[0]}}}", f"({left[1]})/({right[1]})", left[2] / right[2]
    sign = {"*": r"\cdot"}.get(operator, operator)
    value = {"+": left[2] + right[2], "-": left[2] - right[2], "*": left[2] * right[2]}[operator]
    return (
        rf"\left({left[0]}\right) {sign} \left({right[0]}\right)",
        f"({left[1]}){operator}({right[1]})",
        value,
    )


def _latex(value: Fraction) -> str:
    return str(value) if value.denominator == 1 else rf"\frac{{{value.numerator}}}{{{value.denominator}}}"


def _plain(value: Fraction) -> str:
    """Write a value as a decimal where that is exact, else as a quotient."""
    decimal = Decimal(value.numerator) / Decimal(value.denominator)
    return f"{decimal:,f}" if Fraction(decimal) == value else f"{value.numerator}/{value.denominator}"


@given(expressions())
def test_an_expression_equals_itself_in_another_form(drawn: tuple[str, str, Fraction]) -> None:
    latex, plain, value = drawn
    for answer, gold in [(latex, plain), (plain, latex), (latex, str(value)), (str(value), plain)]:
        assert outcome_of(answer, gold) is Outcome.CORRECT, (answer, gold)


changes = st.fractions(max_denominator=10**9).filter(bool)


@given(expressions(), changes)
def test_an_expression_with_another_value_is_never_equal(
    drawn: tuple[str, str, Fraction], change: Fraction
) -> None:
    latex, plain, value = drawn
    other = _latex(abs(value + change)) if value + change >= 0 else f"-{_latex(abs(value + change))}"
    for form in (latex, plain):
        assert outcome_of(other, form) is Outcome.WRONG, (other, form)
        assert outcome_of(form, other) is Outcome.WRONG, (form, other)
        assert outcome_of(rf"{form}+\left({other}\right)", form) in (
            Outcome.WRONG if value + change else Outcome.CORRECT,
        )


roots = st.lists(st.integers(-9, 9), min_size=1, max_size=4)


def _expanded(zeros: list[int], scale: int) -> str:
    coefficients = [scale]
    for zero in zeros:
        shifted = [0, *coefficients]
        coefficients = [c - zero * d for c, d in zip([*coefficients, 0], shifted, strict=True)]
    degree = len(zeros)
    return "+".join(f"({c})x^{{{degree - k}}}" for k, c in enumerate(coefficients)).replace("x^{0}", "")


def _factored(zeros: list[int], scale: int) -> str:
    return f"{scale}" + "".join(f"(x-{zero})" if zero >= 0 else f"(x+{-zero})" for zero in zeros)


@given(roots, st.integers(1, 9))
def test_a_polynomial_equals_its_factors_in_any_order(zeros: list[int], scale: int) -> None:
    assert outcome_of(_factored(zeros, scale), _expanded(zeros, scale)) is Outcome.CORRECT
    assert outcome_of(_factored(zeros[::-1], scale), _factored(zeros, scale)) is Outcome.CORRECT


@given(roots, st.integers(1, 9), st.integers(0, 3), st.integers(1, 5))
def test_a_polynomial_with_another_zero_or_scale_is_another(
    zeros: list[int], scale: int, place: int, change: int
) -> None:
    moved = list(zeros)
    moved[place % len(zeros)] += change
    assert outcome_of(_factored(moved, scale), _expanded(zeros, scale)) is Outcome.WRONG
    assert outcome_of(_factored(zeros, scale + change), _expanded(zeros, scale)) is Outcome.WRONG


@given(st.integers(1, 400), st.integers(1, 50), st.integers(1, 50))
def test_roots_are_simplified_exactly(radicand: int, outside: int, change: int) -> None:
    gold = rf"{outside}\sqrt{{{radicand}}}"
    assert outcome_of(rf"\sqrt{{{outside**2 * radicand}}}", gold) is Outcome.CORRECT
    assert outcome_of(rf"\frac{{{outside * radicand}}}{{\sqrt{{{radicand}}}}}", gold) is Outcome.CORRECT
    assert outcome_of(rf"\sqrt{{{outside**2 * radicand + change}}}", gold) is Outcome.WRONG


@given(st.lists(st.integers(-20, 20), min_size=2, max_size=5, unique=True), st.randoms())
def test_lists_ignore_order_and_tuples_do_not(items: list[int], random: object) -> None:
    turned = [*items[1:], items[0]]
    listed, other = ", ".join(map(str, items)), ", ".join(map(str, turned))
    assert outcome_of(other, listed) is Outcome.CORRECT
    assert outcome_of(rf"\{{{other}\}}", rf"\{{{listed}\}}") is Outcome.CORRECT
    assert outcome_of(f"({other})", f"({listed})") is Outcome.WRONG


@settings(max_examples=300)
@given(
    st.text(alphabet=st.sampled_from(r"0123456789xyei+-*/^_!=<>()[]{}|,.;&%$\ "), max_size=30)
    | st.text(max_size=30)
    | st.lists(
        st.sampled_from(
            [
                r"\frac",
                r"\sqrt",
                r"\text",
                r"\pi",
                r"\cup",
                r"\in",
                r"\pm",
                r"\{",
                r"\}",
                r"\begin{pmatrix}",
                r"\end{pmatrix}",
                r"\boxed",
                r"\begin{cases}",
                r"\end{cases}",
                r"\\",
                "&",
                r"\ne ",
                r"\approx ",
                r"\mid ",
                r"\lfloor ",
                r"\rfloor ",
                r"\mathbb{Z}",
                r"\mathrm{m}",
                r"\Omega",
                " for ",
                " if ",
                " otherwise ",
                " any integer ",
                ":",
                ";",
                "|",
                "pm",
                "n",
                ">",
                "{",
                "}",
                "(",
                ")",
                "[",
                "]",
                ",",
                "=",
                "1",
                "2",
                "x",
                "^",
                "_",
                " ",
            ]
        ),
        max_size=15,
    ).map("".join)
)
def test_any_text_gets_an_outcome_and_no_text_breaks_the_verifier(text: str) -> None:
    outcome = outcome_of(text, "42")
    assert outcome in (Outcome.CORRECT, Outcome.WRONG, Outcome.UNPARSABLE)
    if outcome is Outcome.CORRECT:
        assert any(character.isdigit() for character in text)


# Threads, coroutines, processes -------------------------------------------------------------------

MIXED = [pair for pair in PAIRS if "math-verify" in pair["reason"] or "function" in pair["reason"]] + PAIRS[
    ::7
]


def test_32_threads_give_the_same_verdicts_as_the_main_thread() -> None:
    with ThreadPoolExecutor(32) as threads:
        found = list(threads.map(lambda pair: outcome_of(pair["answer"], pair["gold"]), MIXED))
    assert found == [pair["verdict"] for pair in MIXED]


def test_coroutines_give_the_same_verdicts_as_the_main_thread() -> None:
    async def all_verdicts() -> list[Outcome]:
        tasks = (verify_math_async(pair["answer"], {"answer": pair["gold"]}) for pair in MIXED)
        return [verdict.outcome for verdict in await asyncio.gather(*tasks)]

    assert asyncio.run(all_verdicts()) == [pair["verdict"] for pair in MIXED]


def test_a_pool_without_its_library_is_a_failure_and_no_wrong_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = WorkerPool("pool_worker", ("broken",), 1, 1.0)
    monkeypatch.setattr(math, "_current", pool)
    assert outcome_of(r"\ln 8", r"3\ln 2") is Outcome.INFRASTRUCTURE_ERROR
    assert outcome_of("1/2", "0.5") is Outcome.CORRECT


def test_importing_the_verifier_loads_no_sympy() -> None:
    code = (
        "import sys, zerone.rewards.math.verifier; "
        "print({'sympy', 'math_verify', 'torch'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
