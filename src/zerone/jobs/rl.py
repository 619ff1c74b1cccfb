"""R1-Zero: reinforcement learning alone on a base model (R1 paper, section 2.2).

In: a configuration and a run directory. Out: the trained model, summary.json, and everything
between in the run directory. Killed at any moment it goes on with `resume`, and the metrics and
weights of the whole are those of an uninterrupted run, bit for bit on the same machine.
"""

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import transformers

from zerone.config import Config
from zerone.device import device_kind
from zerone.engine.api import Engine
from zerone.engine.opening import check_engine
from zerone.errors import ConfigError, DataError, FileError
from zerone.evals.evaluate import Suite, evaluate
from zerone.files import JsonObject
from zerone.jobs.algorithm import algorithm_of
from zerone.jobs.data import Data, data_inputs, data_of, with_epochs
from zerone.jobs.origins import run_lineage
from zerone.jobs.own_rewards import FailureLog, hashes_of, say_on_stderr, try_functions
from zerone.jobs.ranked import engine_of, new_trainer, open_policy, require_shared
from zerone.jobs.training import (
    OpenModel,
    Placement,
    adapter_inputs,
    check_can_sample,
    place,
    require_enough,
    with_microbatches,
)
from zerone.jobs.upkeep import Upkeep, spent
from zerone.model.loading import Model, context_of
from zerone.model.tokenizer import encode_prompt
from zerone.processes.machine import keep_freed_memory
from zerone.processes.threads import use_threads
from zerone.prompts.r1 import Style, shown_examples, write_prompt
from zerone.reward_model.opening import Rewarding, open_reward_models
from zerone.rewards.ground_truth import is_for_a_model
from zerone.rewards.verifiers import prepare_verifiers
from zerone.runs.checkpoint import Progress
from zerone.runs.directory import RunDir, peak_memory
from zerone.runs.lineage import write_lineage
from zerone.runs.start import Input, begin_run, keep_to_commits, prepare_run
from zerone.trackers.tracking import Tracking, check_tracker, tracked
from zerone.train.algorithm import Algorithm, TrainState
from zerone.train.loop import Hooks, opened_by_prompt, rules_of, sampling_of, train
from zerone.types import Credited, Problem

SUMMARY_KEYS = ("pass_at_1", "cons_at_16", "unparsable", "format", "response_tokens", "reflection_words")


class Display(Protocol):
    """What shows a run while it goes on."""

    def start(self, config: Config, environment: Mapping[str, Any]) -> None:
        """Show what is about to run."""
        ...

    def step(self, metrics: Mapping[str, Any], timing: Mapping[str, Any], groups: Sequence[Credited]) -> None:
        """Show a finished step."""
        ...

    def evaluation(self, step: int, suites: Mapping[str, Any]) -> None:
        """Show an evaluation."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """Everything that a run needs besides its learner and its engine."""

    config: Config
    run: RunDir
    model: Model
    placement: Placement
    data: Data
    to_prompt: Callable[[Problem], tuple[int, ...]]
    reward_models: Mapping[str, Rewarding]


def run_zero(
    config: Config, run: RunDir, resume: bool, display: Display, algorithm: Algorithm | None = None
) -> dict[str, Any]:
    """Run R1-Zero, or another algorithm than `rl.algorithm` in its loop, and return the summary.

    Raises UserError kinds before any long work; Interrupted after Ctrl-C, with all saved.
    """
    check_tracker(config)
    check_engine(config.engine)
    run.lock()
    try:
        require_shared(run)
        keep_to_commits(run)
        config = with_epochs(config)
        environment = prepare_run(config, run, resume, kind=device_kind(config.model.device))
        needs_rewards = algorithm is None or algorithm.needs_rewards
        session = open_session(config, run, environment, needs_rewards=needs_rewards)
        chosen = algorithm or algorithm_of(config, session.model.module, session.placement.device.dtype)
        with contextlib.closing(engine_of(config, session.model, environment)) as engine:
            state = new_state(session)
            session = settled(session, state)
            with tracked(config, run) as tracking:
                return _train_and_measure(session, state, engine, display, chosen, tracking)
    finally:
        run.unlock()


def open_session(
    config: Config,
    run: RunDir,
    environment: dict[str, Any],
    *,
    needs_rewards: bool = True,
    open_model: OpenModel = open_policy,
) -> Session:
    """Load model and problems; check that prompts fit; write the run's first files."""
    keep_freed_memory()
    transformers.logging.disable_progress_bar()
    use_threads(environment["threads"])
    data = data_of(config)
    problems = data.problems
    rules = try_functions(config, problems, run)  # a reward function that cannot be used stops the run here
    if needs_rewards and not config.reward.preference:
        refuse_unjudged(data.listed)
    prepare_verifiers(data.verifiers)  # and so does a sandbox that is not to be had
    placement = place(config, environment)
    require_enough(placement, "rl.problems_per_step", config.rl.problems_per_step)
    model = open_model(config, placement)
    to_prompt = prompt_encoder(config, model)
    context = context_of(model)
    check_can_sample(config, model)
    check_lengths(config, to_prompt, problems, context)
    reward_models = open_reward_models(config)
    judges = {kind: found.sha256 for kind, found in reward_models.items()}
    inputs = {
        **data_inputs(config),
        "model_sha256": Input(name=config.model.path, sha256=model.sha256),
        **adapter_inputs(config),
        "reward_models": Input(name="what judges preferences", sha256=judges),
        **hashes_of(rules, config.reward.if_function_changed),
    }
    begin_run(config, run, environment, inputs, data.description)
    return Session(
        config=config,
        run=run,
        model=model,
        placement=placement,
        data=data,
        to_prompt=to_prompt,
        reward_models=reward_models,
    )


