"""The loop of reinforcement learning with verifiable rewards; reads like R1's pseudo-code.

In: a policy, an engine that samples from it, a mixture of problems. Out: a better policy, and a
run directory that tells how. In the paper's words a "step" is one update; here a step is one
rollout phase, followed by `minibatches * epochs` updates. With `rl.algorithm=ppo` a critic gives the
credit instead of the group (train/critic.py); all else is the same.

Dimensions: N packed tokens, C completion tokens, D width.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import nn

from zerone.config import Config
from zerone.engine.api import Engine, Request, Sampling
from zerone.errors import TrainingError
from zerone.prompts.r1 import THINK_OPEN, Style
from zerone.rewards.language import lingua_detector
from zerone.rewards.preference import Preference, is_due
from zerone.rewards.total import RewardRules, RewardWeights, grade_all
from zerone.rewards.user import load_user_reward
from zerone.runs.checkpoint import Progress
from zerone.runs.directory import RunDir
from zerone.seeding import seed_from
from zerone.train.advantage import credit
from zerone.train.batch import Batch, make_batches, split_minibatches
from zerone.train.critic import Critic, Estimates
from zerone.train.health import verdict
from zerone.train.loss import LossTerms, Objective, Passes, backward
from zerone.train.metrics import StepSums, rollout_metrics, update_metrics
from zerone.train.optim import set_learning_rate, warmup_then_constant
from zerone.types import Credited, Group, Problem, StepStats

STEP_ZERO_TOLERANCE = 1e-3
"""Largest |ratio - 1| on the very first update in fp32: sampler and trainer hold equal weights,
and differ only in the order of additions (1e-5 measured; a wrong position or mask gives > 0.1)."""


LARGEST_WEIGHT = 1e6
"""No sane weight of a language model comes near this; trained ones stay below about 1e3."""


class Mixture(Protocol):
    """A source of training problems; what it draws depends on nothing but its arguments."""

    def draw(self, step: int, num_problems: int, first: int = 0) -> Sequence[Problem]:
        """Return problems `first` .. `first + num_problems - 1` of a step."""
        ...


@dataclass(slots=True)
class Learner:
    """All that the loop changes: policy, reference, optimiser, PPO's critic, and how far they are."""

    module: nn.Module
    reference: nn.Module | None
    optimizer: torch.optim.Optimizer
    dtype: torch.dtype
    progress: Progress
    critic: Critic | None = None
    history: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """What surrounds the loop: evaluation, checkpoints and display are none of its business.

    `preferences` are the reward models of general requests, which are loaded once.
    """

    before_step: Callable[[int], None]
    after_step: Callable[[Mapping[str, Any], Mapping[str, Any], Sequence[Credited]], None]
    preferences: Mapping[str, Preference] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """What the answers of a step taught: their credit, all updates up to now, the figures of this step's."""

    credited: Sequence[Credited]
    updates: int
    figures: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """How a policy learns from its own answers: what makes a step's updates, and says how it goes.

    `learn` is given the step, which counts from 0; `verdict` the figures of the steps before and of this one.
    """

    learn: Callable[[Config, Learner, Sequence[Group], int], Lesson]
    verdict: Callable[[Sequence[Mapping[str, Any]], Mapping[str, Any]], str]


def reinforce(config: Config, learner: Learner, groups: Sequence[Group], step: int) -> Lesson:
    """Credit answers, update the policy, and every so many steps replace the reference by it."""
    credited = credit(groups, config.advantage.scale)
    stats = update(config, learner, credited, step)
    if config.rl.reference_every and (step + 1) % config.rl.reference_every == 0:
        replace_reference(learner)
    updates = learner.progress.updates + stats.num_updates
    figures = update_metrics(stats, learning_rate_of(config, updates - 1), updates)
    return Lesson(credited=credited, updates=updates, figures=figures)


REINFORCEMENT = Method(learn=reinforce, verdict=verdict)


def train(
    config: Config,
    learner: Learner,
    engine: Engine,
    mixture: Mixture,
    to_prompt: Callable[[Problem], tuple[int, ...]],
    run: RunDir,
    hooks: Hooks,
    method: Method = REINFORCEMENT,
) -> None:
    """Train until `rl.steps` steps are done, from wherever `learner.progress` stands.

    By reinforcement, or by another method that learns from the policy's own answers (train/distill.py).
    """
    engine.load_weights(learner.module, learner.progress.updates)
    between = Clock()
    for step in range(learner.progress.step, config.rl.steps):
        hooks.before_step(step)
        between.mark("between_s")
        clock = Clock()
        rules = replace(rules_of(config), preferences=hooks.preferences)
        groups = collect(config, engine, mixture, to_prompt, step, clock, rules)
        engine.sleep()  # its copies of a wide model's weights are not needed beside gradients
        lesson = method.learn(config, learner, groups, step)
        learner.progress = Progress(step=step + 1, updates=lesson.updates)
        engine.load_weights(learner.module, lesson.updates)
        clock.mark("train_s")
        metrics: dict[str, Any] = {"step": step + 1}
        metrics |= rollout_metrics(lesson.credited, Style(config.prompt.style))
        metrics |= lesson.figures
        metrics["verdict"] = method.verdict(learner.history, metrics)
        learner.history.append(metrics)
        timing = {"step": step + 1, **clock.seconds, "total_s": clock.total, **between.seconds}
        between = Clock()
        run.record_step(metrics, timing, lesson.credited)
        hooks.after_step(metrics, timing, lesson.credited)


