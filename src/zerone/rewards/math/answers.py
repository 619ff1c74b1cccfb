"""What an answer is: words, or what the grammar reads.

In: the text of an answer. Out: a `Reading`, or the reason why there is none. What the grammar does
not know stays text, for math-verify to read. A gold answer may say more than an answer: a label before
it, its value in several spellings, how exact it is (`read_gold`).
"""

import re
from functools import lru_cache

from zerone.rewards.math.conditions import with_words
from zerone.rewards.math.exact import NotExact, evaluate, is_equal
from zerone.rewards.math.guards import MAX_TOKENS, UNEVALUATED, refuse
from zerone.rewards.math.kinds import (
    Answer,
    Approximate,
    Chain,
    Foreign,
    Named,
    Reading,
    Relation,
    Scalar,
    Words,
    as_words,
    holds_kind,
    parts_of,
)
from zerone.rewards.math.reader import TEXT, read_tokens
from zerone.rewards.math.terms import PLAIN_NAMES, ForeignNotation, Unreadable, has_variables
from zerone.rewards.math.text import CHINESE, clean, tokenise
from zerone.rewards.math.tokens import split_tokens

_WORDS = re.compile(r"[A-Za-z]+(?:[ '-]+[A-Za-z]+)*")
_WORD_ANSWERS = "yes no odd even all none both red blue true dne east west"
_SHORT_WORDS = frozenset(_WORD_ANSWERS.split())
_LABEL = re.compile(
    r"\s*(?:\\text\s*\{)?\s*(?:the\s+)?(?:final\s+|general\s+|correct\s+)?(?:solutions?|answers?|ans)(?:\s+set)?\s*(?:is|are)?"
    r"\s*[.:]\s*\}?\s*(?=\S)|\s*(?:答案|解)[是为]?[:\uff1a]\s*(?=\S)",
    re.IGNORECASE,
)
_GOLD_LABEL = re.compile(
    rf"{_LABEL.pattern}|\s*(?:the\s+)?(?:solutions?|answers?)\s+(?:is|are)\s+(?=\S)"
    r"|\s*(?:the|its)(?:\s+[a-z]+){1,4}?\s+(?:is|are|equals)\s+(?=[\d$\\(-])"
    r"|\s*(?:about|approximately|approx\.?|roughly)\s+(?=[\d$\\.])",
    re.IGNORECASE,
)

_TASK = re.compile(
    r"\\(?:i*int|oint|sum|prod|coprod|lim|gcd|lcm|det|bmod|begin)(?![A-Za-z])|\\(?:max|min) (?:[({_]|\\\{)"
    r"|\\(?:text|mathrm)\s*\{\s*(?:lcm|gcd|det)\s*\}"
)
"""What may stand before the result in a gold; `\\min` at x = 1 is none."""

_UNIT_BEHIND = re.compile(r"(.*[\d}$)])\s*\(([A-Za-z]{3,}(?: [A-Za-z]+){0,2})\)\s*[.]?\s*", re.DOTALL)


@lru_cache(maxsize=8192)
def read_answer(text: str) -> Reading:
    """Read an answer; raise Unreadable with the reason where it is none."""
    if reason := refuse(text):
        raise Unreadable(reason)
    reading = _read_text(_LABEL.sub("", text, count=1) if _LABEL.match(text) else text)
    if holds_kind(reading.answer, (Chain, Approximate)) and not _is_rounded(reading.answer):
        raise Unreadable("a chain of relations")
    return reading


def _is_rounded(answer: Answer) -> bool:
    """Whether an answer is an exact value with its decimal: both are judged."""
    if isinstance(answer, Named):
        return _is_rounded(answer.value)
    match answer:
        case Chain((Scalar(), Approximate(Scalar()))):
            return True
    return False


