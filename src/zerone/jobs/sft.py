"""SFT: supervised fine-tuning of a model on demonstrations (R1 paper, 2.3.1, 2.3.3, 2.4 and B.4).

In: a configuration whose `data.path` is a JSONL of demonstrations, and a run directory. Out: the last
model, the best one by held-out loss, summary.json, and everything between. Killed at any moment it
goes on with `resume`, and the metrics and weights of the whole are those of an uninterrupted run,
bit for bit on the same machine.
"""

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from zerone.config import Config
from zerone.data.demonstrations import read_demonstrations
from zerone.data.jsonl import split_problems
from zerone.data.sources import open_source
from zerone.device import device_kind
from zerone.engine.api import Engine
from zerone.engine.opening import check_engine
from zerone.errors import ConfigError, DataError
from zerone.evals.evaluate import Suite, evaluate
from zerone.evals.suites import suite_for_sft
from zerone.jobs.origins import run_lineage
from zerone.jobs.ranked import engine_of, new_trainer, open_policy, require_shared
from zerone.jobs.rl import check_lengths, prompt_encoder, selected
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
from zerone.model.loading import Model, context_of, quiet_transformers
from zerone.processes.machine import keep_freed_memory
from zerone.processes.threads import use_threads
from zerone.prompts.form import check_form
from zerone.prompts.r1 import Style
from zerone.runs.checkpoint import Progress
from zerone.runs.directory import RunDir, peak_memory
from zerone.runs.lineage import write_lineage
from zerone.runs.start import Input, begin_run, keep_to_commits, prepare_run
from zerone.trackers.tracking import Tracking, check_tracker, tracked
from zerone.train.algorithm import TrainState
from zerone.train.loop import opened_by_prompt, rules_of, sampling_of
from zerone.train.sft import Example, Hooks, examples_of, mean_loss, num_steps_of, train
from zerone.types import Demonstration, Problem


class Display(Protocol):
    """What shows a run while it goes on."""

    def start(self, num_steps: int, environment: Mapping[str, Any]) -> None:
        """Show what is about to run."""
        ...

    def step(self, metrics: Mapping[str, Any], timing: Mapping[str, Any]) -> None:
        """Show a finished step."""
        ...

    def evaluation(self, evaluation: Mapping[str, Any]) -> None:
        """Show an evaluation."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Examples:
    """What is trained on and what is held out; `description` says in a line where it comes from."""

    trained: Sequence[Example]
    held_out: Sequence[Example]
    description: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """Everything that a run needs besides its learner and its engine."""

    config: Config
    run: RunDir
    model: Model
    placement: Placement
    examples: Examples
    suite: Suite | None
    to_prompt: Callable[[Problem], tuple[int, ...]]

    @property
    def num_steps(self) -> int:
        """The number of updates of the whole run."""
        return num_steps_of(self.config, len(self.examples.trained))


def run_sft(config: Config, run: RunDir, resume: bool, display: Display) -> dict[str, Any]:
    """Run SFT to its end and return the summary.

    Raises UserError kinds before any long work; Interrupted after Ctrl-C, with all saved.
    """
    require_data(config)
    check_tracker(config)
    check_engine(config.engine)
    run.lock()
    try:
        require_shared(run)
        keep_to_commits(run)
        environment = prepare_run(config, run, resume, kind=device_kind(config.model.device))
        session = open_session(config, run, environment)
        longest = max(e.num_tokens for e in (*session.examples.trained, *session.examples.held_out))
        with contextlib.ExitStack() as stack:
            engine = None
            if session.suite is not None:
                engine = engine_of(config, session.model, environment)
                stack.callback(engine.close)
            state = _new_state(session)
            session = replace(session, config=with_microbatches(config, run, state.trainer, "sft", longest))
            tracking = stack.enter_context(tracked(config, run))
            return _train_and_measure(session, state, engine, display, tracking)
    finally:
        run.unlock()


def require_data(config: Config) -> None:
    """Raise ConfigError where no demonstrations are named."""
    if config.data.path is None:
        raise ConfigError("SFT needs data.path=FILE.jsonl, lines of prompt and completion or of messages")


def open_session(
    config: Config, run: RunDir, environment: dict[str, Any], open_model: OpenModel = open_policy
) -> Session:
    """Load model, data and suite; check that prompts fit; write the run's first files."""
    keep_freed_memory()
    use_threads(environment["threads"])
    suite = suite_for_sft(config)
    placement = place(config, environment)
    require_enough(placement, "sft.batch_size", config.sft.batch_size)
    with quiet_transformers():
        model = open_model(config, placement)
        examples = read_examples(config, model)
    to_prompt = prompt_encoder(config, model)
    if suite is not None:
        check_lengths(config, to_prompt, suite.problems, context_of(model))
        check_can_sample(config, model)
    inputs = {
        "model_sha256": Input(name=config.model.path, sha256=model.sha256),
        **adapter_inputs(config),
        "data_sha256": Input(name=str(config.data.path), sha256=examples.sha256),
    }
    begin_run(config, run, environment, inputs, examples.description)
    return Session(
        config=config,
        run=run,
        model=model,
        placement=placement,
        examples=examples,
        suite=suite,
        to_prompt=to_prompt,
    )


