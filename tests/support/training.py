"""Drives trainers, objectives and algorithms in tests, on models in this process."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from zerone.config import Config
from zerone.data.mixture import Mixture
from zerone.engine.api import Engine
from zerone.jobs.algorithm import algorithm_of
from zerone.runs.checkpoint import Progress, State
from zerone.runs.directory import RunDir
from zerone.train import loop
from zerone.train.algorithm import TrainState
from zerone.train.batch import Batch
from zerone.train.critic import Critic
from zerone.train.grpo import Grpo, GrpoObjective
from zerone.train.local import LocalTrainer
from zerone.train.loss import LossTerms, Objective, grpo_loss
from zerone.train.metrics import StepSums
from zerone.train.optim import adamw
from zerone.train.ppo import Ppo
from zerone.train.sft import Example, mean_loss
from zerone.train.shared_forward import SharedForward
from zerone.train.trainer import Targets
from zerone.types import Credited, StepStats


@dataclass(slots=True)
class Learner:
    """A model in training and its algorithm, with the parts that tests look at."""

    trainer: LocalTrainer
    state: TrainState
    algorithm: Grpo | Ppo

    @property
    def module(self) -> Any:
        return self.trainer.module

    @property
    def reference(self) -> Any:
        return self.trainer.reference_module

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        return self.trainer.optimizers[0]

    @property
    def dtype(self) -> torch.dtype:
        return self.trainer.dtype

    @property
    def progress(self) -> Progress:
        return self.state.progress

    @progress.setter
    def progress(self, progress: Progress) -> None:
        self.state.progress = progress

    @property
    def history(self) -> list[dict[str, Any]]:
        return self.state.history

    @property
    def critic(self) -> Critic | None:
        return self.algorithm.critic if isinstance(self.algorithm, Ppo) else None

    def kept(self, tokenizer: Any) -> State:
        """Return what a checkpoint of it keeps."""
        return {**self.trainer.state(tokenizer), **self.algorithm.state()}


def make_trainer(model: Any, config: Config, *, reference: Any = None, **options: Any) -> LocalTrainer:
    """Return a trainer as the jobs make it."""
    o = config.optim
    return LocalTrainer(
        model,
        [adamw(model.parameters(), o.learning_rate, (o.beta1, o.beta2), o.weight_decay)],
        max_grad_norm=o.max_grad_norm,
        reference=reference,
        **options,
    )


def make_learner(model: Any, config: Config, *, updates: int = 0, reference: Any = None) -> Learner:
    """Return a learner of the model; `updates` > 0 says that the first step is done."""
    trainer = make_trainer(model, config, reference=reference)
    algorithm = algorithm_of(config, model, torch.float32)
    assert isinstance(algorithm, Grpo | Ppo)
    return Learner(
        trainer=trainer,
        state=TrainState(trainer=trainer, progress=Progress(step=0, updates=updates)),
        algorithm=algorithm,
    )


def update(config: Config, learner: Learner, groups: Sequence[Credited], step: int) -> StepStats:
    """Make the updates of a step."""
    return learner.algorithm.update(config, learner.state, groups, step)


def train(
    config: Config,
    learner: Learner,
    engine: Engine,
    mixture: Mixture,
    to_prompt: Any,
    run: RunDir,
    hooks: loop.Hooks,
) -> None:
    """Run the loop."""
    loop.train(config, learner.state, engine, mixture, to_prompt, run, hooks, learner.algorithm)


class Terms:
    """The loss of a micro-batch, and its terms by their names."""

    def __init__(self, loss: Tensor, terms: LossTerms) -> None:
        self.loss = loss
        self._terms = terms

    def __getattr__(self, name: str) -> Any:
        return getattr(self._terms, name)


def grpo_terms(*arguments: Any, **options: Any) -> Terms:
    """Return loss and terms of `grpo_loss` as one."""
    return Terms(*grpo_loss(*arguments, **options))


class Passes:
    """Policy and reference as the micro-batches of one update use them."""

    def __init__(self, policy: Any, reference: Any, dtype: torch.dtype) -> None:
        self.policy = SharedForward(policy, dtype)
        with torch.no_grad():
            self.reference = None if reference is None else SharedForward(reference, dtype)


def backward(passes: Passes, batch: Batch, objective: Objective, temperature: float) -> tuple["Terms", float]:
    """Add a micro-batch's gradient; return its terms and the sum of its tokens' entropies."""
    taught = GrpoObjective(objective, temperature, StepSums(), lambda terms: None)
    loss, terms = taught.loss(passes.policy, passes.reference, batch)
    loss.backward()
    return Terms(loss, terms), terms.entropy_sum


def logits_of(model: Any, batch: Targets, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return a model's logits for the targets of a batch."""
    return SharedForward(model, dtype).logits(batch)


def backward_sft(model: Any, batch: Sequence[Example], microbatch_tokens: int) -> float:
    """Add the gradient of the mean loss per completion token; return that mean."""
    from zerone.train.sft import forward_backward

    trainer = LocalTrainer(model, [torch.optim.SGD(model.parameters(), 0.0)])
    return forward_backward(trainer, batch, microbatch_tokens)


def held_out_loss(model: Any, examples: Sequence[Example], microbatch_tokens: int) -> float:
    """Return the mean loss of examples that are held out."""
    with torch.no_grad():
        return mean_loss(SharedForward(model, torch.float32), examples, microbatch_tokens)
