"""Each term of the objective against a loop in plain Python, and which tokens lose their gradient.

Tolerance: the loop runs in fp64, the terms in fp32, on numbers of size 1: 1e-6.

Dimensions: C completion tokens, V vocabulary.
"""

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from fakes import tiny_model
from scripted import credited, member
from training import grpo_terms
from zerone.engine.torch.sampling import scaled_logprobs
from zerone.train import logprobs
from zerone.train.batch import make_batches
from zerone.train.logprobs import entropies, token_logprobs
from zerone.train.loss import KLEstimator, Objective, clipped_objective, kl_terms
from zerone.train.shared_forward import SharedForward

TOLERANCE = 1e-6
LOW, HIGH = 0.2, 0.28


def objective(*, kl_coef: float = 0.0, estimator: KLEstimator = "k3") -> Objective:
    return Objective(clip_low=LOW, clip_high=HIGH, kl_coef=kl_coef, kl_estimator=estimator)


def random_logits(count: int, size: int, seed: int = 0) -> Tensor:
    return torch.randn(count, size, generator=torch.Generator().manual_seed(seed)) * 2


def softmax(logits: Sequence[float], temperature: float) -> list[float]:
    powers = [math.exp(logit / temperature) for logit in logits]
    return [power / sum(powers) for power in powers]


# Log-probabilities and entropy --------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [1.0, 0.7, 2.0])
def test_logprobs_and_entropies_are_those_of_the_tempered_softmax(temperature: float) -> None:
    logits_CV, tokens_C = random_logits(5, 7), torch.tensor([0, 6, 3, 3, 1])
    shares = [softmax(row, temperature) for row in logits_CV.tolist()]
    expected = [math.log(row[token]) for row, token in zip(shares, tokens_C.tolist(), strict=True)]
    assert token_logprobs(logits_CV, tokens_C, temperature).tolist() == pytest.approx(expected, abs=TOLERANCE)
    expected = [-sum(share * math.log(share) for share in row) for row in shares]
    assert entropies(scaled_logprobs(logits_CV, temperature)).tolist() == pytest.approx(
        expected, abs=TOLERANCE
    )


def test_logprobs_of_bfloat16_logits_are_computed_in_fp32() -> None:
    logits_CV = random_logits(3, 5).bfloat16()
    found = token_logprobs(logits_CV, torch.tensor([0, 1, 2]), 1.0)
    assert found.dtype is torch.float32
    assert torch.equal(found, token_logprobs(logits_CV.float(), torch.tensor([0, 1, 2]), 1.0))