def read_examples(config: Config, model: Model) -> Examples:
    """Read `data.path` and hold a share out; raises DataError where too little is left."""
    path = str(config.data.path)
    source, read = open_source(path), read_demonstrations(path)
    missing = check_form(read.demonstrations, Style(config.prompt.style), source.title)
    sides = split_problems(read.demonstrations, config.data.eval_share)
    context = context_of(model)
    most = min(config.sft.max_tokens or context, context)
    trained, held_out = (_short_enough(side, config, model, most) for side in sides)
    num_answers = sum(
        message.role == "assistant" and message.is_trained
        for one in read.demonstrations
        for message in one.messages
    )
    num_long = num_answers - len(trained) - len(held_out)
    for side, name in ((trained, "training"), (held_out, "evaluation")):
        if not side:
            raise DataError(
                f"{num_long} of {num_answers} answers of {path} are longer than {most} tokens with their "
                f"prompts, which leaves none for {name}; raise sft.max_tokens (the model's context is "
                f"{context}) or shorten them"
            )
    left_out = "".join(
        f", {number} {kind} left out"
        for number, kind in ((read.num_duplicates, "repeated"), (num_long, f"longer than {most} tokens"))
        if number
    ) + "".join(f", {number} without {part}" for part, number in missing.items() if number)
    title = f"{source.title} (read as {read.read_as})" if read.read_as else source.title
    return Examples(
        trained=trained,
        held_out=held_out,
        description=f"{title}: {len(trained)} for training, {len(held_out)} for evaluation{left_out}",
        sha256=source.sha256(),
    )


def _short_enough(
    demonstrations: Sequence[Demonstration], config: Config, model: Model, most: int
) -> list[Example]:
    """Return the examples of at most `most` tokens: a cut answer would teach never to end."""
    return [
        example
        for demonstration in demonstrations
        for example in examples_of(demonstration, model.tokenizer, config)
        if example.num_tokens <= most
    ]


def _new_state(session: Session) -> TrainState:
    trainer = new_trainer(
        session.config,
        session.model,
        session.placement,
        learning_rate=session.config.sft.learning_rate,
        rate_option="sft.learning_rate",
    )
    return TrainState(trainer=trainer, progress=Progress(step=0, updates=0))


def _train_and_measure(
    session: Session, state: TrainState, engine: Engine | None, display: Display, tracking: Tracking
) -> dict[str, Any]:
    config, run = session.config, session.run
    upkeep = Upkeep(config=config, run=run, state=state, tokenizer=session.model.tokenizer)
    # A best model of a later step stays: on the way back to that step it is written again.
    upkeep.restore(has_rollouts=False)
    display.start(session.num_steps, run.read_environment())

    def evaluate_once(step: int) -> None:
        _evaluate_once(session, state, engine, step, display, tracking)

    with upkeep.attending(evaluate_once) as attend:

        def after_step(metrics: Mapping[str, Any], timing: Mapping[str, Any]) -> None:
            display.step(metrics, timing)
            tracking.step(metrics, timing)
            attend.after_step(metrics["step"])

        hooks = Hooks(before_step=attend.before_step, after_step=after_step)
        train(config, state, session.examples.trained, run, hooks)
        upkeep.save()
        attend.evaluate(session.num_steps)
    state.trainer.save(run.model_path, session.model.tokenizer, _provenance(session, None))
    write_lineage(run.model_path, run_lineage(config, run, "supervised fine-tuning"))
    summary = _summarise(session)
    run.write_summary(summary)
    tracking.finish(summary)
    return summary


def _evaluate_once(
    session: Session,
    state: TrainState,
    engine: Engine | None,
    step: int,
    display: Display,
    tracking: Tracking,
) -> None:
    """Evaluate unless this step's evaluation is on file already; keep the model if it is the best."""
    config, run = session.config, session.run
    earlier = run.read_evals()
    if step in earlier:
        return
    start = time.perf_counter()
    loss = mean_loss(state.trainer.evaluating(), session.examples.held_out, config.sft.microbatch_tokens)
    suites = {}
    if session.suite is not None and engine is not None:
        engine.update_weights(state.trainer.weights(), state.progress.updates)
        suites[session.suite.name] = evaluate(
            engine,
            session.suite,
            sampling_of(config),
            session.to_prompt,
            config.seed,
            opened_by_prompt(config),
            rules_of(config),
        )
    seconds = round(time.perf_counter() - start, 3)
    took = {"seconds": seconds, "peak_rss_bytes": peak_memory()}
    result = {"step": step, **took, "loss": loss, "suites": suites}
    # The model first: an evaluation on file says that the best model up to it is kept.
    if loss < min((past["loss"] for past in earlier.values()), default=float("inf")):
        provenance = _provenance(session, step)
        state.trainer.save(run.best_path, session.model.tokenizer, provenance)
    run.write_eval(step, result)
    display.evaluation(result)
    tracking.evaluation(result)


def _provenance(session: Session, step: int | None) -> dict[str, Any]:
    """Return what a model of this run says about its origin."""
    return {
        "what": "SFT by zerone",
        "step": session.num_steps if step is None else step,
        "model": session.run.read_environment()["model"],
        "model_sha256": session.model.sha256,
        "data": session.examples.description,
        "data_sha256": session.examples.sha256,
        "seed": session.config.seed,
    }


def _summarise(session: Session) -> dict[str, Any]:
    """Return what summary.json holds, from the run's own files."""
    evaluations = session.run.read_evals()
    last = evaluations[session.num_steps]
    best = min(evaluations.values(), key=lambda evaluation: (evaluation["loss"], evaluation["step"]))
    moments = {"base": evaluations[0], "best": best, "final": last}
    return {
        **{
            name: {"step": found["step"], "loss": found["loss"], "suites": selected(found)}
            for name, found in moments.items()
        },
        "steps": session.num_steps,
        "num_trained": len(session.examples.trained),
        "num_held_out": len(session.examples.held_out),
        "num_trained_tokens": sum(line["num_trained_tokens"] for line in session.run.read_metrics()),
        **spent(session.run),
        "seed": session.config.seed,
    }
