"""Counts the words by which a text reflects on itself; a metric, never a reward.

In: a text. Out: how many reflection words it holds, and where. The English list is the one that the
R1 paper counted (Appendix C.2); the Chinese list stands for the words that the embedded corpus uses.
It lives beside the rewards because it also reads what the model wrote, but no reward imports it: the
rise of these words is what a run may show, not what it is paid for.
"""

import re

ENGLISH_REFLECTION_WORDS = (
    "wait",
    "mistake",
    "however",
    "but",
    "retry",
    "error",
    "verify",
    "wrong",
    "evaluate",
    "check",
)
CHINESE_REFLECTION_WORDS = ("等等", "错", "检查", "再")
REFLECTION_WORDS = ENGLISH_REFLECTION_WORDS + CHINESE_REFLECTION_WORDS

# ASCII word boundaries: a Chinese character beside an English word must not hide it, and Chinese
# has no boundaries at all, so its words count wherever they stand.
_REFLECTION = re.compile(
    rf"\b(?:{'|'.join(ENGLISH_REFLECTION_WORDS)})\b|{'|'.join(CHINESE_REFLECTION_WORDS)}",
    re.ASCII | re.IGNORECASE,
)


def reflection_spans(text: str) -> list[tuple[int, int]]:
    """Return start and end of every reflection word, in order."""
    return [match.span() for match in _REFLECTION.finditer(text)]


def count_reflection_words(text: str) -> int:
    """Return how many reflection words a text holds: whole words in any case, repeats counted."""
    return len(_REFLECTION.findall(text))
