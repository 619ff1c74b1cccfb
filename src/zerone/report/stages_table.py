"""The tables of a run through all stages: every intermediate model by suite, and the students.

In: what `zerone r1` writes to summary.json (`models`, `students`). Out: tables of plain strings. What
a summary does not hold is left blank, so that the page of an unfinished run shows what there is.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zerone.report.numbers import MISSING, number, percent, signed

MODELS = {
    "base": "base",
    "r1_zero": "R1-Zero",
    "dev1": "Dev1",
    "dev2": "Dev2",
    "dev3": "Dev3",
    "r1": "R1",
}
_SUITES = ("reasoning", "code", "format", "language", "helpfulness", "safety")
_SCORES = {"base_score": "before", "distilled_score": "distilled", "direct_rl_score": "RL directly"}
_MAYBE = {"on_policy_score": "distilled, then on policy"}

Summary = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A value with its interval and what else belongs beside it, written out."""

    value: str
    interval: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Heads of all columns, and rows of a label and cells."""

    heads: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Cell]]]


PAPER = Table(
    heads=("DeepSeek-R1 paper", "R1-Zero", "Dev1", "Dev2", "Dev3", "R1"),
    rows=[
        (label, [Cell(value=value) for value in values.split()])
        for label, values in (
            ("AIME 2024", "77.9 59.0 74.0 78.1 79.8"),
            ("MATH-500", "95.9 94.2 95.9 95.4 97.3"),
            ("IF-Eval", "46.6 71.7 72.0 78.1 83.3"),
            ("AlpacaEval 2", "24.7 50.1 55.8 62.1 87.6"),
        )
    ],
)
"""For the shape: cold start costs reasoning and gains form, reasoning RL regains it, R1 is best."""


def stages(summary: Summary) -> Table | None:
    """Return the stage table, or None where the summary is of another kind of run."""
    models = summary.get("models")
    if not isinstance(models, Mapping) or not models:
        return None
    found = {name for model in models.values() for name in model.get("suites", {})}
    suites = [name for name in _SUITES if name in found] + sorted(found - set(_SUITES))
    names = [name for name in MODELS if name in models] + [name for name in models if name not in MODELS]
    rows = [
        (suite, [_score(models[name].get("suites", {}).get(suite)) for name in names]) for suite in suites
    ]
    for key, label in (("cons_at_16", "cons@16"), ("response_tokens", "tokens per response")):
        if any(key in models[name] for name in names):
            write: Callable[[float | None], str] = percent if key == "cons_at_16" else number
            rows.append((label, [Cell(value=write(models[name].get(key))) for name in names]))
    if not rows:
        return None
    return Table(heads=["suite", *(str(MODELS.get(name, name)) for name in names)], rows=rows)


def headline(summary: Summary) -> str | None:
    """Say what the stages made of the base, or return None where the ends were not both measured."""
    models = summary.get("models") or {}
    base, last = (
        models.get(name, {}).get("suites", {}).get("reasoning", {}).get("score") for name in ("base", "r1")
    )
    if base is None or last is None:
        return None
    return f"From {percent(base)} to {percent(last)} correct on the reasoning suite in four stages"


def students(summary: Summary) -> Table | None:
    """Return the distillation table, or None where there are no students.

    Its last column is there where a run wrote down which problems each model solves.
    """
    found = summary.get("students")
    if not found:
        return None
    scores = {**_SCORES, **{k: head for k, head in _MAYBE.items() if any(k in student for student in found)}}
    is_paired = any("distilled_minus" in student for student in found)
    rows = [
        (
            f"{student.get('name', MISSING)}, {student.get('architecture', MISSING)}",
            [
                Cell(value=_size(student.get("parameters"))),
                *(_of_student(student, key) for key in scores),
                *([_difference((student.get("distilled_minus") or {}).get("direct_rl"))] * is_paired),
            ],
        )
        for student in found
    ]
    heads = ["student", "parameters", *scores.values(), *(["distilled minus RL, by problem"] * is_paired)]
    return Table(heads=heads, rows=rows)


def beside_students(summary: Summary) -> Table | None:
    """Return the models that students are compared with: undistilled larger bases, and the teacher.

    The bases of other students are among them where the smallest one's answers were held against theirs.
    """
    found = summary.get("distillation") or {}
    own = {student.get("name") for student in summary.get("students") or ()}
    name, lead = smallest_over_larger(summary)
    shown = [base for base in found.get("bases") or () if base.get("name") not in own - lead.keys()]
    labelled = [(f"{base.get('name', MISSING)}, undistilled", base) for base in shown]
    if found.get("teacher"):
        labelled.append(("the teacher", found["teacher"]))
    rows = [
        (
            label,
            [
                Cell(value=_size(model.get("parameters"))),
                _score(model.get("score")),
                *([_difference(lead.get(str(model.get("name"))))] * bool(lead)),
            ],
        )
        for label, model in labelled
    ]
    heads = [
        "beside them",
        "parameters",
        "correct",
        *([f"{name} distilled minus it, paired"] * bool(lead)),
    ]
    return Table(heads=heads, rows=rows) if rows else None


def smallest_over_larger(summary: Summary) -> tuple[str, Mapping[str, Mapping[str, Any]]]:
    """Return the smallest student's name, and by how much it exceeds larger bases, if that is known."""
    for student in summary.get("students") or ():
        if lead := (student.get("distilled_minus") or {}).get("larger_bases"):
            return str(student.get("name", MISSING)), lead
    return "", {}


def _difference(found: Mapping[str, Any] | None) -> Cell:
    """Write a difference of two shares with its interval."""
    if not found:
        return Cell(value=MISSING)
    value, low, high = (signed(percent(part)) for part in (found["difference"], *found["ci"]))
    return Cell(value=value, interval=f"{low} to {high}")


def _of_student(student: Mapping[str, Any], key: str) -> Cell:
    score = student.get(key)
    interval = student.get(f"{key}_ci")
    return _score(score if isinstance(score, Mapping) else {"score": score, "ci": interval})


def _score(measured: Mapping[str, Any] | None) -> Cell:
    if measured is None or measured.get("score") is None:
        return Cell(value=MISSING)
    interval = measured.get("ci")
    beside = [f"{percent(interval[0])} to {percent(interval[1])}"] if interval else []
    if measured.get("unparsable") is not None:
        beside.append(f"no readable answer {percent(measured['unparsable'])}")
    return Cell(value=percent(measured["score"]), interval=", ".join(beside))


def _size(parameters: int | None) -> str:
    if parameters is None:
        return MISSING
    return f"{parameters / 1e6:,.1f} M" if parameters < 1e9 else f"{parameters / 1e9:,.1f} B"
