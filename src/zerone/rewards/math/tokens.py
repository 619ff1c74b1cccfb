"""Tokens and their brackets: parts between separators, names, intervals that are written outwards.

In: the tokens of an answer. Out: lists of tokens. Nothing here knows what they mean.
"""

import re
from collections.abc import Callable, Sequence

from zerone.rewards.math.terms import Unreadable
from zerone.rewards.math.text import ROW_END

OPENING = frozenset(["(", "[", "{", "\\{", "\\langle", "\\lfloor", "\\lceil"])
CLOSING = frozenset([")", "]", "}", "\\}", "\\rangle", "\\rfloor", "\\rceil"])
_ALTERNATIVE = re.compile(
    rf"[,;{ROW_END}]|or|and|\\l(?:or|and)|\\vee|\\wedge|\\text\s*\{{,?\s*(?:or|and|,)\s*\}}"
)
_INDEX = r"(?:_(?:\w|\{[\w+\-,\\]+\}|\\(?:max|min)))?"
_MARK = r"(?:'{1,3}|\^\{-1\}|\^-1)?"
_NAME = re.compile(
    rf"\\?[A-Za-z]+{_INDEX}'{{0,3}}|m?\\angle[A-Z]{{1,3}}"
    r"|\\(?:(?:math|text)\w*|vec|hat|bar|tilde|overline|overrightarrow|widehat)\{\w+\}"
    rf"|[A-Za-z]{_INDEX}{_MARK}\([A-Za-z](?:,[A-Za-z])*\)|[fghpqFGPQ]{_INDEX}{_MARK}\(-?\d+\)"
    r"|(?:Pr?|E|\\Pr|\\mathbb\{[PE]\})\([A-Z](?:(?:=|<|>|\\[lg]e|\||\\mid|\\c[au]p)[A-Z0-9]+)?\)"
    r"|\|(?:[A-Z](?:_\d|_\{\d\})?){2}\||\|\\(?:vec|overrightarrow|overline)\{\w+\}\|"
    rf"|\((?:\\?[A-Za-z]+{_INDEX},)+\\?[A-Za-z]+{_INDEX}\)"
    rf"|[A-Z]{_INDEX}\^(?:\{{-1\}}|\{{?T\}}?|\{{?\\top\}}?)|\\\|\\?\w+\\\||[A-Za-z](?::[A-Za-z])+"
)
"""What may stand before `=`; `x(x+1)` and `|x|` are no names: there the work is left to the checker."""

_OPERAND_AFTER = frozenset(
    [
        "",
        *[
            r"\cup",
            r"\cap",
            r"\in",
            r"\notin",
            r"=",
            r"\setminus",
            r"\backslash",
            r"(",
            r"\{",
            r",",
            r";",
            r"or",
            r"and",
            r"U",
            r"\approx",
        ],
    ]
)
_OPERAND_ENDS = _OPERAND_AFTER - {"(", "\\{", "\\in", "=", "\\notin"} | {")", "\\}"}


def split_tokens(
    tokens: Sequence[str], is_separator: Callable[[str], bool]
) -> tuple[list[list[str]], list[str]]:
    """Return the parts between separators outside all brackets, and the separators."""
    parts: list[list[str]] = [[]]
    separators: list[str] = []
    depth = 0
    for token in tokens:
        if token in OPENING or token.startswith("\\begin"):
            depth += 1
        elif token in CLOSING or token.startswith("\\end"):
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


def with_usual_brackets(tokens: Sequence[str]) -> list[str]:
    """Return tokens with `]1, 2[` written as `(1, 2)`: a bracket that looks away leaves the end out."""
    turned = list(tokens)
    for place, token in enumerate(tokens):
        before = tokens[place - 1] if place else ""
        behind = tokens[place + 1] if place + 1 < len(tokens) else ""
        if token == "]" and before in _OPERAND_AFTER:
            turned[place] = "("
        elif token == "[" and place and behind in _OPERAND_ENDS:
            turned[place] = ")"
    return turned


def is_separator(token: str) -> bool:
    """Whether a token stands between the items of a list."""
    return _ALTERNATIVE.fullmatch(token) is not None


def is_enclosed(tokens: list[str]) -> bool:
    """Whether the first bracket closes with the last token."""
    depth = 0
    for place, token in enumerate(tokens):
        depth += token in OPENING or token.startswith("\\begin")
        depth -= token in CLOSING or token.startswith("\\end")
        if depth == 0:
            return place == len(tokens) - 1
    return False


def name_of(tokens: list[str]) -> str:
    """Return the name that tokens are, or an empty text."""
    text = re.sub(r"\\(?:mathrm|text)\{\s*(\w+)\s*\}", r"\1", "".join(tokens))
    text = re.sub(r"\\[lr]vert", "|", text)
    text = re.sub(r"(_|\\(?:bar|hat|vec|tilde|overline))\{(\w)\}", r"\1\2", text)
    return text if _NAME.fullmatch(text) else ""


def filled(parts: list[list[str]]) -> list[list[str]]:
    """Return parts, none of which may be empty."""
    if not all(parts):
        raise Unreadable("a side is missing")
    return parts


def trimmed(tokens: list[str]) -> list[str]:
    """Return tokens without the separators and dots at their end."""
    while tokens and (tokens[-1] in (".", ":") or is_separator(tokens[-1])):
        tokens = tokens[:-1]
    return tokens


def closing_group(tokens: list[str]) -> int:
    """Return where the bracket opens that closes with the last token, -1 where none does."""
    depth = 0
    for place in range(len(tokens) - 1, -1, -1):
        depth += tokens[place] == ")"
        depth -= tokens[place] == "("
        if depth == 0:
            return place if tokens[place] == "(" else -1
    return -1
