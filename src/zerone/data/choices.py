"""Choice questions as text: the question, its choices under letters, and what to answer with.

In: a question and its choices, or a question that lists them itself and its gold answer. Out: a prompt
whose correct answer is one letter; or the letter and the choices that are listed.
"""

import re
import unicodedata
from collections.abc import Sequence

LETTERS = "ABCDEFGHIJ"

_REQUEST = {
    "en": "Answer with the letter of one choice.",
    "zh": "\u8bf7\u7528\u4e00\u4e2a\u9009\u9879\u7684\u5b57\u6bcd\u4f5c\u7b54\u3002",
}


def choice_prompt(question: str, choices: Sequence[str], language: str) -> str:
    """Return the question with its choices under letters, one a line."""
    listed = [f"{letter}. {choice}" for letter, choice in zip(LETTERS, choices, strict=False)]
    return "\n".join([question, *listed, _REQUEST.get(language, _REQUEST["en"])])


# Text without mark-up -----------------------------------------------------------------------------

_LONGEST = 2000
_WRAPPER = re.compile(
    r"\\(?:boxed|fbox|text(?:bf|it|rm)?|math(?:rm|bf|it))\s?\{([^{}]*)\}|\$([^$]*)\$|\*\*([^*]*)\*\*"
    r"|\\\(([^\\]*)\\\)"
)


def plain_text(text: str) -> str:
    """Return a text without mark-up, single-spaced; full-width letters become plain ones."""
    text = unicodedata.normalize("NFKC", text[:_LONGEST]).replace("\u3002", ".")
    for _ in range(4):  # wrappers within wrappers
        unwrapped = _WRAPPER.sub(lambda match: next(filter(None, match.groups()), ""), text)
        if unwrapped == text:
            break
        text = unwrapped
    return " ".join(text.split()).strip("`\"' ")


_LABELLED = re.compile(
    rf"[(\[]?([{LETTERS}])(?:[)\]]?[.:,]?|(?:\s?[)\]:\u3001]\s?[.:]?|\s?\.(?!\w)|\s-(?=\s))\s*(?P<text>\S.*))",
    re.DOTALL,
)


def labelled_letter(gold: str) -> tuple[str, str] | None:
    """Return the letter and the text of a gold answer such as `E`, `(E)`, `\\text{E}` or `E: some text`."""
    found = _LABELLED.fullmatch(plain_text(gold))
    return None if found is None else (found[1], found["text"] or "")


# Choices that a question lists --------------------------------------------------------------------

_WRAP = r"(?:\*\*|\$|\\(?:text(?:bf|rm|it)?|math(?:rm|bf)|rm|bf)\s?\{?|\{)"
_END = r"(?:\*\*|\s?\}|\$|\\[ ,;:])*"
_BULLET = r"(?:[-*\u2022]\s{1,4})?"
_LABEL = re.compile(
    # In brackets or before one a letter is a label wherever a word may begin,
    rf"(?:(?:^|(?<=[\s\]}}$;,.:?\u3001\u3002\uff0c\uff1b\uff1a\uff1f])|(?<=quad)|(?<=\\\\)|(?=\uff08))"
    rf"{_BULLET}{_WRAP}{{0,3}}\s?"
    rf"(?:[(\[\uff08]([{LETTERS}])[)\]\uff09][.:]?|([{LETTERS}])[)\uff09])"
    # before a full stop only where a line, a column or an enumeration begins.
    rf"|(?:^|(?<=\t)|(?<=\s\s)|(?<=quad)|(?<=[;:?\uff1b\uff1a\uff1f\u3002]\s)|(?<=[;:?\uff1b\uff1a\uff1f\u3002]))"
    rf"[ \t]{{0,8}}{_BULLET}{_WRAP}{{0,3}}([{LETTERS}])\s?[.:\uff1a\uff0e\u3001])"
    rf"{_END}",
    re.MULTILINE,
)
_SPACE_BEFORE = re.compile(r"(?:\\[ ,;:!]|\\q?quad\b|[\s~$]){1,8}")
_SPACE_AFTER = re.compile(r"(?:\\[ ,;:!]|\\q?quad\b|[\s~$;,&]|\\\\){1,8}$")
_LONGEST_QUESTION = 20_000


def listed_choices(question: str) -> list[str]:
    """Return the texts of the choices that a question lists under A, B and so on; at least two, or none.

    Of several lists it is the last: a question may speak of points A and B before it.
    """
    question = question[-_LONGEST_QUESTION:]
    runs: list[list[re.Match[str]]] = []
    for label in _LABEL.finditer(question):
        letter = label[1] or label[2] or label[3]
        if letter == "A":
            runs.append([label])
        elif runs and letter == LETTERS[len(runs[-1]) : len(runs[-1]) + 1]:
            runs[-1].append(label)
    lists = [run for run in runs if len(run) > 1]
    if not lists:
        return []
    starts = [label.end() for label in lists[-1]]
    ends = [*(label.start() for label in lists[-1][1:]), len(question)]
    texts = [question[start:end] for start, end in zip(starts, ends, strict=True)]
    texts[-1] = texts[-1].lstrip().partition("\n")[0]
    return [_trimmed(text) for text in texts]


def _trimmed(text: str) -> str:
    text = text.strip()[:_LONGEST]
    before = _SPACE_BEFORE.match(text)
    return _SPACE_AFTER.sub("", text[before.end() :] if before else text)


def listed_choice(question: str, gold: str) -> dict[str, object] | None:
    """Return what the verifier of choices needs where a gold answer is a letter of the question's list.

    The texts of the choices are in it where all of them could be read.
    """
    labelled, choices = labelled_letter(gold), listed_choices(question)
    if labelled is None or LETTERS.index(labelled[0]) >= len(choices):
        return None
    letter, text = labelled
    if (
        text
        and plain_text(choices[LETTERS.index(letter)]).casefold() != text.casefold()
        and _LISTS.search(text)
    ):
        return None  # `A: 5, B: 6` answers several questions
    return {"answer": letter, "choices": choices} if all(choices) else {"answer": letter}


_LISTS = re.compile(rf"(?<![A-Za-z0-9_'])[{LETTERS}]\s?[):=]")
