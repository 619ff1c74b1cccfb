"""Data for SFT: one JSON object per line, a question with its answer or a whole conversation.

In: a file of `{"prompt": ..., "completion": ...}` or `{"messages": [{"role": ..., "content": ...}]}`
lines, also mixed. Out: demonstrations, those that are alike only once. `prompt` is the bare question
(our template is put around it, as in RL) and `completion` all that the model shall write. A message
of the assistant may carry its thought apart, as `reasoning_content`. Every complaint names the file
and the line.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zerone.data.jsonl import lines_of, parse_object
from zerone.errors import DataError
from zerone.types import Demonstration, Message

_EXAMPLE = '{"prompt": ..., "completion": ...} or {"messages": [{"role": "user", "content": ...}, ...]}'
_ROLES = ("system", "user", "assistant")
_THOUGHT = "reasoning_content"


@dataclass(frozen=True, slots=True, kw_only=True)
class DemonstrationFile:
    """The demonstrations of a file, in its order; `num_duplicates` were left out."""

    demonstrations: tuple[Demonstration, ...]
    num_duplicates: int


def read_demonstrations(path: Path) -> DemonstrationFile:
    """Read a JSONL file for SFT; blank lines are skipped.

    Raises DataError, before anything else is done with the data, for the first thing that is wrong.
    """
    found: dict[tuple[Message, ...], Demonstration] = {}
    num_read = 0
    for number, line in lines_of(path):
        place = f"{path}:{number}"
        messages = _messages_of(parse_object(line, place, _EXAMPLE), place)
        found.setdefault(messages, Demonstration(id=_id_of(messages[:-1]), messages=messages))
        num_read += 1
    if not found:
        raise DataError(f"{path} is empty; it needs one JSON object per line, {_EXAMPLE}")
    return DemonstrationFile(demonstrations=tuple(found.values()), num_duplicates=num_read - len(found))


def _id_of(question: tuple[Message, ...]) -> str:
    text = json.dumps([(message.role, message.content) for message in question])
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def _messages_of(record: Mapping[str, Any], place: str) -> tuple[Message, ...]:
    if "messages" in record:
        if "prompt" in record or "completion" in record:
            raise DataError(f"{place}: either `messages`, or `prompt` and `completion`, not both")
        return _conversation(record["messages"], place)
    missing = [name for name in ("prompt", "completion") if name not in record]
    if missing:
        present = ", ".join(map(repr, record)) or "no fields"
        raise DataError(f"{place}: no field {missing[0]!r}; the line has {present}; it needs {_EXAMPLE}")
    return (
        Message(role="user", content=_text(record["prompt"], "`prompt`", place).strip()),
        # Not stripped: what the model shall write is the user's to say, up to the last line break.
        Message(role="assistant", content=_text(record["completion"], "`completion`", place)),
    )


def _conversation(items: Any, place: str) -> tuple[Message, ...]:
    """Return the messages of a list; raises DataError unless user and assistant take turns."""
    if not isinstance(items, list) or not items:
        raise DataError(f"{place}: `messages` must be a list of messages, not {_shown(items)}")
    messages = tuple(_message(item, f"message {i}", place) for i, item in enumerate(items, start=1))
    turns = messages[1:] if messages[0].role == "system" else messages
    for i, message in enumerate(turns):
        wanted = "assistant" if i % 2 else "user"
        if message.role != wanted:
            number = i + 1 + len(messages) - len(turns)
            raise DataError(
                f"{place}: message {number} is of role {message.role!r} where {wanted!r} is due; after a "
                "system message or none, user and assistant take turns"
            )
    if not turns or turns[-1].role != "assistant":
        raise DataError(f"{place}: the last message must be the assistant's, as it is what is learnt")
    return messages


def _message(item: Any, name: str, place: str) -> Message:
    if not isinstance(item, dict):
        raise DataError(f'{place}: {name} must be {{"role": ..., "content": ...}}, not {_shown(item)}')
    role = item.get("role")
    if role not in _ROLES:
        raise DataError(f"{place}: {name} has role {_shown(role)}; use one of {', '.join(_ROLES)}")
    content = _text(item.get("content"), f"the content of {name}", place)
    thought = item.get(_THOUGHT)
    if role != "assistant":
        return Message(role=role, content=content.strip())
    if thought is not None:
        thought = _text(thought, f"`{_THOUGHT}` of {name}", place)
    return Message(role=role, content=content, thought=thought)


def _text(value: Any, name: str, place: str) -> str:
    if not isinstance(value, str):
        raise DataError(f"{place}: {name} must be text, not {_shown(value)}")
    if not value.strip():
        raise DataError(f"{place}: {name} is empty")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(f"{place}: {name} holds half of a surrogate pair, which is no character") from error
    return value


def _shown(value: Any) -> str:
    return json.dumps(value, default=str)[:40]
