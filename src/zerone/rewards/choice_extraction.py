"""Finds the choice that an answer in prose states: `The correct answer is C.`, a bold letter, a box.

In: what a completion says outside its reasoning and, where known, the texts of the choices. Out: the
part that `choice.letter_of` reads as one letter, or None. What counts is the last statement: a
correction replaces what it corrects. Statements that name several letters, deny, doubt or contradict
each other are no answer, and neither is a list of what is wrong with the other choices.

A statement is strong where it says what the answer is (`Answer: C`, a box, a line with nothing but the
letter) and weak where it says something of a choice (`Option C is correct`, `Therefore ... (C)`).
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from zerone.data.choices import LETTERS
from zerone.prompts.r1 import ANSWER_CLOSE, ANSWER_OPEN, box_spans
from zerone.rewards import choice_words as words
from zerone.rewards.choice import letter_of, matching_choice

_LONGEST = 10_000
_LONGEST_SENTENCE = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Statement:
    """What a place of the text says of a letter; None is what cannot be read as one.

    `text` is what is handed to the verifier. One that `denies` says that the letter is not the answer.
    """

    place: int
    letter: str | None
    text: str = ""
    is_strong: bool = True
    denies: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Correction:
    """A place that takes back what was said, or lets what follows replace it."""

    place: int
    takes_back: bool


def find_choice(said: str, choices: Sequence[str] = ()) -> str | None:
    """Return the part of a text that states one choice, for `letter_of` to read; None without one."""
    said = said[-_LONGEST:]
    bare = said.replace(ANSWER_OPEN, "").replace(ANSWER_CLOSE, "").strip()
    if (letter := letter_of(bare, choices)) is not None:
        return letter
    text = _searchable(said, choices)
    found = _last_stated([*_statements(text, choices), *_corrections(text)])
    if found is None or found.letter is None:
        return None
    return found.text if letter_of(found.text, choices) == found.letter else found.letter


def _last_stated(places: Sequence[_Statement | _Correction]) -> _Statement | None:
    """Return the statement that stands at the end, after all corrections."""
    current: _Statement | None = None
    may_replace = False
    for one in sorted(places, key=lambda one: one.place):
        if isinstance(one, _Correction):
            may_replace = True
            current = None if one.takes_back else current
        elif one.denies:
            current = None if current is not None and current.letter == one.letter else current
        elif one.is_strong or current is None or may_replace:
            current, may_replace = one, False
        elif current.letter != one.letter:
            current = _Statement(place=one.place, letter=None, is_strong=current.is_strong)
    return current


# The text that is searched ------------------------------------------------------------------------

_WRAPPER = re.compile(r"\\(?:text(?:bf|it|rm|tt)?|math(?:rm|bf|it|sf)|underline|fbox)\s?\{([^{}]{0,400})\}")
_MARK = re.compile(
    r"\*+|`+|\$+|\\[()\[\]]|\\[,;:! ]|(?<!\w)_+|_+(?!\w)|^[ \t]*(?:#+|>+|[-\u2022\u2013+])[ \t]+",
    re.MULTILINE,
)
_BLOCK = re.compile(f"{re.escape(ANSWER_OPEN)}(.{{0,400}}?){re.escape(ANSWER_CLOSE)}", re.DOTALL)


def _searchable(said: str, choices: Sequence[str]) -> str:
    """Return a text without mark-up, with its answer blocks and the boxes that name a choice between marks.

    A box may hold a value as well, which is prose.
    """
    pieces, position = list[str](), 0
    for command, start, end in box_spans(said)[0]:
        content = said[start:end]
        names_choice = letter_of(content, choices) is not None or words.LETTER.search(content)
        pieces += [said[position:command], _marked(content) if names_choice else content]
        position = end + 1
    text = _BLOCK.sub(lambda block: f"\n{_marked(block[1])}\n", "".join([*pieces, said[position:]]))
    text = unicodedata.normalize("NFKC", text).replace("\u3002", ". ").replace("\u2019", "'")
    for _ in range(3):  # wrappers within wrappers
        text = _WRAPPER.sub(r"\1", text)
    return _MARK.sub("", text)


def _marked(content: str) -> str:
    return f"{words.BOX}{content}{words.BOX_END}"


# Strong statements --------------------------------------------------------------------------------


def _statements(text: str, choices: Sequence[str]) -> Iterator[_Statement]:
    for lead in words.ANSWER_IS.finditer(text):
        if words.SUPPOSED.search(text[max(0, lead.start() - 40) : lead.start()]):
            continue
        segment = words.FOLLOWS.match(text, lead.end())
        stated = None if segment is None else _read(segment[1], lead.end(), choices)
        if stated is not None:
            yield stated
    for taken in words.TAKES.finditer(text):
        if taken[1].isupper():
            letter = None if words.DOUBT.match(text, taken.end()) else taken[1]
            yield _Statement(place=taken.end(), letter=letter, text=taken[1])
    yield from _boxes(text, choices)
    yield from _lines(text, choices)
    yield from _weak(text, choices)


def _read(segment: str, place: int, choices: Sequence[str]) -> _Statement | None:
    """Return what is stated by the text behind a lead; None where that is no choice at all."""
    segment = segment.replace(words.BOX, "").replace(words.BOX_END, "").strip()
    if (denied := words.DENIED.match(segment)) is not None:
        return _Statement(place=place, letter=denied[1] and denied[1].upper(), denies=True)
    end = words.SENTENCE_END.search(segment)
    sentence = segment[: end.start()] if end else segment
    is_asked = segment[len(sentence) :].startswith("?")
    for text in (segment, sentence):
        if (letter := letter_of(text, choices)) is not None:
            is_clear = not is_asked and _agrees(segment[len(text) :], letter, choices)
            return _Statement(place=place, letter=letter if is_clear else None, text=text)
    led = words.LED.match(segment)
    if led is None or not (led[1].isupper() or led.end() == len(sentence)):
        return None
    letter, rest = led[1].upper(), segment[led.end() :]
    is_listed = words.MORE.match(rest) is not None
    if not is_listed and not words.EXPLAINS.match(rest):
        return None  # a word or a name that begins with a letter of its own, as in `A large number`
    is_doubted = is_asked or words.DOUBT.search(sentence[led.end() :]) is not None
    is_clear = _is_known(letter, choices) and _agrees(rest, letter, choices) and not (is_listed or is_doubted)
    return _Statement(place=place, letter=letter if is_clear else None, text=letter)


def _agrees(rest: str, letter: str, choices: Sequence[str]) -> bool:
    """Whether what follows a letter is not the text of another choice."""
    return matching_choice(rest.strip(" .,:;-)("), choices) in (None, letter)


def _is_known(letter: str, choices: Sequence[str]) -> bool:
    return letter in LETTERS[: len(choices) or len(LETTERS)]


def _boxes(text: str, choices: Sequence[str]) -> Iterator[_Statement]:
    """Yield what boxes and answer blocks state, each behind any lead that stands before it."""
    end_of_last: int | None = None
    for box in words.BOXED.finditer(text):
        is_listed = end_of_last is not None and words.JOINS.fullmatch(text, end_of_last, box.start())
        found = None if is_listed or words.MORE.match(text, box.end()) else find_choice(box[1], choices)
        letter = None if found is None else letter_of(found, choices)
        yield _Statement(place=box.end(), letter=letter, text=found or "")
        end_of_last = box.end()


def _lines(text: str, choices: Sequence[str]) -> Iterator[_Statement]:
    """Yield what the first and the last line state by a letter alone, or with the text of its choice."""
    lines = [line for line in re.finditer(r"[^\n]+", text) if line.group().strip()]
    is_list = len(words.LABELLED_LINE.findall(text)) > 1
    for line in {line.start(): line for line in (*lines[:1], *lines[-1:])}.values():
        content = line.group().strip()
        is_bare = words.BARE_LINE.fullmatch(content) is not None
        if is_bare or (not is_list and words.LABELLED_LINE.match(content)):
            letter = letter_of(content, choices)
            if is_bare or letter is not None:
                yield _Statement(place=line.start(), letter=letter, text=content)


# Corrections and weak statements ------------------------------------------------------------------


def _corrections(text: str) -> Iterator[_Statement | _Correction]:
    """Yield corrections, each with the letter that it names instead."""
    for correction in words.CORRECTS.finditer(text):
        yield _Correction(place=correction.end(), takes_back=correction["hard"] is not None)
        instead = words.IT_IS.match(text, correction.end())
        if instead is not None and instead[1].isupper():
            yield _Statement(place=correction.end(), letter=instead[1], text=instead[1])


def _weak(text: str, choices: Sequence[str]) -> Iterator[_Statement]:
    """Yield the choices that a sentence praises or concludes with."""
    for end, sentence in _sentences(text):
        letters = dict.fromkeys(_weak_letters(sentence.replace(words.BOX, "").replace(words.BOX_END, "")))
        for letter in letters:
            if _is_known(letter, choices):
                yield _Statement(place=end, letter=letter, text=letter, is_strong=False)


def _sentences(text: str) -> Iterator[tuple[int, str]]:
    """Yield the end of each sentence, and the sentence."""
    for line in re.finditer(r"[^\n]+", text):
        ends = [match.end() for match in words.SENTENCE_END.finditer(line.group())]
        for start, end in zip([0, *ends], [*ends, len(line.group())], strict=True):
            yield line.start() + end, line.group()[start:end]


def _weak_letters(sentence: str) -> Iterator[str]:
    if len(sentence) > _LONGEST_SENTENCE or words.DOUBT.search(sentence):
        return
    for praised in words.PRAISED.finditer(sentence):
        before, behind = sentence[: praised.start()], sentence[praised.end() :]
        clause = words.OPENS.sub("", re.split("[,;]", before)[-1]) + words.CLAUSE_END.split(behind, 1)[0]
        if not (words.DENIES.search(clause) or words.SUPPOSES.search(before) or words.LIMITS.match(behind)):
            yield praised[1]
    if words.DENIES.search(sentence) or words.SUPPOSES.search(sentence):
        return
    if len({letter.group() for letter in words.DISTINCT.finditer(sentence)}) != 1:
        return
    yield from (pointed[1].upper() for pointed in words.POINTS_TO.finditer(sentence))
    if (so := words.CONCLUDES.match(sentence)) is not None:
        for mention in words.MENTION.finditer(sentence[so.end() :].rstrip(" \t.!;")):
            yield next(filter(None, mention.groups()))
