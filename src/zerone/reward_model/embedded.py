"""Preferences of the embedded world, made procedurally: what reward models learn from by default.

In: a kind, a number of rows, a seed. Out: rows as `read_preferences` takes them. Row i is a function of
(seed, i); requests come from the training side of the split, or from the evaluation side for a file to
measure on.
"""

from collections.abc import Iterator
from typing import Any

from zerone.data.preferences import Kind
from zerone.data.split import Split
from zerone.problems import requests
from zerone.problems.mixture import CHINESE_SHARE, draw_from_split
from zerone.rewards.request_pairs import preference_pairs, safety_examples
from zerone.seeding import rng_from


def embedded_rows(kind: Kind, count: int, seed: int, split: Split = "train") -> Iterator[dict[str, Any]]:
    """Yield `count` rows: pairs with their margin, or responses with whether they are safe."""
    index = num_rows = 0
    while num_rows < count:
        for row in _rows_of(kind, index, seed, split):
            if num_rows < count:
                num_rows += 1
                yield row
        index += 1


def _rows_of(kind: Kind, index: int, seed: int, split: Split) -> list[dict[str, Any]]:
    """Return the rows of one request; there may be none."""
    rng = rng_from(seed, "preferences", kind, split, index)
    language = "zh" if rng.random() < CHINESE_SHARE else "en"
    level = rng.choice(requests.LEVELS)
    problem = draw_from_split(rng, requests, level, language, split)
    if kind == "safety":
        return [
            {"prompt": problem.prompt, "response": example.response, "is_safe": example.is_safe}
            for example in safety_examples(rng, problem)
        ]
    return [
        {"prompt": problem.prompt, "chosen": pair.chosen, "rejected": pair.rejected, "margin": pair.margin}
        for pair in preference_pairs(rng, problem)
    ]
