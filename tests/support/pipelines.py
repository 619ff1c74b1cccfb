"""A small pipeline of real stages for tests: a language model trained on a text, reinforcement
learning, a file of what it answered, and fine-tuning on that."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fakes import byte_tokenizer
from scripted import talking_model, write_problems
from zerone.config import Config, build_config
from zerone.model.loading import save_model
from zerone.pipeline import rl_stage, sft_stage
from zerone.pipeline.graph import Estimate, Graph, Stage, StageDisplay, StageInputs
from zerone.pipeline.rl_stage import PROBLEMS, run_rl
from zerone.pipeline.run import Pipeline, Planned, Selection, State
from zerone.pipeline.sft_stage import run_sft_stage
from zerone.pretrain import Encoded, language_model_loss, pack_documents
from zerone.runs.directory import RunDir, write_atomically
from zerone.train.optim import adamw

Made = Mapping[str, Path]


class Notes:
    """A display that remembers what it was told."""

    def __init__(self) -> None:
        self.begun: list[tuple[str, State]] = []
        self.ended: list[str] = []
        self.said: list[str] = []

    def begin(self, plan: Sequence[Planned]) -> None:
        """Nothing is shown."""

    def stage_begins(self, name: str, state: State, reason: str) -> "Notes":
        """Remember a stage that runs."""
        self.begun.append((name, state))
        return self

    def stage_ends(self, name: str, state: State, seconds: float) -> None:
        """Remember a stage that is done."""
        self.ended.append(name)

    def say(self, text: str) -> None:
        """Remember a line."""
        self.said.append(text)

    def progress(self, share: float, note: str) -> None:
        """Remember a note."""
        assert 0 <= share <= 1
        self.said.append(note)


def make_base(
    inputs: StageInputs, directory: Path, resume: bool, display: StageDisplay
) -> Mapping[str, Path]:
    """Train the talking model on a text; short enough to begin anew after a kill."""
    module, tokenizer = talking_model(), byte_tokenizer()
    optimizer = adamw(module.parameters(), 1e-4, (0.9, 0.95), 0.0)
    document = Encoded((), tuple(tokenizer("<think>a</think><answer>7</answer>")["input_ids"]))
    for step in range(4):
        language_model_loss(module, pack_documents([document], 64))
        optimizer.step()
        optimizer.zero_grad()
        display.progress((step + 1) / 4, f"step {step + 1}")
    save_model(module, tokenizer, directory / "model")
    return {"model": directory / "model"}


_ENDED = (
    "SELECT g.prompt, r.text AS completion FROM rollouts r JOIN groups g USING (step, position) "
    "WHERE r.finish = 'stop' ORDER BY step, position, sample"
)


def gather(inputs: StageInputs, directory: Path, resume: bool, display: StageDisplay) -> Made:
    """Write what the run whose prompts are given has answered, as demonstrations."""
    rows = RunDir(inputs.paths["prompts"].parent).query(_ENDED)
    path, summary = directory / "answers.jsonl", directory / "summary.json"
    write_atomically(path, "".join(json.dumps(dict(row)) + "\n" for row in rows))
    write_atomically(summary, json.dumps({"models": {"first": {"score": 0.5}}, "data": {"answers": 1}}))
    return {"answers": path, "summary": summary}


def small_graph(**changes: Any) -> Graph:
    """Return base -> first -> answers -> second; `changes` replace fields of stages by name."""

    def stage(name: str, run: Any, inputs: dict[str, Any], outputs: tuple[str, ...], *options: str) -> Stage:
        found = Stage(
            name=name,
            makes=f"what {name} makes",
            run=run,
            inputs=inputs,
            outputs=outputs,
            options=options,
            estimate=lambda config: Estimate(seconds=2.0, num_bytes=1_000_000),
        )
        return replace(found, **changes.get(name, {}))

    rl = {"model": "base.model", "problems": PROBLEMS}
    sft = {"model": "base.model", "data": "answers.answers"}
    return Graph(
        stages=(
            stage("base", make_base, {}, ("model",)),
            stage("first", run_rl, rl, ("model", "prompts"), *rl_stage.OPTIONS),
            stage("answers", gather, {"prompts": "first.prompts"}, ("answers", "summary")),
            stage("second", run_sft_stage, sft, ("model", "best"), *sft_stage.OPTIONS),
        )
    )


def small_config(folder: Path, *changes: str) -> Config:
    """Return a configuration for runs of a few seconds."""
    problems = folder / "problems.jsonl"
    if not problems.exists():
        write_problems(problems)
    options = [
        *(f"data.path={problems}", "data.eval_share=0.2", "model.precision=fp32", "model.threads=1"),
        *("rl.steps=3", "rl.problems_per_step=4", "rl.group_size=4", "rl.microbatch_tokens=1024"),
        *("sampling.max_tokens=24", "sampling.slots=16", "optim.learning_rate=0.01"),
        *("eval.problems=2", "eval.hard_samples=1", "eval.mixed_samples=1", "eval.every=0"),
        *("checkpoint.every=1", "checkpoint.keep=1", "log.sample_every=0"),
        *("sft.epochs=1", "sft.batch_size=8", "sft.suite=none"),
    ]
    return build_config({}, [*options, *changes])


def small_pipeline(
    folder: Path,
    name: str = "run",
    *,
    graph: Graph | None = None,
    changes: Mapping[str, tuple[str, ...]] | None = None,
    start: str | None = None,
    only: str | None = None,
) -> Pipeline:
    """Return the pipeline in `folder / name`; `changes` are overrides by stage."""
    graph = graph or small_graph()
    configs = {stage: small_config(folder, *(changes or {}).get(stage, ())) for stage in graph.names}
    return Pipeline(graph, configs, folder / name, Selection(start=start, only=only))


def planned(number: int) -> Planned:
    """Return a stage of that number which is to run."""
    stage = replace(small_graph().stages[0], name=f"stage_{number}")
    return Planned(stage=stage, state=State.RUN, reason="", seconds=60.0, num_bytes=0)


def distill_arguments(folder: Path, *changes: str) -> list[str]:
    """Return the arguments of a small distillation; the folder holds model `talker` and its problems."""
    return [
        *("distill", str(folder / "talker"), str(folder / "talker"), "qwen_xs", "--on-policy"),
        *(f"--run-dir={folder / 'run'}", f"model.path={folder / 'talker'}"),
        *(f"data.path={folder / 'problems.jsonl'}", "data.eval_share=0.5", "*_distilled.data.eval_share=0.6"),
        *("model.precision=fp32", "model.threads=1", "sampling.max_tokens=16", "sampling.slots=32"),
        *("teacher_samples.curate.prompts=12", "teacher_samples.curate.samples=8", "curate.minimum=1"),
        *(
            "teacher_samples.curate.cap=8",
            "*_pretrained.pretrain.steps=1",
            "*_pretrained.pretrain.documents_per_step=2",
        ),
        *("*_distilled.sft.epochs=8", "*_distilled.sft.batch_size=2", "eval.problems=2"),
        *(
            "*_direct_rl.rl.problems_per_step=2",
            "*_direct_rl.rl.group_size=2",
            "*_direct_rl.rl.minibatches=2",
        ),
        *(
            "*_on_policy.rl.steps=1",
            "*_on_policy.rl.problems_per_step=2",
            "*_on_policy.rl.group_size=2",
            "eval.mixed_samples=1",
        ),
        *changes,
    ]
