"""Answers in OpenAI's shapes: whole, and in the chunks of a stream.

In: deltas and counts. Out: JSON-ready dictionaries. Both reasoning fields are written, since half
of the clients read `reasoning_content` and the other half `reasoning`.
"""

import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from zerone.engine.api import Delta, TokenLogprob
from zerone.serve.models import Served
from zerone.serve.telemetry import Usage

Json = dict[str, Any]

_LOWEST = -9999.0
"""What OpenAI writes for a probability of zero, which JSON has no number for.

It stands first in `max`, which then returns it for NaN too: the logits of a model that diverged.
"""


@dataclass(slots=True)
class Choice:
    """One answer, put together."""

    reasoning: list[str] = field(default_factory=list)
    content: list[str] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    finish: str | None = None
    stop: str | None = None
    ends_in_thought: bool = False

    def add(self, delta: Delta) -> None:
        """Add the next piece."""
        self.reasoning.append(delta.reasoning)
        self.content.append(delta.content)
        self.logprobs.extend(delta.logprobs)
        self.finish = None if delta.finish is None else delta.finish.value
        self.stop = delta.stop
        self.ends_in_thought = delta.ends_in_thought


def merged(pieces: Sequence[tuple[int, Delta]]) -> dict[int, Choice]:
    """Join the pieces of each answer."""
    choices: dict[int, Choice] = {}
    for index, delta in pieces:
        choices.setdefault(index, Choice()).add(delta)
    return dict(sorted(choices.items()))


class WholeWire(Protocol):
    """How one kind of answer is written at once."""

    def whole(self, choices: dict[int, Choice], usage: Usage) -> Json:
        """Return the answer to a request that does not stream."""
        ...


class Wire(WholeWire, Protocol):
    """How one kind of answer is written, at once or in chunks."""

    def opening(self, num_choices: int) -> list[Json]:
        """Return the chunks that come before any text."""
        ...

    def chunk(self, index: int, choice: Choice) -> Json:
        """Return the next chunk of an answer."""
        ...

    def closing(self, usage: Usage) -> Json:
        """Return the chunk that counts tokens."""
        ...


def usage_json(usage: Usage) -> Json:
    """Return `usage`."""
    return {
        "prompt_tokens": usage.num_prompt,
        "completion_tokens": usage.num_completion,
        "total_tokens": usage.num_prompt + usage.num_completion,
        "completion_tokens_details": {"reasoning_tokens": usage.num_reasoning},
    }


class _Head:
    """What all parts of an answer begin with."""

    def __init__(self, model: Served, prefix: str, kind: str, *, counts: bool) -> None:
        self._tokenizer = model.tokenizer
        self._counts = counts
        self._fields = {
            "id": f"{prefix}-{secrets.token_hex(12)}",
            "object": kind,
            "created": int(time.time()),
            "model": model.name,
            "system_fingerprint": model.fingerprint,
        }

    def _body(self, choices: list[Json], **more: Any) -> Json:
        return {**self._fields, "choices": choices, **more}

    def _chunk(self, choices: list[Json]) -> Json:
        return self._body(choices, **({"usage": None} if self._counts else {}))

    def _token_text(self, token: int) -> str:
        text: str = self._tokenizer.decode([token])
        return text