def refuse_unjudged(problems: Sequence[Problem]) -> None:
    """Raise ConfigError for general requests that no rule judges, where no reward model does."""
    unjudged = [problem for problem in problems if is_for_a_model(problem)]
    if unjudged:
        raise ConfigError(
            f"{len(unjudged)} of {len(problems)} problems are general requests without a `kind`, which no "
            f"rule can judge (the first: {unjudged[0].prompt[:60]!r}); set reward.preference and "
            "reward.helpfulness_model, or leave them out"
        )


def prompt_encoder(config: Config, model: Model) -> Callable[[Problem], tuple[int, ...]]:
    """Return the function from problems to prompt tokens."""
    examples = shown_examples(config.prompt.examples)
    opened, style = opened_by_prompt(config), Style(config.prompt.style)

    def to_prompt(problem: Problem) -> tuple[int, ...]:
        text = write_prompt(problem.prompt, examples, style) + opened
        return encode_prompt(model.tokenizer, text)

    return to_prompt


def check_lengths(
    config: Config, to_prompt: Callable[[Problem], tuple[int, ...]], problems: Sequence[Problem], context: int
) -> None:
    """Raise DataError unless every prompt leaves room for an answer of `sampling.max_tokens`."""
    length, longest = max(((len(to_prompt(problem)), problem) for problem in problems), key=lambda p: p[0])
    if config.sampling.max_tokens + length > context:
        room = context - length
        what = f"lower sampling.max_tokens to {room}" if room > 0 else "leave it out or shorten it"
        raise DataError(
            f"problem {longest.id} has a prompt of {length} tokens; with sampling.max_tokens="
            f"{config.sampling.max_tokens} that exceeds the model's context of {context}: {what}"
        )


def new_state(session: Session) -> TrainState:
    """Return the base model, about to be trained, with its optimizer and reference."""
    config = session.config
    trainer = new_trainer(
        config,
        session.model,
        session.placement,
        learning_rate=config.optim.learning_rate,
        has_reference=bool(config.loss.kl_coef),
    )
    return TrainState(trainer=trainer, progress=Progress(step=0, updates=0))


def settled(session: Session, state: TrainState) -> Session:
    """Return the session with what the trainer had to try out first."""
    config = session.config
    if config.rl.microbatch_tokens:  # given: the prompts need not be read a second time
        return session
    longest = max(len(session.to_prompt(problem)) for problem in session.data.problems)
    longest += config.sampling.max_tokens
    return replace(session, config=with_microbatches(config, session.run, state.trainer, "rl", longest))


