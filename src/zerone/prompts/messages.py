"""One turn of a conversation, however its source writes it: the reader of data, servers and endpoints.

In: a message as JSON gives it, in the words of OpenAI (`role`, `content`) or ShareGPT (`from`, `value`),
its reasoning as `reasoning_content`, `reasoning` or `thinking`, or among its content parts. Out: a
`Message`. A field that is empty is absent. One that may carry something to learn and is not understood
is refused, never passed over.
"""

import json
from collections.abc import Mapping
from typing import Any

from zerone.errors import DataError
from zerone.types import Message

ROLES: Mapping[str, str] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
}
"""Role as written -> role."""

REASONING = ("reasoning_content", "reasoning", "thinking")
"""The names under which a message carries its reasoning."""

TEXT_PARTS = ("text", "input_text", "output_text")
"""Types of content parts that are text."""

REASONING_PARTS = ("thinking", "reasoning", "reasoning_text")
"""Types of content parts that are reasoning."""

_SPEAKERS, _CONTENTS = ("role", "from"), ("content", "value")
_TOOL_ROLES = frozenset(
    (
        *("tool", "function", "function_call", "tool_call", "tool_calls", "tool_response", "tool_result"),
        *("observation", "ipython", "environment"),
    )
)
_TOOL_FIELDS = frozenset(("tool_calls", "function_call", "tool_call_id", "tool_responses"))
_LABELS = frozenset(
    (
        *("id", "uuid", "message_id", "parent_id", "turn_identifier", "name", "index", "idx", "turn"),
        *("timestamp", "created", "created_at", "date", "model", "provider", "source", "metadata"),
        *("lang", "language", "tokens", "num_tokens", "token_count", "usage", "logprobs", "finish_reason"),
        *("stop_reason", "annotations", "cache_control", "signature", "status", "object"),
        *("country", "state", "hashed_ip", "header", "redacted", "toxic"),
    )
)
"""Fields that tell of a message and hold nothing of what is said."""

_READ = frozenset((*_SPEAKERS, *_CONTENTS, *REASONING, *_LABELS, "weight"))

_DEEPEST = 8
"""Levels that empty fields may be nested in; what is deeper says something."""

_TOOLS_REMEDY = (
    "tool calls are not trained; leave the line out, or write the call into the assistant's content and its "
    "result into the user's next message"
)


def is_absent(value: Any, depth: int = _DEEPEST) -> bool:
    """Whether a field says nothing: null, an empty text, list or object, or one of nothing but these."""
    match value:
        case None:
            return True
        case str():
            return not value.strip()
        case list() | tuple():
            return depth > 0 and all(is_absent(item, depth - 1) for item in value)
        case Mapping():
            return depth > 0 and all(is_absent(item, depth - 1) for item in value.values())
        case _:
            return False


def read_message(item: Any, name: str) -> Message | None:
    """Return a message to learn from, or None for a system message that says nothing.

    Raises DataError, which calls the message by `name`, for what is wrong with it.
    """
    if not isinstance(item, Mapping):
        raise DataError(f'{name} must be {{"role": ..., "content": ...}}, not {shown(item)}')
    fields = {key: value for key, value in item.items() if not is_absent(value)}
    role = _role(fields, name)
    _refuse_unread(fields, name)
    called = f"the content of {name}"
    given = next((item[key] for key in _CONTENTS if item.get(key) is not None), None)
    content, in_parts = _content("" if given is None and role == "system" else given, called)
    if not content.strip():
        if role == "system":
            return None
        raise DataError(f"{called} is empty")
    reasoning = _reasoning(fields, in_parts, name)
    is_trained = _is_trained(fields, name, can_be=role == "assistant")
    if role == "assistant":
        return Message(role=role, content=content, thought=reasoning, takes_form=True, is_trained=is_trained)
    if reasoning is not None:
        raise DataError(f"{name} carries reasoning, which only the assistant's may; its role is {role!r}")
    return Message(role=role, content=content.strip())


def read_reply(message: Any) -> tuple[str, str]:
    """Return (content, reasoning) of a message that an endpoint answered; raises DataError.

    Of several fields of reasoning the first that says anything counts: servers send the same twice.
    """
    if not isinstance(message, Mapping):
        raise DataError(f"the reply must be a message, not {shown(message)}")
    content, in_parts = _content(message.get("content") or "", "the content of the reply")
    told = next((message[key] for key in REASONING if not is_absent(message.get(key))), None)
    reasoning = in_parts if told is None else _content(told, "the reasoning of the reply")[0]
    refusal = message.get("refusal")
    return content or (refusal if isinstance(refusal, str) else ""), reasoning


def turn_of(role: str, content: str | list[dict[str, Any]] | None) -> Message:
    """Return a turn of a request, whose shape has been checked already."""
    return Message(role=ROLES[role], content=_content(content or "", "the content")[0])


