"""Choice questions as text: the question, its choices under letters, and what to answer with.

In: a question and its choices. Out: a prompt whose right answer is one letter.
"""

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
