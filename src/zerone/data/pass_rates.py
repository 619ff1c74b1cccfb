"""Pass rates of problems: which share of a model's samples was right, and which problems that leaves.

In: the JSONL that `zerone data pass-rates` wrote, with a line for each problem, and problems. Out: the
problems in a band of pass rates. A problem that is always or never solved teaches nothing: all rewards of its
group are equal. A rate belongs to a problem by the hash of all that is asked and judged, so that one whose
answer was corrected since is not taken for the old one.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zerone.data.jsonl import objects_of
from zerone.errors import DataError
from zerone.identity import sha256_of_file, sha256_of_value
from zerone.types import Problem

SUFFIX = ".pass_rates.jsonl"
"""What is put behind a file's name for the pass rates beside it."""

_EXAMPLE = '{"id": ..., "problem_sha256": ..., "pass_rate": 0.25}'


@dataclass(frozen=True, slots=True, kw_only=True)
class PassRates:
    """The rates of a file by the problem's id, each with the problem's hash; None: nothing was judged."""

    path: Path
    sha256: str
    rates: Mapping[str, tuple[str, float | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """Which rates are trained on; without a bound, all above 0, and all below 1."""

    low: float | None = None
    high: float | None = None

    def reason_against(self, rate: float | None) -> str | None:
        """Return why a problem of this rate is left out, if it is."""
        if rate is None:
            return "without a verdict"
        if self.low is None and rate <= 0:
            return "never solved"
        if self.high is None and rate >= 1:
            return "always solved"
        if self.low is not None and rate < self.low:
            return f"below a pass rate of {self.low:g}"
        if self.high is not None and rate > self.high:
            return f"above a pass rate of {self.high:g}"
        return None


def hash_of_problem(problem: Problem) -> str:
    """Return the hash of what is asked and how it is judged."""
    asked = {"prompt": problem.prompt, "verifier": problem.verifier, "spec": dict(problem.spec)}
    return sha256_of_value(asked)


def read_pass_rates(path: Path) -> PassRates:
    """Read the pass rates of a file; raises DataError with the line for one that is none."""
    rates: dict[str, tuple[str, float | None]] = {}
    for place, record in objects_of(path, "data.pass_rates", _EXAMPLE):
        rates[_text(record, "id", place)] = _text(record, "problem_sha256", place), _rate(record, place)
    if not rates:
        raise DataError(f"{path} holds no pass rates; measure them by `zerone data pass-rates`")
    return PassRates(path=path, sha256=sha256_of_file(path), rates=rates)


def _text(record: Mapping[str, Any], name: str, place: str) -> str:
    value = record.get(name)
    if not isinstance(value, str):
        raise DataError(f"{place}: {name!r} must be text; a line of pass rates is {_EXAMPLE}")
    return value


def _rate(record: Mapping[str, Any], place: str) -> float | None:
    rate = record.get("pass_rate", -1)
    if rate is None:
        return None
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate <= 1:
        raise DataError(f"{place}: 'pass_rate' must be a number from 0 to 1 or null, not {rate!r}")
    return float(rate)


def within_band(
    problems: Sequence[Problem], known: PassRates, band: Band
) -> tuple[tuple[Problem, ...], dict[str, int]]:
    """Return the problems in a band, and how many others are left out for which reason.

    Raises DataError for problems that were not measured, and where none is left.
    """
    unknown = [problem for problem in problems if _is_unknown(problem, known)]
    if unknown:
        raise DataError(
            f"{len(unknown)} of {len(problems)} problems have no pass rate in {known.path}, or had another "
            f"answer "
            f"when it was measured (the first: {unknown[0].prompt[:60]!r}); measure them into another file "
            f"by `zerone "
            "data pass-rates`, with the data options of this run"
        )
    reasons = {problem.id: band.reason_against(known.rates[problem.id][1]) for problem in problems}
    kept = tuple(problem for problem in problems if reasons[problem.id] is None)
    left_out = dict(Counter(reason for reason in reasons.values() if reason is not None).most_common())
    if not kept:
        told = ", ".join(f"{number} {reason}" for reason, number in left_out.items())
        raise DataError(
            f"no problem is left by its pass rate in {known.path} ({told}); widen data.pass_rate_min and "
            "data.pass_rate_max, or measure with a model that solves some of them"
        )
    return kept, left_out


def _is_unknown(problem: Problem, known: PassRates) -> bool:
    sha256, _ = known.rates.get(problem.id, ("", None))
    return sha256 != hash_of_problem(problem)
