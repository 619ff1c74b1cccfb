"""From a conversation to the tokens that the model continues, and how its answer is taken apart.

A run's model is asked through the template that it was trained in, whatever chat template its base
came with; any other model through its own chat template (chat_template.py), and without one as R1-Zero.
Thoughts of earlier turns are left out either way.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from zerone.engine.api import Split
from zerone.model.chat_template import TEMPLATE_FAULTS, render_chat
from zerone.model.tokenizer import encode, encode_prompt, encode_written, readable
from zerone.prompts.r1 import (
    ANSWER_CLOSE,
    ANSWER_OPEN,
    ASSISTANT,
    TAGS,
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

    def encode_chat(
        self, messages: Sequence[Message], *, thinks: bool, continues: bool = False
    ) -> ChatPrompt:
        """Return the prompt of a conversation; raises Refusal where the template does.

        With `continues` the last message is the beginning of the completion. If it is a final answer
        without reasoning, the reasoning is left out, as where it is not wanted.
        """
        strips = self._strips_answer
        begun = ""
        if continues:
            *messages, last = messages
            begun = _beginning(last, strips_answer=strips)
            thinks = _has_tag(begun) or (thinks and not begun)
        ask = self._render if self.uses_template else self._dialogue
        text = ask(messages, thinks=thinks)
        opened = text.rstrip().endswith(THINK_OPEN)
        if opened and not thinks:
            text, opened = text.rstrip() + _NO_THOUGHT.removeprefix(THINK_OPEN), False
        written = begun.removeprefix(THINK_OPEN) if opened else begun
        if _has_tag(begun):
            opened = begun.rfind(THINK_OPEN) > begun.rfind(THINK_CLOSE)
        ids = self._encode_written(text) if self.uses_template else self._encode_dialogue(text)
        if written:
            # What a client sent is data, in which a control token is text. It is tokenised apart from the
            # prompt, as a completion is sampled apart from it.
            self._check_length(text + written)
            ids = (*ids, *encode(self.tokenizer, written))
        if not ids:
            raise Refusal(
                400, "the model's chat template writes nothing for these messages", param="messages"
            )
        closed = not opened and (bool(begun) or text.rstrip().endswith(THINK_CLOSE))
        goes_on = bool(begun) and not begun.rstrip().endswith(TAGS)
        split = Split(
            opens_in_thought=opened,
            strips_answer=strips,
            closed=closed,
            goes_on=goes_on,
            is_reasoner=not self.uses_template or THINK_CLOSE in str(self.tokenizer.chat_template),
        )
        return ChatPrompt(ids=ids, split=split)

    @property
    def _strips_answer(self) -> bool:
        if self.uses_template:
            return ANSWER_OPEN in str(self.tokenizer.chat_template)
        return self.style is Style.TAGS

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
        if not turns or turns[-1].role != "user":  # whose turns end with the assistant's name
            prompt += ASSISTANT
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


def _has_tag(text: str) -> bool:
    return THINK_OPEN in text or THINK_CLOSE in text


def _beginning(message: Message, *, strips_answer: bool) -> str:
    """Return what a completion begins with that the assistant's last message is the beginning of.

    Reasoning comes in a field of its own or, tagged, with the text; on its own it goes on.
    """
    text, thought = message.turn.content, message.thought
    if not text.strip():
        return f"{THINK_OPEN}{thought}" if thought else ""
    if strips_answer and not any(tag in text for tag in TAGS):
        text = f"{ANSWER_OPEN}{text}"
    return f"{THINK_OPEN}{thought}{THINK_CLOSE}\n{text}" if thought else text


def answer_only(text: str) -> str:
    """Return an earlier answer without its thought and tags, however it was sent back."""
    answer = without_reasoning(text)
    return answer.removeprefix(ANSWER_OPEN).removesuffix(ANSWER_CLOSE).strip()
