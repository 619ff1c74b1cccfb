"""The figure of an ablation: the curves that tell its variants apart, over the steps.

In: an ablation and the directory of its variants' runs. Out: one self-contained HTML page, by the
same rules as the other pages (page.py): it loads nothing, runs no script, and foreign text is escaped.
"""

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from itertools import groupby
from pathlib import Path
from statistics import fmean
from typing import Any

from zerone.pipeline.ablations import Ablation, Curve
from zerone.prompts.r1 import reasoning_of
from zerone.report.charts import Chart, Series
from zerone.report.comparison import Compared, differing_settings, final_figures, name_runs
from zerone.report.figures import Figure, figure_of
from zerone.report.numbers import MISSING, duration, number, percent
from zerone.report.record import RunRecord, read_record
from zerone.report.template import template
from zerone.rewards.language import language_share
from zerone.runs.directory import RunDir, write_atomically


def write_ablation(name: str, ablation: Ablation, directory: Path) -> Path:
    """Write the page into the ablation's directory and return where."""
    page = directory / f"{name}.html"
    write_atomically(page, render_ablation(name, ablation, directory))
    return page


def render_ablation(name: str, ablation: Ablation, directory: Path) -> str:
    """Return the page; raises RunDirError where a variant has no run."""
    compared = name_runs([read_record(RunDir(directory / variant)) for variant in ablation.variants])
    return template("ablation.html.j2").render(
        name=name,
        ablation=ablation,
        compared=compared,
        figures=list(_figures(ablation, compared)),
        settings=differing_settings(compared),
        finals=list(final_figures(compared)),
        costs=list(_costs(compared)),
    )


def _figures(ablation: Ablation, compared: list[Compared]) -> Iterator[Figure]:
    for curve in ablation.curves:
        lines = [line for run in compared if (line := _line(curve, run)).points]
        if lines:
            yield _figure(curve, lines)


def _figure(curve: Curve, lines: list[Series]) -> Figure:
    write = percent if curve.is_share else number
    chart = Chart(
        title=curve.title,
        y_label=curve.unit,
        series=lines,
        scale="share" if curve.is_share else "linear",
        high=1.0 if curve.is_share else None,
    )
    ends = [f"{line.label} from {write(line.points[0][1])} to {write(line.points[-1][1])}" for line in lines]
    whiskers = " Whiskers are 95% intervals." if any(line.intervals for line in lines) else ""
    return figure_of(chart, f"From the first value to the last: {', '.join(ends)}.{whiskers}")


def _line(curve: Curve, run: Compared) -> Series:
    """Return a variant's line; steps without a value are no part of it."""
    rows = dict(_rows(curve, run.record))
    found = {step: value for step, row in rows.items() if (value := _value(row, curve.key)) is not None}
    intervals = {
        step: (ends[0], ends[1])
        for step, row in rows.items()
        if (ends := _looked_up(row, f"{curve.key}_ci")) is not None
    }
    return Series(
        label=run.name,
        tone=run.tone,
        mark="points" if curve.source == "evals" else "line",
        points=list(found.items()),
        intervals=intervals,
    )


def _rows(curve: Curve, record: RunRecord) -> Iterator[tuple[float, Mapping[str, Any]]]:
    if curve.source == "evals":
        # Curves name suites as they are stored, and the record as a reader is shown them.
        stored = RunDir(Path(record.path)).read_evals()
        yield from ((float(step), found["suites"]) for step, found in stored.items())
    elif curve.source == "texts":
        yield from _language_by_step(RunDir(Path(record.path)))
    else:
        rows = record.metrics if curve.source == "metrics" else record.timing
        yield from ((float(row["step"]), row) for row in rows)


_TEXTS = "SELECT step, language, text FROM rollouts JOIN groups USING (step, position) ORDER BY step"


def _language_by_step(run: RunDir) -> Iterator[tuple[float, Mapping[str, Any]]]:
    """Yield how much of the thoughts is in the questions' languages, by the reward's own measure."""
    for step, rows in groupby(run.query(_TEXTS), key=lambda row: row["step"]):
        shares = [language_share(reasoning_of(row["text"]), row["language"]) for row in rows]
        yield float(step), {"language": fmean(shares)}


def _costs(compared: list[Compared]) -> Iterator[tuple[str, list[str]]]:
    yield "time of all steps", [duration(_seconds(run.record)) for run in compared]
    peaks = [(run.record.summary or {}).get("peak_rss_bytes") for run in compared]
    yield "most memory so far", [MISSING if peak is None else f"{peak / 1e6:,.0f} MB" for peak in peaks]


def _seconds(record: RunRecord) -> float:
    return sum(float(row["total_s"]) for row in record.timing)


def _value(row: Mapping[str, Any], key: str) -> float | None:
    """Return the value under a dotted key, or the mean of those that its last part matches."""
    path, _, last = key.rpartition(".")
    found = _looked_up(row, path) if path else row
    if not isinstance(found, Mapping):
        return None
    values = [value for name, value in found.items() if fnmatchcase(name, last) and value is not None]
    return fmean(values) if values else None


def _looked_up(row: Mapping[str, Any], key: str) -> Any:
    found: Any = row
    for part in key.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found
