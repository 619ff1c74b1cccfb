"""Weights on their way from a trainer to an engine.

A `WeightSource` names every tensor of a model as transformers does, says its shape and type, and
gives the tensors in the same order. It is where LoRA is merged, where shards are gathered, and
where types are cast; an engine only loads what it is given.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from zerone.errors import EngineError
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


@dataclass(frozen=True, slots=True)
class FileWeights:
    """The weights in a safetensors file."""

    path: Path

    def metadata(self) -> list[TensorMeta]:
        """Return name, type and shape of each tensor."""
        return [TensorMeta(name, tensor.dtype, tuple(tensor.shape)) for name, tensor in self]

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        """Yield the tensors by name."""
        with safe_open(str(self.path), framework="pt") as file:
            for name in file.keys():  # noqa: SIM118  # no mapping: it cannot be iterated
                yield name, file.get_tensor(name)


def write_weights(source: WeightSource, path: Path) -> str:
    """Write a source to a safetensors file and return the hash of what the file holds."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in source}
    save_file(tensors, str(path))
    return hash_of(FileWeights(path))


class Hashed:
    """A source that is read once: its tensors, and a sha256 of what was read."""

    def __init__(self, source: WeightSource) -> None:
        self._source = source
        self._digest = hashlib.sha256()
        self.num_read = 0

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Yield each name with the full tensor."""
        for name, tensor in self._source:
            self._digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            raw = tensor.detach().contiguous().cpu().flatten()
            self._digest.update(raw.view(torch.uint8).numpy().data)
            self.num_read += 1
            yield name, tensor

    @property
    def hash(self) -> str:
        """The sha256 of names, types, shapes and values so far."""
        return self._digest.hexdigest()


def hash_of(source: WeightSource) -> str:
    """Return a sha256 of all names, types, shapes and values: equal weights, equal hash."""
    hashed = Hashed(source)
    for _ in hashed.tensors():
        pass
    return hashed.hash


def load_into(module: nn.Module, source: WeightSource) -> None:
    """Copy a source's tensors into a module's parameters; raises EngineError where names or shapes differ."""
    parameters = dict(module.named_parameters())
    with torch.no_grad():
        for name, tensor in source:
            parameter = parameters.pop(name, None)
            if parameter is None:
                raise EngineError(
                    f"weights came with a tensor named {name}, which the engine's model has not"
                )
            if parameter.shape != tensor.shape:
                raise EngineError(
                    f"the tensor {name} came in the shape {tuple(tensor.shape)}, and the engine's model has "
                    f"{tuple(parameter.shape)}"
                )
            parameter.copy_(tensor)
    if parameters:
        raise EngineError(f"weights came without the tensor {min(parameters)} of the engine's model")