class Clock:
    """Seconds per phase of a step."""

    def __init__(self) -> None:
        self._start = self._last = time.perf_counter()
        self.seconds: dict[str, float] = {}

    def mark(self, phase: str) -> None:
        """Book the time since the last mark on a phase."""
        now = time.perf_counter()
        self.seconds[phase] = round(self.seconds.get(phase, 0.0) + now - self._last, 4)
        self._last = now

    @property
    def total(self) -> float:
        """Seconds since the start."""
        return round(time.perf_counter() - self._start, 4)


def requests_for(
    problems: Sequence[Problem],
    to_prompt: Callable[[Problem], tuple[int, ...]],
    num_samples: int,
    seed: tuple[int | str, ...],
) -> list[Request]:
    """Return one request per problem; sample j's seed is a function of (seed, position, id, j)."""
    return [
        Request(
            problem=problem,
            prompt_ids=to_prompt(problem),
            seeds=tuple(seed_from(*seed, position, problem.id, j) for j in range(num_samples)),
        )
        for position, problem in enumerate(problems)
    ]


def collect(
    config: Config,
    engine: Engine,
    mixture: Mixture,
    to_prompt: Callable[[Problem], tuple[int, ...]],
    step: int,
    clock: Clock,
    rules: RewardRules | None = None,
) -> list[Group]:
    """Draw problems, sample and grade; groups without signal are refilled `rl.refill` times."""
    weights, opened = weights_of(config, step), opened_by_prompt(config)
    rules = rules or rules_of(config)
    groups: list[Group] = []
    missing, drawn = config.rl.problems_per_step, 0
    for round_index in range(1 + config.rl.refill):
        problems = mixture.draw(step, missing, first=drawn)
        seed = (config.seed, "rollout", step, round_index)
        rollouts = engine.generate(
            requests_for(problems, to_prompt, config.rl.group_size, seed), sampling_of(config)
        )
        clock.mark("generate_s")
        fresh = [
            Group(problem=problem, members=grade_all(answers, weights, opened, rules))
            for problem, answers in zip(problems, rollouts, strict=True)
        ]
        clock.mark("reward_s")
        groups.extend(fresh)
        drawn += missing
        missing = sum(not credited.has_signal for credited in credit(fresh, "none"))
        if not missing:
            break
    return groups


def sampling_of(config: Config) -> Sampling:
    """Return the sampling settings as the engine takes them."""
    s = config.sampling
    return Sampling(
        temperature=s.temperature, top_p=s.top_p, top_k=s.top_k, max_tokens=s.max_tokens, stop=tuple(s.stop)
    )


def opened_by_prompt(config: Config) -> str:
    """Return what the prompt already wrote of the completion."""
    return THINK_OPEN if config.prompt.open_thought else ""


def weights_of(config: Config, step: int = 0) -> RewardWeights:
    """Return the weights of the reward's parts in a step; preference counts only in the last ones."""
    r = config.reward
    is_preferred = is_due(step, config.rl.steps, r.preference_share)
    return RewardWeights(
        accuracy=r.accuracy,
        format=r.format,
        language=r.language,
        repetition=r.repetition,
        overlong=r.overlong,
        user=r.user,
        preference=r.preference if is_preferred else 0.0,
    )


def rules_of(config: Config) -> RewardRules:
    """Return what the parts are measured by; raises ConfigError for what cannot be loaded."""
    r = config.reward
    return RewardRules(
        style=Style(config.prompt.style),
        max_tokens=config.sampling.max_tokens,
        overlong_buffer=max(1, round(r.overlong_share * config.sampling.max_tokens)),
        detector=lingua_detector(tuple(r.latin_languages)) if r.language and r.latin_languages else None,
        user=None if r.function is None else load_user_reward(r.function),
    )


def learning_rate_of(config: Config, update: int) -> float:
    """Return the learning rate of an update, which counts from 0."""
    return warmup_then_constant(update, config.optim.learning_rate, config.optim.warmup_updates)


def replace_reference(learner: Learner) -> None:
    """Policy -> reference: from now on the KL term pulls towards the present policy."""
    if learner.reference is not None:
        learner.reference.load_state_dict(learner.module.state_dict())


