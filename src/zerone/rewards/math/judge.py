"""Judges of terms: what is equal by exact arithmetic, and when a decimal stands for a value.

In: terms or relations of gold and answer. Out: whether they are the same. `ExactJudge` raises `NotExact`
where it cannot tell, and the worker's judge (math_symbolic.py) goes on with sympy.
"""

from fractions import Fraction
from typing import Protocol

from zerone.rewards.math.exact import Form, NotExact, approximate, evaluate, is_equal, ratio
from zerone.rewards.math.kinds import Relation
from zerone.rewards.math.terms import Number, Operation, Term

MIN_SIGNIFICANT_DIGITS = 6
"""Of a decimal that stands for a value which no decimal has, such as 0.333333 for 1/3."""


class Judge(Protocol):
    """Decides whether terms, relations, or texts in foreign notation are equal."""

    def terms(self, gold: Term, answer: Term) -> bool:
        """Whether two terms have the same value."""

    def rounds(self, decimal: Term, value: Term) -> bool:
        """Whether a decimal is a value, or that value rounded to the decimal's own places."""

    def relations(self, gold: Relation, answer: Relation) -> bool:
        """Whether two relations hold for the same values."""

    def texts(self, gold: str, answer: str, *, is_foreign: bool) -> bool:
        """Whether two LaTeX texts mean the same; `is_foreign`: only math-verify can read the gold."""


class ExactJudge:
    """Decides by exact arithmetic; raises NotExact where that does not reach."""

    def terms(self, gold: Term, answer: Term) -> bool:
        """Whether two terms are equal, or the answer is a decimal that stands for the gold value."""
        one, other = evaluate(gold), evaluate(answer)
        if is_equal(one, other):
            return True
        if (places := decimal_places(answer)) is not None:
            return other.rational is not None and _stands_for(one, other.rational, places)
        places = decimal_places(gold)
        if places is None or one.rational is None or not looks_rounded(one.rational, places):
            return False
        return (
            not _has_variables(other)
            and not _is_decimal(other)
            and is_rounded(_number(other), one.rational, places)
        )

    def rounds(self, decimal: Term, value: Term) -> bool:
        """Whether a decimal is a value, or that value rounded to the decimal's own places."""
        if (places := written_places(decimal)) is None:
            return False
        given, form = evaluate(decimal).rational, evaluate(value)
        return given is not None and not _has_variables(form) and is_rounded(_number(form), given, places)

    def relations(self, gold: Relation, answer: Relation) -> bool:
        """Whether the differences of both sides are equal up to a constant factor."""
        if gold.operator != answer.operator:
            return False
        one, other = (
            evaluate(Operation("+", (side.left, Operation("neg", (side.right,))))) for side in (gold, answer)
        )
        factor = ratio(one, other)
        if factor is None and any(
            m.radicand != 1 for form in (one, other) for m in (*form.top, *form.bottom)
        ):
            raise NotExact
        if factor is None:
            return False
        return factor > 0 if gold.operator.startswith("<") else True

    def texts(self, gold: str, answer: str, *, is_foreign: bool) -> bool:
        """Foreign notation is for the worker."""
        raise NotExact


def decimal_places(term: Term) -> int | None:
    """Return how many decimal places a term is written with, None if it is no plain decimal."""
    while isinstance(term, Operation) and term.name == "neg":
        (term,) = term.arguments
    return term.places if isinstance(term, Number) else None


def written_places(term: Term) -> int | None:
    """Return how many decimal places a number is written with, 0 for a whole one; None for what is none."""
    while isinstance(term, Operation) and term.name == "neg":
        (term,) = term.arguments
    return (term.places or 0) if isinstance(term, Number) else None


def is_rounded(value: Fraction, given: Fraction, places: int) -> bool:
    """Whether a decimal is a value rounded to its places."""
    return 2 * abs(value - given) <= Fraction(1, 10**places)


def stands_for(value: Fraction, given: Fraction, places: int) -> bool:
    """Whether a decimal is a value cut or rounded to its places, with enough significant digits."""
    is_cut = abs(given) <= abs(value) and abs(value - given) < Fraction(1, 10**places)
    is_near = is_cut or is_rounded(value, given, places)
    return _num_digits(given, places) >= MIN_SIGNIFICANT_DIGITS and is_near


def looks_rounded(gold: Fraction, places: int) -> bool:
    """Whether a decimal gold may be the rounded value of a calculation: 0.333, 0.67, 31.4.

    Halves, quarters and eighths are exact, and of two digits the twentieths too: 12.5, 0.125, 0.35.
    """
    divisor = gold.denominator
    digits = _num_digits(gold, places)
    return digits >= 2 and divisor & (divisor - 1) != 0 and (digits > 2 or divisor > 20)


def _num_digits(given: Fraction, places: int) -> int:
    return len(str(abs(given.numerator * 10**places // given.denominator)))


def _number(form: Form) -> Fraction:
    return Fraction(approximate(form)) if form.rational is None else form.rational


def _is_decimal(form: Form) -> bool:
    """Whether a value is one that a decimal can have."""
    return form.rational is not None and not _rest_of(form.rational)


def _rest_of(value: Fraction) -> int:
    """Return what of a denominator no power of ten has, 0 for nothing."""
    rest = value.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    return rest if rest != 1 else 0


def _stands_for(gold: Form, given: Fraction, places: int) -> bool:
    value = gold.rational
    if value is None:
        return not _has_variables(gold) and stands_for(Fraction(approximate(gold)), given, places)
    # A value that a decimal can have must be given exactly.
    return _rest_of(value) != 0 and stands_for(value, given, places)


def _has_variables(form: Form) -> bool:
    return any(
        m.imaginary or any(name not in ("pi", "e") for name, _ in m.symbols)
        for m in (*form.top, *form.bottom)
    )
