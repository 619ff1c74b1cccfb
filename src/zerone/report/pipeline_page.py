"""The report of a run through all stages: one page from the base to R1 and its students.

In: a pipeline's directory, finished or not. Out: one self-contained HTML page, by the same rules as
the page of one run (page.py). Models, data and judges come from what the stages wrote for the summary,
the curves from the run directories of the stages of reinforcement learning.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zerone.files import write_yaml
from zerone.pipeline.summary import sum_up
from zerone.report import aha, cost, pipeline_tables, stages_table, tables
from zerone.report.charts import Chart
from zerone.report.distilled_figure import by_size
from zerone.report.figures import (
    Figure,
    accuracy_figure,
    entropy_figure,
    figure_of,
    length_figure,
    recovery_figure,
    reflection_figure,
    series_of,
)
from zerone.report.numbers import duration, percent, plural
from zerone.report.record import RunRecord, read_record, resume_command
from zerone.report.template import template
from zerone.runs.directory import RECIPE_NAME, RunDir
from zerone.runs.records import Records, read_recipe_of_stages

_PART_TONES = ("blue", "violet", "orange", "teal", "red", "gray", "ink")


@dataclass(frozen=True, slots=True, kw_only=True)
class Learning:
    """A stage of reinforcement learning with its curves."""

    name: str
    title: str
    reading: str
    figures: Sequence[Figure]


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstLearning:
    """The first stage of reinforcement learning, R1-Zero in R1's recipe, as its own page shows it."""

    record: RunRecord
    title: str
    findings: aha.Findings
    settings: Sequence[tables.Setting]


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineRecord:
    """What is known of a pipeline: its recipe's stages, its summary so far, which stages are done."""

    name: str
    path: str
    configs: Mapping[str, Mapping[str, Any]]
    summary: Mapping[str, Any]
    done: Sequence[str]
    resume_command: str

    @property
    def is_finished(self) -> bool:
        """Whether every stage is done."""
        return len(self.done) == len(self.configs)


def is_pipeline(run: RunDir) -> bool:
    """Whether a directory holds a run through several stages."""
    return (run.path / RECIPE_NAME).exists() or (not run.has_run and "models" in (run.read_summary() or {}))


def read_pipeline(run: RunDir) -> PipelineRecord:
    """Read a pipeline; raises RunDirError for a damaged recipe, record or output."""
    configs = _configs(run)
    records = Records(run.path)
    names = list(configs)
    seed = next(iter(configs.values())).get("seed", 0) if configs else 0
    summary = sum_up(records, names, seed) if configs else run.read_summary() or {}
    done = [name for name in names if (record := records.read(name)) and record.is_done]
    return PipelineRecord(
        name=run.path.absolute().name,
        path=str(run.path),
        configs=configs,
        summary=summary,
        done=done,
        resume_command=resume_command(run),
    )


def _configs(run: RunDir) -> dict[str, Mapping[str, Any]]:
    path = run.path / RECIPE_NAME
    return read_recipe_of_stages(path) if path.exists() else {}


def comparable(run: RunDir) -> RunRecord:
    """Return a pipeline as a run to compare: its settings and its summary so far.

    Settings that all stages share are under their own names, the others under `stages`.
    """
    record = read_pipeline(run)
    common = _common(record.configs)
    own = {
        name: {key: value for key, value in config.items() if key not in common}
        for name, config in record.configs.items()
    }
    config = {**common, "stages": own}
    stages = _stage_records(run, record)
    return RunRecord(
        name=record.name,
        path=record.path,
        config=config,
        config_yaml=write_yaml(config),
        # The surroundings of its first stage: the base, the machine and the version that it began with.
        environment=stages[0].environment if stages else {},
        metrics=[],
        timing=[],
        evals={},
        summary=record.summary,
        num_stages_left=len(record.configs) - len(record.done),
    )


def render_pipeline(run: RunDir, core_price: float) -> str:
    """Return the page of a pipeline."""
    record = read_pipeline(run)
    summary = record.summary
    records = _stage_records(run, record)
    learning = [stage for stage in records if not stage.is_fine_tuning]
    first = _first_learning(learning[0]) if learning else None
    return template("pipeline.html.j2").render(
        record=record,
        title=_title(record),
        lead=_lead(record),
        stages=stages_table.stages(summary),
        left_out=_left_out(summary),
        paper_stages=stages_table.PAPER,
        shape=pipeline_tables.shape(summary),
        unmeasured=pipeline_tables.missing(summary),
        by_size=by_size(summary),
        students=stages_table.students(summary),
        beside_students=stages_table.beside_students(summary),
        ppo=pipeline_tables.ppo_table(summary),
        data=pipeline_tables.data_tables(summary),
        dropped=pipeline_tables.dropped_table(summary),
        judges=pipeline_tables.reward_models(summary),
        learning=[_learning(stage, first) for stage in learning],
        first=first,
        failure_words=aha.FAILURE_WORDS,
        costs=_costs(record, records, core_price),
        core_price=core_price,
        prices={"rows": cost.rows, "apis": cost.APIS},
        times=pipeline_tables.times(summary),
        settings=json.dumps(_common(record.configs), indent=2, ensure_ascii=False),
    )


