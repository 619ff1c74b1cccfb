"""One model's column of the stage table: seven scores, a majority vote, tokens per response.

In: the model of an earlier stage, or the base. Out: figures for the pipeline's `summary.json`, and all
answers with their verdicts. One stage per model, so that a model that did not change is not measured
again; every answer is kept as it comes, so that a killed measurement goes on.

reasoning    right answers to the problems of `data`, all levels; `hard` and the vote: the highest
code         right programs of the package's suite `code`, run in the sandbox
format       general requests whose answer has the form that was asked for (the paper's IF-Eval)
language     words of the reasoning in the problem's language, half of the problems in Chinese
helpfulness  how helpful answers to general requests are, by rules
safety       harmful requests refused, and harmless ones that look alike helped with, by rules

Each model is asked in the prompt that it was trained with, as its own run tells it: base and R1-Zero
for an answer block, what was fine-tuned for a summary with a box.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from zerone.config import Config
from zerone.errors import SandboxUnavailable
from zerone.evals import sources
from zerone.evals.evaluate import Suite
from zerone.evals.suites import suite_named
from zerone.jobs.data import data_of
from zerone.jobs.evaluate import Wanted, measure_on
from zerone.jobs.origins import prompt_of_model
from zerone.model.loading import find_directory, load_model
from zerone.pipeline.estimates import sampling_estimate
from zerone.pipeline.graph import Estimate, Source, Stage, StageDisplay, StageInputs, with_inputs
from zerone.pipeline.rl_stage import BASE_MODEL, PROBLEMS
from zerone.rewards.verifiers import prepare_verifiers
from zerone.runs.directory import write_atomically

MEASURED = ("r1_zero", "dev1", "dev2", "dev3", "r1")
"""The stages whose models have a column; the base has one besides."""

MOST_PROBLEMS = 200
"""Of each suite: an interval of 7 points either way at most, and six models in a few minutes."""

HARD_PROBLEMS = 32
"""Of the highest level, where 16 long answers to each take half of the time."""

_TURNS = 8
"""A suite of the package is asked as a whole; it takes seconds."""

_SHOWN_EVERY = 100

_VOTE = "cons_at_16"
_OPTIONS = (
    *("model.precision", "model.threads", "data", "prompt", "sampling"),
    *("eval.problems", "eval.mixed_samples", "eval.hard_samples"),
)


def with_measurements(stages: Sequence[Stage]) -> tuple[Stage, ...]:
    """Return the stages with one at the head that measures the base, and one after each other model."""
    found = [_measurement("base", BASE_MODEL)]
    for stage in stages:
        found.append(stage)
        if stage.name in MEASURED:
            found.append(_measurement(stage.name, f"{stage.name}.model"))
    return tuple(found)


def _measurement(name: str, model: str | Source) -> Stage:
    return Stage(
        name=f"eval_{name}",
        makes=f"figures of {name} on every suite",
        run=partial(run_measurement, name),
        inputs={"model": model, "problems": PROBLEMS},
        outputs=("summary",),
        options=_OPTIONS,
        estimate=measurement_estimate,
    )


def run_measurement(
    name: str, inputs: StageInputs, directory: Path, resume: bool, display: StageDisplay
) -> Mapping[str, Path]:
    """Measure the input `model`, or `model.path` where there is none, as the model `name` of the table."""
    config = _as_trained(with_inputs(inputs))
    found = _figures(_records(config, directory / "answers", display))
    found["prompt_style"] = config.prompt.style
    if "model" not in inputs.paths:
        found["path"] = str(find_directory(config.model.path))
    path = directory / "figures.json"
    write_atomically(path, json.dumps({"models": {name: found}}, indent=2) + "\n")
    return {"summary": path}


def _as_trained(config: Config) -> Config:
    """Return the configuration with the prompt of the run that made the model, where a run did."""
    prompt = prompt_of_model(find_directory(config.model.path).resolve())
    return config if prompt is None else config.model_copy(update={"prompt": prompt})


# What is asked ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """A row of the table: from which suite, and by which part of its record (none: right answers)."""

    suite: str
    part: str | None = None


_ROWS = {
    "reasoning": _Row(suite="mixed"),
    "code": _Row(suite="code"),
    "format": _Row(suite="helpfulness", part="form"),
    "language": _Row(suite="languages", part="language"),
    "helpfulness": _Row(suite="helpfulness", part="helpfulness"),
    "safety": _Row(suite="safety", part="safety"),
    "hard": _Row(suite="hard"),
}


def _suites(config: Config) -> list[Suite]:
    """Return what is asked: the problems of `data`, and of the package what they leave open."""
    data = data_of(config)
    reasoning = [data.mixed, data.hard]
    if data.mixed.problems == data.hard.problems:  # a file of one's own has no highest level
        reasoning = [Suite(name="mixed", problems=data.hard.problems, num_samples=data.hard.num_samples)]
    others = [suite_named(name, 1) for name in ("code", "helpfulness", "languages", "safety")]
    most = {suite.name: MOST_PROBLEMS for suite in (*reasoning, *others)} | {"hard": HARD_PROBLEMS}
    return [
        Suite(
            name=suite.name,
            problems=suite.problems[: min(config.eval.problems, most[suite.name])],
            num_samples=suite.num_samples,
        )
        for suite in (*reasoning, *others)
    ]


def measurement_estimate(config: Config) -> Estimate:
    """Return what asking all of it takes; most suites have half as many problems as there may be."""
    most = min(config.eval.problems, MOST_PROBLEMS)
    per_problem = config.eval.mixed_samples + config.eval.hard_samples // 4 + 3
    return sampling_estimate(config, most * per_problem)


def _num_answers(suite: Suite) -> int:
    return len(suite.problems) * suite.num_samples


# What came of it ----------------------------------------------------------------------------------

_Record = Mapping[str, Any]
_LEFT_OUT = "left_out"


def _records(config: Config, out: Path, display: StageDisplay) -> dict[str, _Record]:
    """Ask and judge every suite; one that needs a sandbox is left out where there is none."""
    suites = _suites(config)
    total, before, records = sum(map(_num_answers, suites)), 0, dict[str, _Record]()
    model = load_model(config.model.path, torch.float32)
    for suite in suites:
        try:
            prepare_verifiers({problem.verifier for problem in suite.problems})
            progress = partial(_show, display, suite.name, before, total)
            source = sources.Source(
                name=suite.name, problems=tuple(suite.problems), published=None, is_embedded=True
            )
            wanted = Wanted(
                model=config.model.path,
                suite=suite.name,
                drawing=config.sampling,
                num_samples=suite.num_samples,
                is_chat=False,
                out=out,
                turns=_TURNS,
            )
            records[suite.name] = measure_on(config, wanted, source, progress, model)
        except SandboxUnavailable as error:
            display.say(f"{suite.name} is left out: {error}")
            records[suite.name] = {_LEFT_OUT: str(error)}
        before += _num_answers(suite)
    return records


def _show(display: StageDisplay, suite: str, before: int, total: int, done: int, own: int) -> None:
    """Show how far it is; answers come by the hundred, and a log has a line for each that is shown."""
    if done % _SHOWN_EVERY == 0 or done == own:
        display.progress((before + done) / total, f"{suite}: {done} of {own} answers")


def _figures(records: Mapping[str, _Record]) -> dict[str, Any]:
    reasoning = records["mixed"]
    return {
        "suites": {
            name: _score(records[row.suite], row) for name, row in _ROWS.items() if row.suite in records
        },
        _VOTE: records.get("hard", reasoning).get(_VOTE),
        "response_tokens": reasoning.get("response_tokens"),
    }


def _score(record: _Record, row: _Row) -> dict[str, Any]:
    reason = record.get(_LEFT_OUT)
    if reason is None and row.part is not None and row.part not in record["parts"]:
        reason = f"none of its {record['num_problems']} problems asks for it"
    if reason is not None:
        return {"score": None, "ci": None, "n": 0, _LEFT_OUT: reason}
    if row.part is None:
        return {
            "score": record["pass_at_1"],
            "ci": record["pass_at_1_ci"],
            "unparsable": record["unparsable"],
            "n": record["num_problems"],
        }
    return dict(record["parts"][row.part])
