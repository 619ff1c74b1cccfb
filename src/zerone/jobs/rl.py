"""R1-Zero: reinforcement learning alone on a base model (R1 paper, section 2.2).

In: a configuration and a run directory. Out: the trained model, summary.json, and everything
between in the run directory. Killed at any moment it goes on with `resume`, and the metrics and
weights of the whole are those of an uninterrupted run, bit for bit on the same machine.
"""

import contextlib
import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import transformers

from zerone.config import Config
from zerone.engine.api import Engine
from zerone.engine.opening import check_engine, open_engine
from zerone.errors import ConfigError, DataError
from zerone.evals.evaluate import Suite, evaluate
from zerone.evals.suites import Data, data_of
from zerone.jobs.algorithm import algorithm_of
from zerone.jobs.origins import run_lineage
from zerone.jobs.own_rewards import FailureLog, hashes_of, say_on_stderr, try_functions
from zerone.jobs.upkeep import Upkeep, spent
from zerone.model.loading import Model, load_model
from zerone.model.tokenizer import encode_prompt
from zerone.processes.machine import DTYPES, keep_freed_memory
from zerone.prompts.r1 import Style, shown_examples, write_prompt
from zerone.reward_model.opening import Rewarding, open_reward_models
from zerone.rewards.ground_truth import is_for_a_model
from zerone.rewards.verifiers import prepare_verifiers
from zerone.runs.checkpoint import Progress
from zerone.runs.directory import RunDir, peak_memory
from zerone.runs.lineage import write_lineage
from zerone.runs.start import Input, begin_run, prepare_run
from zerone.train.algorithm import Algorithm, TrainState
from zerone.train.local import LocalTrainer
from zerone.train.loop import Hooks, opened_by_prompt, rules_of, sampling_of, train
from zerone.train.optim import adamw
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
    """Everything that a run needs besides its learner."""

    config: Config
    run: RunDir
    model: Model
    data: Data
    engine: Engine
    dtype: torch.dtype
    """What sampling and training are computed in."""
    to_prompt: Callable[[Problem], tuple[int, ...]]
    reward_models: Mapping[str, Rewarding]


def run_zero(
    config: Config, run: RunDir, resume: bool, display: Display, algorithm: Algorithm | None = None
) -> dict[str, Any]:
    """Run R1-Zero, or another algorithm than `rl.algorithm` in its loop, and return the summary.

    Raises UserError kinds before any long work; Interrupted after Ctrl-C, with all saved.
    """
    run.lock()
    try:
        environment = prepare_run(config, run, resume)
        needs_rewards = algorithm is None or algorithm.needs_rewards
        session = open_session(config, run, environment, needs_rewards=needs_rewards)
        chosen = algorithm or algorithm_of(config, session.model.module, session.dtype)
        with contextlib.closing(session.engine):
            return _train_and_measure(session, new_state(session), display, chosen)
    finally:
        run.unlock()


def open_session(
    config: Config, run: RunDir, environment: dict[str, Any], *, needs_rewards: bool = True
) -> Session:
    """Load model and problems; check that prompts fit; write the run's first files."""
    keep_freed_memory()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(environment["threads"])
    check_engine(config.engine)
    data = data_of(config)
    problems = [*data.listed, *data.mixed.problems, *data.hard.problems]
    rules = try_functions(config, problems, run)  # a reward function that cannot be used stops the run here
    if needs_rewards and not config.reward.preference:
        refuse_unjudged(data.listed)
    prepare_verifiers(data.verifiers)  # and so does a sandbox that is not to be had
    model = load_model(config.model.path, torch.float32)
    to_prompt = prompt_encoder(config, model)
    context = int(model.module.config.max_position_embeddings)
    check_lengths(config, to_prompt, problems, context)
    reward_models = open_reward_models(config)
    judges = {kind: found.sha256 for kind, found in reward_models.items()}
    inputs = {
        "model_sha256": Input(name=config.model.path, sha256=model.sha256),
        "reward_models": Input(name="what judges preferences", sha256=judges),
        **hashes_of(rules, config.reward.if_function_changed),
    }
    begin_run(config, run, environment, inputs, data.description)
    engine = open_engine(
        model,
        config.sampling.slots,
        environment["precision"],
        config.engine,
        threads=environment["threads"],
    )
    return Session(
        config=config,
        run=run,
        model=model,
        data=data,
        engine=engine,
        dtype=DTYPES[environment["precision"]],
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
    config, module = session.config, session.model.module
    o, reference = config.optim, None
    if config.loss.kl_coef:
        reference = copy.deepcopy(module).requires_grad_(False)
    trainer = LocalTrainer(
        module,
        [adamw(module.parameters(), o.learning_rate, (o.beta1, o.beta2), o.weight_decay)],
        dtype=session.dtype,
        max_grad_norm=o.max_grad_norm,
        reference=reference,
    )
    return TrainState(trainer=trainer, progress=Progress(step=0, updates=0))


def _train_and_measure(
    session: Session, state: TrainState, display: Display, algorithm: Algorithm
) -> dict[str, Any]:
    config, run = session.config, session.run
    tokenizer = session.model.tokenizer
    upkeep = Upkeep(config=config, run=run, state=state, tokenizer=tokenizer, algorithm=algorithm)
    upkeep.restore(has_rollouts=True)
    state.history.extend(run.read_metrics())
    display.start(config, run.read_environment())
    with upkeep.attending(lambda step: _evaluate_once(session, state, step, display)) as attend:

        def after_step(
            metrics: Mapping[str, Any], timing: Mapping[str, Any], groups: Sequence[Credited]
        ) -> None:
            display.step(metrics, timing, groups)
            attend.after_step(metrics["step"])

        preferences = {kind: model.rewards for kind, model in session.reward_models.items()}
        hooks = Hooks(
            before_step=attend.before_step,
            after_step=after_step,
            preferences=preferences,
            failed=FailureLog(run=run, say=say_on_stderr),
        )
        train(config, state, session.engine, session.data.mixture, session.to_prompt, run, hooks, algorithm)
        upkeep.save()
        _evaluate_once(session, state, config.rl.steps, display)
    state.trainer.save(run.model_path, tokenizer)
    write_lineage(run.model_path, run_lineage(config, run, "reinforcement learning"))
    summary = summarise(run, config)
    run.write_summary(summary)
    return summary


def _evaluate_once(session: Session, state: TrainState, step: int, display: Display) -> None:
    """Evaluate unless this step's evaluation is on file already."""
    config = session.config
    if step in session.run.read_evals():
        return
    is_whole = step in (0, config.rl.steps) or config.eval.during == "both"
    suites = [session.data.mixed, session.data.hard] if is_whole else [session.data.hard]
    session.engine.update_weights(state.trainer.weights(), state.progress.updates)
    start = time.perf_counter()
    figures = {suite.name: _measure(session, suite) for suite in suites}
    seconds = round(time.perf_counter() - start, 3)
    took = {"seconds": seconds, "peak_rss_bytes": peak_memory()}
    session.run.write_eval(step, {"step": step, **took, "suites": figures})
    display.evaluation(step, figures)


def _measure(session: Session, suite: Suite) -> dict[str, Any]:
    config = session.config
    return evaluate(
        session.engine,
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
    """Return the figures of an evaluation that a summary shows."""
    return {
        name: {key: value for key, value in figures.items() if key.removesuffix("_ci") in SUMMARY_KEYS}
        for name, figures in evaluation["suites"].items()
    }
