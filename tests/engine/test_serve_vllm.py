"""The server over vLLM: rows decide as over our own engine. A fake draws the same tokens as vLLM would.

Where vLLM is installed, `test_vllm_itself_...` asks the real one.
"""

import json
import queue
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from importlib import util
from pathlib import Path
from typing import Any

import pytest
import torch

import zerone
from processes import call_main
from serving import chat, live_server
from streaming import streamed
from zerone.engine.api import Delta, Failure, Request, SamplingParams, Split
from zerone.engine.row import Row
from zerone.engine.scheduler import Scheduler
from zerone.engine.serving import EngineSpec, load_engine
from zerone.engine.torch.engine import TorchEngine
from zerone.engine.vllm import chosen_engine
from zerone.engine.vllm_engine import Drawn, VllmEngine
from zerone.engine.weights import ModuleWeights, WeightSource, hash_of
from zerone.errors import ConfigError
from zerone.model.loading import Model, end_ids, load_model
from zerone.prompts.r1 import write_prompt
from zerone.types import Finish, Problem

EMBEDDED = Path(zerone.__file__).parent / "world" / "embedded"
Arriving = queue.SimpleQueue[Delta | Failure]
PROBLEM = Problem(id="p", family="", level=1, language="en", prompt="", verifier="", spec={})


class FakeRequests:
    """vLLM as the scheduler sees it: greedy tokens of the training engine, a few a step.

    Endless ones are slow, and repeat the prompt's first token.
    """

    def __init__(self, model: Model, tokens_a_step: int = 1, *, is_endless: bool = False) -> None:
        self.is_endless = is_endless
        self.engine = TorchEngine(model.tokenizer, end_ids(model), 1024, 4, torch.float32)
        self.engine.update_weights(ModuleWeights(model.module), 0)
        self.end_ids = end_ids(model)
        self.tokens_a_step = tokens_a_step
        self.left: dict[str, list[int]] = {}
        self.added: list[tuple[int, ...]] = []
        self.aborted: list[str] = []
        self.lost: set[str] = set()
        """Requests that end with the next token, whatever is left."""

    def add(self, request: str, row: Row) -> None:
        self.added.append(row.ids)
        if self.is_endless:
            self.left[request] = [row.ids[0]] * row.request.sampling.max_tokens
            return
        sampling = SamplingParams(temperature=0, max_tokens=row.request.sampling.max_tokens - len(row.tokens))
        asked = Request(problem=PROBLEM, prompt_ids=row.ids, seeds=(0,))
        self.left[request] = list(self.engine.generate([asked], sampling)[0][0].completion_ids)

    def abort(self, requests: Sequence[str]) -> None:
        self.aborted += requests
        for request in requests:
            del self.left[request]

    def load(self, source: WeightSource) -> str:
        return hash_of(source)

    def sleep(self) -> None:
        pass

    def step(self) -> list[Drawn]:
        time.sleep(0.005 * self.is_endless)
        drawn = []
        for request, left in list(self.left.items()):
            tokens, self.left[request] = left[: self.tokens_a_step], left[self.tokens_a_step :]
            logprobs = [{token: -0.5, (token + 1) % 768: -1.5} for token in tokens]
            is_last = not self.left[request] or request in self.lost
            if is_last:
                del self.left[request]
            drawn.append(Drawn(request, tokens, logprobs, is_last))
        return drawn


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model("embedded", torch.float32)


@pytest.fixture(scope="module")
def prompt(model: Model) -> tuple[int, ...]:
    return tuple(model.tokenizer(write_prompt("Use the numbers 3, 5, 7 to make 22."))["input_ids"])


def running(engine: VllmEngine) -> Iterator[Scheduler]:
    scheduler = Scheduler(engine, 1 << 30)
    thread = threading.Thread(target=scheduler.run)
    thread.start()
    try:
        yield scheduler
    finally:
        scheduler.end()
        thread.join()


def job_of(prompt: tuple[int, ...], num_samples: int = 1, **decoding: Any) -> tuple[Request, Arriving]:
    arriving: Arriving = queue.SimpleQueue()
    split = Split(opens_in_thought=True, strips_answer=True)
    chosen = {"temperature": 0.0, "max_tokens": 60, **decoding}
    return streamed(prompt, arriving.put, num_samples, split=split, **chosen), arriving


def said(arriving: Arriving, num_samples: int = 1) -> list[tuple[Any, ...]]:
    texts = [["", ""] for _ in range(num_samples)]
    ends: dict[int, tuple[Any, ...]] = {}
    counts = [0] * num_samples
    while len(ends) < num_samples:
        delta = arriving.get(timeout=20)
        assert isinstance(delta, Delta), delta
        texts[delta.index][0] += delta.reasoning
        texts[delta.index][1] += delta.content
        counts[delta.index] += delta.num_tokens
        if delta.finish is not None:
            ends[delta.index] = (delta.finish, delta.ends_in_thought)
    return [(*texts[index], counts[index], *ends[index]) for index in range(num_samples)]


