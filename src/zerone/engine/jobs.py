"""What a request asks of the scheduler, and what comes back piece by piece.

In: a prompt as tokens and how it is to be answered. Out: `Delta`s, one stream of them per answer,
each ending with one that says why. Nothing here knows HTTP or tensors.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from zerone.types import Finish


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoding:
    """How the answers of a job are drawn.

    `stop` is cut off from an answer; `trained_stop` ended the answers of training, was part of their
    text there, and is here. `num_top` is None where no log-probabilities are wanted, else how many of
    the likeliest tokens are told beside each. `thinking_budget` is how many tokens a thought may take
    before it is closed by force.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    max_tokens: int = 400
    stop: tuple[str, ...] = ()
    trained_stop: tuple[str, ...] = ()
    seed: int = 0
    num_top: int | None = None
    thinking_budget: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """How a completion is taken apart; without one it is plain text.

    `closed` is whether the prompt has ended the reasoning, so that all that comes is the final answer;
    `goes_on` whether it ends inside a part, to which white space that comes first then belongs.
    `is_reasoner` is whether the model is asked to reason in tags.
    """

    opens_in_thought: bool
    strips_answer: bool
    closed: bool = False
    goes_on: bool = False
    is_reasoner: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLogprob:
    """A token with its natural log-probability at temperature 1, and the likeliest beside it."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """The next piece of one answer; `finish` is there on the last one only.

    That one also says which stop string was cut off, if any, and whether the answer ends inside its thought.
    """

    index: int
    reasoning: str = ""
    content: str = ""
    num_tokens: int = 0
    num_reasoning_tokens: int = 0
    logprobs: tuple[TokenLogprob, ...] = ()
    finish: Finish | None = None
    stop: str | None = None
    ends_in_thought: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """The engine could not answer a job; what it said so far is worth nothing.

    `is_lasting` is whether it would fail again: the fault is the model's.
    """

    message: str
    is_lasting: bool = False


@dataclass(slots=True, kw_only=True, eq=False)
class Job:
    """One prompt to be answered `num_samples` times; `sink` takes what comes of it, in order."""

    prompt_ids: tuple[int, ...]
    num_samples: int
    decoding: Decoding
    split: Split | None
    sink: Callable[[Delta | Failure], None]
    _cancelled: threading.Event = field(default_factory=threading.Event)

    def cancel(self) -> None:
        """Stop the work; what is under way is thrown away."""
        self._cancelled.set()

    @property
    def is_cancelled(self) -> bool:
        """Whether nobody waits for the answers any more."""
        return self._cancelled.is_set()


class QueueFull(Exception):
    """There is no place for a job now."""


Deliver = Callable[[Sequence[tuple[Job, Delta | Failure]]], None]
"""What takes the deltas of several jobs, in order."""


def sink_all(deltas: Sequence[tuple[Job, Delta | Failure]]) -> None:
    """Give each job what is its own."""
    for job, delta in deltas:
        job.sink(delta)
