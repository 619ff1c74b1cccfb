"""Requests whose text is streamed, as a server makes them."""

from collections.abc import Callable, Sequence
from typing import Any

from zerone.engine.api import Event, Request, SamplingParams, Split, seeds_of
from zerone.engine.scheduler import Scheduler
from zerone.engine.torch.admission import Arrivals
from zerone.engine.torch.engine import TorchEngine


def streamed(
    prompt_ids: tuple[int, ...],
    sink: Callable[[Any], None],
    num_samples: int = 1,
    *,
    seed: int = 0,
    split: Split | None = None,
    **sampling: Any,
) -> Request:
    """Return a request with a seed for each completion; the events go to `sink`."""

    def take(event: Event) -> None:
        sink(event)

    return Request(
        prompt_ids=prompt_ids,
        seeds=seeds_of(seed, num_samples),
        sampling=SamplingParams(**sampling),
        streams=True,
        split=split,
        sink=take,
    )


def scheduler_over(
    decoder: Any, tokenizer: Any, end_ids: Sequence[int], *, max_waiting: int, max_rows: int, **limits: int
) -> Scheduler:
    """Return a scheduler, not started yet, whose engine takes requests as they arrive."""
    engine = TorchEngine(
        tokenizer, end_ids, limits["context"], max_rows, decoder.dtype, kv_bytes=limits["kv_bytes"]
    )
    engine.use(decoder, 0)
    return Scheduler(engine, max_rows + max_waiting)


def admission_of(scheduler: Scheduler) -> Arrivals:
    """Return the rows of a scheduler's torch engine."""
    assert isinstance(scheduler.engine, TorchEngine)
    admission = scheduler.engine._admission
    assert isinstance(admission, Arrivals)
    return admission
