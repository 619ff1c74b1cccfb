"""Tensors that FSDP2 has sharded over ranks, as whole ones.

In: a parameter or a state of an optimizer, sharded or not. Out: the full tensor, and the way back. All
ranks call these functions together and in one order.
"""

from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor


def full_of(tensor: Tensor) -> Tensor:
    """Return a tensor whole and without gradient: itself where it is not sharded."""
    detached: Any = tensor.detach()
    full: Tensor = detached.full_tensor() if isinstance(detached, DTensor) else detached
    return full


def own_rows(tensor: Tensor, is_first: bool) -> tuple[int, Tensor] | None:
    """Return what this rank has to store of a tensor, with the row that it begins at; None for nothing.

    Each row is stored by one rank: of what is the same on several, by the first of them. FSDP2 cuts the
    first dimension as torch.chunk does. No rank needs another for this.
    """
    detached: Any = tensor.detach()
    if not isinstance(detached, DTensor):
        return (0, detached) if is_first else None
    start, is_mine = 0, True
    for dimension, placement in enumerate(detached.placements):
        place, size = detached.device_mesh.get_local_rank(dimension), detached.device_mesh.size(dimension)
        if placement.is_replicate():
            is_mine = is_mine and place == 0
        elif placement.is_shard(0):
            start = min(place * -(-detached.shape[0] // size), detached.shape[0])
        else:
            raise AssertionError(f"FSDP2 shards by rows, not by {placement}")
    local = detached.to_local()
    return (start, local) if is_mine and local.numel() else None


def sharded_like(full: Tensor, pattern: Tensor) -> Tensor:
    """Return a full tensor where and as `pattern` is, each rank taking its shard of what it has whole."""
    moved = full.to(pattern.device)
    if not isinstance(pattern, DTensor):
        return moved
    if pattern.device_mesh.size() == 1:  # also of types that cannot be cut, as torchao's 8-bit states
        return DTensor.from_local(moved, pattern.device_mesh, pattern.placements, run_check=False)
    return distribute_tensor(moved, pattern.device_mesh, pattern.placements, src_data_rank=None)


@torch.no_grad()
def copy_full(target: Tensor, full: Tensor) -> None:
    """Copy a full tensor into one that may be sharded."""
    target.copy_(sharded_like(full, target))
