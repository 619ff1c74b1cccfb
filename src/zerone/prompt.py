"""The R1-Zero template and the parser of what comes back: the only place that knows the tags.

In: a problem's question. Out: the text a model continues; and, from its completion, thought and
answer. The template asks for tags only and says nothing about how to think (R1 paper, Table 1;
the wording is our own and short, since a small model reads every token of it).
"""

import re
from dataclasses import dataclass

THINK_OPEN, THINK_CLOSE = "<think>", "</think>"
ANSWER_OPEN, ANSWER_CLOSE = "<answer>", "</answer>"
TAGS = (THINK_OPEN, THINK_CLOSE, ANSWER_OPEN, ANSWER_CLOSE)

R1_ZERO_PREFIX = (
    "A conversation between User and Assistant. The User asks a question and the Assistant "
    "answers it. The Assistant first thinks about it and then gives the answer. The thinking is "
    f"written inside {THINK_OPEN} {THINK_CLOSE} and the answer inside {ANSWER_OPEN} {ANSWER_CLOSE}.\n"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A worked example for few-shot prompts: a question, a thought and an answer."""

    question: str
    thought: str
    answer: str


def write_completion(thought: str, answer: str) -> str:
    """Return the completion that the template asks for."""
    return f"{THINK_OPEN}{thought}{THINK_CLOSE}\n{ANSWER_OPEN}{answer}{ANSWER_CLOSE}"


def write_prompt(question: str, examples: tuple[Example, ...] = ()) -> str:
    """Return the R1-Zero prompt for a question, worked examples first where there are any."""
    shown = "".join(
        f"User: {example.question}\nAssistant:{write_completion(example.thought, example.answer)}\n"
        for example in examples
    )
    return f"{R1_ZERO_PREFIX}{shown}User: {question}\nAssistant:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed:
    """A completion taken apart.

    `thought` and `answer` are None where their tags are missing; `is_well_formed` is true for
    exactly one non-empty think block followed by exactly one non-empty answer block and nothing
    else but white space.
    """

    thought: str | None
    answer: str | None
    is_well_formed: bool


def _between(text: str, opening: str, closing: str) -> str | None:
    """Return what stands between the last complete pair of tags, or None."""
    head, closed, _ = text.rpartition(closing)
    start = head.rfind(opening) if closed else -1
    if start < 0:
        return None
    start += len(opening)
    return text[start : text.index(closing, start)]


_TAG = re.compile("|".join(re.escape(tag) for tag in TAGS))


def parse_completion(text: str) -> Parsed:
    """Take a completion apart; linear in its length, and any text is accepted.

    A missing `<think>` (some prompts open it themselves) still gives a thought: everything up to
    `</think>`. The answer is the last complete answer block after the last `</think>`, or
    anywhere if no thought was closed. Neither makes a completion well formed.
    """
    head, closed, tail = text.rpartition(THINK_CLOSE)
    thought = None
    if closed:
        _, opened, inner = head.partition(THINK_OPEN)
        thought = (inner if opened else head).strip()
    answer = _between(tail if closed else text, ANSWER_OPEN, ANSWER_CLOSE)
    return Parsed(
        thought=thought,
        answer=None if answer is None else answer.strip(),
        is_well_formed=_is_well_formed(text),
    )


def _is_well_formed(text: str) -> bool:
    tags = list(_TAG.finditer(text))
    if tuple(tag.group() for tag in tags) != TAGS:
        return False
    before, thought, between, answer, after = (
        text[start:end].strip()
        for start, end in zip(
            [0, *(tag.end() for tag in tags)], [*(tag.start() for tag in tags), len(text)], strict=True
        )
    )
    return bool(thought and answer) and not (before or between or after)
