"""The algorithm that a configuration names, with what it trains beside the policy."""

import torch
from torch import nn

from zerone.config import Config
from zerone.train.algorithm import Algorithm
from zerone.train.critic import CriticSettings, new_critic
from zerone.train.grpo import Grpo
from zerone.train.ppo import Ppo

GAMMA = 1.0
"""No discount: a reward at the end of a long completion is worth what it is at the end of a short one."""

RATE_FACTOR = 4.0
"""The critic learns by regression and needs larger steps than the policy may take."""


def algorithm_of(config: Config, policy: nn.Module, dtype: torch.dtype) -> Algorithm:
    """Return the algorithm of `rl.algorithm`; PPO's critic starts as the policy."""
    if config.rl.algorithm == "grpo":
        return Grpo()
    settings = CriticSettings(
        gamma=GAMMA,
        gae_lambda=config.rl.gae_lambda,
        rate_factor=RATE_FACTOR,
        kl_coef=config.loss.kl_coef,
        temperature=config.sampling.temperature,
    )
    o = config.optim
    betas = (o.beta1, o.beta2)
    return Ppo(new_critic(policy, settings, betas, o.weight_decay, dtype, o.max_grad_norm))