def _train_and_measure(
    session: Session,
    state: TrainState,
    engine: Engine,
    display: Display,
    algorithm: Algorithm,
    tracking: Tracking,
) -> dict[str, Any]:
    config, run = session.config, session.run
    tokenizer = session.model.tokenizer
    upkeep = Upkeep(config=config, run=run, state=state, tokenizer=tokenizer, algorithm=algorithm)
    upkeep.restore(has_rollouts=True)
    state.history.extend(run.read_metrics())
    display.start(config, run.read_environment())

    def evaluate_once(step: int) -> None:
        _evaluate_once(session, state, engine, step, display, tracking)

    with upkeep.attending(evaluate_once) as attend:

        def after_step(
            metrics: Mapping[str, Any], timing: Mapping[str, Any], groups: Sequence[Credited]
        ) -> None:
            display.step(metrics, timing, groups)
            tracking.step(metrics, timing, groups)
            attend.after_step(metrics["step"])

        preferences = {kind: model.rewards for kind, model in session.reward_models.items()}
        hooks = Hooks(
            before_step=attend.before_step,
            after_step=after_step,
            preferences=preferences,
            failed=FailureLog(run=run, say=say_on_stderr),
        )
        train(config, state, engine, session.data.mixture, session.to_prompt, run, hooks, algorithm)
        upkeep.save()
        attend.evaluate(config.rl.steps)
    state.trainer.save(run.model_path, tokenizer)
    write_lineage(run.model_path, run_lineage(config, run, "reinforcement learning"))
    summary = summarise(run, config)
    run.write_summary(summary)
    tracking.finish(summary)
    return summary


def _evaluate_once(
    session: Session, state: TrainState, engine: Engine, step: int, display: Display, tracking: Tracking
) -> None:
    """Evaluate unless this step's evaluation is on file already."""
    config = session.config
    if step in session.run.read_evals():
        return
    is_whole = step in (0, config.rl.steps) or config.eval.during == "both"
    suites = [session.data.mixed, session.data.hard] if is_whole else [session.data.hard]
    engine.update_weights(state.trainer.weights(), state.progress.updates)
    start = time.perf_counter()
    figures = {suite.name: _measure(session, engine, suite) for suite in suites}
    seconds = round(time.perf_counter() - start, 3)
    took = {"seconds": seconds, "peak_rss_bytes": peak_memory()}
    result = {"step": step, **took, "suites": figures}
    session.run.write_eval(step, result)
    display.evaluation(step, figures)
    tracking.evaluation(result)


def _measure(session: Session, engine: Engine, suite: Suite) -> dict[str, Any]:
    config = session.config
    return evaluate(
        engine,
        suite,
        sampling_of(config),
        session.to_prompt,
        config.seed,
        opened_by_prompt(config),
        rules_of(config),
    )


def summarise(run: RunDir, config: Config) -> dict[str, Any]:
    """Return what summary.json holds, from the run's own files."""
    evaluations = run.read_evals()
    steps = max(evaluations)
    if steps != config.rl.steps or 0 not in evaluations:
        raise ConfigError(f"{run.path} has no evaluations of step 0 and {config.rl.steps}; resume it")
    return {
        "base": selected(evaluations[0]),
        "final": selected(evaluations[steps]),
        "steps": steps,
        **spent(run),
        "seed": config.seed,
    }


def selected(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures of an evaluation that a summary shows; raises FileError for a damaged one."""
    place = f"the evaluation of step {evaluation['step']}"
    found = {}
    for name, figures in evaluation["suites"].items():
        shown = {key: value for key, value in figures.items() if key.removesuffix("_ci") in SUMMARY_KEYS}
        for key in set(SUMMARY_KEYS) & shown.keys():
            if shown[key] is None or shown.get(f"{key}_ci") is None:
                raise FileError(f"{place} of {name} has no {key} with its interval; it is damaged")
        found[name] = JsonObject(shown, place)
    return JsonObject(found, place)
