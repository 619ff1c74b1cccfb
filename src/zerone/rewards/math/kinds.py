"""The kinds of answers, as they are read and compared.

In: nothing. Out: frozen types. A set within something else keeps its braces: `{{1}, {2, 3}}` is not
`{{1, 2}, {3}}`, and `{{}}` not `{}`.
"""

from dataclasses import dataclass

from zerone.rewards.math.terms import Term


@dataclass(frozen=True, slots=True)
class Words:
    """A text, in lower case and single spaces."""

    text: str


@dataclass(frozen=True, slots=True)
class Scalar:
    """A term and its unit."""

    term: Term
    unit: str


@dataclass(frozen=True, slots=True)
class Listing:
    """A list without brackets or a set in braces: order and repeats do not count."""

    items: tuple["Answer", ...]
    has_braces: bool = False


@dataclass(frozen=True, slots=True)
class Bracketed:
    """A tuple, a point or an interval: order and both brackets count. A ratio has colons for brackets."""

    opening: str
    closing: str
    items: tuple["Answer", ...]


@dataclass(frozen=True, slots=True)
class UnionOf:
    """Sets joined by a union sign, in any order; they are not merged."""

    parts: tuple["Answer", ...]


@dataclass(frozen=True, slots=True)
class Matrix:
    """A matrix or column, whatever its brackets."""

    rows: tuple[tuple["Answer", ...], ...]


@dataclass(frozen=True, slots=True)
class Relation:
    """left operator right, where the operator is one of = < <= !=."""

    operator: str
    left: Term
    right: Term


@dataclass(frozen=True, slots=True)
class Named:
    """A value with the name it is given; `relation` is there where it is an equation between terms."""

    name: str
    value: "Answer"
    relation: Relation | None = None


@dataclass(frozen=True, slots=True)
class Foreign:
    """LaTeX that this module cannot read."""

    text: str


Answer = Words | Scalar | Listing | Bracketed | UnionOf | Matrix | Named | Relation | Foreign


@dataclass(frozen=True, slots=True)
class Reading:
    """An answer as it was understood, with its cleaned text."""

    source: str
    answer: Answer
