"""The grammar of answers: tokens become a value of some kind, or a reason why not.

In: the tokens of an answer. Out: a scalar with its unit, a list or set, a tuple or interval, a union, a
matrix, a named value (`x = 5`, `x \\in [0, 1)`, `x > 3`), a relation, a value with its conditions.
docs/rewards_math.md has the conventions.
"""

import re
from collections.abc import Sequence

from zerone.rewards.math.cases import (
    SUCH_THAT,
    flat,
    read_cases,
    read_conditional,
    read_declared,
    read_set_builder,
)
from zerone.rewards.math.guards import UNEVALUATED
from zerone.rewards.math.kinds import (
    Answer,
    Approximate,
    Bracketed,
    Chain,
    Clock,
    Listing,
    Matrix,
    Named,
    Relation,
    Scalar,
    UnionOf,
    Words,
    as_words,
    parts_of,
)
from zerone.rewards.math.matrices import MATRIX, read_matrices
from zerone.rewards.math.sets import INFINITY, MINUS_INFINITY, REALS, overlap, without_points
from zerone.rewards.math.terms import (
    ForeignNotation,
    Unreadable,
    has_variables,
    parse_term,
)
from zerone.rewards.math.tokens import (
    CLOSING,
    OPENING,
    filled,
    is_enclosed,
    is_separator,
    name_of,
    split_tokens,
    with_usual_brackets,
)
from zerone.rewards.math.units import split_unit

_RELATIONS = {"=": "=", "<": "<", ">": ">", "\\le": "<=", "\\ge": ">=", "\\ne": "!=", "\\approx": "~"}
_NO_NUMBER = frozenset([*_RELATIONS, ",", ";", ":", "\\in", "\\cup"])
"""What a number that is left out does not hold, so that it is read at once."""

_FLIPPED = {">": "<", ">=": "<="}
_REALS = ["\\mathbb", "{", "R", "}"]
_WITHOUT = ("\\setminus", "\\backslash")
_CLOCK = re.compile(
    r"(1[0-2]|0?[1-9])(?::([0-5]\d))?(?::([0-5]\d))?(?:\\text\{|\\mathrm\{)?\s*([AaPp])\.?\s*[Mm]\.?\s*\}?"
)
_NOON = re.compile(r"(?:12(?::00)?)?(?:\\text\{)?\s*(noon|midnight)\s*\}?")
_TO = re.compile(r"to|\\text\s*\{\s*to\s*\}")
TEXT = re.compile(r"\\(?:text|mathrm)\s*\{([^{}]*)\}")


def read_tokens(tokens: Sequence[str]) -> Answer:
    """Read the tokens of an answer; raise Unreadable."""
    return _read(with_usual_brackets(tokens))


def _read(tokens: Sequence[str]) -> Answer:
    if (conditional := read_conditional(list(tokens), _read)) is not None:
        return conditional
    items, separators = split_tokens(tokens, is_separator)
    if separators:
        return (
            read_declared(items, separators, _read)
            or _read_exclusions(items)
            or _listed(_read_items(items, separators), separators)
        )
    return _read_union(tokens) or _read_member(tokens) or _read_difference(tokens) or _read_single(tokens)


def _read_union(tokens: Sequence[str]) -> Answer | None:
    if "\\cup" not in tokens and "U" not in tokens:
        return None
    parts, unions = split_tokens(tokens, lambda token: token in ("\\cup", "U"))
    if unions and set(_WITHOUT) & set(tokens):
        raise ForeignNotation("a union and a difference")
    if unions and ("U" not in unions or all(map(_is_set, parts))):
        return UnionOf(tuple(map(_read, filled(parts))))
    return None


def _read_member(tokens: Sequence[str]) -> Answer | None:
    if "\\in" not in tokens:
        return None
    parts, members = split_tokens(tokens, lambda token: token == "\\in")
    if not members:
        return None
    if len(parts) != 2 or not (name := name_of(parts[0])):
        raise Unreadable("a membership of no name")
    return Named(name, _read(parts[1]))