class ChatWire(_Head):
    """Chat completions. `has_logprobs` is whether the client asked for them."""

    def __init__(self, model: Served, *, streams: bool, counts: bool, has_logprobs: bool) -> None:
        kind = "chat.completion.chunk" if streams else "chat.completion"
        super().__init__(model, "chatcmpl", kind, counts=counts)
        self._has_logprobs = has_logprobs

    def whole(self, choices: dict[int, Choice], usage: Usage) -> Json:
        """Return the answer to a request that does not stream."""
        written = []
        for index, choice in choices.items():
            reasoning = "".join(choice.reasoning) or None
            message = {
                "role": "assistant",
                "content": "".join(choice.content),
                "refusal": None,
                "reasoning_content": reasoning,
                "reasoning": reasoning,
            }
            written.append({"index": index, "message": message, **self._end(choice)})
        return self._body(written, usage=usage_json(usage))

    def opening(self, num_choices: int) -> list[Json]:
        """Return a chunk per answer that names the role."""
        first = {"delta": {"role": "assistant", "content": ""}, **self._end(Choice()), "logprobs": None}
        return [self._chunk([{"index": index, **first}]) for index in range(num_choices)]

    def chunk(self, index: int, choice: Choice) -> Json:
        """Return the next chunk of an answer, with the fields that have text."""
        delta: Json = {}
        if content := "".join(choice.content):
            delta["content"] = content
        if reasoning := "".join(choice.reasoning):
            delta |= {"reasoning_content": reasoning, "reasoning": reasoning}
        return self._chunk([{"index": index, "delta": delta, **self._end(choice)}])

    def closing(self, usage: Usage) -> Json:
        """Return the chunk that counts tokens."""
        return self._body([], usage=usage_json(usage))

    def _end(self, choice: Choice) -> Json:
        logprobs = None
        if self._has_logprobs:
            logprobs = {"content": [self._logprob(told) for told in choice.logprobs], "refusal": None}
        return {"logprobs": logprobs, "finish_reason": choice.finish, "stop_reason": choice.stop}

    def _logprob(self, told: TokenLogprob) -> Json:
        top = [self._token(token, logprob) for token, logprob in told.top]
        return {**self._token(told.token, told.logprob), "top_logprobs": top}

    def _token(self, token: int, logprob: float) -> Json:
        text = self._token_text(token)
        # A token that is part of a character has no text of its own, and so no bytes here.
        is_whole = "\ufffd" not in text
        return {
            "token": text,
            "logprob": max(_LOWEST, logprob),
            "bytes": list(text.encode()) if is_whole else None,
        }


class CompletionWire(_Head):
    """Plain completions."""

    def __init__(self, model: Served, *, counts: bool, has_logprobs: bool) -> None:
        super().__init__(model, "cmpl", "text_completion", counts=counts)
        self._has_logprobs = has_logprobs
        self._offsets: dict[int, int] = {}

    def whole(self, choices: dict[int, Choice], usage: Usage) -> Json:
        """Return the answer to a request that does not stream."""
        written = [self._choice(index, choice) for index, choice in choices.items()]
        return self._body(written, usage=usage_json(usage))

    def opening(self, num_choices: int) -> list[Json]:
        """Return nothing: there is no role to name."""
        return []

    def chunk(self, index: int, choice: Choice) -> Json:
        """Return the next chunk of an answer."""
        return self._chunk([self._choice(index, choice)])

    def closing(self, usage: Usage) -> Json:
        """Return the chunk that counts tokens."""
        return self._body([], usage=usage_json(usage))

    def _choice(self, index: int, choice: Choice) -> Json:
        return {
            "index": index,
            "text": "".join(choice.content),
            "logprobs": self._logprobs(index, choice) if self._has_logprobs else None,
            "finish_reason": choice.finish,
            "stop_reason": choice.stop,
        }

    def _logprobs(self, index: int, choice: Choice) -> Json:
        tokens = [self._token_text(told.token) for told in choice.logprobs]
        offsets = []
        for text in tokens:
            offsets.append(self._offsets.setdefault(index, 0))
            self._offsets[index] += len(text)
        return {
            "tokens": tokens,
            "token_logprobs": [max(_LOWEST, told.logprob) for told in choice.logprobs],
            "top_logprobs": [self._likeliest(told) for told in choice.logprobs],
            "text_offset": offsets,
        }

    def _likeliest(self, told: TokenLogprob) -> Json:
        """Return the likeliest tokens and the drawn one by text; of equal texts the likelier counts."""
        likeliest: Json = {}
        for token, logprob in (*told.top, (told.token, told.logprob)):
            likeliest.setdefault(self._token_text(token), max(_LOWEST, logprob))
        return likeliest


_LINE_ENDS = str.maketrans({end: f"\\u{ord(end):04x}" for end in "\x85\u2028\u2029"})


def one_line(body: Json) -> str:
    """Return JSON that is one line for every reader of lines.

    JSON itself escapes line feeds only; what else Python and httpx take for the end of a line would cut
    an event in two there.
    """
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).translate(_LINE_ENDS)


def event(body: Json) -> bytes:
    """Return a server-sent event."""
    return f"data: {one_line(body)}\n\n".encode()


DONE = b"data: [DONE]\n\n"
