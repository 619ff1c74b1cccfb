"""Compares an answer with the gold answer, part by part.

In: two readings and a judge of terms. Out: whether they are the same answer. The structure (lists,
brackets, units, names) is compared here once; `ExactJudge` decides terms in the fast path and
raises `NotExact` where it cannot, and the worker's judge goes on with sympy.
"""

import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Protocol

from zerone.rewards.math.answers import as_words
from zerone.rewards.math.exact import Form, NotExact, approximate, evaluate, is_equal, ratio
from zerone.rewards.math.kinds import (
    Answer,
    Bracketed,
    Foreign,
    Listing,
    Matrix,
    Named,
    Reading,
    Relation,
    Scalar,
    UnionOf,
    Words,
)
from zerone.rewards.math.terms import Number, Operation, Symbol, Term, has_variables
from zerone.rewards.math.text import tokenise
from zerone.rewards.math.units import BASE

MIN_SIGNIFICANT_DIGITS = 6
"""Of a decimal that stands for a value which no decimal has, such as 0.333333 for 1/3."""


class Judge(Protocol):
    """Decides whether terms, relations, or texts in foreign notation are equal."""

    def terms(self, gold: Term, answer: Term) -> bool:
        """Whether two terms have the same value."""

    def relations(self, gold: Relation, answer: Relation) -> bool:
        """Whether two relations hold for the same values."""

    def texts(self, gold: str, answer: str) -> bool:
        """Whether two LaTeX texts mean the same."""


def is_same(gold: Reading, answer: Reading, judge: Judge) -> bool:
    """Whether an answer is the gold answer."""
    if isinstance(gold.answer, Words) or isinstance(answer.answer, Words):
        return as_words(gold.source) == as_words(answer.source)
    # Not the texts without spaces: `1 1/2` is not `11/2`.
    if tokenise(gold.source) == tokenise(answer.source):
        return True
    if isinstance(gold.answer, Foreign) or isinstance(answer.answer, Foreign):
        return judge.texts(gold.source, answer.source)
    return _same_whole(gold.answer, answer.answer, judge)


def _same_whole(gold: Answer, answer: Answer, judge: Judge) -> bool:
    """Whether two whole answers are the same: here braces around a list do not count."""
    if isinstance(gold, Named | Relation) or isinstance(answer, Named | Relation):
        return _same_named(gold, answer, judge, _same_whole)
    return _same(_without_braces(gold), _without_braces(answer), judge)


def _without_braces(answer: Answer) -> Answer:
    """Return a set as a list, and a set or list of one as its element, unless that is a set again."""
    match answer:
        case Listing((Listing(),)):
            return Listing(answer.items)
        case Listing((item,)):
            return item
        case Listing(items):
            return Listing(items)
    return answer


def _same(gold: Answer, answer: Answer, judge: Judge) -> bool:
    """Whether two parts of answers are the same; a set within something is not its element."""
    if isinstance(gold, Named | Relation) or isinstance(answer, Named | Relation):
        return _same_named(gold, answer, judge, _same)
    same = False
    match gold, answer:
        case Words(one), Words(other):
            same = one == other
        case (Words(word), Scalar(Symbol(name))) | (Scalar(Symbol(name)), Words(word)):
            same = name.casefold() == word
        case Scalar(one, unit), Scalar(other, other_unit):
            same = _same_unit(unit, other_unit) and judge.terms(one, other)
        case Listing(some, is_set), Listing(others, is_other_set):
            same = is_set == is_other_set and _same_set(some, others, judge)
        case UnionOf(some), UnionOf(others):
            same = _same_set(some, others, judge)
        case Bracketed(opening, closing, some), Bracketed(other_opening, other_closing, others):
            brackets_match = (opening, closing) == (other_opening, other_closing)
            same = brackets_match and _same_sequence(some, others, judge)
        case Matrix(rows), Matrix(other_rows):
            same = len(rows) == len(other_rows) and all(
                _same_sequence(row, other, judge) for row, other in zip(rows, other_rows, strict=True)
            )
    return same


