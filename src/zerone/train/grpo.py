"""GRPO and its family: credit within the group, then updates on the clipped objective (loss.py).

Dimensions: C completion tokens.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from zerone.config import Config
from zerone.errors import TrainingError
from zerone.runs.checkpoint import State
from zerone.train.advantage import credit
from zerone.train.algorithm import StepResult, TrainState, learning_rate_of, plan_of
from zerone.train.batch import Batch, make_batches, split_minibatches
from zerone.train.health import verdict
from zerone.train.loss import LossTerms, Objective, grpo_loss
from zerone.train.metrics import StepSums, mismatch_metrics, update_metrics
from zerone.train.trainer import ModelPass, Trainer, pass_over
from zerone.types import Credited, Estimate, Group, StepStats

STEP_ZERO_TOLERANCE = 1e-3
"""Largest |ratio - 1| on the very first update in fp32: sampler and trainer hold equal weights,
and differ only in the order of additions (1e-5 measured; a wrong position or mask gives > 0.1)."""


class Grpo:
    """Group-relative policy optimization; an `Algorithm`."""

    needs_rewards = True

    def learn(self, config: Config, state: TrainState, groups: Sequence[Group], step: int) -> StepResult:
        """Credit completions, update the policy, and every so many steps replace the reference by it."""
        credited = credit(groups, config.advantage.scale, config.advantage.baseline)
        stats = self.update(config, state, credited, step)
        replace_reference_when_due(config, state, step)
        return result_of(config, state, credited, stats)

    def update(self, config: Config, state: TrainState, credited: Sequence[Credited], step: int) -> StepStats:
        """Make the updates of a step and return their figures."""
        logprobs = trainer_logprobs(config, state.trainer, credited)
        sums = StepSums()

        def batches(groups: Sequence[Credited]) -> Iterator[Batch]:
            keep_silent = config.loss.kl_coef > 0
            return batches_of(config, groups, keep_silent=keep_silent, trainer_logprobs=logprobs)

        make_updates(config, state, credited, step, sums, batches, objective_of(config))
        return sums.stats(None)

    def health(self, config: Config, history: Sequence[Mapping[str, Any]], now: Mapping[str, Any]) -> str:
        """Return whether the run is learning, and if not, why and what to change."""
        return verdict(history, now, plan_of(config))

    def state(self) -> State:
        """Return nothing: the group's mean is the baseline."""
        return {}


def replace_reference_when_due(config: Config, state: TrainState, step: int) -> None:
    """Make the policy the new reference every `rl.reference_every` steps; `step` counts from 0."""
    if config.rl.reference_every and (step + 1) % config.rl.reference_every == 0:
        state.trainer.replace_reference()


def objective_of(config: Config, *, has_kl: bool = True) -> Objective:
    """Return the settings of the loss; without its KL where that is part of the reward."""
    loss = config.loss
    return Objective(
        clip_low=loss.clip_low,
        clip_high=loss.clip_high,
        kl_coef=loss.kl_coef if has_kl else 0.0,
        kl_estimator=loss.kl_estimator,
        ratio=loss.ratio,
        surrogate=loss.surrogate,
        correction=loss.correction,
        correction_low=loss.correction_low,
        correction_high=loss.correction_high,
    )


def batches_of(
    config: Config,
    groups: Sequence[Credited],
    *,
    keep_silent: bool,
    estimates: Mapping[int, Estimate] | None = None,
    trainer_logprobs: Mapping[int, Sequence[float]] | None = None,
) -> Iterator[Batch]:
    """Cut groups into micro-batches; groups of equal completions teach through a KL term or a critic."""
    return make_batches(
        groups,
        aggregation=config.loss.aggregation,
        max_tokens=config.sampling.max_tokens,
        mask_truncated=config.loss.mask_truncated,
        keep_silent=keep_silent,
        microbatch_tokens=config.rl.microbatch_tokens,
        estimates=estimates,
        trainer_logprobs=trainer_logprobs,
    )


def trainer_logprobs(
    config: Config, trainer: Trainer, groups: Sequence[Credited]
) -> dict[int, list[float]] | None:
    """Return the trainer's log-probabilities before the step, by the id() of the graded rollout.

    None where the loss needs none: the engine's stand in for them then, which saves a pass.
    """
    if config.loss.correction in ("none", "stale_mask"):
        return None
    found: dict[int, list[float]] = {}
    now = trainer.evaluating()
    with torch.no_grad():
        batches = list(batches_of(config, groups, keep_silent=config.loss.kl_coef > 0))
        told = pass_over(now, "logprobs", batches, config.sampling.temperature)
        for batch, (logprobs_C, _) in zip(batches, told, strict=True):
            parts = logprobs_C.split(batch.lengths.tolist())
            found |= {id(graded): part.tolist() for graded, part in zip(batch.members, parts, strict=True)}
    return found


