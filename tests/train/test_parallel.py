"""The trainer of any transformers model: it computes what the local one does, alone and on two ranks."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import two_ranks
from architectures import PACKED, UNPACKED, build
from fakes import Shape, byte_tokenizer, random_tokens, tiny_model
from scripted import copies, forced_logprobs, make_engine
from two_ranks import assert_same_as_one, batches, examples, groups, objective_of, run_ranks
from zerone.device import Device
from zerone.engine.torch.engine import TorchEngine
from zerone.engine.weights import GatheredWeights, ModuleWeights, hash_of
from zerone.errors import ModelError
from zerone.model.loading import load_model, save_model
from zerone.model.sharding import full_of
from zerone.processes.ranks import deal
from zerone.runs.checkpoint import Progress, load_checkpoint, save_checkpoint
from zerone.train.batch import make_batches
from zerone.train.distill import DistillObjective, Sums
from zerone.train.local import LocalTrainer
from zerone.train.metrics import StepSums
from zerone.train.optim import adamw
from zerone.train.parallel import ParallelSettings, ParallelTrainer, blocks_of, emptied
from zerone.train.sft import CrossEntropy, Example, forward_backward, mean_loss, microbatches
from zerone.train.trainer import Objective, Trainer

SHAPES = [
    Shape(kind="qwen2"),
    Shape(kind="qwen3"),
    Shape(kind="qwen3", tied=False, biases=True),
    Shape(kind="llama", tied=False),
    Shape(kind="llama", llama3_rope=True, kv_heads=1),
]
RATE = 0.01


def optimizer_of(parameters: Any) -> torch.optim.Optimizer:
    return adamw(parameters, RATE, (0.9, 0.95), 0.1)


def parallel(model: Any, reference: Any = None, **options: Any) -> ParallelTrainer:
    device = options.pop("device", Device())
    return ParallelTrainer(
        model, device, ParallelSettings(make_optimizer=optimizer_of, **options), reference=reference
    )


def local(model: Any, reference: Any = None) -> LocalTrainer:
    return LocalTrainer(model, [optimizer_of(model.parameters())], reference=reference)


def gradients(module: Any) -> dict[str, torch.Tensor]:
    return {
        name: full_of(one.grad).clone() for name, one in module.named_parameters() if one.grad is not None
    }


def assert_equal_to_rounding(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    """Sums in another order: 1e-5 of the largest number of a tensor, ten times that after updates by Adam."""
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        tolerance = 1e-3 * max(1e-3, tensor.abs().max().item())
        assert (found[name] - tensor).abs().max().item() <= tolerance, name


# Local and parallel -------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("microbatch_tokens", [30, 1000], ids=["prefix apart", "one batch"])
def test_grpo_with_kl_has_the_losses_and_gradients_of_the_local_trainer(
    shape: Shape, microbatch_tokens: int
) -> None:
    trainers: list[Trainer] = [
        make(tiny_model(shape), tiny_model(shape, seed=1)) for make in (local, parallel)
    ]
    parts = batches(microbatch_tokens)
    assert bool(parts[0].packed.apart) == (microbatch_tokens == 30)
    for _ in range(3):
        sums = [StepSums(), StepSums()]
        losses = [
            trainer.forward_backward(parts, objective_of(one))
            for trainer, one in zip(trainers, sums, strict=True)
        ]
        assert losses[1] == pytest.approx(losses[0], abs=1e-5)
        assert (sums[1].kl, sums[1].entropy) == pytest.approx((sums[0].kl, sums[0].entropy), rel=1e-4)
        assert sums[1].num_tokens == sums[0].num_tokens > 0
        first, second = (gradients(trainer.module) for trainer in trainers)  # type: ignore[attr-defined]  # of both
        assert_equal_to_rounding(second, first)
        norms = [trainer.step(RATE) for trainer in trainers]
        assert norms[1] == pytest.approx(norms[0], rel=1e-4)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_sft_has_the_losses_and_gradients_of_the_local_trainer(shape: Shape) -> None:
    first, second = local(tiny_model(shape)), parallel(tiny_model(shape))
    for _ in range(3):
        losses = [forward_backward(trainer, examples(), 24) for trainer in (first, second)]
        assert losses[1] == pytest.approx(losses[0], rel=1e-5)
        assert_equal_to_rounding(gradients(second.module), gradients(first.module))
        assert second.step(RATE) == pytest.approx(first.step(RATE), rel=1e-4)
    held_out = [mean_loss(trainer.evaluating(), examples(), 24) for trainer in (first, second)]
    assert held_out[1] == pytest.approx(held_out[0], rel=1e-5)


@pytest.mark.parametrize("name", PACKED)
def test_the_gradient_of_an_architecture_is_that_of_its_sequences_alone(name: str) -> None:
    trainer = parallel(build(PACKED[name]()))
    assert trainer.attention == "dense"
    found = forward_backward(trainer, examples(), 24)
    alone = build(PACKED[name]())
    loss: Any = sum(alone_loss(alone, example) for example in examples())
    loss = loss / sum(len(example.completion_ids) for example in examples())
    loss.backward()
    assert found == pytest.approx(loss.item(), rel=1e-5)
    assert_equal_to_rounding(gradients(trainer.module), gradients(alone))


def alone_loss(model: Any, example: Example) -> torch.Tensor:
    ids = torch.tensor([[*example.prompt_ids, *example.completion_ids]])
    logits = model(ids, use_cache=False).logits[0, len(example.prompt_ids) - 1 : -1]
    targets = torch.tensor(example.completion_ids)
    return torch.nn.functional.cross_entropy(logits.float(), targets, reduction="sum")


@pytest.mark.parametrize("name", UNPACKED)
def test_a_model_that_cannot_be_packed_is_trained_sequence_by_sequence(name: str) -> None:
    trainer = parallel(build(UNPACKED[name]()))
    assert trainer.attention == "unpacked"
    found = forward_backward(trainer, examples(), 24)
    alone = build(UNPACKED[name]())
    loss: Any = sum(alone_loss(alone, example) for example in examples())
    loss = loss / sum(len(example.completion_ids) for example in examples())
    loss.backward()
    assert found == pytest.approx(loss.item(), rel=1e-5)
    assert_equal_to_rounding(gradients(trainer.module), gradients(alone))


@pytest.mark.parametrize("apart", [0, 1, 5])
def test_a_prefix_kept_apart_changes_no_gradient(apart: int) -> None:
    """Of a batch whose prefix is among its tokens, and of the same kept apart."""
    template = random_tokens(apart, "apart")
    parts = [
        list(
            make_batches(
                [
                    replace(one, group=replace(one.group, members=tuple(with_template(one, template))))
                    for one in groups()
                ],
                aggregation="token",
                max_tokens=32,
                mask_truncated=False,
                keep_silent=True,
                microbatch_tokens=size,
            )
        )
        for size in (20, 10_000)
    ]
    assert bool(parts[0][0].packed.apart)
    assert not parts[1][0].packed.apart
    found = []
    for one in parts:
        trainer = parallel(tiny_model())
        trainer.forward_backward(one, objective_of(StepSums()))
        found.append(gradients(trainer.module))
    assert_equal_to_rounding(found[0], found[1])


def with_template(credited: Any, template: tuple[int, ...]) -> Any:
    for graded in credited.group.members:
        prompt = (*template, *graded.rollout.prompt_ids)
        yield replace(graded, rollout=replace(graded.rollout, prompt_ids=prompt))


@pytest.mark.parametrize(
    ("make", "options"),
    [(local, {}), (parallel, {}), (parallel, {"offload": "all"})],
    ids=["local", "parallel", "sharded"],
)
def test_logits_in_pieces_change_no_loss_and_no_gradient(
    make: Any, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of RL's log-probabilities and of SFT's cross entropy, with pieces of two tokens."""
    found = []
    for largest in (2**24, 2 * 261):
        monkeypatch.setattr("zerone.train.logprobs.LARGEST_LOGITS", largest)
        trainer = make(tiny_model(), **options)
        losses = [forward_backward(trainer, examples(), 1000)]
        losses.append(trainer.forward_backward(batches(1000), objective_of(StepSums())))
        found.append((losses, gradients(trainer.module)))
    assert found[1][0] == pytest.approx(found[0][0], rel=1e-6)
    assert_equal_to_rounding(found[1][1], found[0][1])


