"""What a training holds and says when memory does not do, tried-out micro-batches, moments in 8 bits."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from architectures import PACKED, build
from fakes import Shape, byte_tokenizer, tiny_model
from processes import arguments_of, call_main, metrics_of
from scripted import save_talking_model, write_problems
from two_ranks import batches, examples, objective_of
from zerone.device import Device
from zerone.engine.weights import hash_of
from zerone.errors import ConfigError, TrainingError
from zerone.jobs.training import tried_tokens
from zerone.runs.checkpoint import Progress, load_checkpoint, save_checkpoint
from zerone.train.local import LocalTrainer
from zerone.train.memory import (
    Resident,
    advice,
    advised,
    fitting_tokens,
    is_lack_of_memory,
    peak_of,
)
from zerone.train.metrics import StepSums
from zerone.train.optim import adamw, adamw_8bit
from zerone.train.parallel import ParallelSettings, ParallelTrainer
from zerone.train.sft import forward_backward

CPU = Device()


def parallel(model: Any, reference: Any = None, *, kind: Any = adamw, **options: Any) -> ParallelTrainer:
    settings = ParallelSettings(
        make_optimizer=lambda parameters: kind(parameters, 0.01, (0.9, 0.95), 0.0), **options
    )
    return ParallelTrainer(model, CPU, settings, reference=reference)


# What is held -------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [Shape(), Shape(kind="llama", tied=False, width=64)], ids=str)
@pytest.mark.parametrize("has_reference", [False, True])
def test_what_is_held_is_counted_to_the_byte(shape: Shape, has_reference: bool) -> None:
    trainer = parallel(tiny_model(shape), tiny_model(shape, 1) if has_reference else None)
    forward_backward(trainer, examples(), 100)
    before = trainer.resident()
    trainer.step(0.01)
    held = trainer.resident()
    number = sum(parameter.numel() for parameter in tiny_model(shape).parameters())
    steps = 4 * len([*tiny_model(shape).parameters()])
    assert (held.weights, held.gradients, held.reference) == (
        4 * number,
        4 * number,
        4 * number * has_reference,
    )
    assert held.optimizer == 8 * number + steps
    assert before.optimizer == 8 * number  # foreseen before there is any
    assert held.total == held.weights + held.gradients + held.optimizer + held.reference


def test_the_peak_of_a_piece_of_work_is_what_it_held_at_once() -> None:
    def together() -> None:
        kept = [torch.zeros(1000) for _ in range(10)]
        del kept

    def one_by_one() -> None:
        for _ in range(10):
            torch.zeros(1000)

    assert peak_of(CPU, together) == 40_000
    assert peak_of(CPU, one_by_one) == pytest.approx(4_000, abs=4_000)


def test_the_peak_of_a_pass_grows_with_its_tokens_and_falls_with_recomputation() -> None:
    peaks: dict[bool, list[int]] = {}
    for recompute in (False, True):
        trainer = parallel(build(PACKED["qwen3"]()), recompute=recompute)

        def work(number: int, trainer: ParallelTrainer = trainer) -> None:
            forward_backward(trainer, examples() * number, 100_000)
            trainer.module.zero_grad(set_to_none=True)

        for number in (2, 8):
            peaks.setdefault(recompute, []).append(peak_of(CPU, partial(work, number)))
    assert peaks[False][1] > 2 * peaks[False][0]
    assert peaks[True][1] < 0.8 * peaks[False][1]


# The size of micro-batches ------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(
    st.floats(0, 1e9),
    st.floats(1e3, 1e6),
    st.floats(0, 50),
    st.floats(1e8, 1e11),
    st.sampled_from([512, 8192]),
)
def test_the_largest_fitting_micro_batch_fits_and_the_next_does_not(
    constant: float, linear: float, square: float, budget: float, largest: int
) -> None:
    def cost(tokens: int) -> int:
        return int(constant + linear * tokens + square * tokens**2)

    found = fitting_tokens([(n, cost(n)) for n in (128, 384, 768)], int(budget), longest=1, largest=largest)
    assert found % 256 == 0
    assert found <= largest
    slack = 0.01 * budget + 1e4  # sizes are whole bytes
    if found > 256:
        assert cost(found) <= budget + slack
    if found < largest:
        assert cost(found + 256) >= budget - slack


def test_a_sequence_longer_than_fits_is_still_one_micro_batch() -> None:
    assert fitting_tokens([(1, 10), (2, 20), (3, 30)], 5, longest=777, largest=8192) == 777


def test_trying_out_changes_neither_weights_nor_gradients_nor_updates(capsys: Any) -> None:
    trainer, other = (parallel(tiny_model(Shape(context=1024))) for _ in range(2))
    tokens = tried_tokens(trainer, longest=100)
    assert 256 <= tokens <= 4096
    assert "micro-batches of" in capsys.readouterr().err
    assert all(parameter.grad is None for parameter in trainer.module.parameters())
    assert trainer.step(0.01) == 0.0
    for one in (trainer, other):
        forward_backward(one, examples(), 100)
        one.step(0.01)
    assert hash_of(trainer.weights()) == hash_of(other.weights())


def test_less_free_memory_makes_smaller_micro_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for free in (10**6, 10**7, 10**8, 10**9):
        monkeypatch.setattr("zerone.jobs.training.free_memory", lambda device, free=free: free)
        found.append(tried_tokens(parallel(tiny_model(Shape(context=1024))), longest=100))
    assert found == sorted(found)
    assert found[0] == 256 < found[-1]


# Out of memory ------------------------------------------------------------------------------------


def held_of(**changes: Any) -> Resident:
    plain: dict[str, Any] = {
        "device": Device(kind="cuda", dtype=torch.bfloat16),
        "weights": 2 * 10**9,
        "gradients": 2 * 10**9,
        "optimizer": 4 * 10**9,
        "reference": 2 * 10**9,
        "num_blocks": 24,
        "recomputes": False,
        "has_adapters": False,
        "is_in_8_bits": False,
    }
    return Resident(**(plain | changes))


def test_the_advice_says_what_was_held_and_three_things_to_change() -> None:
    text = advice(held_of(), 4096, 24 * 10**9)
    assert "out of memory on cuda:0 (24.0 GB) in a micro-batch of 4,096 tokens" in text
    assert "weights 2.0 GB, gradients 2.0 GB, optimizer 4.0 GB, reference 2.0 GB" in text
    assert text.count(" less)") == 3
    assert "model.gradient_checkpointing=true (about 13.4 GB less)" in text
    assert "model.offload=all (about 10.0 GB less)" in text
    assert "--resume" in text


CHANGES: list[tuple[dict[str, Any], int, str, str]] = [
    ({"recomputes": True}, 4096, "rl.microbatch_tokens=2048", "gradient_checkpointing=true"),
    ({"has_adapters": True, "recomputes": True}, 4096, "rl.microbatch_tokens=2048", "lora.rank"),
    ({"is_in_8_bits": True}, 0, "model.offload=all", "adamw_8bit"),
    ({"reference": 0}, 4096, "model.offload=all", "reference 0"),
    ({"device": Device()}, 4096, "lora.rank=16", "model.offload="),
]


@pytest.mark.parametrize(("changes", "tokens", "named", "unnamed"), CHANGES)
def test_the_advice_names_nothing_that_is_done_already_or_does_not_help(
    changes: dict[str, Any], tokens: int, named: str, unnamed: str
) -> None:
    before_the_end = advice(held_of(**changes), tokens, 24 * 10**9).split("The last checkpoint")[0]
    assert named in before_the_end
    assert unnamed not in before_the_end
    assert before_the_end.count(" less)") == 3


LACKS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    MemoryError(),
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried"),
    RuntimeError("CUDA error: out of memory"),
]


@pytest.mark.parametrize("error", LACKS, ids=lambda error: type(error).__name__ + str(error)[:10])
def test_each_way_in_which_memory_is_missing_is_understood(error: Exception) -> None:
    assert is_lack_of_memory(error)
    with pytest.raises(TrainingError, match="out of memory"), advised(held_of_cpu, 10):
        raise error


def held_of_cpu() -> Resident:
    return held_of(device=Device())


@pytest.mark.parametrize("error", [RuntimeError("shape mismatch"), ValueError("memory")])
def test_other_errors_pass(error: Exception) -> None:
    with pytest.raises(type(error), match=str(error)), advised(held_of_cpu, 10):
        raise error


def test_a_pass_that_finds_no_memory_says_so_by_either_trainer() -> None:
    """By a real allocation that no machine has."""

    class Greedy:
        def loss(self, policy: Any, reference: Any, batch: Any) -> Any:
            return torch.empty(2**55), None

        def record(self, terms: Any) -> None:
            raise AssertionError("nothing to record")

    model = tiny_model()
    for trainer in (
        parallel(tiny_model()),
        LocalTrainer(model, [adamw(model.parameters(), 0.01, (0.9, 0.95), 0.0)]),
    ):
        with pytest.raises(TrainingError, match=r"out of memory on cpu .* Held were .* Change one of"):
            trainer.forward_backward(batches(1000), Greedy())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("memory")
    save_talking_model(path / "base")
    write_problems(path / "problems.jsonl")
    yield path


def test_a_run_out_of_memory_goes_on_with_smaller_micro_batches(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = arguments_of(folder, "short", "model.trainer=parallel", "checkpoint.every=1")
    forward, calls = ParallelTrainer.evaluating, []

    class Lacking:
        def __getattr__(self, name: str) -> Any:
            raise torch.OutOfMemoryError("CUDA out of memory")

    def lacking(self: ParallelTrainer) -> Any:
        calls.append(1)
        return Lacking() if len(calls) == 6 else forward(self)

    monkeypatch.setattr(ParallelTrainer, "evaluating", lacking)
    code, _, err = call_main(folder, *arguments)
    assert code == 1
    assert "rl.microbatch_tokens=" in err
    assert 0 < len(metrics_of(folder / "short")) < 4
    code, _, err = call_main(folder, *arguments, "rl.microbatch_tokens=100", "--resume")
    assert code == 0, err
    assert "another use of memory" in err
    assert len(metrics_of(folder / "short")) == 4


def test_a_tried_out_size_is_kept_when_the_run_goes_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import json

    arguments = arguments_of(folder, "tried", "rl.microbatch_tokens=0")
    assert call_main(folder, *arguments)[0] == 0
    path = folder / "tried" / "environment.json"
    environment = json.loads(path.read_text(encoding="utf-8"))
    assert environment["microbatch_tokens"] >= 256

    def never(*_: Any) -> int:
        raise AssertionError("tried out again")

    monkeypatch.setattr("zerone.jobs.training.tried_tokens", never)
    assert call_main(folder, *arguments, "--resume")[0] == 0
    assert json.loads(path.read_text(encoding="utf-8")) == environment


# Moments in 8 bits --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def torchao() -> Any:
    """Return torchao, or skip: it is the extra `quantized`."""
    return pytest.importorskip("torchao")


WIDE = Shape(width=256, head_dim=16, tied=False)


@pytest.mark.usefixtures("torchao")
def test_moments_in_8_bits_take_a_quarter_and_learn_alike() -> None:
    exact, short = (parallel(tiny_model(WIDE), kind=kind) for kind in (adamw, adamw_8bit))
    losses: list[list[float]] = []
    for trainer in (exact, short):
        losses.append([])
        for _ in range(12):
            losses[-1].append(forward_backward(trainer, examples(), 100))
            trainer.step(0.003)
    assert losses[1] == pytest.approx(losses[0], rel=0.05)
    assert losses[1][-1] < 0.6 * losses[1][0]
    assert short.resident().is_in_8_bits
    assert not exact.resident().is_in_8_bits
    assert short.resident().optimizer < 0.3 * exact.resident().optimizer
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.003)


@pytest.mark.usefixtures("torchao")
@pytest.mark.parametrize("options", [{}, {"offload": "all"}], ids=["plain", "sharded"])
def test_a_checkpoint_of_8_bits_goes_on_exactly(tmp_path: Path, options: dict[str, Any]) -> None:
    trainer = parallel(tiny_model(WIDE), kind=adamw_8bit, **options)

    def step(one: ParallelTrainer) -> tuple[float, float]:
        loss = one.forward_backward(batches(44), objective_of(StepSums()))
        return loss, one.step(0.01)

    step(trainer)
    save_checkpoint(tmp_path, Progress(step=1, updates=1), trainer.state(byte_tokenizer()), keep=1)
    again = parallel(tiny_model(WIDE, seed=4), kind=adamw_8bit, **options)
    load_checkpoint(tmp_path / "step_000001", again.state(byte_tokenizer()))
    assert [step(again) for _ in range(2)] == [step(trainer) for _ in range(2)]
    assert hash_of(again.weights()) == hash_of(trainer.weights())


def test_without_torchao_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "torchao.optim", None)
    with pytest.raises(ConfigError, match=r"pip install 'zerone\[quantized\]'"):
        adamw_8bit(tiny_model().parameters(), 0.1, (0.9, 0.95), 0.0)