@pytest.mark.parametrize("tokens_a_step", [1, 3])
@pytest.mark.parametrize(
    "decoding",
    [
        {},
        {"max_tokens": 7},
        {"cut_stop": ("5",)},
        {"reasoning_budget": 4},
        {"reasoning_budget": 4, "max_tokens": 6},
        {"reasoning_budget": 1, "cut_stop": ("</think>",)},
    ],
)
def test_rows_decide_as_over_our_own_engine(
    model: Model, prompt: tuple[int, ...], decoding: dict[str, Any], tokens_a_step: int
) -> None:
    spec = EngineSpec(directory=str(EMBEDDED), context=1024, max_rows=4, max_waiting=4, kv_bytes=1 << 26)
    ours = load_engine(spec)
    ours.start()
    try:
        job, arriving = job_of(prompt, 2, **decoding)
        ours.submit([job])
        expected = said(arriving, 2)
    finally:
        ours.stop()
    requests = FakeRequests(model, tokens_a_step)
    for scheduler in running(VllmEngine(requests, model.tokenizer, end_ids(model), max_rows=4)):
        job, arriving = job_of(prompt, 2, **decoding)
        scheduler.submit([job])
        assert said(arriving, 2) == expected
    assert not requests.left
    assert len(requests.added) == (4 if len(requests.added) > 2 else 2)


def test_a_forced_end_of_a_thought_is_part_of_the_new_request(model: Model, prompt: tuple[int, ...]) -> None:
    requests = FakeRequests(model)
    for scheduler in running(VllmEngine(requests, model.tokenizer, end_ids(model), max_rows=4)):
        job, arriving = job_of(prompt, reasoning_budget=3)
        scheduler.submit([job])
        said(arriving)
    first, second = requests.added
    assert first == prompt
    assert model.tokenizer.decode(second[len(prompt) + 3 :]).startswith("</think>")


def test_what_is_told_of_tokens_is_the_drawn_one_and_the_likeliest(
    model: Model, prompt: tuple[int, ...]
) -> None:
    for scheduler in running(VllmEngine(FakeRequests(model), model.tokenizer, (), max_rows=4)):
        job, arriving = job_of(prompt, num_top=1, max_tokens=1)
        scheduler.submit([job])
        delta = arriving.get(timeout=30)
    assert isinstance(delta, Delta)
    (told,) = delta.logprobs
    assert (told.logprob, told.top) == (-0.5, ((told.token, -0.5),))


def test_what_nobody_waits_for_is_aborted(model: Model, prompt: tuple[int, ...]) -> None:
    requests = FakeRequests(model, is_endless=True)
    for scheduler in running(VllmEngine(requests, model.tokenizer, (), max_rows=1)):
        given_up, arriving = job_of(prompt, 2, max_tokens=900)
        scheduler.submit([given_up])
        arriving.get(timeout=30)
        assert (scheduler.num_active, scheduler.num_waiting) == (1, 1)
        assert scheduler.holds(given_up)
        scheduler.cancel([given_up])
        job, arriving = job_of(prompt, max_tokens=5)
        scheduler.submit([job])
        ((_, _, count, finish, _),) = said(arriving)
        assert (count, finish) == (5, Finish.LENGTH)
        assert scheduler.num_cancelled == 2
        assert not scheduler.holds(given_up)
    assert sorted(requests.aborted) == ["1", "2"]


def test_an_answer_that_vllm_gives_up_fails_by_itself(model: Model, prompt: tuple[int, ...]) -> None:
    requests = FakeRequests(model, is_endless=True)
    for scheduler in running(VllmEngine(requests, model.tokenizer, (), max_rows=4)):
        lost, arriving = job_of(prompt, 2, max_tokens=900)
        scheduler.submit([lost])
        arriving.get(timeout=30)
        requests.lost.add("1")
        while isinstance(told := arriving.get(timeout=30), Delta):
            pass
        assert told == Failure(message="the engine gave this completion up")
        job, arriving = job_of(prompt, max_tokens=5)
        scheduler.submit([job])
        ((_, _, count, finish, _),) = said(arriving)
        assert (count, finish) == (5, Finish.LENGTH)
        assert not scheduler.holds(lost)
    assert requests.aborted == ["2"]


def test_what_is_under_way_at_the_end_fails(model: Model, prompt: tuple[int, ...]) -> None:
    requests = FakeRequests(model, is_endless=True)
    for scheduler in running(VllmEngine(requests, model.tokenizer, (), max_rows=1)):
        job, arriving = job_of(prompt, max_tokens=900)
        scheduler.submit([job])
        arriving.get(timeout=30)
    while isinstance(told := arriving.get(timeout=30), Delta):
        pass
    assert told == Failure(message="the server is stopping")


def test_an_engine_that_is_not_here_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="none of auto, torch, vllm"):
        chosen_engine("sglang")
    assert chosen_engine("torch") == "torch"
    if util.find_spec("vllm") is None:
        assert chosen_engine("auto") == "torch"
        code, _, err = call_main(tmp_path, "serve", "embedded", "--port", "0", "--engine", "vllm")
        assert code == 2
        assert "zerone[vllm]" in err


def test_vllm_itself_answers_as_our_engine_does(tmp_path: Path) -> None:
    pytest.importorskip("vllm")
    answers = []
    for engine in ("torch", "vllm"):
        with live_server(tmp_path, "--engine", engine, key=None) as live:
            body = json.dumps(chat("Use the numbers 3, 5, 7 to make 22.", temperature=0, n=2)).encode()
            asked = urllib.request.Request(
                live.url + "/v1/chat/completions", body, {"Content-Type": "application/json"}
            )
            with urllib.request.urlopen(asked, timeout=60) as answer:
                answers.append([choice["message"] for choice in json.load(answer)["choices"]])
    assert answers[0] == answers[1]
