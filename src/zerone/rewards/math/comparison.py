"""Compares an answer with the gold answer, part by part.

In: two readings and a judge of terms. Out: whether they are the same answer. The structure (lists,
brackets, units, names, conditions) is compared here once; the judge decides terms (math_judge.py).
"""

import re
from collections.abc import Callable, Sequence

from zerone.rewards.math.conditions import ANY
from zerone.rewards.math.judge import Judge
from zerone.rewards.math.kinds import (
    Answer,
    Approximate,
    Bracketed,
    Chain,
    Clock,
    Conditional,
    Foreign,
    Listing,
    Matrix,
    Named,
    Piecewise,
    Reading,
    Relation,
    Scalar,
    SetBuilder,
    UnionOf,
    Words,
    as_words,
    parts_of,
)
from zerone.rewards.math.pieces import same_function
from zerone.rewards.math.terms import Number, Symbol, has_variables
from zerone.rewards.math.text import tokenise
from zerone.rewards.math.units import BASE


def is_same(gold: Reading, answer: Reading, judge: Judge) -> bool:
    """Whether an answer is the gold answer."""
    if isinstance(gold.answer, Words) or isinstance(answer.answer, Words):
        return as_words(gold.source) == as_words(answer.source)
    # Not the texts without spaces: `1 1/2` is not `11/2`.
    if tokenise(gold.source) == tokenise(answer.source):
        return True
    if isinstance(gold.answer, Foreign) or isinstance(answer.answer, Foreign):
        return judge.texts(gold.source, answer.source, is_foreign=isinstance(gold.answer, Foreign))
    return _same_whole(gold.answer, answer.answer, judge)


def _same_whole(gold: Answer, answer: Answer, judge: Judge) -> bool:
    """Whether two whole answers are the same: here braces around a list do not count."""
    if (found := _same_said(gold, answer, judge, _same_whole)) is not None:
        return found
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
    if (found := _same_said(gold, answer, judge, _same)) is not None:
        return found
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
        case (Clock(), _) | (_, Clock()):
            same = _same_time(gold, answer)
        case Piecewise(), Piecewise():
            same = _same_pieces(gold, answer, judge)
        case _:
            same = _same_items(gold, answer, judge)
    return same


def _same_items(gold: Answer, answer: Answer, judge: Judge) -> bool:
    """Whether two collections hold the same, in order where order counts."""
    same = False
    match gold, answer:
        case Listing(some, is_set), Listing(others, is_other_set):
            same = is_set == is_other_set and _same_set(some, others, judge)
        case UnionOf(some), UnionOf(others):
            same = _same_set(some, others, judge)
        case Bracketed(opening, closing, some), Bracketed(other_opening, other_closing, others):
            brackets_match = (opening, closing) == (other_opening, other_closing)
            same = brackets_match and _same_sequence(some, others, judge)
        case SetBuilder(pattern, some, domains), SetBuilder(other_pattern, others, other_domains):
            is_pattern = domains == other_domains and _same(pattern, other_pattern, judge)
            same = is_pattern and _same_set(some, others, judge)
        case Matrix(rows), Matrix(other_rows):
            same = len(rows) == len(other_rows) and all(
                _same_sequence(row, other, judge) for row, other in zip(rows, other_rows, strict=True)
            )
    return same


Comparison = Callable[[Answer, Answer, Judge], bool]


def _same_said(gold: Answer, answer: Answer, judge: Judge, same: Comparison) -> bool | None:
    """Compare what is said around a value: other spellings, its precision, its names; None for nothing."""
    found: bool | None = None
    match gold, answer:
        case _, Chain((Scalar() as exact, Approximate(Scalar(decimal, _)))):
            found = same(gold, exact, judge) and judge.rounds(decimal, exact.term)
        case Chain(values), _:
            found = any(same(value, answer, judge) for value in values)
        case Approximate(Scalar(decimal, unit)), Scalar(value, other_unit):
            is_near = judge.terms(decimal, value) or judge.rounds(decimal, value)
            found = _same_unit(unit, other_unit) and is_near
        case Approximate(value), _:
            found = same(value, answer, judge)
        case Conditional(), Conditional():
            found = _same_conditional(gold, answer, judge, same)
        case Conditional(value), _:
            found = same(value, answer, judge)
        case _, Conditional(value):
            found = same(gold, value, judge)
        case _:
            found = _same_assignment(gold, answer, judge)
    return found


def _same_conditional(gold: Conditional, answer: Conditional, judge: Judge, same: Comparison) -> bool:
    """Whether two values are the same with the same names, or with others from the same sets."""
    names, others = dict(gold.domains), dict(answer.domains)
    if any(
        names[name] != others[name] and ANY not in (names[name], others[name])
        for name in names.keys() & others.keys()
    ):
        return False
    if same(gold.value, answer.value, judge):
        return True
    are_sets = sorted(names.values()) == sorted(others.values())
    return are_sets and same(gold.bound, answer.bound, judge)


Assigned = list[tuple[str, Answer]]


def _assigned(answer: Answer) -> Assigned | None:
    """Return the values of several names: `(a, b) = (2, 5)` or `a = 2, b = 5`; None for anything else."""
    match answer:
        case Named(name, Bracketed("(", ")", items)) if name.startswith("("):
            names = name[1:-1].split(",")
            return list(zip(names, items, strict=True)) if len(names) == len(items) else None
        case Listing(items) if len(items) > 1:
            pairs = [(item.name, item.value) for item in items if isinstance(item, Named)]
            return pairs if len(dict(pairs)) == len(items) else None
    return None