@pytest.mark.parametrize("num_rows", [1, 4])
def test_logits_in_pieces_give_the_logprobs_entropies_and_gradients_of_all_at_once(
    monkeypatch: pytest.MonkeyPatch, num_rows: int
) -> None:
    members = [member(prompt=(1, 2), completion=(3 + j, 5, 6, 7 - j), sample=j) for j in range(3)]
    (batch,) = make_batches(
        [credited(members, (1.0, -0.5, -0.5))],
        aggregation="token",
        max_tokens=8,
        mask_truncated=False,
        keep_silent=False,
        microbatch_tokens=64,
    )

    def found() -> tuple[Tensor, Tensor, Tensor]:
        model = tiny_model()
        once = SharedForward(model, torch.float32)
        logprobs_C, entropy_C = once.logprobs(batch, 0.7)
        (logprobs_C * batch.weights_C * batch.advantages_C).sum().backward()
        once.finish()
        return logprobs_C, entropy_C, torch.cat([weight.grad.flatten() for weight in model.parameters()])

    whole = found()
    monkeypatch.setattr(logprobs, "LARGEST_LOGITS", num_rows * tiny_model().config.vocab_size)
    for one, other in zip(whole, found(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)
    assert whole[2].abs().max() > 1e-3


def test_entropy_is_log_v_where_all_is_equal_and_zero_where_all_is_sure() -> None:
    logits_CV = torch.stack([torch.zeros(9), torch.tensor([80.0] + [0.0] * 8)])
    assert entropies(scaled_logprobs(logits_CV, 1.0)).tolist() == pytest.approx(
        [math.log(9), 0.0], abs=TOLERANCE
    )


# The clip -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("advantage", [2.0, -2.0, 0.0])
@pytest.mark.parametrize("ratio", [0.01, 0.79, 0.81, 1.0, 1.27, 1.29, 50.0])
def test_clipped_objective_is_the_smaller_of_both_products(ratio: float, advantage: float) -> None:
    found = clipped_objective(torch.tensor([ratio]), torch.tensor([advantage]), LOW, HIGH).item()
    assert found == pytest.approx(
        min(ratio * advantage, min(max(ratio, 1 - LOW), 1 + HIGH) * advantage), rel=TOLERANCE
    )


@pytest.mark.parametrize(
    ("ratio", "advantage", "has_gradient"),
    [
        (1.0, 1.0, True),
        (1.27, 1.0, True),
        (1.29, 1.0, False),
        (0.5, 1.0, True),
        (1.0, -1.0, True),
        (0.81, -1.0, True),
        (0.79, -1.0, False),
        (5.0, -1.0, True),
    ],
)
def test_only_moves_that_go_on_in_the_rewarded_direction_lose_their_gradient(
    ratio: float, advantage: float, has_gradient: bool
) -> None:
    policy_C = torch.tensor([math.log(ratio)], requires_grad=True)
    terms = grpo_terms(policy_C, torch.zeros(1), None, torch.tensor([advantage]), torch.ones(1), objective())
    (gradient,) = torch.autograd.grad(terms.loss, policy_C)
    # d(-rho A) / d log pi = -rho A where the clip does not hold
    expected = -ratio * advantage if has_gradient else 0.0
    assert gradient.item() == pytest.approx(expected, rel=1e-5)


def test_shares_of_clipped_tokens_count_what_lost_its_gradient() -> None:
    ratios = [0.5, 0.5, 1.0, 1.5, 1.5, 1.5, 0.79]
    advantages = [1.0, -1.0, 1.0, 1.0, -1.0, 2.0, -3.0]
    terms = grpo_terms(
        torch.tensor(ratios).log(), torch.zeros(7), None, torch.tensor(advantages), torch.ones(7), objective()
    )
    assert (terms.num_clipped_low, terms.num_clipped_high) == (2, 2)
    assert terms.ratio_max == pytest.approx(1.5, rel=TOLERANCE)


# The KL term --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("estimator", "value"),
    [
        ("k1", lambda policy, reference: policy - reference),
        ("k2", lambda policy, reference: (reference - policy) ** 2 / 2),
        ("k3", lambda policy, reference: math.exp(reference - policy) - (reference - policy) - 1),
    ],
)
def test_kl_terms_are_their_formulas(estimator: KLEstimator, value: object) -> None:
    assert callable(value)
    pairs = [(-1.0, -2.0), (-3.0, -0.5), (-1.0, -1.0)]
    found = kl_terms(
        torch.tensor([policy for policy, _ in pairs]),
        torch.tensor([reference for _, reference in pairs]),
        estimator,
    )
    assert found.tolist() == pytest.approx([value(*pair) for pair in pairs], rel=1e-5, abs=TOLERANCE)


def expected_kl(logits_V: Tensor, reference_V: Tensor, estimator: KLEstimator) -> Tensor:
    """Return the estimator's mean under the policy; the weights carry no gradient, as in sampling."""
    policy_V = logits_V.log_softmax(-1)
    return (policy_V.detach().exp() * kl_terms(policy_V, reference_V, estimator)).sum()


def exact_kl(logits_V: Tensor, reference_V: Tensor) -> Tensor:
    policy_V = logits_V.log_softmax(-1)
    return (policy_V.exp() * (policy_V - reference_V)).sum()


@pytest.fixture
def categorical() -> tuple[Tensor, Tensor]:
    """Return the logits of a policy and the log-probabilities of a reference."""
    logits_V = random_logits(1, 6, seed=1)[0].requires_grad_()
    return logits_V, random_logits(1, 6, seed=2)[0].log_softmax(-1)


@pytest.mark.parametrize("estimator", ["k1", "k3"])
def test_k1_and_k3_estimate_the_kl_without_bias(
    estimator: KLEstimator, categorical: tuple[Tensor, Tensor]
) -> None:
    assert expected_kl(*categorical, estimator).item() == pytest.approx(
        exact_kl(*categorical).item(), rel=1e-5
    )


def test_the_gradient_of_k2_is_that_of_the_reverse_kl(categorical: tuple[Tensor, Tensor]) -> None:
    (found,) = torch.autograd.grad(expected_kl(*categorical, "k2"), categorical[0])
    (expected,) = torch.autograd.grad(exact_kl(*categorical), categorical[0])
    torch.testing.assert_close(found, expected, atol=TOLERANCE, rtol=1e-5)
    assert expected.abs().max() > 0.1


def test_the_expected_gradient_of_k1_is_zero(categorical: tuple[Tensor, Tensor]) -> None:
    (found,) = torch.autograd.grad(expected_kl(*categorical, "k1"), categorical[0])
    torch.testing.assert_close(found, torch.zeros_like(found), atol=TOLERANCE, rtol=0)


