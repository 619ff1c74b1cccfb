"""The grammar of answers: tokens become a value of some kind, or a reason why not.

In: the tokens of an answer. Out: a scalar with its unit, a list or set, a tuple or interval, a union, a
matrix, a named value (`x = 5`, `x \\in [0, 1)`, `x > 3`), a relation, a value with its conditions.
docs/rewards_math.md has the conventions.
"""

import re
from collections.abc import Callable, Sequence

from zerone.rewards.math.conditions import (
    CONDITION_WORDS,
    OTHERWISE,
    Domains,
    declaration,
    holds_names,
    renamed,
)
from zerone.rewards.math.guards import MAX_ITEMS, UNEVALUATED
from zerone.rewards.math.kinds import (
    Answer,
    Approximate,
    Bracketed,
    Chain,
    Clock,
    Conditional,
    Listing,
    Matrix,
    Named,
    Piecewise,
    Relation,
    Scalar,
    SetBuilder,
    UnionOf,
    Words,
    as_words,
)
from zerone.rewards.math.matrices import ONE, Rows, combined
from zerone.rewards.math.sets import INFINITY, MINUS_INFINITY, REALS, overlap, without_points
from zerone.rewards.math.terms import (
    ForeignNotation,
    Operation,
    Term,
    Unreadable,
    has_variables,
    parse_term,
)
from zerone.rewards.math.text import ROW_END
from zerone.rewards.math.units import split_unit

_OPENING = frozenset(["(", "[", "{", "\\{", "\\langle", "\\lfloor", "\\lceil"])
_CLOSING = frozenset([")", "]", "}", "\\}", "\\rangle", "\\rfloor", "\\rceil"])
_ALTERNATIVE = re.compile(r"[,;]|or|and|\\l(?:or|and)|\\vee|\\wedge|\\text\s*\{,?\s*(?:or|and|,)\s*\}")
_RELATIONS = {"=": "=", "<": "<", ">": ">", "\\le": "<=", "\\ge": ">=", "\\ne": "!=", "\\approx": "~"}
_FLIPPED = {">": "<", ">=": "<="}
_MATRIX = re.compile(r"\\begin\s*\{\s*[pbB]?(?:small)?matrix\s*\}")
_INDEX = r"(?:_(?:\w|\{[\w+\-,\\]+\}|\\(?:max|min)))?"
_MARK = r"(?:'{1,3}|\^\{-1\}|\^-1)?"
_NAME = re.compile(
    rf"\\?[A-Za-z]+{_INDEX}'{{0,3}}|m?\\angle[A-Z]{{1,3}}"
    r"|\\(?:(?:math|text)\w*|vec|hat|bar|tilde|overline|overrightarrow|widehat)\{\w+\}"
    rf"|[A-Za-z]{_INDEX}{_MARK}\([A-Za-z](?:,[A-Za-z])*\)|[fghpqFGPQ]{_INDEX}{_MARK}\(-?\d+\)"
    r"|(?:Pr?|E|\\Pr|\\mathbb\{[PE]\})\([A-Z](?:(?:=|<|>|\\[lg]e|\||\\mid|\\c[au]p)[A-Z0-9]+)?\)"
    r"|\|(?:[A-Z](?:_\d|_\{\d\})?){2}\||\|\\(?:vec|overrightarrow|overline)\{\w+\}\|"
    rf"|\((?:\\?[A-Za-z]+{_INDEX},)+\\?[A-Za-z]+{_INDEX}\)"
    rf"|[A-Z]{_INDEX}\^(?:\{{-1\}}|\{{?T\}}?|\{{?\\top\}}?)|\\\|\\?\w+\\\||\w(?::\w)+"
)
"""What may stand before `=`; `x(x+1)` and `|x|` are no names: there the work is left to the checker."""

_REALS = ["\\mathbb", "{", "R", "}"]
_SUCH_THAT = (":", "\\mid", "|")
_WITHOUT = ("\\setminus", "\\backslash")
_CLOCK = re.compile(
    r"(1[0-2]|0?[1-9])(?::([0-5]\d))?(?::([0-5]\d))?(?:\\text\{|\\mathrm\{)?\s*([AaPp])\.?\s*[Mm]\.?\s*\}?"
)
_NOON = re.compile(r"(?:12(?::00)?)?(?:\\text\{)?\s*(noon|midnight)\s*\}?")
_TO = re.compile(r"to|\\text\s*\{\s*to\s*\}")
TEXT = re.compile(r"\\(?:text|mathrm)\s*\{([^{}]*)\}")


