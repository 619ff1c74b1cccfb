"""From a conversation to the tokens that the model continues, and how its answer is taken apart.

A run's model is asked through the template that it was trained in, whatever chat template its base
came with; any other model through its own chat template (chat_template.py), and without one as R1-Zero.
Thoughts of earlier turns are left out either way.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from zerone.engine.jobs import Split
from zerone.model.chat_template import TEMPLATE_FAULTS, render_chat
from zerone.model.tokenizer import encode_prompt, encode_written, readable
from zerone.prompts.r1 import (
    ANSWER_CLOSE,
    ANSWER_OPEN,
    ASSISTANT,
    THINK_CLOSE,
    THINK_OPEN,
    USER,
    Example,
    Style,
    without_reasoning,
    write_chat,
    write_prompt,
)
from zerone.serve.refusals import Refusal, too_long
from zerone.serve.schemas import Message
from zerone.types import Message as Turn

_NO_THOUGHT = f"{THINK_OPEN}{THINK_CLOSE}\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatPrompt:
    """A prompt, and what its answer's parts are."""

    ids: tuple[int, ...]
    split: Split


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompter:
    """Writes the prompts of one model.

    `uses_template` is whether by its tokenizer's chat template; `max_characters` cannot fit into its
    context in any way.
    """

    tokenizer: Any
    uses_template: bool
    style: Style
    opens_thought: bool
    context: int
    max_characters: int
    examples: tuple[Example, ...] = ()

    def encode_chat(self, messages: Sequence[Message], *, thinks: bool) -> ChatPrompt:
        """Return the prompt of a conversation; raises Refusal where the template does."""
        if self.uses_template:
            text = self._render(messages, thinks=thinks)
            template = str(self.tokenizer.chat_template)
            strips, is_reasoner = ANSWER_OPEN in template, THINK_CLOSE in template
        else:
            text = self._dialogue(messages, thinks=thinks)
            strips, is_reasoner = self.style is Style.TAGS, True
        opened = text.rstrip().endswith(THINK_OPEN)
        if opened and not thinks:
            text, opened = text.rstrip() + _NO_THOUGHT.removeprefix(THINK_OPEN), False
        ids = self._encode_written(text) if self.uses_template else self._encode_dialogue(text)
        if not ids:
            raise Refusal(
                400, "the model's chat template writes nothing for these messages", param="messages"
            )
        return ChatPrompt(
            ids=ids,
            split=Split(
                opens_in_thought=opened,
                strips_answer=strips,
                closed=not thinks and text.rstrip().endswith(THINK_CLOSE),
                is_reasoner=is_reasoner,
            ),
        )

    def encode_text(self, text: str) -> tuple[int, ...]:
        """Return the tokens of a whole prompt, in which a client's control tokens are meant.

        Raises Refusal for one that must exceed the context.
        """
        return self._encode_written(text, starts=True)

    def _encode_written(self, text: str, *, starts: bool = False) -> tuple[int, ...]:
        self._check_length(readable(self.tokenizer, text))
        return encode_written(self.tokenizer, text, starts=starts)

    def _encode_dialogue(self, text: str) -> tuple[int, ...]:
        self._check_length(text)
        return encode_prompt(self.tokenizer, text)

    def _check_length(self, text: str) -> None:
        if len(text) > self.max_characters:
            raise too_long(None, None, self.context)

    def _dialogue(self, messages: Sequence[Message], *, thinks: bool) -> str:
        """Write the template of training, up to the answer that is wanted."""
        turns = [_without_thought(message.turn) for message in messages]
        prompt, _ = write_chat([*turns, Turn(role="assistant", content="")], self.style)[-1]
        shown = self._preamble(self.examples) + prompt.removeprefix(self._preamble(()))
        opened = THINK_OPEN if self.opens_thought else ""
        return shown + (opened if thinks else _NO_THOUGHT)

    def _preamble(self, examples: tuple[Example, ...]) -> str:
        """Return what stands before the first turn: the fixed text, and the worked examples of training."""
        return write_prompt("", examples, self.style).removesuffix(f"{USER}\n{ASSISTANT}")

    def _render(self, messages: Sequence[Message], *, thinks: bool) -> str:
        turns = [_without_thought(message.turn) for message in messages]
        try:
            return render_chat(self.tokenizer, turns, thinks=thinks)
        except TEMPLATE_FAULTS as error:
            raise Refusal(
                400, f"the model's chat template refuses these messages: {_brief(error)}", param="messages"
            ) from error


def _brief(error: Exception) -> str:
    return (str(error) or "it failed").splitlines()[0][:200]


def _without_thought(turn: Turn) -> Turn:
    return replace(turn, content=answer_only(turn.content)) if turn.role == "assistant" else turn


def answer_only(text: str) -> str:
    """Return an earlier answer without its thought and tags, however it was sent back."""
    answer = without_reasoning(text)
    return answer.removeprefix(ANSWER_OPEN).removesuffix(ANSWER_CLOSE).strip()
