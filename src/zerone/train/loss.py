"""The GRPO objective and its family: one loss whose settings are each paper's choices.

    J = SUM_t w_t [ c_t min(rho_t A_t, clip(rho_t, 1 - low, 1 + high) A_t) - beta KL_t ]

(DeepSeekMath eq. 3-4; R1 eq. 1-2.) In: log-probabilities, advantages and weights per completion
token. Out: the loss -J and what the metrics need. The weights w_t carry every denominator
(batch.py), counted over the whole minibatch before it is cut into micro-batches, so a micro-batch's
loss is a plain sum. c_t corrects for an engine that samples from other probabilities than the
trainer computes (`correction_weights`). All in fp32.

Which paper sets what (`rl.preset` names them, config/presets.py):
    GRPO       token ratio, clip, KL k3                      DeepSeekMath eq. 3
    DAPO       clip_high > clip_low, mean over tokens        2503.14476 eq. 8
    Dr. GRPO   no standard deviation, constant denominator   2503.20783 eq. 3
    GSPO       sequence ratio                                2507.18071 eq. 5
    CISPO      truncated weight times log pi                 2506.13585 eq. 4
    RLOO       leave-one-out baseline                        2402.14740 eq. 6
    REINFORCE++  one standard deviation for the whole batch  2501.03262 eq. 5
    V3.2       unbiased KL, mask of stale wrong sequences    DeepSeek-V3.2 eq. 5-8

Dimensions: C completion tokens, S sequences.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

KLEstimator = Literal["k1", "k2", "k3", "unbiased"]
Ratio = Literal["token", "sequence"]
Surrogate = Literal["clip", "cispo"]
Correction = Literal["none", "truncate", "mask", "sequence_mask", "stale_mask"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """The settings of the loss; see `grpo_loss`.

    `correction_low` and `correction_high` bound the mismatch ratio, trainer over engine; for
    `stale_mask` the latter is the largest mean log-ratio of a sequence.
    """

    clip_low: float
    clip_high: float
    kl_coef: float
    kl_estimator: KLEstimator
    ratio: Ratio = "token"
    surrogate: Surrogate = "clip"
    correction: Correction = "none"
    correction_low: float = 0.5
    correction_high: float = 2.0


def kl_terms(policy_C: Tensor, reference_C: Tensor, estimator: KLEstimator) -> Tensor:
    """Return the KL estimate per token from log-probabilities; x = pi_ref / pi_theta.

    k1 = -log x, k2 = (log x)^2 / 2, k3 = x - log x - 1 (Schulman). As values k1 and k3 are
    unbiased; as a loss to differentiate k2 gives the reverse-KL gradient and k1 none at all.
    `unbiased` is k3, to be multiplied by the ratio (V3.2 eq. 7; `grpo_loss` does).
    """
    log_x_C = reference_C - policy_C
    match estimator:
        case "k1":
            return -log_x_C
        case "k2":
            return log_x_C.square() / 2
        case "k3" | "unbiased":
            return log_x_C.exp() - log_x_C - 1


def clipped_objective(ratios_C: Tensor, advantages_C: Tensor, clip_low: float, clip_high: float) -> Tensor:
    """Return min(rho A, clip(rho, 1 - low, 1 + high) A) per token."""
    clipped_C = ratios_C.clamp(1 - clip_low, 1 + clip_high)
    return torch.minimum(ratios_C * advantages_C, clipped_C * advantages_C)


def cispo_objective(log_ratio_C: Tensor, advantages_C: Tensor, clip_high: float) -> Tensor:
    """Return sg(min(rho, 1 + high)) A log pi per token, up to a constant (CISPO, 2506.13585 eq. 4).

    No token loses its gradient, as clipping would have it; its weight is bounded instead.
    """
    weight_C = log_ratio_C.detach().exp().clamp(max=1 + clip_high)
    return weight_C * advantages_C * log_ratio_C


def policy_gain(log_ratio_C: Tensor, advantages_C: Tensor, objective: Objective) -> Tensor:
    """Return each token's gain under the surrogate of the settings, [C]."""
    if objective.surrogate == "cispo":
        return cispo_objective(log_ratio_C, advantages_C, objective.clip_high)
    return clipped_objective(log_ratio_C.exp(), advantages_C, objective.clip_low, objective.clip_high)


def sequence_means(values_C: Tensor, lengths: Tensor) -> Tensor:
    """Return the mean of each sequence's tokens, spread over them again, [C]."""
    index_C = torch.arange(len(lengths), device=values_C.device).repeat_interleave(lengths)
    sums_S = values_C.new_zeros(len(lengths)).index_add(0, index_C, values_C)
    return (sums_S / lengths)[index_C]


def sequence_log_ratio(log_ratio_C: Tensor, lengths: Tensor) -> Tensor:
    """Return log s_i of each sequence on each of its tokens (GSPO, 2507.18071 eq. 5), [C].

    s_i = exp(1 / |o_i| SUM_t log rho_t).
    """
    return sequence_means(log_ratio_C, lengths)


