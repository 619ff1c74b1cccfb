"""What the server needs of an engine at work, whether in a thread here or in a process of its own.

`Scheduler` (scheduler.py) runs an engine in a thread; `EngineProcess` (process.py) has one run elsewhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch

from zerone.engine.api import Deliver, Request
from zerone.engine.scheduler import Counted, Scheduler
from zerone.engine.torch.engine import TorchEngine
from zerone.model.loading import end_ids, load_model, width_of
from zerone.processes.machine import DTYPES, NARROW, Precision, keep_freed_memory, precision_for
from zerone.processes.threads import threads_for, use_threads

TORCH, VLLM = "torch", "vllm"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSpec:
    """The model of an engine, and what it may take of the machine.

    `is_for_rollouts` is whether requests come in waves and are decoded as in the trainer's process; 0
    `threads` are what is best here.
    """

    directory: str
    context: int
    max_rows: int
    max_waiting: int
    kv_bytes: int
    kind: str = TORCH
    is_for_rollouts: bool = False
    precision: Precision | Literal["auto"] = "auto"
    threads: int = 0
    gpu_share: float = 0.4
    """Of a GPU's memory, beside a trainer; a server takes vLLM's own default."""


class EngineHost(Counted, Protocol):
    """An engine at work by itself, which hands its events on."""

    @property
    def capacity(self) -> int:
        """Completions that can be under way or wait."""
        ...

    @property
    def is_alive(self) -> bool:
        """Whether requests are accepted."""
        ...

    @property
    def fault(self) -> str | None:
        """What keeps it from answering requests now, in words, or None."""
        ...

    def start(self, deliver: Deliver | None = None) -> None:
        """Begin to work; `deliver` takes what comes, in a thread of the engine's."""
        ...

    def stop(self) -> None:
        """Throw away what is under way and end."""
        ...

    def submit(self, requests: Sequence[Request]) -> None:
        """Accept all requests or none; raises QueueFull."""
        ...

    def cancel(self, requests: Sequence[Request]) -> None:
        """Stop the work on these requests."""
        ...


def load_engine(spec: EngineSpec) -> Scheduler:
    """Load the weights into an engine of this process, not started yet; raises ModelError."""
    model = load_model(spec.directory, torch.float32)
    engine = TorchEngine(
        model.tokenizer,
        end_ids(model),
        spec.context,
        spec.max_rows,
        DTYPES[precision_for(model.module.config.hidden_size, spec.precision)],
        kv_bytes=None if spec.is_for_rollouts else spec.kv_bytes,
        config=model.module.config,
    )
    engine.own(model.module)
    return Scheduler(engine, spec.max_rows + spec.max_waiting)


def use_this_machine(directory: str, threads: int = 0) -> None:
    """Take the threads and the memory settings that are best here for a model.

    The products of narrow models are too small to share, and whoever receives tokens needs a core as
    well: on two cores one thread served the embedded model 1.2 to 1.9 times as fast as two.
    """
    use_threads(threads or (threads_for(0) if width_of(directory) >= NARROW else 1))
    keep_freed_memory()