def read_gold(text: str) -> Reading:
    """Read a gold answer; raise Unreadable with the reason where it is none."""
    label = _GOLD_LABEL.match(text)
    text = text[label.end() :] if label else text
    if reason := refuse(text, is_gold=True):
        raise Unreadable(reason)
    if UNEVALUATED.search(text) or re.match(r"[^=]*(?:matrix|array)\}[^=]*(?:matrix|array)\}[^=]*=", text):
        return _read_result(text)
    source = clean(text)
    if (twice := _read_twice(source)) is not None:
        return Reading(source, twice)
    reading = _read_with_unit(text)
    match reading.answer:
        case Relation("=", left, right) if not has_variables(left) and not has_variables(right):
            # `3 \cdot 31 = 93` gives the result with its task.
            _check_chain(Chain((Scalar(left, ""), Scalar(right, ""))))
            reading = Reading(reading.source, Scalar(right, ""))
    _check_chain(reading.answer)
    return reading


def _read_with_unit(text: str) -> Reading:
    """Read a gold, of which the words in brackets at its end are the unit: `47.5 (pounds)`."""
    try:
        return _read_text(text)
    except Unreadable:
        match = _UNIT_BEHIND.fullmatch(text)
        if match is None:
            raise
        return _read_text(rf"{match[1]} \text{{{match[2]}}}")


def _check_chain(answer: Answer) -> None:
    """Refuse a gold whose spellings of one value differ, as far as exact arithmetic sees it."""
    for part in parts_of(answer):
        _check_chain(part)
    if not isinstance(answer, Chain):
        return
    terms = [value.term for value in answer.values if isinstance(value, Scalar)]
    try:
        values = [evaluate(term) for term in terms]
    except NotExact:
        return
    if not all(is_equal(values[0], value) for value in values[1:]):
        raise Unreadable("a chain of different values")


def _read_result(text: str) -> Reading:
    """Read what stands behind the last equals sign of a task: `\\int_0^1 x dx = 1/2`."""
    source = clean(text)
    parts, signs = split_tokens(with_words(tokenise(source)), lambda token: token in ("=", "\\approx"))
    last = " ".join(parts[-1])
    if not signs or UNEVALUATED.search(last) or not _TASK.search(" ".join(parts[0])):
        raise Unreadable(refuse(text) or "it leaves work to the checker")
    value = read_tokens(parts[-1])
    return Reading(source, Approximate(value) if signs[-1] == "\\approx" else value)


def _read_twice(source: str) -> Answer | None:
    """Read an inequality with its interval behind a colon: `x > 2: (2, \\infty)`; None for anything else."""
    if ":" not in source:
        return None
    try:
        parts, colons = split_tokens(tokenise(source), lambda token: token == ":")
        if len(colons) != 1 or not any(token in ("<", ">", "\\le", "\\ge", "\\ne") for token in parts[0]):
            return None
        return Chain((read_tokens(parts[0]), read_tokens(parts[1])))
    except Unreadable:
        return None


def _read_text(text: str) -> Reading:
    source = clean(text)
    if match := TEXT.fullmatch(source):
        inside = match[1].strip()
        if not any(character.isdigit() for character in inside) and (
            source.startswith("\\text") or _is_words(inside)
        ):
            return Reading(source, Words(as_words(inside)))
        source = clean(inside) if source.startswith("\\text") else source
    if _is_words(source):
        return Reading(source, Words(as_words(source)))
    tokens = with_words(tokenise(source))
    if not 0 < len(tokens) <= MAX_TOKENS:
        raise Unreadable("it is empty" if not tokens else f"it has more than {MAX_TOKENS} signs and names")
    try:
        return Reading(source, read_tokens(tokens))
    except ForeignNotation:
        if "matrix}" in source:
            raise Unreadable("it calculates with matrices") from None
        return Reading(source, Foreign(source))


def _is_words(source: str) -> bool:
    if CHINESE.fullmatch(source):
        return True
    if not _WORDS.fullmatch(source):
        return source in ("(A)", "(B)", "(C)", "(D)", "(E)", "(F)")
    words = re.split("[ '-]+", source)
    if len(words) == 1 and words[0] in PLAIN_NAMES:
        return False
    return any(len(word) >= 5 or word.lower() in _SHORT_WORDS for word in words)
