"""Equality of terms by sympy and of foreign notation by math-verify; runs in a worker process only.

In: terms of gold and answer. Out: whether they are equal. Terms that exact arithmetic cannot decide
are compared at fixed points in fifty digits, relatively: a difference of expressions may be as small
as it likes and still shows. Where no point decides, and for notation outside the grammar, math-verify
is asked; its yes counts only if nothing here contradicts it.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import Any

import sympy
from math_verify import LatexExtractionConfig, parse, verify
from sympy.polys.polyerrors import BasePolynomialError

from zerone.rewards.math.exact import NotExact
from zerone.rewards.math.guards import MAX_BITS, MAX_EXPONENT, MAX_FACTORIAL
from zerone.rewards.math.judge import (
    ExactJudge,
    decimal_places,
    is_rounded,
    looks_rounded,
    stands_for,
    written_places,
)
from zerone.rewards.math.kinds import Relation
from zerone.rewards.math.rounding import agree_rounded, has_rounding
from zerone.rewards.math.terms import Number, Operation, Symbol, Term, Unreadable
from zerone.rewards.math.text import ROW_END

FAILURES = (
    ArithmeticError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
    BasePolynomialError,
)
"""What sympy raises where it meets its own limits: a failure of the judge, not of the answer."""

_DIGITS = 50
_TOLERANCE = sympy.Float("1e-45", _DIGITS)
_MIN_POINTS = 3
_POINTS = (
    ("3/7", "5/11", "2/9", "7/13", "4/17"),
    ("11/13", "2/5", "9/19", "1/7", "16/23"),
    ("1/3", "8/11", "3/5", "10/17", "2/13"),
    ("13/5", "17/7", "19/6", "23/9", "29/8"),
    ("31/4", "37/10", "15/11", "41/7", "20/3"),
    ("-3/7", "5/11", "-16/7", "7/13", "-4/17"),
    ("-19/6", "-7/5", "22/9", "-1/7", "16/23"),
    ("8/3", "-23/10", "-5/8", "17/6", "-9/11"),
)
"""Values of the variables in alphabetical order, reused in turn; between 0 and 1, above, and negative."""

_FUNCTIONS = {
    "sin": sympy.sin,
    "cos": sympy.cos,
    "tan": sympy.tan,
    "cot": sympy.cot,
    "sec": sympy.sec,
    "csc": sympy.csc,
    "arcsin": sympy.asin,
    "arccos": sympy.acos,
    "arctan": sympy.atan,
    "arccot": sympy.acot,
    "sinh": sympy.sinh,
    "cosh": sympy.cosh,
    "tanh": sympy.tanh,
    "coth": sympy.coth,
    "exp": sympy.exp,
    "abs": sympy.Abs,
    "floor": sympy.floor,
    "ceil": sympy.ceiling,
}
_CONSTANTS = {"pi": sympy.pi, "e": sympy.E, "i": sympy.I, "infinity": sympy.oo}
_COMMAND = re.compile(r"\\[A-Za-z]+")

Expression = Any  # sympy has no types


class SymbolicJudge:
    """Decides what exact arithmetic leaves open."""

    def __init__(self) -> None:
        self._exact = ExactJudge()

    def terms(self, gold: Term, answer: Term) -> bool:
        """Whether two terms are equal at all points, or the answer is a decimal that stands for gold."""
        try:
            return self._exact.terms(gold, answer)
        except NotExact:
            one, other = _gold_to_sympy(gold), to_sympy(answer)
        places = decimal_places(answer)
        if places is not None and not one.free_symbols:
            return _stands_for(one, other, places)
        places = decimal_places(gold)
        if places is not None and not other.free_symbols:
            given = Fraction(int(one.p), int(one.q))
            if looks_rounded(given, places) and _is_rounded(other, given, places):
                return True
        if has_rounding(one, other):
            return agree_rounded(one, other, _agree)
        found = _agree(one, other)
        return _ask_math_verify(one, other) if found is None else found

    def rounds(self, decimal: Term, value: Term) -> bool:
        """Whether a decimal is a value, or that value rounded to the decimal's own places."""
        try:
            return self._exact.rounds(decimal, value)
        except NotExact:
            given, number = to_sympy(decimal), to_sympy(value)
        places = written_places(decimal)
        if places is None or number.free_symbols or not given.is_Rational:
            return False
        return _is_rounded(number, Fraction(int(given.p), int(given.q)), places)

    def relations(self, gold: Relation, answer: Relation) -> bool:
        """Whether the differences of both sides are equal up to a constant factor."""
        try:
            return self._exact.relations(gold, answer)
        except NotExact:
            one = _gold_to_sympy(gold.left) - _gold_to_sympy(gold.right)
            other = to_sympy(answer.left) - to_sympy(answer.right)
        if has_rounding(one, other):
            return gold.operator == answer.operator and agree_rounded(one, other, _agree)
        if gold.operator != answer.operator:
            return False
        values = list(_values((one, other)))
        if len(values) < _MIN_POINTS or any(b == 0 for _, b in values):
            return False
        first = values[0][0] / values[0][1]
        if first == 0:
            # `\\ln e = 1` holds always: it is no multiple of an equation.
            return False
        is_constant = all(_close(a / b, first) for a, b in values)
        return is_constant and (not gold.operator.startswith("<") or bool(first > 0))

    def texts(self, gold: str, answer: str, *, is_foreign: bool) -> bool:
        """Whether math-verify reads the same in two texts."""
        one, other = _read(gold), _read(answer)
        if one is None and is_foreign:
            raise GoldUnreadable
        if one is None:
            raise Unreadable("notation that math-verify cannot compare with the ground truth")
        if other is None:
            raise Unreadable("math-verify cannot read it")
        # It lowers the case of all symbols.
        letters = [{*_COMMAND.sub("", text)} & _LETTERS for text in (gold, answer)]
        return letters[0] == letters[1] and _ask_math_verify(one, other)


