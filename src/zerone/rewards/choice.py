"""Choice questions: which one letter does an answer stand for, if it stands for one at all.

In: the text of an answer and, where known, the texts of the choices. Out: a letter or None. An answer
that names two letters, hedges or contradicts its own letter stands for none: otherwise a policy
would learn to name them all.
"""

import re
from collections.abc import Sequence

from zerone.data.choices import LETTERS, labelled_letter, plain_text

_LONGEST_ANSWER = 2000
_LEAD_IN = re.compile(
    r"(?:so|thus|hence|therefore)?,? ?(?:i (?:think|believe|conclude) (?:that )?(?=the |my ))?"
    r"(?:the |my )?(?:correct |right |final |best )*"
    r"(?:answer|ans|option|choice)s?\b\.? ?(?:is|:|=|would be|should be|must be|has to be)* ?"
    r"(?:the |option |choice |letter )*:? ?"
    r"|(?:\u56e0\u6b64|\u6240\u4ee5|\u6545)?,?(?:\u5e94\u8be5|\u5e94)?(?:\u6b63\u786e|\u6700\u7ec8)?"
    r"(?:\u7b54\u6848|\u9009\u9879|\u9009\u62e9|\u9009)"
    r"(?:\u5e94\u8be5|\u5e94)?(?:\u9009\u62e9|\u662f|\u4e3a|\u9009|:)* ?(?:\u9009\u9879)?",
    re.IGNORECASE,
)
_ITEM = r"(?:\s?(?:\u9009\u9879|\u9879))?"  # Chinese for `option`, after its letter
_BARE = re.compile(rf"[(\[]?\s?([A-Za-z])\s?[)\]]?{_ITEM}\s?[.:,]?")
_PRAISED = re.compile(
    rf"[(\[]?\s?([A-Za-z])\s?[)\]]?{_ITEM} ?"
    r"(?:(?:is|must be) (?:the )?(?:(?:only )?(?:correct|right)|"
    r"(?:(?:only|correct|right|final|best) )*(?:answer|option|choice))(?: (?:answer|option|choice|one))?"
    r"|\u662f(?:\u6b63\u786e)?(?:\u7684|\u7b54\u6848|\u9009\u9879)|\u6b63\u786e)"
    r"(?:\.?|(?:[.,:;]| because| since)\s?(.+))",
    re.DOTALL,
)
"""`B is correct`, `B is the best answer`, and the Chinese for it; then, maybe, an explanation."""
_LABELLED = re.compile(
    r"[(\[]?\s?(?:([A-Z])(?:\s?[)\]:\u3001]|\s?[.,](?![A-Za-z])|\s-(?=\s))|([a-z])\s?[)\]])\s?[.:,-]?\s?(.+)",
    re.DOTALL,
)
_TOUCHING = re.compile(r"[(\[]?([A-Z])[)\]]?\s?[\s.,:-]\s?(.+)", re.DOTALL)
"""A letter before any text; only the very text of its choice shows that it is no word of a text."""
_NAMED = re.compile(r"(?<![A-Za-z0-9_'])(?<!\w\()(?:([A-J])(?![A-Za-z0-9_'])|([a-j])\s?\))")
_LISTED = re.compile(r"(?:[^\w']|\band\b|\b[A-Ja-j]\b)+")
_DOUBT = re.compile(
    r"\?|^\W*(?:not\W*$|(?:is|are|was|were|does|did|do|can|could|may|might|must|should|would|will|has|seems?"
    r"|looks?|sounds?)(?:n[o']?t)?\b)|\b(?:isn't|wasn't|aren't|doesn't|can't|couldn't)(?!\w)"
    r"|\bnot (?:correct|right|true|sure|certain|the|this|that|really|it|quite|so|likely)\b"
    r"|\b(?:or|maybe|perhaps|possibl[ey]|probabl[ey]|presumably|(?:un)?likely|might|may (?:be|not)|could be"
    r"|unsure|uncertain|guess\w*|wrong|incorrect|mistaken|wait|instead|on second thought)\b"
    r"|\u4e0d\u5bf9|\u4e0d\u6b63\u786e|\u4e0d\u662f(?:\u6b63\u786e|\u7b54\u6848|\u5b83|\u8fd9)"
    r"|\u4e0d\u786e\u5b9a|\u9519|\u6216|\u53ef\u80fd|\u4e5f\u8bb8|\u5927\u6982|\u5417|\u731c",
    re.IGNORECASE,
)
"""Denials, doubts and alternatives, in English and Chinese: an explanation with one is not read."""