def split_tokens(
    tokens: Sequence[str], is_separator: Callable[[str], bool]
) -> tuple[list[list[str]], list[str]]:
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


_OPERAND_AFTER = frozenset(
    [
        "",
        "\\cup",
        "\\cap",
        "\\in",
        "\\notin",
        "=",
        "\\setminus",
        "\\backslash",
        "(",
        "\\{",
        ",",
        ";",
        "or",
        "and",
        "U",
        "\\approx",
    ]
)
_OPERAND_ENDS = _OPERAND_AFTER - {"(", "\\{", "\\in", "=", "\\notin"} | {")", "\\}"}


def with_usual_brackets(tokens: Sequence[str]) -> list[str]:
    """Return tokens with `]1, 2[` written as `(1, 2)`: a bracket that looks away from an interval leaves its end out."""
    turned = list(tokens)
    for place, token in enumerate(tokens):
        before = tokens[place - 1] if place else ""
        behind = tokens[place + 1] if place + 1 < len(tokens) else ""
        if token == "]" and before in _OPERAND_AFTER:
            turned[place] = "("
        elif token == "[" and place and behind in _OPERAND_ENDS:
            turned[place] = ")"
    return turned


def read_tokens(tokens: Sequence[str]) -> Answer:
    """Read the tokens of an answer; raise Unreadable."""
    return _read(with_usual_brackets(tokens))


def _read(tokens: Sequence[str]) -> Answer:
    if (conditional := _read_conditional(list(tokens))) is not None:
        return conditional
    items, separators = split_tokens(tokens, _is_separator)
    if separators:
        if (declared := _read_declared(items, separators)) is not None:
            return declared
        if (excluded := _read_exclusions(items)) is not None:
            return excluded
        return _listed(_read_items(items, separators), separators)
    parts, unions = split_tokens(tokens, lambda token: token in ("\\cup", "U"))
    if unions and set(_WITHOUT) & set(tokens):
        raise ForeignNotation("a union and a difference")
    if unions and ("U" not in unions or all(map(_is_set, parts))):
        return UnionOf(tuple(map(_read, _filled(parts))))
    parts, members = split_tokens(tokens, lambda token: token == "\\in")
    if members:
        if len(parts) != 2 or not (name := _name_of(parts[0])):
            raise Unreadable("a membership of no name")
        return Named(name, _read(parts[1]))
    if (rest := _read_difference(tokens)) is not None:
        return rest
    parts, operators = split_tokens(tokens, lambda token: token in _RELATIONS)
    if operators:
        return _read_relation(parts, [_RELATIONS[operator] for operator in operators])
    return _read_value(list(tokens))


def _is_separator(token: str) -> bool:
    return _ALTERNATIVE.fullmatch(token) is not None


def _read_conditional(tokens: list[str]) -> Answer | None:
    """Read `value for condition` and `value if condition, value otherwise`; None for what is neither."""
    parts, words = split_tokens(tokens, lambda token: token.lower() in CONDITION_WORDS | OTHERWISE)
    if not words:
        place = _closing_group(tokens)
        condition = tokens[place + 1 : -1]
        if place < 1 or "," in condition or not {"<", ">", "\\le", "\\ge", "\\ne", "\\in"} & set(condition):
            return None
        return _conditional(_trimmed(tokens[:place]), condition)
    if not parts[0]:
        return None
    if words[0].lower() in OTHERWISE or len(words) > 1:
        return _read_branches(tokens)
    value = _trimmed(parts[0])
    return _conditional(value, parts[1]) if value and parts[1] else None


def _closing_group(tokens: list[str]) -> int:
    """Return where the bracket opens that closes with the last token, -1 where none does."""
    depth = 0
    for place in range(len(tokens) - 1, -1, -1):
        depth += tokens[place] == ")"
        depth -= tokens[place] == "("
        if depth == 0:
            return place if tokens[place] == "(" else -1
    return -1


