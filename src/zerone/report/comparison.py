"""Several runs on one page: curves over each other, final figures side by side, what was set differently.

In: run directories, finished or not. Out: one self-contained HTML page, by the same rules as the
page of one run (page.py): it loads nothing, runs no script, and foreign text is escaped.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from zerone.errors import UserError
from zerone.report import cost, stages_table, tables
from zerone.report.charts import Chart, Series, line_chart, swatch
from zerone.report.figures import Figure, figure_of, series_of
from zerone.report.fine_tuning_page import loss_series
from zerone.report.numbers import MISSING, number, percent, plural
from zerone.report.pipeline_page import comparable, is_pipeline
from zerone.report.record import RunRecord, read_record
from zerone.report.template import template
from zerone.runs.directory import RunDir

if TYPE_CHECKING:
    from zerone.evals.significance import Comparison

TONES = ("blue", "orange", "teal", "red", "violet", "ink", "gray")
MAX_RUNS = 14
"""Two marks of every tone: more curves cannot be told apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """A run under the name and in the look that it has on the whole page."""

    name: str
    record: RunRecord
    tone: str
    is_second: bool

    @property
    def swatch(self) -> Markup:
        """The sample of the run's colour."""
        return swatch(Series(label=self.name, tone=self.tone, points=[], mark="line"))


def render_comparison(runs: Sequence[RunDir], core_price: float) -> str:
    """Return the page of several runs; raises UserError for too many, RunDirError for what is no run."""
    if len(runs) > MAX_RUNS:
        raise UserError(f"{len(runs)} runs are too many for one page; give at most {MAX_RUNS}")
    records = [comparable(run) if is_pipeline(run) else read_record(run) for run in runs]
    compared = name_runs(records)
    settings = differing_settings(compared)
    return template("comparison.html.j2").render(
        compared=compared,
        title=title(compared),
        lead=lead(compared, [row.label for row in settings]),
        finals=list(final_figures(compared)),
        paired=paired(compared),
        figures=list(_figures(compared)),
        settings=settings,
        paper=beside_paper(compared),
        costs=[cost.cost_of(run.record, core_price, run.name) for run in compared],
        core_price=core_price,
        prices={"rows": cost.rows, "apis": cost.APIS},
        stages=[(run.name, table) for run in compared if (table := stages_table.stages(_summary(run)))],
        students=[(run.name, table) for run in compared if (table := stages_table.students(_summary(run)))],
        paper_stages=stages_table.PAPER,
    )


def _summary(run: Compared) -> Mapping[str, Any]:
    return run.record.summary or {}


def name_runs(records: Sequence[RunRecord]) -> list[Compared]:
    """Give every run a name of its own (its path where directories are called alike) and a look."""
    names = [record.name for record in records]
    return [
        Compared(
            name=record.name if names.count(record.name) == 1 else record.path,
            record=record,
            tone=TONES[i % len(TONES)],
            is_second=i >= len(TONES),
        )
        for i, record in enumerate(records)
    ]


def _suites(compared: Sequence[Compared]) -> list[str]:
    return list(dict.fromkeys(suite for run in compared for suite in run.record.suites))


def title(compared: Sequence[Compared]) -> str:
    """Say the spread of the results in one line."""
    for suite in _suites(compared):
        finals = [run.record.final(suite).get("pass_at_1") for run in compared]
        shares = sorted(share for share in finals if share is not None)
        if len(shares) == len(compared):
            ends = f"{percent(shares[0])} to {percent(shares[-1])}"
            return f"{plural(len(compared), 'run')}: {ends} correct on the {suite} suite"
    return f"{plural(len(compared), 'run')} compared"


def lead(compared: Sequence[Compared], differing: Sequence[str]) -> str:
    """Say what makes the runs different; of equal runs with different seeds, also their mean."""
    if list(differing) != ["seed"]:
        what = ", ".join(differing[:6]) + (" and more" if len(differing) > 6 else "")
        return f"They differ in {what}." if what else "Their settings and surroundings are the same."
    means = []
    for suite in _suites(compared):
        finals = [run.record.final(suite).get("pass_at_1") for run in compared]
        shares = [share for share in finals if share is not None]
        if shares:
            means.append(f"{percent(sum(shares) / len(shares))} on the {suite} suite")
    mean = f" The mean of their pass@1 is {' and '.join(means)}." if means else ""
    return f"They differ in the seed only, so their spread is that of chance.{mean}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired:
    """What a paired test says of two runs on one suite."""

    suite: str
    runs: str
    num_problems: str
    difference: str
    p_value: str
    conclusion: str


def paired(compared: Sequence[Compared]) -> list[Paired]:
    """Compare each run's last evaluation with the first run's, problem by problem."""
    from zerone.evals.significance import compare  # numpy, which the page of one run does without

    found = []
    for suite in _suites(compared):
        of_runs = [(run.name, run.record.final(suite).get("problems") or {}) for run in compared]
        first, shares = of_runs[0]
        for name, others in of_runs[1:]:
            if shares.keys() & others.keys():
                found.append(_paired(suite, f"{name} minus {first}", compare(shares, others)))
    return found


