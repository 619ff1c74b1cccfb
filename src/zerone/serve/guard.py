"""What every request passes before anything else sees it: host, key, size and time of its body.

Nothing is let in for its address but `/health`, so no way of writing an address leads past the
keys. A body is read whole, within a limit and a deadline, before it is looked at.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from zerone.serve.keys import NO_KEY, Keys
from zerone.serve.refusals import Refusal

MAX_BODY_BYTES = 1 << 20

LOOPBACK = ("127.0.0.1", "localhost", "[::1]", "::1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """An ASGI application around another one; `count` learns address, status and key of each answer.

    Without keys the server listens on loopback only; then the Host header must say so too, or a
    page on the web could talk to it by way of a name that it lets point here.
    """

    app: ASGIApp
    keys: Keys | None
    count: Callable[[str, int, str], None]
    body_seconds: float = 30.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        state = scope["state"]
        state["key"] = NO_KEY

        async def send_counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.count(scope["path"], message["status"], state["key"])
            await send(message)

        try:
            _check_framing(scope, headers)
            state["key"] = self._admit(scope, headers)
            body = await self._read_body(headers, receive)
        except Refusal as refusal:
            await refusal.response()(scope, receive, send_counted)
            return
        if body is not None:
            await self.app(scope, _Replay(body, receive), send_counted)

    def _admit(self, scope: Scope, headers: dict[bytes, bytes]) -> str:
        """Return the name of the key; raises Refusal."""
        is_health = scope["path"] == "/health" and scope["method"] in ("GET", "HEAD")
        if self.keys is None:
            host = headers.get(b"host", b"localhost").decode("latin-1").lower()
            name = host if host.endswith("]") else host.rpartition(":")[0] or host
            if name not in LOOPBACK:
                raise Refusal(
                    403, "without a key file only loopback may ask; open http://127.0.0.1", code="wrong_host"
                )
            return NO_KEY
        found = self.keys.name_of(headers.get(b"authorization", b""))
        if found is None and not is_health:
            # Browsers ask for a password only when told so; API clients must not be.
            scheme = "Basic" if scope["path"] == "/" else "Bearer"
            raise Refusal(
                401,
                "no valid API key; send `Authorization: Bearer KEY` with a key of the server's key file",
                kind="authentication_error",
                code="invalid_api_key",
                headers={"WWW-Authenticate": f'{scheme} realm="zerone"'},
            )
        return found or NO_KEY

    async def _read_body(self, headers: dict[bytes, bytes], receive: Receive) -> bytes | None:
        """Return the body, or None when the client left; raises Refusal when it is too large or slow."""
        too_large = Refusal(
            413,
            f"a body may have {MAX_BODY_BYTES} bytes",
            code="body_too_large",
            headers={"Connection": "close"},
        )
        declared = headers.get(b"content-length", b"0")
        if not declared.isdigit() or len(declared) > 12 or int(declared) > MAX_BODY_BYTES:
            raise too_large
        body = bytearray()
        try:
            async with asyncio.timeout(self.body_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    body += message.get("body", b"")
                    if len(body) > MAX_BODY_BYTES:
                        raise too_large
                    if not message.get("more_body", False):
                        return bytes(body)
        except TimeoutError as error:
            raise Refusal(
                408,
                f"the body did not arrive within {self.body_seconds:g} seconds",
                code="body_too_slow",
                headers={"Connection": "close"},
            ) from error


def _check_framing(scope: Scope, headers: dict[bytes, bytes]) -> None:
    """Refuse a body whose end is said in two ways, and end the connection.

    A proxy that goes by the one and a server that goes by the other see different requests behind it, and
    so may one client's request be taken for another's (RFC 9112, 6.1).
    """
    if b"transfer-encoding" in headers and (
        b"content-length" in headers or scope.get("http_version") in ("0.9", "1.0")
    ):
        raise Refusal(
            400,
            "send Content-Length or, in HTTP/1.1, Transfer-Encoding: the two together are ambiguous",
            code="invalid_http",
            headers={"Connection": "close"},
        )


class _Replay:
    """A `receive` that first gives the body that was read, then what comes after it."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._first: deque[Message] = deque([{"type": "http.request", "body": body, "more_body": False}])
        self._receive = receive

    async def __call__(self) -> Message:
        """Return the next message."""
        return self._first.popleft() if self._first else await self._receive()
