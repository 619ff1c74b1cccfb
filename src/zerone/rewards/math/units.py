"""Units of a scalar: what stands before and behind a number and is not a part of its value.

In: the tokens of a scalar. Out: the tokens of its value, and the unit in one spelling ("" for
none). Percent, degrees and currencies are units like any other: nothing is converted, so 50% is 50
and not 1/2. A subscript on digits is a base and belongs to the number.
"""

import re
from collections.abc import Sequence

from zerone.rewards.math.terms import FUNCTIONS, Unreadable
from zerone.rewards.math.text import CHINESE

BASE = "base "

_CURRENCIES = {"\\dollar": "$", "\\euro": "eur", "\\pounds": "gbp", "\\yen": "yen"}
_SYNONYMS = {
    "dollar": "$",
    "usd": "$",
    "percent": "%",
    "degree": "deg",
    "degrees": "deg",
    "inches": "in",
    "inch": "in",
    "feet": "ft",
    "foot": "ft",
    "centimeter": "cm",
    "centimetre": "cm",
    "meter": "m",
    "metre": "m",
    "kilometer": "km",
    "kilometre": "km",
    "millimeter": "mm",
    "millimetre": "mm",
    "kilogram": "kg",
    "gram": "g",
    "second": "s",
    "sec": "s",
    "minute": "min",
    "hour": "h",
    "hr": "h",
    "liter": "l",
    "litre": "l",
    "euro": "eur",
    "mile": "mi",
    "mph": "mi/h",
    "kph": "km/h",
    "kmh": "km/h",
}
_CHINESE = {
    "美元": "$",
    "欧元": "eur",
    "元": _CURRENCIES["\\yen"],
    "毫米": "mm",
    "厘米": "cm",
    "分米": "dm",
    "米": "m",
    "千米": "km",
    "公里": "km",
    "平方厘米": "cm^2",
    "平方分米": "dm^2",
    "平方米": "m^2",
    "平方千米": "km^2",
    "平方公里": "km^2",
    "立方厘米": "cm^3",
    "立方分米": "dm^3",
    "立方米": "m^3",
    "克": "g",
    "千克": "kg",
    "公斤": "kg",
    "毫升": "ml",
    "升": "l",
    "秒": "s",
    "分钟": "min",
    "小时": "h",
    "个小时": "h",
    "时": "h",
    "天": "day",
    "日": "day",
    "周": "week",
    "个星期": "week",
    "个月": "month",
    "年": "year",
    **{sign: sign for sign in "个只本人名位件张辆棵页次种块支枝头条岁吨分角台双套箱袋瓶道题步层级组场朵颗粒"},
}
"""A closed list: behind a number Chinese words also multiply it (ten thousand) or make it vague."""

_UNIT_WORDS = """
cm mm km kg mph inch inches feet foot ft mile yard cent dollar euro usd percent degree deg unit hour hr minute
min second sec day week month year meter metre centimeter centimetre kilometer kilometre millimeter gram
kilogram liter litre point square people student way time page
"""
_PLAIN = frozenset(_UNIT_WORDS.split())
"""Words that count as a unit without \\text; in a formula letters side by side are a product."""

_OTHER_WORDS = """
a an and are approx approximately base because but by can dozen for from half hundred if in is it mod modulo
more million billion trillion no none not of or over per plus minus same thousand than that the times to
undefined where which with
"""
_NO_UNITS = frozenset(_OTHER_WORDS.split())
_UNIT_TEXT = re.compile(r"[A-Za-z]+(?: [A-Za-z]+){0,2}\.?(?:\^?[23])?")
_PER = re.compile(r"\s*/\s*| per |每")
_SHORT = (frozenset(["m", "g", "l", "L", "N", "J"]), frozenset(["s", "h", "m", "l", "L"]))
"""Letters that are units in a quotient of two, above and below: `5 m/s`."""


def split_unit(tokens: Sequence[str]) -> tuple[list[str], str]:
    """Return the tokens of the value and the unit around them."""
    rest, currency = _without_currency(list(tokens))
    units: list[str] = []
    while len(rest) > 1:
        shorter, unit = _without_last(rest)
        if len(shorter) == len(rest):
            break
        rest = shorter
        units.insert(0, unit)
    return rest, " ".join(filter(None, [currency, *units]))


def _without_currency(tokens: list[str]) -> tuple[list[str], str]:
    place = 1 if tokens[:1] in (["-"], ["+"]) else 0
    if len(tokens) > place + 1 and tokens[place] in _CURRENCIES:
        return tokens[:place] + tokens[place + 1 :], _CURRENCIES[tokens[place]]
    return tokens, ""


_Found = tuple[list[str], str]


