"""Do training data hold problems of a suite? Shared 10-grams, as the paper looked for them.

In: a JSONL of training data and a suite's problems. Out: which problems share a run of ten words with
which lines. All texts of a line count, questions and solutions alike; of a problem only the task's own
words, not those that our prompts put around them. Paraphrases are not found, as the paper says of its
own check (R1 paper, D.1).
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import regex

from zerone.data.choices import choice_prompt
from zerone.data.records import Row
from zerone.evals.programs import FRAMES
from zerone.types import Problem

NGRAM = 10
_FRAMES = FRAMES | {choice_prompt("", (), language).strip() for language in ("en", "zh")}
_WORD = regex.compile(r"\p{Han}|[\p{Hiragana}\p{Katakana}]|[\p{L}\p{M}\p{N}]+")
_SHOWN_WORDS = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """A problem, the first place in the training data that shares words with it, and those words."""

    problem: str
    place: str
    words: str
    num_places: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Contamination:
    """What was found. `num_lines` training lines were read, `num_hit` of them share words."""

    overlaps: tuple[Overlap, ...]
    num_problems: int
    num_lines: int
    num_hit: int

    @property
    def share(self) -> float:
        """The share of the suite's problems that the training data hold a part of."""
        return len(self.overlaps) / self.num_problems


def words_of(text: str) -> list[str]:
    """Return a text's words in small letters; Chinese and Japanese characters are words each."""
    return _WORD.findall(text.casefold())


def find_contamination(rows: Sequence[Row], problems: Sequence[Problem], size: int = NGRAM) -> Contamination:
    """Compare training rows with problems; one shorter than `size` words must be there as a whole."""
    index: dict[tuple[str, ...], list[int]] = defaultdict(list)
    lengths = set[int]()
    for number, problem in enumerate(problems):
        for words in _own_parts(problem, size):
            length = min(size, len(words))
            lengths.add(length)
            for gram in set(_grams(words, length)):
                index[gram].append(number)
    places: dict[int, list[tuple[str, str]]] = defaultdict(list)
    num_hit = 0
    for row in rows:
        hits = _hits(row, index, sorted(lengths - {0}), size)
        num_hit += bool(hits)
        for number, words_found in hits.items():
            places[number].append((row.place, words_found))
    overlaps = tuple(
        Overlap(problem=problems[number].id, place=own[0][0], words=own[0][1], num_places=len(own))
        for number, own in sorted(places.items())
    )
    return Contamination(overlaps=overlaps, num_problems=len(problems), num_lines=len(rows), num_hit=num_hit)


def _own_parts(problem: Problem, size: int) -> list[list[str]]:
    """Return what a problem says between the lines of ours: parts that are long enough, or the longest."""
    groups = groupby(problem.prompt.split("\n"), key=lambda line: line.strip() in _FRAMES)
    parts = [words_of("\n".join(lines)) for is_frame, lines in groups if not is_frame]
    return [part for part in parts if len(part) >= size] or [max(parts, key=len, default=[])]


def _grams(words: Sequence[str], length: int) -> Iterator[tuple[str, ...]]:
    return (tuple(words[i : i + length]) for i in range(len(words) - length + 1) if length)


def _hits(
    row: Row, index: dict[tuple[str, ...], list[int]], lengths: Sequence[int], size: int
) -> dict[int, str]:
    """Return the problems that share words with a row, each with the words."""
    found: dict[int, str] = {}
    for text in _texts(row.values):
        words = words_of(text)
        for length in lengths:
            # A problem of few words is a hit only as a text of its own, not within any sentence.
            if length < size and len(words) != length:
                continue
            for gram in _grams(words, length):
                for number in index.get(gram, ()):
                    found.setdefault(number, " ".join(gram[:_SHOWN_WORDS]))
    return found


def _texts(value: Any) -> Iterator[str]:
    """Yield every text in a row, however deep: conversations are lists of messages."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
