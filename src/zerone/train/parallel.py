"""The trainer of any transformers model, on one device or sharded over ranks by FSDP2.

Master weights, gradients and optimizer state are fp32; computation is in the device's type. Every
rank is given all micro-batches of a minibatch and computes its share of them. The weights of a batch
carry global denominators, so gradients only have to be summed. A rank with less to do makes empty
passes, as every rank must take part in every gathering of weights.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method

from zerone.device import Device
from zerone.engine.weights import ModuleWeights, TensorMeta, WeightSource
from zerone.errors import ModelError
from zerone.model.loading import save_model
from zerone.model.packed import pack
from zerone.processes.ranks import ALONE, Ranks
from zerone.runs.checkpoint import ModelPart, State
from zerone.train.optim import apply_update
from zerone.train.trainer import A, Objective
from zerone.train.transformers_forward import Attention, TransformersForward, add_methods, computes_packed


class ParallelTrainer:
    """A transformers causal language model in training; a `Trainer`.

    `module` holds fp32 weights on its device, not sharded yet; `reference` likewise.
    """

    def __init__(
        self,
        module: Any,
        device: Device,
        *,
        ranks: Ranks = ALONE,
        reference: Any = None,
        max_grad_norm: float = 1.0,
        rate_option: str = "optim.learning_rate",
        recompute: bool = False,
    ) -> None:
        self.device = device
        self.ranks = ranks
        self._max_grad_norm = max_grad_norm
        self._rate_option = rate_option
        self._loss: float | None = None
        self.is_sharded = ranks.size > 1 or device.dtype is not torch.float32
        if recompute:
            module.gradient_checkpointing_enable({"use_reentrant": False})
        self.module = self._placed(module)
        self.reference_module = None if reference is None else self._placed(reference.requires_grad_(False))
        self.attention = self._attention()
        self.optimizers: tuple[torch.optim.Optimizer, ...] = ()

    def _placed(self, module: Any) -> Any:
        """Move a model to the device, shard it where that is needed, and give it the methods of a pass."""
        module = module.to(self.device.torch).eval()
        names = add_methods(module)
        if self.is_sharded:
            _shard(module, self.device)
            for name in names:
                register_fsdp_forward_method(module, name)
        return module

    def _attention(self) -> Attention:
        """Return how this model takes packed batches: found out, not looked up."""
        wanted: Attention = "flex" if self.device.kind == "cuda" else "dense"
        device, dtype = self.device.torch, self.device.dtype
        return wanted if computes_packed(self.module, device, dtype, wanted) else "unpacked"

    @property
    def dtype(self) -> torch.dtype:
        """What is computed in; the weights themselves are fp32."""
        return self.device.dtype

    @property
    def has_reference(self) -> bool:
        """Whether a reference model is kept."""
        return self.reference_module is not None

    def evaluating(self) -> TransformersForward:
        """Return the model as it is now, to be used without gradients."""
        return self._pass(self.module)

    def reference(self) -> TransformersForward | None:
        """Return the reference model, to be used without gradients, or None."""
        return None if self.reference_module is None else self._pass(self.reference_module)

    def _pass(self, module: Any) -> TransformersForward:
        return TransformersForward(module, self.device.torch, self.device.dtype, self.attention)

    def forward_backward(self, batches: Iterable[A], objective: Objective[A]) -> float:
        """Add the gradients of a minibatch's micro-batches; return the loss, their sum over all ranks."""
        every = list(batches)
        shares = deal([len(batch.packed.tokens_N) for batch in every], self.ranks.size)
        mine = shares[self.ranks.rank]
        policy, reference = self.evaluating(), self.reference()
        found: list[tuple[int, float, Any]] = []
        for index in mine:
            loss, terms = objective.loss(policy, reference, on_device(every[index], self.device.torch))
            (loss * self.ranks.size).backward()  # FSDP2 takes the mean over ranks
            found.append((index, loss.item(), terms))
        for _ in range(max(map(len, shares)) - len(mine)):
            loss, _ = objective.loss(policy, reference, on_device(emptied(every[0]), self.device.torch))
            loss.backward()
        total = 0.0
        for _, loss_of_batch, terms in sorted(self.ranks.each(found), key=lambda part: part[0]):
            total += loss_of_batch
            objective.record(terms)
        if every:
            self._loss = total
        return total

    def step(self, learning_rate: float) -> float:
        """Apply the gradients; see `Trainer.step`."""
        loss, self._loss = self._loss, None
        if loss is None:
            return 0.0
        return apply_update(
            [self.module],
            self.optimizers,
            loss=loss,
            learning_rate=learning_rate,
            max_grad_norm=self._max_grad_norm,
            rate_option=self._rate_option,
            of_all_ranks=self.ranks.largest,
        )

    def replace_reference(self) -> None:
        """Make the reference the present policy."""
        if self.reference_module is not None:
            self.reference_module.load_state_dict(self.module.state_dict())

    def weights(self) -> WeightSource:
        """Return the weights for an engine; all ranks read them together where they are sharded."""
        return ShardedWeights(self.module) if self.is_sharded else ModuleWeights(self.module)

    def state(self, tokenizer: Any) -> State:
        """Return what a checkpoint keeps, by file name."""
        (optimizer,) = self.optimizers
        reference = {} if self.reference_module is None else {"reference": self.reference_module}
        return {"model": ModelPart(self.module, tokenizer), "optimizer": optimizer, **reference}

    def save(self, directory: Path, tokenizer: Any, provenance: Mapping[str, Any] | None = None) -> None:
        """Write the model as a transformers directory."""
        save_model(self.module, tokenizer, directory, provenance)


