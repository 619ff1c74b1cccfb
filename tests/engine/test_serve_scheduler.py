"""The scheduler against the training engine: the same answers, whenever jobs come and however little fits."""

import queue
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from fakes import random_tokens
from streaming import admission_of, scheduler_over, streamed
from zerone.engine.api import Delta, Failure, QueueFull, Request, SamplingParams
from zerone.engine.row import Row
from zerone.engine.scheduler import Scheduler
from zerone.engine.torch.engine import TorchEngine
from zerone.engine.torch.prefill import PiecewisePrefill, empty_kv, prefill
from zerone.engine.torch.sampling import uniforms
from zerone.engine.weights import ModuleWeights
from zerone.model.decoder import Decoder
from zerone.model.loading import Model, end_ids, load_model
from zerone.prompts.r1 import write_prompt
from zerone.seeding import seed_from
from zerone.types import Finish, Problem

QUESTIONS = ("What is 3 + 4?", "Use 3, 5, 7 to make 22.", "x" * 300, "Compute 12*3-4.", "hello " * 150)
NUM_TOKENS = 40


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model("embedded", torch.float32)


@pytest.fixture(scope="module")
def prompts(model: Model) -> list[tuple[int, ...]]:
    return [tuple(model.tokenizer(write_prompt(question))["input_ids"]) for question in QUESTIONS]


@pytest.fixture(scope="module")
def expected(model: Model, prompts: Sequence[tuple[int, ...]]) -> list[str]:
    """What the training engine writes, greedily."""
    engine = TorchEngine(model.tokenizer, end_ids(model), 1024, 8, torch.float32)
    engine.update_weights(ModuleWeights(model.module), 0)
    problem = Problem(id="p", family="", level=1, language="en", prompt="", verifier="", spec={})
    requests = [Request(problem=problem, prompt_ids=ids, seeds=(0,)) for ids in prompts]
    answers = engine.generate(requests, SamplingParams(temperature=0, max_tokens=NUM_TOKENS))
    return [rollouts[0].text for rollouts in answers]


def running(model: Model, **limits: Any) -> Iterator[Scheduler]:
    chosen = {"max_rows": 16, "max_waiting": 16, "kv_bytes": 1 << 28, **limits}
    decoder = Decoder(model.module, torch.float32)
    scheduler = scheduler_over(decoder, model.tokenizer, end_ids(model), context=1024, **chosen)
    scheduler.start()
    try:
        yield scheduler
    finally:
        scheduler.stop()


def job_of(prompt: tuple[int, ...], **fields: Any) -> tuple[Request, "queue.SimpleQueue[Delta | Failure]"]:
    arriving: queue.SimpleQueue[Delta | Failure] = queue.SimpleQueue()
    chosen = {"temperature": 0, "max_tokens": NUM_TOKENS, **fields}
    return streamed(prompt, arriving.put, 2, **chosen), arriving


def answers_of(arriving: "queue.SimpleQueue[Delta | Failure]", num: int = 2) -> list[str]:
    texts, missing = [""] * num, num
    while missing:
        delta = arriving.get(timeout=30)
        assert isinstance(delta, Delta), delta
        texts[delta.index] += delta.content
        missing -= delta.finish is not None
    return texts


@pytest.mark.parametrize("limits", [{}, {"kv_bytes": 1}, {"max_rows": 1}, {"max_rows": 3}])
def test_answers_are_those_of_the_training_engine(
    model: Model, prompts: Sequence[tuple[int, ...]], expected: Sequence[str], limits: dict[str, int]
) -> None:
    """With hardly any memory rows wait for each other, leave and come back; nothing changes."""
    for scheduler in running(model, **limits):
        jobs = [job_of(prompt) for prompt in prompts]
        for job, _ in jobs:
            scheduler.submit([job])
        for (_, arriving), text in zip(jobs, expected, strict=True):
            assert answers_of(arriving) == [text, text]
        assert (scheduler.num_active, scheduler.num_waiting) == (0, 0)