@dataclass(frozen=True, slots=True, kw_only=True)
class LossTerms:
    """Sums over the tokens of a micro-batch for the metrics, as plain numbers.

    `mismatch_sum` is the k3 estimate of KL(engine || trainer), `mismatch_ratio_sum` and
    `mismatch_ratio_max` are of the raw ratio of trainer to engine, `num_corrected` the tokens whose
    weight the correction changed.
    """

    num_tokens: int
    kl_sum: float
    mismatch_sum: float
    ratio_max: float
    ratio_min: float
    num_clipped_low: int
    num_clipped_high: int
    mismatch_ratio_sum: float = 0.0
    mismatch_ratio_max: float = 0.0
    num_corrected: int = 0
    entropy_sum: float = 0.0


def correction_weights(
    trainer_C: Tensor,
    engine_C: Tensor,
    policy_C: Tensor,
    advantages_C: Tensor,
    lengths: Tensor | None,
    objective: Objective,
) -> Tensor | None:
    """Return c_t, what each token's term is multiplied by, or None for no correction; no gradient.

    rho = exp(trainer - engine), both before the step's updates. truncate: min(rho, high), truncated
    importance sampling. mask: rho inside [low, high], else 0 (IcePop). sequence_mask: 1 where the
    geometric mean of a sequence's rho is inside, else 0. stale_mask: 0 for sequences of negative
    advantage whose mean log(engine / policy) exceeds high, else 1 (V3.2 eq. 8).
    """
    log_rho_C = (trainer_C - engine_C).detach()
    low, high = objective.correction_low, objective.correction_high
    match objective.correction:
        case "none":
            return None
        case "truncate":
            return log_rho_C.exp().clamp(max=high)
        case "mask":
            rho_C = log_rho_C.exp()
            return torch.where((rho_C >= low) & (rho_C <= high), rho_C, 0.0)
        case "sequence_mask":
            rho_C = sequence_means(log_rho_C, _given(lengths)).exp()
            return ((rho_C >= low) & (rho_C <= high)).to(rho_C.dtype)
        case "stale_mask":
            stale_C = sequence_means((engine_C - policy_C).detach(), _given(lengths))
            return (~((advantages_C < 0) & (stale_C > high))).to(stale_C.dtype)


def grpo_loss(
    policy_C: Tensor,
    engine_C: Tensor,
    reference_C: Tensor | None,
    advantages_C: Tensor,
    weights_C: Tensor,
    objective: Objective,
    *,
    lengths: Tensor | None = None,
    trainer_C: Tensor | None = None,
) -> tuple[Tensor, LossTerms]:
    """Return the loss of some completion tokens, with gradient, and their terms.

    `engine_C` are what the engine sampled from, `policy_C` (with gradient) and `reference_C` (None for no KL)
    the trainer's. `trainer_C` are the trainer's before the step's updates, wanted for a correction; without
    them the engine's stand in rho_t. `lengths` are those of the sequences, wanted by sequence losses.
    """
    old_C = engine_C if trainer_C is None else trainer_C
    log_ratio_C = policy_C - old_C
    if objective.ratio == "sequence":
        log_ratio_C = sequence_log_ratio(log_ratio_C, _given(lengths))
    ratios_C, gain_C = log_ratio_C.exp(), policy_gain(log_ratio_C, advantages_C, objective)
    correction_C = correction_weights(old_C, engine_C, policy_C, advantages_C, lengths, objective)
    if correction_C is not None:
        gain_C = correction_C * gain_C
    kl_sum = 0.0
    if reference_C is not None:
        kl_C = kl_terms(policy_C, reference_C, objective.kl_estimator)
        if objective.kl_estimator == "unbiased":
            kl_C = (policy_C - engine_C).exp() * kl_C
        gain_C = gain_C - objective.kl_coef * kl_C
        kl_sum = kl_terms(policy_C.detach(), reference_C, "k3").sum().item()
    is_low_C = (ratios_C < 1 - objective.clip_low) & (advantages_C < 0)
    is_high_C = (ratios_C > 1 + objective.clip_high) & (advantages_C > 0)
    with torch.no_grad():
        mismatch_C = (policy_C if trainer_C is None else trainer_C) - engine_C
        rho_C = mismatch_C.exp()
    return -(weights_C * gain_C).sum(), LossTerms(
        num_tokens=len(policy_C),
        kl_sum=kl_sum,
        # In fp64, as k3 of two nearly equal numbers is all rounding in fp32.
        mismatch_sum=(mismatch_C.double().expm1() - mismatch_C).sum().item(),
        ratio_max=_largest(ratios_C),
        ratio_min=ratios_C.min().item() if len(ratios_C) else 1.0,
        num_clipped_low=int(is_low_C.sum()),
        num_clipped_high=int(is_high_C.sum()),
        mismatch_ratio_sum=rho_C.double().sum().item(),
        mismatch_ratio_max=_largest(rho_C),
        num_corrected=0 if correction_C is None else _num_corrected(correction_C, rho_C, objective),
    )


def _num_corrected(correction_C: Tensor, rho_C: Tensor, objective: Objective) -> int:
    """Return how many tokens were masked, or weighted by a bound instead of their own ratio."""
    is_bounded = objective.correction in ("truncate", "mask")
    return int((correction_C != rho_C if is_bounded else correction_C == 0).sum())


def _largest(values: Tensor) -> float:
    """Return the largest value; 1, which no ratio is far from, where a rank has no tokens."""
    return values.max().item() if len(values) else 1.0


def _given(lengths: Tensor | None) -> Tensor:
    if lengths is None:
        raise AssertionError("the lengths of the sequences are needed for a loss that looks at whole ones")
    return lengths
