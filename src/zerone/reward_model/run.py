"""`zerone reward-model train`: a reward model from a file of preferences, in a run directory.

In: a configuration whose `data.path` is the file, and a run directory. Out: the model with its head,
metrics.jsonl, summary.json with the held-out figures before and after, lineage. Killed at any moment
it goes on from its newest checkpoint and ends with the same bytes.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import fmean, pstdev
from typing import Any

import torch

from zerone.config import Config
from zerone.data.preferences import Example, Pair, PreferenceData, SafetyExample, read_preferences
from zerone.data.sources import open_source
from zerone.errors import ConfigError, DataError
from zerone.files import write_json
from zerone.identity import sha256_of_path
from zerone.model.loading import hash_weights, load_model, quiet_transformers
from zerone.processes.machine import keep_freed_memory
from zerone.processes.threads import use_threads
from zerone.reward_model.quality import measure_pairs, measure_safety
from zerone.reward_model.scorer import RewardModel, new_head, save_reward_model
from zerone.reward_model.training import Learner, Shape, train
from zerone.runs.checkpoint import (
    RECORDS_NAME,
    ModelPart,
    Progress,
    RecordsPart,
    State,
    restore_newest,
    save_checkpoint,
)
from zerone.runs.directory import RunDir, write_atomically
from zerone.runs.lineage import Lineage, Node, lineage_of_model, model_directory, write_lineage
from zerone.runs.start import Input, begin_run, keep_to_commits, prepare_run, programs_of
from zerone.trackers.tracking import Tracking, check_tracker, tracked
from zerone.train.optim import adamw

Say = Callable[[str], None]


def train_reward_model(config: Config, run: RunDir, resume: bool, say: Say) -> dict[str, Any]:
    """Train to the end and return the summary; raises UserError kinds before any long work."""
    if config.data.path is None:
        raise ConfigError("a reward model needs a file of preferences, data.path=FILE.jsonl")
    check_tracker(config)
    run.lock()
    try:
        return _train(config, run, resume, say)
    finally:
        run.unlock()


def read_data(config: Config) -> PreferenceData:
    """Read and select what the configuration names."""
    r = config.reward_model
    return read_preferences(
        str(config.data.path),
        min_margin=r.min_margin,
        balance_lengths=r.balance_lengths,
        eval_share=config.data.eval_share,
    )


def _train(config: Config, run: RunDir, resume: bool, say: Say) -> dict[str, Any]:
    keep_to_commits(run)
    environment = prepare_run(config, run, resume, precision="fp32")
    keep_freed_memory()
    use_threads(environment["threads"])
    data = read_data(config)
    learner = _new_learner(config, data)
    data = leave_out_overlong(learner.model, data)
    inputs = {
        "model_sha256": Input(
            name=config.model.path, sha256=hash_weights(model_directory(config.model.path))
        ),
        "data_sha256": Input(name=str(config.data.path), sha256=data.sha256),
    }
    begin_run(config, run, environment, inputs, describe(data))
    say(describe(data))
    with tracked(config, run) as tracking:
        return _train_and_measure(config, run, learner, data, tracking, say)


def _train_and_measure(
    config: Config, run: RunDir, learner: Learner, data: PreferenceData, tracking: Tracking, say: Say
) -> dict[str, Any]:
    history = _restore(run, learner)

    def evaluate_once(step: int) -> None:
        _evaluate_once(run, learner, step, data.held_out, say, tracking)

    def before_step(step: int) -> None:
        if step == 0:
            evaluate_once(0)

    def after_step(metrics: dict[str, Any]) -> None:
        history.append(metrics)
        tracking.step(metrics)
        if metrics["step"] % config.checkpoint.every == 0:
            _save(config, run, learner, history)
            say(f"step {metrics['step']}  loss {metrics['loss']:.4f}  right {metrics['accuracy']:.1%}")

    train(learner, data.trained, _shape(config), before_step, after_step)
    _save(config, run, learner, history)
    _set_scale(learner.model, data.trained)
    evaluate_once(learner.progress.step)
    save_reward_model(learner.model, run.model_path)
    write_lineage(run.model_path, _lineage(config, run, data))
    summary = _summarise(config, run, learner, data)
    tracking.finish(summary)
    return summary


def leave_out_overlong(model: RewardModel, data: PreferenceData) -> PreferenceData:
    """Return the data without what exceeds the model's context, which is counted."""
    trained, held_out = fitting(model, data.trained), fitting(model, data.held_out)
    num_overlong = len(data.trained) + len(data.held_out) - len(trained) - len(held_out)
    if not num_overlong:
        return data
    if not trained or not held_out:
        raise DataError(
            f"{num_overlong} examples exceed the context of the model, and those left are too few for both "
            "training and evaluation; give shorter ones, or a model.path of a longer context"
        )
    dropped = {**data.dropped, "longer than the context": num_overlong}
    return replace(data, trained=trained, held_out=held_out, dropped=dropped)


def fitting(model: RewardModel, examples: Sequence[Example]) -> list[Example]:
    """Return the examples that have room in the model's context."""
    return [
        example
        for example in examples
        if model.fits(
            example.prompt,
            (example.chosen, example.rejected) if isinstance(example, Pair) else (example.response,),
        )
    ]


