"""The trainer of any transformers model, on one device or sharded over ranks by FSDP2.

Master weights, gradients and optimizer state are fp32; computation is in the device's type. The
weights of a batch carry global denominators, so gradients only have to be summed. A rank with less to
do makes empty passes, as every rank must take part in every gathering of weights. Who shares the
micro-batches out is ranked.py.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import (
    CPUOffloadPolicy,
    MixedPrecisionPolicy,
    OffloadPolicy,
    fully_shard,
    register_fsdp_forward_method,
)

from zerone.device import Device
from zerone.engine.weights import GatheredWeights, ModuleWeights, WeightSource
from zerone.errors import ModelError
from zerone.model.loading import save_model
from zerone.model.lora import (
    ADAPTER,
    AdapterPart,
    Base,
    base_of,
    full_weights,
    gather_adapters,
    has_adapters,
    merged_weights,
    write_adapter,
)
from zerone.model.packed import pack
from zerone.processes.ranks import ALONE, Ranks, open_group
from zerone.runs.checkpoint import ModelPart, State
from zerone.train.memory import Resident, advised, held_by
from zerone.train.optim import apply_update
from zerone.train.trainer import A, Objective
from zerone.train.transformers_forward import Attention, TransformersForward, add_methods, computes_packed

Offload = Literal["none", "reference", "all"]
MakeOptimizer = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]


def _plain_adamw(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters)


@dataclass(frozen=True, slots=True, kw_only=True)
class ParallelSettings:
    """How a model is trained, whatever it learns.

    `recompute` keeps of each block only its input and computes it again in the backward pass; `offload`
    keeps on the CPU, between uses, the reference or all fp32 weights with gradients and optimizer.
    """

    make_optimizer: MakeOptimizer = _plain_adamw
    max_grad_norm: float = 1.0
    rate_option: str = "optim.learning_rate"
    recompute: bool = False
    offload: Offload = "none"


class ParallelTrainer:
    """A transformers causal language model in training; a `Trainer`.

    `module` holds its weights on the CPU or its device, not sharded yet: fp32, or those of the device's type
    frozen below fp32 adapters (model/lora.py), which then belong to `base`. `reference` likewise, or is
    `module` itself, whose adapters are off then.
    """

    def __init__(
        self,
        module: Any,
        device: Device,
        settings: ParallelSettings = ParallelSettings(),
        *,
        ranks: Ranks = ALONE,
        reference: Any = None,
        base: Base | None = None,
    ) -> None:
        self.device = device
        self.ranks = ranks
        self._settings = settings
        self._base = base
        self._loss: float | None = None
        self.has_adapters = has_adapters(module)
        if self.has_adapters and base is None:
            raise AssertionError("adapters are kept with the name and hash of their base model")
        is_in_fp32 = device.dtype is torch.float32 or self.has_adapters
        self.is_sharded = ranks.size > 1 or not is_in_fp32 or settings.offload == "all"
        self._has_base_reference = reference is module
        self.module = self._placed(module, is_offloaded=settings.offload == "all")
        if settings.recompute:
            recompute_blocks(self.module)
        self.reference_module = None
        if reference is not None and not self._has_base_reference:
            self.reference_module = self._placed(
                reference.requires_grad_(False), is_offloaded=settings.offload != "none"
            )
        self.attention = self._attention()
        trained = [parameter for parameter in self.module.parameters() if parameter.requires_grad]
        self.optimizers = (settings.make_optimizer(trained),)

    def _placed(self, module: Any, *, is_offloaded: bool) -> Any:
        """Move a model to the device, shard it where that is needed, and give it the methods of a pass."""
        module = module.to(self.device.torch).eval()
        names = add_methods(module)
        if self.is_sharded or is_offloaded:
            open_group(self.ranks, self.device.kind)
            shard(module, self.device, self.ranks, is_offloaded=is_offloaded)
            for name in names:
                register_fsdp_forward_method(module, name)
        return module

    def _attention(self) -> Attention:
        """Return how this model takes packed batches: found out, not looked up."""
        device, dtype = self.device.torch, self.device.dtype
        modules = [self.module] if self.reference_module is None else [self.module, self.reference_module]
        ways: tuple[Attention, ...] = ("flex", "dense") if self.device.kind == "cuda" else ("dense",)
        for way in ways:
            for module in modules:
                use_attention(module, way)
            if computes_packed(self.module, device, dtype, way):
                return way
        return "unpacked"

    @property
    def dtype(self) -> torch.dtype:
        """What is computed in; the weights themselves are fp32."""
        return self.device.dtype

    @property
    def has_reference(self) -> bool:
        """Whether there is a reference model."""
        return self._has_base_reference or self.reference_module is not None

    def evaluating(self) -> TransformersForward:
        """Return the model as it is now, to be used without gradients."""
        return self._pass(self.module)

    def reference(self) -> TransformersForward | None:
        """Return the reference model, to be used without gradients, or None."""
        if self._has_base_reference:
            return replace(self._pass(self.module), is_base=True)
        return None if self.reference_module is None else self._pass(self.reference_module)

    def _pass(self, module: Any) -> TransformersForward:
        return TransformersForward(module, self.device.torch, self.device.dtype, self.attention)

    def forward_backward(self, batches: Iterable[A], objective: Objective[A]) -> float:
        """Add the gradients of a minibatch's micro-batches; return the loss, their sum.

        Raises TrainingError where the memory does not do.
        """
        every = list(batches)
        total = 0.0
        for _, loss, terms in self.compute(list(enumerate(every)), objective):
            total += loss
            objective.record(terms)
        if every:
            self._loss = total
        return total

    def compute(
        self, share: Sequence[tuple[int, A]], objective: Objective[A], num_passes: int = 0, spare: Any = None
    ) -> list[tuple[int, float, Any]]:
        """Add the gradients of this rank's share of a minibatch; return each number with its loss and terms.

        Every rank makes `num_passes` passes, as all take part in each gathering of weights: those without a
        micro-batch over `spare`, which adds nothing.
        """
        policy, reference = self.evaluating(), self.reference()
        found: list[tuple[int, float, Any]] = []
        with advised(self.resident, max((len(batch.packed.tokens_N) for _, batch in share), default=0)):
            for index, batch in share:
                loss, terms = objective.loss(policy, reference, on_device(batch, self.device.torch))
                (loss * self.ranks.size).backward()  # FSDP2 takes the mean over ranks
                found.append((index, loss.item(), terms))
            for _ in range(num_passes - len(share)):
                loss, _ = objective.loss(policy, reference, on_device(spare, self.device.torch))
                loss.backward()
        return found

    def step(self, learning_rate: float) -> float:
        """Apply the gradients; see `Trainer.step`."""
        loss, self._loss = self._loss, None
        return 0.0 if loss is None else self.apply(learning_rate, loss)

    def apply(self, learning_rate: float, loss: float) -> float:
        """Apply the gradients of a loss, all ranks together; return their norm before clipping."""
        with advised(self.resident, 0):
            return apply_update(
                [self.module],
                self.optimizers,
                loss=loss,
                learning_rate=learning_rate,
                max_grad_norm=self._settings.max_grad_norm,
                rate_option=self._settings.rate_option,
                of_all_ranks=self.ranks.largest,
            )

    def forget(self) -> None:
        """Leave a pass out of the next update; its gradients are cleared already."""
        self._loss = None

    def resident(self) -> Resident:
        """Return what the model, its gradients and its optimizer hold, and how the model computes."""
        return held_by(
            self.module,
            self.optimizers,
            self.reference_module,
            device=self.device,
            recomputes=self._settings.recompute,
            has_adapters=self.has_adapters,
        )

    def replace_reference(self) -> None:
        """Make the reference the present policy."""
        if self._has_base_reference:
            raise AssertionError("the reference of adapters is their base model, which does not change")
        if self.reference_module is not None:
            self.reference_module.load_state_dict(self.module.state_dict())

    def weights(self) -> WeightSource:
        """Return the weights for an engine; all ranks read them together where they are sharded."""
        is_plain = not self.is_sharded and not self.has_adapters
        return ModuleWeights(self.module) if is_plain else GatheredWeights(self.module)

    def state(self, tokenizer: Any) -> State:
        """Return what a checkpoint keeps, by file name; of a model with adapters these alone."""
        (optimizer,) = self.optimizers
        if self._base is not None:
            return {ADAPTER: AdapterPart(self.module, self._base), "optimizer": optimizer}
        reference = {} if self.reference_module is None else {"reference": self.reference_module}
        return {"model": ModelPart(self.module, tokenizer), "optimizer": optimizer, **reference}

    def gather(self) -> None:
        """Take part in `save` of another rank: gather what it gathers, in its order."""
        for _ in merged_weights(self.module):
            pass
        if self.has_adapters:
            gather_adapters(self.module)

    def save(self, directory: Path, tokenizer: Any, provenance: Mapping[str, Any] | None = None) -> None:
        """Write the model as a transformers directory; adapters are merged, and lie in it besides."""

        def write_more(path: Path) -> None:
            if self._base is not None:
                write_adapter(self.module, path / ADAPTER, self._base)

        save_model(
            base_of(self.module),
            tokenizer,
            directory,
            provenance,
            weights=full_weights(self.module),
            write_more=write_more,
        )


def shard(module: Any, device: Device, ranks: Ranks = ALONE, *, is_offloaded: bool = False) -> None:
    """Shard each block and then the root over the ranks of a machine, fp32, computed in the device's type.

    Over several machines the shards are the same on each (HSDP), so weights are gathered within a machine.
    The root too gives its gathered parameters up after a forward pass (FSDP2 would keep them): what reads
    the module next, as optimizer, engine or checkpoint, finds the shards of the fp32 weights.
    """
    nodes = ranks.num_nodes
    if nodes > 1:
        mesh = init_device_mesh(
            device.kind, (nodes, ranks.size // nodes), mesh_dim_names=("replicate", "shard")
        )
    else:
        mesh = init_device_mesh(device.kind, (ranks.size,))
    policy = MixedPrecisionPolicy(param_dtype=device.dtype, reduce_dtype=torch.float32)
    offload = CPUOffloadPolicy(pin_memory=device.kind == "cuda") if is_offloaded else OffloadPolicy()
    for block in blocks_of(module):
        fully_shard(block, mesh=mesh, mp_policy=policy, offload_policy=offload)
    fully_shard(module, mesh=mesh, mp_policy=policy, offload_policy=offload, reshard_after_forward=True)


def recompute_blocks(module: Any) -> None:
    """Have each block keep only its input, and compute it again in the backward pass."""
    base = base_of(module)
    if not base.supports_gradient_checkpointing:
        raise ModelError(
            f"{type(base).__name__} cannot compute its blocks again; set model.gradient_checkpointing=false"
        )
    newer = getattr(base, "activation_checkpointing_enable", None)  # its name from transformers 5.20 or so on
    (newer or base.gradient_checkpointing_enable)({"use_reentrant": False})
    for block in blocks_of(module):
        block.training = True  # of the block itself: dropout inside of it stays off


def use_attention(module: Any, attention: Attention) -> None:
    """Have a model's layers take the mask of a way to attend; eager ones stay as they are."""
    base = base_of(module)
    if base.config._attn_implementation != "eager":
        base.set_attn_implementation("flex_attention" if attention == "flex" else "sdpa")


def blocks_of(module: Any) -> list[nn.Module]:
    """Return the layers of a transformers model; raises ModelError where it keeps them elsewhere."""
    inner = base_of(module)
    layers = getattr(getattr(inner, inner.base_model_prefix), "layers", None)
    if not isinstance(layers, nn.ModuleList):
        raise ModelError(
            f"{type(module).__name__} keeps its layers where FSDP2 cannot find them; train it on one rank in "
            "model.precision=fp32"
        )
    return list(layers)


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
