"""The geometry of the report's charts, and how its numbers are written."""

import re
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerone.report.charts import Axis, Chart, Series, bar_chart, line_chart, nice_ticks, thin_out
from zerone.report.numbers import duration, number, percent, signed, step_ranges


@given(
    low=st.floats(-1e6, 1e6, allow_nan=False),
    span=st.floats(1e-4, 1e6, allow_nan=False),
    wanted=st.integers(2, 10),
)
def test_ticks_are_even_and_cover_the_data(low: float, span: float, wanted: int) -> None:
    ticks = nice_ticks(low, low + span, wanted)
    gap = ticks[1] - ticks[0]
    # A rounding error of the last digits relative to the largest value is all that may differ.
    slack = 1e-6 * max(abs(low), span)
    assert ticks[0] <= low + slack
    assert ticks[-1] >= low + span - slack
    assert all(abs(b - a - gap) <= slack for a, b in pairwise(ticks))
    assert len(ticks) <= wanted + 2


def _rectangles(svg: str) -> list[dict[str, float]]:
    found = re.findall(r'<rect x="([-\d.]+)" y="([-\d.]+)" width="([-\d.]+)" height="([-\d.]+)"/>', svg)
    return [dict(zip(("x", "y", "width", "height"), map(float, values), strict=True)) for values in found]


def test_stacked_bars_are_as_high_as_their_shares() -> None:
    series = [
        Series(label="a", tone="teal", mark="area", points=[(1, 0.25)]),
        Series(label="b", tone="red", mark="area", points=[(1, 0.75)]),
    ]
    chart = Chart(title="t", y_label="share", series=series, scale="share", high=1.0)
    lower, upper = _rectangles(bar_chart(chart))
    assert upper["height"] == pytest.approx(3 * lower["height"], rel=1e-2)  # one decimal of a pixel
    assert upper["y"] + upper["height"] == pytest.approx(lower["y"], abs=0.11)


def test_line_breaks_where_a_value_is_missing() -> None:
    points = [(1.0, 0.5), (2.0, 0.5), (3.0, None), (4.0, 0.5)]
    svg = line_chart(Chart(title="t", y_label="y", series=[Series(label="a", tone="ink", points=points)]))
    (path,) = re.findall(r'<path d="(M[^"]*)"', svg)
    assert path.count("M") == 2
    assert path.count("L") == 1


def test_thinning_keeps_means_and_gaps() -> None:
    points = [(1.0, 1.0), (2.0, 3.0), (3.0, None), (4.0, None), (5.0, None), (6.0, 8.0)]
    assert thin_out(points, 3) == [(1.5, 2.0), (3.5, None), (5.5, 8.0)]
    assert thin_out(points, 6) == points


def test_log_axis_puts_equal_factors_at_equal_distances() -> None:
    axis = Axis(low=1e-6, high=1.0, start=300.0, end=0.0, is_log=True)
    assert axis.at(1e-3) == pytest.approx(150.0)
    assert axis.at(0.0) == 300.0


@pytest.mark.parametrize(
    ("write", "value", "expected"),
    [
        (percent, 0.1234, "12.3%"),
        (percent, None, "\u2013"),
        (signed, "-1.6", "\u22121.6"),
        (signed, "0.3", "+0.3"),
        (signed, "-0.0", "0.0"),
        (number, 0.858, "0.86"),
        (number, 6.1e-7, "6.1e-7"),
        (number, 12345.6, "12,346"),
        (number, 0.0, "0"),
        (duration, 59.96, "1 min 0 s"),
        (duration, 7.25, "7.2 s"),
        (duration, 3725, "1 h 2 min"),
        (step_ranges, [1, 2, 3, 5], "1\u20133, 5"),
    ],
)
def test_values_are_written_plainly(write: Callable[[Any], str], value: Any, expected: str) -> None:
    assert write(value) == expected
