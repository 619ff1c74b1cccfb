"""What the instructions count: words, sentences, paragraphs, words in capitals.

In: a response. Out: counts and parts. The published checker counts sentences by a trained splitter
and capitals by a treebank tokenizer, whose data a program would have to download; the rules here
stand in for them, and docs/evaluation.md says where they differ.
"""

import re

_WORD = re.compile(r"\w+")
_TOKEN = re.compile(r"\w(?:[\w./-]*\w)?")
_SENTENCE_END = re.compile(r"[.!?]+[\"'\u201d\u2019)\]*_]*(?=\s+\S)")
_TITLES = frozenset(
    re.findall(
        r"\S+", "mr mrs ms dr prof st gen col sgt capt lt rev hon gov sen rep vs fig vol no e.g i.e cf"
    )
)
"""Abbreviations that a capital letter may follow within a sentence."""

_ABBREVIATIONS = _TITLES | frozenset(
    re.findall(
        r"\S+",
        "jr sr inc ltd co corp dept etc al approx est a.m p.m u.s u.k ph.d "
        "jan feb mar apr jun jul aug sep sept oct nov dec",
    )
)


def count_words(text: str) -> int:
    """Return the number of runs of letters, digits and underscores."""
    return sum(1 for _ in _WORD.finditer(text))


def count_capital_words(text: str) -> int:
    """Return the number of words without small letters; a contraction counts as its two parts."""
    return sum(match.group().isupper() for match in _TOKEN.finditer(text))


def count_sentences(text: str) -> int:
    """Return the number of sentences: parts that end with a full stop, question or exclamation mark.

    A line's end alone ends none. Abbreviations, initials and dots within a sentence end none either.
    """
    text = text.strip()
    if not text:
        return 0
    return 1 + sum(_ends_sentence(text, match) for match in _SENTENCE_END.finditer(text))


def _ends_sentence(text: str, match: re.Match[str]) -> bool:
    mark = match.group()
    if mark[0] in "!?":
        return True
    following = text[match.end() :].lstrip()[:1]
    if mark.startswith(".."):
        return following.isupper()
    word = re.search(r"\S*$", text[max(0, match.start() - 40) : match.start()])
    last = (word.group() if word else "").lstrip("([\"'*_").lower()
    if last in _TITLES or (len(last) == 1 and last.isalpha() and last != "i"):
        return False
    return last not in _ABBREVIATIONS or following.isupper()


def starred_paragraphs(text: str) -> int | None:
    """Return the number of paragraphs between lines of `***`; None if one between them is empty."""
    parts = re.split(r"\s?\*\*\*\s?", text)
    inner = parts[1:-1]
    if any(not part.strip() for part in inner):
        return None
    return sum(bool(part.strip()) for part in parts)


def first_word(paragraph: str) -> str:
    """Return a paragraph's first word in small letters, up to the first punctuation mark."""
    word = paragraph.split()[0].lstrip("'").lstrip('"')
    return re.split("[.,?!'\"]", word, maxsplit=1)[0].lower()
