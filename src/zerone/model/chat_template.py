"""Asks a model through its own chat template, and sees that the template leaves nothing out.

In: a tokenizer with a chat template, and a conversation. Out: the text that the model continues.
transformers renders it in a sandbox. A template is a program that its model's makers wrote: it may take
contents as texts only, or as parts only, and pass over what it does not expect without a word. So what
was asked is looked for in what was rendered.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jinja2

from zerone.errors import ModelError
from zerone.model.tokenizer import readable, render_template
from zerone.types import Message

TEMPLATE_FAULTS = (
    *(ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError),
    jinja2.TemplateError,
)
"""What rendering can raise: a template's own faults, and the ModelError of one that leaves a message out."""

_MARK = "zerone7question"
"""A word that no template holds, also not after it has trimmed, escaped or quoted it."""


def check_template(tokenizer: Any, directory: Path) -> None:
    """Raise ModelError where no question at all can be asked through the chat template."""
    try:
        render_chat(tokenizer, [Message(role="user", content=_MARK)], thinks=True)
    except ModelError as error:
        raise ModelError(
            f"the chat template in {directory} drops the question: {_brief(error)}; fix it in "
            "tokenizer_config.json or chat_template.jinja, or remove it to prompt as R1-Zero"
        ) from error
    except (jinja2.TemplateSyntaxError, TypeError, ValueError) as error:
        raise ModelError(
            f"the chat template in {directory} fails at any question: {_brief(error)}; fix it in "
            "tokenizer_config.json or chat_template.jinja, or remove it to prompt as R1-Zero"
        ) from error
    except TEMPLATE_FAULTS:
        pass  # it may want other messages, as the first request will tell


def render_chat(tokenizer: Any, messages: Sequence[Message], *, thinks: bool) -> str:
    """Return a conversation up to the answer that is wanted, to be read by `encode_written`.

    Contents go in as texts, or as parts where the template shows those only. Raises ModelError where a
    message is not in what was rendered either way, and what the template raises.
    """
    faults: list[Exception] = []
    for roles in _roles_in_parts(messages):
        try:
            text = _render(tokenizer, messages, roles, thinks=thinks)
        except TEMPLATE_FAULTS as error:
            faults.append(error)
            continue
        dropped = [one for one in messages if _is_dropped(tokenizer, messages, one, roles, text)]
        if not dropped:
            return text
        faults.append(ModelError(f"the chat template leaves out what the {dropped[0].role} says"))
    raise faults[0]  # what is wrong with plain texts, which every template should take


def _roles_in_parts(messages: Sequence[Message]) -> Iterator[frozenset[str]]:
    """Yield the roles whose contents are tried as parts: none, all, and each alone."""
    yield frozenset()
    roles = sorted({message.role for message in messages})
    yield frozenset(roles)
    if len(roles) > 1:
        yield from (frozenset((role,)) for role in reversed(roles))


def _render(tokenizer: Any, messages: Sequence[Message], in_parts: frozenset[str], *, thinks: bool) -> str:
    conversation = [
        {
            "role": message.role,
            "content": [{"type": "text", "text": message.content}]
            if message.role in in_parts
            else message.content,
        }
        for message in messages
    ]
    # Qwen3 and its like know `enable_thinking`; DeepSeek-V3.1, Granite and Kimi know `thinking`.
    return render_template(tokenizer, conversation, enable_thinking=thinks, thinking=thinks)


def _is_dropped(
    tokenizer: Any, messages: Sequence[Message], message: Message, in_parts: frozenset[str], text: str
) -> bool:
    """Whether a message of the user's or the system's is not to be found in what was rendered.

    What a template escapes or changes is found by a word in its place that survives that. Earlier
    answers are the template's to shorten.
    """
    said = message.content.strip()
    if message.role in in_parts and _PARTS_AS_CODE in text:
        return True
    if message.role == "assistant" or said in readable(tokenizer, text):
        return False
    marked = [Message(role=one.role, content=_MARK if one is message else one.content) for one in messages]
    try:
        return _MARK not in _render(tokenizer, marked, in_parts, thinks=True).casefold()
    except TEMPLATE_FAULTS:
        return True


_PARTS_AS_CODE = "{'type': 'text', 'text': "
"""What a template writes that takes a list of parts for a text."""


def _brief(error: Exception) -> str:
    return (str(error) or "it failed").splitlines()[0][:200]