@dataclass(frozen=True, slots=True)
class GrpoObjective:
    """The loss of a micro-batch, which adds up what the metrics need; an `Objective` of a trainer."""

    settings: Objective
    temperature: float
    sums: StepSums
    check: Callable[[LossTerms], None]

    def loss(self, policy: ModelPass, reference: ModelPass | None, batch: Batch) -> tuple[Tensor, LossTerms]:
        """Return a micro-batch's part of the loss, with gradient, and its terms."""
        policy_C, entropy_C = policy.logprobs(batch, self.temperature)
        reference_C = None
        if reference is not None:
            with torch.no_grad():
                reference_C, _ = reference.logprobs(batch, self.temperature)
        loss, terms = grpo_loss(
            policy_C,
            batch.sampler_logprobs_C,
            reference_C,
            batch.advantages_C,
            batch.weights_C,
            self.settings,
            lengths=batch.lengths,
            trainer_C=batch.trainer_logprobs_C,
        )
        return loss, replace(terms, entropy_sum=entropy_C.sum().item())

    def record(self, terms: LossTerms) -> None:
        """Add up a micro-batch's terms for the metrics."""
        self.sums.add(terms)
        self.check(terms)


def make_updates(
    config: Config,
    state: TrainState,
    groups: Sequence[Credited],
    step: int,
    sums: StepSums,
    batches: Callable[[Sequence[Credited]], Iterable[Batch]],
    settings: Objective,
    beside: Callable[[Sequence[Credited], float], None] = lambda minibatch, learning_rate: None,
) -> None:
    """Make the step's updates: one per minibatch, gradients added up over its micro-batches.

    `beside` is called with each minibatch and the learning rate before the policy's update.
    """
    for epoch in range(config.rl.epochs):
        minibatches = split_minibatches(groups, config.rl.minibatches, (config.seed, step, epoch))
        for minibatch in minibatches:
            is_first = state.progress.updates == 0 and not sums.num_applied
            check = _check_step_zero(state.trainer.dtype) if is_first else _no_check
            objective = GrpoObjective(settings, config.sampling.temperature, sums, check)
            seen = sums.num_tokens
            loss = state.trainer.forward_backward(batches(minibatch), objective)
            _check_mismatch(config, sums)
            sums.num_applied += sums.num_tokens > seen
            learning_rate = learning_rate_of(config, state.progress.updates + len(sums.losses))
            beside(minibatch, learning_rate)
            sums.grad_norms.append(state.trainer.step(learning_rate))
            sums.losses.append(loss)


def result_of(
    config: Config, state: TrainState, credited: Sequence[Credited], stats: StepStats
) -> StepResult:
    """Return what a step did, from the sums of its updates."""
    updates = state.progress.updates + stats.num_updates
    figures = update_metrics(stats, learning_rate_of(config, updates - 1), updates)
    if config.loss.correction != "none":
        figures |= mismatch_metrics(stats)
    return StepResult(credited=credited, updates=updates, figures=figures)


def _check_mismatch(config: Config, sums: StepSums) -> None:
    """Raise TrainingError where engine and trainer compute different models."""
    if sums.mismatch > config.rl.max_mismatch_kl * max(1, sums.mismatch_tokens):
        raise TrainingError(
            f"sampler and trainer disagree by {sums.mismatch / sums.mismatch_tokens:.4f} nats per token "
            f"(bound: rl.max_mismatch_kl={config.rl.max_mismatch_kl}); the last checkpoint is untouched. "
            "Try model.precision=fp32"
        )


def _no_check(terms: LossTerms) -> None:
    """Accept any ratio: after the first update policy and sampler differ."""


def _check_step_zero(dtype: torch.dtype) -> Callable[[LossTerms], None]:
    """Before the first update policy, sampler and reference are one: ratio 1, KL 0."""
    tolerance = STEP_ZERO_TOLERANCE if dtype is torch.float32 else 0.5

    def check(terms: LossTerms) -> None:
        is_one = max(terms.ratio_max - 1, 1 - terms.ratio_min) <= tolerance
        if not is_one or abs(terms.kl_sum) > tolerance:
            raise TrainingError(
                f"before the first update the ratio lies between {terms.ratio_min:.6f} and "
                f"{terms.ratio_max:.6f} and the KL sum is {terms.kl_sum:.6f}; they must be 1 and 0. "
                "Sampler and trainer compute different models"
            )

    return check
