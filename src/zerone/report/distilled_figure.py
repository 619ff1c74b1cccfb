"""Distillation against reinforcement learning, by the size of the student (R1 paper, 2.4 and F).

In: the summary of a pipeline or of a distillation. Out: one figure, a line for each way of training
over the students' parameters, with the undistilled larger bases and the teacher on the same axis.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from zerone.report.charts import Chart, Series
from zerone.report.figures import Figure, figure_of
from zerone.report.numbers import percent, signed
from zerone.report.stages_table import Summary, smallest_over_larger

_WAYS = (
    ("distilled_score", "distilled", "blue"),
    ("direct_rl_score", "reinforcement learning directly", "orange"),
    ("on_policy_score", "distilled, then on policy", "violet"),
)
_UNITS = ((1e9, 1e6, "million parameters"), (0.0, 1e3, "thousand parameters"))
"""From which number of parameters on, what one tick counts, and how that is called."""

_Dot = tuple[float, Mapping[str, Any]]


def by_size(summary: Summary) -> Figure | None:
    """Return the figure, or None before a student has been measured."""
    students = [student for student in summary.get("students") or () if student.get("parameters")]
    compared = summary.get("distillation") or {}
    bases = [base for base in compared.get("bases") or () if base.get("parameters")]
    teacher = [each for each in (compared.get("teacher"),) if each and each.get("parameters")]
    lines = [
        (label, tone, [(student["parameters"], student.get(key)) for student in students])
        for key, label, tone in _WAYS
    ]
    lines.append(("before, and larger bases", "gray", [(b["parameters"], b.get("score")) for b in bases]))
    lines.append(("the teacher", "teal", [(each["parameters"], each.get("score")) for each in teacher]))
    largest = max((size for _, _, dots in lines for size, _ in dots), default=0.0)
    unit, x_label = next((unit, label) for least, unit, label in _UNITS if largest >= least)
    series = [
        line
        for label, tone, dots in lines
        if (line := _series(label, tone, [(size / unit, score) for size, score in dots if score])) is not None
    ]
    if not students or not any(line.tone == "blue" for line in series):
        return None
    chart = Chart(
        title="Distilled, and by reinforcement learning directly",
        y_label="correct",
        x_label=x_label,
        series=series,
        scale="share",
        high=1.0,
    )
    said = [f"{'; '.join(_readings(students))}. Whiskers are 95% intervals.", *_held_together(summary)]
    return figure_of(chart, " ".join(said))


def _series(label: str, tone: str, dots: list[_Dot]) -> Series | None:
    scored = sorted((dot for dot in dots if dot[1].get("score") is not None), key=lambda dot: dot[0])
    if not scored:
        return None
    return Series(
        label=label,
        tone=tone,
        mark="points",
        points=[(size, float(score["score"])) for size, score in scored],
        intervals={size: (score["ci"][0], score["ci"][1]) for size, score in scored if score.get("ci")},
    )


def _readings(students: list[Mapping[str, Any]]) -> Iterator[str]:
    for student in students:
        scores = {label: (student.get(key) or {}).get("score") for key, label, _ in _WAYS}
        shown = [f"{percent(score)} {label}" for label, score in scores.items() if score is not None]
        if shown:
            yield f"{student.get('name')}: {', '.join(shown)}"


def _held_together(summary: Summary) -> Iterator[str]:
    """Say what the pairs of answers to the same problems show, where a run wrote them down."""
    students = summary.get("students") or ()
    twins = [
        f"{student.get('name')} {_verdict(found)}"
        for student in students
        if (found := (student.get("distilled_minus") or {}).get("direct_rl"))
    ]
    if twins:
        yield f"Problem by problem, distilled against its twin by RL: {'; '.join(twins)}."
    name, lead = smallest_over_larger(summary)
    if lead:
        larger = "; ".join(f"{base} {_verdict(found)}" for base, found in lead.items())
        yield f"{name} distilled against larger bases: {larger}."


def _verdict(found: Mapping[str, Any]) -> str:
    value, low, high = (signed(percent(part)) for part in (found["difference"], *found["ci"]))
    what = "inconclusive" if not found["is_real"] else "better" if found["difference"] > 0 else "worse"
    return f"{what}, {value} ({low} to {high})"
