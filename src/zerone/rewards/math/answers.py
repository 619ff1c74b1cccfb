"""What kinds of answers there are, and how each is read from text.

In: the text of an answer. Out: a `Reading`: words, a scalar with its unit, a list or set, a tuple
or interval, a union, a matrix, a named value (`x = 5`, `x \\in [0, 1)`, `x > 3`) or a relation.
What the grammar does not know stays text, for math-verify to read. docs/rewards_math.md has the
conventions.
"""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache

from zerone.rewards.math.guards import MAX_ITEMS, MAX_TOKENS, refuse
from zerone.rewards.math.kinds import (
    Answer,
    Bracketed,
    Foreign,
    Listing,
    Matrix,
    Named,
    Reading,
    Relation,
    Scalar,
    UnionOf,
    Words,
)
from zerone.rewards.math.matrices import ONE, Rows, combined
from zerone.rewards.math.sets import INFINITY, MINUS_INFINITY, REALS, overlap, without_points
from zerone.rewards.math.terms import (
    PLAIN_NAMES,
    ForeignNotation,
    Term,
    Unreadable,
    has_variables,
    parse_term,
)
from zerone.rewards.math.text import CHINESE, ROW_END, clean, tokenise
from zerone.rewards.math.units import split_unit

_OPENING = frozenset(["(", "[", "{", "\\{", "\\langle", "\\lfloor", "\\lceil"])
_CLOSING = frozenset([")", "]", "}", "\\}", "\\rangle", "\\rfloor", "\\rceil"])
_ALTERNATIVE = re.compile(r"[,;]|or|and|\\l(?:or|and)|\\vee|\\wedge|\\text\s*\{,?\s*(?:or|and|,)\s*\}")
_RELATIONS = {"=": "=", "<": "<", ">": ">", "\\le": "<=", "\\ge": ">=", "\\ne": "!=", "\\neq": "!="}
_FLIPPED = {">": "<", ">=": "<="}
_MATRIX = re.compile(r"\\begin\s*\{\s*[pbB]?(?:small)?matrix\s*\}")
_INDEX = r"(?:_(?:\w|\{[\w+\-\\]+\}))?"
_MARK = r"(?:'{1,3}|\^\{-1\}|\^-1)?"
_NAME = re.compile(
    rf"\\?[A-Za-z]+{_INDEX}'{{0,3}}|m?\\angle[A-Z]{{1,3}}"
    r"|\\(?:(?:math|text)\w*|vec|hat|bar|tilde|overline|overrightarrow|widehat)\{\w+\}"
    rf"|[A-Za-z]{_INDEX}{_MARK}\([A-Za-z](?:,[A-Za-z])*\)|[fghpqFGPQ]{_INDEX}{_MARK}\(-?\d+\)"
    r"|(?:Pr?|E|\\Pr|\\mathbb\{[PE]\})\([A-Z](?:(?:=|<|>|\\[lg]e|\||\\mid|\\c[au]p)[A-Z0-9]+)?\)"
    r"|\|(?:[A-Z](?:_\d|_\{\d\})?){2}\||\|\\(?:vec|overrightarrow|overline)\{\w+\}\|"
    r"|\([A-Za-z](?:,[A-Za-z])+\)"
)
"""What may stand before `=`; `x(x+1)` and `|x|` are no names: there the work is left to the checker."""

_REALS = ["\\mathbb", "{", "R", "}"]
_WITHOUT = ("\\setminus", "\\backslash")
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
        if "matrix}" in source:
            raise Unreadable("it calculates with matrices") from None
        return Reading(source, Foreign(source))


def as_words(source: str) -> str:
    """Return a text as words are compared: no case, single spaces, a choice without its brackets."""
    text = _TEXT.sub(r"\1", source).strip(" .,;:!\"'")
    if match := _CHOICE.fullmatch(text):
        text = match[1]
    return " ".join(text.casefold().split())


def _is_words(source: str) -> bool:
    if CHINESE.fullmatch(source):
        return True
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
    parts, unions = _split(tokens, lambda token: token in ("\\cup", "U"))
    if unions and set(_WITHOUT) & set(tokens):
        raise ForeignNotation("a union and a difference")
    if unions and ("U" not in unions or all(map(_is_set, parts))):
        return UnionOf(tuple(map(_read, _filled(parts))))
    parts, members = _split(tokens, lambda token: token == "\\in")
    if members:
        if len(parts) != 2 or not (name := _name_of(parts[0])):
            raise Unreadable("a membership of no name")
        return Named(name, _read(parts[1]))
    if (rest := _read_difference(tokens)) is not None:
        return rest
    parts, operators = _split(tokens, lambda token: token in _RELATIONS)
    if operators:
        return _read_relation(_filled(parts), [_RELATIONS[operator] for operator in operators])
    return _read_value(list(tokens))


def _read_difference(tokens: Sequence[str]) -> Answer | None:
    """Read an interval or the real numbers without some points; None for what is no difference of sets."""
    # With braces behind it: R - {0} is no difference of numbers.
    is_minus = tuple(tokens[4:6]) == ("-", "\\{") and list(tokens[:4]) == _REALS
    parts, _ = _split(tokens, lambda token: token in _WITHOUT or (is_minus and token == "-"))
    if len(parts) == 1:
        return None
    rest = without_points(_read(parts[0]), _read(parts[1])) if len(parts) == 2 and all(parts) else None
    if rest is None:
        raise ForeignNotation("a difference of sets")
    return rest


