"""What a rollout engine is: prompts and seeds in, rollouts out.

The loop knows this Protocol only. The engine in torch_engine.py runs in the trainer's process;
others can stand in its place.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from zerone.engine.weights import WeightSource
from zerone.types import Problem, Rollout


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How tokens are drawn. `temperature` 0 is greedy; `top_k` 0 and `top_p` 1 are off.

    A completion ends with an end token, after `max_tokens`, or with one of the `stop` strings,
    which stays part of the text.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    max_tokens: int = 400
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A prompt and one seed per wanted answer: all of a group's answers share the prompt's work."""

    problem: Problem
    prompt_ids: tuple[int, ...]
    seeds: tuple[int, ...]


class Engine(Protocol):
    """Samples answers from the weights it was last given."""

    weight_version: int

    def update_weights(self, source: WeightSource, version: int) -> None:
        """Sample from these weights from now on; the one arrow that points back."""
        ...

    def sleep(self) -> None:
        """Give up the weights and their memory until the next `update_weights`."""
        ...

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Rollout]]:
        """Return the rollouts of each request in the order of its seeds."""
        ...
