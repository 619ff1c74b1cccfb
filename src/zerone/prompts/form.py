"""The form of a style around answers that were written without it, as those of a chat are.

In: a conversation to learn from. Out: the same, each answer as the text that the model shall write: the
thought in its tags, and the final answer where evaluation looks for it. An answer that has the form
already, or that cannot be put into it, stays as it is.
"""

import re
from collections.abc import Sequence
from dataclasses import replace

from zerone.errors import DataError
from zerone.prompts.r1 import (
    ANSWER_OPEN,
    THINK_CLOSE,
    THINK_OPEN,
    Style,
    last_boxed,
    parse_completion,
    write_chat,
    write_completion,
)
from zerone.types import Demonstration, Message


def in_form(messages: Sequence[Message], style: Style) -> list[Message]:
    """Return a conversation whose answers are in the form of a style.

    | style | final answer | becomes |
    |---|---|---|
    | tags | X | `<answer>X</answer>` |
    | tags | a summary with X in a box | `<answer>X</answer>`, and the summary ends the thought |
    | boxed | X: a number, a word or a formula | `The answer is \\boxed{X}.` |
    | tags, summary | X in a box and nothing else | X, in tags as above |
    | boxed, summary | X in answer tags | X, in a box as above |

    Raises DataError where an answer has two different thoughts, in its content and beside it.
    """
    return [
        replace(message, content=_completion(message, style), thought=None, takes_form=False)
        if message.takes_form
        else message
        for message in messages
    ]


def check_form(demonstrations: Sequence[Demonstration], style: Style, name: str) -> dict[str, int]:
    """Count completions without a thought, and without an answer where the style has it.

    Raises DataError where none has such an answer: the model would learn a form in which nothing is
    found. In a box only results stand, so there texts without one are not counted, and a row that calls
    itself a summary (an answer to a general request, a program) is looked at as one.
    """
    completions = _completions(demonstrations, style)
    missing = sum(
        not _has_answer(text, _style_of(one, style))
        for one in demonstrations
        for text in _completions([one], style)
    )
    if missing == len(completions):
        fitting = {
            other: sum(_has_answer(text, other) for text in _completions(demonstrations, other))
            for other in Style
        }
        styles = ", ".join(
            f"{number} fit prompt.style={other}" for other, number in fitting.items() if number
        )
        raise DataError(
            f"none of the {missing} completions of {name} has its answer where prompt.style={style} has it, "
            f"{_PLACES[style]}; a model that learns them could not be measured. Choose another style "
            f"({styles or 'none fits'}), write the completions in that form, or give them as `messages`, "
            "which are put into the form where that is possible"
        )
    return {
        "a thought": sum(parse_completion(text, style).thought is None for text in completions),
        "an answer in the form": 0 if style is Style.BOXED else missing,
    }


_PLACES = {
    Style.TAGS: "inside <answer> and </answer>",
    Style.BOXED: "in \\boxed{} behind the thought",
    Style.SUMMARY: "behind the thought as the whole text, in no box and no tags",
}


def _style_of(one: Demonstration, style: Style) -> Style:
    return Style.SUMMARY if style is Style.BOXED and one.style == Style.SUMMARY else style


def _completions(demonstrations: Sequence[Demonstration], style: Style) -> list[str]:
    return [text for one in demonstrations for _, text in write_chat(in_form(one.messages, style), style)]


def _has_answer(completion: str, style: Style) -> bool:
    """Whether evaluation in a style finds the answer; a summary is not what is in its box or tags."""
    answer = parse_completion(completion, style).answer
    if answer is None or style is not Style.SUMMARY:
        return answer is not None
    return last_boxed(answer) is None and ANSWER_OPEN not in answer


def _completion(message: Message, style: Style) -> str:
    opening, answer = _cut_behind_thought(message.content)
    if message.thought is not None:
        if opening and _inside(opening) not in ("", message.thought.strip()):
            raise DataError(
                "a message has reasoning in its content and other reasoning beside it "
                f"({message.thought[:40]!r}); keep one"
            )
        opening = f"{THINK_OPEN}{message.thought}{THINK_CLOSE}\n"
    if not opening and THINK_OPEN in answer:
        return answer  # a thought that never ends has no final answer behind it
    return _put_into_form(opening, answer, style)


def _cut_behind_thought(text: str) -> tuple[str, str]:
    """Return (thought with its tags, as a style writes it; the rest). An opening tag is put before a
    thought that lacks it, as one does that followed a prompt which opens it."""
    head, closed, tail = text.rpartition(THINK_CLOSE)
    if not closed:
        return "", text
    if THINK_OPEN not in head:
        head = THINK_OPEN + head
    return f"{head.lstrip()}{closed}\n", tail.lstrip()


def _inside(opening: str) -> str:
    return opening.strip().removeprefix(THINK_OPEN).removesuffix(THINK_CLOSE).strip()


def _put_into_form(opening: str, answer: str, style: Style) -> str:
    in_tags = parse_completion(answer, Style.TAGS).answer
    if in_tags is not None:
        if style is Style.TAGS:
            return opening + answer
        answer = in_tags
    boxed = last_boxed(answer)
    if boxed is not None and style is not Style.BOXED:
        if answer.strip() in (f"\\boxed{{{boxed}}}", _written(boxed, Style.BOXED)):
            answer = boxed
        elif style is Style.TAGS:
            return write_completion(f"{_inside(opening)}\n\n{answer.strip()}".strip(), boxed.strip(), style)
    if style is Style.TAGS:
        return opening + _written(answer.strip(), style)
    if style is Style.BOXED and boxed is None:
        result = answer.strip().rstrip(".\u3002")
        written = _written(result, style)
        # Braces that do not match would leave the box open.
        return opening + (written if _RESULT.fullmatch(result) and last_boxed(written) == result else answer)
    return opening + answer


def _written(answer: str, style: Style) -> str:
    """Return a final answer as a style has it."""
    return write_completion("", answer, style).removeprefix(f"{THINK_OPEN}{THINK_CLOSE}\n")


_RESULT = re.compile(
    r"[^\s!?\u3002\uff01\uff0c\uff1f\u4e00-\u9fff]{1,64}|[\u4e00-\u9fff]{1,4}"
    r"|(?=.*[\d+*/=<>\\-])(?!.*\b(?:is|so|we|it)\b)(?:\\[A-Za-z]+|(?![A-Za-z]{3})[^\n]){1,200}",
    re.IGNORECASE,
)
"""A result that a box holds: one word, a number or a formula, and no sentence."""
