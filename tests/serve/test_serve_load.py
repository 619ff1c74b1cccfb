"""Many clients, and clients that leave: what was accepted is answered, what nobody waits for is not made."""

import concurrent.futures
import dataclasses
import http.client
import json
import os
import random
import signal
import socket
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from serving import KEY, Live, chat, events, live_server
from zerone.engine.api import Deliver, Failure, Request, sink_all
from zerone.serve import running
from zerone.serve.application import create_app
from zerone.serve.models import Limits, open_model
from zerone.serve.telemetry import Prices

HEADERS = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A server with few places: two answers at once, two waiting."""
    with live_server(tmp_path_factory.mktemp("load"), "--slots", "2", "--queue", "2") as live:
        yield live


def ask(server: Live, text: str = "What is 3 + 4?", **fields: Any) -> tuple[int, dict[str, str], str, float]:
    """Return status, headers, body and seconds."""
    begun = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("POST", "/v1/chat/completions", json.dumps(chat(text, **fields)), HEADERS)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, {k.lower(): v for k, v in answer.getheaders()}, text, time.monotonic() - begun


def leave(server: Live, rng: random.Random) -> None:
    """Ask, then close the connection at a random moment."""
    fields = {"max_tokens": 900, "stream": rng.random() < 0.5, "n": rng.choice([1, 2]), "temperature": 1.5}
    # "@@" keeps the base model busy until the end of its context more often than a sum does.
    body = json.dumps(chat("@@ " * rng.choice([1, 200]), **fields)).encode()
    head = "".join(f"{name}: {value}\r\n" for name, value in HEADERS.items())
    data = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\n{head}Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(data[: rng.choice([len(data), len(data), len(data) - 5])])
        time.sleep(rng.random() * 0.1)


def num_threads_and_files(server: Live) -> tuple[int, int]:
    process = Path(f"/proc/{server.process.pid}")
    return len(list((process / "task").iterdir())), len(list((process / "fd").iterdir()))


def disconnect(server: Live, times: int) -> None:
    rng = random.Random(0)
    leave(server, rng)
    server.wait_until_idle()
    before = num_threads_and_files(server)
    for _ in range(times):
        leave(server, rng)
    assert server.wait_until_idle() < 1.0
    time.sleep(0.1)
    after = num_threads_and_files(server)
    assert after[0] <= before[0] + 6  # idle workers that tokenise
    assert after[1] <= before[1] + 2


def test_answers_stop_when_their_clients_leave(small: Live) -> None:
    disconnect(small, 12)
    assert small.metric("zerone_rows_cancelled_total") > 0


@pytest.mark.slow
def test_two_hundred_clients_that_leave_leave_nothing_behind(tmp_path: Path) -> None:
    with live_server(tmp_path) as server:
        disconnect(server, 200)


def test_a_client_that_leaves_a_whole_answer_stops_it(small: Live) -> None:
    """Not streaming: nothing is sent that could fail, so the server must watch for the end."""
    body = json.dumps(chat("@@", max_tokens=900, temperature=2.0, n=2)).encode()
    connection = http.client.HTTPConnection("127.0.0.1", small.port, timeout=10)
    connection.request("POST", "/v1/chat/completions", body, HEADERS)
    until = time.monotonic() + 5
    while not small.metric("zerone_rows_active") and time.monotonic() < until:
        time.sleep(0.005)
    connection.close()
    assert small.wait_until_idle() < 1.0


def test_a_full_queue_answers_at_once_and_accepted_requests_finish(small: Live) -> None:
    """One after the other, while both slots decode: half the refusals are there within 50 ms."""
    fields = {"max_tokens": 500, "temperature": 2.0}
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        # The first of them may end before the last one comes; then some of the others are accepted.
        waiting = [pool.submit(ask, small, "@@", seed=seed, **fields) for seed in range(4)]
        until = time.monotonic() + 10
        while small.metric("zerone_rows_active") + small.metric("zerone_rows_waiting") < 4:
            assert time.monotonic() < until
            if any(answer.done() for answer in waiting):
                break
        answers = [ask(small, "@@", seed=seed, **fields) for seed in range(4, 24)]
        served = [answer.result() for answer in waiting]
    refused = [answer for answer in answers if answer[0] == 429]
    served += [answer for answer in answers if answer[0] != 429]
    assert len(refused) >= 5
    for _, headers, text, _ in refused:
        assert int(headers["retry-after"]) >= 1
        assert json.loads(text)["error"]["code"] == "queue_full"
    assert statistics.median(seconds for *_, seconds in refused) < 0.05
    for status, _, text, _ in served:
        assert status == 200
        assert json.loads(text)["choices"][0]["finish_reason"] in ("stop", "length")


def test_more_answers_than_there_are_places_for_is_no_matter_of_waiting(small: Live) -> None:
    status, _, text, _ = ask(small, n=5, max_tokens=2)
    assert (status, json.loads(text)["error"]["param"]) == (400, "n")


def test_health_is_quick_while_answers_are_made(small: Live) -> None:
    thread = threading.Thread(
        target=ask, args=(small, "@@"), kwargs={"max_tokens": 500, "temperature": 2.0, "n": 2}
    )
    thread.start()
    slowest = 0.0
    for _ in range(20):
        begun = time.monotonic()
        small.get("/health")
        slowest = max(slowest, time.monotonic() - begun)
    thread.join()
    assert slowest < 0.5


def test_sigterm_finishes_what_was_accepted_and_ends_with_0(tmp_path: Path) -> None:
    with live_server(tmp_path, "--slots", "1") as server:
        fields: dict[str, Any] = {"max_tokens": 300, "temperature": 2.0, "stream": True}
        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            answers = [pool.submit(ask, server, "@@", **fields) for _ in range(3)]
            until = time.monotonic() + 10
            while server.metric("zerone_rows_active") + server.metric("zerone_rows_waiting") < 3:
                assert time.monotonic() < until
                if any(answer.done() for answer in answers):
                    break
            server.process.send_signal(signal.SIGTERM)
            for answer in answers:
                status, _, text, _ = answer.result()
                assert status == 200
                assert events(text)[-1]["choices"][0]["finish_reason"]
        assert server.process.wait(timeout=20) == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port), timeout=1).close()


class Endless:
    """An engine that says nothing of its jobs until it is stopped."""

    capacity, is_alive, num_active, num_waiting, num_cancelled = 8, True, 0, 0, 0
    fault: str | None = None

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.deliver: Deliver = sink_all

    def start(self, deliver: Deliver | None = None) -> None:
        self.deliver = deliver or sink_all

    def stop(self) -> None:
        self.deliver([(job, Failure(message="the server is stopping")) for job in self.requests])
        self.requests = []

    def submit(self, jobs: Sequence[Request]) -> None:
        self.requests += jobs

    def cancel(self, jobs: Sequence[Request]) -> None:
        pass


def post(port: int, **fields: Any) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("POST", "/v1/chat/completions", json.dumps(chat(**fields)), HEADERS)
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def test_clients_whose_answers_take_too_long_are_told_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "DRAIN_SECONDS", 0.5)
    engine = Endless()
    served = dataclasses.replace(open_model("embedded", Limits()), scheduler=engine)
    listener = running.open_socket("127.0.0.1", 0, has_keys=False)
    port = listener.getsockname()[1]

    def end() -> None:
        until = time.monotonic() + 30
        while len(engine.requests) < 2 and time.monotonic() < until:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        listener.listen()  # so that both may ask before it serves
        whole, streamed = pool.submit(post, port), pool.submit(post, port, stream=True)
        pool.submit(end)
        try:
            running.serve(create_app([served], None, Prices.read("1,1")), listener, [engine.stop])
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        status, text = whole.result()
        assert (status, json.loads(text)["error"]["message"]) == (503, "the server is stopping")
        status, text = streamed.result()
        assert status == 200
        assert events(text)[-1]["error"]["message"] == "the server is stopping"
