"""Exact values of the mathematics verifier against sympy, which computes them in another way."""

from fractions import Fraction

import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from zerone.rewards.math.exact import Form, NotExact, approximate, evaluate, is_equal
from zerone.rewards.math.symbolic import SymbolicJudge, to_sympy
from zerone.rewards.math.terms import Number, Operation, Symbol, Term, Unreadable

TOLERANCE = sympy.Float("1e-40", 60)
"""Both sides compute sixty digits; sums of nearly opposite terms may lose some."""

numbers = st.fractions(min_value=-9, max_value=9, max_denominator=6).map(Number)
constants = st.sampled_from([Symbol("pi"), Symbol("e")])


def terms(leaves: st.SearchStrategy[Term]) -> st.SearchStrategy[Term]:
    """Draw terms of the ring that math_exact computes in."""
    two = Number(Fraction(2))

    def deeper(inner: st.SearchStrategy[Term]) -> st.SearchStrategy[Term]:
        pairs = st.tuples(inner, inner)
        powers = st.tuples(inner, st.integers(-2, 3).map(lambda n: Number(Fraction(n))))
        return (
            st.builds(Operation, st.sampled_from(["+", "*", "/"]), pairs)
            | st.builds(Operation, st.just("neg"), st.tuples(inner))
            | st.builds(Operation, st.just("^"), powers)
            | numbers.map(lambda number: Operation("root", (number, two)))
        )

    return st.recursive(leaves, deeper, max_leaves=6)


def exact(term: Term) -> Form | None:
    """Return a term's exact form, or None for what has no value or is outside the ring."""
    try:
        return evaluate(term)
    except (NotExact, Unreadable):
        return None


@settings(deadline=None)
@given(terms(numbers | constants))
def test_real_values_are_those_of_sympy(term: Term) -> None:
    form = exact(term)
    if form is None or any(monomial.imaginary for monomial in (*form.top, *form.bottom)):
        return
    ours, theirs = sympy.Float(str(approximate(form)), 60), sympy.N(to_sympy(term), 60)
    assert abs(ours - theirs) <= TOLERANCE * max(1, abs(theirs))


@settings(deadline=None)
@given(terms(numbers | constants | st.sampled_from([Symbol("x"), Symbol("y"), Symbol("i")])), st.data())
def test_what_is_exactly_equal_is_equal_at_every_point_and_what_is_not_is_not(
    term: Term, data: st.DataObject
) -> None:
    other = data.draw(st.just(Operation("*", (Operation("+", (term, Symbol("x"))), term))) | terms(numbers))
    one, two = exact(term), exact(other)
    if one is None or two is None:
        return
    point = {sympy.Symbol("x"): sympy.Rational(7, 5), sympy.Symbol("y"): sympy.Rational(-11, 3)}
    values = [sympy.N(to_sympy(t).subs(point), 60) for t in (term, other)]
    is_close = bool(abs(values[0] - values[1]) <= TOLERANCE * max(1, abs(values[0])))
    # Different polynomials may meet at a point by chance; equal ones cannot part.
    assert is_close or not is_equal(one, two)


@settings(deadline=None, max_examples=50)
@given(terms(numbers), st.fractions(min_value=-2, max_value=2, max_denominator=10**6).filter(bool))
def test_a_value_that_is_moved_a_little_is_another_for_both(term: Term, change: Fraction) -> None:
    moved = Operation("+", (term, Number(change)))
    if exact(term) is not None and exact(moved) is not None:
        assert not is_equal(evaluate(term), evaluate(moved))
        sine, other = Operation("exp", (term,)), Operation("exp", (moved,))
        assert not SymbolicJudge().terms(sine, other)
        assert SymbolicJudge().terms(sine, sine)
