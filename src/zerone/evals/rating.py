"""A rating from the problems that a model solves, on the scale of Codeforces.

In: the problems' ratings and the share of attempts that solved each. Out: the rating r under which these
results are likeliest by the Elo model, P(solved) = 1 / (1 + 10^((d - r) / 400)) for a problem of rating
d. It is an estimate from problems: the R1 paper's comes from places in ten simulated contests.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log, sqrt

import numpy as np

_SCALE = 400.0
_LOWEST, _HIGHEST = -4000.0, 9000.0
_Z = 1.959963984540054


@dataclass(frozen=True, slots=True, kw_only=True)
class Rating:
    """A rating with its 95% interval.

    `is_bound`: less than half a problem was solved, or missed, so that it is no maximum of likelihood.
    """

    value: float
    interval: tuple[float, float]
    is_bound: bool


def solve_chance(rating: float, difficulty: float) -> float:
    """Return the chance of a player of some rating to solve a problem, by the Elo model."""
    return 1 / (1 + 10 ** ((difficulty - rating) / _SCALE))


def estimate_rating(difficulties: Sequence[float], shares: Sequence[float]) -> Rating:
    """Return the rating of greatest likelihood.

    There the expected number of solved problems equals that of the solved ones, sum P_i(r) = sum s_i,
    which grows with r and is found by halving. All or none solved have no maximum, so half a problem is
    the least that counts as solved and as missed. The interval is r -+ 1.96 / sqrt(I(r)), I the Fisher
    information of the problems (ln 10 / 400)^2 sum P_i (1 - P_i); each problem counts once, however often
    it was tried.
    """
    if not difficulties or len(difficulties) != len(shares):
        raise ValueError("one share is needed for each of at least one problem")
    d = np.asarray(difficulties, dtype=np.float64)
    solved, count = float(sum(shares)), len(shares)
    is_bound = not 0.5 <= solved <= count - 0.5
    solved = min(max(solved, 0.5), count - 0.5)
    low, high = _LOWEST, _HIGHEST
    while high - low > 1e-6:
        middle = (low + high) / 2
        expected = float((1 / (1 + 10 ** ((d - middle) / _SCALE))).sum())
        low, high = (middle, high) if expected < solved else (low, middle)
    chances = 1 / (1 + 10 ** ((d - low) / _SCALE))
    half = _Z * _SCALE / log(10) / sqrt(float((chances * (1 - chances)).sum()))
    return Rating(value=low, interval=(low - half, low + half), is_bound=is_bound)