def gold_letter(answer: object, choices: Sequence[str]) -> str:
    """Return the letter of a gold answer: a letter, or a position counted from 0 (as in MMLU).

    Raises ValueError for one that names no choice.
    """
    if isinstance(answer, int) and not isinstance(answer, bool):
        letter = LETTERS[answer] if 0 <= answer < len(LETTERS) else ""
    else:
        letter = letter_of(str(answer), choices) or _trusted_label(str(answer), choices)
    if not letter or (choices and LETTERS.index(letter) >= len(choices)):
        raise ValueError(f"the ground truth {answer!r} names none of {len(choices) or 'the'} choices")
    return letter


def _trusted_label(gold: str, choices: Sequence[str]) -> str:
    """Return the letter that a gold answer begins with: what follows is no doubt, only not another choice."""
    letter, text = labelled_letter(gold) or ("", "")
    return letter if not text or matching_choice(text, choices) in (None, letter) else ""


def letter_of(answer: str, choices: Sequence[str] = ()) -> str | None:
    """Return the one letter that an answer stands for, or None.

    Read are a letter alone (in brackets, bold, a formula or a box, after `the answer is` or the
    Chinese for it, before `is correct`), a letter followed by the text of its choice or by an
    explanation without another letter, a denial or a doubt, and the exact text of one choice.
    """
    if len(answer) > _LONGEST_ANSWER:
        return None
    text = plain_text(answer)
    lead_in = _LEAD_IN.match(text)
    candidates = (text, text[lead_in.end() :] if lead_in else text)
    letters = LETTERS[: len(choices)] if choices else LETTERS
    for candidate in candidates:
        bare = _BARE.fullmatch(candidate)
        if bare and (letter := _alone(bare[1], letters, choices)) is not None:
            return letter
    readings = [read(c, letters, choices) for read in (_praised, _labelled) for c in candidates]
    found = {letter for letter in (*readings, *(matching_choice(c, choices) for c in candidates)) if letter}
    return found.pop() if len(found) == 1 else None


def _alone(letter: str, letters: str, choices: Sequence[str]) -> str | None:
    """Return the choice that a lone letter means; a small one that is a choice's text means that choice."""
    if letter.upper() not in letters:
        return None
    return matching_choice(letter, choices) if letter.islower() and letter in choices else letter.upper()


def _praised(text: str, letters: str, choices: Sequence[str]) -> str | None:
    praised = _PRAISED.fullmatch(text)
    letter = _alone(praised[1], letters, choices) if praised else None
    if praised is None or letter is None:
        return None
    return letter if praised[2] is None or _explains(praised[2], letter, choices) else None


def _labelled(text: str, letters: str, choices: Sequence[str]) -> str | None:
    touching = _TOUCHING.fullmatch(text)
    if touching and touching[1] in letters and matching_choice(touching[2], choices) == touching[1]:
        return touching[1]
    labelled = _LABELLED.fullmatch(text)
    if labelled is None:
        return None
    letter = (labelled[1] or labelled[2]).upper()
    return letter if letter in letters and _explains(labelled[3], letter, choices) else None


def _explains(rest: str, letter: str, choices: Sequence[str]) -> bool:
    """Whether what follows a letter is its choice's text, or an explanation that stands by the letter."""
    matching = matching_choice(rest, choices)
    if matching is not None:
        return matching == letter
    own = plain_text(choices[LETTERS.index(letter)]).rstrip(".") if choices else ""
    starts_with_own = bool(own) and rest.casefold().startswith(own.casefold())
    beyond = rest[len(own) :] if starts_with_own and not rest[len(own) : len(own) + 1].isalnum() else rest
    named = {(capital or small).upper() for capital, small in _NAMED.findall(beyond)}
    if named - {letter} or _DOUBT.search(beyond) or not any(map(str.isalnum, rest)):
        return False
    if _LISTED.fullmatch(beyond) and {c.upper() for c in beyond if c.isalpha()} - {letter}:
        return False  # `A, b` and `A, a and b`
    return not _quotes_another(beyond, letter, choices)


def matching_choice(text: str, choices: Sequence[str]) -> str | None:
    """Return the letter of the only choice with this text; case decides where there are several."""
    given = plain_text(text).rstrip(".")
    plain = [plain_text(choice).rstrip(".") for choice in choices[: len(LETTERS)]]
    same = [i for i, choice in enumerate(plain) if choice == given]
    same = same or [i for i, choice in enumerate(plain) if choice.casefold() == given.casefold()]
    return LETTERS[same[0]] if len(same) == 1 else None


def _quotes_another(text: str, letter: str, choices: Sequence[str]) -> bool:
    folded = plain_text(text).casefold()
    others = (plain_text(c).casefold() for own, c in zip(LETTERS, choices, strict=False) if own != letter)
    return any(len(other) > 3 and other in folded for other in others)