def describe(data: PreferenceData) -> str:
    """Return in a line what is trained on and what was left out."""
    left_out = ", ".join(f"{number} {reason}" for reason, number in data.dropped.items())
    bias = data.position_bias
    line = f"{data.kind}: {len(data.trained)} for training, {len(data.held_out)} held out"
    line += f"; left out: {left_out}" if left_out else ""
    if bias is not None:
        verdict = "THE JUDGE GOES BY POSITION" if bias.is_biased else "no position bias seen"
        low, high = bias.first_wins_ci
        line += f"; first shown wins {bias.first_wins:.0%} [{low:.0%}, {high:.0%}]: {verdict}"
    return line


def _shape(config: Config) -> Shape:
    r, o = config.reward_model, config.optim
    return Shape(
        seed=config.seed,
        epochs=r.epochs,
        batch_size=r.batch_size,
        learning_rate=r.learning_rate,
        warmup_updates=o.warmup_updates,
        max_grad_norm=o.max_grad_norm,
    )


def _new_learner(config: Config, data: PreferenceData) -> Learner:
    with quiet_transformers():
        base = load_model(config.model.path, torch.float32)
    head = new_head(int(base.module.config.hidden_size))
    o = config.optim
    parameters = [*base.module.parameters(), *head.parameters()]
    return Learner(
        model=RewardModel(module=base.module, tokenizer=base.tokenizer, head=head, kind=data.kind),
        optimizer=adamw(parameters, config.reward_model.learning_rate, (o.beta1, o.beta2), o.weight_decay),
        progress=Progress(step=0, updates=0),
    )


def _restore(run: RunDir, learner: Learner) -> list[dict[str, Any]]:
    """Go back to the newest checkpoint; return the metrics up to it."""
    found = restore_newest(run.checkpoints_path, _state(run, learner))
    if found is not None:
        run.require_steps(found.step, has_rollouts=False, has_timing=False)
        learner.progress = found
    return [line for line in run.read_metrics() if line["step"] <= learner.progress.step]


def _save(config: Config, run: RunDir, learner: Learner, history: Sequence[dict[str, Any]]) -> None:
    """Write metrics, then the checkpoint that says they are there."""
    write_atomically(run.path / "metrics.jsonl", "".join(write_json(line) + "\n" for line in history))
    save_checkpoint(run.checkpoints_path, learner.progress, _state(run, learner), config.checkpoint.keep)


def _state(run: RunDir, learner: Learner) -> State:
    model = learner.model
    part = ModelPart(model.module, model.tokenizer)
    records = {RECORDS_NAME: RecordsPart(run)}
    return {"model": part, "optimizer": learner.optimizer, "head": model.head, **records}


def measure(model: RewardModel, examples: Sequence[Example]) -> dict[str, Any]:
    """Return the figures of a model on examples of its kind."""
    if model.kind == "helpfulness":
        return measure_pairs(model, [example for example in examples if isinstance(example, Pair)])
    return measure_safety(model, [example for example in examples if isinstance(example, SafetyExample)])


def _evaluate_once(
    run: RunDir, learner: Learner, step: int, held_out: Sequence[Example], say: Say, tracking: Tracking
) -> None:
    """Evaluate unless this step's evaluation is on file already."""
    if step in run.read_evals():
        return
    figures = measure(learner.model, held_out)
    run.write_eval(step, {"step": step, **figures})
    tracking.evaluation({"step": step, **figures})
    low, high = figures["accuracy_ci"]
    say(f"held out after step {step}: accuracy {figures['accuracy']:.1%} [{low:.1%}, {high:.1%}]")


def _set_scale(model: RewardModel, examples: Sequence[Example]) -> None:
    """Give a helpfulness model the scale of its training scores; a safety score is a log-odds already."""
    pairs = [example for example in examples if isinstance(example, Pair)]
    if pairs:
        scores = model.scores(
            [(pair.prompt, text) for pair in pairs for text in (pair.chosen, pair.rejected)]
        )
        model.mean, model.deviation = fmean(scores), pstdev(scores) or 1.0


def _lineage(config: Config, run: RunDir, data: PreferenceData) -> Lineage:
    base = lineage_of_model(config.model.path)
    source = Lineage.of(
        Node(
            name="preferences",
            kind="data",
            sha256=data.sha256,
            about=open_source(str(config.data.path)).about,
        )
    )
    node = Node(
        name=f"reward_model.{data.kind}",
        kind="reward model",
        sha256=sha256_of_path(run.model_path),
        about={"weights_sha256": hash_weights(run.model_path)},
        made_by={
            "does": f"learns {data.kind} from {len(data.trained)} examples",
            "seed": config.seed,
            **programs_of(run.read_environment()),
        },
        inputs={"base": base.root, "preferences": source.root},
    )
    return Lineage.of(node, [base, source])


def _summarise(config: Config, run: RunDir, learner: Learner, data: PreferenceData) -> dict[str, Any]:
    evaluations = run.read_evals()
    bias = data.position_bias
    summary = {
        "kind": data.kind,
        "base": evaluations[0],
        "final": evaluations[learner.progress.step],
        "num_trained": len(data.trained),
        "num_held_out": len(data.held_out),
        "dropped": dict(data.dropped),
        "judge": bias
        and {
            "num_pairs": bias.num_pairs,
            "first_wins": bias.first_wins,
            "first_wins_ci": list(bias.first_wins_ci),
            "consistent": bias.consistent,
            "is_biased": bias.is_biased,
        },
        "scale": {"mean": learner.model.mean, "deviation": learner.model.deviation},
        "steps": learner.progress.step,
        "seed": config.seed,
    }
    run.write_summary(summary)
    return summary