def update(config: Config, learner: Learner, groups: Sequence[Credited], step: int) -> StepStats:
    """Make the step's updates: one per minibatch, gradients added up over its micro-batches."""
    sums = StepSums()
    estimates: Estimates | None = None
    if learner.critic is not None:
        estimates = learner.critic.estimate(_batches(config, groups, None), learner.reference)
    for epoch in range(config.rl.epochs):
        minibatches = split_minibatches(groups, config.rl.minibatches, (config.seed, step, epoch))
        for minibatch in minibatches:
            _update_once(config, learner, _batches(config, minibatch, estimates), sums)
    return sums.stats(estimates)


def _batches(config: Config, groups: Sequence[Credited], estimates: Estimates | None) -> Iterator[Batch]:
    """Cut groups into micro-batches; groups of equal answers teach through a KL term or a critic."""
    return make_batches(
        groups,
        aggregation=config.loss.aggregation,
        max_tokens=config.sampling.max_tokens,
        mask_truncated=config.loss.mask_truncated,
        keep_silent=config.loss.kl_coef > 0 or config.rl.algorithm == "ppo",
        microbatch_tokens=config.rl.microbatch_tokens,
        estimates=None if estimates is None else estimates.by_member,
    )


def _update_once(config: Config, learner: Learner, batches: Iterable[Batch], sums: StepSums) -> None:
    """Add up the gradients of the micro-batches and apply them."""
    objective = Objective(
        clip_low=config.loss.clip_low,
        clip_high=config.loss.clip_high,
        kl_coef=0.0 if learner.critic else config.loss.kl_coef,  # PPO has it in the reward
        kl_estimator=config.loss.kl_estimator,
    )
    total, has_gradient = 0.0, False
    passes = Passes.of(learner.module, learner.reference, learner.dtype)
    for batch in batches:
        terms, entropy = backward(passes, batch, objective, config.sampling.temperature)
        sums.add(terms, entropy, batch.num_completion_tokens)
        total, has_gradient = total + terms.loss.item(), True
        if learner.critic is not None:
            sums.value_loss += learner.critic.backward(batch)
        if learner.progress.updates == 0 and not sums.num_applied:
            _check_step_zero(terms, learner.dtype)
    passes.policy.finish()
    if sums.mismatch > config.rl.max_mismatch_kl * max(1, sums.mismatch_tokens):
        raise TrainingError(
            f"sampler and trainer disagree by {sums.mismatch / sums.mismatch_tokens:.4f} nats per token "
            f"(bound: rl.max_mismatch_kl={config.rl.max_mismatch_kl}); the last checkpoint is untouched. "
            "Try model.precision=fp32"
        )
    norm = 0.0
    if has_gradient:
        norm = clip_gradient(learner.module, total, config.optim.max_grad_norm)
        sums.num_applied += 1
        learning_rate = learning_rate_of(config, learner.progress.updates + len(sums.losses))
        if learner.critic is not None:
            learner.critic.step(learning_rate, config.optim.max_grad_norm)
            check_weights(learner.critic.module)
        set_learning_rate([learner.optimizer], learning_rate)
        learner.optimizer.step()
        learner.optimizer.zero_grad(set_to_none=True)
        check_weights(learner.module)
    sums.losses.append(total)
    sums.grad_norms.append(norm)


def clip_gradient(module: nn.Module, loss: float, max_norm: float) -> float:
    """Scale the gradient down to `max_norm` and return its norm before; raise TrainingError for no number."""
    norm = float(nn.utils.clip_grad_norm_(module.parameters(), max_norm))
    if not math.isfinite(loss + norm):
        raise TrainingError(
            f"the loss is {loss} and the gradient's norm {norm}; the weights have not been changed and "
            "the last checkpoint is untouched. Start again with a lower optim.learning_rate"
        )
    return norm


def check_weights(module: nn.Module) -> None:
    """Stop before ruined weights reach a checkpoint.

    Huge weights need not show as NaN: norms can turn them into zeros, and sampling goes on at random.
    """
    largest = max(float(parameter.detach().abs().max()) for parameter in module.parameters())
    if not largest < LARGEST_WEIGHT:
        raise TrainingError(
            f"an update made a weight of {largest:.3g}; the last checkpoint is untouched. "
            "Start again with a lower optim.learning_rate"
        )


def _check_step_zero(terms: LossTerms, dtype: torch.dtype) -> None:
    """Before the first update policy, sampler and reference are one: ratio 1, KL 0."""
    tolerance = STEP_ZERO_TOLERANCE if dtype is torch.float32 else 0.5
    is_one = max(terms.ratio_max - 1, 1 - terms.ratio_min) <= tolerance
    if not is_one or abs(terms.kl_sum) > tolerance:
        raise TrainingError(
            f"before the first update the ratio lies between {terms.ratio_min:.6f} and "
            f"{terms.ratio_max:.6f} and the KL sum is {terms.kl_sum:.6f}; they must be 1 and 0. "
            "Sampler and trainer compute different models"
        )
