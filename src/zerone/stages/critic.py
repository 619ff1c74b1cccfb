"""What a run with PPO has beside the policy, and a run with GRPO does without.

In: the configuration, a policy. Out: its critic, and what a checkpoint keeps of it.
"""

import torch
from torch import nn

from zerone.checkpoint import Beside
from zerone.config import Config
from zerone.critic import Critic, CriticSettings, new_critic
from zerone.rl import Learner


def critic_of(config: Config, policy: nn.Module, dtype: torch.dtype) -> Critic | None:
    """Return a critic that starts as the policy, or None for GRPO."""
    if config.rl.algorithm == "grpo":
        return None
    settings = CriticSettings(
        gamma=config.ppo.gamma,
        gae_lambda=config.ppo.gae_lambda,
        value_clip=config.ppo.value_clip,
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