def _title(record: PipelineRecord) -> str:
    headline = stages_table.headline(record.summary)
    if headline is None and record.is_finished:
        return f"All {plural(len(record.configs), 'stage')} done"
    return headline or f"{len(record.done)} of {plural(len(record.configs), 'stage')} done"


def _lead(record: PipelineRecord) -> str:
    how = "Cold start, reasoning RL, rejection sampling and RL for all scenarios"
    return f"{how}, seed {record.summary.get('seed')}: {duration(record.summary.get('wall_s'))}."


def _left_out(summary: Mapping[str, Any]) -> list[str]:
    """Return why suites were left out, each reason once."""
    reasons = {
        f"{suite}: {measured['left_out']}"
        for model in (summary.get("models") or {}).values()
        for suite, measured in model.get("suites", {}).items()
        if measured.get("left_out")
    }
    return sorted(reasons)


def _common(configs: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the settings that all stages share, section by section."""
    if not configs:
        return {}
    first, *others = configs.values()
    return {key: value for key, value in first.items() if all(other.get(key) == value for other in others)}


# Stages -------------------------------------------------------------------------------------------


def _stage_records(run: RunDir, record: PipelineRecord) -> list[RunRecord]:
    """Return the stages that learned from rewards or from answers, as far as they have come."""
    stages = [RunDir(run.path / name) for name in record.configs]
    # A reward model's run keeps no times; only these two kinds do.
    found = [read_record(stage) for stage in stages if stage.has_run and stage.read_timing()]
    return [stage for stage in found if stage.is_fine_tuning or _has_rewards(stage)]


def _has_rewards(record: RunRecord) -> bool:
    return any("reward_mean" in entry for entry in record.metrics)


def _shown(name: str) -> str:
    return str(stages_table.MODELS.get(name, name))


def _costs(record: PipelineRecord, stages: Sequence[RunRecord], core_price: float) -> list[cost.Cost]:
    """Return what every stage cost that trained, and the whole; not all stages count their tokens."""
    cores = [stage.environment.get("cores") for stage in stages]
    whole = cost.Cost(
        name="all stages",
        num_sampled=None,
        num_trained=None,
        wall_s=float(record.summary.get("wall_s") or 0.0),
        sampling_s=None,
        training_s=None,
        num_cores=next((count for count in cores if isinstance(count, int)), None),
        core_price=core_price,
    )
    return [*(cost.cost_of(stage, core_price, _shown(stage.name)) for stage in stages), whole]


def _first_learning(record: RunRecord) -> FirstLearning:
    """Search the rollouts of the first stage alone: those of all stages would make a page of megabytes."""
    return FirstLearning(
        record=record,
        title=_shown(record.name),
        findings=aha.find(RunDir(Path(record.path))),
        settings=tables.settings(record),
    )


def _learning(record: RunRecord, first: FirstLearning | None) -> Learning:
    """Return the curves of a stage of reinforcement learning."""
    is_first = first is not None and first.record is record
    found = (
        accuracy_figure(record),
        _parts_figure(record),
        length_figure(record),
        reflection_figure(record),
        recovery_figure(first.findings.recoveries) if first is not None and is_first else None,
        entropy_figure(record),
    )
    last = record.metrics[-1]
    wanted = record.setting("rl.steps")
    return Learning(
        name=record.name,
        title=_shown(record.name),
        reading=f"{plural(record.num_steps, 'step')} of {wanted}, {percent(last.get('accuracy'))} of the "
        f"last training completions correct. The last verdict: {last.get('verdict', 'none')}.",
        figures=[figure for figure in found if figure is not None],
    )


def _parts_figure(record: RunRecord) -> Figure | None:
    """Draw every part of the reward before weighting."""
    entries = [
        {"step": entry["step"], "whole": entry.get("reward_mean"), **entry.get("parts", {})}
        for entry in record.metrics
    ]
    names = list(dict.fromkeys(name for entry in entries for name in entry if name not in ("step", "whole")))
    lines = [
        series_of(entries, name, label=name, tone=tone)
        for name, tone in zip(names, _PART_TONES[:-1], strict=False)
    ]
    whole = series_of(entries, "whole", label="reward", tone=_PART_TONES[-1], mark="thin")
    series = [line for line in (*lines, whole) if line is not None]
    if not series:
        return None
    chart = Chart(title="Reward and its components", y_label="mean over a step", series=series)
    weights = ", ".join(
        f"{record.setting(f'reward.{name}'):g} for {name}"
        for name in names
        if isinstance(record.setting(f"reward.{name}"), int | float)
    )
    return figure_of(chart, f"Parts are drawn before weighting; the weights are {weights or 'not recorded'}.")
