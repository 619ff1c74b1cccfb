"""Confidence intervals and estimators of evaluation.

In: per-problem figures. Out: 95% intervals (percentile bootstrap over problems, the unit that was
drawn at random) and the unbiased pass@k.
"""

from collections.abc import Sequence
from math import comb

import numpy as np

from zerone.seeding import seed_from

_NUM_RESAMPLES = 2000


def mean_with_interval(values: Sequence[float]) -> tuple[float, tuple[float, float]]:
    """Return the mean over problems and its 95% bootstrap interval (fixed seed)."""
    data = np.asarray(values, dtype=np.float64)
    rng = np.random.default_rng(seed_from("bootstrap", len(values)))
    means = rng.choice(data, size=(_NUM_RESAMPLES, len(data))).mean(axis=1)
    low, high = np.percentile(means, (2.5, 97.5))
    return float(data.mean()), (float(low), float(high))


def pass_at_k(num_samples: int, num_right: int, k: int) -> float:
    """Return the unbiased pass@k = 1 - C(n - c, k) / C(n, k) of one problem (Chen et al. 2021).

    Raises ValueError when k exceeds the number of samples.
    """
    if k > num_samples:
        raise ValueError(f"pass@{k} needs at least {k} samples, not {num_samples}")
    return 1 - comb(num_samples - num_right, k) / comb(num_samples, k)
