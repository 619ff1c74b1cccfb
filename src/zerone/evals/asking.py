"""How a problem is put to a model, and where in what comes back its answer is.

In: a problem, and whether the model is spoken to in a template of prompts/r1.py or as a chat. Out: the
prompt; and of a completion, what its verifier is to judge. In a chat the request for boxes, letters
or fenced programs is part of the message, as R1's users are told to write it.
"""

import re
from dataclasses import dataclass

from zerone.prompts.r1 import (
    THINK_CLOSE,
    THINK_OPEN,
    Example,
    Style,
    is_visible,
    last_answer,
    parse_completion,
    style_for,
    write_prompt,
)
from zerone.rewards.verifiers import answer_for
from zerone.types import Problem

_BOXED = "Reason step by step, and put your final answer inside \\boxed{}."
_REQUESTS = {
    "math": _BOXED,
    "number": _BOXED,
    "exact": _BOXED,
    "countdown": _BOXED,
    "choice": "Reason step by step, and end with a line 'Answer: LETTER', where LETTER is your choice.",
    "code": "Give the complete Python program in one fenced block.",
}
_FREE = frozenset(("instructions", "pairwise"))
"""Judged by all that is said after the thought."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How a model is spoken to: as a chat, or in a template's style, with worked examples or none.

    `opened` is what the prompt already writes of the completion.
    """

    is_chat: bool
    style: Style = Style.TAGS
    examples: tuple[Example, ...] = ()
    opened: str = ""

    @property
    def label(self) -> str:
        """The form in a word, for the record."""
        return "chat" if self.is_chat else f"template:{self.style.value}"


def message_of(problem: Problem) -> str:
    """Return the user's message of a chat."""
    request = _REQUESTS.get(problem.verifier)
    return problem.prompt if request is None else f"{problem.prompt}\n\n{request}"


def prompt_of(problem: Problem, form: Form) -> str:
    """Return the text that a model without chat template continues."""
    return write_prompt(problem.prompt, form.examples, _style_of(problem, form)) + form.opened


def answer_of(problem: Problem, text: str, form: Form) -> str | None:
    """Return what the verifier judges of a completion, or None where nothing is said."""
    if problem.verifier in _FREE:
        return said(text)
    if not form.is_chat:
        # Mathematics looks at what surrounds a box, as in training.
        is_boxed = form.style is Style.BOXED and problem.verifier == "math"
        return (
            answer_for("math", text) if is_boxed else parse_completion(text, _style_of(problem, form)).answer
        )
    match problem.verifier:
        case "math" | "code":
            return answer_for(problem.verifier, text)
        case "choice":
            return _last_choice(text)
        case "judge":
            return said(text)
        case _:
            return last_answer(text)


def is_well_formed(problem: Problem, text: str, form: Form) -> bool:
    """Whether a completion is in the form asked for; in a chat: whether it has an answer."""
    if form.is_chat:
        return answer_of(problem, text, form) is not None
    return parse_completion(text, _style_of(problem, form)).is_well_formed


def said(text: str) -> str | None:
    """Return what a completion says after its thoughts; None where the last of them never ends."""
    tail = text.rpartition(THINK_CLOSE)[2]
    if tail.lstrip().startswith(THINK_OPEN):
        return None
    return tail.strip() if is_visible(tail) else None


def _style_of(problem: Problem, form: Form) -> Style:
    return Style.SUMMARY if problem.verifier in _FREE else style_for(problem, form.style)


_ANSWER_LINE = re.compile(
    r"^[\s*_#>`]{0,20}answer[\s*_`]{0,10}[:\uff1a](.{0,400})$", re.IGNORECASE | re.MULTILINE
)


def _last_choice(text: str) -> str | None:
    """Return what the last answer line or box says, whichever comes later."""
    tail = text.rpartition(THINK_CLOSE)[2]
    lines = list(_ANSWER_LINE.finditer(tail))
    if not lines:
        return last_answer(tail)
    later = last_answer(tail[lines[-1].start(1) :])  # a box in that line or after it
    return later or lines[-1][1].strip(" *_`") or last_answer(tail)
