"""Refining and judging over HTTP, against a real server on loopback that can misbehave."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerone.config import build_config
from zerone.curation.assembly import PIECE, Rules, assemble, pieces_of
from zerone.curation.by_endpoint import Asking, json_object, judge_by_endpoint, refine_by_endpoint
from zerone.curation.drafts import Draft
from zerone.curation.settings import endpoint_of, room_for_answer
from zerone.engine.remote import Endpoint, EndpointClient
from zerone.errors import EndpointError
from zerone.prompts.r1 import Style, write_completion
from zerone.types import Outcome, Problem

ASKING = Asking(tries=2)

Answer = Callable[[str, int], tuple[int, dict[str, str], str]]
"""From what is asked and how many requests came before to status, headers and the model's text."""


class Server:
    """A server of models whose answers a test decides; `asked` is what came in."""

    def __init__(self, answer: Answer) -> None:
        self.asked: list[str] = []
        lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                content = str(body["messages"][-1]["content"])
                with lock:
                    number = len(server.asked)
                    server.asked.append(content)
                status, headers, text = answer(content, number)
                choice = {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
                raw = json.dumps({"choices": [choice]}) if status == 200 else text
                self.send_response(status)
                for name, value in {**headers, "content-length": str(len(raw.encode()))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(raw.encode())

            def log_message(self, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def serving(answer: Answer, **options: Any) -> Iterator[tuple[Server, EndpointClient]]:
    server = Server(answer)
    settings = {"concurrency": 4, "timeout_s": 2.0, "tries": 3, "first_pause_s": 0.01} | options
    try:
        with EndpointClient(Endpoint(url=server.url, model="editor", **settings)) as client:
            yield server, client
    finally:
        server.close()


def problem(number: int, verifier: str = "number") -> Problem:
    return Problem(
        id=f"p{number}",
        family="sums",
        level=1,
        language="en",
        prompt=f"What is {number}+1?",
        verifier=verifier,
        spec={"answer": str(number + 1)},
    )


def draft(number: int) -> Draft:
    text = write_completion(f"We count {number}, {number + 1}.", str(number + 1))
    return Draft(problem=problem(number), source="r1_zero", number=0, text=text, style=Style.TAGS)


def said(**fields: str) -> tuple[int, dict[str, str], str]:
    return 200, {}, f"Here you are:\n```json\n{json.dumps(fields)}\n```"


def edited(content: str, number: int) -> tuple[int, dict[str, str], str]:
    """Rewrite as asked; the final answer is the last line of what is asked."""
    answer = content.strip().splitlines()[-1]
    return said(thought=f"I count to {answer}.", summary=f"Counting gives \\boxed{{{answer}}}.")


def test_drafts_are_rewritten_in_order(tmp_path: Path) -> None:
    with serving(edited) as (server, client):
        refined = refine_by_endpoint(client, [draft(i) for i in range(9)], Style.BOXED, ASKING)
    assert [one.text for one in refined if one is not None] == [
        f"<think>I count to {i + 1}.</think>\nCounting gives \\boxed{{{i + 1}}}." for i in range(9)
    ]
    assert all("We count" in content and "in the first person" in content for content in server.asked)


def test_nonsense_is_asked_for_again_and_then_counted() -> None:
    def answer(content: str, number: int) -> tuple[int, dict[str, str], str]:
        if "What is 1+1?" in content:
            return 200, {}, "I would rather not."
        if "What is 2+1?" in content and number < 3:
            return said(thought="<think>", summary="no box")
        return edited(content, number)

    with serving(answer, concurrency=1) as (server, client):
        refined = refine_by_endpoint(client, [draft(1), draft(2), draft(3)], Style.BOXED, ASKING)
    assert [one is None for one in refined] == [True, False, False]
    assert len(server.asked) == 2 + 2 + 1


def test_an_endpoint_that_says_nothing_usable_is_an_error() -> None:
    with (
        serving(lambda content, number: (200, {}, "42")) as (_, client),
        pytest.raises(EndpointError, match="rewrote none of 8 drafts usably"),
    ):
        refine_by_endpoint(client, [draft(i) for i in range(8)], Style.BOXED, ASKING)


@pytest.mark.parametrize("status", [200, 400])
def test_a_single_draft_that_cannot_be_rewritten_stops_nothing(tmp_path: Path, status: int) -> None:
    def answer(content: str, number: int) -> tuple[int, dict[str, str], str]:
        return (status, {}, "no") if "What is 1+1?" in content else edited(content, number)

    def draw(asked: Sequence[Problem]) -> list[list[Draft]]:
        return [[draft(int(p.id[1:]))] for p in asked]

    with serving(answer) as (_, client):
        rules = Rules(cap=1, minimum=1, refine=lambda ds: refine_by_endpoint(client, ds, Style.BOXED, ASKING))
        pieces = [piece for i in (1, 2) for piece in pieces_of("r1_zero", [problem(i)], draw)]
        card = assemble(tmp_path / "d.jsonl", {}, pieces, rules, len)
    assert (card["samples"], card["dropped"]) == (1, {"unrefined": 1})


def test_an_endpoint_that_refuses_everything_is_an_error_with_its_words() -> None:
    with (
        serving(lambda content, number: (400, {}, "max_tokens is too large: 8192")) as (_, client),
        pytest.raises(EndpointError, match=r"none of 8 .*HTTP 400: max_tokens is too large: 8192"),
    ):
        refine_by_endpoint(client, [draft(i) for i in range(8)], Style.BOXED, ASKING)


def test_an_endpoint_is_given_up_within_minutes_and_asked_for_what_it_may_need() -> None:
    config = build_config({"curate.endpoint_model": "m", "sampling.max_tokens": 400})
    endpoint = endpoint_of(config, "judge", "http://h/v1")
    assert endpoint.timeout_s * endpoint.tries <= 15 * 60
    assert room_for_answer(config) == 2048
    assert room_for_answer(build_config({"sampling.max_tokens": 32_768})) == 65_536


@pytest.mark.parametrize(
    ("status", "headers"), [(429, {"retry-after": "0.01"}), (503, {}), (500, {"retry-after": "0"})]
)
def test_a_busy_endpoint_is_asked_again(status: int, headers: dict[str, str]) -> None:
    def answer(content: str, number: int) -> tuple[int, dict[str, str], str]:
        return (status, headers, "busy") if number < 2 else edited(content, number)

    with serving(answer) as (server, client):
        (refined,) = refine_by_endpoint(client, [draft(1)], Style.BOXED, ASKING)
    assert refined is not None
    assert len(server.asked) == 3


def slow(content: str, number: int) -> tuple[int, dict[str, str], str]:
    time.sleep(0.5)
    return edited(content, number)


def busy(content: str, number: int) -> tuple[int, dict[str, str], str]:
    return 429, {}, "quota"


@pytest.mark.parametrize(("answer", "timeout_s"), [(busy, 2.0), (slow, 0.1)])
def test_an_endpoint_that_stays_busy_or_slow_is_an_error_after_a_few_tries(
    answer: Answer, timeout_s: float
) -> None:
    with (
        serving(answer, timeout_s=timeout_s) as (server, client),
        pytest.raises(EndpointError, match="asked 3 times"),
    ):
        refine_by_endpoint(client, [draft(1)], Style.BOXED, ASKING)
    assert len(server.asked) == 3


def test_an_endpoint_that_is_away_is_an_error_after_a_few_tries() -> None:
    with serving(busy) as (server, _):
        pass
    with (
        EndpointClient(Endpoint(url=server.url, model="m", tries=2, first_pause_s=0.01)) as client,
        pytest.raises(EndpointError, match="asked 2 times"),
    ):
        refine_by_endpoint(client, [draft(1)], Style.BOXED, ASKING)


def test_what_was_refined_before_an_endpoint_went_down_is_kept(tmp_path: Path) -> None:
    problems = [problem(i) for i in range(3 * PIECE)]

    def draw(asked: Sequence[Problem]) -> list[list[Draft]]:
        return [[draft(int(p.id[1:]))] for p in asked]

    def build(path: Path, client: EndpointClient) -> dict[str, Any]:
        rules = Rules(cap=1, minimum=1, refine=lambda ds: refine_by_endpoint(client, ds, Style.BOXED, ASKING))
        return assemble(path, {}, pieces_of("r1_zero", problems, draw), rules, len)

    def dying(content: str, number: int) -> tuple[int, dict[str, str], str]:
        return edited(content, number) if number < PIECE + 3 else (503, {}, "gone")

    with serving(dying) as (_, client), pytest.raises(EndpointError):
        build(tmp_path / "d.jsonl", client)
    with serving(edited) as (server, client):
        card = build(tmp_path / "d.jsonl", client)
    assert card["samples"] == 3 * PIECE
    assert len(server.asked) == 2 * PIECE


@pytest.mark.parametrize(
    ("last_line", "outcome"),
    [
        ("Score {mark}: 7", Outcome.CORRECT),
        ("Score {mark}: 6", Outcome.WRONG),
        ("Score: 10", Outcome.INFRASTRUCTURE_ERROR),
        ("correct", Outcome.INFRASTRUCTURE_ERROR),
    ],
)
def test_an_answer_is_kept_from_7_points_on_and_unjudged_without_a_verdict(
    last_line: str, outcome: Outcome
) -> None:
    def answer(content: str, number: int) -> tuple[int, dict[str, str], str]:
        mark = content.rpartition("Score ")[2].partition(":")[0]
        return 200, {}, f"Fine.\n{last_line.format(mark=mark)}"

    with serving(answer) as (server, client):
        found = judge_by_endpoint(client, problem(1, "judge"), "Hello!\nScore: 10", ASKING)
    assert found is outcome
    assert "Hello!" in server.asked[0]
    assert "says what the reference says" in server.asked[0]
    assert len(server.asked) == (2 if outcome is Outcome.INFRASTRUCTURE_ERROR else 1)


def test_a_request_that_a_judge_refuses_is_unjudged() -> None:
    with serving(lambda content, number: (400, {}, "too long")) as (_, client):
        outcome = judge_by_endpoint(client, problem(1, "judge"), "Hello!", ASKING)
    assert outcome is Outcome.INFRASTRUCTURE_ERROR


@given(st.text(alphabet='{}[]":,truefals01\\u d', max_size=60))
def test_any_answer_holds_an_object_or_is_refused(text: str) -> None:
    try:
        found = json_object(text)
    except ValueError:
        return
    assert isinstance(found, dict)
