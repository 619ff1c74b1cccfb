"""An engine that is stopped, hangs or ends does not hold its server up: a real one, and real signals."""

import concurrent.futures
import json
import os
import queue
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from processes import has_ended, wait_until
from serving import Live, chat, events, live_server
from streaming import streamed
from zerone.engine.api import Delta, Failure, Request
from zerone.engine.link import EngineLink
from zerone.engine.messages import Json
from zerone.engine.process import EngineProcess, Patience
from zerone.engine.serving import EngineSpec
from zerone.errors import ModelError

EMBEDDED = str(Path(__file__).parents[2] / "src" / "zerone" / "world" / "embedded")
LONG = "@@ " * 100
"""A prompt of some kilobytes as tokens: a few dozen fill a pipe."""


def engines_of(live: Live) -> list[int]:
    children = Path(f"/proc/{live.process.pid}/task").glob("*/children")
    numbers = [int(number) for path in children for number in path.read_text().split()]
    return sorted(
        number for number in numbers if b"engine.worker" in Path(f"/proc/{number}/cmdline").read_bytes()
    )


def ask(live: Live, seconds: float = 60.0, **fields: Any) -> tuple[int, Any, float]:
    """Return status, body and how long it took."""
    begun = time.monotonic()
    body = json.dumps(chat(**{"text": LONG, "max_tokens": 200, **fields})).encode()
    request = urllib.request.Request(
        live.url + "/v1/chat/completions", data=body, headers={"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=seconds) as answer:
            text, status = answer.read().decode(), answer.status
    except urllib.error.HTTPError as error:
        text, status = error.read().decode(), error.code
    told = text if text.startswith("data:") else json.loads(text)
    return status, told, time.monotonic() - begun


def health(live: Live) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(live.url + "/health", timeout=2) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def seconds_of(live: Live, path: str) -> float:
    begun = time.monotonic()
    live.get(path)
    return time.monotonic() - begun


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A server that these tests hurt and that is well again after each."""
    with live_server(tmp_path_factory.mktemp("stopped"), key=None) as server:
        yield server


def stop_engine(live: Live) -> int:
    """Stop the engine and return its number."""
    (engine,) = engines_of(live)
    assert health(live) == (200, {"status": "ok"})
    os.kill(engine, signal.SIGSTOP)
    return engine


def test_an_engine_that_goes_on_in_time_loses_nothing(live: Live) -> None:
    with concurrent.futures.ThreadPoolExecutor(40) as pool:
        engine = stop_engine(live)
        asked = [pool.submit(ask, live, temperature=0, max_tokens=5) for _ in range(40)]
        wait_until(lambda: health(live)[0] == 503, "its silence is not told", 4)
        os.kill(engine, signal.SIGCONT)
        assert [one.result()[0] for one in asked] == [200] * 40
        wait_until(lambda: health(live)[0] == 200, "that it goes on is not told", 4)
        assert engines_of(live) == [engine]


def test_a_stopped_engine_is_told_given_up_and_started_again(live: Live) -> None:
    with concurrent.futures.ThreadPoolExecutor(60) as pool:
        begun = time.monotonic()
        engine = stop_engine(live)
        asked = [pool.submit(ask, live, stream=number % 3 == 0) for number in range(60)]
        wait_until(lambda: health(live)[0] == 503, "its silence is not told", 4)
        assert time.monotonic() - begun < 4  # 2 s, and what 60 threads take to ask
        fault = health(live)[1]["models"]["embedded"]
        assert "no sign for" in fault
        for path in ("/v1/models", "/metrics", "/"):
            assert seconds_of(live, path) < 2
        for status, told, seconds in (one.result() for one in asked):
            assert seconds < 20
            if status == 200:  # a stream has begun; its failure is an event
                assert "gave no sign" in events(told)[-1]["error"]["message"]
            else:
                assert (status, told["error"]["code"]) == (503, "unavailable")
        assert {one.result()[0] for one in asked} == {200, 503}
        wait_until(lambda: health(live)[0] == 200, "it is not started again", 60)
        assert has_ended(engine)
        status, told, _ = ask(live, text="What is 3 + 4?")
        assert (status, told["choices"][0]["finish_reason"]) == (200, "stop")
        live.wait_until_idle()


def test_an_engine_that_was_killed_is_started_again(live: Live) -> None:
    for _ in range(2):
        (engine,) = engines_of(live)
        os.kill(engine, signal.SIGKILL)
        wait_until(lambda: health(live)[0] == 503, "its end is not told")
        assert "started again" in health(live)[1]["models"]["embedded"]
        assert ask(live)[0] == 503
        wait_until(lambda: health(live)[0] == 200, "it is not started again", 60)
        assert ask(live, text="What is 3 + 4?", max_tokens=5)[0] == 200


def test_a_server_ends_while_its_engine_is_started_again(live: Live) -> None:
    """The last test of this server."""
    os.kill(engines_of(live)[0], signal.SIGKILL)
    wait_until(lambda: health(live)[0] == 503, "its end is not told")
    wait_until(lambda: bool(engines_of(live)), "it is not started again")
    live.process.terminate()
    assert live.process.wait(30) == 0


def test_a_server_with_a_stopped_engine_ends_when_told(tmp_path: Path) -> None:
    with live_server(tmp_path, key=None) as live, concurrent.futures.ThreadPoolExecutor(40) as pool:
        engine = stop_engine(live)
        asked = [pool.submit(ask, live) for _ in range(40)]
        wait_until(lambda: live.metric("zerone_rows_waiting") > 30, "nothing waits")
        begun = time.monotonic()
        live.process.terminate()
        assert live.process.wait(30) == 0
        assert time.monotonic() - begun < 25
        assert {one.result()[0] for one in asked} == {503}
        wait_until(lambda: has_ended(engine), "the engine outlives its server")


@pytest.mark.slow
def test_one_models_stopped_engine_does_not_hold_up_the_other(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.symlink_to(EMBEDDED)
    with live_server(tmp_path, "--compare", str(other), key=None) as live:
        engine = engines_of(live)[0]
        os.kill(engine, signal.SIGSTOP)
        with concurrent.futures.ThreadPoolExecutor(90) as pool:
            asked = [
                pool.submit(ask, live, model=name, max_tokens=5, temperature=0)
                for name in ("embedded", "other")
                for _ in range(40)
            ]
            found = [{one.result()[0] for one in asked[start : start + 40]} for start in (0, 40)]
            assert found in ([{503}, {200}], [{200}, {503}])


# The engine itself --------------------------------------------------------------------------------

QUICK = Patience(beat=0.05, silent=0.4, lost=1.2, again=0.1)


def spec_of(directory: str = EMBEDDED) -> EngineSpec:
    return EngineSpec(directory=directory, context=1024, max_rows=4, max_waiting=400, kv_bytes=1 << 26)


def job_of(num_tokens: int, **decoding: Any) -> tuple[Request, "queue.SimpleQueue[Delta | Failure]"]:
    arriving: queue.SimpleQueue[Delta | Failure] = queue.SimpleQueue()
    chosen = {"temperature": 0.0, "max_tokens": 5, **decoding}
    ids = tuple(range(20, 20 + num_tokens))
    return streamed(ids, arriving.put, **chosen), arriving


@pytest.fixture
def engine() -> Iterator[EngineProcess]:
    process = EngineProcess(spec_of(), QUICK)
    process.wait_until_ready()
    process.start()
    yield process
    process.stop()


def test_submitting_to_a_stopped_engine_never_waits(engine: EngineProcess) -> None:
    """Half a megabyte of prompts: far more than a pipe takes."""
    asked = [job_of(690) for _ in range(200)]
    engine._process.send_signal(signal.SIGSTOP)
    begun = time.monotonic()
    for job, _ in asked:
        engine.submit([job])
    engine.cancel([job for job, _ in asked[::2]])
    assert time.monotonic() - begun < 0.4
    failures = [arriving.get(timeout=20) for _, arriving in asked]
    assert all(isinstance(one, Failure) and "gave no sign" in one.message for one in failures)
    wait_until(lambda: engine.fault is None, "it is not started again", 60)
    assert (engine.num_active, engine.num_waiting) == (0, 0)
    job, arriving = job_of(9)
    engine.submit([job])
    assert isinstance(arriving.get(timeout=30), Delta)


def test_a_stopped_engine_that_is_busy_is_ended_at_once(engine: EngineProcess) -> None:
    job, arriving = job_of(9, max_tokens=900, temperature=2.0)
    engine.submit([job])
    assert isinstance(arriving.get(timeout=30), Delta)
    engine._process.send_signal(signal.SIGSTOP)
    wait_until(lambda: engine.fault is not None, "its silence is not told")
    begun = time.monotonic()
    engine.stop()
    assert time.monotonic() - begun < 2
    while isinstance(told := arriving.get(timeout=5), Delta):
        pass
    assert isinstance(told, Failure)


def test_a_step_that_never_ends_is_no_life_although_the_process_gives_signs() -> None:
    """The thread that reads goes on while the one that decodes hangs."""
    process = EngineProcess(spec_of(), Patience(beat=0.05, silent=5, lost=60, step=0.0, again=0.1))
    process.wait_until_ready()
    process.start()
    try:
        pid = process._process.pid
        jobs = [job_of(690, max_tokens=100, temperature=2.0, seed=seed) for seed in range(20)]
        process.submit([job for job, _ in jobs])
        wait_until(lambda: process._process.pid != pid, "it is not started again", 60)
        ends = [list(drain(arriving))[-1] for _, arriving in jobs]
        assert any(isinstance(end, Failure) and "a step of the engine" in end.message for end in ends)
    finally:
        process.stop()


def drain(arriving: "queue.SimpleQueue[Delta | Failure]") -> Iterator[Delta | Failure]:
    while True:
        said = arriving.get(timeout=30)
        yield said
        if isinstance(said, Failure) or said.finish is not None:
            return


def test_a_model_that_cannot_be_loaded_again_is_tried_ever_later(
    engine: EngineProcess, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its files may be away for a while: the server goes on saying so, and serves once they are back."""
    real = engine._spec
    engine._spec = spec_of("/nowhere/at/all")
    engine._process.kill()
    wait_until(lambda: caplog.text.count("could not be started again") >= 2, "it is not tried twice", 60)
    assert engine.fault is not None
    job, arriving = job_of(9)
    engine.submit([job])
    assert isinstance(arriving.get(timeout=5), Failure)
    engine._spec = real
    wait_until(lambda: engine.fault is None, "it is not started again", 60)


def test_what_is_lost_with_an_engine_is_counted_once(engine: EngineProcess) -> None:
    job, arriving = job_of(9, max_tokens=900, temperature=2.0)
    engine.submit([job])
    assert isinstance(arriving.get(timeout=30), Delta)
    engine.cancel([job])
    wait_until(lambda: engine.num_cancelled == 1, "it is not counted")
    engine._process.kill()
    wait_until(lambda: engine.fault is not None, "its end is not told")
    wait_until(lambda: engine.fault is None, "it is not started again", 60)
    other, arriving = job_of(9, max_tokens=900, temperature=2.0)
    engine.submit([other])
    assert isinstance(arriving.get(timeout=30), Delta)
    engine.cancel([other])
    wait_until(lambda: engine.num_cancelled == 2, "it is not counted")


def test_a_link_to_an_engine_that_ended_swallows_what_is_sent() -> None:
    link = EngineLink(spec_of())
    link.kill()
    message: Json = {"cancel": list(range(10_000))}
    for _ in range(20):
        link.send(message)
    with pytest.raises(ModelError, match="killed by signal 9"):
        link.wait_until_ready()
    link.end(0)
    link.close()
