"""Is the difference of two models real? Paired tests on the problems that both were asked.

In: for each problem the share of right answers of A and of B. Out: the difference with a paired
bootstrap interval, and two tests of "no difference": the exact McNemar test, for one answer per
problem, and the exact sign test over problems, for any number. Pairing takes out what makes one
problem harder than another, which two separate intervals would count twice.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import comb

import numpy as np

from zerone.errors import DataError
from zerone.intervals import wilson_interval
from zerone.seeding import seed_from

_NUM_RESAMPLES = 10_000
SIGNIFICANT = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two models on the same problems; differences are B minus A.

    `better_a` and `better_b` count problems on which one has the larger share of right answers: with
    one answer each these are McNemar's discordant pairs. `p_value` is two-sided and exact, and needs
    neither normality nor many problems.
    """

    num_problems: int
    mean_a: float
    mean_b: float
    difference: float
    interval: tuple[float, float]
    better_a: int
    better_b: int
    equal: int
    p_value: float
    test: str

    @property
    def is_real(self) -> bool:
        """Whether interval and test both say that the models differ."""
        low, high = self.interval
        return self.p_value < SIGNIFICANT and not low <= 0 <= high

    @property
    def conclusion(self) -> str:
        """The comparison in one sentence."""
        low, high = self.interval
        figures = f"{self.difference:+.1%} ({low:+.1%} to {high:+.1%}), p = {self.p_value:.2g}"
        if self.is_real:
            return f"B is {'better' if self.difference > 0 else 'worse'} than A: {figures}"
        return f"no difference is shown: {figures}"


def compare(shares_a: Mapping[str, float], shares_b: Mapping[str, float]) -> Comparison:
    """Compare two evaluations by the problems that both have; raises DataError if there are none."""
    common = sorted(shares_a.keys() & shares_b.keys())
    if not common:
        raise DataError("the two evaluations share no problem; compare models on the same suite")
    a, b = ([shares[key] for key in common] for shares in (shares_a, shares_b))
    better_a = sum(x > y for x, y in zip(a, b, strict=True))
    better_b = sum(x < y for x, y in zip(a, b, strict=True))
    is_binary = all(value in (0.0, 1.0) for value in (*a, *b))
    return Comparison(
        num_problems=len(common),
        mean_a=float(np.mean(a)),
        mean_b=float(np.mean(b)),
        difference=float(np.mean(b) - np.mean(a)),
        interval=paired_bootstrap(a, b),
        better_a=better_a,
        better_b=better_b,
        equal=len(common) - better_a - better_b,
        p_value=sign_test(better_a, better_b),
        test="exact McNemar" if is_binary else "exact sign test over problems",
    )


def paired_bootstrap(a: Sequence[float], b: Sequence[float]) -> tuple[float, float]:
    """Return the 95% percentile interval of mean(b) - mean(a), problems drawn in pairs (fixed seed).

    Where all differences are alike, drawing from equals again knows no doubt: then to either side it goes as
    far as Wilson's bound of a share of which none was seen in so many problems.
    """
    differences = np.asarray(b, dtype=np.float64) - np.asarray(a, dtype=np.float64)
    if float(np.ptp(differences)) == 0:
        same, room = float(differences[0]), wilson_interval(0.0, len(differences))[1]
        return max(-1.0, same - room), min(1.0, same + room)
    rng = np.random.default_rng(seed_from("paired bootstrap", len(differences)))
    # In parts: ten thousand drawings of an MMLU would fill a gigabyte at once.
    means = [
        rng.choice(differences, size=(_NUM_RESAMPLES // 20, len(differences))).mean(axis=1) for _ in range(20)
    ]
    low, high = np.percentile(np.concatenate(means), (2.5, 97.5))
    return float(low), float(high)


def sign_test(fewer: int, more: int) -> float:
    """Return the two-sided exact p-value of so uneven a split if either side were as likely.

    p = 2 sum_(i <= min) C(n, i) / 2^n, at most 1. On the discordant pairs of two yes-or-no results it is
    McNemar's exact test.
    """
    count = fewer + more
    tail = sum(comb(count, i) for i in range(min(fewer, more) + 1))
    return min(1.0, float(Fraction(2 * tail, 2**count)))
