"""An engine in a process of its own says what one in this process says, and its end is told at once."""

import json
import math
import os
import queue
import shutil
import signal
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import zerone
from processes import has_ended, wait_until
from serving import chat, live_server
from streaming import streamed
from zerone.engine.api import Delta, Failure, QueueFull, Request, SamplingParams, Split, TokenLogprob
from zerone.engine.messages import event_from, event_message, line_of, request_from, request_message
from zerone.engine.process import EngineProcess
from zerone.engine.serving import EngineSpec, load_engine
from zerone.errors import ModelError
from zerone.model.loading import read_model_files
from zerone.prompts.r1 import write_prompt
from zerone.types import Finish

EMBEDDED = Path(zerone.__file__).parent / "world" / "embedded"
Arriving = queue.SimpleQueue[Delta | Failure]


def spec_of(directory: Path = EMBEDDED, **more: Any) -> EngineSpec:
    limits = {"context": 1024, "max_rows": 8, "max_waiting": 8, "kv_bytes": 1 << 26, **more}
    return EngineSpec(directory=str(directory), **limits)


@pytest.fixture(scope="module")
def engine() -> Iterator[EngineProcess]:
    process = EngineProcess(spec_of())
    process.wait_until_ready()
    process.start()
    yield process
    process.stop()


@pytest.fixture(scope="module")
def prompt() -> tuple[int, ...]:
    return tuple(read_model_files(str(EMBEDDED)).tokenizer(write_prompt("What is 3 + 4?"))["input_ids"])


def job_of(prompt: tuple[int, ...], num_samples: int = 1, **decoding: Any) -> tuple[Request, Arriving]:
    arriving: Arriving = queue.SimpleQueue()
    split = Split(opens_in_thought=True, strips_answer=True)
    return streamed(prompt, arriving.put, num_samples, split=split, **decoding), arriving


def rounded(told: TokenLogprob) -> TokenLogprob:
    """What a prompt begins with may come from memory, and sums are rounded in another order then."""
    top = tuple((token, round(logprob, 3)) for token, logprob in told.top)
    return TokenLogprob(token=told.token, logprob=round(told.logprob, 3), top=top)


def said(arriving: Arriving, num_samples: int) -> list[Delta]:
    """Return all that is said of a job, each answer's pieces joined."""
    whole = [Delta(index=index) for index in range(num_samples)]
    while any(delta.finish is None for delta in whole):
        piece = arriving.get(timeout=60)
        assert isinstance(piece, Delta), piece
        before = whole[piece.index]
        whole[piece.index] = Delta(
            index=piece.index,
            reasoning=before.reasoning + piece.reasoning,
            content=before.content + piece.content,
            num_tokens=before.num_tokens + piece.num_tokens,
            num_reasoning_tokens=before.num_reasoning_tokens + piece.num_reasoning_tokens,
            logprobs=(*before.logprobs, *map(rounded, piece.logprobs)),
            finish=piece.finish,
            ends_in_thought=piece.ends_in_thought,
        )
    return whole


def wait_until_empty(engine: EngineProcess) -> None:
    wait_until(lambda: not (engine.num_active or engine.num_waiting), "rows are left in the engine")


@pytest.mark.parametrize(
    "decoding",
    [
        {"temperature": 0.0, "max_tokens": 80},
        {"temperature": 1.0, "max_tokens": 80, "seed": 7, "top_p": 0.9, "top_k": 40},
        {"temperature": 1.0, "max_tokens": 60, "seed": 3, "num_top": 2, "reasoning_budget": 9},
        {"temperature": 1.0, "max_tokens": 90, "seed": 1, "cut_stop": ("7",), "stop": ("</think>",)},
    ],
)
def test_both_kinds_of_engine_say_the_same(
    engine: EngineProcess, prompt: tuple[int, ...], decoding: dict[str, Any]
) -> None:
    job, arriving = job_of(prompt, 3, **decoding)
    engine.submit([job])
    there = said(arriving, 3)
    here = load_engine(spec_of())
    here.start()
    job, arriving = job_of(prompt, 3, **decoding)
    here.submit([job])
    try:
        assert said(arriving, 3) == there
    finally:
        here.stop()
    assert sum(delta.num_tokens for delta in there) > 3
    wait_until_empty(engine)


def test_what_is_accepted_is_bounded_and_what_is_given_up_makes_room(
    engine: EngineProcess, prompt: tuple[int, ...]
) -> None:
    before = engine.num_cancelled
    asked = [job_of(prompt, 4, temperature=2.0, max_tokens=900, seed=seed)[0] for seed in range(4)]
    engine.submit(asked)
    assert engine.num_active + engine.num_waiting <= engine.capacity == 16
    late, arriving = job_of(prompt, 2, temperature=0, max_tokens=5)
    with pytest.raises(QueueFull):
        engine.submit([late])
    engine.cancel(asked)
    wait_until_empty(engine)
    engine.submit([late])
    assert [delta.num_tokens for delta in said(arriving, 2)] == [5, 5]
    wait_until_empty(engine)
    assert 0 < engine.num_cancelled - before <= 16


