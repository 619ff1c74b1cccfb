"""The one seam between who wants completions and what samples them.

In: `Request`s, each a prompt as tokens, the sampling parameters and one seed per wanted completion.
Out: events. A `Completion` is whole, with its tokens and their log-probabilities; a request that
`streams` gets its text in `Delta`s instead; a `Failure` ends all of a request. Rollouts, evaluation and
the HTTP server use this protocol alone. Its owners: the torch engine in this process
(torch/engine.py), one in a child process (child.py), vLLM (vllm_engine.py) and the rollouts of a
recorded run (jobs/replay.py).
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Protocol

from zerone.engine.weights import WeightSource
from zerone.errors import EngineError, ModelError
from zerone.seeding import seed_from
from zerone.types import Finish, Problem, Rollout


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How tokens are drawn. `temperature` 0 is greedy; `top_k` 0 and `top_p` 1 are off.

    A completion ends with an end token, after `max_tokens`, or with one of the `stop` strings, which
    stays part of the text; a `cut_stop` string ends it too and is cut off, where text is streamed.
    `num_top` is None where a stream tells no log-probabilities, else how many of the likeliest tokens are
    told beside each. `reasoning_budget` is how many tokens the reasoning may take before it is closed
    by force.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    max_tokens: int = 400
    stop: tuple[str, ...] = ()
    cut_stop: tuple[str, ...] = ()
    num_top: int | None = None
    reasoning_budget: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """How a completion is split into reasoning and final answer; without one it is plain text.

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
    """The next piece of a streamed completion; `finish` is set on the last one only.

    That one also says which stop string was cut off, if any, and whether the text ends inside its reasoning.
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
class Completion:
    """A whole completion: `token_ids` and `logprobs` have equal length and include the end token.

    `logprobs` are natural logarithms under the distribution that was sampled from; `text` is without
    the end token. `weight_version` and `weight_hash` say which weights sampled it; the hash is empty
    where the engine reads the trainer's weights in place.
    """

    index: int
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    text: str
    finish: Finish
    weight_version: int
    weight_hash: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """The engine could not complete a request; what it told of it so far is worth nothing.

    `is_lasting` is whether it would fail again: the fault is the model's.
    """

    message: str
    is_lasting: bool = False


Event = Delta | Completion | Failure


def _ignore(_: Event) -> None:
    """Drop an event that its receiver reads from `events`."""


@dataclass(slots=True, kw_only=True, eq=False)
class Request:
    """A prompt and one seed per wanted completion; all of them share the prompt's computation.

    The prompt is any sequence of tokens: the turns of a conversation so far, say. `problem` is what a
    rollout is of. `sink` takes the events of a request that a server or a terminal made.
    """

    prompt_ids: tuple[int, ...]
    seeds: tuple[int, ...]
    sampling: SamplingParams = field(default_factory=SamplingParams)
    problem: Problem | None = None
    streams: bool = False
    split: Split | None = None
    sink: Callable[[Event], None] = _ignore
    begun: set[int] = field(default_factory=set, init=False)
    """Completions of which a piece was handed on."""
    _cancelled: threading.Event = field(default_factory=threading.Event, init=False)

    @property
    def num_samples(self) -> int:
        """Completions that are wanted."""
        return len(self.seeds)

    def cancel(self) -> None:
        """Stop the work; what is under way is thrown away."""
        self._cancelled.set()

    @property
    def is_cancelled(self) -> bool:
        """Whether nobody waits for the completions any more."""
        return self._cancelled.is_set()


def seeds_of(seed: int, num_samples: int) -> tuple[int, ...]:
    """Return a seed for each completion of a request that came with one seed."""
    return tuple(seed_from("serve", seed, index) for index in range(num_samples))


class QueueFull(Exception):
    """The queue has no room for a request now."""


Told = Sequence[tuple[Request, Event]]
Deliver = Callable[[Told], None]
"""What takes the events of several requests, in order."""


def sink_all(told: Told) -> None:
    """Give each request its events."""
    for request, event in told:
        request.sink(event)


class Engine(Protocol):
    """Samples completions from the weights it was last given; used by one thread, except `cancel`."""

    @property
    def weight_version(self) -> int:
        """The version of the weights that it samples from; -1 without any."""
        ...

    @property
    def weight_hash(self) -> str:
        """Their hash, empty where they are read in place."""
        ...

    def update_weights(self, source: WeightSource, version: int) -> None:
        """Sample from these weights from now on; the one arrow that points back.

        Raises EngineError where they did not land, or where this engine takes none.
        """
        ...

    def submit(self, requests: Sequence[Request]) -> None:
        """Accept requests."""
        ...

    def cancel(self, requests: Sequence[Request]) -> None:
        """Stop the work on these requests; no event of theirs need come any more."""
        ...

    @property
    def is_busy(self) -> bool:
        """Whether events are still to come."""
        ...

    def events(self) -> list[tuple[Request, Event]]:
        """Do or await the next piece of work and return what came of it, which may be nothing."""
        ...

    def sleep(self) -> None:
        """Give up the weights and their memory until the next `update_weights`."""
        ...

    def close(self) -> None:
        """End what belongs to it: weights, a process, connections."""
        ...

    def generate(self, requests: Sequence[Request], sampling: SamplingParams) -> list[list[Rollout]]:
        """Return the rollouts of each request in the order of its seeds: `generate_with` this engine."""
        ...


def check_context(requests: Sequence[Request], context: int) -> None:
    """Raise ModelError where a prompt and `max_tokens` do not fit into a model's context."""
    for request in requests:
        length, max_tokens = len(request.prompt_ids), request.sampling.max_tokens
        if length + max_tokens > context:
            where = "" if request.problem is None else f" (problem {request.problem.id})"
            raise ModelError(
                f"a prompt of {length} tokens and sampling.max_tokens={max_tokens} exceed the model's "
                f"context of {context} tokens{where}; lower sampling.max_tokens or leave it out"
            )


