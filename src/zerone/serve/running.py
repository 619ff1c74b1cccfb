"""Runs the server: a socket, a ready line, deadlines for slow senders, and an orderly end.

SIGTERM and Ctrl-C stop the intake; what was accepted is answered, and the process ends with 0.
"""

import asyncio
import signal
import socket
import threading
from collections.abc import Callable, Sequence
from types import FrameType

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from zerone.errors import ConfigError
from zerone.serve.guard import LOOPBACK
from zerone.serve.refusals import Refusal

HEADER_SECONDS = 20.0
DRAIN_SECONDS = 60
_GIVING_UP_SECONDS = 15
"""What engines may take to end after that; one that hangs is killed meanwhile."""
_MAX_HEADER_BYTES = 64 * 1024
_BACKLOG = 1024


class Protocol(H11Protocol):
    """HTTP/1.1 with a deadline for a request's head, and errors in OpenAI's shape."""

    _check: asyncio.TimerHandle | None = None
    _was_stuck = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """Begin to look at the connection now and then."""
        super().connection_made(transport)
        self._check = self.loop.call_later(HEADER_SECONDS / 2, self._look)

    def _look(self) -> None:
        """Close the connection when its first request, or a half-sent one, is overdue.

        Seen twice, since a request may just be arriving. Connections that idle after an answer are
        uvicorn's to close.
        """
        is_half_sent = self.conn.their_state is h11.IDLE and bool(self.conn.trailing_data[0])
        is_stuck = self.cycle is None or is_half_sent
        if is_stuck and self._was_stuck:
            self.transport.close()
            return
        self._was_stuck = is_stuck
        self._check = self.loop.call_later(HEADER_SECONDS / 2, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        """Look no more."""
        if self._check is not None:
            self._check.cancel()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP."""
        body = bytes(Refusal(400, "this is no valid HTTP request", code="invalid_http").response().body)
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            response = h11.Response(status_code=400, headers=headers, reason=b"Bad Request")
            for part in (response, h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(part) or b"")
        self.transport.close()


class Server(uvicorn.Server):
    """Says on standard output when it listens, and where; `stops` end what it is at when time is up."""

    ready_line = ""
    stops: Sequence[Callable[[], None]] = ()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then print the line."""
        await super().startup(sockets)
        print(self.ready_line, flush=True)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer what was accepted; what takes too long fails, and its clients are told so."""
        overdue = asyncio.get_running_loop().call_later(DRAIN_SECONDS, self._give_up)
        try:
            await super().shutdown(sockets)
        finally:
            overdue.cancel()

    def _give_up(self) -> None:
        for stop in self.stops:  # in threads, as they wait for the ends of engines
            threading.Thread(target=stop, daemon=True).start()


def open_socket(host: str, port: int, *, has_keys: bool) -> socket.socket:
    """Return a listening socket; raises ConfigError where it must not or cannot be opened."""
    if not has_keys and host not in LOOPBACK:
        raise ConfigError(
            f"without keys only this machine may ask; give --api-key-file FILE to listen on {host}, "
            "or leave --host at 127.0.0.1"
        )
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        # With the protocol named, asyncio sets TCP_NODELAY on what it accepts: no token waits for another.
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise _cannot_listen(host, port, error) from error
    return listener


def _cannot_listen(host: str, port: int, error: OSError) -> ConfigError:
    return ConfigError(f"cannot listen on {host}, port {port}: {error.strerror}; choose another")


def serve(app: ASGIApp, listener: socket.socket, stops: Sequence[Callable[[], None]]) -> None:
    """Serve until a signal comes, then answer what was accepted, and call `stops` where that takes too long.

    Raises ConfigError where another program has taken the port meanwhile.
    """
    host, port = listener.getsockname()[:2]
    try:  # two servers may hold a port as long as neither listens, while they load their models
        listener.listen(_BACKLOG)
    except OSError as error:
        raise _cannot_listen(host, port, error) from error
    config = uvicorn.Config(
        app,
        http=Protocol,
        ws="none",
        lifespan="on",
        log_level="error",
        access_log=False,
        server_header=False,
        h11_max_incomplete_event_size=_MAX_HEADER_BYTES,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=DRAIN_SECONDS + _GIVING_UP_SECONDS,
        backlog=_BACKLOG,
    )
    server = Server(config)
    server.stops = stops
    server.ready_line = f"listening on http://{f'[{host}]' if ':' in host else host}:{port}"
    # uvicorn raises the signal again once all is done; an orderly end is no failure.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _ignore)
    server.run(sockets=[listener])


def _ignore(_number: int, _frame: FrameType | None) -> None:
    pass
