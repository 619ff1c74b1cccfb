"""Charts as inline SVG, drawn here so that the report needs no library and no network.

In: series of numbers. Out: one `<svg>` each, in its own coordinates, so that it scales with the
page. Colours are CSS classes (tones), so that the light and the dark theme both apply. Every chart
carries its values as hover texts (`<title>`), and screen readers get its name.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from markupsafe import Markup, escape

from zerone.report.numbers import number, percent, power_of_ten

Point = tuple[float, float | None]
Mark = Literal["line", "thin", "dashed", "points", "area"]

# Longer runs are drawn as means of neighbouring steps: no screen shows more, and the page stays small.
MAX_LINE_POINTS = 400
MAX_BARS = 120
MAX_HOVER_BANDS = 200

_LEFT, _RIGHT, _TOP, _BOTTOM = 50, 14, 30, 44


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One line of a chart; `intervals` are drawn as whiskers at their x."""

    label: str
    tone: str
    points: Sequence[Point]
    mark: Mark = "line"
    intervals: Mapping[float, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """What a line or bar chart shows; `high` is where the y axis ends if not by the data.

    What x counts is whole numbers from zero: steps, unless `x_label` names something else.
    """

    title: str
    y_label: str
    series: Sequence[Series]
    x_label: str = "step"
    scale: Literal["share", "linear", "log"] = "linear"
    high: float | None = None
    width: int = 520
    height: int = 310


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """Maps values from low..high to pixels start..end."""

    low: float
    high: float
    start: float
    end: float
    is_log: bool = False

    def at(self, value: float) -> float:
        """Return the pixel of a value; on a log axis, values below it lie on its foot."""
        place: Callable[[float], float] = math.log10 if self.is_log else float
        low, high = place(self.low), place(self.high)
        value = max(value, self.low) if self.is_log else value
        return self.start + (place(value) - low) / (high - low) * (self.end - self.start)


def nice_ticks(low: float, high: float, wanted: int, *, whole: bool = False) -> list[float]:
    """Return round values that cover low..high, about `wanted` of them."""
    raw = (high - low) / max(1, wanted) or 1.0
    magnitude = 10.0 ** math.floor(math.log10(raw))
    factors = (1, 2, 5, 10) if whole else (1, 2, 2.5, 5, 10)
    step = next(factor * magnitude for factor in factors if factor * magnitude >= raw * 0.999)
    step = max(1.0, step) if whole else step
    first = math.floor(low / step + 1e-9)
    last = math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def thin_out(points: Sequence[Point], limit: int) -> list[Point]:
    """Replace neighbouring points by their mean until at most `limit` are left."""
    size = math.ceil(len(points) / limit)
    return (
        [_mean_point(points[i : i + size]) for i in range(0, len(points), size)] if size > 1 else list(points)
    )


def _mean_point(points: Sequence[Point]) -> Point:
    values = [y for _, y in points if y is not None]
    return sum(x for x, _ in points) / len(points), sum(values) / len(values) if values else None


def line_chart(chart: Chart) -> Markup:
    """Draw lines, points and whiskers over the steps."""
    x_axis = _step_axis(chart, from_zero=True)
    y_axis, y_ticks = _value_axis(chart, [y for s in chart.series for y in _values(s)])
    body = [*_grid(chart, y_axis, y_ticks), *_step_ticks(chart, x_axis)]
    for series in chart.series:
        body += _draw_series(series, x_axis, y_axis)
    return _svg(chart, [*body, *_hover_bands(chart, x_axis)])


def bar_chart(chart: Chart) -> Markup:
    """Stack the areas of a chart as bars, one bar a step, and draw its other series over them."""
    areas = [series for series in chart.series if series.mark == "area"]
    columns = [thin_out(series.points, MAX_BARS) for series in areas]
    tops = [sum(y or 0.0 for _, y in column) for column in zip(*columns, strict=True)]
    x_axis = _step_axis(chart, from_zero=False)
    y_axis, y_ticks = _value_axis(chart, tops)
    body = [*_grid(chart, y_axis, y_ticks), *_step_ticks(chart, x_axis)]
    width = (x_axis.end - x_axis.start) / len(columns[0]) * (0.82 if len(columns[0]) <= 60 else 1.0)
    bottoms = [0.0] * len(columns[0])
    for series, column in zip(areas, columns, strict=True):
        body.append(f'<g class="bars {series.tone}">')
        for i, (x, y) in enumerate(column):
            foot, bottoms[i] = bottoms[i], bottoms[i] + (y or 0.0)
            top, low = y_axis.at(bottoms[i]), y_axis.at(foot)
            if low - top > 0.05:
                left = x_axis.at(x) - width / 2
                body.append(
                    f'<rect x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{low - top:.1f}"/>'
                )
        body.append("</g>")
    for series in chart.series:
        if series.mark != "area":
            body += _draw_series(series, x_axis, y_axis)
    return _svg(chart, [*body, *_hover_bands(chart, x_axis)])


def _values(series: Series) -> Iterator[float]:
    yield from (y for _, y in series.points if y is not None)
    for low, high in series.intervals.values():
        yield from (low, high)


def _step_axis(chart: Chart, *, from_zero: bool) -> Axis:
    last = max(1.0, *(x for series in chart.series for x, _ in series.points))
    # Bars stand on their steps, so half a bar is free on both sides.
    low, high = (0.0, last) if from_zero else (0.5, last + 0.5)
    return Axis(low=low, high=high, start=_LEFT, end=chart.width - _RIGHT)


def _value_axis(chart: Chart, values: Sequence[float]) -> tuple[Axis, list[float]]:
    start, end = float(chart.height - _BOTTOM), float(_TOP)
    if chart.scale == "log":
        positive = [value for value in values if value > 0] or [1.0]
        low, high = math.floor(math.log10(min(positive))), math.ceil(math.log10(max(positive)))
        # Twelve decades are more than any honest figure here spans; below lies rounding noise.
        low = min(max(low, high - 12), high - 1)
        stride = math.ceil((high - low) / 6)
        ticks = [10.0**exponent for exponent in range(low, high + 1, stride)]
        return Axis(low=10.0**low, high=10.0**high, start=start, end=end, is_log=True), ticks
    top = chart.high if chart.high is not None else max([*values, 0.0]) or 1.0
    ticks = nice_ticks(min([*values, 0.0]), top, 5)
    return Axis(low=ticks[0], high=ticks[-1], start=start, end=end), ticks


def _tick_text(chart: Chart, value: float, ticks: Sequence[float]) -> str:
    if chart.scale == "share":
        return percent(value, 0)
    if chart.scale == "log":
        return power_of_ten(round(math.log10(value)))
    gap = ticks[1] - ticks[0]
    decimals = max(0, -math.floor(math.log10(gap) + 1e-9))
    # A gap of 0.25 has its first digit in the first decimal and needs the second.
    decimals += round(gap * 10**decimals, 6) % 1 > 0
    return f"{value:,.{decimals}f}"


def _grid(chart: Chart, y_axis: Axis, ticks: Sequence[float]) -> Iterator[str]:
    left, right = _LEFT, chart.width - _RIGHT
    yield f'<text class="axis" x="0" y="13">{escape(chart.y_label)}</text>'
    for tick in ticks:
        y = y_axis.at(tick)
        yield f'<line class="grid" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'
        label = escape(_tick_text(chart, tick, ticks))
        yield f'<text class="tick" text-anchor="end" x="{left - 8}" y="{y + 4:.1f}">{label}</text>'


def _step_ticks(chart: Chart, x_axis: Axis) -> Iterator[str]:
    foot = chart.height - _BOTTOM
    last = math.floor(x_axis.high)
    inside = nice_ticks(0, last, 6 if chart.width < 700 else 10, whole=True)
    ticks = [tick for tick in inside if x_axis.low <= tick <= x_axis.high]
    yield f'<line class="baseline" x1="{_LEFT}" x2="{chart.width - _RIGHT}" y1="{foot}" y2="{foot}"/>'
    for tick in ticks:
        x = x_axis.at(tick)
        yield f'<line class="baseline" x1="{x:.1f}" x2="{x:.1f}" y1="{foot}" y2="{foot + 4}"/>'
        yield f'<text class="tick" text-anchor="middle" x="{x:.1f}" y="{foot + 18}">{tick:,.0f}</text>'
    middle = (x_axis.start + x_axis.end) / 2
    place = f'x="{middle:.1f}" y="{chart.height - 6}"'
    yield f'<text class="axis" text-anchor="middle" {place}>{escape(chart.x_label)}</text>'


def _draw_series(series: Series, x_axis: Axis, y_axis: Axis) -> Iterator[str]:
    points = thin_out(series.points, MAX_LINE_POINTS)
    yield f'<g class="series {series.mark} {series.tone}">'
    for x, (low, high) in series.intervals.items():
        at, bottom, top = x_axis.at(x), y_axis.at(low), y_axis.at(high)
        ends = f"M{at - 4:.1f} {bottom:.1f}h8M{at - 4:.1f} {top:.1f}h8"
        yield f'<path class="whisker" d="M{at:.1f} {bottom:.1f}V{top:.1f}{ends}"/>'
    yield f'<path d="{_path(points, x_axis, y_axis)}"/>'
    if series.mark in ("points", "dashed"):
        for x, y in points:
            if y is not None:
                yield f'<circle cx="{x_axis.at(x):.1f}" cy="{y_axis.at(y):.1f}" r="4"/>'
    yield "</g>"


def _path(points: Sequence[Point], x_axis: Axis, y_axis: Axis) -> str:
    """Return the line through the points, broken where a value is missing."""
    parts, pen = [], "M"
    for x, y in points:
        if y is None:
            pen = "M"
            continue
        # The empty stroke shows a point that has no neighbours as a dot (round caps).
        parts.append(f"{pen}{x_axis.at(x):.1f} {y_axis.at(y):.1f}{'h0' if pen == 'M' else ''}")
        pen = "L"
    return "".join(parts)


def _hover_bands(chart: Chart, x_axis: Axis) -> Iterator[str]:
    """Cover each step with an unseen band that shows the values as a hover text."""
    if max(len(series.points) for series in chart.series) > MAX_HOVER_BANDS:
        return
    values: dict[float, list[str]] = {}
    for series in chart.series:
        for x, y in series.points:
            if y is not None:
                shown = percent(y) if chart.scale == "share" else number(y)
                values.setdefault(x, []).append(f"{series.label}: {shown}")
    steps = sorted(values)
    for i, x in enumerate(steps):
        left = x_axis.start if i == 0 else x_axis.at((steps[i - 1] + x) / 2)
        right = x_axis.end if i == len(steps) - 1 else x_axis.at((x + steps[i + 1]) / 2)
        text = escape("\n".join([f"{chart.x_label} {x:,.0f}", *values[x]]))
        yield (
            f'<rect class="band" x="{left:.1f}" y="{_TOP}" width="{right - left:.1f}" '
            f'height="{chart.height - _BOTTOM - _TOP}"><title>{text}</title></rect>'
        )


def _svg(chart: Chart, body: Sequence[str]) -> Markup:
    head = f'<svg class="chart" viewBox="0 0 {chart.width} {chart.height}" role="img"'
    return Markup(f'{head} aria-label="{escape(chart.title)}">{"".join(body)}</svg>')


def swatch(series: Series) -> Markup:
    """Draw the sample of a series for a legend."""
    if series.mark == "area":
        inside = f'<g class="bars {series.tone}"><rect x="3" y="1" width="14" height="10" rx="2"/></g>'
    else:
        dot = '<circle cx="10" cy="6" r="3.5"/>' if series.mark in ("points", "dashed") else ""
        whisker = '<path class="whisker" d="M10 0V12M7 0.5h6M7 11.5h6"/>' if series.intervals else ""
        inside = f'<g class="series {series.mark} {series.tone}">{whisker}<path d="M0 6H20"/>{dot}</g>'
    return Markup(f'<svg class="swatch" viewBox="0 0 20 12" aria-hidden="true">{inside}</svg>')


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A figure with the ends of its 95% interval, where one is known."""

    value: float
    interval: tuple[float, float] | None = None


def before_after_bar(base: Estimate | None, final: Estimate | None) -> Markup:
    """Draw two shares on one track from 0 to 1: the base hollow, the final one filled."""
    axis = Axis(low=0.0, high=1.0, start=7.0, end=233.0)
    body = ['<path class="track" d="M7 11H233"/>']
    if base and final:
        body.append(f'<path class="link" d="M{axis.at(base.value):.1f} 11H{axis.at(final.value):.1f}"/>')
    for name, estimate in (("base", base), ("final", final)):
        if estimate is None:
            continue
        if estimate.interval is not None:
            low, high = (axis.at(end) for end in estimate.interval)
            body.append(f'<path class="interval {name}" d="M{low:.1f} 11H{high:.1f}"/>')
        body.append(f'<circle class="{name}" cx="{axis.at(estimate.value):.1f}" cy="11" r="5"/>')
    ends = " to ".join(percent(estimate.value) for estimate in (base, final) if estimate)
    return Markup(
        f'<svg class="span" viewBox="0 0 240 22" role="img" aria-label="{escape(ends)}">{"".join(body)}</svg>'
    )
