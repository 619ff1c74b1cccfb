"""The algorithm seam: how a policy learns from its own completions, in one loop (loop.py).

Owners: `Grpo` with its family as settings (grpo.py), `Ppo` with a critic (ppo.py), and on-policy
distillation (distill.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from zerone.config import Config
from zerone.runs.checkpoint import Progress, State
from zerone.train.health import Plan
from zerone.train.optim import warmup_then_constant
from zerone.train.trainer import Trainer
from zerone.types import Credited, Group


@dataclass(slots=True)
class TrainState:
    """All that the loop changes: the model in training, how far it is, and the metrics so far."""

    trainer: Trainer
    progress: Progress
    history: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """What a step did: the credit of its completions, all updates up to now, the figures of this step."""

    credited: Sequence[Credited]
    updates: int
    figures: Mapping[str, Any]


class Algorithm(Protocol):
    """Turns a step's graded groups into updates of the weights."""

    needs_rewards: bool
    """Whether completions without a reward teach nothing."""

    def learn(self, config: Config, state: TrainState, groups: Sequence[Group], step: int) -> StepResult:
        """Make the updates of a step, which counts from 0."""
        ...

    def health(self, config: Config, history: Sequence[Mapping[str, Any]], now: Mapping[str, Any]) -> str:
        """Return a sentence on the run from the figures of the steps before and of this one."""
        ...

    def state(self) -> State:
        """Return what a checkpoint keeps beside the trainer's state."""
        ...


def learning_rate_of(config: Config, update: int) -> float:
    """Return the learning rate of an update, which counts from 0."""
    return warmup_then_constant(update, config.optim.learning_rate, config.optim.warmup_updates)


def plan_of(config: Config) -> Plan:
    """Return what the sentence on a run needs to know of what is planned."""
    checkpoint = config.checkpoint
    return Plan(steps=config.rl.steps, checkpoint_every=checkpoint.every, checkpoint_keep=checkpoint.keep)
