"""The GRPO objective, one function per term (DeepSeekMath eq. 3-4; R1 eq. 1-2).

    J = SUM_t w_t [ min(rho_t A_t, clip(rho_t, 1 - low, 1 + high) A_t) - beta KL_t ]

In: log-probabilities, advantages and weights per completion token. Out: the loss -J and what the
metrics need. The weights w_t carry every denominator (train/batch.py), counted over the whole
minibatch before it is cut into micro-batches, so a micro-batch's loss is a plain sum. All in fp32.

Dimensions: C completion tokens, D width, V vocabulary.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from zerone.engine.torch.sampling import scaled_logprobs
from zerone.train.batch import Batch, completion_hidden
from zerone.train.shared_forward import Once

LARGEST_LOGITS = 2**24
"""Cells of the [C, V] logits that are held at once: 64 MB in fp32, and several times that in the backward
pass. A micro-batch of a model with a small vocabulary stays below."""

KLEstimator = Literal["k1", "k2", "k3"]


def token_logprobs(logits_CV: Tensor, tokens_C: Tensor, temperature: float) -> Tensor:
    """Return log pi(token) under the distribution that was sampled from, shape [C], fp32."""
    return _chosen(scaled_logprobs(logits_CV, temperature), tokens_C)


def completion_logprobs(once: Once, batch: Batch, temperature: float) -> tuple[Tensor, Tensor]:
    """Return log pi of each completion token and, without gradient, the entropy there, both [C] in fp32.

    Logits beyond LARGEST_LOGITS are computed in pieces, and once more in the backward pass, so
    that a large vocabulary costs a twentieth of the time and not a gigabyte.
    """
    decoder = once.decoder

    def read(hidden_CD: Tensor, targets_C: Tensor) -> tuple[Tensor, Tensor]:
        logprobs_CV = scaled_logprobs(decoder.logits(hidden_CD), temperature)
        return _chosen(logprobs_CV, targets_C), _entropies(logprobs_CV)

    hidden_CD = completion_hidden(decoder, batch, once.kv(batch.packed.apart))
    size = max(1, LARGEST_LOGITS // decoder.vocab_size)
    if len(hidden_CD) <= size:
        return read(hidden_CD, batch.targets_C)
    pieces = zip(hidden_CD.split(size), batch.targets_C.split(size), strict=True)
    found = [checkpoint(read, *piece, use_reentrant=False) for piece in pieces]
    logprobs, entropy = zip(*found, strict=True)
    return torch.cat(logprobs), torch.cat(entropy)


@torch.no_grad()
def entropies(logits_CV: Tensor, temperature: float) -> Tensor:
    """Return the entropy of each next-token distribution in nats, shape [C]."""
    return _entropies(scaled_logprobs(logits_CV, temperature))


def _chosen(logprobs_CV: Tensor, tokens_C: Tensor) -> Tensor:
    return logprobs_CV.gather(1, tokens_C[:, None]).squeeze(1)


@torch.no_grad()
def _entropies(logprobs_CV: Tensor) -> Tensor:
    return -(logprobs_CV.exp() * logprobs_CV).sum(-1)


def kl_terms(policy_C: Tensor, reference_C: Tensor, estimator: KLEstimator) -> Tensor:
    """Return the KL estimate per token from log-probabilities; x = pi_ref / pi_theta.

    k1 = -log x, k2 = (log x)^2 / 2, k3 = x - log x - 1 (Schulman). As values k1 and k3 are
    unbiased; as a loss to differentiate k2 gives the reverse-KL gradient and k1 none at all.
    """
    log_x_C = reference_C - policy_C
    match estimator:
        case "k1":
            return -log_x_C
        case "k2":
            return log_x_C.square() / 2
        case "k3":
            return log_x_C.exp() - log_x_C - 1


def clipped_objective(ratios_C: Tensor, advantages_C: Tensor, clip_low: float, clip_high: float) -> Tensor:
    """Return min(rho A, clip(rho, 1 - low, 1 + high) A) per token."""
    clipped_C = ratios_C.clamp(1 - clip_low, 1 + clip_high)
    return torch.minimum(ratios_C * advantages_C, clipped_C * advantages_C)


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """The settings of the loss."""

    clip_low: float
    clip_high: float
    kl_coef: float
    kl_estimator: KLEstimator


@dataclass(frozen=True, slots=True, kw_only=True)
class LossTerms:
    """The loss of a micro-batch and sums over its tokens for the metrics (detached)."""

    loss: Tensor
    kl_sum: float
    mismatch_sum: float
    ratio_max: float
    ratio_min: float
    num_clipped_low: int
    num_clipped_high: int


def grpo_loss(
    policy_C: Tensor,
    old_C: Tensor,
    reference_C: Tensor | None,
    advantages_C: Tensor,
    weights_C: Tensor,
    objective: Objective,
) -> LossTerms:
    """Return the loss of some completion tokens.

    `old_C` are the sampler's log-probabilities, `policy_C` (with gradient) and `reference_C` the
    trainer's; `reference_C` is None where no KL is wanted.
    """
    log_ratio_C = policy_C - old_C
    ratios_C = log_ratio_C.exp()
    gain_C = clipped_objective(ratios_C, advantages_C, objective.clip_low, objective.clip_high)
    kl_sum = 0.0
    if reference_C is not None:
        kl_C = kl_terms(policy_C, reference_C, objective.kl_estimator)
        gain_C = gain_C - objective.kl_coef * kl_C
        kl_sum = kl_terms(policy_C.detach(), reference_C, "k3").sum().item()
    with torch.no_grad():
        is_low_C = (ratios_C < 1 - objective.clip_low) & (advantages_C < 0)
        is_high_C = (ratios_C > 1 + objective.clip_high) & (advantages_C > 0)
        # In fp64, as k3 of two nearly equal numbers is all rounding in fp32.
        mismatch_sum = (log_ratio_C.double().expm1() - log_ratio_C).sum().item()
    return LossTerms(
        loss=-(weights_C * gain_C).sum(),
        kl_sum=kl_sum,
        mismatch_sum=mismatch_sum,
        ratio_max=ratios_C.max().item(),
        ratio_min=ratios_C.min().item(),
        num_clipped_low=int(is_low_C.sum()),
        num_clipped_high=int(is_high_C.sum()),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Passes:
    """Policy and reference as the micro-batches of one update use them."""

    policy: Once
    reference: Once | None

    @classmethod
    def of(cls, policy: nn.Module, reference: nn.Module | None, dtype: torch.dtype) -> "Passes":
        """Read the weights as they are before the update."""
        with torch.no_grad():
            fixed = None if reference is None else Once(reference, dtype)
        return cls(policy=Once(policy, dtype), reference=fixed)


def backward(
    passes: Passes, batch: Batch, objective: Objective, temperature: float
) -> tuple[LossTerms, float]:
    """Add a micro-batch's gradient; return its terms and the sum of its tokens' entropies.

    The gradient is the parameters' own once `passes.policy` is finished.
    """
    policy_C, entropy_C = completion_logprobs(passes.policy, batch, temperature)
    reference_C = None
    if passes.reference is not None:
        with torch.no_grad():
            reference_C, _ = completion_logprobs(passes.reference, batch, temperature)
    terms = grpo_loss(
        policy_C, batch.sampler_logprobs_C, reference_C, batch.advantages_C, batch.weights_C, objective
    )
    terms.loss.backward()
    return terms, entropy_C.sum().item()
