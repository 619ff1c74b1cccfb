"""The trainer seam: what an algorithm needs of a model in training, wherever its weights lie.

An algorithm hands micro-batches and an objective to `forward_backward`, then calls `step`. It never
touches a module, an optimizer or a device. `LocalTrainer` (local.py) is the bit-exact path of one
process; `ParallelTrainer` (parallel.py) runs any transformers model, alone or sharded over ranks.

Dimensions: C completion tokens, V vocabulary.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from zerone.engine.weights import WeightSource
from zerone.model.packed import Packed
from zerone.runs.checkpoint import State


class Targets(Protocol):
    """Packed tokens and what is predicted in them: `targets_C[i]` from packed token `sources_C[i]`."""

    @property
    def packed(self) -> Packed:
        """The tokens."""
        ...

    @property
    def sources_C(self) -> Tensor:
        """Indices of the packed tokens whose outputs predict the targets, [C]."""
        ...

    @property
    def targets_C(self) -> Tensor:
        """The predicted tokens, [C]."""
        ...


A = TypeVar("A", bound=Targets)
B = TypeVar("B", bound=Targets, contravariant=True)


class ModelPass(Protocol):
    """A model's forward pass over micro-batches, with its weights as they are before the update."""

    def logits(self, batch: Targets) -> Tensor:
        """Return the head's output for each target, [C, V] in fp32."""
        ...

    def logprobs(self, batch: Targets, temperature: float) -> tuple[Tensor, Tensor]:
        """Return log pi of each target and, without gradient, the entropy there, both [C] in fp32."""
        ...

    def cross_entropy(self, batch: Targets) -> Tensor:
        """Return the sum of -log pi of the targets, in fp32."""
        ...


Method = Literal["logits", "logprobs", "cross_entropy"]


@runtime_checkable
class DealtPass(Protocol):
    """A pass that computes many micro-batches at once, as on several ranks."""

    def over(self, method: Method, batches: Sequence[Targets], *arguments: float) -> list[Any]:
        """Return what a method gives for each micro-batch, in order."""
        ...


def pass_over(
    model: ModelPass, method: Method, batches: Iterable[Targets], *arguments: float
) -> Iterator[Any]:
    """Yield what a method of the pass gives for each micro-batch, in order."""
    if isinstance(model, DealtPass):
        yield from model.over(method, list(batches), *arguments)
        return
    for batch in batches:
        yield getattr(model, method)(batch, *arguments)


class Objective(Protocol[B]):
    """A loss that is a sum over micro-batches.

    The weights of a micro-batch carry every denominator, counted over the whole minibatch, so the parts
    add up to the loss wherever they are computed.
    """

    def loss(self, policy: ModelPass, reference: ModelPass | None, batch: B) -> tuple[Tensor, Any]:
        """Return a micro-batch's part of the loss, with gradient, and plain values for its metrics."""
        ...

    def record(self, terms: Any) -> None:
        """Take the terms of the micro-batches of all ranks, in the order of the minibatch."""
        ...


class Trainer(Protocol):
    """A model in training, its optimizer and, where there is a KL term, its reference."""

    @property
    def has_reference(self) -> bool:
        """Whether a reference model is kept."""
        ...

    def forward_backward(self, batches: Iterable[A], objective: Objective[A]) -> float:
        """Add the gradients of a minibatch's micro-batches; return the loss, their sum."""
        ...

    def step(self, learning_rate: float) -> float:
        """Apply the gradients and return their norm before clipping, 0 where there were none.

        Raises TrainingError before a gradient that is not finite changes a weight, and after an
        update that ruined one.
        """
        ...

    def evaluating(self) -> ModelPass:
        """Return the model as it is now, to be used without gradients."""
        ...

    def reference(self) -> ModelPass | None:
        """Return the reference model, to be used without gradients, or None."""
        ...

    def replace_reference(self) -> None:
        """Make the reference the present policy; nothing where there is none."""
        ...

    def weights(self) -> WeightSource:
        """Return the weights for an engine."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """What is computed in; the weights themselves are fp32."""
        ...

    def state(self, tokenizer: Any) -> State:
        """Return what a checkpoint keeps, by file name."""
        ...

    def save(self, directory: Path, tokenizer: Any, provenance: Mapping[str, Any] | None = None) -> None:
        """Write the model as a transformers directory."""
        ...
