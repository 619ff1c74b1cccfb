"""The tables of a run through all stages besides the models and students: data, drops, judges, time.

In: the summary of a pipeline, finished or not. Out: tables of plain strings; what is not there yet is
left out. `shape` holds the figures against what the R1 paper lets expect, claim by claim.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zerone.report.numbers import MISSING, duration, number, percent
from zerone.report.stages_table import MODELS, Cell, Summary, Table

# What was made --------------------------------------------------------------------------------------


def data_tables(summary: Summary) -> list[tuple[str, Table]]:
    """Return each data set by domain, as the paper's Table 5 has it."""
    found = []
    for name, counts in _sets(summary):
        rows = [
            (
                str(row["domain"]),
                [Cell(value=number(row.get(key))) for key in ("samples", "rounds", "tokens")],
            )
            for row in counts.get("table", ())
        ]
        if rows:
            heads = ["domain", "samples", "rounds", "tokens per sample"]
            found.append((name, Table(heads=heads, rows=rows)))
    return found


def dropped_table(summary: Summary) -> Table | None:
    """Return why samples were dropped, a column for each data set."""
    sets = [(name, counts.get("dropped", {})) for name, counts in _sets(summary)]
    totals = {name: sum(dropped.values()) for name, dropped in sets}
    reasons = sorted({reason for _, dropped in sets for reason in dropped})
    if not reasons:
        return None
    rows = [
        (reason, [_share_of(dropped.get(reason, 0), totals[name]) for name, dropped in sets])
        for reason in reasons
    ]
    rows.append(("all", [Cell(value=number(totals[name])) for name, _ in sets]))
    return Table(heads=["dropped because", *(name for name, _ in sets)], rows=rows)


def _share_of(count: int, total: int) -> Cell:
    return Cell(value=number(count), interval=percent(count / total) if total else "")


def _sets(summary: Summary) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the data sets whose counts are of the usual form."""
    for name, counts in (summary.get("data") or {}).items():
        if isinstance(counts, Mapping) and isinstance(counts.get("table", ()), Sequence):
            yield str(name).replace("_", " "), counts


def reward_models(summary: Summary) -> Table | None:
    """Return how good the reward models are on preferences that they have not seen."""
    found = summary.get("reward_models")
    if not found:
        return None
    rows = []
    for kind, quality in found.items():
        low, high = quality.get("accuracy_ci") or (None, None)
        interval = f"{percent(low)} to {percent(high)}" if low is not None else ""
        length = quality.get("length") or {}
        rows.append(
            (
                str(kind),
                [
                    Cell(value=number(quality.get("num_pairs", quality.get("num_examples")))),
                    Cell(value=percent((quality.get("before") or {}).get("accuracy"))),
                    Cell(value=percent(quality.get("accuracy")), interval=interval),
                    Cell(value=percent(quality.get("ece"))),
                    Cell(value=number(length.get("correlation"))),
                ],
            )
        )
    heads = ["reward model", "held out", "before", "correct", "calibration error", "correlation with length"]
    return Table(heads=heads, rows=rows)


_COMPARED: Mapping[str, tuple[str, Callable[[float], str]]] = {
    "total_s": ("seconds a step", number),
    "train_s": ("of it training", number),
    "state_bytes": ("weights and optimiser, MB", lambda value: number(value / 1e6)),
    "accuracy": ("correct in the last of them", percent),
}
"""What the stage `ppo` compares (docs/pipeline.md), and how it is written."""


def ppo_table(summary: Summary) -> Table | None:
    """Return PPO beside GRPO over the steps that both made."""
    found = summary.get("ppo") or {}
    rows = []
    for key, (label, write) in _COMPARED.items():
        grpo, ppo, ratio = (found.get(f"{key}_{name}") for name in ("grpo", "ppo", "ratio"))
        if grpo is not None and ppo is not None:
            cells = [write(grpo), write(ppo), "" if ratio is None else f"{ratio:.1f}x"]
            rows.append((label, [Cell(value=cell) for cell in cells]))
    heads = [f"the first {found.get('steps')} steps", "GRPO", "PPO with a critic", "ratio"]
    return Table(heads=heads, rows=rows) if rows else None


def times(summary: Summary) -> Table | None:
    """Return what each stage took."""
    stages = summary.get("stages") or {}
    total = sum(stage["seconds"] for stage in stages.values())
    rows = [
        (name, [Cell(value=duration(stage["seconds"])), Cell(value=percent(stage["seconds"] / (total or 1)))])
        for name, stage in stages.items()
    ]
    rows.append(("all", [Cell(value=duration(total)), Cell(value="")]))
    return Table(heads=["stage", "time", "share"], rows=rows) if stages else None


# The shape ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What is expected of a model on a suite, and what this run has: yes, no, or cannot be told."""

    text: str
    verdict: str
    figures: str