def test_rows_that_do_not_fit_any_more_are_computed_again(
    model: Model, prompts: Sequence[tuple[int, ...]]
) -> None:
    """Eight rows begin within the memory and outgrow it."""
    decoder = Decoder(model.module, torch.float32)
    cell = 2 * decoder.num_kv_heads * decoder.head_dim * decoder.num_layers * 4
    texts = []
    for kv_bytes in (1 << 28, 1500 * cell):
        for scheduler in running(model, kv_bytes=kv_bytes):
            jobs = [job_of(prompts[0], temperature=1.5, max_tokens=250, seed=seed) for seed in range(4)]
            scheduler.submit([job for job, _ in jobs])
            texts.append([answers_of(arriving) for _, arriving in jobs])
    assert texts[0] == texts[1]


def test_a_prompt_in_pieces_is_the_prompt_in_one(model: Model) -> None:
    decoder = Decoder(model.module, torch.float32)
    ids = model.tokenizer("The quick brown fox. " * 30)["input_ids"]
    with torch.inference_mode():
        (whole,) = prefill(decoder, (), empty_kv(decoder), [ids])
        pieces = PiecewisePrefill(decoder, ids, empty_kv(decoder))
        while pieces.result is None:
            pieces.advance(50)
    # fp32 sums in another order.
    torch.testing.assert_close(pieces.result.logits_V, whole.logits_V, rtol=1e-4, atol=1e-4)
    for ours, theirs in zip(pieces.result.kv, whole.kv, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_a_full_queue_takes_nothing_of_a_request(model: Model, prompts: Sequence[tuple[int, ...]]) -> None:
    for scheduler in running(model, max_rows=1, max_waiting=1):
        accepted, arriving = job_of(prompts[0])
        scheduler.submit([accepted])
        with pytest.raises(QueueFull):
            scheduler.submit([job_of(prompts[0])[0]])
        assert len(answers_of(arriving)) == 2


def test_prompts_that_wait_for_others_are_answered_all_the_same(
    model: Model, prompts: Sequence[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one row to a prompt, one that comes alone waits for its time; nothing it says changes."""
    texts = []
    for rows_per_prompt in (1, 1000):
        monkeypatch.setattr("zerone.engine.torch.admission._ROWS_PER_PROMPT", rows_per_prompt)
        for scheduler in running(model, max_rows=16):
            jobs = [job_of(prompts[i % len(prompts)], temperature=1.0, seed=i) for i in range(12)]
            for job, _ in jobs:
                scheduler.submit([job])
            texts.append([answers_of(arriving) for _, arriving in jobs])
    assert texts[0] == texts[1]


def test_rows_whose_prompt_is_being_computed_count_for_the_queue(
    model: Model, prompts: Sequence[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, may_go_on = threading.Event(), threading.Event()
    for scheduler in running(model, max_rows=2, max_waiting=2):
        really = admission_of(scheduler)._prefill

        def slowly(rows: Any, really: Any = really) -> Any:
            begun.set()
            assert may_go_on.wait(30)
            return really(rows)

        monkeypatch.setattr(admission_of(scheduler), "_prefill", slowly)
        first, arriving = job_of(prompts[0])
        scheduler.submit([first])
        assert begun.wait(30)
        assert scheduler.num_active == 2
        second, also_arriving = job_of(prompts[1])
        scheduler.submit([second])
        with pytest.raises(QueueFull):
            scheduler.submit([job_of(prompts[2])[0]])
        may_go_on.set()
        assert len(answers_of(arriving)) == len(answers_of(also_arriving)) == 2
        assert scheduler.num_active <= 2


@pytest.mark.parametrize("length", [40, 700])
def test_a_prompt_that_goes_on_from_another_computes_the_rest_only(
    model: Model, monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    first = random_tokens(length, "first")
    later = [first + random_tokens(9 + j, "later", j) for j in range(3)]
    expected = []
    for prompt in later:
        for scheduler in running(model):  # one that has seen nothing
            job, arriving = job_of(prompt)
            scheduler.submit([job])
            expected.append(answers_of(arriving))
    computed: list[int] = []
    really = Decoder.hidden

    def counting(self: Decoder, tokens_N: Tensor, positions_N: Tensor, attend: Any) -> Tensor:
        computed.append(len(tokens_N))
        return really(self, tokens_N, positions_N, attend)

    for scheduler in running(model):
        job, arriving = job_of(first)
        scheduler.submit([job])
        answers_of(arriving)
        monkeypatch.setattr(Decoder, "hidden", counting)
        jobs = [job_of(prompt) for prompt in later]
        scheduler.submit([job for job, _ in jobs])
        assert [answers_of(arriving) for _, arriving in jobs] == expected
    # The last token of what is remembered is computed again; two samples of each prompt are decoded.
    assert max(computed) <= sum(9 + j + 1 for j in range(3))


def test_a_cancelled_job_leaves_at_once(model: Model, prompts: Sequence[tuple[int, ...]]) -> None:
    for scheduler in running(model):
        job, arriving = job_of(prompts[2], max_tokens=600)
        other, answers = job_of(prompts[0])
        scheduler.submit([job, other])
        arriving.get(timeout=30)
        scheduler.cancel([job])
        answers_of(answers)
        # Any later job is answered after the cancelled one has gone.
        late, last = job_of(prompts[1], max_tokens=1)
        scheduler.submit([late])
        answers_of(last)
        assert (scheduler.num_active, scheduler.num_waiting, scheduler.num_cancelled) == (0, 0, 2)


def test_stopping_tells_those_who_wait(model: Model, prompts: Sequence[tuple[int, ...]]) -> None:
    job, arriving = job_of(prompts[2], max_tokens=600)
    for scheduler in running(model):
        scheduler.submit([job])
    while isinstance(said := arriving.get(timeout=30), Delta):
        assert said.finish in (None, Finish.LENGTH, Finish.STOP)
    assert "stopping" in said.message


@pytest.mark.parametrize("where", ["_prefill", "_batch.admit", "_batch.step"])
@pytest.mark.parametrize("number", [0, 4])
def test_after_a_step_that_fails_nobody_waits_for_ever(
    model: Model,
    prompts: Sequence[tuple[int, ...]],
    monkeypatch: pytest.MonkeyPatch,
    where: str,
    number: int,
) -> None:
    """Out of memory, the usual reason, may come when a row is neither in the queue nor in the batch."""

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("out of memory")

    for scheduler in running(model):
        holder, _, name = where.rpartition(".")
        admission = admission_of(scheduler)
        monkeypatch.setattr(admission if not holder else admission._batch, name, fail)
        if number == 4 and where == "_prefill":
            monkeypatch.setattr("zerone.engine.torch.admission.PiecewisePrefill.advance", fail)
        # Of one token, so that a row that is admitted ends there; what it said is not delivered yet.
        jobs = [job_of(prompt, max_tokens=1 + i) for i, prompt in enumerate((prompts[number], prompts[0]))]
        scheduler.submit([job for job, _ in jobs])
        for _, arriving in jobs:
            num_ended = 0
            while num_ended < 2 and isinstance(said := arriving.get(timeout=10), Delta):
                num_ended += said.finish is not None
            assert num_ended == 2 or (isinstance(said, Failure) and "the engine failed" in said.message)
        monkeypatch.undo()
        later, arriving = job_of(prompts[1])
        scheduler.submit([later])
        assert len(answers_of(arriving)) == 2


def test_a_temperature_beyond_fp32_is_greedy(model: Model, prompts: Sequence[tuple[int, ...]]) -> None:
    for scheduler in running(model):
        jobs = [job_of(prompts[1], temperature=temperature) for temperature in (0, 1e-40)]
        scheduler.submit([job for job, _ in jobs])
        assert len({text for _, arriving in jobs for text in answers_of(arriving)}) == 1


def test_a_row_draws_the_numbers_of_its_seed_and_none_before_it_begins(model: Model) -> None:
    job, _ = job_of((1, 2), max_tokens=1_000_000, seed=5)
    row = Row(job, 1, model.tokenizer, frozenset())
    assert not row._uniforms
    drawn = []
    for _ in range(300):
        drawn.append(row.next_uniform)
        row.tokens.append(0)
    assert drawn == uniforms(seed_from("serve", 5, 1), 300)
