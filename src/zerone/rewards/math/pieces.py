"""Functions in pieces: which value holds where, whatever the order and the spelling of the conditions.

In: two lists of values with conditions on one name. Out: whether they are the same function, or None
where the conditions are no intervals with ends in order. The real numbers are cut at all ends that occur;
between two of them and at each of them the same value must hold on both sides.
"""

from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import pairwise

from zerone.rewards.math.kinds import Answer, Bracketed, Listing, Named, Piecewise, Scalar, UnionOf
from zerone.rewards.math.sets import place_of
from zerone.rewards.math.terms import Operation, Symbol, Term

Cell = tuple[Fraction, Term | None]
"""A point, and the term that it is where it is an end and not one between two."""


def same_function(gold: Piecewise, answer: Piecewise, same: Callable[[Answer, Answer], bool]) -> bool | None:
    """Whether two functions in pieces are the same; None where that cannot be seen."""
    conditions = [condition for side in (gold, answer) for _, condition in side.branches if condition]
    names = {condition.name for condition in conditions if isinstance(condition, Named)}
    if len(names) != 1 or not all(isinstance(condition, Named) for condition in conditions):
        return None
    (name,) = names
    ends = [_ends(condition.value) for condition in conditions if isinstance(condition, Named)]
    if any(found is None for found in ends):
        return None
    for point, end in _cells([end for found in ends for end in found or ()]):
        one, other = (_value_at(side, point) for side in (gold, answer))
        if one is None and other is None:
            continue
        if one is None or other is None:
            return False
        if end is not None:
            one, other = (_with_value(value, name, end) for value in (one, other))
        if not same(one, other):
            return False
    return True


def _ends(region: Answer) -> list[Term] | None:
    """Return the finite ends of a region; None where its parts are no intervals or numbers."""
    match region:
        case Scalar(term, ""):
            return [term] if isinstance(place_of(region), Fraction) else None
        case Bracketed(opening, _, (low, high)) if opening in "([":
            places = [place_of(end) for end in (low, high)]
            terms = [end.term for end in (low, high) if isinstance(end, Scalar)]
            if None in places or len(terms) != 2:
                return None
            return [term for term, place in zip(terms, places, strict=True) if isinstance(place, Fraction)]
        case UnionOf(parts) | Listing(parts):
            found = [_ends(part) for part in parts]
            return None if None in found else [end for ends in found for end in ends or ()]
    return None


def _cells(ends: Sequence[Term]) -> list[Cell]:
    """Return each end, and a point on both sides of it."""
    places: dict[Fraction, Term] = {}
    for end in ends:
        place = place_of(Scalar(end, ""))
        if isinstance(place, Fraction):
            places.setdefault(place, end)
    if not places:
        return [(Fraction(0), None)]
    points = sorted(places)
    between = [(low + high) / 2 for low, high in pairwise(points)]
    cells: list[Cell] = [(point, None) for point in (points[0] - 1, *between, points[-1] + 1)]
    return [*cells, *places.items()]


def _value_at(function: Piecewise, point: Fraction) -> Answer | None:
    for value, condition in function.branches:
        if condition is None or (isinstance(condition, Named) and _holds(condition.value, point)):
            return value
    return None


def _holds(region: Answer, point: Fraction) -> bool:
    match region:
        case Scalar():
            return place_of(region) == point
        case Bracketed(opening, closing, (low, high)):
            start, end = place_of(low), place_of(high)
            if start is None or end is None:
                return False
            return (start < point or (opening == "[" and start == point)) and (
                point < end or (closing == "]" and point == end)
            )
        case UnionOf(parts) | Listing(parts):
            return any(_holds(part, point) for part in parts)
    return False


def _with_value(answer: Answer, name: str, value: Term) -> Answer:
    """Return a scalar with a value in place of a name."""
    return (
        Scalar(_substituted(answer.term, name, value), answer.unit) if isinstance(answer, Scalar) else answer
    )


def _substituted(term: Term, name: str, value: Term) -> Term:
    match term:
        case Symbol(found):
            return value if found == name else term
        case Operation(operation, arguments):
            return Operation(operation, tuple(_substituted(part, name, value) for part in arguments))
    return term