# Empty passes and shares --------------------------------------------------------------------------


def objectives() -> dict[str, tuple[Any, Objective[Any]]]:
    teacher = parallel(tiny_model(seed=3)).evaluating()
    (sft,) = microbatches(examples(), 1000)
    (grpo,) = batches(1000)
    return {
        "grpo": (grpo, objective_of(StepSums())),
        "sft": (sft, CrossEntropy(7)),
        "distillation": (grpo, DistillObjective(teacher, 1.0, Sums())),
    }


@pytest.mark.parametrize("name", ["grpo", "sft", "distillation"])
@pytest.mark.parametrize("kind", ["qwen3", "llama", "gemma3", "qwen3_moe"])
def test_an_emptied_micro_batch_has_no_loss_and_no_gradient(name: str, kind: str) -> None:
    batch, objective = objectives()[name]
    trainer = parallel(build(PACKED[kind]()), build(PACKED[kind](), seed=1))
    loss, _ = objective.loss(trainer.evaluating(), trainer.reference(), emptied(batch))
    assert loss.item() == 0
    loss.backward()
    reached = [one.grad for one in trainer.module.parameters() if one.grad is not None]
    assert reached
    assert not any(gradient.any() for gradient in reached)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 5000), max_size=40), st.integers(1, 9))