def test_a_job_that_has_ended_may_still_be_cancelled(engine: EngineProcess, prompt: tuple[int, ...]) -> None:
    job, arriving = job_of(prompt, max_tokens=3, temperature=0)
    engine.submit([job])
    said(arriving, 1)
    engine.cancel([job])
    job, arriving = job_of(prompt, max_tokens=3, temperature=0)
    engine.submit([job])
    assert said(arriving, 1)[0].num_tokens == 3
    wait_until_empty(engine)


def test_pieces_held_back_for_a_job_that_was_given_up_do_no_harm(
    engine: EngineProcess, prompt: tuple[int, ...]
) -> None:
    """They are due after the job has left, as its first piece only goes out at once."""
    for seed in range(20):
        asked, arriving = job_of(prompt, 2, temperature=2.0, max_tokens=900, seed=seed)
        engine.submit([asked])
        arriving.get(timeout=30)
        engine.cancel([asked])
        job, arriving = job_of(prompt, max_tokens=3, temperature=0)
        engine.submit([job])
        assert said(arriving, 1)[0].num_tokens == 3
    wait_until_empty(engine)


def test_when_the_engine_is_killed_its_jobs_fail_and_later_ones_at_once(prompt: tuple[int, ...]) -> None:
    engine = EngineProcess(spec_of())
    engine.wait_until_ready()
    engine.start()
    job, arriving = job_of(prompt, 8, temperature=2.0, max_tokens=900)
    engine.submit([job])
    while not isinstance(arriving.get(timeout=30), Delta):
        pass
    engine._process.kill()
    while isinstance(told := arriving.get(timeout=30), Delta):
        pass
    assert told == Failure(message="the engine has stopped")
    assert not engine.is_alive
    job, arriving = job_of(prompt)
    engine.submit([job])
    assert isinstance(arriving.get(timeout=5), Failure)
    assert (engine.num_active, engine.num_waiting) == (0, 0)
    engine.stop()


def test_an_engine_that_is_killed_while_it_writes_keeps_nobody_waiting(prompt: tuple[int, ...]) -> None:
    """A message longer than what a pipe takes at once is read as far as it came."""
    engine = EngineProcess(spec_of())
    engine.wait_until_ready()
    engine.start()
    job, arriving = job_of(prompt, 8, temperature=2.0, max_tokens=900)
    engine.submit([job])
    assert isinstance(arriving.get(timeout=30), Delta)
    engine._process.send_signal(signal.SIGSTOP)
    assert engine._process.stdout is not None
    with open(f"/proc/self/fd/{engine._process.stdout.fileno()}", "wb") as pipe:
        pipe.write(b'{"deltas":[[1,[0,"half of a')
    engine._process.kill()
    while isinstance(told := arriving.get(timeout=30), Delta):
        pass
    assert told == Failure(message="the engine has stopped")
    assert not engine.is_alive
    engine.stop()


def test_an_engine_that_was_stopped_may_still_be_asked(prompt: tuple[int, ...]) -> None:
    """A client may leave, or ask, while the server ends."""
    engine = EngineProcess(spec_of())
    engine.wait_until_ready()
    engine.start()
    job, arriving = job_of(prompt, 8, temperature=2.0, max_tokens=900)
    engine.submit([job])
    assert engine._process.stdin is not None
    engine._process.send_signal(signal.SIGSTOP)
    engine._process.stdin.close()
    late, arriving_late = job_of(prompt)
    engine.submit([late])
    engine.cancel([job])
    engine._process.send_signal(signal.SIGCONT)
    for told in (arriving, arriving_late):
        while isinstance(told.get(timeout=30), Delta):
            pass
    engine.stop()
    engine.stop()


def test_weights_that_cannot_be_used_are_told_before_any_job(tmp_path: Path) -> None:
    directory = tmp_path / "model"
    shutil.copytree(EMBEDDED, directory)
    (directory / "model.safetensors").write_bytes(b"no tensors at all")
    engine = EngineProcess(spec_of(directory))
    with pytest.raises(ModelError, match="cannot load the weights"):
        engine.wait_until_ready()


def test_an_engine_that_ends_before_it_is_ready_is_told() -> None:
    engine = EngineProcess(spec_of())
    engine._process.kill()
    with pytest.raises(ModelError, match="killed by signal 9"):
        engine.wait_until_ready()
    engine.stop()


def engine_of(server: int) -> int:
    """Return the process that a server has started."""
    return int(Path(f"/proc/{server}/task/{server}/children").read_text().split()[0])


