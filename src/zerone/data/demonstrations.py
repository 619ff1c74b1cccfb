"""Data for SFT: one row per example, in any of the forms that such data come in.

| form | what is learnt |
|---|---|
| `prompt`, `completion` as texts | the completion as it stands: all that the model shall write |
| `prompt`, `completion` as messages, or one of them | the assistant's messages of the completion |
| `messages` | the assistant's messages |
| `conversations` of `from` and `value` (ShareGPT) | the assistant's messages |
| `instruction`, `input`, `output` (Alpaca) | the output, as an assistant's message |

In: a file of such rows, also mixed. Out: demonstrations, those that are alike only once. Our template is
put around questions, as in RL, and the form of the style around messages (prompts/r1.py). What a message may
hold, messages.py says. Every complaint names the file and the line.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from zerone.data.adapters import DEMONSTRATIONS, adapted, adapter_for
from zerone.data.jsonl import parse_object
from zerone.data.sources import open_source
from zerone.errors import DataError
from zerone.prompts.messages import REASONING, checked_text, is_absent, read_message, shown
from zerone.types import Demonstration, Message

_EXAMPLE = '{"prompt": ..., "completion": ...} or {"messages": [{"role": "user", "content": ...}, ...]}'

_FORMS: Mapping[str, tuple[str, ...]] = {
    "messages": (),
    "conversations": (),
    "conversation": (),
    "prompt": ("completion",),
    "instruction": ("output",),
}
"""The field that a form is known by -> what it needs beside it."""

_UNREAD = frozenset(
    (
        *(
            "tools",
            "functions",
            "images",
            "image",
            "videos",
            "video",
            "audios",
            "audio",
            "chosen",
            "rejected",
        ),
        *("loss_mask", "completion_mask", "assistant_masks", "chat_template", "chat_template_kwargs"),
    )
)
"""Fields of a row that change what is learnt; they are refused unless they are empty."""

_OTHER_REASONING = (
    *("thought", "thoughts", "think", "reasoning_text", "reasoning_details", "scratchpad", "analysis"),
    *("cot", "chain_of_thought", "rationale"),
)
"""Names under which a row may hold reasoning that is not in its messages, which is refused then."""

_SYSTEM = ("system", "system_prompt")

_Turns = dict[str, Message]
"""What a message is called in a complaint -> the message, in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemonstrationFile:
    """The demonstrations of a source, in its order; `num_duplicates` were left out.

    `read_as` is the data set whose columns were found.
    """

    demonstrations: tuple[Demonstration, ...]
    num_duplicates: int
    read_as: str | None = None


def read_demonstrations(path: str | Path) -> DemonstrationFile:
    """Read a source for SFT; blank lines are skipped.

    Raises DataError, before anything else is done with the data, for the first thing that is wrong.
    """
    found: dict[tuple[Message, ...], Demonstration] = {}
    source, adapter = open_source(path), None
    num_read = 0
    for line in source.lines():
        record = parse_object(line.content, line.place, _EXAMPLE)
        if not num_read:
            adapter = adapter_for(DEMONSTRATIONS, source.known_by, record)
        record = adapted(adapter, record, line.place)
        try:
            messages = _messages_of(record)
        except DataError as error:
            raise DataError(f"{line.place}: {error}") from error
        # Texts that are the same in two forms are the same demonstration.
        same = tuple(replace(message, takes_form=False) for message in messages)
        style = record.get("style")
        style = style if isinstance(style, str) else None
        found.setdefault(same, Demonstration(id=_id_of(messages[:-1]), messages=messages, style=style))
        num_read += 1
    if not found:
        raise DataError(f"{path} is empty; it needs one JSON object per line, {_EXAMPLE}")
    return DemonstrationFile(
        demonstrations=tuple(found.values()),
        num_duplicates=num_read - len(found),
        read_as=None if adapter is None else adapter.title,
    )


def _id_of(question: tuple[Message, ...]) -> str:
    text = json.dumps([(message.role, message.content) for message in question])
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def _messages_of(record: Mapping[str, Any]) -> tuple[Message, ...]:
    """Return the conversation of a row; raises DataError, without its place, for what is wrong."""
    form = _form_of(record)
    match form:
        case "prompt":
            turns = _prompt_and_completion(record)
        case "instruction":
            turns = _instruction_and_output(record)
        case _:
            turns = _turns(record[form], f"`{form}`")
    turns = _with_system(turns, record)
    _check_turns(turns)
    messages = _with_reasoning(tuple(turns.values()), record, form)
    _refuse_unread(messages, record, form)
    return messages


def _form_of(record: Mapping[str, Any]) -> str:
    """Return the field that tells the form of a row."""
    forms = [name for name in _FORMS if record.get(name) is not None]
    complete = [
        name
        for name in forms
        if not is_absent(record[name]) and all(record.get(more) is not None for more in _FORMS[name])
    ]
    if len(forms) > 1 and len(complete) != 1:
        raise DataError(f"either `{forms[0]}`, or `{' and '.join((forms[1], *_FORMS[forms[1]]))}`, not both")
    if complete:
        return complete[0]
    missing = [name for name in _FORMS[forms[0]] if name not in record] if forms else ["prompt"]
    if missing:
        present = ", ".join(map(repr, record)) or "no fields"
        pairs = "; pairs are for `zerone reward-model`" if "chosen" in record else ""
        raise DataError(f"no field {missing[0]!r}; the line has {present}; it needs {_EXAMPLE}{pairs}")
    return forms[0]


