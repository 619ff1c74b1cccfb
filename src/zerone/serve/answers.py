"""Sends an exchange to its client, streaming or not, and ends it when the client leaves."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from zerone.engine.api import Delta
from zerone.serve.exchange import Exchange
from zerone.serve.refusals import Refusal
from zerone.serve.wire import DONE, WholeWire, Wire, event, merged

_CLIENT_LEFT = 499
"""Nobody reads this status; it is counted in the metrics."""


async def answer_whole(request: Request, exchange: Exchange, wire: WholeWire) -> Response:
    """Return the finished answer, or nothing of use when the client leaves first."""
    work = asyncio.create_task(_collect(exchange))
    gone = asyncio.create_task(_until_gone(request.receive))
    try:
        await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            return Response(status_code=_CLIENT_LEFT)
        body = wire.whole(merged(work.result()), exchange.usage)
        return Response(json.dumps(body, ensure_ascii=False).encode(), media_type="application/json")
    finally:
        work.cancel()
        gone.cancel()
        exchange.close()


async def _collect(exchange: Exchange) -> list[tuple[int, Delta]]:
    return [piece async for pieces in exchange.pieces() for piece in pieces]


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class AnswerStream(StreamingResponse):
    """The answer as server-sent events.

    The exchange is closed here and not in the generator, which never begins when the client leaves
    before the first chunk.
    """

    def __init__(self, exchange: Exchange, events: AsyncIterator[bytes]) -> None:
        self._exchange = exchange
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(events, headers=headers, media_type="text/event-stream")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send everything, until the client leaves."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._exchange.close()


async def events_of(exchange: Exchange, wire: Wire, *, wants_usage: bool) -> AsyncIterator[bytes]:
    """Yield the chunks of a stream that ends with `[DONE]`."""
    opening = wire.opening(exchange.asked.num_choices)
    if opening:
        yield b"".join(map(event, opening))
    try:
        async for pieces in exchange.pieces():
            yield b"".join(event(wire.chunk(index, choice)) for index, choice in merged(pieces).items())
    except Refusal as refusal:  # too late for a status
        failed: dict[str, Any] = refusal.body
        yield event(failed) + DONE
        return
    yield (event(wire.closing(exchange.usage)) if wants_usage else b"") + DONE