_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


class GoldUnreadable(Exception):
    """The gold answer is in a notation that nothing here reads, or has no value."""


def _read(text: str) -> Expression | None:
    """Return what math-verify reads, or None where it reads nothing or only a part."""
    text = text.replace(ROW_END, r"\\")
    found = parse(f"${text}$", [LatexExtractionConfig()], fallback_mode="no_fallback", parsing_timeout=None)
    return found[0] if found else None


def _ask_math_verify(gold: Expression, answer: Expression) -> bool:
    if not verify(gold, answer, strict=True, timeout_seconds=None):
        return False
    if isinstance(gold, sympy.Expr) and isinstance(answer, sympy.Expr):
        # It calls numbers equal that differ by less than 1e-15.
        return _agree(gold, answer) is not False
    return True


def _gold_to_sympy(term: Term) -> Expression:
    try:
        return to_sympy(term)
    except Unreadable as error:
        raise GoldUnreadable from error


def to_sympy(term: Term) -> Expression:
    """Return the sympy expression of a term; raise Unreadable where it would be too large."""
    match term:
        case Number(value):
            return sympy.Rational(value.numerator, value.denominator)
        case Symbol(name):
            return _CONSTANTS.get(name) or sympy.Symbol(name)
        case Operation(name, arguments):
            values = [to_sympy(argument) for argument in arguments]
            if name != "neg" and any(
                value.has(sympy.oo, -sympy.oo, sympy.zoo, sympy.nan) for value in values
            ):
                raise Unreadable("it calculates with infinity")
            result = _OPERATIONS[name](*values)
            if result.has(sympy.zoo, sympy.nan):
                raise Unreadable("it has no value")
            return result


def _divide(top: Expression, bottom: Expression) -> Expression:
    if bottom == 0:
        raise Unreadable("it divides by zero")
    return top / bottom


