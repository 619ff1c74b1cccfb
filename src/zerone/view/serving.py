"""Serves an application on loopback and says when it is ready.

In: an application and a port (0 picks a free one). Out: one line `listening on http://HOST:PORT` on
standard output once requests are answered; it ends with Ctrl-C or SIGTERM.
"""

import socket
from typing import TYPE_CHECKING

import uvicorn

from zerone.errors import UserError

if TYPE_CHECKING:
    from fastapi import FastAPI

HOST = "127.0.0.1"


def bind(port: int) -> socket.socket:
    """Return a listening place on loopback; raises UserError where the port is not to be had."""
    # By name: asyncio sends small answers at once (TCP_NODELAY) only where the protocol is known, and
    # without it each answer waits 40 ms for an acknowledgement.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
    except (OSError, OverflowError) as error:
        listener.close()
        raise UserError(f"cannot listen on {HOST}:{port}: {error}; --port 0 picks a free port") from error
    return listener


class _Server(uvicorn.Server):
    """A server that prints the ready line after it has begun to listen."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        for listener in sockets or []:
            host, port = listener.getsockname()
            print(f"listening on http://{host}:{port}", flush=True)


def serve(app: "FastAPI", port: int) -> None:
    """Answer requests until a signal ends it."""
    with bind(port) as listener:
        _Server(uvicorn.Config(app, log_level="warning", lifespan="off")).run(sockets=[listener])
