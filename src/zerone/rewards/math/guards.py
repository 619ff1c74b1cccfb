"""Bounds on a mathematical answer, checked before anything reads it.

In: the text of an answer. Out: why it is refused, or None. Every check is linear in the text, so
that an answer which is built to be slow costs less than an honest one. What passes may still be
hard to judge; the deadline of the worker pool is for that.
"""

import re
from collections.abc import Iterator

MAX_CHARACTERS = 2_000
MAX_NESTING = 32
MAX_DEPTH = 64
MAX_FACTORS = 200
"""Of one product; with the depth of terms this bounds the stack, also for `|`, `\\sin` and letters."""

MAX_DIGITS = 1_000
MAX_OPERATORS = 200
MAX_EXPONENT = 10_000
MAX_FACTORIAL = 3_000
MAX_TOKENS = 800
MAX_ITEMS = 100
MAX_BITS = 50_000
"""Of all numbers in a value together, however they come about: 15,000 digits."""

_DIGITS = re.compile(rf"\d{{{MAX_DIGITS + 1}}}")
_OPERATOR = re.compile(r"[-+*/^!]|\\(?:times|cdot|div|frac|sqrt|binom)")
_CONTROL = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u200b-\u200f\u2028-\u202e\u2060-\u2064\ufeff\ud800-\udfff]"
)

UNEVALUATED = re.compile(
    r"(?<!_)(?<!_\{)(?<!_ )\\(?:max|min)(?![A-Za-z])"
    r"|\\(?:i*int|oint|sum|prod|coprod|lim(?:sup|inf)?|gcd|lcm|sup|inf|det|bmod|mod"
    r"|partial|nabla|[lcd]?dots[bcimo]?|bigcup|bigcap|arg(?:max|min))(?![A-Za-z])"
    r"|\\begin\s*\{[vV](?:small)?matrix\}|(?:\||\\[lr]?vert)\s*\\begin|\\d?frac\s*\{\s*d\s*\}\s*\{\s*d\s*[a-z]\s*\}"
    r"|\\(?:operatorname|mathrm|text)\s*\*?\s*\{\s*(?:lcm|gcd|max|det|mod|lim|sum|rank|tr|floor|ceil)\s*\}"
    r"|\\(?:operatorname|mathrm|text)\s*\*?\s*\{\s*min\s*\}(?!\s*(?:[$.,;/^)}]|\\[,; )\]]|$))"
    r"|\b(?:sum|prod|integral|integrate|diff|gcd|lcm|max|min|det|lim|limit|mod|floor|ceil|round)\s*\("
    r"|\bmod\b(?!\s*\{)|\.\.\.|\u2026|\u222b|\u2211|\u220f"
)
"""What leaves the work to the checker: an answer is a value, not the task again."""


_WHOLE = re.compile(
    r"\\l(floor|ceil)(?![A-Za-z])(.*?)(?:\\r\1|$)|\u230a(.*?)(?:\u230b|$)|\u2308(.*?)(?:\u2309|$)", re.DOTALL
)
_NO_VARIABLES = re.compile(
    r"\\(?:[dtc]?frac|sqrt|log|ln|lg|exp|sin|cos|tan|pi|cdot|times|div|left|right|[Bb]ig+[lr]?|[lr](?:floor|ceil))(?![A-Za-z])"
    r"|(?<![A-Za-z\\])(?:sqrt|log|ln|lg|exp|pi|e)(?![A-Za-z])"
)


def _rounds_number(text: str) -> bool:
    """Whether a floor or ceiling has no variable in it: it leaves the rounding to the checker."""
    return any(
        not re.search("[A-Za-z]", _NO_VARIABLES.sub("", match[2] or match[3] or match[4] or ""))
        for match in _WHOLE.finditer(text)
    )


def refuse(text: str, *, is_gold: bool = False) -> str | None:
    """Return why an answer is not read at all, or None; a gold answer may leave work to the checker."""
    return next(_reasons(text, is_gold), None)


def _reasons(text: str, is_gold: bool) -> Iterator[str]:
    """Yield what speaks against reading a text; each check may rely on those before it."""
    if not text.strip():
        yield "it is empty"
    if len(text) > MAX_CHARACTERS:
        yield f"it has more than {MAX_CHARACTERS:,} characters"
    if _CONTROL.search(text):
        yield "it holds control characters"
    if _DIGITS.search(text):
        yield f"it holds a number of more than {MAX_DIGITS:,} digits"
    if _nesting(text) > MAX_NESTING:
        yield f"it nests brackets more than {MAX_NESTING} deep"
    if sum(1 for _ in _OPERATOR.finditer(text)) > MAX_OPERATORS:
        yield f"it holds more than {MAX_OPERATORS} operators"
    if is_gold:
        return
    if found := UNEVALUATED.search(text):
        yield f"it leaves work to the checker ({found.group().strip()[:20]})"
    if _rounds_number(text):
        yield "it leaves work to the checker (rounding)"


def _nesting(text: str) -> int:
    depth = deepest = 0
    for character in text:
        if character in "([{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in ")]}":
            depth -= 1
    return deepest
