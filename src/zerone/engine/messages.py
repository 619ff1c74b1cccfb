"""What an engine in a process of its own and its owner say to each other: one JSON object a line.

To the engine: an `EngineSpec`, then requests, cancellations and the files of new weights. From it: that it
is ready or why not, then events. Strings and numbers arrive as they were sent, lone surrogates and
NaN included.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from zerone.engine.api import Completion, Delta, Event, Request, SamplingParams, Split, TokenLogprob
from zerone.types import Finish

Json = dict[str, Any]


def line_of(message: Json) -> bytes:
    """Return a message as the line that carries it."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def request_message(number: int, request: Request) -> Json:
    """Return a request under its number."""
    return {
        "number": number,
        "prompt_ids": request.prompt_ids,
        "seeds": request.seeds,
        "sampling": asdict(request.sampling),
        "streams": request.streams,
        "split": None if request.split is None else asdict(request.split),
    }


def request_from(message: Json, sink: Callable[[Event], None]) -> Request:
    """Return the request of a message."""
    sampling, split = message["sampling"], message["split"]
    for name in ("stop", "cut_stop"):
        sampling[name] = tuple(sampling[name])
    return Request(
        prompt_ids=tuple(message["prompt_ids"]),
        seeds=tuple(message["seeds"]),
        sampling=SamplingParams(**sampling),
        streams=message["streams"],
        split=None if split is None else Split(**split),
        sink=sink,
    )


def event_message(event: Delta | Completion) -> list[Any]:
    """Return the fields of a piece or of a whole completion in order: there are thousands a second."""
    if isinstance(event, Delta):
        return _delta_message(event)
    return [
        event.index,
        event.token_ids,
        event.logprobs,
        event.text,
        event.finish.value,
        event.weight_version,
        event.weight_hash,
    ]


_COMPLETION_FIELDS = 7


def event_from(message: Sequence[Any]) -> Delta | Completion:
    """Return the event of a message."""
    if len(message) != _COMPLETION_FIELDS:
        return _delta_from(message)
    index, token_ids, logprobs, text, finish, weight_version, weight_hash = message
    return Completion(
        index=index,
        token_ids=tuple(token_ids),
        logprobs=tuple(logprobs),
        text=text,
        finish=Finish(finish),
        weight_version=weight_version,
        weight_hash=weight_hash,
    )


def _delta_message(delta: Delta) -> list[Any]:
    return [
        delta.index,
        delta.reasoning,
        delta.content,
        delta.num_tokens,
        delta.num_reasoning_tokens,
        [(told.token, told.logprob, told.top) for told in delta.logprobs],
        None if delta.finish is None else delta.finish.value,
        delta.stop,
        delta.ends_in_thought,
    ]


def _delta_from(message: Sequence[Any]) -> Delta:
    index, reasoning, content, num_tokens, num_reasoning, logprobs, finish, stop, ends_in_thought = message
    return Delta(
        index=index,
        reasoning=reasoning,
        content=content,
        num_tokens=num_tokens,
        num_reasoning_tokens=num_reasoning,
        logprobs=tuple(
            TokenLogprob(token=token, logprob=logprob, top=tuple((each[0], each[1]) for each in top))
            for token, logprob, top in logprobs
        ),
        finish=None if finish is None else Finish(finish),
        stop=stop,
        ends_in_thought=ends_in_thought,
    )
