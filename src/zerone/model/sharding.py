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