def _turns(items: Any, name: str, start: int = 1) -> _Turns:
    """Return the messages of a list, which count from `start`; those that say nothing are left out."""
    if not isinstance(items, list) or not items:
        raise DataError(f"{name} must be a list of messages, not {shown(items)}")
    read = {f"message {i}": read_message(item, f"message {i}") for i, item in enumerate(items, start=start)}
    return {called: message for called, message in read.items() if message is not None}


def _prompt_and_completion(record: Mapping[str, Any]) -> _Turns:
    """Read both, each a text or messages; of a prompt's messages none is learnt, as in TRL."""
    prompt, completion = record["prompt"], record["completion"]
    if isinstance(prompt, list):
        turns = {
            called: replace(message, is_trained=message.role != "assistant")
            for called, message in _turns(prompt, "`prompt`").items()
        }
    else:
        turns = {"`prompt`": Message(role="user", content=_text(prompt, "`prompt`").strip())}
    if isinstance(completion, list):
        start = 1 + (len(prompt) if isinstance(prompt, list) else 1)
        return turns | _turns(completion, "`completion`", start)
    # Not stripped: what the model shall write is the user's to say, up to the last line break.
    return turns | {"`completion`": Message(role="assistant", content=_text(completion, "`completion`"))}


def _instruction_and_output(record: Mapping[str, Any]) -> _Turns:
    """Read Alpaca's form: the input follows the instruction, earlier turns stand in `history`."""
    turns: _Turns = {}
    history = record.get("history")
    for i, pair in enumerate(
        [] if is_absent(history) else history if isinstance(history, list) else [history]
    ):
        if not isinstance(pair, list) or len(pair) != 2:
            raise DataError(f"`history` must be a list of [question, answer], not {shown(history)}")
        for role, text in zip(("user", "assistant"), pair, strict=True):
            called = f"{role} {i + 1} of `history`"
            turns[called] = Message(role=role, content=_text(text, called), takes_form=role == "assistant")
    question = _text(record["instruction"], "`instruction`").strip()
    if not is_absent(record.get("input")):
        question += f"\n\n{_text(record['input'], '`input`').strip()}"
    output = _text(record["output"], "`output`")
    return turns | {
        "`instruction`": Message(role="user", content=question),
        "`output`": Message(role="assistant", content=output, takes_form=True),
    }


def _with_system(turns: _Turns, record: Mapping[str, Any]) -> _Turns:
    """Put a row's own system message first, unless its messages have the same."""
    told = {_text(record[name], f"`{name}`").strip() for name in _SYSTEM if not is_absent(record.get(name))}
    if not told:
        return turns
    first = next(iter(turns.values()), None)
    if first is not None and first.role == "system":
        told.add(first.content)
        turns = dict(list(turns.items())[1:])
    if len(told) > 1:
        raise DataError("has different system messages; keep one")
    return {"`system`": Message(role="system", content=told.pop()), **turns}


def _check_turns(turns: _Turns) -> None:
    """Raise DataError unless user and assistant take turns, and something is learnt."""
    said = list(turns.items())
    said = said[1:] if said and said[0][1].role == "system" else said
    for i, (called, message) in enumerate(said):
        wanted = "assistant" if i % 2 else "user"
        if message.role != wanted:
            raise DataError(
                f"{called} is of role {message.role!r} where {wanted!r} is due; after a system message or "
                "none, user and assistant take turns"
            )
    if not said or said[-1][1].role != "assistant":
        raise DataError("the last message must be the assistant's, as it is what is learned")
    if not any(message.is_trained for _, message in said if message.role == "assistant"):
        raise DataError("every message of the assistant's has weight 0, so nothing is learned; leave it out")


def _with_reasoning(
    messages: tuple[Message, ...], record: Mapping[str, Any], form: str
) -> tuple[Message, ...]:
    """Give the last message the reasoning that a row of question and answer holds beside it."""
    told = {name: record[name] for name in REASONING if not is_absent(record.get(name))}
    if form not in ("prompt", "instruction") or not told:
        return messages
    found = {_text(value, f"`{name}`") for name, value in told.items()}
    if messages[-1].thought is not None:
        found.add(messages[-1].thought)
    if len(found) > 1:
        raise DataError(f"has different reasoning in {' and '.join(told)}; keep one")
    # An answer whose reasoning stands apart is not yet all that the model shall write.
    return (*messages[:-1], replace(messages[-1], thought=found.pop(), takes_form=True))


def _refuse_unread(messages: tuple[Message, ...], record: Mapping[str, Any], form: str) -> None:
    """Raise DataError for a field of the row that has something to learn which no message holds."""
    if unread := sorted(name for name in record.keys() & _UNREAD if not is_absent(record[name])):
        raise DataError(
            f"has the field {unread[0]!r}, which is not trained on: take it away, or leave the line out"
        )
    if record.get("label") is False or record.get("weight", 1) not in (None, 1):
        raise DataError("is marked as not to be learned, by `label` or `weight`; leave the line out")
    held = "\n".join(text for message in messages for text in (message.thought or "", message.content))
    for name in (*REASONING, *_OTHER_REASONING, *(other for other in _FORMS if other != form)):
        value = record.get(name)
        if not is_absent(value) and not (isinstance(value, str) and value.strip() in held):
            raise DataError(
                f"has {name!r} beside {form!r}, and no message holds what it says; put it into the "
                f"assistant's message (reasoning as {REASONING[0]!r}), or take it away"
            )


def _text(value: Any, name: str) -> str:
    text = checked_text(value, name)
    if not text.strip():
        raise DataError(f"{name} is empty")
    return text
