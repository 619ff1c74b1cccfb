"""Exact arithmetic on untrusted text: a small parser over fractions, in place of `eval`.

In: text such as `3*(8-5)/2`. Out: its value and the numbers it uses, or None. Bounded in length,
depth and size of numbers, so hostile text costs nothing.
"""

import re
from dataclasses import dataclass
from fractions import Fraction

from zerone.data.numerals import plain_number

_MAX_CHARACTERS = 200
_MAX_DEPTH = 20
_MAX_DIGITS = 12
_TOKEN = re.compile(r"\s*(?:(\d+)|([-+*/()]))")
_SAME_AS = str.maketrans(
    {"\u00d7": "*", "\u22c5": "*", "\u00f7": "/", "\u2212": "-", "\uff08": "(", "\uff09": ")"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Expression:
    """A parsed expression: its exact value, its numbers from left to right, a canonical form.

    The canonical form orders the operands of + and *, so that `3+8` and `8+3` vote together.
    """

    value: Fraction
    numbers: tuple[int, ...]
    canonical: str


class _Unparsable(Exception):
    """The text is not an expression; never leaves this module."""


def parse_expression(text: str) -> Expression | None:
    """Return the expression that the whole text is, or None."""
    if len(text) > _MAX_CHARACTERS:
        return None
    try:
        return _Parser(_tokens(text.translate(_SAME_AS))).parse()
    except _Unparsable:
        return None


def _tokens(text: str) -> list[str]:
    tokens, position = [], 0
    text = text.rstrip()
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None or len(match.group(1) or "") > _MAX_DIGITS:
            raise _Unparsable
        tokens.append(match.group(1) or match.group(2))
        position = match.end()
    return tokens


class _Parser:
    """Recursive descent: sum -> product -> atom."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens = tokens
        self._position = 0

    def parse(self) -> Expression:
        expression = self._sum(0)
        if self._position != len(self._tokens):
            raise _Unparsable
        return expression

    def _peek(self) -> str:
        return self._tokens[self._position] if self._position < len(self._tokens) else ""

    def _next(self) -> str:
        token = self._peek()
        self._position += 1
        return token

    def _sum(self, depth: int) -> Expression:
        left = self._product(depth)
        while self._peek() in ("+", "-"):
            left = _combine(self._next(), left, self._product(depth))
        return left

    def _product(self, depth: int) -> Expression:
        left = self._atom(depth)
        while self._peek() in ("*", "/"):
            left = _combine(self._next(), left, self._atom(depth))
        return left

    def _atom(self, depth: int) -> Expression:
        token = self._next()
        if token.isascii() and token.isdigit():
            return Expression(value=Fraction(int(token)), numbers=(int(token),), canonical=str(int(token)))
        if token != "(" or depth == _MAX_DEPTH:
            raise _Unparsable
        inner = self._sum(depth + 1)
        if self._next() != ")":
            raise _Unparsable
        return inner


def _combine(operator: str, left: Expression, right: Expression) -> Expression:
    match operator:
        case "+":
            value = left.value + right.value
        case "-":
            value = left.value - right.value
        case "*":
            value = left.value * right.value
        case _:
            if right.value == 0:
                raise _Unparsable
            value = left.value / right.value
    parts = [left.canonical, right.canonical]
    if operator in "+*":
        parts.sort()
    return Expression(
        value=value,
        numbers=left.numbers + right.numbers,
        canonical=f"({parts[0]}{operator}{parts[1]})",
    )


def parse_number(text: str) -> Fraction | None:
    """Return the exact value of a number, or None; what counts as one is `plain_number`'s to say."""
    number = plain_number(text)
    return None if number is None else Fraction(number)
