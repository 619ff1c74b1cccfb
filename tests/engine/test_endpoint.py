"""The client of endpoints against a real server on loopback: patience, refusals, bounds, keys."""

import threading
import time
from collections.abc import Iterator
from email.utils import formatdate
from typing import Any

import pytest

from model_server import Answered, completion, refusal, serving
from zerone.engine.remote import Draw, Endpoint, EndpointClient, Reply, ask_many, key_from_environment
from zerone.errors import EndpointError, EndpointUnusable, RequestRefused

HELLO = [{"role": "user", "content": "hello"}]


def client_of(url: str, **options: Any) -> EndpointClient:
    return EndpointClient(
        Endpoint(url=url, model="m", **{"first_pause_s": 0.01, "tries": 3, "timeout_s": 5.0} | options)
    )


def test_a_chat_and_a_completion_are_read_with_their_tokens() -> None:
    with (
        serving(lambda *_: completion("hi", tokens=7, finish="length")) as server,
        client_of(server.url) as client,
    ):
        chat, text = client.chat(HELLO, Draw()), client.complete("hello", Draw())
    wanted = Reply(text="hi", reasoning="", is_truncated=True, prompt_tokens=5, completion_tokens=7)
    assert chat == text == wanted
    assert server.asked == [{"model": "m", "messages": HELLO}, {"model": "m", "prompt": "hello"}]


def test_a_thought_told_apart_comes_back_in_tags() -> None:
    with (
        serving(lambda *_: completion("42", reasoning="six times seven")) as server,
        client_of(server.url) as client,
    ):
        assert client.chat(HELLO, Draw()).whole == "<think>six times seven</think>\n42"


def test_only_what_differs_from_a_default_is_sent_and_seeds_fit_into_31_bits() -> None:
    draw = Draw(temperature=0.0, top_p=0.95, max_tokens=9, stop=("x",), seed=2**40 + 3)
    assert draw.fields() == {"temperature": 0.0, "top_p": 0.95, "max_tokens": 9, "stop": ["x"], "seed": 3}


@pytest.mark.parametrize(
    "stumble",
    [
        refusal(503, "busy"),
        refusal(429, "slow down", retry_after="0"),
        Answered(status=200, body=b"not json"),
        Answered(status=200, body={"choices": []}),
        Answered(status=0),
    ],
    ids=["503", "429", "no JSON", "no choice", "closed"],
)
def test_a_server_that_stumbles_is_asked_again(stumble: Answered) -> None:
    answers = iter([stumble, completion("hi")])
    with serving(lambda *_: next(answers)) as server, client_of(server.url) as client:
        assert client.chat(HELLO, Draw()).text == "hi"
        assert len(server.asked) == 2


@pytest.mark.parametrize("wait", ["1", "date"])
def test_retry_after_is_waited_for_in_seconds_or_as_a_date(wait: str) -> None:
    def answers() -> Iterator[Answered]:
        value = formatdate(time.time() + 2, usegmt=True) if wait == "date" else wait
        yield refusal(429, "later", retry_after=value)
        yield completion("hi")

    answer = answers()
    with serving(lambda *_: next(answer)) as server, client_of(server.url) as client:
        start = time.monotonic()
        client.chat(HELLO, Draw())
        # A date has whole seconds: two from now are more than one.
        assert time.monotonic() - start >= 0.95


def test_a_silent_server_is_given_up_after_so_many_tries_with_its_last_word() -> None:
    with (
        serving(lambda *_: refusal(500, "on fire")) as server,
        client_of(server.url) as client,
        pytest.raises(EndpointError, match=r"asked 3 times; HTTP 500: on fire"),
    ):
        client.chat(HELLO, Draw())
    with client_of(server.url) as client, pytest.raises(EndpointError, match="does not answer"):
        client.chat(HELLO, Draw())  # nobody listens there any more