def test_micro_batches_are_dealt_out_once_each_and_evenly(sizes: list[int], num_ranks: int) -> None:
    shares = deal(sizes, num_ranks)
    assert len(shares) == num_ranks
    assert sorted(index for share in shares for index in share) == [*range(len(sizes))]
    assert all(share == sorted(share) for share in shares)
    totals = [sum(sizes[index] for index in share) for share in shares]
    assert max(totals) - min(totals) <= max(sizes, default=0)
    if len(sizes) >= num_ranks:
        assert all(shares)


# Two ranks ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder with what two ranks of torchrun computed."""
    folder = tmp_path_factory.mktemp("ranks")
    run_ranks(folder, two_ranks.CASES[:3])
    return folder


@pytest.mark.parametrize("case", two_ranks.CASES[:3])
def test_two_ranks_have_the_losses_gradients_and_weights_of_one(two: Path, case: str) -> None:
    """Embeddings are tied and sharded in one of the cases, and three micro-batches go to two ranks."""
    assert_same_as_one(two, case)


# Sharded on one device ----------------------------------------------------------------------------

BF16 = Device(dtype=torch.bfloat16)


def steps_of(trainer: ParallelTrainer, number: int = 3) -> list[tuple[float, float]]:
    found = []
    for _ in range(number):
        loss = trainer.forward_backward(batches(44), objective_of(StepSums()))
        found.append((loss, trainer.step(RATE)))
    return found


@pytest.mark.parametrize("shape", [Shape(), Shape(kind="llama", tied=False)], ids=str)
def test_offloaded_and_so_sharded_a_model_learns_the_very_same(shape: Shape) -> None:
    """Embedding and last norm too, which belong to the root that FSDP2 would leave gathered."""
    plain, sharded = (
        parallel(tiny_model(shape), tiny_model(shape, 1), **options) for options in ({}, {"offload": "all"})
    )
    assert (plain.is_sharded, sharded.is_sharded) == (False, True)
    assert steps_of(sharded) == steps_of(plain)
    found, expected = dict(sharded.weights()), copies(plain.module)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    before = copies(tiny_model(shape))
    assert all((found[name] != before[name]).any() for name in found)


