"""The processes of one training: who of them I am, and how they join.

One process alone is the rule; torchrun starts several. They join at the store of torchrun, say which
programs they run, and open the process group that FSDP2 needs. Rank 0 then runs the job and the others
carry out its orders (orders.py).
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
import torch.distributed as dist

from zerone.device import Kind
from zerone.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """This process among those of the training; `local_size` of them share its machine."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process owns the run directory, the display and the trackers."""
        return self.rank == 0

    @property
    def num_nodes(self) -> int:
        """The machines, where each has as many processes as this one; else 1: all shard with all."""
        return self.size // self.local_size if self.size % self.local_size == 0 else 1

    def largest(self, value: float) -> float:
        """Return the largest of all ranks' values; a NaN counts as infinity, and all ranks ask together."""
        if self.size == 1:
            return value
        found = torch.tensor(value, dtype=torch.float64).nan_to_num(nan=float("inf"))
        dist.all_reduce(found, dist.ReduceOp.MAX)
        return found.item()


ALONE = Ranks()


_is_apart = ContextVar("is_apart", default=False)


@contextmanager
def apart() -> Iterator[None]:
    """Let a job of this rank run as in one process, while the others wait for orders."""
    token = _is_apart.set(True)
    try:
        yield
    finally:
        _is_apart.reset(token)


def started_ranks() -> Ranks:
    """Return this process's place among those that torchrun started; alone without it."""
    if _is_apart.get():
        return ALONE
    try:
        rank, size, local_rank = (int(os.environ.get(name, default)) for name, default in _OF_TORCHRUN)
        local_size = int(os.environ.get("LOCAL_WORLD_SIZE", size))
    except ValueError as error:
        raise ConfigError(f"{_variables()} must be numbers, as torchrun sets them: {error}") from error
    if not (0 <= rank < size and 0 <= local_rank < local_size <= size):
        raise ConfigError(
            f"{_variables()} describe no rank; start with torchrun, which sets them, or unset them"
        )
    return Ranks(rank=rank, size=size, local_rank=local_rank, local_size=local_size)


_OF_TORCHRUN = (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0))


def _variables() -> str:
    names = (*(name for name, _ in _OF_TORCHRUN), "LOCAL_WORLD_SIZE")
    return ", ".join(f"{name}={os.environ[name]}" for name in names if name in os.environ)


def deal(sizes: Sequence[int], num_ranks: int) -> list[list[int]]:
    """Deal work of these sizes out so that ranks get about equal amounts; each share in order."""
    shares: list[list[int]] = [[] for _ in range(num_ranks)]
    totals = [0] * num_ranks
    for index in sorted(range(len(sizes)), key=lambda i: (-sizes[i], i)):
        rank = min(range(num_ranks), key=lambda r: (totals[r], r))
        shares[rank].append(index)
        totals[rank] += sizes[index]
    return [sorted(share) for share in shares]


def open_group(ranks: Ranks, kind: Kind) -> None:
    """Open the process group of a process alone, which FSDP2 needs and which opens no port.

    That of several processes is open by then (orders.py).
    """
    if dist.is_initialized():
        return
    if ranks.size > 1:
        raise AssertionError("several ranks join before anything is sharded")
    store = dist.HashStore()  # type: ignore[attr-defined]  # which torch does not export
    dist.init_process_group(backend_of(kind), store=store, rank=0, world_size=1)


def backend_of(kind: Kind) -> str:
    """Return what carries tensors between processes: those on the CPU by gloo in any case."""
    return "gloo" if kind == "cpu" else "cpu:gloo,cuda:nccl"