def test_a_server_that_wants_to_be_left_alone_for_an_hour_is() -> None:
    answer = refusal(429, "quota", retry_after="3600")
    with (
        serving(lambda *_: answer) as server,
        client_of(server.url) as client,
        pytest.raises(EndpointError, match="asked 1 times; HTTP 429: quota"),
    ):
        client.chat(HELLO, Draw())


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, RequestRefused), (413, RequestRefused), (401, EndpointUnusable), (404, EndpointUnusable)],
)
def test_refusals_are_not_repeated(status: int, kind: type[EndpointError]) -> None:
    with serving(lambda *_: refusal(status, "no")) as server, client_of(server.url) as client:
        with pytest.raises(kind, match=f"HTTP {status}: no"):
            client.chat(HELLO, Draw())
        assert len(server.asked) == 1


def test_the_key_is_sent_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZERONE_API_KEY", " secret ")
    endpoint = Endpoint(url="http://127.0.0.1:1", model="m", api_key=key_from_environment())
    assert "secret" not in repr(endpoint)
    with (
        serving(lambda *_: completion("hi")) as server,
        client_of(server.url, api_key=key_from_environment()) as client,
    ):
        client.chat(HELLO, Draw())
    assert server.keys == ["Bearer secret"]


@pytest.mark.parametrize("url", ["ftp://here", "http://", "nonsense"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(EndpointUnusable):
        client_of(url)


def test_addresses_are_taken_with_or_without_version_and_path() -> None:
    for url in (
        "http://h:1",
        "http://h:1/v1/",
        "http://h:1/v1/chat/completions",
        "http://h:1/v1/completions",
    ):
        assert Endpoint(url=url, model="m").address == "http://h:1/v1"


def test_models_are_listed() -> None:
    with (
        serving(lambda *_: Answered(body={"data": [{"id": "a"}, {"id": "b"}]})) as server,
        client_of(server.url) as client,
    ):
        assert client.models() == ["a", "b"]


def test_many_are_asked_at_once_but_not_more_than_allowed() -> None:
    together = threading.Barrier(4)

    def answer(*_: Any) -> Answered:
        together.wait(timeout=10)  # passes only if four are there at once
        return completion("hi")

    with serving(answer) as server, client_of(server.url, concurrency=4) as client:
        done = dict(ask_many(client, range(12), lambda job: client.complete(str(job), Draw()).text))
    assert done == dict.fromkeys(range(12), "hi")
    assert server.most_at_once == 4


def test_a_refused_request_is_a_result_among_the_others() -> None:
    def answer(path: str, body: Any, headers: Any) -> Answered:
        return refusal(400, "too long") if body["prompt"] == "3" else completion("hi")

    with serving(answer) as server, client_of(server.url, concurrency=2) as client:
        done = dict(ask_many(client, range(6), lambda job: client.complete(str(job), Draw()).text))
    assert [job for job, result in done.items() if isinstance(result, RequestRefused)] == [3]


def test_what_was_answered_before_an_endpoint_died_is_kept() -> None:
    count = iter(range(10_000))

    def answer(*_: Any) -> Answered:
        return completion("hi") if next(count) < 10 else refusal(500, "gone")

    kept = []
    with serving(answer) as server, client_of(server.url, concurrency=4) as client:
        with pytest.raises(EndpointError, match="gone"):
            for job, _ in ask_many(client, range(1000), lambda job: client.complete(str(job), Draw())):
                kept.append(job)
        assert len(kept) == 10
        assert len(server.asked) < 40, "the rest is not asked of a dead endpoint"


def test_who_stops_listening_does_not_wait_for_a_silent_server() -> None:
    speaks = threading.Event()

    def answer(path: str, body: Any, headers: Any) -> Answered:
        if body["prompt"] != "0":
            speaks.wait(timeout=30)
        return completion("hi")

    with serving(answer) as server, client_of(server.url, concurrency=2, timeout_s=30.0) as client:
        answers = ask_many(client, range(4), lambda job: client.complete(str(job), Draw()).text)
        try:
            assert next(iter(answers)) == (0, "hi")
            answers.close()  # type: ignore[attr-defined]  # it is a generator
            assert not speaks.is_set() and client.stopped.is_set()
        finally:
            speaks.set()