def _paired(suite: str, runs: str, told: "Comparison") -> Paired:
    low, high = told.interval
    better, worse = runs.split(" minus ") if told.difference > 0 else reversed(runs.split(" minus "))
    return Paired(
        suite=suite,
        runs=runs,
        num_problems=str(told.num_problems),
        difference=f"{100 * told.difference:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f})",
        p_value=f"{told.p_value:.2g}",
        conclusion=f"{better} is better than {worse}" if told.is_real else "no difference is shown",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Final:
    """One measure of one suite: a value with its interval for every run, and its base's."""

    label: str
    cells: Sequence[tuple[str, str, str]]


def final_figures(compared: Sequence[Compared]) -> Iterator[tuple[str, list[Final]]]:
    """Yield every suite with its measures: (final, interval, base) of each run."""
    found = [dict(tables.before_after(run.record)) for run in compared]
    for suite in _suites(compared):
        by_run = [{measure.label: measure for measure in suites.get(suite, [])} for suites in found]
        labels = dict.fromkeys(label for measures in by_run for label in measures)
        yield (
            suite,
            [
                Final(
                    label=label,
                    cells=[
                        (m.final, m.final_interval, m.base)
                        if (m := measures.get(label))
                        else (MISSING, "", "")
                        for measures in by_run
                    ],
                )
                for label in labels
            ],
        )


def _figures(compared: Sequence[Compared]) -> Iterator[Figure]:
    accuracy = accuracy_figure(compared)
    if accuracy is not None:
        yield accuracy
    losses = [
        loss_series(run.record, run.name, run.tone, "dashed" if run.is_second else "points")
        for run in compared
        if run.record.is_fine_tuning
    ]
    if losses:
        chart = Chart(title="Loss on held-out completions", y_label="nats per token", series=losses)
        ends = ", ".join(f"{line.label} {number(_last(line))}" for line in losses)
        yield figure_of(
            chart, f"Last evaluated: {ends}. It compares runs that hold out the same completions."
        )
    for key, name, unit, is_share in (
        ("accuracy", "Correct training completions", "share", True),
        ("response_tokens", "Response length", "tokens per response", False),
        ("reflection_words", "Reflection words", "words per response", False),
        ("entropy", "Entropy", "nats per token", False),
    ):
        lines = [
            series
            for run in compared
            if (
                series := series_of(
                    run.record.metrics,
                    key,
                    label=run.name,
                    tone=run.tone,
                    mark="dashed" if run.is_second else "thin",
                )
            )
        ]
        if lines:
            write: Callable[[float | None], str] = percent if is_share else number
            chart = Chart(
                title=name,
                y_label=unit,
                series=lines,
                scale="share" if is_share else "linear",
                high=1.0 if is_share else None,
            )
            ends = ", ".join(f"{line.label} {write(_last(line))}" for line in lines)
            yield figure_of(chart, f"In the last step: {ends}.")


def _last(series: Series) -> float | None:
    return next((y for _, y in reversed(series.points) if y is not None), None)


def accuracy_figure(compared: Sequence[Compared]) -> Figure | None:
    """Draw pass@1 during training of the suite that most runs were evaluated on, with intervals."""
    suites = [run.record.curve_suite for run in compared if run.record.curve_suite]
    if not suites:
        return None
    suite = max(dict.fromkeys(suites), key=suites.count)
    lines = [line for run in compared if (line := _curve(run, suite)).points]
    chart = Chart(
        title=f"pass@1 on the {suite} suite",
        y_label="correct",
        series=lines,
        scale="share",
        high=1.0,
    )
    ends = ", ".join(f"{line.label} {percent(_last(line))}" for line in lines)
    figure = figure_of(chart, f"Last evaluated: {ends}. Whiskers are 95% intervals.")
    return replace(figure, wide_svg=line_chart(replace(chart, width=1040, height=380)))


def _curve(run: Compared, suite: str) -> Series:
    results = {
        float(step): result["suites"][suite]
        for step, result in run.record.evals.items()
        if suite in result["suites"]
    }
    return Series(
        label=run.name,
        tone=run.tone,
        mark="dashed" if run.is_second else "points",
        points=[(step, result["pass_at_1"]) for step, result in results.items()],
        intervals={
            step: (result["pass_at_1_ci"][0], result["pass_at_1_ci"][1])
            for step, result in results.items()
            if result.get("pass_at_1_ci")
        },
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A setting or circumstance with its value in every run."""

    label: str
    values: Sequence[str]


_HASHES = ("commit", "model_sha256", "data_sha256")
_CIRCUMSTANCES = (*_HASHES, "cpu", "cores", "threads", "precision", "torch")


def differing_settings(compared: Sequence[Compared]) -> list[Difference]:
    """Return the options that are not the same in all runs, then what differs around them."""
    flat = [dict(_flatten(run.record.config)) for run in compared]
    names = dict.fromkeys(name for options in flat for name in options)
    rows = [
        Difference(label=name, values=[options.get(name, MISSING) for options in flat])
        for name in names
        # A stage's own settings say something beside those of the same stage of other pipelines only.
        if not name.startswith("stages.") or all(name in options for options in flat)
    ]
    for key in _CIRCUMSTANCES:
        values = [str(run.record.environment.get(key, MISSING)) for run in compared]
        # Names of processors often differ in their last letters alone: only hashes can be cut.
        shown = [value[:12] for value in values] if key in _HASHES else values
        rows.append(Difference(label=key.replace("_", " "), values=shown))
    return [row for row in rows if len(set(row.values)) > 1]


def _flatten(options: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in options.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def beside_paper(compared: Sequence[Compared]) -> list[tables.Setting]:
    """Return the runs' settings beside the paper's; values that differ stand in the order of the runs.

    Fine-tuning is left blank: its configuration holds settings of reinforcement learning that it never used.
    """
    by_run = [tables.settings(run.record) for run in compared]
    is_blank = [run.record.is_fine_tuning for run in compared]
    if all(is_blank):
        return []
    found = []
    for rows in zip(*by_run, strict=True):
        values = [MISSING if blank else row.here for row, blank in zip(rows, is_blank, strict=True)]
        found.append(replace(rows[0], here=values[0] if len(set(values)) == 1 else " / ".join(values)))
    return found