def _read_single(tokens: Sequence[str]) -> Answer:
    parts, operators = split_tokens(tokens, lambda token: token in _RELATIONS)
    if operators:
        return _read_relation(parts, [_RELATIONS[operator] for operator in operators])
    return _read_value(list(tokens))


def _read_exclusions(items: list[list[str]]) -> Answer | None:
    """Read `x \\ne 1, x \\ne 2` and `x \\ne 1, 2`: the real numbers without these; None for anything else."""
    name, removed = "", list[Answer]()
    for item in items:
        parts, signs = split_tokens(item, lambda token: token == "\\ne")
        if signs:
            if len(parts) != 2 or (found := name_of(parts[0])) != (name or found) or not found:
                return None
            name = found
        if not name or _NO_NUMBER & set(parts[-1]):
            return None
        removed.append(_read_value(parts[-1]))
    return _without(name, removed)


def _without(name: str, removed: list[Answer]) -> Named | None:
    """Return a name that is any real number but these."""
    rest = without_points(REALS, Listing(flat(removed)))
    return None if rest is None else Named(name, rest)


def _read_difference(tokens: Sequence[str]) -> Answer | None:
    """Read an interval or the real numbers without some points; None for what is no difference of sets."""
    if not {"\\setminus", "\\backslash", "-"} & set(tokens):
        return None
    # With braces behind it: R - {0} is no difference of numbers.
    is_minus = tuple(tokens[4:6]) == ("-", "\\{") and list(tokens[:4]) == _REALS
    parts, _ = split_tokens(tokens, lambda token: token in _WITHOUT or (is_minus and token == "-"))
    if len(parts) == 1:
        return None
    rest = without_points(_read(parts[0]), _read(parts[1])) if len(parts) == 2 and all(parts) else None
    if rest is None:
        raise ForeignNotation("a difference of sets")
    return rest


def _is_set(tokens: list[str]) -> bool:
    """Whether tokens look like an interval or a set; U between such is a union, elsewhere a letter."""
    is_wide = len(tokens) > 2 and ("," in tokens or tokens[0] == "\\{")
    return is_wide and tokens[0] in OPENING and tokens[-1] in CLOSING and is_enclosed(tokens)


def _read_items(items: list[list[str]], separators: list[str]) -> list[Answer]:
    """Read the items of a list; `1, 2, and 3` has an empty one between comma and word."""
    kept = [
        item
        for place, item in enumerate(items)
        if item or not (0 < place < len(separators) and separators[place] not in (",", ";"))
    ]
    groups: list[list[list[str]]] = []
    for item in filled(kept):
        # `x \\ne -1, 3` leaves out both.
        is_number = not any(token[0].isalpha() or token in _RELATIONS for token in item)
        if groups and is_number and "\\ne" in groups[-1][0]:
            groups[-1].append(item)
        else:
            groups.append([item])
    read: list[Answer] = []
    for group in groups:
        excluded = _read_exclusions(group) if len(group) > 1 else None
        read.extend([excluded] if excluded else map(_read, group))
    return read


def _listed(items: list[Answer], separators: list[str]) -> Answer:
    """Return items as a list; `x < 1 or x > 2` is a union, `x > 1 and x < 2` an interval."""
    names = {
        item.name if isinstance(item, Named) and isinstance(item.value, Bracketed) else "" for item in items
    }
    name = names.pop() if len(names) == 1 else ""
    if not name or name.startswith("(") or {",", ";"} & set(separators):
        return Listing(flat(items))
    parts = [item.value for item in items if isinstance(item, Named) and isinstance(item.value, Bracketed)]
    if not any("and" in separator or separator == "\\wedge" for separator in separators):
        return Named(name, UnionOf(tuple(parts)))
    if not any(end in (INFINITY, MINUS_INFINITY) for part in parts for end in part.items):
        return Listing(flat(items))
    if len(parts) != 2 or (shared := overlap(*parts)) is None:
        raise Unreadable("inequalities of which not all can hold")
    return Named(name, shared)


