"""Choice questions: which one letter does an answer stand for, if it stands for one at all.

In: the text of an answer and, where known, the texts of the choices. Out: a letter or None. An answer
that names two letters, hedges or contradicts its own letter stands for none: otherwise a policy
would learn to name them all.
"""

import re
import unicodedata
from collections.abc import Sequence

from zerone.problems.choices import LETTERS

_LONGEST_ANSWER = 2000
_WRAPPER = re.compile(
    r"\\(?:boxed|fbox|text(?:bf|it|rm)?|math(?:rm|bf|it))\s?\{([^{}]*)\}|\$([^$]*)\$|\*\*([^*]*)\*\*"
    r"|\\\(([^\\]*)\\\)"
)
_LEAD_IN = re.compile(
    r"(?:so|thus|hence|therefore)?,? ?(?:the |my )?(?:correct |right |final |best )*"
    r"(?:answer|option|choice)s?\b ?(?:is|:|=|would be|should be)* ?(?:the |option |choice |letter )*:? ?"
    r"|(?:\u56e0\u6b64|\u6240\u4ee5|\u6545)?(?:\u6b63\u786e|\u6700\u7ec8)?(?:\u7b54\u6848|\u9009\u9879|\u9009\u62e9|\u9009)"
    r"(?:\u5e94)?(?:\u9009\u62e9|\u662f|\u4e3a|\u9009|:)* ?(?:\u9009\u9879)?",
    re.IGNORECASE,
)
_BARE = re.compile(r"[(\[]?\s?([A-Za-z])\s?[)\]]?\s?[.:,]?")
_WITH_TEXT = re.compile(r"[(\[]?([A-Z])\s?(?:[)\]]\s?[.:,-]?|[.:,-])\s?(.+)", re.DOTALL)
_LONE_LETTER = re.compile(r"(?<![\w'])([A-J])(?![\w'])")


def gold_letter(answer: object, choices: Sequence[str]) -> str:
    """Return the letter of a gold answer: a letter, or a position counted from 0 (as in MMLU).

    Raises ValueError for one that names no choice.
    """
    if isinstance(answer, int) and not isinstance(answer, bool):
        letter = LETTERS[answer] if 0 <= answer < len(LETTERS) else ""
    else:
        letter = letter_of(str(answer), choices) or ""
    if not letter or (choices and LETTERS.index(letter) >= len(choices)):
        raise ValueError(f"the gold answer {answer!r} names none of {len(choices) or 'the'} choices")
    return letter


def letter_of(answer: str, choices: Sequence[str] = ()) -> str | None:
    """Return the one letter that an answer stands for, or None.

    Read are a letter alone (in brackets, bold, a formula or a box, after `the answer is` or the
    Chinese for it), a letter followed by the text of its choice or by an explanation that names no
    other letter, and the exact text of one choice.
    """
    if len(answer) > _LONGEST_ANSWER:
        return None
    text = _plain(answer)
    lead_in = _LEAD_IN.match(text)
    candidates = (text, text[lead_in.end() :] if lead_in else text)
    for read in (_letter_in, _matching):
        for candidate in candidates:
            if (letter := read(candidate, choices)) is not None:
                return letter
    return None


def _letter_in(text: str, choices: Sequence[str]) -> str | None:
    letters = LETTERS[: len(choices)] if choices else LETTERS
    bare = _BARE.fullmatch(text)
    if bare and bare[1].upper() in letters:
        # A small letter that is itself the text of a choice means that choice: a, b or c as variables.
        is_text = bare[1].islower() and text in choices
        return _matching(text, choices) if is_text else bare[1].upper()
    with_text = _WITH_TEXT.fullmatch(text)
    if with_text is None or with_text[1] not in letters:
        return None
    letter, rest = with_text.groups()
    matching = _matching(rest, choices)
    if matching is None and set(_LONE_LETTER.findall(rest)) <= {letter}:
        # No choice as it stands: an explanation, which must not quote another choice's text.
        return None if _quotes_another(rest, letter, choices) else letter
    return letter if matching == letter else None


def _matching(text: str, choices: Sequence[str]) -> str | None:
    """Return the letter of the only choice with this text; case decides where there are several."""
    given = _plain(text).rstrip(".")
    plain = [_plain(choice).rstrip(".") for choice in choices[: len(LETTERS)]]
    same = [i for i, choice in enumerate(plain) if choice == given]
    same = same or [i for i, choice in enumerate(plain) if choice.casefold() == given.casefold()]
    return LETTERS[same[0]] if len(same) == 1 else None


def _quotes_another(text: str, letter: str, choices: Sequence[str]) -> bool:
    folded = _plain(text).casefold()
    others = (_plain(c).casefold() for own, c in zip(LETTERS, choices, strict=False) if own != letter)
    return any(len(other) > 3 and other in folded for other in others)


def _plain(text: str) -> str:
    """Return a text without mark-up, single-spaced; full-width letters become plain ones."""
    text = unicodedata.normalize("NFKC", text[:_LONGEST_ANSWER]).replace("\u3002", ".")
    for _ in range(4):  # wrappers within wrappers
        unwrapped = _WRAPPER.sub(lambda match: next(filter(None, match.groups()), ""), text)
        if unwrapped == text:
            break
        text = unwrapped
    return " ".join(text.split()).strip("`\"' ")
