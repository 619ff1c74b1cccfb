"""What micro-batches share: computed once, and the gradient stays what it was.

Dimensions: C completion tokens, V vocabulary.
"""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from fakes import Shape, random_tokens, tiny_model
from scripted import credited, member
from training import Passes, backward, logits_of
from zerone.model.packed import prefix_kv
from zerone.train import batch as batch_module
from zerone.train import shared_forward as once_module
from zerone.train.batch import Batch, make_batches
from zerone.train.loss import Objective
from zerone.train.shared_forward import SharedForward
from zerone.types import Credited

TOLERANCE = 2e-5
OBJECTIVE = Objective(clip_low=0.2, clip_high=0.28, kl_coef=0.05, kl_estimator="k3")
SMALL = 24
PREFIX = random_tokens(14, "prefix")
SHAPES = [Shape(kind="qwen3"), Shape(kind="llama")]


def group_of(number: int) -> Credited:
    lengths = (3, 8, 5, 6)
    members = [
        member(
            prompt=(*PREFIX, *random_tokens(1 + number, "question", number)),
            completion=random_tokens(length, "answer", number, j),
            logprobs=[-2 - j / 8 - t / 32 for t in range(length)],
            sample=j,
        )
        for j, length in enumerate(lengths)
    ]
    return credited(members, (1.0, -0.5, 0.25, -0.75))


GROUPS = [group_of(number) for number in range(4)]


def batches_of(size: int, groups: Sequence[Credited] = GROUPS) -> list[Batch]:
    return list(
        make_batches(
            groups,
            aggregation="sequence",
            max_tokens=8,
            mask_truncated=False,
            keep_silent=True,
            microbatch_tokens=size,
        )
    )


def gradient_of(model: Any, reference: Any, batches: Sequence[Batch]) -> tuple[float, Tensor]:
    passes = Passes(model, reference, torch.float32)
    loss = sum(backward(passes, batch, OBJECTIVE, 0.7)[0].loss.item() for batch in batches)
    passes.policy.finish()
    return loss, torch.cat([weight.grad.flatten() for weight in model.parameters()])


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.kind)
def test_a_prefix_kept_apart_changes_neither_loss_nor_gradient(
    monkeypatch: pytest.MonkeyPatch, shape: Shape
) -> None:
    apart = batches_of(SMALL)
    assert len(apart) > len(GROUPS)
    assert all(batch.packed.apart == PREFIX and batch.packed.num_prefix == 0 for batch in apart)
    found = gradient_of(tiny_model(shape), tiny_model(shape, seed=1), apart)
    monkeypatch.setattr(batch_module, "_APART_SHARE", 0)
    whole = batches_of(10_000)
    assert len(whole) == 1
    assert not whole[0].packed.apart
    loss, gradient = gradient_of(tiny_model(shape), tiny_model(shape, seed=1), whole)
    assert found[0] == pytest.approx(loss, abs=TOLERANCE)
    assert (found[1] - gradient).abs().max() <= TOLERANCE * gradient.abs().max()


def test_a_short_prefix_stays_in_its_batches() -> None:
    assert not any(batch.packed.apart for batch in batches_of(8 * len(PREFIX) + 1))
    assert all(batch.packed.apart for batch in batches_of(8 * len(PREFIX)))


def test_a_prefix_kept_apart_is_computed_once_per_module_and_update(monkeypatch: pytest.MonkeyPatch) -> None:
    computed = []

    def counting(decoder: Any, prefix: Any) -> Any:
        computed.append(len(prefix))
        return prefix_kv(decoder, prefix)

    monkeypatch.setattr(once_module, "prefix_kv", counting)
    gradient_of(tiny_model(), tiny_model(seed=1), batches_of(SMALL))
    assert computed == [len(PREFIX)] * 2


def test_a_batch_whose_prefix_is_not_given_computes_it() -> None:
    model = tiny_model()
    (apart, *_), (whole,) = batches_of(SMALL), batches_of(10_000)
    found_CV = logits_of(model, apart, torch.float32)
    expected_CV = logits_of(model, whole, torch.float32)[: len(found_CV)]
    torch.testing.assert_close(found_CV, expected_CV, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.kind)
def test_joined_weights_give_the_gradient_of_a_decoder_for_each_batch_to_the_last_bit(shape: Shape) -> None:
    batches = [batch for group in GROUPS for batch in batches_of(10_000, [group])]

    def gradient(*, is_shared: bool) -> Tensor:
        model = tiny_model(shape)
        shared = SharedForward(model, torch.float32)
        for batch in batches:
            once = shared if is_shared else SharedForward(model, torch.float32)
            logprobs_C, _ = once.logprobs(batch, 1.0)
            (logprobs_C * batch.weights_C).sum().backward()
            if not is_shared:
                once.finish()
        shared.finish()
        return torch.cat([weight.grad.flatten() for weight in model.parameters()])

    found = gradient(is_shared=True)
    assert torch.equal(found, gradient(is_shared=False))
    assert found.abs().max() > 0


def test_nothing_is_learnt_by_a_module_that_was_read_without_gradient() -> None:
    model, reference = tiny_model(), tiny_model(seed=1)
    gradient_of(model, reference, batches_of(SMALL))
    assert all(weight.grad is None for weight in reference.parameters())


def test_gradients_of_many_batches_are_added_up_in_fp32_where_the_weights_are_bf16() -> None:
    """In bf16 a sum of equal parts stands still once it is 256 times a part."""
    weight = torch.zeros(2, requires_grad=True)
    cut = once_module._Cut()
    end = cut(weight.to(torch.bfloat16))
    for _ in range(1000):
        (end * 2.0**-10).sum().backward()
    cut.finish()
    assert weight.grad is not None
    assert weight.grad.tolist() == pytest.approx([1000 / 1024] * 2, rel=2**-8)
