"""What a run with PPO has beside the policy, and a run with GRPO does without.

In: the configuration, a policy. Out: its critic, and what a checkpoint keeps of it.
"""

import torch
from torch import nn

from zerone.config import Config
from zerone.runs.checkpoint import Beside
from zerone.train.critic import Critic, CriticSettings, new_critic
from zerone.train.loop import Learner

GAMMA = 1.0
"""No discount: a reward at the end of a long answer is worth what it is at the end of a short one."""

RATE_FACTOR = 4.0
"""The critic learns by regression and needs larger steps than the policy may take."""


def critic_of(config: Config, policy: nn.Module, dtype: torch.dtype) -> Critic | None:
    """Return a critic that starts as the policy, or None for GRPO."""
    if config.rl.algorithm == "grpo":
        return None
    settings = CriticSettings(
        gamma=GAMMA,
        gae_lambda=config.rl.gae_lambda,
        rate_factor=RATE_FACTOR,
        kl_coef=config.loss.kl_coef,
        temperature=config.sampling.temperature,
    )
    o = config.optim
    return new_critic(policy, settings, (o.beta1, o.beta2), o.weight_decay, dtype)


def beside_policy(learner: Learner) -> Beside:
    """Return what a checkpoint keeps of the critic."""
    if learner.critic is None:
        return {}
    return {"critic": learner.critic.module, "critic_optimizer": learner.critic.optimizer}
