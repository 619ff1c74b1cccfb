"""Words that say for what an answer holds: `for any integer n`, `where C is a constant`, `if x > 0`.

In: tokens. Out: the value and its condition apart, a declaration as names and the set they are from,
or tokens with other names. A declaration names no value, so it may be missing on one side; on both
sides it must be the same, and the names that it binds are free to choose.
"""

import re
from collections.abc import Sequence

from zerone.rewards.math.terms import PLAIN_NAMES
from zerone.rewards.math.text import tokenise

CONDITION_WORDS = frozenset(["for", "if", "when", "where", "whenever", "provided"])
OTHERWISE = frozenset(["otherwise", "else", "elsewhere"])
_FILLERS = frozenset(
    [
        "for",
        "if",
        "when",
        "where",
        "whenever",
        "provided",
        "with",
        "that",
        "and",
        ",",
        "=",
        "any",
        "all",
        "every",
        "each",
        "an",
        "a",
        "some",
        "the",
        "is",
        "are",
        "be",
        "being",
        "arbitrary",
        "can",
        "denotes",
        "represents",
        "number",
        "numbers",
        "value",
        "values",
    ]
)
_KINDS = {
    "integer": "Z",
    "real": "R",
    "constant": "R",
    "parameter": "R",
    "scalar": "R",
    "complex": "C",
    "rational": "Q",
    "natural": "N",
    "positive integer": "Z>0",
    "negative integer": "Z<0",
    "nonnegative integer": "Z>=0",
    "non - negative integer": "Z>=0",
    "odd integer": "odd",
    "even integer": "even",
    "odd": "odd",
    "even": "even",
    "positive": "R>0",
    "positive real": "R>0",
    "positive constant": "R>0",
    "real constant": "R",
}
_SETS = {
    "Z": "Z",
    "R": "R",
    "C": "C",
    "Q": "Q",
    "N": "N",
    "Z^+": "Z>0",
    "Z_+": "Z>0",
    "Z_>0": "Z>0",
    "R^+": "R>0",
}
_SETS |= {
    "N^+": "Z>0",
    "N^*": "Z>0",
    "N_0": "Z>=0",
    "Z_>=0": "Z>=0",
    "Z_\\ge0": "Z>=0",
    "R_+": "R>0",
    "Z^*": "Z*",
}
_WORDY = re.compile(
    r"\b(?:for|if|when|where|whenever|provided|otherwise|else|elsewhere|any|all|every|integers?|constants?|real|"
    r"natural|arbitrary|parameters?|odd|even)\b"
)
_NAME = re.compile(r"[A-Za-z]|\\[A-Za-z]+")
_BOUND = ("\\boundA", "\\boundB", "\\boundC", "\\boundD")
"""Names that no answer uses, for those that a declaration or a set binds."""

ANY = "any"
"""Of a name that no set is said of: `for all x`."""

_QUANTIFIERS = frozenset(["all", "any", "every", "each"])
KIND_WORDS = _QUANTIFIERS | {
    form for kind in _KINDS for word in kind.split() for form in (word, f"{word}s") if word.isalpha()
}
"""Words that declare names."""

Domains = tuple[tuple[str, str], ...]


def with_words(tokens: Sequence[str]) -> list[str]:
    """Return tokens with the words of a condition in place of the `\\text` that holds them."""
    spread: list[str] = []
    for token in tokens:
        inside = token.partition("{")[2].removesuffix("}") if token.startswith("\\text") else ""
        spread.extend(tokenise(inside) if _WORDY.search(inside.lower()) else [token])
    return spread


def declaration(tokens: Sequence[str]) -> Domains | None:
    """Return the names that tokens declare, each with its set; None for what is no declaration."""
    place = tokens.index("\\in") if "\\in" in tokens else -1
    if place > 0:
        found = "".join(token for token in tokens[place + 1 :] if token not in ("{", "}", "\\mathbb"))
        names = [token for token in tokens[:place] if token not in _FILLERS]
        return _declared(names, _SETS.get(found))
    words = [token.lower() if len(token) > 1 else token for token in tokens]
    names, kind = [], []
    for word in words:
        if _NAME.fullmatch(word) and word not in _FILLERS:
            names.append(word)
        elif word not in _FILLERS:
            kind.append(word.removesuffix("s"))
    if not kind and _QUANTIFIERS & set(words):
        return _declared(names, ANY)
    return _declared(names, _KINDS.get(" ".join(kind)))


def _declared(names: list[str], domain: str | None) -> Domains | None:
    is_fine = domain is not None and 0 < len(names) <= len(_BOUND) and all(map(_NAME.fullmatch, names))
    return tuple((name, domain) for name in names) if is_fine and domain is not None else None


def holds_names(tokens: Sequence[str], domains: Domains) -> bool:
    """Whether all declared names occur in tokens."""
    letters = set(_spread(tokens))
    return all(name in letters for name, _ in domains)


def renamed(tokens: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return tokens with the bound names, in the order in which they occur, replaced."""
    order = [token for token in dict.fromkeys(_spread(tokens)) if token in names]
    new = dict(zip(order, _BOUND, strict=False))
    return [new.get(token, token) for token in _spread(tokens)] if new else list(tokens)


def _spread(tokens: Sequence[str]) -> list[str]:
    """Return tokens with products of letters apart."""
    spread: list[str] = []
    for token in tokens:
        is_product = token.isalpha() and token.isascii() and len(token) <= 4 and token not in PLAIN_NAMES
        spread.extend(token if is_product and token not in CONDITION_WORDS else [token])
    return spread
