"""Confidence intervals and estimators of evaluation.

In: per-problem figures. Out: 95% intervals (percentile bootstrap over problems, the unit that was
drawn at random; of shares Wilson's where all problems are alike) and the unbiased pass@k.
"""

from collections.abc import Callable, Sequence
from math import comb, sqrt

import numpy as np
from numpy.typing import NDArray

from zerone.seeding import seed_from

_NUM_RESAMPLES = 2000
_Z = 1.959963984540054
"""The 97.5% quantile of the standard normal distribution."""


def mean_with_interval(values: Sequence[float]) -> tuple[float, tuple[float, float]]:
    """Return the mean over problems and its 95% bootstrap interval (fixed seed)."""
    data = np.asarray(values, dtype=np.float64)
    rng = np.random.default_rng(seed_from("bootstrap", len(values)))
    means = rng.choice(data, size=(_NUM_RESAMPLES, len(data))).mean(axis=1)
    low, high = np.percentile(means, (2.5, 97.5))
    return float(data.mean()), (float(low), float(high))


def share_with_interval(values: Sequence[float]) -> tuple[float, tuple[float, float]]:
    """Return the mean of shares of 0 to 1, one for each problem, and its 95% interval.

    The bootstrap's; Wilson's where all are alike, as drawing from equals again knows no doubt: 0 of 5
    right answers are no proof that there never will be one.
    """
    mean, interval = mean_with_interval(values)
    return mean, wilson_interval(mean, len(values)) if min(values) == max(values) else interval


def ratio_with_interval(parts: Sequence[float], wholes: Sequence[float]) -> tuple[float, tuple[float, float]]:
    """Return sum(parts) / sum(wholes), of one part and one whole for each problem, and its 95% interval.

    As shares are, but problems of larger wholes weigh more; each whole is above 0.
    """
    part, whole = (np.asarray(values, dtype=np.float64) for values in (parts, wholes))
    ratio = float(part.sum() / whole.sum())
    if float(np.ptp(part / whole)) == 0:
        return ratio, wilson_interval(ratio, len(parts))
    return ratio, interval_of(len(parts), lambda drawn: float(part[drawn].sum() / whole[drawn].sum()))


def interval_of(count: int, figure: Callable[[NDArray[np.int64]], float]) -> tuple[float, float]:
    """Return the 95% bootstrap interval of any figure of `count` problems (fixed seed).

    `figure` is given which problems were drawn, some of them several times.
    """
    rng = np.random.default_rng(seed_from("bootstrap", count))
    figures = [figure(rng.integers(count, size=count)) for _ in range(_NUM_RESAMPLES)]
    low, high = np.percentile(figures, (2.5, 97.5))
    return float(low), float(high)


def wilson_interval(mean: float, count: int) -> tuple[float, float]:
    """Return Wilson's 95% score interval of a share (Wilson 1927).

    (p + z^2/2n -+ z sqrt(p (1 - p)/n + z^2/4n^2)) / (1 + z^2/n). For the mean of shares, as pass@1 of
    several samples per problem is, it is wider than need be: their variance is at most p (1 - p).
    Raises ValueError for a count of 0.
    """
    if count < 1:
        raise ValueError("an interval needs at least one problem")
    centre = mean + _Z**2 / (2 * count)
    half = _Z * sqrt(mean * (1 - mean) / count + _Z**2 / (4 * count**2))
    scale = 1 + _Z**2 / count
    low, high = (centre - half) / scale, (centre + half) / scale
    return (0.0 if mean == 0 else low), (1.0 if mean == 1 else high)


def pass_at_k(num_samples: int, num_right: int, k: int) -> float:
    """Return the unbiased pass@k = 1 - C(n - c, k) / C(n, k) of one problem (Chen et al. 2021).

    Raises ValueError when k exceeds the number of samples.
    """
    if k > num_samples:
        raise ValueError(f"pass@{k} needs at least {k} samples, not {num_samples}")
    return 1 - comb(num_samples - num_right, k) / comb(num_samples, k)