def status_of(request: urllib.request.Request | str) -> int:
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_a_server_outlives_its_engine_and_says_so(tmp_path: Path) -> None:
    with live_server(tmp_path, key=None) as live:
        os.kill(engine_of(live.process.pid), signal.SIGKILL)
        wait_until(lambda: status_of(live.url + "/health") != 200, "the end of its engine is not told")
        assert status_of(live.url + "/health") == 503
        body = line_of(chat())
        headers = {"Content-Type": "application/json"}
        asked = urllib.request.Request(live.url + "/v1/chat/completions", data=body, headers=headers)
        assert status_of(asked) == 503
        live.process.terminate()
        assert live.process.wait(20) == 0


def test_an_engine_that_is_told_to_end_lets_the_server_decide(
    engine: EngineProcess, prompt: tuple[int, ...]
) -> None:
    """A service is stopped by a signal to all of its processes."""
    job, arriving = job_of(prompt, max_tokens=60, temperature=0)
    engine.submit([job])
    for number in (signal.SIGTERM, signal.SIGINT):
        engine._process.send_signal(number)
    assert said(arriving, 1)[0].finish is not None
    assert engine.is_alive
    wait_until_empty(engine)


@pytest.mark.parametrize("is_busy", [False, True])
def test_an_engine_does_not_outlive_its_server(tmp_path: Path, is_busy: bool) -> None:
    with live_server(tmp_path, key=None) as live:
        engine = engine_of(live.process.pid)
        if is_busy:
            body = line_of(chat(n=16, temperature=2, max_tokens=900))
            head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n"
            with socket.create_connection(("127.0.0.1", live.port)) as client:
                client.sendall(head.encode() + b"Content-Type: application/json\r\n\r\n" + body)
                wait_until(lambda: live.metric("zerone_rows_active") > 0, "no row was decoded")
        live.process.kill()
        live.process.wait()
    wait_until(lambda: has_ended(engine), "the engine goes on without its server")


TEXT = st.text(st.characters(), max_size=8)
LOGPROB = st.floats(max_value=0) | st.just(math.nan)
NUMBER = st.integers(0, 1 << 20)


def same(one: object, other: object) -> bool:
    """Compare with NaN equal to itself."""
    return repr(one) == repr(other)


@given(
    delta=st.builds(
        Delta,
        index=NUMBER,
        reasoning=TEXT,
        content=TEXT,
        num_tokens=NUMBER,
        num_reasoning_tokens=NUMBER,
        logprobs=st.lists(
            st.builds(
                TokenLogprob,
                token=NUMBER,
                logprob=LOGPROB,
                top=st.lists(st.tuples(NUMBER, LOGPROB), max_size=2).map(tuple),
            ),
            max_size=2,
        ).map(tuple),
        finish=st.none() | st.sampled_from(Finish),
        ends_in_thought=st.booleans(),
    )
)
def test_deltas_arrive_as_they_were_sent(delta: Delta) -> None:
    assert same(event_from(read(line_of({"delta": event_message(delta)}))["delta"]), delta)


STRINGS = st.lists(TEXT, max_size=2).map(tuple)


@given(
    prompt=st.lists(NUMBER, min_size=1, max_size=4).map(tuple),
    seeds=st.lists(st.integers(0, 2**63 - 1), max_size=3).map(tuple),
    streams=st.booleans(),
    sampling=st.builds(
        SamplingParams,
        temperature=st.floats(0, 2),
        top_p=st.floats(0, 1),
        top_k=NUMBER,
        max_tokens=NUMBER,
        stop=STRINGS,
        cut_stop=STRINGS,
        num_top=st.none() | NUMBER,
        reasoning_budget=st.none() | NUMBER,
    ),
    split=st.none() | st.builds(Split, opens_in_thought=st.booleans(), strips_answer=st.booleans()),
)
def test_requests_arrive_as_they_were_sent(
    prompt: tuple[int, ...],
    seeds: tuple[int, ...],
    streams: bool,
    sampling: SamplingParams,
    split: Split | None,
) -> None:
    sent = Request(
        prompt_ids=prompt, seeds=seeds, sampling=sampling, streams=streams, split=split, sink=print
    )
    message = read(line_of(request_message(5, sent)))
    got = request_from(message, print)
    assert message["number"] == 5
    assert (got.prompt_ids, got.seeds, got.streams, got.split) == (prompt, seeds, streams, split)
    assert same(got.sampling, sampling)


def read(line: bytes) -> Any:
    assert line.index(b"\n") == len(line) - 1
    return json.loads(line)


def test_text_of_any_kind_is_one_line() -> None:
    texts: Sequence[str] = ["a\nb", "\u2028", "\ud800", "\x00\x85"]
    assert read(line_of({"texts": texts}))["texts"] == texts
