"""How good a reward model is on examples it has not seen: right, honest about doubt, blind to length.

In: a model and held-out examples. Out: accuracy with its 95% interval, calibration (expected
calibration error with its bins), and what length alone does to the score.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean, pstdev
from typing import Any

from zerone.data.preferences import Pair, SafetyExample, final_answer
from zerone.intervals import share_with_interval
from zerone.reward_model.scorer import RewardModel

NUM_BINS = 10

BIASED_GAP = 0.1
"""Accuracy may differ by this much between pairs whose better response is longer and shorter."""


def measure_pairs(model: RewardModel, pairs: Sequence[Pair]) -> dict[str, Any]:
    """Return the figures of a helpfulness model."""
    asked = [(pair.prompt, text) for pair in pairs for text in (pair.chosen, pair.rejected)]
    scores = model.scores(asked)
    chosen, rejected = scores[::2], scores[1::2]
    is_right = [float(better > worse) for better, worse in zip(chosen, rejected, strict=True)]
    # Either order of a pair is the same question, so the model's confidence is that in its winner.
    sure = [_sigmoid(abs(better - worse)) for better, worse in zip(chosen, rejected, strict=True)]
    accuracy, interval = share_with_interval(is_right)
    return {
        "kind": "helpfulness",
        "num_pairs": len(pairs),
        "accuracy": accuracy,
        "accuracy_ci": list(interval),
        "loss": fmean(_softplus(worse - better) for better, worse in zip(chosen, rejected, strict=True)),
        **calibration(sure, is_right, lowest=0.5),
        "length": length_report(pairs, is_right, asked, scores),
    }


def measure_safety(model: RewardModel, examples: Sequence[SafetyExample]) -> dict[str, Any]:
    """Return the figures of a safety model; an example that is unsafe and passes is the worse error."""
    asked = [(example.prompt, example.response) for example in examples]
    scores = model.scores(asked)
    safe = [example.is_safe for example in examples]
    is_right = [float((score > 0) == wanted) for score, wanted in zip(scores, safe, strict=True)]
    accuracy, interval = share_with_interval(is_right)
    losses = [_softplus(-score if wanted else score) for score, wanted in zip(scores, safe, strict=True)]
    lengths = [float(len(example.response)) for example in examples]
    return {
        "kind": "safety",
        "num_examples": len(examples),
        "accuracy": accuracy,
        "accuracy_ci": list(interval),
        "safe_passed": _mean([float(s > 0) for s, wanted in zip(scores, safe, strict=True) if wanted]),
        "unsafe_passed": _mean([float(s > 0) for s, wanted in zip(scores, safe, strict=True) if not wanted]),
        "loss": fmean(losses),
        **calibration([_sigmoid(score) for score in scores], [float(wanted) for wanted in safe]),
        "length": {"correlation": correlation(scores, lengths)},
    }


def calibration(
    probabilities: Sequence[float], outcomes: Sequence[float], lowest: float = 0.0
) -> dict[str, Any]:
    """Return the expected calibration error and its bins, equally wide from `lowest` to 1.

    The error is the mean over all examples of how far the outcomes of their bin are from what was said.
    """
    edges = [lowest + (1 - lowest) * i / NUM_BINS for i in range(NUM_BINS + 1)]
    bins, error = [], 0.0
    for low, high in pairwise(edges):
        inside = [
            (said, came)
            for said, came in zip(probabilities, outcomes, strict=True)
            if low <= said < high or (high == edges[-1] and said >= high)
        ]
        if inside:
            said, came = (fmean(values) for values in zip(*inside, strict=True))
            bins.append({"from": low, "to": high, "num": len(inside), "said": said, "came": came})
            error += abs(said - came) * len(inside) / len(probabilities)
    return {"ece": error, "bins": bins}


def length_report(
    pairs: Sequence[Pair],
    is_right: Sequence[float],
    asked: Sequence[tuple[str, str]],
    scores: Sequence[float],
) -> dict[str, Any]:
    """Return how scores go with length, and accuracy by whether the better response is the longer one.

    A model that likes length is right where the longer response is better, and wrong where it is worse.
    """
    lengths = [float(len(final_answer(text))) for _, text in asked]
    by_order = {
        sign: [right for pair, right in zip(pairs, is_right, strict=True) if pair.chosen_is_longer == sign]
        for sign in (1, -1)
    }
    longer, shorter = (_mean(by_order[sign]) for sign in (1, -1))
    gap = None if longer is None or shorter is None else longer - shorter
    of_longer = [
        float((scores[2 * i] > scores[2 * i + 1]) == (pair.chosen_is_longer > 0))
        for i, pair in enumerate(pairs)
        if pair.chosen_is_longer
    ]
    return {
        "correlation": correlation(scores, lengths),
        "prefers_longer": _mean(of_longer),
        "accuracy_better_is_longer": longer,
        "accuracy_better_is_shorter": shorter,
        "num_better_is_longer": len(by_order[1]),
        "num_better_is_shorter": len(by_order[-1]),
        "gap": gap,
        "is_biased": gap is not None
        and abs(gap) > BIASED_GAP
        and _is_beyond_chance(by_order[1], by_order[-1]),
    }


def _is_beyond_chance(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether two shares differ by more than chance does once in a hundred times (2.6 standard errors)."""
    pooled = fmean([*one, *other])
    error = math.sqrt(pooled * (1 - pooled) * (1 / len(one) + 1 / len(other)))
    return abs(fmean(one) - fmean(other)) > 2.6 * error


def correlation(xs: Sequence[float], ys: Sequence[float]) -> float | None:
    """Return Pearson's correlation, or None where one of the two does not vary."""
    spread = pstdev(xs) * pstdev(ys)
    if spread < 1e-12:
        return None
    mean_x, mean_y = fmean(xs), fmean(ys)
    return fmean((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / spread


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else 1 - 1 / (1 + math.exp(x))


def _softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))
