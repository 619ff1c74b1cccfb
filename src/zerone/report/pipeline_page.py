"""The report of a run through all stages: one page from the base to R1 and its students.

In: a pipeline's directory, finished or not. Out: one self-contained HTML page, by the same rules as
the page of one run (page.py). Models, data and judges come from what the stages wrote for the summary,
the curves from the run directories of the stages of reinforcement learning.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from zerone.errors import RunDirError
from zerone.report import pipeline_tables, stages_table
from zerone.report.charts import Chart
from zerone.report.figures import Figure, accuracy_figure, entropy_figure, figure_of, length_figure, series_of
from zerone.report.numbers import duration, percent, plural
from zerone.report.record import RunRecord, read_record
from zerone.report.template import template
from zerone.run_dir import RunDir
from zerone.stages.records import RECIPE_NAME, Records
from zerone.stages.summing_up import sum_up

_PART_TONES = ("blue", "violet", "orange", "teal", "red", "gray", "ink")


@dataclass(frozen=True, slots=True, kw_only=True)
class Learning:
    """A stage of reinforcement learning with its curves."""

    name: str
    title: str
    reading: str
    figures: Sequence[Figure]


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineRecord:
    """What is known of a pipeline: its recipe's stages, its summary so far, which stages are done."""

    name: str
    path: str
    configs: Mapping[str, Mapping[str, Any]]
    summary: Mapping[str, Any]
    done: Sequence[str]

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
    seed = next(iter(configs.values()))["seed"] if configs else 0
    summary = sum_up(records, names, seed) if configs else run.read_summary() or {}
    done = [name for name in names if (record := records.read(name)) and record.is_done]
    return PipelineRecord(
        name=run.path.absolute().name, path=str(run.path), configs=configs, summary=summary, done=done
    )


def _configs(run: RunDir) -> dict[str, Mapping[str, Any]]:
    path = run.path / RECIPE_NAME
    if not path.exists():
        return {}
    try:
        stages = yaml.safe_load(path.read_text(encoding="utf-8"))["stages"]
        return {str(name): dict(config) for name, config in stages.items()}
    except (OSError, ValueError, TypeError, LookupError, AttributeError, yaml.YAMLError) as error:
        raise RunDirError(f"{path} is damaged: {error}") from error


def render_pipeline(run: RunDir) -> str:
    """Return the page of a pipeline."""
    record = read_pipeline(run)
    summary = record.summary
    return template("pipeline.html.j2").render(
        record=record,
        title=_title(record),
        lead=_lead(record),
        stages=stages_table.stages(summary),
        left_out=_left_out(summary),
        paper_stages=stages_table.PAPER,
        shape=pipeline_tables.shape(summary),
        unmeasured=pipeline_tables.missing(summary),
        students=stages_table.students(summary),
        ppo=pipeline_tables.ppo_table(summary),
        data=pipeline_tables.data_tables(summary),
        dropped=pipeline_tables.dropped_table(summary),
        judges=pipeline_tables.reward_models(summary),
        learning=[found for name in record.configs if (found := _learning(run, name, record.configs[name]))],
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


# Curves -------------------------------------------------------------------------------------------


def _learning(run: RunDir, name: str, config: Mapping[str, Any]) -> Learning | None:
    """Return the curves of a stage, or None for one that does not learn from rewards."""
    stage = RunDir(run.path / name)
    if not stage.has_run:
        return None
    record = read_record(stage)
    if not any("reward_mean" in entry for entry in record.metrics):
        return None
    found = (
        accuracy_figure(record),
        _parts_figure(record),
        length_figure(record),
        entropy_figure(record),
    )
    last = record.metrics[-1]
    shown = str(stages_table.MODELS.get(name, name))
    wanted = record.setting("rl.steps")
    return Learning(
        name=name,
        title=shown,
        reading=f"{plural(record.num_steps, 'step')} of {wanted}, {percent(last.get('accuracy'))} of the "
        f"last training answers right. The last verdict: {last.get('verdict', 'none')}.",
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
    chart = Chart(title="Reward and its parts", y_label="mean over the answers of a step", series=series)
    weights = ", ".join(
        f"{record.setting(f'reward.{name}'):g} for {name}"
        for name in names
        if isinstance(record.setting(f"reward.{name}"), int | float)
    )
    return figure_of(chart, f"Parts are drawn before weighting; the weights are {weights or 'not recorded'}.")
