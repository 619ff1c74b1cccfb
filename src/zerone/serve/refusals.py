"""What a client is told when it cannot be served, always in OpenAI's shape.

`{"error": {"message", "type", "param", "code"}}` with a 4xx or 503 status. Messages say what was
given and what to do, and never repeat more of a request than the name of a field.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from zerone.serve.neutral import NEUTRAL
from zerone.serve.schemas import ITEMS, TEXT, TOKENS

_TOO_LONG = "context_length_exceeded"


class Refusal(Exception):
    """A request that is answered with an error."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}
        self.headers = dict(headers or {})

    def renamed(self, prompt: str, limit: str) -> "Refusal":
        """Return what `too_long` says, in the words of an address whose fields have other names."""
        error = self.body["error"]
        if error["code"] != _TOO_LONG:
            return self
        message = str(error["message"]).replace("max_completion_tokens", limit)
        return Refusal(self.status, message, param=prompt, code=_TOO_LONG)

    def response(self) -> Response:
        """Return the answer; escaped to ASCII, so that even a lone surrogate in a name can be sent."""
        content = json.dumps(self.body, ensure_ascii=True).encode()
        return Response(content, self.status, self.headers, media_type="application/json")


def overloaded() -> Refusal:
    """Return the answer of a full queue."""
    return Refusal(
        429,
        "the queue is full; try again after the time in Retry-After",
        kind="rate_limit_error",
        code="queue_full",
        headers={"Retry-After": "1"},
    )


def unavailable(message: str) -> Refusal:
    """Return the answer of a server that cannot decode now."""
    return Refusal(503, message, kind="server_error", code="unavailable", headers={"Retry-After": "5"})


def broken(message: str) -> Refusal:
    """Return the answer of a model that cannot be decoded; asking again would not help."""
    return Refusal(500, message, kind="server_error", code="model_broken")


def too_long(num_prompt: int | None, max_tokens: int | None, context: int) -> Refusal:
    """Return the answer to what exceeds the model's context."""
    size = "more tokens than that" if num_prompt is None else f"{num_prompt} tokens"
    wanted = "" if max_tokens is None else f" and {max_tokens} are wanted for the answer"
    return Refusal(
        400,
        f"this model's context is {context} tokens, but the prompt has {size}{wanted}; shorten it"
        + (" or lower max_completion_tokens" if max_tokens is not None else ""),
        param="messages",
        code=_TOO_LONG,
    )


async def answer_refusal(_request: Request, refusal: Exception) -> Response:
    """Handle a Refusal."""
    if not isinstance(refusal, Refusal):
        raise refusal
    return refusal.response()


async def answer_invalid(_request: Request, error: Exception) -> Response:
    """Handle a body that is not what its schema says."""
    if not isinstance(error, RequestValidationError):
        raise error
    message, param = _describe(error.errors())
    return Refusal(400, message, param=param, code="invalid_value").response()


async def answer_http(_request: Request, error: Exception) -> Response:
    """Handle what the router refuses: unknown addresses and methods, unreadable bodies."""
    if not isinstance(error, HTTPException):
        raise error
    messages = {
        404: "there is nothing at this address; the API is under /v1",
        405: "this address takes another method",
        400: "the body cannot be read; send a JSON object",
    }
    message = messages.get(error.status_code, str(error.detail))
    refusal = Refusal(error.status_code, message, headers=error.headers)
    return refusal.response()


async def answer_failure(_request: Request, _error: Exception) -> Response:
    """Handle a fault of our own; the log has the details, the client gets none."""
    return Refusal(500, "the server failed; its log says why", kind="server_error").response()


def _describe(errors: Sequence[Mapping[str, Any]]) -> tuple[str, str | None]:
    """Return the first fault in words, and the field that it is in."""
    first = errors[0]
    if first["type"] == "json_invalid":
        return "the body is not valid JSON", None
    names = [str(part)[:64] for part in first["loc"] if part not in ("body", TEXT, ITEMS, TOKENS)]
    if not names and first["type"] == "value_error":  # of fields that do not go together
        return str(first["msg"]).removeprefix("Value error, "), None
    if not names:
        return "the body must be a JSON object, sent with Content-Type: application/json", None
    field = ".".join(names)
    if first["type"] == "extra_forbidden":
        known = NEUTRAL.get(field)
        if known is not None:
            said = (
                f"{field}: this server cannot do what this value asks for; leave it out or send {known.told}"
            )
            return said, names[0]
        return f"{field} is not a field that this server supports; leave it out", names[0]
    reason = str(first["msg"]).removeprefix("Value error, ")
    return f"{field}: {reason}", names[0]
