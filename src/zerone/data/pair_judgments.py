"""Several verdicts on a pair in both positions, and whether the judge looks at the position.

In: a judge, which compares two responses shown one after the other, or its verdicts from a file.
Out: the mean preference of a pair; and over many pairs how often the response shown first wins. A
judge that prefers a position says so when the two are swapped, whatever the responses are.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from zerone.intervals import share_with_interval

Judge = Callable[[str, str, str, int], float]
"""(prompt, first, second, number of the judgment) -> how much better the first is; 0 is a tie.

Below 0 the second is better. The number is for what a judge draws: the same pair in the same order is
judged anew, not repeated.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgment:
    """One verdict: which response was shown first, and how much better that one was found."""

    first: Literal["a", "b"]
    score: float

    @property
    def of_a(self) -> float:
        """How much better `a` was found."""
        return self.score if self.first == "a" else -self.score


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedPair:
    """Two responses to a prompt, and what a judge said about them; its name where a file tells it."""

    prompt: str
    a: str
    b: str
    judgments: tuple[Judgment, ...]
    judge: str | None = None

    @property
    def preference(self) -> float:
        """How much better `a` is: the mean of both positions, each with equal weight."""
        return fmean(self._means().values())

    @property
    def is_judged_in_both(self) -> bool:
        """Whether either response was shown first; else the position may have decided."""
        return len(self._means()) == 2

    @property
    def is_consistent(self) -> bool:
        """Whether the same response wins in both positions."""
        signs = {(mean > 0) - (mean < 0) for mean in self._means().values()}
        return self.is_judged_in_both and len(signs) == 1 and signs != {0}

    def _means(self) -> dict[str, float]:
        """Return how much better `a` was found, by which response was shown first."""
        return {
            first: fmean(found)
            for first in ("a", "b")
            if (found := [judgment.of_a for judgment in self.judgments if judgment.first == first])
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class PositionBias:
    """How much a judge goes by position.

    `first_wins` is the share of decided verdicts for the response shown first, over pairs that were
    judged in both positions, with its 95% interval: 0.5 for a judge that ignores the position.
    `consistent` is the share of those pairs whose winner stays when they are swapped.
    """

    num_pairs: int
    first_wins: float
    first_wins_ci: tuple[float, float]
    consistent: float

    @property
    def is_biased(self) -> bool:
        """Whether the interval leaves out one half."""
        low, high = self.first_wins_ci
        return not low <= 0.5 <= high


def judge_pair(judge: Judge, prompt: str, a: str, b: str, num_judgments: int = 4) -> JudgedPair:
    """Ask a judge several times, in turns with each response first (paper: four times)."""
    judgments = []
    for number in range(num_judgments):
        if number % 2 == 0:
            judgments.append(Judgment(first="a", score=judge(prompt, a, b, number)))
        else:
            judgments.append(Judgment(first="b", score=judge(prompt, b, a, number)))
    return JudgedPair(prompt=prompt, a=a, b=b, judgments=tuple(judgments))


def position_bias(pairs: Sequence[JudgedPair]) -> PositionBias | None:
    """Return how much a judge goes by position, or None where no pair was judged in both."""
    swapped = [pair for pair in pairs if pair.is_judged_in_both]
    shares = [share for pair in swapped if (share := _first_wins(pair)) is not None]
    if not shares:
        return None
    mean, interval = share_with_interval(shares)
    return PositionBias(
        num_pairs=len(swapped),
        first_wins=mean,
        first_wins_ci=interval,
        consistent=fmean(float(pair.is_consistent) for pair in swapped),
    )


def _first_wins(pair: JudgedPair) -> float | None:
    """Return the share of verdicts for the response shown first, each position with equal weight."""
    shares = []
    for first in ("a", "b"):
        found = [judgment.score for judgment in pair.judgments if judgment.first == first]
        shares.append(fmean(1.0 if score > 0 else 0.5 if score == 0 else 0.0 for score in found))
    return None if all(judgment.score == 0 for judgment in pair.judgments) else fmean(shares)
