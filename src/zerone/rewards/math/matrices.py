"""Matrices with factors: `3 A`, and a line in space `A + t B`, entry by entry.

In: factors and matrices as read. Out: one matrix. Sums and products of matrices that are numbers are
the task again, and no answer.
"""

from collections.abc import Sequence
from fractions import Fraction

from zerone.rewards.math.kinds import Answer, Matrix, Scalar
from zerone.rewards.math.terms import Number, Operation, Term, Unreadable, has_variables

ONE = Number(Fraction(1))
Rows = tuple[tuple[Answer, ...], ...]


def combined(signs: Sequence[str], parts: Sequence[tuple[Term, Rows]]) -> Matrix:
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
    if factors == [ONE]:
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
        raise Unreadable("a matrix of what are no numbers")
    products = tuple(Operation("*", pair) for pair in zip(factors, terms, strict=True))
    return Scalar(products[0] if len(products) == 1 else Operation("+", products), "")
