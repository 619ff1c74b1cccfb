"""From a conversation to the tokens that the model continues, and how its answer is taken apart.

A model with a chat template is asked through it (transformers renders it in a sandbox); any other
through the template that it was trained in. Thoughts of earlier turns are left out either way.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jinja2

from zerone.prompt import (
    ANSWER_CLOSE,
    ANSWER_OPEN,
    THINK_CLOSE,
    THINK_OPEN,
    Style,
    write_chat,
)
from zerone.serve.jobs import Split
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
    """Writes the prompts of one model; `max_characters` cannot fit into its context in any way."""

    tokenizer: Any
    style: Style
    opens_thought: bool
    context: int
    max_characters: int

    def encode_chat(self, messages: Sequence[Message], *, thinks: bool) -> ChatPrompt:
        """Return the prompt of a conversation; raises Refusal where the template does."""
        if self.tokenizer.chat_template is None:
            text = self._dialogue(messages, thinks=thinks)
            strips = self.style is Style.TAGS
        else:
            text = self._render(messages, thinks=thinks)
            strips = ANSWER_OPEN in str(self.tokenizer.chat_template)
        opened = text.rstrip().endswith(THINK_OPEN)
        if opened and not thinks:
            text, opened = text.rstrip() + _NO_THOUGHT.removeprefix(THINK_OPEN), False
        is_raw = self.tokenizer.chat_template is None
        ids = self.encode_text(text, adds_special=is_raw)
        return ChatPrompt(ids=ids, split=Split(opens_in_thought=opened, strips_answer=strips))

    def encode_text(self, text: str, *, adds_special: bool = True) -> tuple[int, ...]:
        """Return the tokens of a text; raises Refusal for one that must exceed the context."""
        if len(text) > self.max_characters:
            raise too_long(None, None, self.context)
        return tuple(self.tokenizer(text, add_special_tokens=adds_special)["input_ids"])

    def _dialogue(self, messages: Sequence[Message], *, thinks: bool) -> str:
        """Write the template of training, up to the answer that is wanted."""
        turns = [
            Turn(
                role="system" if message.role == "developer" else message.role,
                content=answer_only(message.text) if message.role == "assistant" else message.text,
            )
            for message in messages
        ]
        prompt, _ = write_chat([*turns, Turn(role="assistant", content="")], self.style)[-1]
        opened = THINK_OPEN if self.opens_thought else ""
        return prompt + (opened if thinks else _NO_THOUGHT)

    def _render(self, messages: Sequence[Message], *, thinks: bool) -> str:
        conversation = [
            {
                "role": "system" if message.role == "developer" else message.role,
                "content": answer_only(message.text) if message.role == "assistant" else message.text,
            }
            for message in messages
        ]
        try:
            rendered: str = self.tokenizer.apply_chat_template(
                conversation, tokenize=False, add_generation_prompt=True, enable_thinking=thinks
            )
        except jinja2.TemplateError as error:
            reason = (error.message or "it failed").splitlines()[0][:200]
            raise Refusal(
                400, f"the model's chat template refuses these messages: {reason}", param="messages"
            ) from error
        return rendered


def answer_only(text: str) -> str:
    """Return an earlier answer without its thought and tags, however it was sent back."""
    answer = text.rpartition(THINK_CLOSE)[2].strip()
    return answer.removeprefix(ANSWER_OPEN).removesuffix(ANSWER_CLOSE).strip()