def _read_relation(parts: list[list[str]], operators: list[str]) -> Answer:
    if "~" in operators or (set(operators) == {"="} and len(parts) > 2):
        return _read_chain(parts, operators)
    parts, operators = _with_plain_name(filled(parts), operators)
    if (between := _read_between(parts, operators)) is not None:
        return between
    if len(parts) != 2:
        raise Unreadable("a chain of relations")
    names = [name_of(part) for part in parts]
    if operators == ["="]:
        return _read_equation(parts, names)
    if operators == ["!="]:
        place = 0 if names[0] else 1
        rest = _excluded(names[place], parts[1 - place]) if names[place] else None
        return rest or Relation("!=", parse_term(parts[0]), parse_term(parts[1]))
    return _read_inequality(parts, names, operators[0])


def _read_between(parts: list[list[str]], operators: list[str]) -> Named | None:
    """Read `-2 < x <= 7`; None for anything else."""
    if len(parts) != 3 or not (name := name_of(parts[1])):
        return None
    if set(operators) <= {"<", "<="}:
        return _interval(name, parts[0], parts[2], operators)
    if set(operators) <= {">", ">="}:
        return _interval(name, parts[2], parts[0], [_FLIPPED[operators[1]], _FLIPPED[operators[0]]])
    return None


def _read_inequality(parts: list[list[str]], names: list[str], operator: str) -> Answer:
    if operator in _FLIPPED:
        parts, names, operator = parts[::-1], names[::-1], _FLIPPED[operator]
    if names[0] and not has_variables(term := parse_term(parts[1])):
        closing = "]" if operator == "<=" else ")"
        return Named(names[0], Bracketed("(", closing, (MINUS_INFINITY, Scalar(term, ""))))
    if names[1] and not has_variables(term := parse_term(parts[0])):
        opening = "[" if operator == "<=" else "("
        return Named(names[1], Bracketed(opening, ")", (Scalar(term, ""), INFINITY)))
    return Relation(operator, parse_term(parts[0]), parse_term(parts[1]))


def _excluded(name: str, tokens: list[str]) -> Named | None:
    try:
        return _without(name, [_read_value(tokens)])
    except Unreadable:
        return None


def _with_plain_name(parts: list[list[str]], operators: list[str]) -> tuple[list[list[str]], list[str]]:
    """Turn `-x > -1` round to `1 > x`: a sign before the name leaves nothing to solve."""
    signed = [place for place, part in enumerate(parts) if part[0] == "-" and name_of(part[1:])]
    if len(signed) != 1 or {"=", "!="} & set(operators):
        return parts, operators
    turned = [part[1:] if place in signed else ["-", "(", *part, ")"] for place, part in enumerate(parts)]
    return turned[::-1], operators[::-1]


def _read_chain(parts: list[list[str]], operators: list[str]) -> Answer:
    """Read `x = y = 4`, and the spellings of one value: `x = 2/4 = 1/2`, `x \\approx 0.5`."""
    num_names = 0
    while num_names < len(parts) - 1 and name_of(parts[num_names]):
        num_names += 1
    names = [name_of(part) for part in parts[:num_names]]
    values = []
    for place in range(num_names, len(parts)):
        if not parts[place] and place == 0:
            continue
        is_last = place == len(parts) - 1
        if UNEVALUATED.search(" ".join(parts[place])) and not is_last:
            continue
        read = _read_value(filled([parts[place]])[0])
        if not names and not is_last and not _is_constant(read):
            raise Unreadable("a chain of relations")
        values.append(Approximate(read) if place and "~" in operators[:place] else read)
    value = values[0] if len(values) == 1 else Chain(tuple(values))
    if not names:
        return value
    if len(names) > 1 and any(parts_of(part) for part in (value, *parts_of(value))):
        # Else each level of such values would double what there is to compare.
        raise Unreadable("several names of what is not a number")
    named = [Named(name, value) for name in names]
    return named[0] if len(named) == 1 else Listing(tuple(named))


def _is_constant(answer: Answer) -> bool:
    return isinstance(answer, Scalar) and not has_variables(answer.term)


def _read_equation(parts: list[list[str]], names: list[str]) -> Answer:
    place = 0 if names[0] else 1
    if not names[place]:
        return _read_unnamed(parts)
    value = _read(parts[1 - place])
    return Named(names[place], value, _relation(parts))


