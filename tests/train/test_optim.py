"""Optimisers and schedules: who gets which rule, and what one update does."""

import math

import pytest
import torch
from torch import nn

from fakes import Shape, tiny_model
from zerone.train.optim import (
    Muon,
    adamw,
    muon_with_adamw,
    orthogonalised,
    set_learning_rate,
    warmup_stable_decay,
    warmup_then_constant,
    warmup_then_cosine,
)


def parameter(*shape: int, seed: int = 0) -> nn.Parameter:
    return nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(seed)))


def test_adamw_decays_matrices_and_leaves_vectors_alone() -> None:
    matrix, vector = parameter(3, 4), parameter(4)
    before = matrix.detach().clone(), vector.detach().clone()
    optimizer = adamw([matrix, vector], learning_rate=0.1, betas=(0.9, 0.95), weight_decay=0.5)
    matrix.grad, vector.grad = torch.zeros(3, 4), torch.zeros(4)
    optimizer.step()
    torch.testing.assert_close(matrix.detach(), before[0] * (1 - 0.1 * 0.5))
    assert torch.equal(vector.detach(), before[1])


def test_adamw_makes_the_textbook_update() -> None:
    """Two updates by hand: m and v with their bias corrections, epsilon 1e-8."""
    p = parameter(5)
    optimizer = adamw([p], learning_rate=0.01, betas=(0.9, 0.95), weight_decay=0.0)
    expected, m, v = p.detach().clone().double(), torch.zeros(5).double(), torch.zeros(5).double()
    for t in (1, 2):
        gradient = torch.randn(5, generator=torch.Generator().manual_seed(t))
        p.grad = gradient.clone()
        optimizer.step()
        m = 0.9 * m + 0.1 * gradient
        v = 0.95 * v + 0.05 * gradient**2
        expected -= 0.01 * (m / (1 - 0.9**t)) / ((v / (1 - 0.95**t)).sqrt() + 1e-8)
    torch.testing.assert_close(p.detach().double(), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("tied", [True, False])
def test_every_parameter_of_a_model_is_trained_by_exactly_one_rule(tied: bool) -> None:
    model = tiny_model(Shape(tied=tied))
    for optimizers in (muon_with_adamw(model, 0.01, 0.1), [adamw(model.parameters(), 0.1, (0.9, 0.9), 0.1)]):
        held = [p for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]]
        assert sorted(map(id, held)) == sorted(map(id, model.parameters()))


def test_muon_gets_the_matrices_of_the_blocks_and_nothing_else() -> None:
    model = tiny_model(Shape(tied=False))
    muon, _ = muon_with_adamw(model, 0.01, 0.1)
    held = {id(p) for group in muon.param_groups for p in group["params"]}
    names = {name for name, p in model.named_parameters() if id(p) in held}
    assert len(names) == 2 * 7
    assert all(name.startswith("model.layers.") and "norm" not in name for name in names)


@pytest.mark.parametrize("shape", [(8, 8), (16, 4), (4, 16), (1, 5)])
def test_orthogonalised_matrices_keep_their_directions_and_lose_their_sizes(shape: tuple[int, int]) -> None:
    """Five Newton-Schulz iterations bring singular values to 0.7-1.2 (the coefficients' known band)."""
    matrix = parameter(*shape).detach() * torch.logspace(0, 1, shape[1])
    found = orthogonalised(matrix)
    assert found.shape == matrix.shape
    sizes = torch.linalg.svdvals(found)
    assert sizes.min() > 0.6
    assert sizes.max() < 1.25
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    # U^T X V is diagonal where X has the singular vectors of the matrix.
    inner = u.T @ found @ v.T
    torch.testing.assert_close(inner, torch.diag(inner.diagonal()), atol=1e-4, rtol=0)


def test_muon_moves_by_an_orthogonal_matrix_of_the_size_that_fits_adamw() -> None:
    p = parameter(6, 3)
    before, gradient = p.detach().clone(), parameter(6, 3, seed=1).detach()
    p.grad = gradient.clone()
    Muon([p], lr=0.1, weight_decay=0.2).step()
    # momentum 0.95 with Nesterov's look-ahead: the first update has the direction of the gradient
    expected = before * (1 - 0.1 * 0.2) - 0.1 * 0.2 * math.sqrt(6) * orthogonalised(gradient)
    torch.testing.assert_close(p.detach(), expected, atol=1e-5, rtol=1e-4)


def test_muon_leaves_parameters_without_gradient_alone() -> None:
    p = parameter(2, 2)
    before = p.detach().clone()
    Muon([p], lr=0.1, weight_decay=0.2).step()
    assert torch.equal(p.detach(), before)


def test_learning_rate_is_set_for_all_groups_of_all_optimizers() -> None:
    model = tiny_model()
    optimizers = muon_with_adamw(model, 0.01, 0.1)
    set_learning_rate(optimizers, 0.123)
    assert {group["lr"] for optimizer in optimizers for group in optimizer.param_groups} == {0.123}


def test_warmup_is_linear_and_then_constant() -> None:
    rates = [warmup_then_constant(step, 1.0, 4) for step in range(7)]
    assert rates == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 1.0]
    assert warmup_then_constant(0, 0.5, 0) == 0.5


def test_decay_is_linear_in_the_last_part_and_ends_near_zero() -> None:
    rates = [warmup_stable_decay(step, 1.0, 2, 20, decay_part=0.5) for step in range(20)]
    assert rates[:2] == [0.5, 1.0]
    assert rates[2:11] == [1.0] * 9
    assert rates[10:] == pytest.approx([1.0 - i / 10 for i in range(10)])
    assert min(warmup_stable_decay(step, 1.0, 2, 20, decay_part=0.5) for step in range(40)) == 0.02


def test_cosine_warms_up_and_ends_at_its_share_of_the_peak() -> None:
    rates = [warmup_then_cosine(step, 1.0, 2, 12, final_share=0.1) for step in range(12)]
    assert rates[:2] == [0.5, 1.0]
    assert rates[1:] == sorted(rates[1:], reverse=True)
    assert rates[6] == pytest.approx(0.55)  # half of the way down, from 1 to 0.1
    assert rates[11] == pytest.approx(0.1)
    assert warmup_then_cosine(40, 1.0, 2, 12, final_share=0.1) == pytest.approx(0.1)
    assert warmup_then_cosine(0, 1.0, 0, 1, final_share=0.1) == pytest.approx(0.1)