def _is_set(tokens: list[str]) -> bool:
    """Whether tokens look like an interval or a set; U between such is a union, elsewhere a letter."""
    is_wide = len(tokens) > 2 and ("," in tokens or tokens[0] == "\\{")
    return is_wide and tokens[0] in _OPENING and tokens[-1] in _CLOSING and _is_enclosed(tokens)


def _name_of(tokens: list[str]) -> str:
    """Return the name that tokens are, or an empty text."""
    text = re.sub(r"_\{(\w)\}", r"_\1", "".join(tokens))
    return text if _NAME.fullmatch(text) else ""


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
    """Return items as a list; `x < 1 or x > 2` is a union, `x > 1 and x < 2` an interval."""
    names = {
        item.name if isinstance(item, Named) and isinstance(item.value, Bracketed) else "" for item in items
    }
    name = names.pop() if len(names) == 1 else ""
    if not name or name.startswith("(") or {",", ";"} & set(separators):
        return Listing(_flat(items))
    parts = [item.value for item in items if isinstance(item, Named) and isinstance(item.value, Bracketed)]
    if not any("and" in separator or separator == "\\wedge" for separator in separators):
        return Named(name, UnionOf(tuple(parts)))
    if not any(end in (INFINITY, MINUS_INFINITY) for part in parts for end in part.items):
        return Listing(_flat(items))
    if len(parts) != 2 or (shared := overlap(*parts)) is None:
        raise Unreadable("inequalities of which not all can hold")
    return Named(name, shared)


def _flat(items: Sequence[Answer]) -> tuple[Answer, ...]:
    flat: list[Answer] = []
    for item in items:
        flat.extend(item.items if isinstance(item, Listing) and not item.has_braces else [item])
    if len(flat) > MAX_ITEMS:
        raise Unreadable(f"it lists more than {MAX_ITEMS} items")
    return tuple(flat)


def _read_relation(parts: list[list[str]], operators: list[str]) -> Answer:
    names = [_name_of(part) for part in parts]
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
    if operator != "!=" and names[0] and not has_variables(term := parse_term(parts[1])):
        return Named(
            names[0], Bracketed("(", "]" if operator == "<=" else ")", (MINUS_INFINITY, Scalar(term, "")))
        )
    if operator != "!=" and names[1] and not has_variables(term := parse_term(parts[0])):
        return Named(names[1], Bracketed("[" if operator == "<=" else "(", ")", (Scalar(term, ""), INFINITY)))
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


def _interval(name: str, low: list[str], high: list[str], operators: list[str]) -> Named:
    opening, closing = ("[" if operators[0] == "<=" else "("), ("]" if operators[1] == "<=" else ")")
    return Named(
        name, Bracketed(opening, closing, (Scalar(parse_term(low), ""), Scalar(parse_term(high), "")))
    )


def _read_value(tokens: list[str]) -> Answer:
    if not tokens:
        raise Unreadable("a part is empty")
    if tokens[0] in ("{", "\\{") and (structure := _read_structure(tokens)) is not None:
        return structure
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
    if tokens in (_REALS, ["\\emptyset"]):
        return REALS if tokens == _REALS else Listing((), has_braces=True)
    parts, colons = _split(tokens, lambda token: token == ":")
    if colons:
        return Bracketed(":", ":", tuple(map(_read_value, _filled(parts))))
    if any(map(_MATRIX.fullmatch, tokens)) and (matrix := _read_matrices(tokens)) is not None:
        return matrix
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
        read = [_read(item) for item in _filled(items)] if inside else []
        return Listing(_flat(read), has_braces=True)
    if not separators:
        return None
    read = [_read(item) for item in _filled(items)]
    if opening == "{":
        return Listing(_flat(read), has_braces=True)
    if opening == "\\langle":
        opening, closing = "(", ")"
    return Bracketed(opening, closing, tuple(read))


def _read_matrices(tokens: list[str]) -> Matrix | None:
    """Read a matrix with a factor, or a line `a + t b`; None for what only holds a matrix."""
    parts, signs = _split(tokens, lambda token: token in ("+", "-"))
    if parts[0]:
        signs.insert(0, "+")
    pairs = [_read_scaled(part) for part in parts if part]
    found = [(factor, rows) for factor, rows in filter(None, pairs)]
    if not found or len(found) != len(signs):
        return None
    return combined(signs, found)


def _read_scaled(tokens: list[str]) -> tuple[Term, Rows] | None:
    """Read one matrix and the factor in front of it."""
    start = next((place for place, token in enumerate(tokens) if token.startswith("\\begin")), 0)
    has_brackets = start > 0 and tokens[start - 1] in ("(", "[") and _is_enclosed(tokens[start - 1 :])
    inside = tokens[start:-1] if has_brackets else tokens[start:]
    if not _MATRIX.fullmatch(inside[0]) or not inside[-1].startswith("\\end") or not _is_enclosed(inside):
        return None
    factor = tokens[: start - has_brackets]
    if factor[-1:] == ["*"]:
        factor.pop()
    return parse_term(factor) if factor else ONE, _read_rows(inside[1:-1])


def _read_rows(tokens: list[str]) -> Rows:
    rows, _ = _split(tokens, lambda token: token == ROW_END)
    if rows and not rows[-1]:
        rows.pop()
    read = tuple(
        tuple(_read_value(cell) for cell in _split(row, lambda token: token == "&")[0]) for row in rows
    )
    if not read or len({len(row) for row in read}) != 1:
        raise Unreadable("a matrix with rows of different lengths")
    return read