def _read_branches(tokens: list[str]) -> Answer:
    """Read `x if x > 0, -x if x < 0` and `1 for x > 0 and 0 otherwise` as a function in pieces."""
    items, _ = split_tokens(tokens, _is_separator)
    rows = []
    for item in filter(None, items):
        place = next((k for k, token in enumerate(item) if token.lower() in CONDITION_WORDS | OTHERWISE), 0)
        if place:
            rows.append((item[:place], item[place:]))
        elif rows:
            # `x if x > 0, x < 5`: more of the same condition.
            rows[-1] = (rows[-1][0], [*rows[-1][1], "and", *item])
        else:
            raise Unreadable("a value without its condition")
    name = ""
    if (
        rows
        and rows[0][0][-1:] != ["="]
        and "=" in rows[0][0]
        and (name := _name_of(rows[0][0][: rows[0][0].index("=")]))
    ):
        rows[0] = (rows[0][0][rows[0][0].index("=") + 1 :], rows[0][1])
    read = Piecewise(tuple((_read(value), _read_case(condition)) for value, condition in rows))
    return Named(name, read) if name else read


def _conditional(value: list[str], condition: list[str]) -> Answer:
    """Return a value with what is said about its names."""
    domains: list[tuple[str, str]] = []
    relations: list[list[str]] = []
    if (whole := declaration(condition)) is not None:
        domains.extend(whole)
    else:
        items, _ = split_tokens(condition, _is_separator)
        for item in filter(None, items):
            found = declaration(item)
            domains.extend(found or ())
            relations.extend(
                [] if found else [[token for token in item if token.lower() not in CONDITION_WORDS]]
            )
    return _with_domains(value, relations, tuple(domains))


def _with_domains(value: list[str], relations: list[list[str]], domains: Domains) -> Answer:
    if not holds_names(value, domains):
        raise Unreadable("a condition on what does not occur")

    def built(names: list[str]) -> Answer:
        read = _read(renamed(value, names))
        order = renamed([*value, ";", *(token for item in relations for token in (*item, ";"))], names)
        places = [k for k, token in enumerate(order) if token == ";"][-len(relations) - 1 :]
        conditions = [_read(order[low + 1 : high]) for low, high in zip(places, places[1:], strict=False)]
        if not all(isinstance(condition, Named | Relation) for condition in conditions):
            raise Unreadable("a condition that is no relation")
        return Listing(_flat([read, *conditions])) if conditions else read

    if not domains:
        return built([])
    return Conditional(built([]), built([name for name, _ in domains]), domains)


def _trimmed(tokens: list[str]) -> list[str]:
    """Return tokens without the separators and dots at their end."""
    while tokens and (tokens[-1] in (".", ":") or _is_separator(tokens[-1])):
        tokens = tokens[:-1]
    return tokens


def _read_declared(items: list[list[str]], separators: list[str]) -> Answer | None:
    """Read `2 n \\pi, n \\in \\mathbb{Z}` and `n \\pi, any integer n`; None where the last item declares nothing."""
    domains: list[tuple[str, str]] = []
    kept = list(items)
    while len(kept) > 1 and (found := declaration(kept[-1])) is not None:
        if not holds_names([token for item in kept[:-1] for token in item], found):
            return None
        domains.extend(found)
        kept.pop()
    if not domains:
        return None
    value = [
        token
        for item, sign in zip(kept, [*separators[: len(kept) - 1], ""], strict=True)
        for token in (*item, sign)
    ]
    return _with_domains(_trimmed(value[:-1]), [], tuple(domains))


def _read_exclusions(items: list[list[str]]) -> Answer | None:
    """Read `x \\ne 1, x \\ne 2` and `x \\ne 1, 2`: the real numbers without these; None for anything else."""
    name, removed = "", list[Answer]()
    for item in items:
        parts, signs = split_tokens(item, lambda token: token == "\\ne")
        if signs:
            if len(parts) != 2 or (found := _name_of(parts[0])) != (name or found) or not found:
                return None
            name = found
        if not name or any(token in _RELATIONS for token in parts[-1]):
            return None
        removed.append(_read_value(parts[-1]))
    return _without(name, removed)


