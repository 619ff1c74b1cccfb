"""The kinds of answers, as they are read and compared.

In: nothing. Out: frozen types. A set within something else keeps its braces: `{{1}, {2, 3}}` is not
`{{1, 2}, {3}}`, and `{{}}` not `{}`.
"""

import re
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
class Conditional:
    """A value with the sets its names are from; `bound` is the value with those names replaced."""

    value: "Answer"
    bound: "Answer"
    domains: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Piecewise:
    """Values with the condition of each; None is what holds otherwise."""

    branches: tuple[tuple["Answer", "Answer | None"], ...]


@dataclass(frozen=True, slots=True)
class SetBuilder:
    """A set by its property, its bound names replaced."""

    pattern: "Answer"
    conditions: tuple["Answer", ...]
    domains: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Clock:
    """A time of day as it is written, with `am` or `pm`."""

    hour: int
    minute: int
    second: int
    half: str

    @property
    def of_day(self) -> tuple[int, int, int]:
        """The time by the twenty-four hours."""
        return self.hour % 12 + 12 * (self.half == "pm"), self.minute, self.second


@dataclass(frozen=True, slots=True)
class Chain:
    """One value in several spellings, `a = b = c`: a gold may say it so, an answer may not."""

    values: tuple["Answer", ...]


@dataclass(frozen=True, slots=True)
class Approximate:
    """A value that is right to the digits it is written with."""

    value: "Answer"


@dataclass(frozen=True, slots=True)
class Foreign:
    """LaTeX that this module cannot read."""

    text: str


Answer = (
    Words
    | Scalar
    | Listing
    | Bracketed
    | UnionOf
    | Matrix
    | Named
    | Relation
    | Conditional
    | Piecewise
    | SetBuilder
    | Clock
    | Chain
    | Approximate
    | Foreign
)


def parts_of(answer: Answer) -> tuple[Answer, ...]:
    """Return the answers that an answer is made of."""
    match answer:
        case Listing(items) | UnionOf(items) | Bracketed(_, _, items) | Chain(items):
            return items
        case Named(_, value) | Conditional(value) | Approximate(value):
            return (value,)
        case Matrix(rows):
            return tuple(cell for row in rows for cell in row)
        case Piecewise(branches):
            return tuple(part for branch in branches for part in branch if part is not None)
        case SetBuilder(pattern, conditions):
            return (pattern, *conditions)
    return ()


def holds_kind(answer: Answer, kinds: type[Answer] | tuple[type[Answer], ...]) -> bool:
    """Whether an answer, or a part of it, is of a kind."""
    return isinstance(answer, kinds) or any(holds_kind(part, kinds) for part in parts_of(answer))


@dataclass(frozen=True, slots=True)
class Reading:
    """An answer as it was understood, with its cleaned text."""

    source: str
    answer: Answer


_TEXT = re.compile(r"\\(?:text|mathrm)\s*\{([^{}]*)\}")
_CHOICE = re.compile(r"\(?\s*([A-Z])\s*\)?")


def as_words(source: str) -> str:
    """Return a text as words are compared: no case, single spaces, a choice without its brackets."""
    text = _TEXT.sub(r"\1", source).strip(" .,;:!\"'")
    if match := _CHOICE.fullmatch(text):
        text = match[1]
    return " ".join(text.casefold().split())