def test_bf16_computes_in_bf16_and_learns_in_fp32() -> None:
    exact, rounded = parallel(tiny_model()), parallel(tiny_model(), device=BF16)
    assert rounded.is_sharded
    assert rounded.dtype is torch.bfloat16
    pairs = [trainer.forward_backward(batches(44), objective_of(StepSums())) for trainer in (exact, rounded)]
    # bf16 has 8 bits: a loss of about 1 is off by a hundredth, a gradient by a few.
    assert pairs[1] == pytest.approx(pairs[0], abs=0.05)
    found, expected = gradients(rounded.module), gradients(exact.module)
    for name, gradient in expected.items():
        assert found[name].dtype is torch.float32
        cosine = torch.nn.functional.cosine_similarity(found[name].flatten(), gradient.flatten(), dim=0)
        assert cosine > 0.98, name
    before = {name: tensor.clone() for name, tensor in rounded.weights()}
    rounded.step(1e-6)  # far below what bf16 could add to a weight
    after = dict(rounded.weights())
    assert all(tensor.dtype is torch.float32 for tensor in after.values())
    assert all((after[name] != before[name]).any() for name in after)


def test_weights_read_after_an_evaluation_are_the_fp32_masters() -> None:
    """After a pass without a backward FSDP2 would hand out the gathered bf16 copies of the root."""
    trainer = parallel(tiny_model(), device=BF16)
    with torch.no_grad():
        mean_loss(trainer.evaluating(), examples(), 24)
    expected = copies(tiny_model())
    for name, tensor in trainer.weights():
        assert tensor.dtype is torch.float32
        assert torch.equal(tensor, expected[name]), name


@pytest.mark.parametrize(
    "options", [{}, {"offload": "all"}, {"device": BF16}], ids=["plain", "offload", "bf16"]
)
def test_a_checkpoint_brings_back_all_that_decides_on_the_next_steps(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    trainer = parallel(tiny_model(), tiny_model(seed=1), **options)
    steps_of(trainer, 2)
    trainer.replace_reference()
    steps_of(trainer, 1)
    state = trainer.state(byte_tokenizer())
    save_checkpoint(tmp_path, Progress(step=1, updates=3), state, keep=1)
    again = parallel(tiny_model(seed=5), tiny_model(seed=6), **options)
    load_checkpoint(tmp_path / "step_000001", again.state(byte_tokenizer()))
    assert steps_of(again) == steps_of(trainer)
    assert hash_of(again.weights()) == hash_of(trainer.weights())
    opened = load_model(str(tmp_path / "step_000001" / "model"), torch.float32)
    assert opened.module.config.model_type == "qwen3"


def test_a_checkpoint_of_experts_comes_back(tmp_path: Path) -> None:
    """transformers has other names for them in files than in memory."""
    trainer = parallel(build(PACKED["qwen3_moe"]()))
    forward_backward(trainer, examples(), 24)
    trainer.step(RATE)
    save_checkpoint(tmp_path, Progress(step=1, updates=1), trainer.state(byte_tokenizer()), keep=1)
    again = parallel(build(PACKED["qwen3_moe"](), seed=5))
    load_checkpoint(tmp_path / "step_000001", again.state(byte_tokenizer()))
    assert hash_of(again.weights()) == hash_of(trainer.weights())


# Memory -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PACKED)
def test_blocks_computed_again_have_the_same_gradient(name: str) -> None:
    kept, again = parallel(build(PACKED[name]())), parallel(build(PACKED[name]()), recompute=True)
    losses = [forward_backward(trainer, examples(), 24) for trainer in (kept, again)]
    assert losses[1] == losses[0]
    assert_equal_to_rounding(gradients(again.module), gradients(kept.module))


@pytest.mark.parametrize("name", ["qwen3", "gemma3", "phi3"])
def test_blocks_really_are_computed_again(name: str) -> None:
    counts = []
    for recompute in (False, True):
        trainer = parallel(build(PACKED[name]()), recompute=recompute)
        calls: list[int] = []
        mlp: Any = blocks_of(trainer.module)[0].mlp
        mlp.register_forward_pre_hook(lambda *_, calls=calls: calls.append(1))
        forward_backward(trainer, examples(), 1000)
        counts.append(len(calls))
    assert counts == [1, 2]


# Engines ------------------------------------------------------------------------------------------


def test_an_engine_takes_weights_that_lie_elsewhere() -> None:
    model = tiny_model()
    source = GatheredWeights(model)
    mine, other = make_engine(model), make_engine_for(model)
    other.update_weights(source, 3)
    assert (mine.weight_version, other.weight_version) == (0, 3)
    found, expected = (rollouts_of(engine) for engine in (other, mine))
    assert [one.completion_ids for one in found] == [one.completion_ids for one in expected]
    logprobs = torch.tensor(found[0].sampler_logprobs)
    assert torch.allclose(logprobs, forced_logprobs(model, found[0]), atol=1e-4)


def test_an_engine_s_copy_is_not_touched_until_the_next_update() -> None:
    model = tiny_model()
    engine = make_engine_for(model)
    engine.update_weights(GatheredWeights(model), 0)
    before = rollouts_of(engine)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.1)
    assert rollouts_of(engine) == before
    engine.sleep()
    engine.update_weights(GatheredWeights(model), 1)
    assert [one.completion_ids for one in rollouts_of(engine)] != [one.completion_ids for one in before]


