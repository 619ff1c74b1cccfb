"""PPO's critic: a second model of the policy's size that foresees the reward (Schulman et al. 2017).

    V(s_t)  what the answer will earn, told from the prompt and its first t tokens
    r_t     -beta (log pi_old - log pi_ref) per token, and the reward at the last one
    delta_t = r_t + gamma V(s_t+1) - V(s_t)
    A_t     = SUM_l (gamma lambda)^l delta_t+l        generalised advantage estimation (GAE)
    R_t     = A_t + V(s_t)                            what the critic learns

In: micro-batches of a rollout phase. Out: an `Estimate` per answer, which takes the place of the
group's advantages, and a better critic. GRPO needs none of this: its baseline is the group's mean.
The critic is a copy of the policy whose head is one row, so `Decoder` computes it as it is, and its
state (a second model, a second AdamW) is what the comparison of the two algorithms is about.

Dimensions: C completion tokens, T tokens of one answer.
"""

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from zerone.train.batch import Batch
from zerone.train.local import LocalTrainer
from zerone.train.optim import adamw
from zerone.train.trainer import ModelPass
from zerone.types import CriticStats, Estimate, Graded

_SMALLEST_DEVIATION = 1e-6
"""Below this, numbers are equal: what is left is rounding, and dividing by it would blow it up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CriticSettings:
    """How rewards become advantages, and how much faster than the policy the critic learns."""

    gamma: float
    gae_lambda: float
    rate_factor: float
    kl_coef: float
    temperature: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimates:
    """The estimates of a rollout phase, by the id() of the graded rollout.

    `explained_variance` as in `CriticStats`.
    """

    by_member: Mapping[int, Estimate]
    explained_variance: float | None

    def stats(self, value_loss: float) -> CriticStats:
        """Return the step's figures of the critic; its loss is known after the updates."""
        return CriticStats(value_loss=value_loss, explained_variance=self.explained_variance)


@dataclass(frozen=True, slots=True, kw_only=True)
class Critic:
    """The value model, trained by a trainer of its own."""

    trainer: LocalTrainer
    settings: CriticSettings

    @torch.no_grad()
    def estimate(self, batches: Iterable[Batch], reference: ModelPass | None) -> Estimates:
        """Estimate the return at every token of a phase, before an update changes critic or policy.

        A truncated completion ends there like any other: nothing follows it. Advantages are whitened
        over all tokens of the phase, as the critic knows nothing at first.
        """
        values_of = self.trainer.evaluating()
        members: list[Graded] = []
        values: list[list[float]] = []
        rewards: list[list[float]] = []
        for batch in batches:
            lengths = [len(graded.rollout.completion_ids) for graded in batch.members]
            reference_C = None
            if reference is not None:
                reference_C, _ = reference.logprobs(batch, self.settings.temperature)
            rewards_C = token_rewards(batch, reference_C, self.settings.kl_coef)
            members += batch.members
            values += [part.tolist() for part in values_of.logits(batch).squeeze(1).split(lengths)]
            rewards += [part.tolist() for part in rewards_C.split(lengths)]
        gamma, gae_lambda = self.settings.gamma, self.settings.gae_lambda
        advantages = [gae(*pair, gamma, gae_lambda) for pair in zip(rewards, values, strict=True)]
        returns = [
            [advantage + value for advantage, value in zip(*pair, strict=True)]
            for pair in zip(advantages, values, strict=True)
        ]
        columns = zip(members, returns, whitened(advantages), strict=True)
        return Estimates(
            by_member={
                id(graded): Estimate(returns=tuple(of_critic), advantages=tuple(of_policy))
                for graded, of_critic, of_policy in columns
            },
            explained_variance=explained_variance(returns, values),
        )

    def learn(self, batches: Iterable[Batch], policy_rate: float) -> float:
        """Make one update at a multiple of the policy's learning rate; return the value loss."""
        loss = self.trainer.forward_backward(batches, ValueObjective())
        self.trainer.step(self.settings.rate_factor * policy_rate)
        return loss


