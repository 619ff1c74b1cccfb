"""Which charts a report shows, and the sentence that reads each of them.

In: the record of a run and what `aha.py` counted. Out: figures, each a chart with its legend and
one sentence of plain numbers. A figure whose data a run does not have (yet) is left out.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from markupsafe import Markup

from zerone.report.charts import Chart, Series, bar_chart, line_chart, swatch
from zerone.report.claims import length_claim, reflection_claim, written_weights
from zerone.report.numbers import number, percent
from zerone.report.record import RunRecord, vote_key, vote_size

PHASES = {"generate_s": "sampling", "reward_s": "judging", "train_s": "training", "record_s": "recording"}
_PHASE_TONES = ("blue", "violet", "orange", "teal")
_WIDE, _WIDE_HEIGHT = 1040, 380


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A drawn chart; `wide_svg` is the same chart for a full row of a large screen."""

    title: str
    legend: Sequence[tuple[Markup, str]]
    svg: Markup
    reading: str
    wide_svg: Markup | None = None


def figure_of(chart: Chart, reading: str, draw: Callable[[Chart], Markup] = line_chart) -> Figure:
    """Draw a chart and put its legend and its sentence to it."""
    legend = [(swatch(series), series.label) for series in chart.series]
    return Figure(title=chart.title, legend=legend, svg=draw(chart), reading=reading)


def series_of(entries: Sequence[Mapping[str, Any]], key: str, **looks: Any) -> Series | None:
    """Return a metric over the steps, or None where no step has a value."""
    points = [(float(entry["step"]), entry.get(key)) for entry in entries]
    return Series(points=points, **looks) if any(y is not None for _, y in points) else None


def _ends(series: Series) -> tuple[float, float]:
    values = [y for _, y in series.points if y is not None]
    return values[0], values[-1]


def _moved(series: Series, write: Callable[[float], str]) -> str:
    """Write where a series began and where it is, without judging the direction."""
    first, last = _ends(series)
    return f"went from {write(first)} to {write(last)}" if len(series.points) > 1 else f"is {write(last)}"


def accuracy_figure(record: RunRecord) -> Figure | None:
    """Draw the paper's figure: pass@1 and majority vote during training."""
    training = series_of(record.metrics, "accuracy", label="training, each step", tone="gray", mark="thin")
    curves = list(_suite_series(record))
    series = [*([training] if training else []), *curves]
    if not series:
        return None
    chart = Chart(
        title="Accuracy during training",
        y_label="correct",
        series=series,
        scale="share",
        high=1.0,
    )
    parts = [f"{curve.label} {_moved(curve, percent)}" for curve in curves if len(curve.points) > 1]
    if training:
        parts.append(f"the share of correct training completions {_moved(training, percent)}")
    reading = "; ".join(parts) or "only the base has been measured so far"
    wide = replace(chart, width=_WIDE, height=_WIDE_HEIGHT)
    figure = figure_of(chart, f"{reading[0].upper()}{reading[1:]}. Whiskers are 95% intervals.")
    return replace(figure, wide_svg=line_chart(wide))


def _suite_series(record: RunRecord) -> Iterator[Series]:
    suite = record.curve_suite
    if suite is None:
        return
    results = {
        step: result["suites"][suite] for step, result in record.evals.items() if suite in result["suites"]
    }
    if not results:
        return
    yield Series(
        label=f"{suite} suite pass@1",
        tone="blue",
        mark="points",
        points=[(float(step), result["pass_at_1"]) for step, result in results.items()],
        intervals={
            float(step): (result["pass_at_1_ci"][0], result["pass_at_1_ci"][1])
            for step, result in results.items()
            if result.get("pass_at_1_ci")
        },
    )
    key = next((name for result in results.values() if (name := vote_key(result))), None)
    if key is not None:
        points = [(float(step), result.get(key)) for step, result in results.items()]
        yield Series(
            label=f"{suite} suite cons@{vote_size(key)}", tone="orange", mark="dashed", points=points
        )


def length_figure(record: RunRecord) -> Figure | None:
    """Draw the length of completions, correct and incorrect ones apart."""
    lines = [
        series_of(record.metrics, "response_tokens", label="all", tone="ink"),
        series_of(record.metrics, "response_tokens_right", label="correct", tone="teal", mark="thin"),
        series_of(record.metrics, "response_tokens_wrong", label="incorrect", tone="red", mark="thin"),
    ]
    series = [line for line in lines if line is not None]
    if not series:
        return None
    chart = Chart(title="Response length", y_label="tokens per response", series=series)
    reading = f"The mean length {_moved(series[0], number)} tokens; {length_claim(record)}."
    return figure_of(chart, reading)


def reflection_figure(record: RunRecord) -> Figure | None:
    """Draw how often a response reflects."""
    series = series_of(record.metrics, "reflection_words", label="reflection words", tone="violet")
    if series is None:
        return None
    chart = Chart(title="Reflection words", y_label="words per response", series=[series])
    reading = (
        f"The mean number of words such as wait, check and wrong {_moved(series, number)}; "
        f"{reflection_claim(record)}."
    )
    return figure_of(chart, reading)


def recovery_figure(recoveries: Mapping[int, float]) -> Figure | None:
    """Draw the share of completions that fail, reflect, continue and are correct."""
    if not recoveries:
        return None
    points = [(float(step), share) for step, share in recoveries.items()]
    series = Series(label="recovered after a failed try", tone="teal", points=points)
    top = max(0.1, *recoveries.values())
    chart = Chart(
        title="Recovered after a failed try", y_label="share", series=[series], scale="share", high=top
    )
    reading = f"Completions that fail a try, reflect, try again and are correct {_moved(series, percent)}."
    return figure_of(chart, reading)


