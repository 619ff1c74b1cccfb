"""What the server needs of an engine, whether it is a thread here or a process of its own.

`Scheduler` (scheduler.py) is the engine itself; `EngineProcess` (engine_process.py) runs one elsewhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from zerone.engine.jobs import Deliver, Job
from zerone.engine.torch.scheduler import Scheduler
from zerone.model.decoder import Decoder
from zerone.model.loading import end_ids, load_model, width_of
from zerone.processes.machine import DTYPES, NARROW, keep_freed_memory, known_machine, precision_for

TORCH, VLLM = "torch", "vllm"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSpec:
    """The model of an engine, and what it may take of the machine."""

    directory: str
    context: int
    max_rows: int
    max_waiting: int
    kv_bytes: int
    kind: str = TORCH


class Engine(Protocol):
    """Answers jobs."""

    @property
    def capacity(self) -> int:
        """Answers that can be under way or wait."""
        ...

    @property
    def is_alive(self) -> bool:
        """Whether jobs are accepted."""
        ...

    @property
    def fault(self) -> str | None:
        """What keeps it from answering jobs now, in words, or None."""
        ...

    @property
    def num_active(self) -> int:
        """Answers under way."""
        ...

    @property
    def num_waiting(self) -> int:
        """Answers accepted and not begun."""
        ...

    @property
    def num_cancelled(self) -> int:
        """Answers given up as nobody waited for them, since the start."""
        ...

    def start(self, deliver: Deliver | None = None) -> None:
        """Begin to answer; `deliver` takes what comes, in a thread of the engine's."""
        ...

    def stop(self) -> None:
        """Throw away what is under way and end."""
        ...

    def submit(self, jobs: Sequence[Job]) -> None:
        """Accept all jobs or none; raises QueueFull."""
        ...

    def cancel(self, jobs: Sequence[Job]) -> None:
        """Stop the work on these jobs."""
        ...


def load_engine(spec: EngineSpec) -> Scheduler:
    """Load the weights into an engine of this process, not started yet; raises ModelError."""
    model = load_model(spec.directory, torch.float32)
    return Scheduler(
        Decoder.for_sampling(model.module, DTYPES[precision_for(model.module.config.hidden_size)]),
        model.tokenizer,
        end_ids(model),
        context=spec.context,
        max_rows=spec.max_rows,
        max_waiting=spec.max_waiting,
        kv_bytes=spec.kv_bytes,
    )


def use_this_machine(directory: str) -> None:
    """Take the threads and the memory settings that are best here for a model.

    The products of narrow models are too small to share, and whoever receives tokens needs a core as
    well: on two cores one thread served the embedded model 1.2 to 1.9 times as fast as two.
    """
    torch.set_num_threads(known_machine().threads if width_of(directory) >= NARROW else 1)
    keep_freed_memory()
