"""The listening socket: what holds for every connection that it accepts."""

import asyncio
import socket

import pytest

from zerone.errors import ConfigError
from zerone.serve.guard import Guard
from zerone.serve.running import open_socket, serve


def test_small_pieces_of_a_stream_leave_at_once() -> None:
    async def accepted() -> int:
        seen: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        async def look(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connection = writer.get_extra_info("socket")
            seen.set_result(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        listener = open_socket("127.0.0.1", 0, has_keys=False)
        async with await asyncio.start_server(look, sock=listener):
            _, writer = await asyncio.open_connection(*listener.getsockname())
            found = await seen
            writer.close()
            return found

    assert asyncio.run(accepted()) == 1


def test_of_two_servers_that_loaded_at_once_the_later_is_refused_its_port() -> None:
    """Neither listens while it loads, so both could have the same port until then."""
    first = open_socket("127.0.0.1", 0, has_keys=False)
    port = first.getsockname()[1]
    second = open_socket("127.0.0.1", port, has_keys=False)
    with first, second:
        first.listen()

        async def app(*_: object) -> None:
            raise AssertionError("it was started all the same")

        guarded = Guard(app=app, keys=None, count=lambda *_: None)
        with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1, port {port}: Address already"):
            serve(guarded, second, [])