def reward_figure(record: RunRecord) -> Figure | None:
    """Draw the parts of the reward before weighting."""
    lines = [
        series_of(record.metrics, "accuracy", label="accuracy", tone="blue"),
        series_of(record.metrics, "format", label="format", tone="violet"),
    ]
    series = [line for line in lines if line is not None]
    if not series:
        return None
    chart = Chart(title="Reward parts", y_label="share of responses", series=series, scale="share", high=1.0)
    weights = written_weights(record)
    moved = " and ".join(f"{line.label} {_moved(line, percent)}" for line in series)
    return figure_of(
        chart, f"{moved[0].upper()}{moved[1:]}; the weights in the reward are {weights or 'not recorded'}."
    )


def entropy_figure(record: RunRecord) -> Figure | None:
    """Draw how undecided the policy is."""
    series = series_of(record.metrics, "entropy", label="entropy", tone="blue")
    if series is None:
        return None
    chart = Chart(title="Entropy", y_label="nats per token", series=[series])
    reading = f"The mean entropy {_moved(series, number)} nats per token; near 0, all samples are alike."
    return figure_of(chart, reading)


def kl_figure(record: RunRecord) -> Figure | None:
    """Draw the distance to the reference, and between sampler and trainer."""
    reference = series_of(record.metrics, "kl", label="to the reference", tone="orange")
    mismatch = series_of(record.metrics, "mismatch_kl", label="sampler to trainer", tone="gray", mark="thin")
    present = [line for line in (reference, mismatch) if line is not None and any(y for _, y in line.points)]
    if not present:
        return None
    # On a log axis a zero (or an estimate below zero) has no place; it is a gap, not a value.
    series = [
        replace(line, points=[(x, y if y and y > 0 else None) for x, y in line.points]) for line in present
    ]
    series = [line for line in series if any(y is not None for _, y in line.points)]
    chart = Chart(title="KL divergence", y_label="nats per token, log scale", series=series, scale="log")
    parts = []
    if reference in present and reference is not None:
        parts.append(
            f"the distance to the reference is {number(_ends(reference)[1])} nats per token in the last step"
        )
    else:
        reason = " since loss.kl_coef is 0" if record.setting("loss.kl_coef") == 0 else ""
        parts.append(f"no distance to a reference was measured{reason}")
    if mismatch is not None:
        # An estimate near 0 can fall below it; how far it lies from 0 is what counts.
        most = max(abs(y) for _, y in mismatch.points if y is not None)
        limit = record.setting("rl.max_mismatch_kl")
        stop = "" if limit is None else f", and {limit:g} would stop the run"
        parts.append(f"sampler and trainer differ by at most {number(most)}{stop}")
    text = "; ".join(parts)
    return figure_of(chart, f"{text[0].upper()}{text[1:]}.") if series else None


def groups_figure(record: RunRecord) -> Figure | None:
    """Draw how many groups can teach anything."""
    right = series_of(record.metrics, "groups_all_right", label="all correct", tone="teal", mark="area")
    wrong = series_of(record.metrics, "groups_all_wrong", label="all incorrect", tone="red", mark="area")
    signal = series_of(record.metrics, "groups_with_signal", label="with signal", tone="ink")
    if right is None or wrong is None:
        return None
    rest = [
        (x, 1.0 - (r or 0.0) - (w or 0.0)) for (x, r), (_, w) in zip(right.points, wrong.points, strict=True)
    ]
    some = Series(label="some correct", tone="pale", mark="area", points=rest)
    series = [right, some, wrong, *([signal] if signal else [])]
    chart = Chart(
        title="Groups with signal", y_label="share of groups", series=series, scale="share", high=1.0
    )
    all_right, all_wrong = (percent(_ends(line)[1]) for line in (right, wrong))
    reading = f"In the last step {all_right} of the groups were all correct and {all_wrong} all incorrect"
    if signal:
        values = [y for _, y in signal.points if y is not None]
        reading += (
            f"; over the run {percent(sum(values) / len(values))} had rewards that differ, "
            "and only these change the weights"
        )
    return figure_of(chart, f"{reading}.", bar_chart)


def time_figure(record: RunRecord) -> Figure | None:
    """Draw where the time goes."""
    areas = [
        series_of(record.timing, key, label=label, tone=tone, mark="area")
        for (key, label), tone in zip(PHASES.items(), _PHASE_TONES, strict=True)
    ]
    series = [area for area in areas if area is not None]
    if not series:
        return None
    sums = {area.label: sum(y or 0.0 for _, y in area.points) for area in series}
    total = sum(sums.values())
    if total == 0:
        return None
    chart = Chart(title="Time per step", y_label="seconds", series=series)
    shares = ", ".join(f"{percent(seconds / total, 0)} {label}" for label, seconds in sums.items())
    mean = number(total / len(record.timing))
    return figure_of(
        chart, f"A step took {mean} s in the mean: {shares} (evaluations not counted).", bar_chart
    )


def all_figures(record: RunRecord, recoveries: Mapping[int, float]) -> tuple[Figure | None, list[Figure]]:
    """Return the main figure and the others, in the order of the page."""
    found = [
        length_figure(record),
        reflection_figure(record),
        recovery_figure(recoveries),
        reward_figure(record),
        groups_figure(record),
        entropy_figure(record),
        kl_figure(record),
        time_figure(record),
    ]
    return accuracy_figure(record), [figure for figure in found if figure is not None]
