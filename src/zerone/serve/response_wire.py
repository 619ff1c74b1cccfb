"""Answers in the shape of `/v1/responses`: whole, and as the events of a stream.

In: deltas and counts. Out: a response whose output is a reasoning item (the thought as text, without
summary) and a message; or the events that build it, each numbered and named by its type. Where room ran
out, the last item is incomplete as the response is; if that was inside the thought, there is no message.
"""

import secrets
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

from zerone.serve.exchange import Exchange
from zerone.serve.models import Served
from zerone.serve.refusals import Refusal
from zerone.serve.response_schema import ResponsesRequest
from zerone.serve.telemetry import Usage
from zerone.serve.wire import Choice, Json, merged, one_line

_REASONING, _MESSAGE = "reasoning", "message"
_PREFIXES = {_REASONING: "rs", _MESSAGE: "msg"}
_PARTS = {_REASONING: "reasoning_text", _MESSAGE: "output_text"}
"""Kind of an item -> type of its only part, which its events are named after too."""


class _Item:
    """One item of the output, as far as it has been written."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.id = f"{_PREFIXES[kind]}_{secrets.token_hex(16)}"
        self.text = ""

    @property
    def part(self) -> Json:
        """The text as a part."""
        more: Json = {"annotations": [], "logprobs": []} if self.kind == _MESSAGE else {}
        return {"type": _PARTS[self.kind], "text": self.text, **more}

    def json(self, status: str) -> Json:
        """The item; one that has just begun has no content yet."""
        content = [] if status == "in_progress" else [self.part]
        shape: Json = {"role": "assistant"} if self.kind == _MESSAGE else {"summary": []}
        return {"id": self.id, "type": self.kind, "status": status, "content": content, **shape}


class ResponseWire:
    """Writes the answer to one request."""

    def __init__(self, model: Served, body: ResponsesRequest) -> None:
        self._items: list[_Item] = []
        self._finish: str | None = None
        self._sequence = 0
        self._fields = {
            "id": f"resp_{secrets.token_hex(16)}",
            "object": "response",
            "created_at": int(time.time()),
            "model": model.name,
            "background": False,
            "instructions": body.instructions,
            "max_output_tokens": body.max_output_tokens,
            "metadata": body.metadata or {},
            "parallel_tool_calls": False,
            "previous_response_id": None,
            "reasoning": {"effort": body.reasoning and body.reasoning.effort, "summary": None},
            "store": False,
            "temperature": model.temperature if body.temperature is None else body.temperature,
            "text": {"format": {"type": "text"}},
            "tool_choice": "none",
            "tools": [],
            "top_p": model.top_p if body.top_p is None else body.top_p,
            "truncation": "disabled",
            "user": body.user,
        }

    def whole(self, choices: dict[int, Choice], usage: Usage) -> Json:
        """Return the answer to a request that does not stream."""
        for choice in choices.values():
            for kind, text in _texts(choice):
                self._item(kind).text += text
            self._finish = choice.finish
            self._item(_last_kind(choice))
        return self._body(self._status, usage)

    def opening(self) -> Iterator[bytes]:
        """Yield the events that come before any text."""
        for name in ("created", "in_progress"):
            yield self._event(f"response.{name}", response=self._body("in_progress", None))

    def pieces(self, choice: Choice) -> Iterator[bytes]:
        """Yield the events of what has been written since the last."""
        for kind, text in _texts(choice):
            if not self._items or self._items[-1].kind != kind:
                yield from self._begin(kind)
            self._items[-1].text += text
            yield self._part_event(f"response.{_PARTS[kind]}.delta", delta=text)
        if choice.finish is not None:
            self._finish = choice.finish
            kind = _last_kind(choice)
            if not self._items or self._items[-1].kind != kind:
                yield from self._begin(kind)
            yield from self._end(self._status)

    def closing(self, usage: Usage) -> Iterator[bytes]:
        """Yield the event that holds the whole response."""
        yield self._event(f"response.{self._status}", response=self._body(self._status, usage))

    def failure(self, refusal: Refusal) -> bytes:
        """Return the event of a failure, for which it is too late to be a status."""
        error = refusal.body["error"]
        return self._event("error", message=error["message"], code=error["code"], param=error["param"])

    @property
    def _status(self) -> str:
        return "incomplete" if self._finish == "length" else "completed"

    def _body(self, status: str, usage: Usage | None) -> Json:
        is_incomplete = status == "incomplete"
        output = []
        for item in self._items:
            is_cut = is_incomplete and item is self._items[-1]
            output.append(item.json("incomplete" if is_cut else "completed"))
        return {
            **self._fields,
            "status": status,
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if is_incomplete else None,
            "output": output,
            "usage": None if usage is None else usage_json(usage),
        }

    def _item(self, kind: str) -> _Item:
        if not self._items or self._items[-1].kind != kind:
            self._items.append(_Item(kind))
        return self._items[-1]

    def _begin(self, kind: str) -> Iterator[bytes]:
        if self._items:
            yield from self._end("completed")
        item = self._item(kind)
        index = len(self._items) - 1
        yield self._event("response.output_item.added", output_index=index, item=item.json("in_progress"))
        yield self._part_event("response.content_part.added", part=item.part)

    def _end(self, status: str) -> Iterator[bytes]:
        item = self._items[-1]
        yield self._part_event(f"response.{_PARTS[item.kind]}.done", text=item.text)
        yield self._part_event("response.content_part.done", part=item.part)
        index = len(self._items) - 1
        yield self._event("response.output_item.done", output_index=index, item=item.json(status))

    def _part_event(self, kind: str, **fields: Any) -> bytes:
        """Return an event about the only part of the last item."""
        item = self._items[-1]
        logprobs: Json = {"logprobs": []} if ".output_text." in kind else {}
        place = {"item_id": item.id, "output_index": len(self._items) - 1, "content_index": 0}
        return self._event(kind, **place, **logprobs, **fields)

    def _event(self, kind: str, **fields: Any) -> bytes:
        body = {"type": kind, "sequence_number": self._sequence, **fields}
        self._sequence += 1
        return f"event: {kind}\ndata: {one_line(body)}\n\n".encode()


def _texts(choice: Choice) -> Iterator[tuple[str, str]]:
    """Yield the kind of item and the text of what is there; a thought comes before its answer."""
    for kind, pieces in ((_REASONING, choice.reasoning), (_MESSAGE, choice.content)):
        if text := "".join(pieces):
            yield kind, text


def _last_kind(choice: Choice) -> str:
    """Return the kind of item that an answer ends with: a message, unless its thought was cut off."""
    return _REASONING if choice.ends_in_thought and choice.finish == "length" else _MESSAGE


def usage_json(usage: Usage) -> Json:
    """Return `usage`."""
    return {
        "input_tokens": usage.num_prompt,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": usage.num_completion,
        "output_tokens_details": {"reasoning_tokens": usage.num_reasoning},
        "total_tokens": usage.num_prompt + usage.num_completion,
    }


async def response_events(exchange: Exchange, wire: ResponseWire) -> AsyncIterator[bytes]:
    """Yield the events of a stream; there is one answer only."""
    yield b"".join(wire.opening())
    try:
        async for pieces in exchange.pieces():
            for choice in merged(pieces).values():
                yield b"".join(wire.pieces(choice))
    except Refusal as refusal:
        yield wire.failure(refusal)
        return
    yield b"".join(wire.closing(exchange.usage))
