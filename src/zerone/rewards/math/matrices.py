"""Matrices with factors: `3 A`, and a line in space `A + t B`, entry by entry.

In: tokens, and the reader of a cell. Out: one matrix. Sums and products of matrices that are numbers are
the task again, and no answer.
"""

import re
from collections.abc import Callable, Sequence
from fractions import Fraction

from zerone.rewards.math.kinds import Answer, Matrix, Scalar
from zerone.rewards.math.terms import Number, Operation, Term, Unreadable, has_variables, parse_term
from zerone.rewards.math.text import ROW_END
from zerone.rewards.math.tokens import is_enclosed, split_tokens

_ONE = Number(Fraction(1))
_Rows = tuple[tuple[Answer, ...], ...]
Reader = Callable[[list[str]], Answer]
MATRIX = re.compile(r"\\begin\s*\{\s*[pbB]?(?:small)?matrix\s*\}")


def _combined(signs: Sequence[str], parts: Sequence[tuple[Term, _Rows]]) -> Matrix:
    """Return the sum of matrices with factors, of which at most one has no variable."""
    if len(parts) > 1 and sum(not has_variables(factor) for factor, _ in parts) > 1:
        raise Unreadable("a sum of matrices")
    shapes = {(len(rows), len(rows[0])) for _, rows in parts}
    if len(shapes) > 1:
        raise Unreadable("matrices of different shapes")
    factors = [
        Operation("neg", (factor,)) if sign == "-" else factor
        for sign, (factor, _) in zip(signs, parts, strict=True)
    ]
    if factors == [_ONE]:
        return Matrix(parts[0][1])
    (height, width) = shapes.pop()
    return Matrix(
        tuple(
            tuple(_linear(factors, [rows[i][j] for _, rows in parts]) for j in range(width))
            for i in range(height)
        )
    )


def _linear(factors: Sequence[Term], cells: Sequence[Answer]) -> Scalar:
    terms = [cell.term for cell in cells if isinstance(cell, Scalar) and not cell.unit]
    if len(terms) != len(factors):
        raise Unreadable("a matrix of something other than numbers")
    products = tuple(Operation("*", pair) for pair in zip(factors, terms, strict=True))
    return Scalar(products[0] if len(products) == 1 else Operation("+", products), "")


def read_matrices(tokens: list[str], read: Reader) -> Matrix | None:
    """Read a matrix with a factor, or a line `a + t b`; None for what only holds a matrix."""
    parts, signs = split_tokens(tokens, lambda token: token in ("+", "-"))
    if parts[0]:
        signs.insert(0, "+")
    pairs = [_read_scaled(part, read) for part in parts if part]
    found = [(factor, rows) for factor, rows in filter(None, pairs)]
    if not found or len(found) != len(signs):
        return None
    return _combined(signs, found)


def _read_scaled(tokens: list[str], read: Reader) -> tuple[Term, _Rows] | None:
    """Read one matrix and the factors before and behind it."""
    start = next((place for place, token in enumerate(tokens) if token.startswith("\\begin")), 0)
    end = next((place for place, token in enumerate(tokens) if token.startswith("\\end")), 0) + 1
    inside = tokens[start:end]
    if (
        not inside
        or not MATRIX.fullmatch(inside[0])
        or not inside[-1].startswith("\\end")
        or not is_enclosed(inside)
    ):
        return None
    before, behind = tokens[:start], tokens[end:]
    if before[-1:] and before[-1] in ("(", "[") and behind[:1] and behind[0] in (")", "]"):
        before, behind = before[:-1], behind[1:]
    if before[-1:] == ["*"]:
        before.pop()
    if behind[:1] == ["*"]:
        behind.pop(0)
    # A power of a matrix is work, and a number behind one would be a power that lost its sign.
    if behind and not (behind[0][0].isalpha() or behind[0].startswith("\\")):
        return None
    factors = [parse_term(factor) for factor in (before, behind) if factor]
    factor = factors[0] if len(factors) == 1 else Operation("*", tuple(factors))
    return factor if factors else _ONE, _read_rows(inside[1:-1], read)


def _read_rows(tokens: list[str], read: Reader) -> _Rows:
    rows, _ = split_tokens(tokens, lambda token: token == ROW_END)
    if rows and not rows[-1]:
        rows.pop()
    found = tuple(
        tuple(read(cell) for cell in split_tokens(row, lambda token: token == "&")[0]) for row in rows
    )
    if not found or len({len(row) for row in found}) != 1:
        raise Unreadable("a matrix with rows of different lengths")
    return found