def _shard(module: Any, device: Device) -> None:
    """Shard each block and then the root over all ranks, fp32 with computation in the device's type."""
    mesh = init_device_mesh(device.kind, (dist.get_world_size(),))
    policy = MixedPrecisionPolicy(param_dtype=device.dtype, reduce_dtype=torch.float32)
    for block in blocks_of(module):
        fully_shard(block, mesh=mesh, mp_policy=policy)
    fully_shard(module, mesh=mesh, mp_policy=policy)


def blocks_of(module: Any) -> list[nn.Module]:
    """Return the layers of a transformers model; raises ModelError where it keeps them elsewhere."""
    inner = module.get_base_model() if hasattr(module, "get_base_model") else module
    layers = getattr(getattr(inner, inner.base_model_prefix), "layers", None)
    if not isinstance(layers, nn.ModuleList):
        raise ModelError(
            f"{type(module).__name__} keeps its layers where FSDP2 cannot find them; train it on one rank in "
            "model.precision=fp32"
        )
    return list(layers)


class ShardedWeights:
    """The full tensors of a sharded model, gathered one by one on all ranks together."""

    def __init__(self, module: Any) -> None:
        self._module = module

    def metadata(self) -> list[TensorMeta]:
        """Return name, type and full shape of each parameter, tied ones once."""
        return [
            TensorMeta(name, parameter.dtype, tuple(parameter.shape))
            for name, parameter in self._module.named_parameters()
        ]

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        """Yield the parameters, tied ones once; every rank must iterate to the end."""
        for name, parameter in self._module.named_parameters():
            full = parameter.detach()
            yield name, full.full_tensor() if hasattr(full, "full_tensor") else full


def deal(sizes: Sequence[int], num_ranks: int) -> list[list[int]]:
    """Deal micro-batches out so that ranks get about equal numbers of tokens; each share in order."""
    shares: list[list[int]] = [[] for _ in range(num_ranks)]
    totals = [0] * num_ranks
    for index in sorted(range(len(sizes)), key=lambda i: (-sizes[i], i)):
        rank = min(range(num_ranks), key=lambda r: (totals[r], r))
        shares[rank].append(index)
        totals[rank] += sizes[index]
    return [sorted(share) for share in shares]


def on_device(batch: Any, device: torch.device) -> Any:
    """Return a micro-batch with its tensors on a device; the packed tokens go there in the pass."""
    return replace(batch, **{name: tensor.to(device) for name, tensor in _tensors(batch).items()})


def emptied(batch: Any) -> Any:
    """Return a micro-batch of one token and no targets, whose loss and gradient are zero."""
    without: dict[str, Any] = {name: tensor[:0] for name, tensor in _tensors(batch).items()}
    if any(field.name == "members" for field in fields(batch)):
        without["members"] = ()
    return replace(batch, packed=pack([((), [[0]])]), **without)


def _tensors(batch: Any) -> dict[str, Tensor]:
    values = ((field.name, getattr(batch, field.name)) for field in fields(batch))
    return {name: value for name, value in values if isinstance(value, Tensor)}
