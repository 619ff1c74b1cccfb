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
    "newton": "N",
    "joule": "J",
    "watt": "W",
    "pascal": "Pa",
    "volt": "V",
    "amp": "A",
    "ampere": "A",
    "ohm": "\\Omega",
    "coulomb": "C",
    "kelvin": "K",
    "hertz": "Hz",
    "radian": "rad",
    "angstrom": "\\AA",
    "celsius": "degC",
    "degree celsius": "degC",
    "degrees celsius": "degC",
    "fahrenheit": "degF",
    "degree fahrenheit": "degF",
    "degrees fahrenheit": "degF",
    "pound": "lb",
    "lbs": "lb",
    "ounce": "oz",
    "yard": "yd",
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
kilogram liter litre volt watt joule newton pascal ampere hertz kelvin radian pound ounce gallon
point square people student way time page
"""
_PLAIN = frozenset(_UNIT_WORDS.split())
"""Words that count as a unit without \\text; in a formula letters side by side are a product."""

_OTHER_WORDS = """
a an and are approx approximately base because but by can dozen for from half hundred if in is it mod modulo
more million billion trillion no none not of or over per plus minus same thousand than that the times to
undefined where which with
"""
_NO_UNITS = frozenset(_OTHER_WORDS.split())
_UNIT_TEXT = re.compile(r"[A-Za-z]+(?: [A-Za-z]+){0,2}\.?")
_PER = re.compile(r"\s*/\s*|\s+per\s+|每")
_SHORT = (frozenset(["m", "g", "l", "L", "N", "J"]), frozenset(["s", "h", "m", "l", "L"]))
"""Letters that are units in a quotient of two, above and below: `5 m/s`."""

_PREFIXES = ("", "f", "p", "n", "\\mu", "m", "c", "d", "h", "k", "M", "G", "T")
_PREFIXED = "m s g A K mol cd Hz N Pa J W C V F S Wb T H lm lx Bq Gy Sv L l eV bar cal Wh B b \\Omega"
_UNPREFIXED = "min h d rad sr deg u amu atm lb oz gal ft in yd mi ha rpm psi dB \\AA degC degF"
_SYMBOLS = frozenset(_UNPREFIXED.split()) | {
    prefix + symbol for symbol in _PREFIXED.split() for prefix in _PREFIXES
}
"""Symbols whose case counts: mW is no MW."""

_LONGEST = 24
"""Tokens of a unit."""

_FACTOR_SIGN = re.compile(r"\s*(?:\*|(?<!\^)-)\s*")
_POWERED = re.compile(r"(.*?[A-Za-z.}])\s*\^?\s*(-?[1-9])", re.DOTALL)
_MINUTES = re.compile(
    r"(-? ?)(\d+) \^ (?:\\circ|\{ \\circ \}) (\d+(?:\.\d+)?) (?:'|\^ (?:\\prime|\{ \\prime \}))"
    r"(?: (\d+(?:\.\d+)?) (?:' '|\"|\^ \{ \\prime \\prime \}))?"
)


def split_unit(tokens: Sequence[str]) -> tuple[list[str], str]:
    """Return the tokens of the value and the unit around them."""
    if (angle := _MINUTES.fullmatch(" ".join(tokens))) is not None:
        sign, degrees, minutes, seconds = angle.groups()
        value = f"{sign} ( {degrees} + {minutes} / 60 + {seconds or 0} / 3600 )"
        return value.split(), "deg"
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
Powers = dict[str, int]
"""Units with their powers; those below a fraction line have negative ones."""


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
    """Read a closing degree sign, of Celsius too; within a function it belongs to the value."""
    if any(token.lstrip("\\") in FUNCTIONS for token in tokens):
        return None
    scale = _inside(tokens[-1]).strip()[:1]
    for rest, unit in ((tokens, "deg"), (tokens[:-1], f"deg{scale}")):
        for sign in (["^", "\\circ"], ["^", "{", "\\circ", "}"]):
            if rest[-len(sign) :] == sign and unit in ("deg", "degC", "degF"):
                return rest[: -len(sign)], unit
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
    """Read `\\text{cm}`, `cm`, `km/h`, `\\mathrm{m\\,s^{-1}}` and `\\text{N}-\\text{m}`, all with powers."""
    for start in range(max(1, len(tokens) - _LONGEST), len(tokens)):
        if (exponents := _unit_from(tokens, start)) is not None:
            return tokens[:start], _written(exponents)
    return None


def _unit_from(tokens: list[str], start: int) -> Powers | None:
    """Return the unit that all tokens from a place on are, with its powers; None where they are none."""
    found: Powers = {}
    place, depth, has_letters = start, 0, False
    # In a formula m/s is a quotient of variables; only behind a number it is a unit.
    is_number = not any(token[0].isalpha() for token in tokens[:start])
    while place < len(tokens):
        sign = 1
        if tokens[place] in ("/", "per", "*", "-"):
            is_above = tokens[place] in ("*", "-")
            if place == start and (is_above or not _is_text(tokens[place + 1 : place + 2])):
                return None
            sign, place = 1 if is_above else -1, place + 1
        opened = sign < 0 and tokens[place : place + 1] == ["("]
        depth, place = (-1, place + 1) if opened else (depth, place)
        length = _atom_length(tokens, place, is_number=is_number, is_below=sign * (depth or 1) < 0)
        if not length:
            return None
        power, power_length = _power_at(tokens, place + length)
        has_letters |= length == 1 and tokens[place][0].isalpha() and not _is_word(tokens[place])
        *words, last = _factors("".join(map(_inside, tokens[place : place + length])))
        for (name, exponent), outer in (*((word, 1) for word in words), (last, power)):
            _multiply(found, _named(name), exponent * outer * (depth or sign))
        place += length + power_length
        if depth and tokens[place : place + 1] == [")"]:
            depth, place = 0, place + 1
    # Letters alone are a product of variables: `5 m`.
    return None if depth or (has_letters and min(found.values(), default=0) >= 0) else found


def _atom_length(tokens: list[str], place: int, *, is_number: bool, is_below: bool) -> int:
    """Return how many tokens the name of a unit takes, 0 where there is none."""
    token = tokens[place] if place < len(tokens) else ""
    if token == "\\mu" and is_number and place + 1 < len(tokens):
        return 2 if _inside(tokens[place + 1]).strip() in _PREFIXED.split() else 0
    if token in ("\\Omega", "\\AA"):
        return int(is_number)
    if tokens[place + 1 : place + 2] == ["\\Omega"] and _inside(token).strip() in ("k", "M", "m"):
        return 2 * is_number
    if _is_word(token):
        return 1
    has_power = tokens[place + 1 : place + 4] == ["^", "{", "-"]
    is_short = token in _SHORT[is_below or has_power] or (len(token) > 1 and token in _SYMBOLS)
    return int(is_number and is_short)


def _is_text(tokens: list[str]) -> bool:
    return bool(tokens) and tokens[0].startswith(("\\text", "\\mathrm"))


def _is_word(token: str) -> bool:
    """Whether a token is a unit wherever it stands; upright letters may be those of a formula."""
    if token.startswith("\\mathrm"):
        word = _inside(token).strip()
        return _is_known(word) or _is_plain(word)
    return token.startswith("\\text") or _is_plain(token) or CHINESE.fullmatch(token) is not None


def _is_known(word: str) -> bool:
    return word in _SYMBOLS or {word.lower(), word.lower().removesuffix("s")} & _SYNONYMS.keys() != set()


def _is_plain(token: str) -> bool:
    word = token.lower()
    return word in _PLAIN or word.removesuffix("s") in _PLAIN


def _power_at(tokens: list[str], place: int) -> tuple[int, int]:
    """Return the power that stands at a place, and how many tokens it takes."""
    match tokens[place : place + 5]:
        case ["^", "{", "-", power, "}"] if power.isdigit():
            return -int(power), 5
        case ["^", "{", power, "}", *_] if power.isdigit():
            return int(power), 4
        case ["^", power, *_] if power in ("2", "3", "4"):
            return int(power), 2
    return 1, 0


def _inside(token: str) -> str:
    """Return the words of `\\text{words}`, and any other token as it is."""
    return token.partition("{")[2].removesuffix("}") if _is_text([token]) else token


def _factors(text: str) -> list[tuple[str, int]]:
    """Return the units in a text such as `km/h`, `kg m^2 / s^2` or `square miles`, with their powers."""
    found = []
    for number, side in enumerate(_PER.split(" ".join(text.replace("\\mu ", "\\mu").split()))):
        for word in _words(side.strip(" ()" if number else " ")):
            name, power = _part(word)
            found.append((name, -power if number else power))
    return found


def _words(side: str) -> list[str]:
    """Return the factors of a product; words in a row are one unit unless all of them are known."""
    words = [word for factor in _FACTOR_SIGN.split(side) for word in factor.split(" ") if word]
    names = [_part(word)[0] for word in words]
    are_known = all(map(_is_known, names)) and not {"square", "cubic"} & {name.lower() for name in names}
    return words if words and are_known else [side]


def _part(word: str) -> tuple[str, int]:
    match = _POWERED.fullmatch(word)
    return (match[1].strip(), int(match[2])) if match else (word, 1)


def _named(name: str) -> Powers:
    """Return a unit by its symbol, with the powers that its words bring along."""
    spelled = name if name in _SYMBOLS else _spelled_part(" ".join(name.lower().replace(".", "").split()))
    found: Powers = {}
    for number, part in enumerate(spelled.split("/")):
        symbol, _, power = part.partition("^")
        found[symbol] = int(power or 1) * (-1 if number else 1)
    return found if spelled else {}


def _multiply(product: Powers, factor: Powers, power: int) -> None:
    for name, exponent in factor.items():
        product[name] = product.get(name, 0) + power * exponent


def _written(powers: Powers) -> str:
    return " ".join(
        name if power == 1 else f"{name}^{power}" for name, power in sorted(powers.items()) if power
    )


def _spelled_part(words: str) -> str:
    if CHINESE.fullmatch(words) and words in _CHINESE:
        return _CHINESE[words]
    if words in ("", "in"):
        return words
    if not _UNIT_TEXT.fullmatch(words) or set(words.split()) & _NO_UNITS:
        raise Unreadable(f"words that are not a unit ({words[:30]})")
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
