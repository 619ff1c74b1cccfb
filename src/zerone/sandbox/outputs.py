"""What a program printed, compared with what it should print.

In: two texts and, where the problem allows one, a tolerance. Out: whether they count as the same, by
the rule of one harness: lines of words (ours), words alone (Codeforces), or stripped lines whose
numbers are decimals (LiveCodeBench). The output is the candidate's: every comparison is linear in it.
"""

import math
import re
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation

# Possessive: `\d+\.?\d*` tries every split of a long run of digits.
_DECIMAL = re.compile(r"[+-]?(\d++\.?\d*+|\.\d++)([eE][+-]?\d++)?", re.ASCII)
_FRACTIONAL = re.compile(r"[.eE]")
_TOLERANCE = 1e-9
_LONGEST_FLOAT = 400


def with_unix_lines(text: str) -> str:
    r"""Return a text with `\n` for every `\r\n` and lone `\r`, which Python too reads as a line's end."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def is_same_output(output: str, expected: str, tolerance: float | None = None) -> bool:
    """Compare output by lines and words; trailing space and blank lines at the end do not count.

    Without a tolerance a word of the expected output that is a decimal with a point or exponent admits
    any decimal within 1e-9 of it, relative or absolute, and all else must be the same text. With one,
    so does every number, unless both are integers, which are the same text or differ.
    """
    mine, theirs = _lines(output), _lines(expected)
    return len(mine) == len(theirs) and all(
        line == wanted or _are_same_words(line.split(), wanted.split(), tolerance)
        for line, wanted in zip(mine, theirs, strict=True)
    )


def are_same_tokens(output: str, expected: str, tolerance: float | None = None) -> bool:
    """Compare output word by word, wherever its lines break, as most checkers of contests do."""
    return _are_same_words(output.split(), expected.split(), tolerance)


def are_same_decimals(output: str, expected: str, tolerance: float | None = None) -> bool:
    """Compare stripped lines of the stripped output: the same text, or the same decimals, exactly.

    This is LiveCodeBench's rule, with which no tolerance goes: 1.0 is 1, and 0.3333 is not 0.33333.
    """
    mine, theirs = (
        [line.strip() for line in with_unix_lines(text).strip().split("\n")] for text in (output, expected)
    )
    return len(mine) == len(theirs) and all(map(_is_same_decimal_line, mine, theirs))


def _is_same_decimal_line(line: str, expected: str) -> bool:
    if line == expected:
        return True
    words, wanted = line.split(), expected.split()
    if len(words) != len(wanted):
        return False
    try:
        return list(map(_decimal, words)) == list(map(_decimal, wanted))
    except InvalidOperation:
        return False


def _decimal(word: str) -> Decimal:
    """Return a word as an exact decimal; digits of other alphabets and `_` between digits are text."""
    if not word.isascii() or "_" in word:
        raise InvalidOperation
    return Decimal(word)


def _lines(text: str) -> list[str]:
    lines = [line.rstrip() for line in with_unix_lines(text).split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def _are_same_words(words: Sequence[str], expected: Sequence[str], tolerance: float | None) -> bool:
    return len(words) == len(expected) and all(
        word == wanted or _is_close_word(word, wanted, tolerance)
        for word, wanted in zip(words, expected, strict=True)
    )


def _is_close_word(word: str, expected: str, tolerance: float | None) -> bool:
    if not (_DECIMAL.fullmatch(word) and _DECIMAL.fullmatch(expected)) or len(word) > _LONGEST_FLOAT:
        return False
    is_fractional = _FRACTIONAL.search(expected) or (tolerance is not None and _FRACTIONAL.search(word))
    if not is_fractional or len(expected) > _LONGEST_FLOAT:
        return False
    allowed = _TOLERANCE if tolerance is None else tolerance
    mine, theirs = float(word), float(expected)
    return (
        math.isfinite(mine)
        and math.isfinite(theirs)
        and math.isclose(mine, theirs, rel_tol=allowed, abs_tol=allowed)
    )
