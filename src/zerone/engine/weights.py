"""Weights on their way from a trainer to an engine.

A `WeightSource` names every tensor of a model as transformers does, says its shape and type, and
gives the tensors in the same order. It is where LoRA is merged, where shards are gathered, and
where types are cast; an engine only loads what it is given.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from zerone.model.lora import merged_weights


@dataclass(frozen=True, slots=True)
class TensorMeta:
    """Name, type and shape of one tensor."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]


class WeightSource(Protocol):
    """The weights of a model, tensor by tensor."""

    def metadata(self) -> list[TensorMeta]:
        """Return what `__iter__` gives, in its order."""
        ...

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        """Yield each name with the full tensor."""
        ...


@dataclass(frozen=True, slots=True)
class ModuleWeights:
    """The weights of a transformers module in this process, which an engine may read in place."""

    module: Any

    def metadata(self) -> list[TensorMeta]:
        """Return name, type and shape of each parameter, tied ones once."""
        return [
            TensorMeta(name, parameter.dtype, tuple(parameter.shape))
            for name, parameter in self.module.named_parameters()
        ]

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        """Yield the parameters, tied ones once."""
        for name, parameter in self.module.named_parameters():
            yield name, parameter.detach()


@dataclass(frozen=True, slots=True)
class GatheredWeights:
    """The weights of a module wherever they lie: shards gathered on all ranks together, adapters merged."""

    module: Any

    def metadata(self) -> list[TensorMeta]:
        """Return name, type and full shape of each parameter, tied ones once."""
        return [TensorMeta(name, tensor.dtype, tuple(tensor.shape)) for name, tensor in self]

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        """Yield the parameters, tied ones once; every rank must iterate to the end."""
        return merged_weights(self.module)


def hash_of(source: WeightSource) -> str:
    """Return a sha256 of all names, types, shapes and values: equal weights, equal hash."""
    digest = hashlib.sha256()
    for name, tensor in source:
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        raw = tensor.detach().contiguous().cpu().flatten()
        digest.update(raw.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def load_into(module: nn.Module, source: WeightSource) -> None:
    """Copy a source's tensors into a module's parameters; raises KeyError where the names differ."""
    parameters = dict(module.named_parameters())
    with torch.no_grad():
        for name, tensor in source:
            parameters.pop(name).copy_(tensor)
    if parameters:
        raise KeyError(f"no tensor named {min(parameters)}")
