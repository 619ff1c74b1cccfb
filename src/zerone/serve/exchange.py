"""One request under way: requests handed to the scheduler, and their deltas as they arrive in the event loop.

Whatever happens - all answered, client gone, engine failed - `close` gives the scheduler its rows
back and counts the tokens.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from zerone.engine.api import (
    Completion,
    Deliver,
    Delta,
    Event,
    Failure,
    QueueFull,
    Request,
    SamplingParams,
    Split,
    Told,
    seeds_of,
    sink_all,
)
from zerone.serve.models import Served
from zerone.serve.refusals import Refusal, broken, overloaded, too_long, unavailable
from zerone.serve.telemetry import Telemetry, Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a request wants of a model: prompts, each answered `num_samples` times."""

    model: Served
    prompts: Sequence[tuple[int, ...]]
    num_samples: int
    sampling: SamplingParams
    seed: int
    split: Split | None
    key: str

    @property
    def num_choices(self) -> int:
        """Answers to all prompts."""
        return len(self.prompts) * self.num_samples


def room_for(model: Served, prompts: Sequence[tuple[int, ...]], wanted: int | None) -> int:
    """Return how many tokens an answer may have; raises Refusal where the context is too small."""
    longest = max(map(len, prompts))
    if longest + (wanted or 1) > model.context:
        raise too_long(longest, wanted, model.context)
    return wanted or model.context - longest


class Exchange:
    """The answers to one request; created in the event loop."""

    def __init__(self, asked: Asked, telemetry: Telemetry) -> None:
        self.asked = asked
        self.usage = Usage(num_prompt=sum(map(len, asked.prompts)))
        self._telemetry = telemetry
        self._started = time.monotonic()
        self._has_text = False
        self._is_closed = False
        self._arrived: list[tuple[int, Event]] = []
        self._signal = asyncio.Event()
        self._requests = [
            Request(
                prompt_ids=prompt,
                seeds=seeds_of(asked.seed, asked.num_samples),
                sampling=asked.sampling,
                streams=True,
                split=asked.split,
                sink=self._sink(number * asked.num_samples),
            )
            for number, prompt in enumerate(asked.prompts)
        ]
        scheduler = asked.model.scheduler
        if not scheduler.is_alive:
            raise unavailable(scheduler.fault or "the engine has stopped")
        if asked.num_choices > scheduler.capacity:
            raise Refusal(
                400, f"this server takes {scheduler.capacity} completions at once; lower n", param="n"
            )
        try:
            scheduler.submit(self._requests)
        except QueueFull as error:
            raise overloaded() from error

    def _sink(self, first_choice: int) -> Callable[[Event], None]:
        def take(delta: Event) -> None:
            self._arrived.append((first_choice, delta))
            self._signal.set()

        return take

    async def pieces(self) -> AsyncIterator[list[tuple[int, Delta]]]:
        """Yield (choice, delta) pairs, all that have arrived at once, until every answer has ended."""
        missing = self.asked.num_choices
        while missing:
            await self._signal.wait()
            self._signal.clear()
            arrived, self._arrived = self._arrived, []
            pieces = [self._counted(first, delta) for first, delta in arrived]
            missing -= sum(delta.finish is not None for _, delta in pieces)
            if pieces:
                yield pieces

    def _counted(self, first: int, delta: Event) -> tuple[int, Delta]:
        if isinstance(delta, Failure):
            raise broken(delta.message) if delta.is_lasting else unavailable(delta.message)
        if isinstance(delta, Completion):
            raise AssertionError("a request that streams gets its text in pieces")
        if not self._has_text:
            self._has_text = True
            self._telemetry.time_first_token(self.asked.model.name, time.monotonic() - self._started)
        self.usage.num_completion += delta.num_tokens
        self.usage.num_reasoning += delta.num_reasoning_tokens
        return first + delta.index, delta

    def close(self) -> None:
        """Stop what is still under way and charge for what was written."""
        if not self._is_closed:
            self._is_closed = True
            self.asked.model.scheduler.cancel(self._requests)
            self._telemetry.charge(self.asked.model.name, self.asked.key, self.usage)


def deliver_in(loop: asyncio.AbstractEventLoop) -> Deliver:
    """Return how a scheduler's thread hands deltas to an event loop: one wake-up for all."""

    def deliver(told: Told) -> None:
        loop.call_soon_threadsafe(sink_all, told)

    return deliver