def test_an_engine_s_copy_survives_a_tied_head_and_bf16() -> None:
    for shape in (Shape(tied=True), Shape(tied=False)):
        model = tiny_model(shape)
        engine = TorchEngine(byte_tokenizer(), (0,), 512, 8, torch.bfloat16, config=model.config)
        engine.update_weights(GatheredWeights(model), 0)
        plain = TorchEngine(byte_tokenizer(), (0,), 512, 8, torch.bfloat16)
        plain.update_weights(ModuleWeights(model), 0)
        assert rollouts_of(engine) == rollouts_of(plain)


def make_engine_for(model: Any) -> TorchEngine:
    return TorchEngine(byte_tokenizer(), (0,), 512, 8, torch.float32, config=model.config)


def rollouts_of(engine: TorchEngine) -> Sequence[Any]:
    from scripted import ask
    from zerone.engine.api import SamplingParams

    found = ask(engine, [random_tokens(4, "ask")], [[1, 2, 3]], SamplingParams(max_tokens=12))
    return [replace(one, weight_version=0) for one in found[0]]


# Refusals -----------------------------------------------------------------------------------------


def test_the_local_trainer_refuses_adapters() -> None:
    """By anything that wraps a linear map as peft does, without peft."""

    class Wrapped(torch.nn.Module):
        def __init__(self, base_layer: Any) -> None:
            super().__init__()
            self.base_layer = base_layer
            self.weight = base_layer.weight

    model = tiny_model()
    model.model.layers[0].self_attn.q_proj = Wrapped(model.model.layers[0].self_attn.q_proj)
    with pytest.raises(ModelError, match=r"has adapters \(peft\).*model\.trainer=parallel"):
        local(model)
    with pytest.raises(ModelError, match="has adapters"):
        make_engine(model)


def test_blocks_that_cannot_be_found_are_named() -> None:
    model = tiny_model()
    layers = model.model.layers
    del model.model.layers
    model.model.others = layers
    with pytest.raises(ModelError, match=r"Qwen3ForCausalLM keeps its layers .* model\.precision=fp32"):
        blocks_of(model)


@pytest.mark.parametrize("name", ["gemma3", "phi3", "granite"])
def test_the_model_of_an_architecture_is_saved_and_opened(tmp_path: Path, name: str) -> None:
    save_model(build(PACKED[name]()), byte_tokenizer(), tmp_path / "base")
    opened = load_model(str(tmp_path / "base"), torch.float32, any_architecture=True)
    trainer = parallel(opened.module)
    forward_backward(trainer, examples(), 24)
    trainer.step(RATE)
    trainer.save(tmp_path / "model", byte_tokenizer())
    again = load_model(str(tmp_path / "model"), torch.float32, any_architecture=True)
    assert hash_of(ModuleWeights(again.module)) == hash_of(trainer.weights())
    with pytest.raises(ModelError, match=r"is not supported.*model\.trainer=parallel"):
        load_model(str(tmp_path / "model"), torch.float32)
