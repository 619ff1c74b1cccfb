"""Credit within the group: rewards become advantages, before any shuffle (R1 paper, eq. 3).

In: groups of graded rollouts. Out: the same with one advantage per member. A member whose
verifier failed takes no part: its advantage is 0 and the others are compared without it.
"""

from collections.abc import Sequence
from itertools import chain
from statistics import fmean, pstdev
from typing import Literal

from zerone.types import Credited, Group

Scale = Literal["group", "none", "batch"]
Baseline = Literal["mean", "leave_one_out"]

_SMALLEST_DEVIATION = 1e-6
"""Below this, rewards are equal: what is left is rounding, and dividing by it would blow it up."""


def _centred(group: Group) -> list[float]:
    """Return reward minus the group's mean for each member, 0 where a verifier failed."""
    rewards = [graded.reward for graded in group.members if graded.is_judged]
    mean = fmean(rewards) if rewards else 0.0
    centred = [graded.reward - mean if graded.is_judged else 0.0 for graded in group.members]
    return centred if max(map(abs, centred)) > _SMALLEST_DEVIATION else [0.0] * len(centred)


def _against_the_others(centred: list[float], group: Group) -> list[float]:
    """Return r_i minus the mean of the other rewards: G / (G - 1) times what is left of the group's mean.

    RLOO, 2402.14740 eq. 6; G counts the members whose verifier gave a verdict.
    """
    number = sum(graded.is_judged for graded in group.members)
    return [value * number / (number - 1) for value in centred] if number > 1 else centred


def _deviation(centred: Sequence[float], is_counted: Sequence[bool]) -> float:
    counted = [value for value, counts in zip(centred, is_counted, strict=True) if counts]
    return pstdev(counted, 0.0) if counted else 0.0


def credit(groups: Sequence[Group], scale: Scale, baseline: Baseline = "mean") -> list[Credited]:
    """Return the groups with advantages.

    `group`: A_i = (r_i - mean r) / std r over the group, the population's deviation (no epsilon
    and no Bessel correction is printed in the paper). `none`: A_i = r_i - mean r (Dr. GRPO).
    `batch`: centred within the group, divided by the standard deviation over all groups (REINFORCE++).
    With the baseline `leave_one_out` the mean is that of the other members.
    """
    centred = [_centred(group) for group in groups]
    if baseline == "leave_one_out":
        centred = [_against_the_others(values, group) for values, group in zip(centred, groups, strict=True)]
    counted = [[graded.is_judged for graded in group.members] for group in groups]
    if scale == "batch":
        whole = _deviation([*chain(*centred)], [*chain(*counted)])
        divisors = [whole] * len(groups)
    elif scale == "group":
        divisors = [_deviation(values, flags) for values, flags in zip(centred, counted, strict=True)]
    else:
        divisors = [1.0] * len(groups)
    return [
        Credited(
            group=group,
            advantages=tuple(value / divisor if divisor > 0 else 0.0 for value in values),
        )
        for group, values, divisor in zip(groups, centred, divisors, strict=True)
    ]