def _without(name: str, removed: list[Answer]) -> Named | None:
    """Return a name that is any real number but these."""
    rest = without_points(REALS, Listing(_flat(removed)))
    return None if rest is None else Named(name, rest)


def _read_difference(tokens: Sequence[str]) -> Answer | None:
    """Read an interval or the real numbers without some points; None for what is no difference of sets."""
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
    return is_wide and tokens[0] in _OPENING and tokens[-1] in _CLOSING and _is_enclosed(tokens)


def _name_of(tokens: list[str]) -> str:
    """Return the name that tokens are, or an empty text."""
    text = re.sub(r"\\(?:mathrm|text)\{\s*(\w+)\s*\}", r"\1", "".join(tokens))
    text = re.sub(r"\\[lr]vert", "|", text)
    text = re.sub(r"(_|\\(?:bar|hat|vec|tilde|overline))\{(\w)\}", r"\1\2", text)
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
    if "~" in operators or (set(operators) == {"="} and len(parts) > 2):
        return _read_chain(parts, operators)
    parts, operators = _with_plain_name(_filled(parts), operators)
    names = [_name_of(part) for part in parts]
    if len(parts) == 3 and names[1] and operators[0] != "=" and set(operators) <= {"<", "<="}:
        return _interval(names[1], parts[0], parts[2], operators)
    if len(parts) == 3 and names[1] and set(operators) <= {">", ">="}:
        return _interval(names[1], parts[2], parts[0], [_FLIPPED[operators[1]], _FLIPPED[operators[0]]])
    if len(parts) != 2:
        raise Unreadable("a chain of relations")
    if operators == ["!="]:
        place = 0 if names[0] else 1
        if names[place] and (rest := _excluded(names[place], parts[1 - place])) is not None:
            return rest
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


def _excluded(name: str, tokens: list[str]) -> Named | None:
    try:
        return _without(name, [_read_value(tokens)])
    except Unreadable:
        return None


def _with_plain_name(parts: list[list[str]], operators: list[str]) -> tuple[list[list[str]], list[str]]:
    """Turn `-x > -1` round to `1 > x`: a sign before the name leaves nothing to solve."""
    signed = [place for place, part in enumerate(parts) if part[0] == "-" and _name_of(part[1:])]
    if len(signed) != 1 or {"=", "!="} & set(operators):
        return parts, operators
    turned = [part[1:] if place in signed else ["-", "(", *part, ")"] for place, part in enumerate(parts)]
    return turned[::-1], operators[::-1]


def _read_chain(parts: list[list[str]], operators: list[str]) -> Answer:
    """Read `x = y = 4`, and the spellings of one value: `x = 2/4 = 1/2`, `x \\approx 0.5`."""
    num_names = 0
    while num_names < len(parts) - 1 and _name_of(parts[num_names]):
        num_names += 1
    names = [_name_of(part) for part in parts[:num_names]]
    values = []
    for place in range(num_names, len(parts)):
        if not parts[place] and place == 0:
            continue
        is_last = place == len(parts) - 1
        if UNEVALUATED.search(" ".join(parts[place])) and not is_last:
            continue
        read = _read_value(_filled([parts[place]])[0])
        if not names and not is_last and not _is_constant(read):
            raise Unreadable("a chain of relations")
        values.append(Approximate(read) if place and "~" in operators[:place] else read)
    value = values[0] if len(values) == 1 else Chain(tuple(values))
    if not names:
        return value
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
        return Listing(_flat([_read([sign.get(token, token) for token in tokens]) for sign in signs]))
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
    if tokens[0] == "\\begin{cases}" and _is_enclosed(tokens):
        return _read_cases(tokens[1:-1])
    parts, colons = split_tokens(tokens, lambda token: token == ":" or _TO.fullmatch(token) is not None)
    if colons:
        return Bracketed(":", ":", tuple(map(_read_value, _filled(parts))))
    if any(map(_MATRIX.fullmatch, tokens)) and (matrix := _read_matrices(tokens)) is not None:
        return matrix
    if tokens[0] in _OPENING and tokens[-1] in _CLOSING and _is_enclosed(tokens):
        return _read_brackets(tokens)
    return None


