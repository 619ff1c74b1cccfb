"""Bytes that no client library would send, by raw sockets: nothing gets past the keys, nothing falls over."""

import base64
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import zerone.serve.guard
from serving import KEY, Live, chat


@pytest.fixture(autouse=True)
def survives(server: Live) -> Iterator[None]:
    """After every attack the server is well and nothing is left over."""
    yield
    assert json.loads(server.get("/health")) == {"status": "ok"}
    server.wait_until_idle()


def send(server: Live, data: bytes, *, seconds: float = 10.0) -> bytes:
    """Send bytes and return everything that comes back until the server closes or falls silent."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=seconds) as connection:
        received = b""
        try:
            connection.sendall(data)
            while part := connection.recv(65536):
                received += part
        except (TimeoutError, ConnectionError):
            pass
        return received


def request(target: str, *headers: str, method: str = "GET", body: bytes = b"") -> bytes:
    lines = [f"{method} {target} HTTP/1.1", "Host: 127.0.0.1", "Connection: close", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def status_of(answer: bytes) -> int:
    assert answer.startswith(b"HTTP/1.1 "), answer[:80]
    return int(answer.split()[1])


def assert_openai_shaped(answer: bytes) -> None:
    error = json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
    assert set(error) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    "target",
    [
        "//v1/models",
        "/v1/../v1/models",
        "/v1/./models",
        "/v1//models",
        "/v1/models/",
        "/V1/models",
        "/health/../v1/models",
        "/health/",
        "/health?x=/v1/models",
        "/health%2f..%2fv1%2fmodels",
        "/%76%31/models",
        "http://127.0.0.1/v1/models",
        "http://127.0.0.1/health/../v1/models",
        "/health;/v1/models",
        "/health#/v1",
        "/v1/models%00",
        "/metrics?health",
        "*",
        "/",
        "/openapi.json",
        "/docs",
        "/redoc",
        "/static/../../etc/passwd",
    ],
)
def test_no_way_of_writing_an_address_leads_past_the_key(server: Live, target: str) -> None:
    answer = send(server, request(target))
    if target.startswith("/health?"):  # this is /health, and says so
        assert answer.endswith(b'{"status":"ok"}')
        return
    assert status_of(answer) in (400, 401, 404)
    assert b"embedded" not in answer
    assert_openai_shaped(answer)


@pytest.mark.parametrize(
    "header",
    [
        "X-Forwarded-Prefix: /health",
        "X-Original-URL: /health",
        "X-Rewrite-URL: /health",
        "Host: health",
        "Authorization: Bearer",
        "Authorization:",
        f"Authorization: {KEY}",
        f"X-Api-Key: {KEY}",
        "Authorization: Basic !!!!",
        "Authorization: Basic dGVzdGVyOnh4",
        "Cookie: key=" + KEY,
    ],
)
def test_no_header_leads_past_the_key(server: Live, header: str) -> None:
    answer = send(server, request("/v1/models", header))
    assert status_of(answer) in (400, 401)


def test_a_browser_is_asked_for_the_key_and_may_give_it_as_password(server: Live) -> None:
    assert b'www-authenticate: Basic realm="zerone"' in send(server, request("/")).lower().replace(
        b"basic", b"Basic"
    )
    credentials = "Authorization: Basic " + base64.b64encode(f"any:{KEY}".encode()).decode()
    page = send(server, request("/", credentials))
    assert status_of(page) == 200
    assert b"content-security-policy: default-src 'none'" in page.lower()


def test_huge_headers_are_refused_and_not_kept(server: Live) -> None:
    before = _memory_kib(server)
    for _ in range(3):
        answer = send(server, request("/health", "X: " + "a" * (16 << 20)))
        assert answer == b"" or status_of(answer) in (400, 431)
    many = send(server, request("/health", *(f"X-{i}: {'b' * 1000}" for i in range(2000))))
    assert many == b"" or status_of(many) in (400, 431)
    assert _memory_kib(server) - before < 64 * 1024


def _memory_kib(server: Live) -> int:
    status = Path(f"/proc/{server.process.pid}/status").read_text(encoding="utf-8")
    return int(status.partition("VmRSS:")[2].split()[0])


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01",
        b"GET\r\n\r\n",
        b"\r\n" * 1000,
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x00" * 5000,
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nbad header\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        "GET /é HTTP/1.1\r\n\r\n".encode(),
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET ws://a/ HTTP/1.1\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
    ],
)
def test_what_is_no_http_is_refused(server: Live, data: bytes) -> None:
    answer = send(server, data, seconds=0.4)
    assert answer == b"" or status_of(answer) in (400, 401, 404, 413)


def _post(body: bytes, *headers: str) -> bytes:
    return request(
        "/v1/chat/completions",
        f"Authorization: Bearer {KEY}",
        "Content-Type: application/json",
        *headers,
        method="POST",
        body=body,
    )


@pytest.mark.parametrize("authorized", [True, False])
@pytest.mark.parametrize(
    "lines",
    [
        ("Content-Length: 4", "Transfer-Encoding: chunked"),
        ("Transfer-Encoding: chunked", "Content-Length: 4"),
        ("transfer-ENCODING:chunked", "content-length:0"),
        ("Transfer-Encoding: chunked", "Content-Length: 100000"),
        ("Transfer-Encoding: Chunked", "Content-Length: 4", "Content-Length: 4"),
    ],
)
def test_a_body_with_two_ends_closes_the_connection(
    server: Live, lines: tuple[str, ...], authorized: bool
) -> None:
    """What follows would be a request to one reader and a body to another."""
    key = [f"Authorization: Bearer {KEY}"] if authorized else []
    head = ["POST /v1/chat/completions HTTP/1.1", "Host: 127.0.0.1", *key, *lines, "", ""]
    hidden = b"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer %s\r\n\r\n" % KEY.encode()
    begun = time.monotonic()
    answer = send(server, "\r\n".join(head).encode() + b"0\r\n\r\n" + hidden)
    assert time.monotonic() - begun < 5, "the connection stays open"
    assert answer.count(b"HTTP/1.1 ") == 1
    assert status_of(answer) == 400
    assert b"connection: close" in answer.lower()
    assert_openai_shaped(answer)
    assert b"embedded" not in answer


def test_chunks_in_an_old_version_of_http_are_refused(server: Live) -> None:
    head = b"POST /v1/completions HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    assert status_of(send(server, head + b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")) == 400


def test_a_body_beyond_the_limit_is_refused_before_it_is_read(server: Live) -> None:
    answer = send(server, _post(b"", "Content-Length: 2000000000"))
    assert status_of(answer) == 413
    assert_openai_shaped(answer)


def test_a_chunked_body_beyond_the_limit_is_refused(server: Live) -> None:
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    answer = send(server, _post(chunk * 20, "Transfer-Encoding: chunked"))
    assert answer == b"" or status_of(answer) == 413


def test_a_megabyte_of_question_is_refused_by_its_length(server: Live) -> None:
    body = json.dumps(chat("a" * 1_000_000)).encode()
    assert len(body) < zerone.serve.guard.MAX_BODY_BYTES
    begun = time.monotonic()
    answer = send(server, _post(body, f"Content-Length: {len(body)}"))
    assert status_of(answer) == 400
    assert b"context_length_exceeded" in answer
    assert time.monotonic() - begun < 10.0


def test_a_request_may_come_byte_by_byte_and_chunked(server: Live) -> None:
    body = json.dumps(chat(max_tokens=2)).encode()
    chunks = b"".join(
        b"%x\r\n%s\r\n" % (len(body[i : i + 9]), body[i : i + 9]) for i in range(0, len(body), 9)
    )
    data = _post(chunks + b"0\r\n\r\n", "Transfer-Encoding: chunked")
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        for i in range(0, len(data), 40):
            connection.sendall(data[i : i + 40])
            time.sleep(0.002)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")


def test_idle_and_half_sent_connections_do_not_hold_up_others(server: Live) -> None:
    silent = [socket.create_connection(("127.0.0.1", server.port), timeout=10) for _ in range(200)]
    try:
        for connection in silent[::2]:
            connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ")
        begun = time.monotonic()
        server.get("/health")
        assert time.monotonic() - begun < 5.0
    finally:
        for connection in silent:
            connection.close()


@pytest.mark.slow
def test_slow_senders_are_dropped_at_a_deadline(server: Live) -> None:
    begun = time.monotonic()
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as head:
        head.sendall(b"GET /health HTTP/1.1\r\nX: ")
        assert head.recv(100) == b""
    assert time.monotonic() - begun < 45
    answer = send(server, _post(b"{", "Content-Length: 100"), seconds=60)
    assert status_of(answer) == 408


def test_pipelined_requests_are_answered_in_order(server: Live) -> None:
    first = request("/health").replace(b"Connection: close\r\n", b"")
    answer = send(server, first + request("/v1/models"))
    assert answer.count(b"HTTP/1.1 ") == 2
    assert answer.index(b"200 OK") < answer.index(b"401 ")


def test_expect_continue_is_honoured(server: Live) -> None:
    body = json.dumps(chat(max_tokens=1)).encode()
    head = _post(b"", f"Content-Length: {len(body)}", "Expect: 100-continue")
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(head)
        assert connection.recv(1000).startswith(b"HTTP/1.1 100")
        connection.sendall(body)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")


def test_without_keys_a_foreign_host_name_is_refused(open_server: Live) -> None:
    """A page on the web can let a name of its own point to 127.0.0.1."""
    foreign = request("/v1/models").replace(b"Host: 127.0.0.1", b"Host: evil.example")
    assert status_of(send(open_server, foreign)) == 403
    assert b"embedded" in send(open_server, request("/v1/models"))
    local = request("/v1/models").replace(b"127.0.0.1", b"localhost:%d" % open_server.port)
    assert status_of(send(open_server, local)) == 200
