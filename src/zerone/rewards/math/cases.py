"""Values with conditions: `2 n \\pi, n \\in Z`, functions in pieces, sets by their property.

In: tokens, and the reader of what they hold. Out: the answer that they are, or None where they are
nothing of this kind. A declaration (`any integer n`) binds names; other conditions are relations.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

from zerone.rewards.math.conditions import (
    CONDITION_WORDS,
    KIND_WORDS,
    OTHERWISE,
    Domains,
    declaration,
    holds_names,
    renamed,
)
from zerone.rewards.math.guards import MAX_ITEMS
from zerone.rewards.math.kinds import (
    Answer,
    Bracketed,
    Conditional,
    Listing,
    Named,
    Piecewise,
    Relation,
    SetBuilder,
    UnionOf,
    Words,
)
from zerone.rewards.math.sets import REALS
from zerone.rewards.math.terms import ForeignNotation, Unreadable
from zerone.rewards.math.text import ROW_END
from zerone.rewards.math.tokens import closing_group, filled, is_separator, name_of, split_tokens, trimmed

Reader = Callable[[Sequence[str]], Answer]

SUCH_THAT = (":", "\\mid", "|")
_COMPARES = frozenset(["<", ">", "\\le", "\\ge", "\\ne", "\\in"])
_NO_VALUE = CONDITION_WORDS | KIND_WORDS | {"\\in"}
"""What no value with declared names holds: each level is read twice, so levels may not be nested."""

_Rows = list[tuple[list[str], list[str]]]


def flat(items: Sequence[Answer]) -> tuple[Answer, ...]:
    """Return items with those of lists among them in their place."""
    found: list[Answer] = []
    for item in items:
        found.extend(item.items if isinstance(item, Listing) and not item.has_braces else [item])
    if len(found) > MAX_ITEMS:
        raise Unreadable(f"it lists more than {MAX_ITEMS} items")
    return tuple(found)


def _is_condition_word(token: str) -> bool:
    return token.lower() in CONDITION_WORDS or token.lower() in OTHERWISE


def read_conditional(tokens: list[str], read: Reader) -> Answer | None:
    """Read `value for condition`, `value (x > 0)` and `value if condition, value otherwise`."""
    parts, words = split_tokens(tokens, _is_condition_word)
    if not words:
        if tokens[-1:] != [")"]:
            return None
        place = closing_group(tokens)
        condition = tokens[place + 1 : -1]
        is_condition = bool(_COMPARES & set(condition)) or declaration(condition) is not None
        if place < 1 or "," in condition or not is_condition:
            return None
        return _conditional(trimmed(tokens[:place]), condition, read)
    if not parts[0]:
        return None
    if len(words) > 1 or words[0].lower() in OTHERWISE:
        return _read_branches(tokens, read)
    value = trimmed(parts[0])
    return _conditional(value, parts[1], read) if value and parts[1] else None


def read_declared(items: list[list[str]], separators: list[str], read: Reader) -> Answer | None:
    """Read `2 n \\pi, n \\in \\mathbb{Z}` and `n \\pi, any integer n`, where the last items declare names."""
    domains: list[tuple[str, str]] = []
    kept = list(items)
    while len(kept) > 1 and (found := declaration(kept[-1])) is not None:
        domains.extend(found)
        kept.pop()
    value = _joined(kept, separators)
    if not domains or not holds_names(value, tuple(domains)):
        return None
    return _with_domains(trimmed(value), [], tuple(domains), read)


def _conditional(value: list[str], condition: list[str], read: Reader) -> Answer:
    """Return a value with what is said about its names."""
    if (whole := declaration(condition)) is not None:
        return _with_domains(value, [], whole, read)
    items = [item for item in split_tokens(condition, is_separator)[0] if item]
    said = [declaration(item) for item in items]
    domains = tuple(pair for found in said for pair in found or ())
    if not domains:
        return _with_domains(value, [condition], (), read)
    kept = [item for item, found in zip(items, said, strict=True) if found is None]
    relations = [[token for token in item if not _is_condition_word(token)] for item in kept]
    return _with_domains(value, relations, domains, read)


def _with_domains(value: list[str], relations: list[list[str]], domains: Domains, read: Reader) -> Answer:
    if not holds_names(value, domains):
        raise Unreadable("a condition on what does not occur")

    def built(names: list[str]) -> Answer:
        spread = renamed([*value, *(token for item in relations for token in ("\n", *item))], names)
        places = [place for place, token in enumerate(spread) if token == "\n"]
        first, *conditions = (
            read(spread[low + 1 : high]) for low, high in pairwise([-1, *places, len(spread)])
        )
        if not all(map(_is_relation, conditions)):
            raise Unreadable("a condition that is not a relation")
        return Listing(flat([first, *conditions])) if conditions else first

    if not domains:
        return built([])
    if _NO_VALUE & set(value) or ("\\{" in value and set(SUCH_THAT) & set(value)):
        raise Unreadable("a condition within a condition")
    return Conditional(built([]), built([name for name, _ in domains]), domains)


def _joined(items: list[list[str]], separators: list[str]) -> list[str]:
    """Return items with their separators between them."""
    signs = [*separators[: max(0, len(items) - 1)], ""]
    joined = [token for item, sign in zip(items, signs, strict=False) for token in (*item, sign)]
    return joined[:-1]


def _read_branches(tokens: list[str], read: Reader) -> Answer:
    """Read `x if x > 0, -x if x < 0` and `1 for x > 0 and 0 otherwise` as a function in pieces."""
    rows: _Rows = []
    for item in filter(None, split_tokens(tokens, is_separator)[0]):
        place = next((k for k, token in enumerate(item) if _is_condition_word(token)), 0)
        if place:
            rows.append((item[:place], item[place:]))
        elif rows:
            # `x if x > 0, x < 5`: more of the same condition.
            rows[-1][1].extend(["and", *item])
        else:
            raise Unreadable("a value without its condition")
    name = ""
    if rows and "=" in rows[0][0]:
        place = rows[0][0].index("=")
        name = name_of(rows[0][0][:place])
        rows[0] = (rows[0][0][place + 1 :] if name else rows[0][0], rows[0][1])
    pieces = _pieces(rows, read)
    return Named(name, pieces) if name else pieces


def _pieces(rows: _Rows, read: Reader) -> Piecewise:
    if len(rows) < 2:
        raise Unreadable("a single case")
    values = filled([trimmed(value) for value, _ in rows])
    return Piecewise(
        tuple(
            (read(value), _read_case(condition, read))
            for value, (_, condition) in zip(values, rows, strict=True)
        )
    )


def read_cases(tokens: list[str], read: Reader) -> Answer:
    """Read the rows of `\\begin{cases}`: values with their conditions, or equations that all hold."""
    rows: _Rows = []
    for row in filter(None, split_tokens(tokens, lambda token: token == ROW_END)[0]):
        first, *rest = split_tokens(row, lambda token: token == "&")[0]
        whole = [*first, *(token for cell in rest for token in cell)]
        place = next((k for k, token in enumerate(whole) if _is_condition_word(token)), 0)
        if rest and first:
            place = len(first)
        elif not place:
            place = len(split_tokens(whole, is_separator)[0][0])
        rows.append((whole[:place], whole[place:]))
    if any(condition for _, condition in rows):
        return _pieces(rows, read)
    equations = [read(row) for row, _ in rows]
    if not all(isinstance(item, Named | Relation) for item in equations):
        raise ForeignNotation("rows without conditions")
    return Listing(flat(equations))


def _read_case(tokens: list[str], read: Reader) -> Answer | None:
    """Read the condition of one case; None for `otherwise`."""
    kept = [token for token in tokens if token.lower() not in CONDITION_WORDS]
    while kept and is_separator(kept[0]):
        kept = kept[1:]
    kept = trimmed(kept)
    if not kept:
        raise Unreadable("a case without a condition")
    if len(kept) == 1 and kept[0].lower() in OTHERWISE:
        return None
    if any(len(token) > 2 and token.isalpha() and not is_separator(token) for token in kept):
        found = declaration(kept)
        # `n even`, `n is even`; other words as they stand.
        return Words(" ".join(f"{n} {d}" for n, d in found) if found else " ".join(kept).lower())
    try:
        condition = read(kept)
    except Unreadable:
        # `n \\equiv 1 \\pmod 4` is compared as it stands.
        return Words(" ".join(token for token in kept if token not in "{}"))
    if not _is_relation(condition):
        raise Unreadable("a condition that is not a relation")
    return condition


def _is_relation(answer: Answer) -> bool:
    if isinstance(answer, Listing):
        return bool(answer.items) and all(map(_is_relation, answer.items))
    return isinstance(answer, Named | Relation)


def read_set_builder(inside: list[str], sign: str, read: Reader) -> Answer:
    """Read `\\{x : x > 2\\}` as the interval that it is, other sets by their pattern and property."""
    if "\\{" in inside:
        raise ForeignNotation("a set by its property within another")
    place = inside.index(sign)
    pattern = inside[:place]
    items, separators = split_tokens(inside[place + 1 :], is_separator)
    said = [declaration(item) for item in items]
    domains = [pair for found in said for pair in found or ()]
    if (found := declaration(pattern)) is not None:
        domains.extend(found)
        pattern = pattern[: pattern.index("\\in")] if "\\in" in pattern else []
    kept = [item for item, found in zip(items, said, strict=True) if found is None]
    if not pattern or not (kept or domains):
        raise ForeignNotation("a set by its property")
    word = next((sign for sign in separators if sign not in (",", ";")), "and")
    condition = _joined(kept, [word] * len(kept))
    if (real := _real_set(name_of(pattern), condition, domains, read)) is not None:
        return real
    names = [name for name, _ in domains] or [token for token in pattern if token.isalpha()]
    bound = renamed([*pattern, "\n", *condition], names)
    place = bound.index("\n")
    conditions = tuple(read(item) for item in split_tokens(bound[place + 1 :], is_separator)[0] if item)
    kinds = tuple(("", kind) for kind in sorted({kind for _, kind in domains}))
    return SetBuilder(read(bound[:place]), conditions, kinds)


def _real_set(
    name: str, condition: list[str], domains: Sequence[tuple[str, str]], read: Reader
) -> Answer | None:
    """Return the set of real numbers that a condition on its only name describes; None for any other."""
    if not name or {kind for _, kind in domains} - {"R"}:
        return None
    found = read(condition) if condition else Named(name, REALS)
    if isinstance(found, Named) and found.name == name and _is_real(found.value):
        return found.value
    return None


def _is_real(answer: Answer) -> bool:
    if isinstance(answer, UnionOf):
        return all(map(_is_real, answer.parts))
    return isinstance(answer, Listing) or (isinstance(answer, Bracketed) and answer.opening in "([")
