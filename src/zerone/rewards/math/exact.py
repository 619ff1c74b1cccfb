"""Exact values of terms, without sympy: rationals, and polynomials in roots, variables, pi, e and i.

In: a term. Out: a quotient of two sums of monomials with rational coefficients, such that two terms
are equal exactly if their cross products are the same. A monomial holds the root of a square-free
integer, i to the power 0 or 1, and integer powers of symbols; these are linearly independent, so a
difference is a proof. Terms outside this ring (sines, logarithms, cube roots, x to the power y)
raise `NotExact`; what is too large to compute raises `Unreadable`.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Context, Decimal
from fractions import Fraction
from functools import lru_cache, reduce
from itertools import starmap

from zerone.rewards.math.guards import MAX_BITS, MAX_EXPONENT, MAX_FACTORIAL
from zerone.rewards.math.terms import Number, Operation, Symbol, Term, Unreadable

_MAX_MONOMIALS = 400
_MAX_DIVISOR = 10_000
_CONTEXT = Context(prec=60)
_CONSTANTS = {
    "pi": Decimal("3.14159265358979323846264338327950288419716939937510582097494459"),
    "e": Decimal("2.71828182845904523536028747135266249775724709369995957496696763"),
}


class NotExact(Exception):
    """The term is outside the ring of this module; sympy must judge it."""


@dataclass(frozen=True, slots=True, order=True)
class Monomial:
    """root(radicand) * i^imaginary * product of symbol^exponent, exponents not zero, sorted by symbol."""

    symbols: tuple[tuple[str, int], ...] = ()
    radicand: int = 1
    imaginary: int = 0


Polynomial = dict[Monomial, Fraction]
_ONE = Monomial()
_UNIT: Polynomial = {_ONE: Fraction(1)}


@dataclass(frozen=True, slots=True)
class Form:
    """A quotient; the denominator is the constant 1 unless it has several monomials."""

    top: Polynomial
    bottom: Polynomial

    @property
    def rational(self) -> Fraction | None:
        """The value, if it is a rational number."""
        if self.bottom != _UNIT or set(self.top) - {_ONE}:
            return None
        return self.top.get(_ONE, Fraction(0))

    @property
    def canonical(self) -> str:
        """A text that equal polynomials share."""
        top = _written(self.top)
        return top if self.bottom == _UNIT else f"({top})/({_written(self.bottom)})"


@lru_cache(maxsize=4096)
def evaluate(term: Term) -> Form:
    """Return the exact form of a term; raise NotExact, or Unreadable if it has no value."""
    return _evaluate(term)


def _evaluate(term: Term) -> Form:
    match term:
        case Number(value):
            return _constant(value)
        case Symbol("i"):
            return _polynomial({Monomial(imaginary=1): Fraction(1)})
        case Symbol(name):
            return _polynomial({Monomial(symbols=((name, 1),)): Fraction(1)})
        case Operation(name, arguments):
            return _operation(name, arguments)


def is_equal(left: Form, right: Form) -> bool:
    """Whether two forms are equal wherever both are defined."""
    return left == right or _product(left.top, right.bottom) == _product(right.top, left.bottom)


def ratio(left: Form, right: Form) -> Fraction | None:
    """Return the rational c with left = c * right, or None if there is none."""
    one, other = _product(left.top, right.bottom), _product(right.top, left.bottom)
    if one.keys() != other.keys() or not one:
        return None
    quotients = {one[monomial] / other[monomial] for monomial in one}
    return quotients.pop() if len(quotients) == 1 else None


def approximate(form: Form) -> Decimal:
    """Return the value of a real constant to some fifty digits; raise NotExact for anything else."""
    top, bottom = (
        reduce(_CONTEXT.add, starmap(_approximate, part.items()), Decimal(0))
        for part in (form.top, form.bottom)
    )
    return _CONTEXT.divide(top, bottom)


def _approximate(monomial: Monomial, coefficient: Fraction) -> Decimal:
    if monomial.imaginary:
        raise NotExact
    value = _CONTEXT.divide(Decimal(coefficient.numerator), Decimal(coefficient.denominator))
    value = _CONTEXT.multiply(value, _CONTEXT.sqrt(Decimal(monomial.radicand)))
    for name, exponent in monomial.symbols:
        if name not in _CONSTANTS:
            raise NotExact
        value = _CONTEXT.multiply(value, _CONTEXT.power(_CONSTANTS[name], exponent))
    return value


def _written(polynomial: Polynomial) -> str:
    terms = []
    for monomial, coefficient in sorted(polynomial.items()):
        factors = [f"{name}^{exponent}" if exponent != 1 else name for name, exponent in monomial.symbols]
        if monomial.radicand != 1:
            factors.append(f"sqrt({monomial.radicand})")
        if monomial.imaginary:
            factors.append("i")
        number = [_written_number(coefficient)] if coefficient != 1 or not factors else []
        terms.append("*".join(number + factors))
    return "+".join(terms) or "0"


def _written_number(value: Fraction) -> str:
    # Python refuses to write very long integers in decimal.
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > 4_000:
        return f"{value.numerator:#x}/{value.denominator:#x}"
    return str(value)


def _constant(value: Fraction) -> Form:
    return Form(_bounded({_ONE: value}) if value else {}, _UNIT)


def _polynomial(terms: Polynomial) -> Form:
    return Form(terms, _UNIT)


def _operation(name: str, arguments: tuple[Term, ...]) -> Form:
    if name not in _OPERATIONS:
        raise NotExact
    if name != "neg" and any(map(_is_infinite, arguments)):
        raise Unreadable("it calculates with infinity")
    return _OPERATIONS[name](*map(_evaluate, arguments))


def _is_infinite(term: Term) -> bool:
    match term:
        case Operation("neg", (inner,)):
            return _is_infinite(inner)
        case _:
            return term == Symbol("infinity")


def _add(*forms: Form) -> Form:
    total = forms[0]
    for form in forms[1:]:
        if total.bottom == form.bottom:
            total = Form(_sum(total.top, form.top), total.bottom)
        else:
            top = _sum(_product(total.top, form.bottom), _product(form.top, total.bottom))
            total = _quotient(top, _product(total.bottom, form.bottom))
    return total


def _multiply(left: Form, right: Form) -> Form:
    return _quotient(_product(left.top, right.top), _product(left.bottom, right.bottom))


def _divide(left: Form, right: Form) -> Form:
    if not right.top:
        raise Unreadable("it divides by zero")
    return _quotient(_product(left.top, right.bottom), _product(left.bottom, right.top))


def _negate(form: Form) -> Form:
    return Form({monomial: -coefficient for monomial, coefficient in form.top.items()}, form.bottom)


def _power(form: Form, exponent: Form) -> Form:
    power = exponent.rational
    if power is None:
        raise NotExact
    if abs(power) > MAX_EXPONENT:
        raise Unreadable("an exponent is too large")
    if power.denominator != 1:
        return _power(
            _root(form, _constant(Fraction(power.denominator))), _constant(Fraction(power.numerator))
        )
    if power < 0:
        return _power(_divide(_polynomial(_UNIT), form), _constant(-power))
    if (value := form.rational) is not None:
        _bound(value, int(power))
        if not value and not power:
            raise Unreadable("zero to the power of zero")
        return _constant(value ** int(power))
    result = _polynomial(_UNIT)
    for bit in f"{int(power):b}":
        result = _multiply(result, result)
        if bit == "1":
            result = _multiply(result, form)
    return result


def _bound(value: Fraction, power: int) -> None:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) * power > MAX_BITS:
        raise Unreadable("a power is too large")


def _root(form: Form, degree: Form) -> Form:
    value, order = form.rational, degree.rational
    if value is None or order is None or order.denominator != 1 or not 2 <= order <= MAX_EXPONENT:
        raise NotExact
    if order == 2:
        # Root of a/b as root of ab over b.
        outside, radicand = _square_free(abs(value.numerator) * value.denominator)
        coefficient = Fraction(outside, value.denominator)
        imaginary = int(value < 0)
        return _polynomial({Monomial((), radicand, imaginary): coefficient} if value else {})
    roots = [_whole_root(part, int(order)) for part in (abs(value.numerator), value.denominator)]
    if None in roots or (value < 0 and order % 2 == 0):
        raise NotExact
    top, bottom = (int(root) for root in roots if root is not None)
    return _constant(Fraction(-top if value < 0 else top, bottom))


def _whole_root(number: int, order: int) -> int | None:
    """Return the integer whose power is the number, or None."""
    low, high = 0, 1 << (number.bit_length() // order + 1)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if middle**order <= number else (low, middle - 1)
    return low if low**order == number else None


def _square_free(number: int) -> tuple[int, int]:
    """Return (a, b) with number = a^2 * b and b free of squares; raise NotExact where that is costly."""
    if (root := math.isqrt(number)) ** 2 == number:
        return max(root, 1), 1 if number else 0
    if number.bit_length() > 400:
        raise NotExact
    outside, radicand, divisor = 1, 1, 2
    while divisor <= _MAX_DIVISOR and divisor * divisor <= number:
        while number % (divisor * divisor) == 0:
            number //= divisor * divisor
            outside *= divisor
        if number % divisor == 0:
            number //= divisor
            radicand *= divisor
        divisor += 1 if divisor == 2 else 2
    if (root := math.isqrt(number)) ** 2 == number:
        return outside * root, radicand
    # Of what is left every prime is above the bound: a cube of one is above this, so no square is hidden.
    if number >= _MAX_DIVISOR**3:
        raise NotExact
    return outside, radicand * number


def _factorial(form: Form) -> Form:
    value = form.rational
    if value is None:
        raise NotExact
    if value.denominator != 1 or value < 0:
        raise Unreadable("a factorial of something other than a natural number")
    if value > MAX_FACTORIAL:
        raise Unreadable("a factorial is too large")
    return _constant(Fraction(math.factorial(int(value))))


def _binomial(upper: Form, lower: Form) -> Form:
    top, bottom = upper.rational, lower.rational
    if top is None or bottom is None:
        raise NotExact
    if top.denominator != 1 or bottom.denominator != 1 or min(top, bottom) < 0:
        raise Unreadable("a binomial of something other than natural numbers")
    if top > MAX_FACTORIAL:
        raise Unreadable("a binomial is too large")
    return _constant(Fraction(math.comb(int(top), int(bottom))))


def _absolute(form: Form) -> Form:
    value = form.rational
    if value is None:
        raise NotExact
    return _constant(abs(value))


def _whole(form: Form, rounded: Callable[[Fraction], int]) -> Form:
    """Return a constant rounded down or up; raise NotExact where it may be the whole number beside it."""
    value = form.rational
    if value is None:
        value = Fraction(approximate(form))
        if abs(value - round(value)) < Fraction(1, 10**30):
            raise NotExact
    return _constant(Fraction(rounded(value)))


_OPERATIONS: dict[str, Callable[..., Form]] = {
    "+": _add,
    "*": _multiply,
    "/": _divide,
    "neg": _negate,
    "^": _power,
    "root": _root,
    "!": _factorial,
    "binom": _binomial,
    "abs": _absolute,
    "floor": lambda form: _whole(form, math.floor),
    "ceil": lambda form: _whole(form, math.ceil),
}


def _sum(left: Polynomial, right: Polynomial) -> Polynomial:
    total = dict(left)
    for monomial, coefficient in right.items():
        new = total.get(monomial, Fraction(0)) + coefficient
        if new:
            total[monomial] = new
        else:
            total.pop(monomial, None)
    return _bounded(total)


def _bounded(polynomial: Polynomial) -> Polynomial:
    """Return a polynomial, or raise Unreadable where its numbers would make all further work slow."""
    num_bits = sum(c.numerator.bit_length() + c.denominator.bit_length() for c in polynomial.values())
    if num_bits > MAX_BITS:
        raise Unreadable("its numbers are too large")
    return polynomial


def _product(left: Polynomial, right: Polynomial) -> Polynomial:
    if right == _UNIT:
        return left
    if left == _UNIT:
        return right
    if len(left) * len(right) > _MAX_MONOMIALS:
        raise NotExact
    total: Polynomial = {}
    for (one, a), (other, b) in _pairs(left, right):
        monomial, factor = _times(one, other)
        new = total.get(monomial, Fraction(0)) + a * b * factor
        if new:
            total[monomial] = new
        else:
            total.pop(monomial, None)
    return _bounded(total)


_Item = tuple[Monomial, Fraction]


def _pairs(left: Polynomial, right: Polynomial) -> Iterator[tuple[_Item, _Item]]:
    for one in left.items():
        for other in right.items():
            yield one, other


def _times(left: Monomial, right: Monomial) -> tuple[Monomial, int]:
    """Return the product of two monomials and the integer that comes out of it."""
    shared = math.gcd(left.radicand, right.radicand)
    imaginary = left.imaginary + right.imaginary
    exponents = dict(left.symbols)
    for name, exponent in right.symbols:
        exponents[name] = exponents.get(name, 0) + exponent
    monomial = Monomial(
        tuple(sorted((name, exponent) for name, exponent in exponents.items() if exponent)),
        left.radicand * right.radicand // shared**2,
        imaginary % 2,
    )
    return monomial, -shared if imaginary == 2 else shared


def _quotient(top: Polynomial, bottom: Polynomial) -> Form:
    """Return top/bottom with a denominator of one monomial brought upwards."""
    if len(bottom) != 1 or bottom == _UNIT:
        return Form(top, bottom)
    ((monomial, coefficient),) = bottom.items()
    inverse = Monomial(
        tuple((name, -exponent) for name, exponent in monomial.symbols), monomial.radicand, monomial.imaginary
    )
    # 1/root(r) is root(r)/r, and 1/i is -i.
    scale = coefficient * monomial.radicand * (-1 if monomial.imaginary else 1)
    return Form(_product(top, {inverse: 1 / scale}), _UNIT)