class ValueObjective:
    """The value loss; an `Objective` of the critic's trainer."""

    def loss(self, policy: ModelPass, reference: ModelPass | None, batch: Batch) -> tuple[Tensor, None]:
        """Return a micro-batch's part of the value loss, with gradient."""
        if batch.returns_C is None:
            raise AssertionError("a critic learns from batches that were made with its estimates")
        return value_loss(policy.logits(batch).squeeze(1), batch.returns_C, batch.weights_C), None

    def record(self, terms: None) -> None:
        """Record nothing: the loss says it all."""


def new_critic(
    policy: nn.Module,
    settings: CriticSettings,
    betas: tuple[float, float],
    weight_decay: float,
    dtype: torch.dtype,
    max_grad_norm: float,
) -> Critic:
    """Return a critic that starts as the policy with a head of zeros: its values are 0 everywhere."""
    module: Any = copy.deepcopy(policy)
    module.lm_head = nn.Linear(module.config.hidden_size, 1, bias=False)
    nn.init.zeros_(module.lm_head.weight)
    # The rate is set before each update, as it warms up with the policy's.
    optimizer = adamw(module.parameters(), 0.0, betas, weight_decay)
    trainer = LocalTrainer(module, [optimizer], dtype=dtype, max_grad_norm=max_grad_norm)
    return Critic(trainer=trainer, settings=settings)


def token_rewards(batch: Batch, reference_C: Tensor | None, kl_coef: float) -> Tensor:
    """Return r_t, [C]: the reward at each answer's last token, minus beta times the KL (k1) at all.

    R1's objective has the KL in the loss instead, since summed up in the reward it punishes length.
    """
    ends = torch.tensor([len(graded.rollout.completion_ids) for graded in batch.members]).cumsum(0) - 1
    rewards_C = torch.zeros(batch.num_completion_tokens)
    if reference_C is not None:
        rewards_C -= kl_coef * (batch.sampler_logprobs_C - reference_C)
    rewards_C[ends] += torch.tensor([graded.reward for graded in batch.members])
    return rewards_C


def gae(
    rewards_T: Sequence[float], values_T: Sequence[float], gamma: float, gae_lambda: float
) -> list[float]:
    """Return A_t of one answer, from its end: A_t = delta_t + gamma lambda A_t+1."""
    advantages_T = [0.0] * len(rewards_T)
    next_value = next_advantage = 0.0
    for t in reversed(range(len(rewards_T))):
        delta = rewards_T[t] + gamma * next_value - values_T[t]
        advantages_T[t] = next_advantage = delta + gamma * gae_lambda * next_advantage
        next_value = values_T[t]
    return advantages_T


def whitened(advantages: Sequence[Sequence[float]]) -> list[list[float]]:
    """Return (A - mean) / std over the tokens of all answers; zeros where all are equal."""
    flat = _flat(advantages)
    if not len(flat) or (deviation := flat.std(correction=0)) < _SMALLEST_DEVIATION:
        return [[0.0] * len(answer) for answer in advantages]
    parts = ((flat - flat.mean()) / deviation).split([len(answer) for answer in advantages])
    return [part.tolist() for part in parts]


def value_loss(values_C: Tensor, returns_C: Tensor, weights_C: Tensor) -> Tensor:
    """Return SUM_t w_t (V_t - R_t)^2 / 2."""
    return (weights_C * (values_C - returns_C).square()).sum() / 2


def explained_variance(returns: Sequence[Sequence[float]], values: Sequence[Sequence[float]]) -> float | None:
    """Return 1 - Var(R - V) / Var(R) over all tokens, None where all returns are equal."""
    returns_C, values_C = _flat(returns), _flat(values)
    if not len(returns_C) or returns_C.std(correction=0) < _SMALLEST_DEVIATION:
        return None
    return 1 - ((returns_C - values_C).var(correction=0) / returns_C.var(correction=0)).item()


def _flat(answers: Sequence[Sequence[float]]) -> Tensor:
    return torch.tensor([number for answer in answers for number in answer], dtype=torch.float64)