def _without_last(tokens: list[str]) -> _Found:
    """Return the tokens before the last unit, and it; all of them where there is none."""
    for read in (_sign, _degree, _subscript, _word):
        if (found := read(tokens)) is not None:
            return found
    return tokens, ""


def _sign(tokens: list[str]) -> _Found | None:
    if tokens[-1] in ("%", "\\%"):
        return tokens[:-1], "%"
    return (tokens[:-1], _CURRENCIES[tokens[-1]]) if tokens[-1] in _CURRENCIES else None


def _degree(tokens: list[str]) -> _Found | None:
    """Read a closing degree sign; within a function it belongs to the value."""
    if any(token.lstrip("\\") in FUNCTIONS for token in tokens):
        return None
    for sign in (["^", "\\circ"], ["^", "{", "\\circ", "}"]):
        if tokens[-len(sign) :] == sign:
            return tokens[: -len(sign)], "deg"
    return None


def _subscript(tokens: list[str]) -> _Found | None:
    """Read `52_8`, `52_{8}`, `3 \\pmod 7` and `3 \\pmod{7}`."""
    is_group = len(tokens) > 3 and tokens[-1] == "}" and tokens[-3] == "{"
    place = len(tokens) - (3 if is_group else 1)
    argument = tokens[-2] if is_group else tokens[-1]
    if tokens[place - 1] == "_" and place == 2 and argument.isdigit() and tokens[0].isdigit():
        return tokens[:1], f"{BASE}{argument}" if argument != "10" else ""
    if tokens[place - 1] == "\\pmod" and argument.isalnum():
        return tokens[: place - 1], f"mod {argument}"
    return None


def _word(tokens: list[str]) -> _Found | None:
    """Read `\\text{cm}`, `cm`, `km/h`, and all with ^2 or ^3."""
    tail, power = tokens, ""
    if len(tail) > 2 and tail[-2] == "^" and tail[-1] in ("2", "3"):
        power, tail = f"^{tail[-1]}", tail[:-2]
    elif len(tail) > 4 and tail[-4:-2] == ["^", "{"] and tail[-2] in ("2", "3"):
        power, tail = f"^{tail[-2]}", tail[:-4]
    if (quotient := _quotient(tail)) is not None:
        return tail[:-3], _spelled(quotient, power)
    if tail[-1].startswith("\\text"):
        return tail[:-1], _spelled(_inside(tail[-1]), power)
    if len(tail) > 1 and (_is_plain(tail[-1]) or CHINESE.fullmatch(tail[-1])):
        return tail[:-1], _spelled(tail[-1], power)
    return None


def _quotient(tokens: list[str]) -> str | None:
    """Return the unit that the last three tokens are: `km/h`, `miles per hour`, `\\text{m}/\\text{s}`."""
    if len(tokens) < 4 or tokens[-2] not in ("/", "per"):
        return None
    # In a formula m/s is a quotient of variables; only behind a number it is a unit.
    is_number = not any(token[0].isalpha() for token in tokens[:-3])
    for token, letters in zip((tokens[-3], tokens[-1]), _SHORT, strict=True):
        is_known = token.startswith("\\text") or _is_plain(token) or token in _CHINESE
        if not is_known and not (is_number and token in letters):
            return None
    return f"{_inside(tokens[-3])}/{_inside(tokens[-1])}"


def _is_plain(token: str) -> bool:
    word = token.lower()
    return word in _PLAIN or word.removesuffix("s") in _PLAIN


def _inside(token: str) -> str:
    """Return the words of `\\text{words}`, and any other token as it is."""
    return token.partition("{")[2].rstrip("}") if token.startswith("\\text") else token


def _spelled(text: str, power: str) -> str:
    """Return a unit in one spelling; raise Unreadable for words that are none."""
    words = " ".join(text.lower().replace(".", "").split())
    if not words:
        return ""
    return "/".join(_spelled_part(part) for part in _PER.split(words)) + power


def _spelled_part(words: str) -> str:
    if CHINESE.fullmatch(words) and words in _CHINESE:
        return _CHINESE[words]
    if not _UNIT_TEXT.fullmatch(words) or set(words.split()) & _NO_UNITS:
        raise Unreadable(f"the words {words[:30]!r}")
    power = ""
    for opening in ("square ", "sq "):
        if words.startswith(opening):
            words, power = words.removeprefix(opening), "^2"
    if words.startswith("cubic "):
        words, power = words.removeprefix("cubic "), "^3"
    if words.endswith(" squared"):
        words, power = words.removesuffix(" squared"), "^2"
    stem = words.removesuffix("s") if len(words) > 3 else words
    return _SYNONYMS.get(words, _SYNONYMS.get(stem, stem)) + power
