"""What counts as a number, for gold answers and for the answers that are judged against them.

In: a text. Out: the number in a form that `Fraction` reads, or None. One function for both sides: an
answer that is written as the gold answer may be is never unparsable.
"""

import re
from fractions import Fraction

_SIGN = "[+-]?"
_CURRENCY = "[$\u20ac\u00a3\u00a5]?"
_WHOLE = "(?:[0-9]{1,3}(?:,[0-9]{3}){1,12}|[0-9]{1,40})"
_DECIMAL = rf"(?:{_WHOLE}(?:\.[0-9]{{0,40}})?|\.[0-9]{{1,40}})"
_NUMBER = re.compile(
    rf"(?P<sign>{_SIGN})\s*{_CURRENCY}\s*(?P<inner_sign>{_SIGN})"
    rf"(?P<top>{_DECIMAL})(?:\s*/\s*(?P<bottom>{_DECIMAL}))?\s*%?\.?"
)


def plain_number(text: str) -> str | None:
    """Return the number that a text is, such that `Fraction` reads it, or None if it is not one.

    Whole numbers, decimals and fractions a/b count, with a sign, a currency sign before and a
    percent sign after. The rule for what is left out: thousands separators, the currency sign and
    the percent sign are dropped without changing the value, so 1,234 is 1234, $5 is 5 and 20% is
    20, not 1/5. Anything else (units, words, exponents) makes a text and no number.
    """
    match = _NUMBER.fullmatch(text.strip().replace("\u2212", "-"))
    if match is None or (match["sign"] and match["inner_sign"]):
        return None
    value = _plain(match["top"])
    if match["bottom"] is not None:
        bottom = _plain(match["bottom"])
        if not Fraction(bottom):
            return None
        is_whole = "." not in value + bottom
        value = f"{value}/{bottom}" if is_whole else str(Fraction(value) / Fraction(bottom))
    return f"-{value}" if "-" in (match["sign"], match["inner_sign"]) else value


def _plain(digits: str) -> str:
    plain = digits.replace(",", "").removesuffix(".")
    return f"0{plain}" if plain.startswith(".") else plain
