"""Sets of real numbers, where reading them takes an order: points left out, half-lines that overlap.

In: intervals and points as read. Out: the union or interval that they are, or None where exact
arithmetic cannot order the ends. Unions are never merged.
"""

import itertools
from fractions import Fraction

from zerone.rewards.math.exact import NotExact, approximate, evaluate
from zerone.rewards.math.kinds import Answer, Bracketed, Listing, Scalar, UnionOf
from zerone.rewards.math.terms import Operation, Symbol, Term

INFINITY = Scalar(Symbol("infinity"), "")
MINUS_INFINITY = Scalar(Operation("neg", (Symbol("infinity"),)), "")
REALS = Bracketed("(", ")", (MINUS_INFINITY, INFINITY))


def without_points(whole: Answer, removed: Answer) -> UnionOf | None:
    """Return an interval without some points inside it, as the union of what is left."""
    if not (isinstance(whole, Bracketed) and isinstance(removed, Listing) and removed.items):
        return None
    places = [place_of(item) for item in (*whole.items, *removed.items)]
    if len(whole.items) != 2 or whole.opening not in "([" or any(place is None for place in places):
        return None
    low, high, *points = [place for place in places if place is not None]
    pairs = sorted(zip(points, removed.items, strict=True), key=lambda pair: pair[0])
    ordered = [low, *(point for point, _ in pairs), high]
    if not all(left < right for left, right in itertools.pairwise(ordered)):
        return None
    ends = [whole.items[0], *(item for _, item in pairs), whole.items[1]]
    openings = [whole.opening, *"(" * len(pairs)]
    closings = [*")" * len(pairs), whole.closing]
    parts = zip(openings, closings, itertools.pairwise(ends), strict=True)
    return UnionOf(tuple(Bracketed(opening, closing, part) for opening, closing, part in parts))


def overlap(one: Bracketed, other: Bracketed) -> Bracketed | None:
    """Return the interval that two half-lines in opposite directions share; None where it is none."""
    low, high = (one, other) if one.items[1] == INFINITY else (other, one)
    if low.items[1] != INFINITY or high.items[0] != MINUS_INFINITY:
        return None
    start, end = place_of(low.items[0]), place_of(high.items[1])
    if start is None or end is None or not start < end:
        return None
    return Bracketed(low.opening, high.closing, (low.items[0], high.items[1]))


def place_of(answer: Answer) -> Fraction | float | None:
    """Return where a number is on the line; None for what is no number."""
    match answer:
        case Scalar(Symbol("infinity"), ""):
            return float("inf")
        case Scalar(Operation("neg", (Symbol("infinity"),)), ""):
            return -float("inf")
        case Scalar(term, ""):
            return _value(term)
    return None


def _value(term: Term) -> Fraction | None:
    try:
        form = evaluate(term)
        return Fraction(approximate(form)) if form.rational is None else form.rational
    except NotExact:
        return None