def _same_unit(gold: str, answer: str) -> bool:
    """A missing unit is forgiven, another unit is not; a base is a part of the number."""
    if gold.startswith(BASE) or answer.startswith(BASE):
        return gold == answer
    # A scale of temperature is forgiven like a unit.
    is_same_degree = "deg" in (gold, answer) and {gold, answer} <= {"deg", "degC", "degF"}
    return not gold or not answer or gold == answer or is_same_degree


def _same_sequence(gold: Sequence[Answer], answer: Sequence[Answer], judge: Judge) -> bool:
    return len(gold) == len(answer) and all(
        _same(one, other, judge) for one, other in zip(gold, answer, strict=True)
    )


def _same_set(gold: Sequence[Answer], answer: Sequence[Answer], judge: Judge) -> bool:
    return all(any(_same(one, other, judge) for other in answer) for one in gold) and all(
        any(_same(one, other, judge) for one in gold) for other in answer
    )


def _same_named(
    gold: Answer, answer: Answer, judge: Judge, same: Callable[[Answer, Answer, Judge], bool]
) -> bool:
    match gold, answer:
        case Named(name, value), Named(other_name, other_value) if _same_name(name, other_name):
            return same(value, other_value, judge)
        case Named(_, value), Relation() if _is_solved(value):
            # `3x+2 = 17` leaves to the checker what `x = 5` says.
            return False
        case ((Named() | Relation()), (Named() | Relation())):
            one, other = (side.relation if isinstance(side, Named) else side for side in (gold, answer))
            return one is not None and other is not None and judge.relations(one, other)
        case Named(_, value), _:
            return same(value, answer, judge)
        case _, Named(_, value):
            return same(gold, value, judge)
        case _:
            return False


def _same_name(gold: str, answer: str) -> bool:
    """Whether names are the same; `x_1 = 2, x_2 = 3` numbers the values of `x`."""
    stems = [re.sub(r"(?<=[A-Za-z])_\d$", "", name) for name in (gold, answer)]
    return gold == answer or (stems[0] == stems[1] and (gold in stems or answer in stems))


def _is_solved(value: Answer) -> bool:
    """Whether a value is a number, so that the equation before it has been solved."""
    return isinstance(value, Scalar) and not has_variables(value.term)


class ExactJudge:
    """Decides by exact arithmetic; raises NotExact where that does not reach."""

    def terms(self, gold: Term, answer: Term) -> bool:
        """Whether two terms are equal, or the answer is a decimal that stands for the gold value."""
        one, other = evaluate(gold), evaluate(answer)
        if is_equal(one, other):
            return True
        places = decimal_places(answer)
        value = other.rational
        return places is not None and value is not None and _stands_for(one, value, places)

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

    def texts(self, gold: str, answer: str) -> bool:
        """Foreign notation is for the worker."""
        raise NotExact


def decimal_places(term: Term) -> int | None:
    """Return how many decimal places a term is written with, None if it is no plain decimal."""
    while isinstance(term, Operation) and term.name == "neg":
        (term,) = term.arguments
    return term.places if isinstance(term, Number) else None


def stands_for(value: Fraction, given: Fraction, places: int) -> bool:
    """Whether a decimal is a value cut or rounded to its places, with enough significant digits."""
    num_digits = len(str(abs(given.numerator * 10**places // given.denominator)))
    step = Fraction(1, 10**places)
    is_rounded = 2 * abs(value - given) <= step
    is_cut = abs(given) <= abs(value) and abs(value - given) < step
    return num_digits >= MIN_SIGNIFICANT_DIGITS and (is_rounded or is_cut)


def _stands_for(gold: Form, given: Fraction, places: int) -> bool:
    value = gold.rational
    if value is None:
        return not _has_variables(gold) and stands_for(Fraction(approximate(gold)), given, places)
    rest = value.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    # A value that a decimal can have must be given exactly.
    return rest != 1 and stands_for(value, given, places)


def _has_variables(form: Form) -> bool:
    return any(
        m.imaginary or any(name not in ("pi", "e") for name, _ in m.symbols)
        for m in (*form.top, *form.bottom)
    )
