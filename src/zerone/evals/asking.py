"""How a problem is put to a model, and where in what comes back its answer is.

In: a problem, and whether the model is spoken to in a template of prompts/r1.py or as a chat. Out: the
prompt; and of a completion, what its verifier is to judge. In a chat the request for boxes, letters
or fenced programs is part of the message, as R1's users are told to write it.
"""

from dataclasses import dataclass

from zerone.prompts.r1 import (
    Example,
    Style,
    last_answer,
    parse_completion,
    style_for,
    visible_answer,
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
        return visible_answer(text)
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
            return answer_for("choice", text, problem.spec)
        case "judge":
            return visible_answer(text)
        case _:
            return last_answer(text)


def is_well_formed(problem: Problem, text: str, form: Form) -> bool:
    """Whether a completion is in the form asked for; in a chat: whether it has an answer."""
    if form.is_chat:
        return answer_of(problem, text, form) is not None
    return parse_completion(text, _style_of(problem, form)).is_well_formed


def _style_of(problem: Problem, form: Form) -> Style:
    return Style.SUMMARY if problem.verifier in _FREE else style_for(problem, form.style)