def _read_unnamed(parts: list[list[str]]) -> Answer:
    """Read an equation of terms, or one set or interval in two spellings."""
    if (relation := _relation(parts)) is not None:
        return relation
    sides = [_read(part) for part in parts]
    if not all(isinstance(side, Bracketed | UnionOf | Matrix) for side in sides):
        return Relation("=", parse_term(parts[0]), parse_term(parts[1]))
    return Chain(tuple(sides))


def _relation(parts: list[list[str]]) -> Relation | None:
    try:
        return Relation("=", parse_term(parts[0]), parse_term(parts[1]))
    except Unreadable:
        return None


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
        return Listing(flat([_read([sign.get(token, token) for token in tokens]) for sign in signs]))
    if (structure := _read_structure(tokens)) is not None:
        return structure
    if len(tokens) == 1 and tokens[0].startswith("\\text") and (match := TEXT.fullmatch(tokens[0])):
        return Words(as_words(match[1]))
    value, unit = split_unit(tokens)
    return Scalar(parse_term(value), unit)


def _read_structure(tokens: list[str]) -> Answer | None:
    """Read what its signs show to be more than a scalar."""
    if tokens in (_REALS, ["\\emptyset"]):
        return REALS if tokens == _REALS else Listing((), has_braces=True)
    if (clock := _read_clock(tokens)) is not None:
        return clock
    is_whole = (tokens[0] in OPENING or tokens[0].startswith("\\begin")) and is_enclosed(tokens)
    if is_whole and tokens[0] == "\\begin{cases}":
        return read_cases(tokens[1:-1], _read)
    if (ratio := _read_ratio(tokens)) is not None:
        return ratio
    if any(map(MATRIX.fullmatch, tokens)) and (matrix := read_matrices(tokens, _read_value)) is not None:
        return matrix
    return _read_brackets(tokens) if is_whole and tokens[-1] in CLOSING else None


def _read_ratio(tokens: list[str]) -> Bracketed | None:
    if ":" not in tokens and not any(map(_TO.fullmatch, tokens)):
        return None
    parts, colons = split_tokens(tokens, lambda token: token == ":" or _TO.fullmatch(token) is not None)
    return Bracketed(":", ":", tuple(map(_read_value, filled(parts)))) if colons else None


def _read_clock(tokens: list[str]) -> Clock | None:
    """Read `7:30 p.m.` and `12 noon`; None for what is no time of day with its half."""
    text = "".join(tokens)
    if match := _NOON.fullmatch(text):
        return Clock(12, 0, 0, "pm" if match[1] == "noon" else "am")
    if (match := _CLOCK.fullmatch(text)) is None:
        return None
    hour, minute, second, half = match.groups()
    return Clock(int(hour), int(minute or 0), int(second or 0), f"{half}m".lower())


def _read_brackets(tokens: list[str]) -> Answer | None:
    """Read a set, tuple or interval; None for brackets that only group."""
    opening, closing = tokens[0], tokens[-1]
    # Within brackets every comma separates: (1,234) is a pair.
    inside = [
        piece
        for token in tokens[1:-1]
        for piece in (re.split("(,)", token) if "," in token and token[0].isdigit() else [token])
    ]
    if opening == "\\{" and (sign := next((sign for sign in SUCH_THAT if sign in inside), "")):
        return read_set_builder(inside, sign, _read)
    items, separators = split_tokens(inside, lambda token: token in (",", ";"))
    if not separators and opening != "\\{":
        # `[k = 4]` is the equation; brackets around a term only group.
        return _read(inside) if "=" in inside and opening != "\\langle" else None
    read = [_read(item) for item in filled(items)] if inside else []
    if _are_assignments(read):
        return Listing(tuple(read))
    if opening in ("{", "\\{"):
        return Listing(flat(read), has_braces=True)
    return (
        Bracketed("(", ")", tuple(read))
        if opening == "\\langle"
        else Bracketed(opening, closing, tuple(read))
    )


def _are_assignments(items: Sequence[Answer]) -> bool:
    """Whether items are `x = 1` and `y = 2`: brackets around them hold no tuple."""
    names = {item.name for item in items if isinstance(item, Named) and item.relation is not None}
    return len(items) > 1 and len(names) == len(items)