def _read_clock(tokens: list[str]) -> Clock | None:
    """Read `7:30 p.m.` and `12 noon`; None for what is no time of day with its half."""
    text = "".join(tokens)
    if match := _NOON.fullmatch(text):
        return Clock(12, 0, 0, "pm" if match[1] == "noon" else "am")
    if (match := _CLOCK.fullmatch(text)) is None:
        return None
    hour, minute, second, half = match.groups()
    return Clock(int(hour), int(minute or 0), int(second or 0), f"{half}m".lower())


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
    if opening == "\\{" and (sign := next((sign for sign in _SUCH_THAT if sign in inside), "")):
        return _read_set_builder(inside, sign)
    items, separators = split_tokens(inside, lambda token: token in (",", ";"))
    if opening == "\\{":
        read = [_read(item) for item in _filled(items)] if inside else []
        if _are_assignments(read):
            return Listing(tuple(read))
        return Listing(_flat(read), has_braces=True)
    if not separators:
        # `[k = 4]` is the equation; brackets around a term only group.
        return _read(inside) if "=" in inside and opening != "\\langle" else None
    read = [_read(item) for item in _filled(items)]
    if _are_assignments(read):
        return Listing(tuple(read))
    if opening == "{":
        return Listing(_flat(read), has_braces=True)
    if opening == "\\langle":
        opening, closing = "(", ")"
    return Bracketed(opening, closing, tuple(read))


def _are_assignments(items: Sequence[Answer]) -> bool:
    """Whether items are `x = 1` and `y = 2`: brackets around them hold no tuple."""
    names = {item.name for item in items if isinstance(item, Named) and item.relation is not None}
    return len(items) > 1 and len(names) == len(items)


def _read_set_builder(inside: list[str], sign: str) -> Answer:
    """Read `\\{x : x > 2\\}` as the interval that it is, other sets by their pattern and property."""
    place = inside.index(sign)
    pattern, rest = inside[:place], inside[place + 1 :]
    domains: list[tuple[str, str]] = []
    if pattern and (found := declaration(pattern)) is not None:
        domains.extend(found)
        pattern = pattern[: pattern.index("\\in")]
    items, separators = split_tokens(rest, _is_separator)
    kept = []
    for item in items:
        if (found := declaration(item)) is not None:
            domains.extend(found)
        else:
            kept.append(item)
    if not pattern or not (kept or domains):
        raise ForeignNotation("a set by its property")
    name = _name_of(pattern)
    if name and {domain for _, domain in domains} <= {"R"}:
        read = _read(_joined(kept, separators)) if kept else Named(name, REALS)
        if isinstance(read, Named) and read.name == name and _is_real_set(read.value):
            return read.value
    names = [name for name, _ in domains] if domains else [token for token in pattern if token.isalpha()]
    bound = renamed([*pattern, sign, *_joined(kept, separators)], names)
    place = bound.index(sign)
    conditions = [_read(item) for item in split_tokens(bound[place + 1 :], _is_separator)[0] if item]
    found = tuple(sorted(dict.fromkeys(domain for _, domain in domains)))
    return SetBuilder(_read(bound[:place]), tuple(conditions), tuple(("", domain) for domain in found))


def _joined(items: list[list[str]], separators: list[str]) -> list[str]:
    """Return items with a separator between each two; what a declaration left behind goes with it."""
    sign = next((sign for sign in separators if "or" in sign or sign == "\\vee"), "and")
    joined = [token for item in items for token in (*item, sign)]
    return joined[:-1]


def _is_real_set(answer: Answer) -> bool:
    if isinstance(answer, UnionOf):
        return all(map(_is_real_set, answer.parts))
    return isinstance(answer, Listing) or (isinstance(answer, Bracketed) and answer.opening in "([")


