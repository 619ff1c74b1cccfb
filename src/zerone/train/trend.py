"""Tests against noise: does a figure of the steps rise or fall by more than its noise, or collapse?

In: the figures of all steps up to now. Out: a change with its noise and p-value. Two facts decide:

- `trend_of` fits a line to the last W steps and divides its slope by its standard error. The variance
  of a step is the larger of what the steps scatter around the line and what the completions of a step
  vary (the standard error of the step's mean over groups, else over completions). Student's t with W - 2
  degrees of freedom, one-sided. A rise or fall is told where p < 0.001: it is asked at each step.
- `collapse_of` compares the last steps with the best five in a row before them: less than half, by more
  than four standard errors of the difference.

Other problems are no trend: where kinds of problems (`family/level`) joined or left within the window,
accuracy is compared on the kinds of both halves.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean
from typing import Any

Metrics = Mapping[str, Any]

SIGNIFICANT = 0.001
"""One-sided p-value below which a change is told: of a hundred steps of noise, fewer than one says so."""
LIKELY = 0.05
"""One-sided p-value below which a change is not yet told and no longer denied."""
SHORTEST = 5
"""Steps below which no trend is told."""
WINDOW = 10
_BEST = 5
_COLLAPSED_SHARE = 0.5
_COLLAPSED_ERRORS = 4.0
_TINY = 1e-9
"""Changes below this are rounding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """The fitted change of a figure over a window, its standard error, and how likely noise alone gives it.

    `p_rise` is the probability of a change at least so high if there is none, `p_fall` of one so low.
    """

    num_steps: int
    change: float
    error: float
    p_rise: float
    p_fall: float

    @property
    def is_rise(self) -> bool:
        """Whether it rises by more than its noise."""
        return self.p_rise < SIGNIFICANT

    @property
    def is_fall(self) -> bool:
        """Whether it falls by more than its noise."""
        return self.p_fall < SIGNIFICANT

    @property
    def is_told(self) -> bool:
        """Whether it moves by more than its noise."""
        return self.is_rise or self.is_fall

    @property
    def per_step(self) -> float:
        """The slope."""
        return self.change / (self.num_steps - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Collapse:
    """A figure's fall to less than half: the level before, the level now, the first step of the low level."""

    name: str
    step: int
    before: float
    now: float


@dataclass(frozen=True, slots=True)
class _Figure:
    """A step's value and the standard error of it that the step itself tells, or None."""

    value: float
    error: float | None


def upper_tail(t: float, freedom: int) -> float:
    """Return P(T > t) of Student's t with whole degrees of freedom (Abramowitz and Stegun 26.7.3-4)."""
    angle = math.atan2(t, math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    is_odd = freedom % 2
    term = cosine if is_odd else 1.0
    total = 0.0
    for k in range(freedom // 2):
        total += term
        term *= cosine**2 * ((2 * k + 2) / (2 * k + 3) if is_odd else (2 * k + 1) / (2 * k + 2))
    inside = 2 / math.pi * (angle + sine * total) if is_odd else sine * total
    return min(1.0, max(0.0, (1 - inside) / 2))


def trend_of(steps: Sequence[Metrics], name: str) -> Trend | None:
    """Return how a figure moves: over the last ten steps, or the shortest longer window that tells more.

    A longer window counts only while it goes on: a rise that has ended is none. None where fewer than five
    steps have the figure.
    """
    figures = figures_of(steps[-WINDOW:], name)
    latest = _fit(figures) if len(figures) >= SHORTEST else None
    if latest is None or latest.is_told:
        return latest
    length = 2 * WINDOW
    while length // 2 < len(steps):
        figures = figures_of(steps[-length:], name)
        longer = _fit(figures) if len(figures) >= SHORTEST else latest
        if longer.is_told and _goes_on(figures, longer):
            return longer
        length *= 2
    return latest


def _goes_on(figures: Sequence[_Figure], trend: Trend) -> bool:
    """Whether the last third of a window differs from the third before by at least half of what it should."""
    third = len(figures) // 3
    last, before = (fmean(f.value for f in part) for part in (figures[-third:], figures[-2 * third : -third]))
    return (last - before) / (trend.per_step * third) >= 0.5


def collapse_of(steps: Sequence[Metrics], name: str) -> Collapse | None:
    """Return the fall of a figure to less than half of its best level, where it still is, or None."""
    known = [step for step in steps if value_of(step, name) is not None]
    values = [figure.value for figure in figures_of(steps, name)]
    if len(values) < 2:
        return None
    middle = (fmean(_best(values[:-1])) + values[-1]) / 2
    low = len(values) - 1
    while low > 1 and values[low - 1] < middle:
        low -= 1
    before = _best(values[:low])
    best, now = fmean(before), fmean(values[low:])
    variance = _step_variance(known[:low], name)
    if variance is None or best <= 0 or now >= _COLLAPSED_SHARE * best:
        return None
    if best - now <= _COLLAPSED_ERRORS * math.sqrt(variance * (1 / (len(values) - low) + 1 / len(before))):
        return None
    if _is_other_problems(name, known[max(0, low - _BEST) : low], known[low:]):
        return None
    return Collapse(name=name, step=int(known[low].get("step", low + 1)), before=best, now=now)


def _best(values: Sequence[float]) -> Sequence[float]:
    """Return the five values in a row whose mean is the largest; all where there are fewer."""
    starts = range(max(1, len(values) - _BEST + 1))
    return max((values[i : i + _BEST] for i in starts), key=fmean)


def _step_variance(steps: Sequence[Metrics], name: str) -> float | None:
    """Return the variance of a step's figure: of its completions, or between steps in a row if that is more.

    None where only one step tells nothing of it.
    """
    figures = figures_of(steps, name)
    inside = [figure.error**2 for figure in figures if figure.error is not None]
    jumps = [(b.value - a.value) ** 2 / 2 for a, b in pairwise(figures)]
    found = [fmean(parts) for parts in (inside, jumps[-2 * WINDOW :]) if parts]
    return max(found) if found else None


def _is_other_problems(name: str, before: Sequence[Metrics], after: Sequence[Metrics]) -> bool:
    """Whether a figure fell only since other kinds of problems came: accuracy on those of both times did not.

    Where nothing of those was correct before, accuracy tells nothing of format.
    """
    kinds = _kinds(before) & _kinds(after)
    if not _kinds(after) - _kinds(before):
        return False
    levels = [fmean(_of_kinds(part, kinds)) for part in (before, after)] if kinds else [0.0, 0.0]
    if name == "format" and not levels[0]:
        return False
    return levels[1] >= _COLLAPSED_SHARE * levels[0]


def figures_of(steps: Sequence[Metrics], name: str) -> list[_Figure]:
    """Return a figure of the steps that have it, with its standard error; accuracy on comparable problems."""
    if name == "accuracy" and has_other_problems(steps):
        half = len(steps) // 2
        common = _kinds(steps[:half]) & _kinds(steps[half:])
        return [_Figure(value, None) for value in _of_kinds(steps, common)]
    found = ((step, value_of(step, name)) for step in steps)
    return [_Figure(value, standard_error(step, name)) for step, value in found if value is not None]


def value_of(step: Metrics, name: str) -> float | None:
    """Return a figure of a step; `parts.NAME` is a part of the reward."""
    part = name.removeprefix("parts.")
    return step.get(name) if part == name else (step.get("parts") or {}).get(part)


def has_other_problems(steps: Sequence[Metrics]) -> bool:
    """Whether a kind of problem that most steps of one half have is in no step of the other."""
    half = len(steps) // 2
    halves = steps[:half], steps[half:]
    return any(
        sum(kind in (step.get("accuracy_by") or {}) for step in one) > len(one) / 2
        for one, other in (halves, halves[::-1])
        for kind in _kinds(one) - _kinds(other)
    )


def _kinds(steps: Sequence[Metrics]) -> set[str]:
    return {kind for step in steps for kind in step.get("accuracy_by") or ()}


def _of_kinds(steps: Sequence[Metrics], kinds: set[str]) -> list[float]:
    """Return the mean accuracy of some kinds of problems, of each step that has any of them."""
    by_step = [[v for kind, v in (step.get("accuracy_by") or {}).items() if kind in kinds] for step in steps]
    return [fmean(values) for values in by_step if values]


def standard_error(step: Metrics, name: str) -> float | None:
    """Return the standard error of a step's mean as its completions tell it, or None.

    Over groups where the step has that, as completions of one problem are alike; else as if all
    completions were independent. Only rewards and shares of completions have one.
    """
    grouped = step.get({"reward_mean": "reward_mean_se", "accuracy": "accuracy_se"}.get(name, ""))
    if grouped is not None:
        return float(grouped)
    count = num_judged(step)
    deviation: float | None = step.get("reward_std") if name == "reward_mean" else None
    if name in ("accuracy", "format") and step.get(name) is not None:
        deviation = math.sqrt(max(0.0, step[name] * (1 - step[name])))
    return None if deviation is None or count < 1 else deviation / math.sqrt(count)


def num_completions(step: Metrics) -> float:
    """Return how many completions a step has."""
    return float(step["num_sampled_tokens"] / max(1.0, step["response_tokens"]))


def num_judged(step: Metrics) -> float:
    """Return how many completions of a step have a verdict."""
    if "num_sampled_tokens" not in step or "response_tokens" not in step:
        return 0.0
    return num_completions(step) - float(step.get("verifier_errors") or 0)


def _fit(figures: Sequence[_Figure]) -> Trend:
    """Return the least-squares change over a window of at least three steps and its one-sided p-values."""
    count = len(figures)
    values = [figure.value for figure in figures]
    middle, mean = (count - 1) / 2, fmean(values)
    spread = sum((i - middle) ** 2 for i in range(count))
    slope = sum((i - middle) * (value - mean) for i, value in enumerate(values)) / spread
    left = sum((value - mean - slope * (i - middle)) ** 2 for i, value in enumerate(values))
    inside = [figure.error**2 for figure in figures if figure.error is not None]
    variance = max(left / (count - 2), fmean(inside) if inside else 0.0)
    change, error = slope * (count - 1), math.sqrt(variance / spread) * (count - 1)
    if abs(change) < _TINY:
        return Trend(num_steps=count, change=0.0, error=error, p_rise=0.5, p_fall=0.5)
    p_rise = upper_tail(change / max(error, _TINY), count - 2)
    return Trend(num_steps=count, change=change, error=error, p_rise=p_rise, p_fall=1 - p_rise)