def shown(value: Any) -> str:
    """Return the beginning of a value, for a complaint."""
    try:
        return json.dumps(value, default=str)[:40]
    except RecursionError:
        return "what is nested too deeply"


def checked_text(value: Any, name: str) -> str:
    """Return a text; raises DataError for anything else and for half of a surrogate pair."""
    if not isinstance(value, str):
        raise DataError(f"{name} must be text, not {shown(value)}")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(f"{name} holds half of a surrogate pair, which is not a character") from error
    return value


def _role(fields: Mapping[str, Any], name: str) -> str:
    for pair in (_SPEAKERS, _CONTENTS):
        if fields.keys() >= set(pair):
            raise DataError(f"{name} has both {pair[0]!r} and {pair[1]!r}; keep one")
    given = fields.get("role", fields.get("from"))
    role = ROLES.get(given) if isinstance(given, str) else None
    if role is not None:
        return role
    if isinstance(given, str) and given in _TOOL_ROLES:
        raise DataError(f"{name} has role {shown(given)}; {_TOOLS_REMEDY}")
    raise DataError(f"{name} has role {shown(given)}; use one of system, user, assistant")


def _refuse_unread(fields: Mapping[str, Any], name: str) -> None:
    if tools := sorted(fields.keys() & _TOOL_FIELDS):
        raise DataError(f"{name} has the field {tools[0]!r}; {_TOOLS_REMEDY}")
    if unread := sorted(fields.keys() - _READ):
        raise DataError(
            f"{name} has the field {unread[0]!r}, which is not read: name it {REASONING[0]!r} if it is "
            'reasoning, write "weight": 0 for a turn that is not trained on, or take it away'
        )


def _content(value: Any, name: str) -> tuple[str, str]:
    """Return text and reasoning of a content, which may be in parts."""
    if not isinstance(value, list):
        return checked_text(value, name), ""
    said: dict[bool, list[str]] = {False: [], True: []}
    for part in value:
        if isinstance(part, str):
            said[False].append(checked_text(part, name))
        elif not isinstance(part, Mapping) or not isinstance(part.get("type"), str):
            raise DataError(
                f'{name} has a part that must be text, {{"type": "text", "text": ...}}, not {shown(part)}'
            )
        else:
            # A part may be nothing but a space between two others.
            fields = {
                key: told
                for key, told in part.items()
                if not is_absent(told) or (isinstance(told, str) and told)
            }
            text = _part(fields, name)
            said[part["type"] in REASONING_PARTS].append(text)
    return "".join(said[False]), "".join(said[True])


def _part(fields: Mapping[str, Any], name: str) -> str:
    """Return the text of a content part; that of reasoning may be in parts itself."""
    kind = fields.get("type", "")
    if kind not in (*TEXT_PARTS, *REASONING_PARTS):
        raise DataError(f"{name} has a part of type {shown(kind)}; only text is read, no images or sounds")
    names = ("text", *REASONING) if kind in REASONING_PARTS else ("text",)
    if unread := sorted(fields.keys() - {"type", *names} - _LABELS):
        raise DataError(f"{name} has a part with the field {unread[0]!r}, which is not read; take it away")
    told = [fields[key] for key in names if key in fields]
    if len(told) > 1:
        raise DataError(f"{name} has a part of reasoning that is said twice; keep one")
    said = told[0] if told else ""
    if kind in REASONING_PARTS and isinstance(said, list):
        parts = [part for part in said if not isinstance(part, Mapping) or part.get("type") in TEXT_PARTS]
        if len(parts) < len(said):
            raise DataError(f"{name} has reasoning within reasoning; keep one")
        return _content(parts, name)[0]
    return checked_text(said, name)


def _reasoning(fields: Mapping[str, Any], in_parts: str, name: str) -> str | None:
    """Return the reasoning; raises DataError where it is said twice, and not the same."""
    told = {"its content": in_parts} if in_parts.strip() else {}
    told |= {key: _content(fields[key], f"`{key}` of {name}")[0] for key in REASONING if key in fields}
    if len(set(told.values())) > 1:
        raise DataError(f"{name} has different reasoning in {' and '.join(told)}; keep one")
    return next(iter(told.values()), None)


def _is_trained(fields: Mapping[str, Any], name: str, *, can_be: bool) -> bool:
    """Return whether `weight` lets a turn be learnt; only the assistant's can be."""
    weight = fields.get("weight", int(can_be))
    if isinstance(weight, bool) or weight not in (0, 1):
        raise DataError(f"{name} has weight {shown(weight)}; it is 1, or 0 for a turn that is not trained on")
    if weight and not can_be:
        raise DataError(f"{name} has weight 1, but only the assistant's turns are trained on; take it away")
    return bool(weight)
