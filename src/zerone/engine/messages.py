"""What an engine in a process of its own and its server say to each other: one JSON object a line.

To the engine: an `EngineSpec`, then jobs and cancellations. From it: that it is ready or why not, then
what comes of the jobs. Strings and numbers arrive as they were sent, lone surrogates and NaN included.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from zerone.engine.jobs import Decoding, Delta, Failure, Job, Split, TokenLogprob
from zerone.types import Finish

Json = dict[str, Any]


def line_of(message: Json) -> bytes:
    """Return a message as the line that carries it."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def job_message(number: int, job: Job) -> Json:
    """Return a job under its number."""
    return {
        "number": number,
        "prompt_ids": job.prompt_ids,
        "num_samples": job.num_samples,
        "decoding": asdict(job.decoding),
        "split": None if job.split is None else asdict(job.split),
    }


def job_from(message: Json, sink: Callable[[Delta | Failure], None]) -> Job:
    """Return the job of a message."""
    decoding, split = message["decoding"], message["split"]
    for name in ("stop", "trained_stop"):
        decoding[name] = tuple(decoding[name])
    return Job(
        prompt_ids=tuple(message["prompt_ids"]),
        num_samples=message["num_samples"],
        decoding=Decoding(**decoding),
        split=None if split is None else Split(**split),
        sink=sink,
    )


def delta_message(delta: Delta) -> list[Any]:
    """Return a delta's fields in order: there are thousands a second."""
    return [
        delta.index,
        delta.reasoning,
        delta.content,
        delta.num_tokens,
        delta.num_reasoning_tokens,
        [(told.token, told.logprob, told.top) for told in delta.logprobs],
        None if delta.finish is None else delta.finish.value,
        delta.stop,
        delta.ends_in_thought,
    ]


def delta_from(message: Sequence[Any]) -> Delta:
    """Return the delta of a message."""
    index, reasoning, content, num_tokens, num_reasoning, logprobs, finish, stop, ends_in_thought = message
    return Delta(
        index=index,
        reasoning=reasoning,
        content=content,
        num_tokens=num_tokens,
        num_reasoning_tokens=num_reasoning,
        logprobs=tuple(
            TokenLogprob(token=token, logprob=logprob, top=tuple((each[0], each[1]) for each in top))
            for token, logprob, top in logprobs
        ),
        finish=None if finish is None else Finish(finish),
        stop=stop,
        ends_in_thought=ends_in_thought,
    )
