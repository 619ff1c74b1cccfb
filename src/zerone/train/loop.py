"""The loop of reinforcement learning with verifiable rewards; reads like R1's pseudo-code.

In: a policy in training, an engine that samples from it, a mixture of problems, an algorithm. Out: a
better policy, and a run directory that records how. In the paper's words a "step" is one update;
here a step is one rollout phase, followed by `minibatches * epochs` updates.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from zerone.config import Config
from zerone.data.mixture import Mixture
from zerone.engine.api import Engine, Request, SamplingParams
from zerone.errors import TrainingError
from zerone.prompts.r1 import THINK_OPEN, Style
from zerone.rewards.language import lingua_detector
from zerone.rewards.preference import Preference, is_due
from zerone.rewards.total import NamedReward, RewardRules, RewardWeights, grade_all
from zerone.rewards.user import RewardFailure, load_user_reward
from zerone.runs.checkpoint import Progress
from zerone.runs.directory import RunDir
from zerone.seeding import seed_from
from zerone.train.advantage import credit
from zerone.train.algorithm import Algorithm, TrainState
from zerone.train.metrics import failure_metrics, rollout_metrics
from zerone.types import Credited, Group, Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """What surrounds the loop: evaluation, checkpoints and display are none of its business.

    `preferences` are the reward models of general requests, which are loaded once; `failed` is told, with
    the step counted from 1, which of the user's reward functions failed in it.
    """

    before_step: Callable[[int], None]
    after_step: Callable[[Mapping[str, Any], Mapping[str, Any], Sequence[Credited]], None]
    preferences: Mapping[str, Preference] = field(default_factory=dict)
    failed: Callable[[int, Sequence[RewardFailure]], None] = lambda step, failures: None


def train(
    config: Config,
    state: TrainState,
    engine: Engine,
    mixture: Mixture,
    to_prompt: Callable[[Problem], tuple[int, ...]],
    run: RunDir,
    hooks: Hooks,
    algorithm: Algorithm,
) -> None:
    """Train until `rl.steps` steps are done, from wherever `state.progress` stands."""
    trainer = state.trainer
    engine.update_weights(trainer.weights(), state.progress.updates)
    between = Clock()
    for step in range(state.progress.step, config.rl.steps):
        hooks.before_step(step)
        between.mark("between_s")
        clock = Clock()
        failures: list[RewardFailure] = []
        rules = replace(
            rules_of(config), preferences=hooks.preferences, step=step + 1, failed=failures.append
        )
        groups = collect(config, engine, mixture, to_prompt, step, clock, rules)
        hooks.failed(step + 1, failures)
        _check_judged(groups, failures, state.history, step + 1)
        engine.sleep()  # its copies of a wide model's weights are not needed beside gradients
        result = algorithm.learn(config, state, groups, step)
        state.progress = Progress(step=step + 1, updates=result.updates)
        engine.update_weights(trainer.weights(), result.updates)
        clock.mark("train_s")
        metrics: dict[str, Any] = {"step": step + 1}
        style = Style(config.prompt.style)
        metrics |= rollout_metrics(result.credited, style, opened_by_prompt(config))
        metrics |= result.figures
        metrics |= failure_metrics(failures)
        metrics["verdict"] = algorithm.health(config, state.history, metrics)
        state.history.append(metrics)
        timing = {"step": step + 1, **clock.seconds, "total_s": clock.total, **between.seconds}
        between = Clock()
        run.record_step(metrics, timing, result.credited)
        hooks.after_step(metrics, timing, result.credited)


def _check_judged(
    groups: Sequence[Group],
    failures: Sequence[RewardFailure],
    history: Sequence[Mapping[str, Any]],
    step: int,
) -> None:
    """Stop a run that learns from nothing: a function that always fails, a verifier that never worked."""
    if any(graded.is_judged for group in groups for graded in group.members):
        return
    if failures:
        raise TrainingError(
            f"step {step}: no completion has a reward, since {failures[0].name!r} failed on each: "
            f"{failures[0].reason}; the last checkpoint is untouched"
        )
    if all(line["accuracy"] is None for line in history):
        names = ", ".join(sorted({group.problem.verifier for group in groups}))
        raise TrainingError(
            f"step {step}: no completion could be judged, in this step or any before; the verifier ({names}) "
            "fails on all of them. `zerone reward check` and `zerone reward test` say why"
        )


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


def sampling_of(config: Config) -> SamplingParams:
    """Return the sampling settings as the engine takes them."""
    s = config.sampling
    return SamplingParams(
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
        functions={
            own.name: NamedReward(weight=own.weight, function=load_user_reward(own.function))
            for own in r.functions
        },
    )
