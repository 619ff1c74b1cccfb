"""A small real server of an OpenAI-compatible API on loopback, for tests of what asks one.

It answers by a function of (path, body); a test scripts refusals, failures and silence in it.
"""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A response to be sent; status 0 closes the connection without one."""

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


Answer = Callable[[str, Mapping[str, Any], Mapping[str, str]], Answered]


def completion(text: str, *, tokens: int = 3, finish: str = "stop", reasoning: str | None = None) -> Answered:
    """Return a response in both shapes at once: of /completions and of /chat/completions."""
    message = {"role": "assistant", "content": text} | ({"reasoning_content": reasoning} if reasoning else {})
    usage = {"prompt_tokens": 5, "completion_tokens": tokens, "total_tokens": 5 + tokens}
    choice = {"index": 0, "text": text, "message": message, "finish_reason": finish}
    return Answered(body={"choices": [choice], "usage": usage})


def refusal(status: int, message: str, **headers: str) -> Answered:
    """Return an error in OpenAI's shape."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answered(status=status, body={"error": {"message": message}}, headers=named)


@dataclass(slots=True)
class Server:
    """A running server: its address, and the bodies of the requests that it got."""

    url: str
    asked: list[Mapping[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    most_at_once: int = 0
    at_once: int = 0
    lock: Any = field(default_factory=threading.Lock)


@contextmanager
def serving(answer: Answer) -> Iterator[Server]:
    """Serve on a free port of loopback while the context lasts."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._respond({})

        def do_POST(self) -> None:
            self._respond(json.loads(self.rfile.read(int(self.headers["content-length"]))))

        def _respond(self, body: Mapping[str, Any]) -> None:
            with server.lock:
                server.asked.append(body)
                server.keys.append(self.headers.get("authorization"))
                server.at_once += 1
                server.most_at_once = max(server.most_at_once, server.at_once)
            answered = answer(self.path, body, dict(self.headers))
            with server.lock:
                server.at_once -= 1
            if answered.status == 0:
                self.close_connection = True
                return
            data = answered.body if isinstance(answered.body, bytes) else json.dumps(answered.body).encode()
            self.send_response(answered.status)
            for name, value in answered.headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listening.daemon_threads = True
    server = Server(url=f"http://127.0.0.1:{listening.server_address[1]}/v1")
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        listening.shutdown()
        thread.join()
        listening.server_close()