def _read_cases(tokens: list[str]) -> Answer:
    """Read the rows of `\\begin{cases}`: values with their conditions, or equations that all hold."""
    rows, _ = split_tokens(tokens, lambda token: token == ROW_END)
    cells = [split_tokens(row, lambda token: token == "&")[0] for row in rows if row]
    branches, equations = [], []
    for row in cells:
        whole = [token for cell in row for token in cell]
        words = [k for k, token in enumerate(whole) if token.lower() in CONDITION_WORDS | OTHERWISE]
        if len(row) > 1 and row[0]:
            branches.append((_trimmed(row[0]), whole[len(row[0]) :]))
        elif words and words[0]:
            branches.append((_trimmed(whole[: words[0]]), whole[words[0] :]))
        else:
            items, _ = split_tokens(whole, _is_separator)
            branches.append((items[0], _joined(items[1:], [])))
            equations.append(whole)
    if len(equations) == len(cells) and all(not condition for _, condition in branches):
        read = [_read(row) for row in equations]
        if not all(isinstance(item, Named | Relation) for item in read):
            raise ForeignNotation("rows without conditions")
        return Listing(_flat(read))
    if len(branches) < 2:
        raise Unreadable("a single case")
    return Piecewise(
        tuple((_read(_filled([value])[0]), _read_case(condition)) for value, condition in branches)
    )


def _read_case(tokens: list[str]) -> Answer | None:
    """Read the condition of one case; None for `otherwise`."""
    kept = [token for token in tokens if token.lower() not in CONDITION_WORDS]
    while kept and _is_separator(kept[0]):
        kept = kept[1:]
    kept = _trimmed(kept)
    if not kept:
        raise Unreadable("a case without a condition")
    if len(kept) == 1 and kept[0].lower() in OTHERWISE:
        return None
    if any(len(token) > 2 and token.isalpha() and token not in ("and", "or") for token in kept):
        found = declaration(kept)
        # `n even`, `n is even`; other words as they stand.
        return Words(" ".join(f"{n} {d}" for n, d in found) if found else " ".join(kept).lower())
    read = _read(kept)
    if not isinstance(read, Named | Relation | Listing) or (
        isinstance(read, Listing) and not all(isinstance(item, Named | Relation) for item in read.items)
    ):
        raise Unreadable("a condition that is no relation")
    return read


def _read_matrices(tokens: list[str]) -> Matrix | None:
    """Read a matrix with a factor, or a line `a + t b`; None for what only holds a matrix."""
    parts, signs = split_tokens(tokens, lambda token: token in ("+", "-"))
    if parts[0]:
        signs.insert(0, "+")
    pairs = [_read_scaled(part) for part in parts if part]
    found = [(factor, rows) for factor, rows in filter(None, pairs)]
    if not found or len(found) != len(signs):
        return None
    return combined(signs, found)


def _read_scaled(tokens: list[str]) -> tuple[Term, Rows] | None:
    """Read one matrix and the factors before and behind it."""
    start = next((place for place, token in enumerate(tokens) if token.startswith("\\begin")), 0)
    end = next((place for place, token in enumerate(tokens) if token.startswith("\\end")), 0) + 1
    inside = tokens[start:end]
    if not _MATRIX.fullmatch(inside[0]) or not inside[-1].startswith("\\end") or not _is_enclosed(inside):
        return None
    before, behind = tokens[:start], tokens[end:]
    if before[-1:] and before[-1] in ("(", "[") and behind[:1] and behind[0] in (")", "]"):
        before, behind = before[:-1], behind[1:]
    if before[-1:] == ["*"]:
        before.pop()
    if behind[:1] == ["*"]:
        behind.pop(0)
    # A power of a matrix is work, and a number behind one would be a power that lost its sign.
    if behind and not (behind[0][0].isalpha() or behind[0].startswith("\\")):
        return None
    factors = [parse_term(factor) for factor in (before, behind) if factor]
    factor = factors[0] if len(factors) == 1 else Operation("*", tuple(factors))
    return factor if factors else ONE, _read_rows(inside[1:-1])


def _read_rows(tokens: list[str]) -> Rows:
    rows, _ = split_tokens(tokens, lambda token: token == ROW_END)
    if rows and not rows[-1]:
        rows.pop()
    read = tuple(
        tuple(_read_value(cell) for cell in split_tokens(row, lambda token: token == "&")[0]) for row in rows
    )
    if not read or len({len(row) for row in read}) != 1:
        raise Unreadable("a matrix with rows of different lengths")
    return read