def _same_assignment(gold: Answer, answer: Answer, judge: Judge) -> bool | None:
    """Compare values by their names; with names on one side only, by their order."""
    one, other = _assigned(gold), _assigned(answer)
    if one is not None and other is not None:
        by_name = dict(other)
        if dict(one).keys() != by_name.keys():
            return None if _are_numbered(one) else False
        return all(_same(value, by_name[name], judge) for name, value in one)
    if one is not None:
        return _same_unnamed(gold, one, answer, lambda mine, bare: _same(mine, bare, judge))
    if other is not None:
        return _same_unnamed(answer, other, gold, lambda mine, bare: _same(bare, mine, judge))
    return None


def _same_unnamed(
    named: Answer, pairs: Assigned, bare: Answer, same: Callable[[Answer, Answer], bool]
) -> bool | None:
    """Compare the values of names with values that have none; None where names do not part them."""
    if _are_numbered(pairs) or isinstance(bare, Named | Relation):
        return None
    names = [name for name, _ in pairs]
    match bare:
        case Bracketed("(", ")", items) if isinstance(named, Named) or names == sorted(names):
            pass
        case Bracketed("(", ")", _):
            return False
        case Listing() if isinstance(named, Named):
            return False
        case Listing(items, has_braces) if not any(isinstance(item, Named) for item in items):
            if has_braces:
                return all(any(same(value, item) for item in items) for _, value in pairs) and all(
                    any(same(value, item) for _, value in pairs) for item in items
                )
        case _:
            return None
    return len(items) == len(pairs) and all(
        same(value, item) for (_, value), item in zip(pairs, items, strict=True)
    )


def _are_numbered(pairs: Assigned) -> bool:
    """Whether names are those of one thing, such as `x_1` and `x_2`: their values have no order."""
    return len({_stem(name) for name, _ in pairs}) < len(pairs)


def _stem(name: str) -> str:
    """Return a name without its number: `x_1` and `x_2` are values of `x`."""
    return re.sub(r"(?<=[A-Za-z])_(?:\d|\{[\d,]+\})$", "", name)


def _same_pieces(gold: Piecewise, answer: Piecewise, judge: Judge) -> bool:
    found = same_function(gold, answer, lambda one, other: _same(one, other, judge))
    if found is not None:
        return found

    def is_in(branch: tuple[Answer, Answer | None], branches: Sequence[tuple[Answer, Answer | None]]) -> bool:
        value, condition = branch
        return any(
            _same(value, other, judge)
            and (condition == other_condition or None not in (condition, other_condition))
            and (condition is None or other_condition is None or _same(condition, other_condition, judge))
            for other, other_condition in branches
        )

    return len(gold.branches) == len(answer.branches) and all(
        is_in(branch, answer.branches) for branch in gold.branches
    )


def _same_time(gold: Answer, answer: Answer) -> bool:
    """Whether two times of day are the same; a missing `pm` is forgiven, and 19:30 is 7:30 pm."""
    if isinstance(gold, Clock) and isinstance(answer, Clock):
        return gold.of_day == answer.of_day
    clock, other = (gold, answer) if isinstance(gold, Clock) else (answer, gold)
    match clock, other:
        case Clock(hour, minute, second), Bracketed(":", ":", items):
            terms = [item.term for item in items if isinstance(item, Scalar) and not item.unit]
            values = [term.value for term in terms if isinstance(term, Number)]
            written = [(hour, minute, second), clock.of_day]
            return len(values) == len(items) and (*values, 0)[:3] in written
    return False


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


def _same_named(gold: Answer, answer: Answer, judge: Judge, same: Comparison) -> bool:
    match gold, answer:
        case Named(name, value), Named(other_name, other_value) if _same_name(name, other_name):
            return same(value, other_value, judge)
        case Named(_, value), Relation() if _is_solved(value):
            # `3x+2 = 17` leaves to the checker what `x = 5` says.
            return False
        case ((Named() | Relation()), (Named() | Relation())):
            one, other = (side.relation if isinstance(side, Named) else side for side in (gold, answer))
            return one is not None and other is not None and judge.relations(one, other)
        case Named(name, value), _:
            return not _is_interval(name, value, answer) and same(value, answer, judge)
        case _, Named(name, value):
            return not _is_interval(name, value, gold) and same(gold, value, judge)
        case _:
            return False


def _is_interval(name: str, value: Answer, other: Answer) -> bool:
    """Whether `1 < x < 2` stands against `x = 1, y = 2`: its ends are no values of two names."""
    return isinstance(value, Bracketed) and not name.startswith("(") and _assigned(other) is not None


def _same_name(gold: str, answer: str) -> bool:
    """Whether names are the same; `x_1 = 2, x_2 = 3` numbers the values of `x`."""
    stems = [_stem(name) for name in (gold, answer)]
    return gold == answer or (stems[0] == stems[1] and (gold in stems or answer in stems))


def _is_solved(value: Answer) -> bool:
    """Whether a value is a number, so that the equation before it has been solved."""
    if isinstance(value, Chain | Approximate):
        return any(map(_is_solved, parts_of(value)))
    return isinstance(value, Scalar) and not has_variables(value.term)