def generate_with(
    engine: Engine, requests: Sequence[Request], sampling: SamplingParams
) -> list[list[Rollout]]:
    """Return the rollouts of requests that are of problems; see `complete_with`."""
    found = complete_with(engine, requests, sampling)
    return [
        [rollout_of(request, completion) for completion in own]
        for request, own in zip(requests, found, strict=True)
    ]


def complete_with(
    engine: Engine, requests: Sequence[Request], sampling: SamplingParams
) -> list[list[Completion]]:
    """Submit requests to an engine and wait for all of their completions, in the order of the seeds.

    Raises ModelError or EngineError where one fails, or was sampled from other weights than the engine's.
    """
    asked = [replace(request, sampling=sampling, streams=False) for request in requests]
    places = {request: place for place, request in enumerate(asked)}
    found: list[dict[int, Completion]] = [{} for _ in asked]
    missing = sum(request.num_samples for request in asked)
    with _cancelled_unless_done(engine, asked):
        engine.submit(asked)
        while missing:
            if not engine.is_busy:
                raise EngineError(f"the engine has ended its work, and {missing} completions are missing")
            for request, event in engine.events():
                if request not in places:  # of an earlier call that was stopped
                    continue
                completion = _whole(event, engine)
                found[places[request]][completion.index] = completion
                missing -= 1
    return [[own[index] for index in range(len(own))] for own in found]


@contextmanager
def _cancelled_unless_done(engine: Engine, requests: Sequence[Request]) -> Iterator[None]:
    is_done = False
    try:
        yield
        is_done = True
    finally:
        if not is_done:
            engine.cancel(requests)


def _whole(event: Event, engine: Engine) -> Completion:
    if isinstance(event, Failure):
        if event.is_lasting:
            raise ModelError(event.message)
        raise EngineError(f"the engine failed: {event.message}; the run can be resumed")
    if isinstance(event, Delta):
        raise AssertionError("a request that does not stream gets whole completions")
    given = engine.weight_version, engine.weight_hash
    if (event.weight_version, event.weight_hash) != given:
        raise EngineError(
            f"a completion was sampled from weights of version {event.weight_version} "
            f"({event.weight_hash[:12] or 'no hash'}), and the engine was given version {given[0]} "
            f"({given[1][:12] or 'no hash'}): the weights did not arrive; resume the run"
        )
    return event


def rollout_of(request: Request, completion: Completion) -> Rollout:
    """Return a completion as the rollout of its request's problem."""
    assert request.problem is not None
    return Rollout(
        problem=request.problem,
        sample=completion.index,
        prompt_ids=request.prompt_ids,
        completion_ids=completion.token_ids,
        sampler_logprobs=completion.logprobs,
        text=completion.text,
        finish=completion.finish,
        weight_version=completion.weight_version,
    )
