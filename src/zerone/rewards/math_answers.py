"""What kinds of answers there are, and how each is read from text.

In: the text of an answer. Out: a `Reading`: words, a scalar with its unit, a list or set, a tuple
or interval, a union, a matrix, a named value (`x = 5`, `x \\in [0, 1)`, `x > 3`) or a relation.
What the grammar does not know stays text, for math-verify to read. docs/rewards_math.md has the
conventions.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from zerone.rewards.math_guards import MAX_ITEMS, MAX_TOKENS, refuse
from zerone.rewards.math_terms import (
    PLAIN_NAMES,
    ForeignNotation,
    Number,
    Operation,
    Symbol,
    Term,
    Unreadable,
    parse_term,
)
from zerone.rewards.math_text import ROW_END, clean, tokenise
from zerone.rewards.math_units import split_unit


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


_OPENING = frozenset(["(", "[", "{", "\\{", "\\langle", "\\lfloor", "\\lceil"])
_CLOSING = frozenset([")", "]", "}", "\\}", "\\rangle", "\\rfloor", "\\rceil"])
_ALTERNATIVE = re.compile(r"[,;]|or|and|\\lor|\\vee|\\text\s*\{,?\s*(?:or|and|,)\s*\}")
_RELATIONS = {"=": "=", "<": "<", ">": ">", "\\le": "<=", "\\ge": ">=", "\\ne": "!=", "\\neq": "!="}
_FLIPPED = {">": "<", ">=": "<="}
_MATRIX = re.compile(r"\\begin\s*\{\s*[pbB]?(?:small)?matrix\s*\}")
_NAME = re.compile(
    r"(?:\\?[A-Za-z]+(?:_(?:\w|\{\w+\}))?'?|\\(?:math|text)\w*\{\w+\}|\\vec\{\w+\}|[A-Za-z]\([A-Za-z]\)"
    r"|\([A-Za-z](?:,[A-Za-z])+\))"
)
_WORDS = re.compile(r"[A-Za-z]+(?:[ '-]+[A-Za-z]+)*")
_TEXT = re.compile(r"\\text\s*\{([^{}]*)\}")
_CHOICE = re.compile(r"\(?\s*([A-Z])\s*\)?")
_WORD_ANSWERS = "yes no odd even all none both red blue true dne east west"
_SHORT_WORDS = frozenset(_WORD_ANSWERS.split())


@lru_cache(maxsize=8192)
def read_answer(text: str) -> Reading:
    """Read an answer; raise Unreadable with the reason where it is none."""
    if reason := refuse(text):
        raise Unreadable(reason)
    source = clean(text)
    if match := _TEXT.fullmatch(source):
        inside = match[1].strip()
        if not any(character.isdigit() for character in inside):
            return Reading(source, Words(as_words(inside)))
        source = clean(inside)
    if _is_words(source):
        return Reading(source, Words(as_words(source)))
    tokens = tokenise(source)
    if not 0 < len(tokens) <= MAX_TOKENS:
        raise Unreadable("it is empty" if not tokens else f"it has more than {MAX_TOKENS} signs and names")
    try:
        return Reading(source, _read(tokens))
    except ForeignNotation:
        return Reading(source, Foreign(source))


def as_words(source: str) -> str:
    """Return a text as words are compared: no case, single spaces, a choice without its brackets."""
    text = _TEXT.sub(r"\1", source).strip(" .,;:!\"'")
    if match := _CHOICE.fullmatch(text):
        text = match[1]
    return " ".join(text.casefold().split())


def _is_words(source: str) -> bool:
    if not _WORDS.fullmatch(source):
        return source in ("(A)", "(B)", "(C)", "(D)", "(E)", "(F)")
    words = re.split("[ '-]+", source)
    if len(words) == 1 and words[0] in PLAIN_NAMES:
        return False
    return any(len(word) >= 5 or word.lower() in _SHORT_WORDS for word in words)


def _split(tokens: Sequence[str], is_separator: Callable[[str], bool]) -> tuple[list[list[str]], list[str]]:
    """Return the parts between separators outside all brackets, and the separators."""
    parts: list[list[str]] = [[]]
    separators: list[str] = []
    depth = 0
    for token in tokens:
        if token in _OPENING or token.startswith("\\begin"):
            depth += 1
        elif token in _CLOSING or token.startswith("\\end"):
            depth -= 1
            if depth < 0:
                raise Unreadable("a bracket is closed that was not opened")
        if depth == 0 and is_separator(token):
            parts.append([])
            separators.append(token)
        else:
            parts[-1].append(token)
    if depth:
        raise Unreadable("a bracket is not closed")
    return parts, separators


def _read(tokens: Sequence[str]) -> Answer:
    items, separators = _split(tokens, lambda token: _ALTERNATIVE.fullmatch(token) is not None)
    if separators:
        return _listed(_read_items(items, separators), separators)
    parts, unions = _split(tokens, lambda token: token == "\\cup")
    if unions:
        return UnionOf(tuple(map(_read, _filled(parts))))
    parts, members = _split(tokens, lambda token: token == "\\in")
    if members:
        if len(parts) != 2 or not _NAME.fullmatch("".join(parts[0])):
            raise Unreadable("a membership of no name")
        return Named("".join(parts[0]), _read(parts[1]))
    parts, operators = _split(tokens, lambda token: token in _RELATIONS)
    if operators:
        return _read_relation(_filled(parts), [_RELATIONS[operator] for operator in operators])
    return _read_value(list(tokens))


def _filled(parts: list[list[str]]) -> list[list[str]]:
    if not all(parts):
        raise Unreadable("a side is missing")
    return parts


def _read_items(items: list[list[str]], separators: list[str]) -> list[Answer]:
    """Read the items of a list; `1, 2, and 3` has an empty one between comma and word."""
    kept = [
        item
        for place, item in enumerate(items)
        if item or not (0 < place < len(separators) and separators[place] not in (",", ";"))
    ]
    return [_read(item) for item in _filled(kept)]


def _listed(items: list[Answer], separators: list[str]) -> Answer:
    """Return items as a list; `x < 1 or x > 2` is a union of intervals."""
    names = {
        item.name if isinstance(item, Named) and isinstance(item.value, Bracketed) else "" for item in items
    }
    if len(names) == 1 and "" not in names and not {",", ";"} & set(separators):
        return Named(names.pop(), UnionOf(tuple(item.value for item in items if isinstance(item, Named))))
    return Listing(_flat(items))


def _flat(items: Sequence[Answer]) -> tuple[Answer, ...]:
    flat: list[Answer] = []
    for item in items:
        flat.extend(item.items if isinstance(item, Listing) else [item])
    if len(flat) > MAX_ITEMS:
        raise Unreadable(f"it lists more than {MAX_ITEMS} items")
    return tuple(flat)


def _read_relation(parts: list[list[str]], operators: list[str]) -> Answer:
    names = ["".join(part) if _NAME.fullmatch("".join(part)) else "" for part in parts]
    if len(parts) == 3 and names[1] and operators[0] != "=" and set(operators) <= {"<", "<="}:
        return _interval(names[1], parts[0], parts[2], operators)
    if len(parts) == 3 and names[1] and set(operators) <= {">", ">="}:
        return _interval(names[1], parts[2], parts[0], [_FLIPPED[operators[1]], _FLIPPED[operators[0]]])
    if len(parts) != 2:
        raise Unreadable("a chain of relations")
    operator = operators[0]
    if operator == "=":
        return _read_equation(parts, names)
    if operator in _FLIPPED:
        parts, names, operator = parts[::-1], names[::-1], _FLIPPED[operator]
    if operator != "!=" and names[0] and _is_constant(term := parse_term(parts[1])):
        return Named(
            names[0], Bracketed("(", "]" if operator == "<=" else ")", (_INFINITY[1], Scalar(term, "")))
        )
    if operator != "!=" and names[1] and _is_constant(term := parse_term(parts[0])):
        return Named(
            names[1], Bracketed("[" if operator == "<=" else "(", ")", (Scalar(term, ""), _INFINITY[0]))
        )
    return Relation(operator, parse_term(parts[0]), parse_term(parts[1]))


def _read_equation(parts: list[list[str]], names: list[str]) -> Answer:
    place = 0 if names[0] else 1
    if not names[place]:
        return Relation("=", parse_term(parts[0]), parse_term(parts[1]))
    value = _read(parts[1 - place])
    try:
        relation = Relation("=", parse_term(parts[0]), parse_term(parts[1]))
    except Unreadable:
        relation = None
    return Named(names[place], value, relation)


_INFINITY = (
    Scalar(Symbol("infinity"), ""),
    Scalar(Operation("neg", (Symbol("infinity"),)), ""),
)


def _interval(name: str, low: list[str], high: list[str], operators: list[str]) -> Named:
    opening, closing = ("[" if operators[0] == "<=" else "("), ("]" if operators[1] == "<=" else ")")
    return Named(
        name, Bracketed(opening, closing, (Scalar(parse_term(low), ""), Scalar(parse_term(high), "")))
    )


def _is_constant(term: Term) -> bool:
    match term:
        case Number():
            return True
        case Symbol(name):
            return name in ("pi", "e", "infinity")
        case Operation(_, arguments):
            return all(map(_is_constant, arguments))


def _read_value(tokens: list[str]) -> Answer:
    if not tokens:
        raise Unreadable("a part is empty")
    if "\\pm" in tokens or "\\mp" in tokens:
        signs = ({"\\pm": "+", "\\mp": "-"}, {"\\pm": "-", "\\mp": "+"})
        return Listing(_flat([_read([sign.get(token, token) for token in tokens]) for sign in signs]))
    if (structure := _read_structure(tokens)) is not None:
        return structure
    if match := _TEXT.fullmatch(tokens[0]) if len(tokens) == 1 else None:
        return Words(as_words(match[1]))
    value, unit = split_unit(tokens)
    return Scalar(parse_term(value), unit)


def _read_structure(tokens: list[str]) -> Answer | None:
    """Read what its signs show to be more than a scalar."""
    if tokens == ["\\emptyset"]:
        return Listing(())
    parts, colons = _split(tokens, lambda token: token == ":")
    if colons:
        return Bracketed(":", ":", tuple(map(_read_value, _filled(parts))))
    inside = tokens[1:-1] if tokens[0] in ("(", "[") and len(tokens) > 3 else tokens
    if _MATRIX.fullmatch(inside[0]) and inside[-1].startswith("\\end") and _is_enclosed(inside):
        return _read_matrix(inside[1:-1])
    if tokens[0] in _OPENING and tokens[-1] in _CLOSING and _is_enclosed(tokens):
        return _read_brackets(tokens)
    return None


def _is_enclosed(tokens: list[str]) -> bool:
    """Whether the first bracket closes with the last token."""
    depth = 0
    for place, token in enumerate(tokens):
        depth += token in _OPENING or token.startswith("\\begin")
        depth -= token in _CLOSING or token.startswith("\\end")
        if depth == 0:
            return place == len(tokens) - 1
    return False


def _read_brackets(tokens: list[str]) -> Answer | None:
    """Read a set, tuple or interval; None for brackets that only group."""
    opening, closing = tokens[0], tokens[-1]
    # Within brackets every comma separates: (1,234) is a pair.
    inside = [
        piece
        for token in tokens[1:-1]
        for piece in (re.split("(,)", token) if "," in token and token[0].isdigit() else [token])
    ]
    if opening == "\\{" and {"|", ":", "\\mid"} & set(inside):
        raise ForeignNotation("a set by its property")
    items, separators = _split(inside, lambda token: token in (",", ";"))
    if opening == "\\{":
        return Listing(_flat([_read(item) for item in _filled(items)]) if inside else ())
    if not separators:
        return None
    read = tuple(_read(item) for item in _filled(items))
    if opening == "{":
        return Listing(_flat(read))
    if opening == "\\langle":
        opening, closing = "(", ")"
    return Bracketed(opening, closing, read)


def _read_matrix(tokens: list[str]) -> Matrix:
    rows, _ = _split(tokens, lambda token: token == ROW_END)
    if rows and not rows[-1]:
        rows.pop()
    read = tuple(
        tuple(_read_value(cell) for cell in _split(row, lambda token: token == "&")[0]) for row in rows
    )
    if not read or len({len(row) for row in read}) != 1:
        raise Unreadable("a matrix with rows of different lengths")
    return Matrix(read)
