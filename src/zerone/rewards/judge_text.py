"""Reads the text of an answer to a general request: sentences in a form that can be compared.

In: untrusted text. Out: sentences without case, commas, spaces between Chinese characters or
contractions, and the parts of speech of a sentence. Every step is one pass over the text.
"""

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass

from zerone.prompts.r1 import TAGS
from zerone.rewards.language import language_share
from zerone.rewards.prose import normalised

LONGEST_ANSWER = 1000
"""Characters; the longest good answer has fewer than 200."""

_FULL_FORMS = {
    "i'm": "i am",
    "can't": "cannot",
    "won't": "will not",
    "don't": "do not",
    "it's": "it is",
}
_CONTRACTION = re.compile("|".join(map(re.escape, _FULL_FORMS)) + r"|\bcan not\b")
_PIECE = re.compile(r"[a-z0-9'-]+|[^\s,\u3001]", re.ASCII)
_END = re.compile(r"[.!?\u3002]")
_UNTIDY = re.compile(r"[.,!?:;\u3001\u3002]\s*[.,!?:;\u3001\u3002]|[^\w\s.,!?:;'\u3001\u3002-]|_|\n\s*\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentence:
    """A sentence without punctuation, in lower case, and whether it was ended by a mark."""

    text: str
    is_finished: bool


def read_sentences(text: str, language: str) -> list[Sentence]:
    """Return the sentences of an answer."""
    plain = _plain(text)
    found, start = list[Sentence](), 0
    for end in _END.finditer(plain):
        found.append(Sentence(text=_joined(plain[start : end.start()], language), is_finished=True))
        start = end.end()
    found.append(Sentence(text=_joined(plain[start:], language), is_finished=False))
    return [sentence for sentence in found if sentence.text]


@functools.lru_cache(maxsize=20_000)
def canonical(sentence: str, language: str) -> str:
    """Return a sentence of the tables in the form that it is compared in."""
    return " ".join(read.text for read in read_sentences(sentence, language))


def is_tidy(text: str) -> bool:
    """Whether an answer is plain text: no tags, mark-up, symbols or doubled punctuation."""
    return not any(tag in text for tag in TAGS) and _UNTIDY.search(_plain(text)) is None


def share_in_language(text: str, language: str) -> float:
    """Return the share of words in a language; the name zerone and numbers belong to every one."""
    rest = re.sub("zerone(?:'s)?", "", _plain(text))
    if not any(character.isalpha() for character in rest):
        return 1.0 if any(character.isalnum() for character in text) else 0.0
    return language_share(rest, language)


def parts_of_speech(sentence: str, language: str, lexicon: Mapping[str, str]) -> list[tuple[str, str]] | None:
    """Return (word, part of speech) of a canonical sentence, or None where it has an unknown word.

    Chinese is cut into the longest known words from the left.
    """
    if language != "zh":
        words = sentence.split()
        return [(word, lexicon[word]) for word in words] if all(word in lexicon for word in words) else None
    longest = max(map(len, lexicon))
    tagged, start = list[tuple[str, str]](), 0
    while start < len(sentence):
        for end in range(min(len(sentence), start + longest), start, -1):
            if sentence[start:end] in lexicon:
                tagged.append((sentence[start:end], lexicon[sentence[start:end]]))
                start = end
                break
        else:
            return None
    return tagged


def _plain(text: str) -> str:
    lowered = normalised(text).replace("\u2019", "'").casefold()
    return _CONTRACTION.sub(lambda match: _FULL_FORMS.get(match.group(), "cannot"), lowered)


def _joined(text: str, language: str) -> str:
    return ("" if language == "zh" else " ").join(_PIECE.findall(text))
