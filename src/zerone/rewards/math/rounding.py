"""Equality of expressions with floors and ceilings; runs in a worker process only.

In: two sympy expressions. Out: whether they are equal. Points say little here: a floor is constant
between them. So floors count as unknowns of their own, equal where what they round is equal; and only
where all variables have the letters of whole numbers (`n`, `k`) do whole numbers decide as well,
also those around every constant that occurs. `x` stays real: its floor is not its ceiling less one.
"""

import itertools
from collections.abc import Callable
from typing import Any

import sympy

Expression = Any  # sympy has no types

_WHOLE_LETTERS = frozenset("ijklmnpqrsKLMNPQR")
_POINTS = (*range(1, 41), 63, 64, 65, 99, 100, 101, 127, 128, 129, 255, 256, 1000, 1023, 1024, 1025)
_STRIDES = (1, 7, 11, 17)
_MAX_CONSTANT = 10**6
_MAX_POINTS = 100


def has_rounding(*expressions: Expression) -> bool:
    """Whether a floor or ceiling occurs."""
    return any(expression.has(sympy.floor, sympy.ceiling) for expression in expressions)


def agree_rounded(
    one: Expression, other: Expression, agree: Callable[[Expression, Expression], bool | None]
) -> bool:
    """Whether two expressions with floors are equal; `agree` compares those without."""
    names: dict[Expression, Expression] = {}
    if agree(_without_rounding(one, names), _without_rounding(other, names)):
        return True
    symbols = sorted(one.free_symbols | other.free_symbols, key=lambda symbol: str(symbol.name))
    if not all(symbol.name[0] in _WHOLE_LETTERS for symbol in symbols):
        return False
    return all(
        _same_value(one.subs(point), other.subs(point), agree) for point in _points(symbols, one, other)
    )


def _without_rounding(expression: Expression, names: dict[Expression, Expression]) -> Expression:
    """Return an expression with a symbol in place of each floor, the same for the same argument."""
    rounded = sorted(expression.atoms(sympy.floor, sympy.ceiling), key=sympy.count_ops)
    for part in rounded:
        inner = part.args[0] if isinstance(part, sympy.floor) else -part.args[0]
        # A ceiling is the floor of the negative; floors move whole numbers outside by themselves.
        floor = sympy.floor(sympy.expand(sympy.expand_log(inner, force=True)))
        sign = 1 if isinstance(part, sympy.floor) else -1
        expression = expression.xreplace({part: sign * _named(floor, names)})
    return expression


def _named(floor: Expression, names: dict[Expression, Expression]) -> Expression:
    """Return a whole shift and the symbol of the floor in it."""
    return floor.replace(
        lambda part: isinstance(part, sympy.floor),
        lambda part: names.setdefault(part, sympy.Symbol(f"floor{len(names)}")),
    )


def _points(
    symbols: list[Expression], one: Expression, other: Expression
) -> list[dict[Expression, Expression]]:
    """Return whole numbers for each symbol: small ones, and those around the constants."""
    constants = {abs(int(number)) for e in (one, other) for number in e.atoms(sympy.Integer)}
    constants |= {int(number.q) for e in (one, other) for number in e.atoms(sympy.Rational)}
    near = sorted(
        {c * k + shift for c in constants if 2 < c <= _MAX_CONSTANT for k in (1, 2) for shift in (-1, 0, 1)}
    )
    values = [*_POINTS, *near][:_MAX_POINTS]
    points = []
    for place, value in enumerate(values):
        shifted = [values[(place * stride + k) % len(values)] for k, stride in enumerate(_STRIDES)]
        numbers = itertools.chain([value], shifted[1:], itertools.repeat(value))
        points.append(
            {symbol: sympy.Integer(number) for symbol, number in zip(symbols, numbers, strict=False)}
        )
    return points


def _same_value(
    one: Expression, other: Expression, agree: Callable[[Expression, Expression], bool | None]
) -> bool:
    if one.is_Rational and other.is_Rational:
        return bool(one == other)
    return has_rounding(one, other) is False and agree(one, other) is True
