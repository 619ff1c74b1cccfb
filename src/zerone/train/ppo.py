"""PPO: the same loop and objective as GRPO, with a critic's advantages in place of the group's."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from zerone.config import Config
from zerone.runs.checkpoint import State
from zerone.train.advantage import credit
from zerone.train.algorithm import StepResult, TrainState, plan_of
from zerone.train.batch import Batch
from zerone.train.critic import Critic
from zerone.train.grpo import (
    batches_of,
    make_updates,
    objective_of,
    replace_reference_when_due,
    result_of,
)
from zerone.train.health import verdict
from zerone.train.metrics import StepSums
from zerone.types import Credited, Group, StepStats


class Ppo:
    """Proximal policy optimization with a critic of the policy's size; an `Algorithm`."""

    needs_rewards = True

    def __init__(self, critic: Critic) -> None:
        self.critic = critic

    def learn(self, config: Config, state: TrainState, groups: Sequence[Group], step: int) -> StepResult:
        """Estimate the phase, then update critic and policy on each minibatch."""
        credited = credit(groups, config.advantage.scale, config.advantage.baseline)
        stats = self.update(config, state, credited, step)
        replace_reference_when_due(config, state, step)
        return result_of(config, state, credited, stats)

    def update(self, config: Config, state: TrainState, credited: Sequence[Credited], step: int) -> StepStats:
        """Make the updates of a step and return their figures."""
        sums = StepSums()
        whole = batches_of(config, credited, keep_silent=True)
        estimates = self.critic.estimate(whole, state.trainer.reference())

        def batches(groups: Sequence[Credited]) -> Iterator[Batch]:
            return batches_of(config, groups, keep_silent=True, estimates=estimates.by_member)

        def update_critic(minibatch: Sequence[Credited], learning_rate: float) -> None:
            sums.value_loss += self.critic.learn(batches(minibatch), learning_rate)

        # The KL is part of the reward here (critic.token_rewards).
        objective = objective_of(config, has_kl=False)
        make_updates(config, state, credited, step, sums, batches, objective, update_critic)
        return sums.stats(estimates)

    def health(self, config: Config, history: Sequence[Mapping[str, Any]], now: Mapping[str, Any]) -> str:
        """Return whether the run is learning, and if not, why and what to change."""
        return verdict(history, now, plan_of(config))

    def state(self) -> State:
        """Return the critic and its optimizer."""
        trainer = self.critic.trainer
        return {"critic": trainer.module, "critic_optimizer": trainer.optimizers[0]}