def test_the_gradient_of_k3_pulls_to_the_reference_as_the_forward_kl_does(
    categorical: tuple[Tensor, Tensor],
) -> None:
    """E_pi[grad k3] = -E_ref[grad log pi]: the gradient of KL(ref || pi)."""
    logits_V, reference_V = categorical
    (found,) = torch.autograd.grad(expected_kl(logits_V, reference_V, "k3"), logits_V)
    forward = -(reference_V.exp() * logits_V.log_softmax(-1)).sum()
    (expected,) = torch.autograd.grad(forward, logits_V)
    torch.testing.assert_close(found, expected, atol=TOLERANCE, rtol=1e-5)


@pytest.mark.parametrize("estimator", ["k1", "k2", "k3"])
def test_kl_is_zero_where_policy_and_reference_are_one(estimator: KLEstimator) -> None:
    logprobs_C = random_logits(3, 5)[:, 0]
    assert kl_terms(logprobs_C, logprobs_C, estimator).tolist() == [0.0] * 3


# The whole ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("estimator", ["k1", "k2", "k3"])
@pytest.mark.parametrize("kl_coef", [0.0, 0.3])
def test_grpo_loss_equals_a_loop_over_tokens(estimator: KLEstimator, kl_coef: float) -> None:
    generator = torch.Generator().manual_seed(3)
    policy, old, reference = (-torch.rand(40, generator=generator) * 3 for _ in range(3))
    advantages, weights = torch.randn(40, generator=generator), torch.rand(40, generator=generator)
    terms = grpo_terms(
        policy, old, reference, advantages, weights, objective(kl_coef=kl_coef, estimator=estimator)
    )
    loss, kl_sum, mismatch_sum, ratios = 0.0, 0.0, 0.0, []
    for p, o, r, a, w in zip(
        *(values.tolist() for values in (policy, old, reference, advantages, weights)), strict=True
    ):
        ratio = math.exp(p - o)
        kl = {"k1": p - r, "k2": (r - p) ** 2 / 2, "k3": math.exp(r - p) - (r - p) - 1}
        loss -= w * (min(ratio * a, min(max(ratio, 1 - LOW), 1 + HIGH) * a) - kl_coef * kl[estimator])
        kl_sum += kl["k3"]
        mismatch_sum += ratio - 1 - math.log(ratio)
        ratios.append(ratio)
    # sums of forty terms of size 1
    assert terms.loss.item() == pytest.approx(loss, abs=1e-5)
    assert terms.kl_sum == pytest.approx(kl_sum, rel=1e-5)
    assert terms.mismatch_sum == pytest.approx(mismatch_sum, rel=1e-5)
    assert terms.ratio_max == pytest.approx(max(ratios), rel=1e-5)


def test_without_a_reference_there_is_no_kl() -> None:
    values = -torch.ones(3)
    terms = grpo_terms(values, values, None, torch.ones(3), torch.ones(3), objective(kl_coef=0.5))
    assert terms.kl_sum == 0.0
    assert terms.loss.item() == pytest.approx(-3.0, abs=TOLERANCE)


def test_loss_of_parts_adds_up_to_the_loss_of_the_whole() -> None:
    """Weights hold every denominator, so a micro-batch's loss is a plain sum."""
    generator = torch.Generator().manual_seed(4)
    policy, old, reference, advantages = (torch.randn(10, generator=generator) for _ in range(4))
    weights = torch.rand(10, generator=generator)

    def loss_of(part: slice) -> float:
        terms = grpo_terms(
            policy[part], old[part], reference[part], advantages[part], weights[part], objective(kl_coef=0.1)
        )
        return terms.loss.item()

    for cut in range(1, 10):
        total = loss_of(slice(0, cut)) + loss_of(slice(cut, 10))
        assert total == pytest.approx(loss_of(slice(0, 10)), abs=1e-5)


def test_mismatch_of_nearly_equal_numbers_is_not_rounding() -> None:
    """k3 of two logarithms that differ by d is d^2 / 2, far below what fp32 can hold beside 1."""
    difference = 1e-5
    policy_C = torch.full((1000,), -1.0)
    old_C = policy_C - difference
    d = (policy_C - old_C).double()
    terms = grpo_terms(policy_C, old_C, None, torch.ones(1000), torch.ones(1000), objective())
    assert terms.mismatch_sum == pytest.approx((d.square() / 2).sum().item(), rel=1e-3)
    assert terms.mismatch_sum > 0


def test_metrics_carry_no_gradient() -> None:
    policy_C = torch.tensor([-1.0, -2.0], requires_grad=True)
    terms = grpo_terms(
        policy_C, policy_C.detach(), policy_C.detach(), torch.ones(2), torch.ones(2), objective()
    )
    assert terms.loss.requires_grad
    assert all(
        isinstance(value, float | int)
        for value in (terms.kl_sum, terms.mismatch_sum, terms.ratio_max, terms.num_clipped_low)
    )
