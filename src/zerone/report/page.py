"""The report: a run directory comes in, one self-contained HTML page goes out.

The page is a pure function of the run directory, never part of a loop, and can be written while
the run goes on. It loads nothing: style and charts are inside, and a content policy forbids
scripts and requests, since model output is foreign text (which the template escapes as well).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from zerone.report import aha, claims, cost, tables
from zerone.report.charts import Estimate, before_after_bar
from zerone.report.figures import all_figures
from zerone.report.fine_tuning_page import render_fine_tuning
from zerone.report.numbers import MISSING, duration, percent, plural
from zerone.report.pipeline_page import is_pipeline, render_pipeline
from zerone.report.record import RunRecord, read_record, vote_key, vote_size
from zerone.report.template import template
from zerone.runs.directory import RunDir, write_atomically

MAX_TROUBLES = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """One large figure at the head of the page."""

    label: str
    value: str
    origin: str
    bar: Markup | None = None


def write_report(run: RunDir, out: Path | None = None, core_price: float = cost.CORE_PRICE) -> Path:
    """Write the report of a run, finished or not, and return where it is."""
    path = run.report_path if out is None else out
    write_atomically(path, render(run, core_price))
    return path


def render(run: RunDir, core_price: float = cost.CORE_PRICE) -> str:
    """Return the page of a run, or of a pipeline where the directory holds one."""
    if is_pipeline(run):
        return render_pipeline(run, core_price)
    record = read_record(run)
    if record.is_fine_tuning:
        return render_fine_tuning(record, core_price)
    findings = aha.find(run)
    figure, figures = all_figures(record, findings.recoveries)
    troubles = tables.troubles(record)
    return template("page.html.j2").render(
        record=record,
        title=title(record),
        lead=lead(record),
        tiles=list(_tiles(record)),
        final_word="final" if record.is_finished else "latest",
        latest={suite: record.final_step(suite) for suite in record.suites},
        before_after=tables.before_after(record),
        levels=tables.levels(record),
        main_figure=figure,
        figures=figures,
        findings=findings,
        failure_words=aha.FAILURE_WORDS,
        scope=scope_of(record, findings),
        reward=claims.reward_of(record),
        thinking=claims.thinking_claims(record),
        costs=[cost.cost_of(record, core_price)],
        core_price=core_price,
        prices={"rows": cost.rows, "apis": cost.APIS},
        settings=tables.settings(record),
        environment=tables.environment(record),
        command=str(record.environment.get("command", "")),
        troubles=troubles[:MAX_TROUBLES],
        num_troubles_left_out=max(0, len(troubles) - MAX_TROUBLES),
    )


def title(record: RunRecord) -> str:
    """Say the result in one line, or how far an unfinished run has come."""
    for suite in record.suites:
        base, final = record.base(suite), record.final(suite)
        if "pass_at_1" in base and "pass_at_1" in final:
            ends = f"{percent(base['pass_at_1'])} to {percent(final['pass_at_1'])}"
            step = record.num_steps if record.is_finished else record.final_step(suite)
            return f"From {ends} correct on the {suite} suite in {plural(step or 0, 'step')}"
    return f"{plural(record.num_steps, 'step')} recorded, no result yet"


def lead(record: RunRecord) -> str:
    """Say in two sentences what was done and on what."""
    machine = record.environment
    cores = f" on {plural(machine['cores'], 'CPU core')}" if isinstance(machine.get("cores"), int) else ""
    model = (
        "the embedded base model"
        if record.setting("model.path") == "embedded"
        else record.setting("model.path")
    )
    clock = "including evaluations" if record.is_finished else "of training so far"
    return (
        f"Reinforcement learning on {model} with {claims.reward_of(record)}, "
        f"seed {record.setting('seed')}: "
        f"{plural(record.num_steps, 'step')}, {duration(record.wall_s)} {clock}{cores}."
    )


def _tiles(record: RunRecord) -> Iterator[Tile]:
    for suite in record.suites:
        base, final = record.base(suite), record.final(suite)
        vote = vote_key(base) or vote_key(final)
        keys = {"pass_at_1": "pass@1"} | ({vote: f"cons@{vote_size(vote)}"} if vote else {})
        for key, name in keys.items():
            before, after = tables.estimate(base, key), tables.estimate(final, key)
            yield Tile(
                label=f"{name}, {suite} suite",
                value=percent(after.value) if after else MISSING,
                origin=f"base {percent(before.value)}" if before else "base not measured",
                bar=before_after_bar(before, after),
            )
    planned = record.setting("rl.steps")
    phases = record.setting("rl.problems_per_step"), record.setting("rl.group_size")
    yield Tile(
        label="steps",
        value=f"{record.num_steps:,}",
        origin=f"of {planned:,} planned"
        if planned and planned != record.num_steps
        else f"{phases[0]} \u00d7 {phases[1]} completions each",
    )
    yield Tile(
        label="wall time",
        value=duration(record.wall_s),
        origin="whole run" if record.is_finished else "so far",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What the page may claim of this run; the template words it."""

    is_embedded: bool
    model: str
    suite: str | None
    has_improved: bool | None
    base_tries: tuple[int, float, str] | None
    first_recoveries: float | None


def scope_of(record: RunRecord, findings: aha.Findings) -> Scope:
    """Judge what the figures support: an improvement only where the 95% intervals lie apart."""
    suite = record.suites[0] if record.suites else None
    base, final = (record.base(suite), record.final(suite)) if suite else ({}, {})
    before, after = tables.estimate(base, "pass_at_1"), tables.estimate(final, "pass_at_1")
    tries = [
        (int(k), share, name)
        for name in record.suites
        for k, share in record.base(name).get("pass_at_k", {}).items()
        if k != "1"
    ]
    return Scope(
        is_embedded=record.setting("model.path") == "embedded",
        model=str(record.setting("model.path")),
        suite=suite,
        has_improved=_lies_above(after, before) if before and after else None,
        base_tries=max(tries, default=None),
        first_recoveries=next(iter(findings.recoveries.values()), None),
    )


def _lies_above(after: Estimate, before: Estimate) -> bool:
    low = after.interval[0] if after.interval else after.value
    high = before.interval[1] if before.interval else before.value
    return low > high