_FOUND = (
    ("dev1", "r1_zero", "reasoning", "costs reasoning", -1),
    ("dev1", "r1_zero", "format", "gains form", 1),
    ("dev2", "dev1", "reasoning", "regains reasoning", 1),
    ("r1", "r1_zero", "reasoning", "reasons as well or better", 0),
    ("r1", "r1_zero", "hard", "gains on hard problems", 1),
    ("r1", "dev3", "helpfulness", "is more helpful", 1),
    ("r1", "dev3", "safety", "is safer", 1),
)
"""Model, the one before, suite, what the paper found, and its direction (0: no loss)."""

_BEST = (("helpfulness", "is the most helpful of all"), ("safety", "is the safest of all"))
"""Suites on which the paper's R1 is ahead of every earlier model."""

_ONE_LANGUAGE = 0.99
"""The share of words in the question's language that is expected of R1; the paper gives none."""

_OVERLAP = "inconclusive: the intervals overlap"


def shape(summary: Summary) -> list[Claim]:
    """Return what is expected of models that were measured, with what was found here."""
    models = summary.get("models") or {}
    return [*_compared(models), *_best(models), *_in_one_language(models)]


def _compared(models: Mapping[str, Any]) -> Iterator[Claim]:
    for name, other, suite, said, direction in _FOUND:
        after, before = (_measured(models, which, suite) for which in (name, other))
        if after is None or before is None:
            continue
        yield Claim(
            text=f"{MODELS[name]} {said} against {MODELS[other]} ({suite})",
            verdict=_verdict(after, before, direction),
            figures=f"{percent(before['score'])} to {percent(after['score'])}",
        )


def _best(models: Mapping[str, Any]) -> Iterator[Claim]:
    """Hold R1 against every other model, the base too; each must lie apart for a yes."""
    for suite, said in _BEST:
        last = _measured(models, "r1", suite)
        others = {
            name: found for name in MODELS if name != "r1" and (found := _measured(models, name, suite))
        }
        if last is None or not others:
            continue
        verdicts = {_verdict(last, other, 1) for other in others.values()}
        is_beaten = any(last["ci"][1] < other["ci"][0] for other in others.values())
        next_best = max(others, key=lambda name: float(others[name]["score"]))
        yield Claim(
            text=f"R1 {said} ({suite})",
            verdict="no" if is_beaten else "yes" if verdicts == {"yes"} else _OVERLAP,
            figures=f"{MODELS[next_best]} {percent(others[next_best]['score'])}, R1 {percent(last['score'])}",
        )


def _in_one_language(models: Mapping[str, Any]) -> Iterator[Claim]:
    found = _measured(models, "r1", "language")
    if found is None:
        return
    low, high = found["ci"]
    is_above, is_below = low >= _ONE_LANGUAGE, high < _ONE_LANGUAGE
    yield Claim(
        text=f"R1 keeps to one language in at least {percent(_ONE_LANGUAGE, 0)} of its words (language)",
        verdict="yes" if is_above else "no" if is_below else "inconclusive: the interval contains it",
        figures=f"{percent(found['score'])} ({percent(low)} to {percent(high)})",
    )


def _measured(models: Mapping[str, Any], name: str, suite: str) -> Mapping[str, Any] | None:
    measured: Mapping[str, Any] = models.get(name, {}).get("suites", {}).get(suite) or {}
    return measured if measured.get("score") is not None and measured.get("ci") else None


def _verdict(after: Mapping[str, Any], before: Mapping[str, Any], direction: int) -> str:
    """Say so only where the 95% intervals lie apart; `no loss` holds unless they lie apart downwards."""
    is_above, is_below = after["ci"][0] > before["ci"][1], after["ci"][1] < before["ci"][0]
    if direction == 0:
        return "no" if is_below else "yes"
    if (is_above, is_below)[direction < 0]:
        return "yes"
    return "no, the opposite" if is_above or is_below else _OVERLAP


def missing(summary: Summary) -> str:
    """Name the models that have no figures, as a sentence's end."""
    models = summary.get("models") or {}
    names = [shown for name, shown in MODELS.items() if not models.get(name, {}).get("suites")]
    return ", ".join(names) or MISSING
