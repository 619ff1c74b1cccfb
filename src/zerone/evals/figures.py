"""Figures of judged answers: pass@1, pass@k, majority vote, tokens; by level and by domain.

In: the judged answers to each problem of a suite. Out: JSON values with 95% intervals. pass@1 is the
mean over all samples (R1 paper, D.1); cons@k the share of the problems that can be voted on whose most
frequent answer among the first k is right, absent where there are none. `unparsable` is the share of
completions without an answer that could be read, which a score is to be seen beside. A completion
without a verdict is in no share and counted as `verifier_errors`.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from statistics import fmean, median
from typing import Any

from zerone.evals.judged import Judged, is_majority_right
from zerone.intervals import mean_with_interval, pass_at_k, share_with_interval, wilson_interval
from zerone.rewards.reflection import count_reflection_words
from zerone.types import Outcome

CONSENSUS_SAMPLES = 16
_CONSENSUSES = (4, 16, 64)
"""Numbers of votes; the papers report 16 and 64."""

Answers = Sequence[Sequence[Judged]]
"""The judged answers to each problem."""

_MEASURES: dict[str, Callable[[Judged], float]] = {
    "pass_at_1": lambda judged: float(judged.is_right),
    "unparsable": lambda judged: float(judged.outcome is Outcome.UNPARSABLE),
    "format": lambda judged: float(judged.is_well_formed),
    "response_tokens": lambda judged: float(judged.num_tokens),
    "reflection_words": lambda judged: float(count_reflection_words(judged.text)),
    "truncated": lambda judged: float(judged.is_truncated),
}
_MEASURES_OF_CELLS = ("pass_at_1", "unparsable", "response_tokens", "truncated")
_COUNTS = frozenset(("response_tokens", "reflection_words"))
"""Measures that are no shares: how many of something there are in an answer."""


def figures_of(answers: Answers) -> dict[str, Any]:
    """Return the figures that every evaluation has, in training as outside of it."""
    num_samples = max(map(len, answers))
    result: dict[str, Any] = {"num_problems": len(answers), "num_samples": num_samples}
    with_verdict = _with_verdict(answers)
    for name, measure in _MEASURES.items():
        values = [fmean(map(measure, own)) for own in with_verdict]
        with_interval = mean_with_interval if name in _COUNTS else share_with_interval
        mean, interval = with_interval(values) if values else (0.0, (0.0, 1.0))
        result[name] = mean
        result[f"{name}_ci"] = list(interval)
    result["pass_at_k"] = {k: fmean(values) for k, values in _pass_at_powers(with_verdict).items()}
    if num_samples >= CONSENSUS_SAMPLES:
        result |= _consensus(answers, CONSENSUS_SAMPLES)
    result["verifier_errors"] = sum(not judged.has_verdict for own in answers for judged in own)
    result["levels"] = {
        cell: {"pass_at_1": _mean(_MEASURES["pass_at_1"], own), "num_problems": len(own)}
        for cell, own in _cells(with_verdict, _level).items()
    }
    return result


def details_of(answers: Answers) -> dict[str, Any]:
    """Return what `zerone eval` adds: more intervals and votes, domains, tokens, outcomes."""
    with_verdict = _with_verdict(answers)
    everyone = [judged for own in answers for judged in own]
    num_samples = max(map(len, answers))
    result: dict[str, Any] = {}
    if with_verdict:
        mean = fmean(fmean(judged.is_right for judged in own) for own in with_verdict)
        result["pass_at_1_wilson"] = list(wilson_interval(mean, len(with_verdict)))
    result["pass_at_k_ci"] = {
        k: list(share_with_interval(values)[1]) for k, values in _pass_at_powers(with_verdict).items()
    }
    for votes in _CONSENSUSES:
        found = _consensus(answers, votes) if votes <= num_samples else {}
        if found:
            interval = wilson_interval(found[f"cons_at_{votes}"], found[f"cons_at_{votes}_n"])
            result |= found | {f"cons_at_{votes}_wilson": list(interval)}
    result["levels"] = _table(_cells(with_verdict, _level))
    result["domains"] = _table(_cells(with_verdict, lambda judged: judged.problem.spec.get("domain")))
    # An endpoint that refuses writes nothing, which is no answer of no length.
    result["tokens"] = _tokens([judged for judged in everyone if "refused" not in judged.details])
    result["outcomes"] = {
        outcome.value: sum(judged.outcome is outcome for judged in everyone) for outcome in Outcome
    }
    return result


def shares_of(answers: Answers) -> dict[str, float]:
    """Return the share of right answers of each problem that has any verdict, for comparisons."""
    return {own[0].problem.id: fmean(judged.is_right for judged in own) for own in _with_verdict(answers)}


def _with_verdict(answers: Answers) -> list[list[Judged]]:
    kept = ([judged for judged in own if judged.has_verdict] for own in answers)
    return [own for own in kept if own]


def _pass_at_powers(answers: Answers) -> dict[str, list[float]]:
    """Return pass@k for powers of two, of each problem that has k answers with a verdict."""
    rights = [(len(own), sum(judged.is_right for judged in own)) for own in answers]
    most = max((count for count, _ in rights), default=0)
    powers = [2**i for i in range(most.bit_length()) if 2**i <= most]
    return {str(k): [pass_at_k(count, right, k) for count, right in rights if count >= k] for k in powers}


def _consensus(answers: Answers, votes: int) -> dict[str, Any]:
    """Return the vote of the problems that have one, with their number; nothing where none has."""
    verdicts = [right for own in answers if (right := is_majority_right(own[:votes])) is not None]
    if not verdicts:
        return {}
    mean, interval = share_with_interval(verdicts)
    name = f"cons_at_{votes}"
    return {name: mean, f"{name}_ci": list(interval), f"{name}_n": len(verdicts)}


def _level(judged: Judged) -> str:
    return f"{judged.problem.family}/{judged.problem.level}"


def _cells(answers: Answers, name: Callable[[Judged], str | None]) -> dict[str, list[Sequence[Judged]]]:
    """Return the answers to each problem, by cell; a problem without one is in none."""
    cells: dict[str, list[Sequence[Judged]]] = defaultdict(list)
    for own in answers:
        if (cell := name(own[0])) is not None:
            cells[str(cell)].append(own)
    return dict(sorted(cells.items()))


def _mean(measure: Callable[[Judged], float], answers: Answers) -> float:
    return fmean(fmean(map(measure, own)) for own in answers)


def _table(cells: dict[str, list[Sequence[Judged]]]) -> dict[str, dict[str, Any]]:
    """Return what is told of each cell: measures of its answers as of the whole suite's."""
    table = dict[str, dict[str, Any]]()
    for cell, own in cells.items():
        means = {name: _mean(_MEASURES[name], own) for name in _MEASURES_OF_CELLS}
        wilson = wilson_interval(means["pass_at_1"], len(own))
        table[cell] = means | {"num_problems": len(own), "pass_at_1_wilson": list(wilson)}
    return table


def _tokens(written: Sequence[Judged]) -> dict[str, float | None]:
    """Return what the answers took; of none the lengths are None."""
    lengths = sorted(judged.num_tokens for judged in written)
    by_verdict = {
        wanted: [judged.num_tokens for judged in written if judged.has_verdict and judged.is_right is wanted]
        for wanted in (True, False)
    }
    return {
        "prompt": sum(judged.prompt_tokens for judged in written),
        "completion": sum(lengths),
        "median": median(lengths) if lengths else None,
        "p95": lengths[min(len(lengths) - 1, int(0.95 * len(lengths)))] if lengths else None,
        "longest": max(lengths, default=None),
        "mean_right": fmean(by_verdict[True]) if by_verdict[True] else None,
        "mean_wrong": fmean(by_verdict[False]) if by_verdict[False] else None,
    }