def _power(power: Expression, exponent: Expression) -> Expression:
    if exponent.is_number:
        size = abs(sympy.N(exponent, 15))
        if not size.is_finite or size > MAX_EXPONENT:
            raise Unreadable("an exponent is too large")
        if power.is_Rational and max(int(power.p).bit_length(), int(power.q).bit_length()) * size > MAX_BITS:
            raise Unreadable("a power is too large")
    return power**exponent


def _factorial(inner: Expression) -> Expression:
    if inner.is_number and not abs(inner) <= MAX_FACTORIAL:
        raise Unreadable("a factorial is too large")
    return sympy.factorial(inner)


def _binomial(upper: Expression, lower: Expression) -> Expression:
    if any(inner.is_number and not abs(inner) <= MAX_FACTORIAL for inner in (upper, lower)):
        raise Unreadable("a binomial is too large")
    return sympy.binomial(upper, lower)


def _logarithm(*arguments: Expression) -> Expression:
    """Return the natural logarithm, or that to the base that stands second."""
    if arguments[0] == 0 or (len(arguments) == 2 and arguments[1] in (0, 1)):
        raise Unreadable("a logarithm that does not exist")
    return sympy.log(*arguments)


_OPERATIONS: dict[str, Callable[..., Expression]] = {
    "+": sympy.Add,
    "*": sympy.Mul,
    "/": _divide,
    "neg": lambda inner: -inner,
    "^": _power,
    "root": sympy.root,
    "degree": lambda inner: inner * sympy.pi / 180,
    "!": _factorial,
    "binom": _binomial,
    "log": _logarithm,
    "ln": _logarithm,
    "lg": lambda inner: _logarithm(inner, sympy.Integer(10)),
    **_FUNCTIONS,
}


def _stands_for(gold: Expression, answer: Expression, places: int) -> bool:
    value = _value(gold)
    return value is not None and stands_for(value, Fraction(int(answer.p), int(answer.q)), places)


def _is_rounded(number: Expression, given: Fraction, places: int) -> bool:
    value = _value(number)
    return value is not None and is_rounded(value, given, places)


def _value(number: Expression) -> Fraction | None:
    """Return a real constant to fifty digits; None for anything else."""
    value = sympy.N(number, _DIGITS)
    if not (value.is_Float or value.is_Integer) or not value.is_finite:
        return None
    exact = sympy.Rational(value)
    return Fraction(int(exact.p), int(exact.q))


def _agree(one: Expression, other: Expression) -> bool | None:
    """Whether two expressions are equal at every point where both are real; None if too few are."""
    num_points = 0
    for left, right in _values((one, other)):
        if not _close(left, right):
            return False
        num_points += 1
    needed = _MIN_POINTS if one.free_symbols | other.free_symbols else 1
    return True if num_points >= needed else None


def _close(one: Expression, other: Expression) -> bool:
    return bool(abs(one - other) <= _TOLERANCE * max(abs(one), abs(other)))


def _values(expressions: Sequence[Expression]) -> Iterator[tuple[Expression, ...]]:
    """Yield the values of expressions at the points where all are finite and, unless i occurs, real."""
    names = sorted(set().union(*(e.free_symbols for e in expressions)), key=lambda symbol: str(symbol.name))
    is_complex = any(e.has(sympy.I) for e in expressions)
    for numbers in _POINTS if names else _POINTS[:1]:
        point = {
            name: sympy.Rational(numbers[k % len(numbers)]) + k // len(numbers)
            for k, name in enumerate(names)
        }
        values = tuple(e.evalf(_DIGITS, subs=point) for e in expressions)
        if all(_is_usable(value, is_complex) for value in values):
            yield values


def _is_usable(value: Expression, is_complex: bool) -> bool:
    real, imaginary = value.as_real_imag()
    if not (real.is_Number and imaginary.is_Number and real.is_finite and imaginary.is_finite):
        return False
    # Where everything cancels sympy returns a number of precision 1: noise, which proves nothing.
    if any(part.is_Float and part._prec == 1 for part in (real, imaginary)):
        return False
    return is_complex or imaginary == 0
