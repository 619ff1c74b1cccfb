"""The engines of several ranks as one: prompts are dealt over them, and a group stays together.

Each rank has an engine of its own and the weights are gathered by all at once. Which completion a prompt
gets depends on its seeds alone, not on the engine that samples it.
"""

from collections.abc import Sequence
from dataclasses import asdict

import torch

from zerone.engine.api import (
    Completion,
    Engine,
    Event,
    Request,
    SamplingParams,
    complete_with,
    rollout_of,
)
from zerone.engine.weights import WeightSource
from zerone.errors import EngineError
from zerone.processes.orders import Message, Orders
from zerone.processes.ranks import deal
from zerone.types import Finish, Rollout


def completed(engine: Engine, message: Message) -> Message:
    """Sample the requests of a message; what each rank does for `RankedEngine.generate`."""
    sampling = dict(message.values["sampling"])
    for name in ("stop", "cut_stop"):
        sampling[name] = tuple(sampling[name])
    requests = [
        Request(prompt_ids=tuple(prompt), seeds=tuple(seeds)) for prompt, seeds in message.values["requests"]
    ]
    return completions_message(complete_with(engine, requests, SamplingParams(**sampling)))


def completions_message(found: Sequence[Sequence[Completion]]) -> Message:
    """Return the completions of several requests as a message."""
    every = [completion for own in found for completion in own]
    told = [
        [
            [one.index, len(one.token_ids), one.text, one.finish.value, one.weight_version, one.weight_hash]
            for one in own
        ]
        for own in found
    ]
    tokens = torch.tensor([token for one in every for token in one.token_ids], dtype=torch.long)
    logprobs = torch.tensor([value for one in every for value in one.logprobs], dtype=torch.float64)
    return Message({"completions": told}, {"tokens": tokens, "logprobs": logprobs})


def completions_in(message: Message) -> list[list[Completion]]:
    """Return the completions of a message."""
    tokens, logprobs = (message.tensors[name].tolist() for name in ("tokens", "logprobs"))
    found, place = [], 0
    for told in message.values["completions"]:
        own = []
        for index, length, text, finish, version, weight_hash in told:
            own.append(
                Completion(
                    index=index,
                    token_ids=tuple(tokens[place : place + length]),
                    logprobs=tuple(logprobs[place : place + length]),
                    text=text,
                    finish=Finish(finish),
                    weight_version=version,
                    weight_hash=weight_hash,
                )
            )
            place += length
        found.append(own)
    return found


class RankedEngine:
    """The engines of all ranks as one: each samples its share of the prompts; an `Engine`.

    What is submitted piece by piece is rank 0's own engine's.
    """

    def __init__(self, orders: Orders, own: Engine) -> None:
        self._orders = orders
        self._own = own

    @property
    def weight_version(self) -> int:
        """The version of the weights that it samples from; -1 without any."""
        return self._own.weight_version

    @property
    def weight_hash(self) -> str:
        """Their hash, empty where they are not copied."""
        return self._own.weight_hash

    def update_weights(self, source: WeightSource, version: int) -> None:
        """Give all engines the weights that the ranks train, gathered once, whatever `source` rank 0 has.

        Raises EngineError where one holds others.
        """
        replies = self._orders("update", Message({"version": version}))
        for rank, reply in enumerate(replies):
            if reply.values["hash"] != replies[0].values["hash"]:
                raise EngineError(f"the engine of rank {rank} holds other weights; the run is resumable")

    def submit(self, requests: Sequence[Request]) -> None:
        """Accept requests."""
        self._own.submit(requests)

    def cancel(self, requests: Sequence[Request]) -> None:
        """Stop the work on these requests."""
        self._own.cancel(requests)

    @property
    def is_busy(self) -> bool:
        """Whether events are still to come."""
        return self._own.is_busy

    def events(self) -> list[tuple[Request, Event]]:
        """Do the next piece of work."""
        return self._own.events()

    def sleep(self) -> None:
        """Have all engines give up the weights until the next `update_weights`."""
        self._orders("sleep")

    def close(self) -> None:
        """End rank 0's engine; the others end with their ranks."""
        self._own.close()

    def generate(self, requests: Sequence[Request], sampling: SamplingParams) -> list[list[Rollout]]:
        """Return the rollouts of each request in the order of its seeds.

        Dealt by the tokens that a request takes at most: a share is a function of the requests alone, so a
        resumed run shares out, and rounds, as the run before.
        """
        work = [request.num_samples * (len(request.prompt_ids) + sampling.max_tokens) for request in requests]
        shares = deal(work, self._orders.ranks.size)
        messages = [
            Message(
                {
                    "sampling": asdict(sampling),
                    "requests": [[requests[i].prompt_ids, requests[i].seeds] for i in share],
                }
            )
            for share in shares
        ]
        found: dict[int, list[Rollout]] = {}
        for share, reply in zip(shares, self._orders("generate", messages), strict=True):
            for index, own in zip(share, completions_in(reply), strict=True):
                found[index] = [rollout_of(requests[index], completion) for completion in own]
        return [found[index] for index in range(len(requests))]
