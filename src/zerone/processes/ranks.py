"""The processes of one training: who of them I am, and what they say to each other.

One process alone is the rule; torchrun starts several. Only plain values go between ranks here,
gradients go through FSDP2.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch.distributed as dist

from zerone.device import Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """This process among those of the training."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def is_first(self) -> bool:
        """Whether this process owns the run directory, the display and the trackers."""
        return self.rank == 0

    def share(self, items: Sequence[Any]) -> list[Any]:
        """Return this rank's part of what is dealt out in turn."""
        return list(items[self.rank :: self.size])

    def gather(self, own: Sequence[Any]) -> list[Any]:
        """Return what `share` dealt out and each rank worked on, in the order before the deal."""
        if self.size == 1:
            return list(own)
        parts: list[list[Any]] = [[] for _ in range(self.size)]
        dist.all_gather_object(parts, list(own))
        total = sum(map(len, parts))
        return [parts[i % self.size][i // self.size] for i in range(total)]

    def largest(self, value: float) -> float:
        """Return the largest of all ranks' values."""
        values: list[float] = self.each([value])
        return max(values)

    def each(self, own: Sequence[Any]) -> list[Any]:
        """Return the items of all ranks, rank by rank."""
        if self.size == 1:
            return list(own)
        parts: list[list[Any]] = [[] for _ in range(self.size)]
        dist.all_gather_object(parts, list(own))
        return [item for part in parts for item in part]

    def wait(self) -> None:
        """Return when all ranks have come here."""
        if self.size > 1:
            dist.barrier()


ALONE = Ranks()


def started_ranks() -> Ranks:
    """Return this process's place among those that torchrun started; alone without it."""
    number = {name: int(os.environ.get(name, default)) for name, default in _OF_TORCHRUN.items()}
    return Ranks(rank=number["RANK"], size=number["WORLD_SIZE"], local_rank=number["LOCAL_RANK"])


_OF_TORCHRUN = {"RANK": 0, "WORLD_SIZE": 1, "LOCAL_RANK": 0}


def open_group(ranks: Ranks, kind: Kind) -> None:
    """Open the process group that FSDP2 needs, unless it is open; a process alone opens no port for it."""
    if dist.is_initialized():
        return
    backend = "gloo" if kind == "cpu" else "cpu:gloo,cuda:nccl"
    if ranks.size == 1:
        store = dist.HashStore()  # type: ignore[attr-defined]  # which torch does not export
        dist.init_process_group(backend, store=store, rank=0, world_size=1)
    else:
        dist.init_process_group(backend)
