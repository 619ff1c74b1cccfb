"""LoRA adapters beside the linear maps of a model, by peft (Hu et al. 2021).

    y = W x + (alpha / rank) B A x

W is frozen; A is random and B zero at first, so that training begins at the base model. The base model is
also the reference of a KL term, with the adapters off: no second copy is held. Engines, exports and the
run's model get W + (alpha / rank) B A; the adapters alone are kept in peft's own format.
"""

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from zerone.errors import ConfigError, ModelError
from zerone.model.configuration import brief, read_object
from zerone.model.sharding import copy_full, full_of
from zerone.seeding import seed_from

ALL_LINEAR = "all-linear"
"""The target that stands for every linear map of the blocks; of a mixture of experts, of its attention."""

_OF_EXPERTS = frozenset({"gate", "gate_proj", "up_proj", "down_proj", "w1", "w2", "w3"})
"""Names under which experts are targets for peft, which then puts adapters of another form on them."""

ADAPTER = "adapter"
"""The directory of the adapters, beside the merged weights of a run's model and in its checkpoints."""

_NAME = "default"
_BASE_NAME = "base.json"
_WEIGHTS_NAME = "adapter_model.safetensors"
_CONFIG_NAME = "adapter_config.json"
_OTHER_KINDS = (
    "use_dora",
    "use_rslora",
    "modules_to_save",
    "rank_pattern",
    "alpha_pattern",
    "fan_in_fan_out",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapters:
    """Rank, alpha and targets of the adapters; `path` is an adapter directory to begin from."""

    rank: int
    alpha: float
    targets: tuple[str, ...]
    path: Path | None = None


@dataclass(frozen=True, slots=True)
class Base:
    """The model that adapters belong to: its name and the hash of its weights."""

    name: str
    sha256: str


def adapters_at(path: Path) -> Adapters:
    """Return rank, alpha and targets of an adapter directory; raises ModelError unless it is plain LoRA."""
    if not (path / _CONFIG_NAME).is_file() or not (path / _WEIGHTS_NAME).is_file():
        raise ModelError(
            f"{path} is not an adapter in peft's format: it has no {_CONFIG_NAME} with {_WEIGHTS_NAME}"
        )
    config = read_object(path / _CONFIG_NAME)
    others = [name for name in _OTHER_KINDS if config.get(name)]
    if config.get("peft_type") != "LORA" or config.get("bias", "none") != "none" or others:
        kind = ", ".join([str(config.get("peft_type")), *others])
        raise ModelError(f"{path / _CONFIG_NAME} describes other adapters than plain LoRA ({kind})")
    targets = config.get("target_modules")
    given = (targets,) if isinstance(targets, str) else targets
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if not (
        isinstance(rank, int) and isinstance(alpha, int | float) and isinstance(given, Sequence) and given
    ):
        raise ModelError(
            f"{path / _CONFIG_NAME} lacks r, lora_alpha or target_modules; save the adapter again"
        )
    return Adapters(rank=rank, alpha=float(alpha), targets=tuple(map(str, given)), path=path)


def with_adapters(module: Any, wanted: Adapters, base: Base, seed: int) -> Any:
    """Return peft's module around `module`, whose weights are frozen; the adapters are fp32.

    Raises ConfigError without peft or for targets that the model does not have, ModelError for an adapter
    of another base.
    """
    try:
        from peft import LoraConfig, TaskType, get_peft_model
    except ImportError as error:
        raise ConfigError("lora.rank needs peft: pip install 'zerone[lora]'") from error
    settings = LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        r=wanted.rank,
        lora_alpha=wanted.alpha,
        lora_dropout=0.0,
        target_modules=_targets_of(module, wanted.targets),
    )
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks by a name that transformers gives up
        torch.manual_seed(seed_from(seed, "lora"))
        try:
            adapted = get_peft_model(module, settings)
        except ValueError as error:
            raise ConfigError(f"lora.targets={[*wanted.targets]}: {brief(error)}") from error
    if any(hasattr(part, "parameter_name") for part in adapted.modules()):
        raise ConfigError(
            f"lora.targets={[*wanted.targets]} reaches the experts of a mixture, whose adapters cannot be "
            f"trained here; leave {', '.join(sorted(_OF_EXPERTS & {*wanted.targets}))} out"
        )
    adapted.peft_config[_NAME].base_model_name_or_path = base.name
    if wanted.path is not None:
        read_adapter(adapted, wanted.path, base)
    return adapted


def _targets_of(module: Any, targets: Sequence[str]) -> list[str]:
    """Return the names that peft is given.

    Raises ConfigError for a target that names no linear map: peft leaves it out without a word.
    """
    head = module.get_output_embeddings()
    linear = [
        name for name, part in module.named_modules() if isinstance(part, nn.Linear) and part is not head
    ]
    if tuple(targets) == (ALL_LINEAR,):
        has_experts = any(parameter.ndim == 3 for parameter in module.parameters())
        names = {name.rpartition(".")[2] for name in linear}
        return sorted(names - _OF_EXPERTS if has_experts else names)
    for target in targets:
        if not any(name == target or name.endswith(f".{target}") for name in linear):
            own = ", ".join(sorted({name.rpartition(".")[2] for name in linear}))
            raise ConfigError(f"lora.targets names {target!r}, and the model's linear maps are {own}")
    return [*targets]


def has_adapters(module: Any) -> bool:
    """Whether peft has put adapters into a module."""
    return any(hasattr(part, "base_layer") for part in module.modules())


def base_of(module: Any) -> Any:
    """Return the transformers model, below adapters where there are some."""
    return module.get_base_model() if hasattr(module, "get_base_model") else module


@contextmanager
def adapters_off(module: Any) -> Iterator[None]:
    """Compute the base model for a while.

    The adapters' factor is zero meanwhile. peft's own switch also changes which parameters want gradients,
    which must not happen between a forward and a backward pass over sharded ones.
    """
    layers = [part for part in module.modules() if hasattr(part, "base_layer")]
    factors = [layer.scaling[_NAME] for layer in layers]
    try:
        for layer in layers:
            layer.scaling[_NAME] = 0.0
        yield
    finally:
        for layer, factor in zip(layers, factors, strict=True):
            layer.scaling[_NAME] = factor


def merged_weights(module: Any) -> Iterator[tuple[str, Tensor]]:
    """Yield the full weights by the names of the model without adapters, tied ones once.

    Shards are gathered and adapters merged, in fp32; every rank must iterate to the end.
    """
    base = base_of(module)
    layers = {
        f"{name}.base_layer": part for name, part in base.named_modules() if hasattr(part, "base_layer")
    }
    for name, parameter in base.named_parameters():
        place, _, kind = name.rpartition(".")
        if ".lora_" in name:
            continue
        full = full_of(parameter)
        if (layer := layers.get(place)) is None:
            yield name, full
        elif kind == "weight":
            delta = full_of(layer.lora_B[_NAME].weight) @ full_of(layer.lora_A[_NAME].weight)
            yield _without_adapter(name), full.float() + layer.scaling[_NAME] * delta.float()
        else:
            yield _without_adapter(name), full


def full_weights(module: Any) -> dict[str, Tensor] | None:
    """Return what a transformers directory holds, on the CPU; None for a module that is whole and plain."""
    base = base_of(module)
    parameters = dict(base.named_parameters(remove_duplicate=False))
    if not has_adapters(base) and not any(isinstance(one, DTensor) for one in parameters.values()):
        return None
    buffers = {name: one for name, one in base.state_dict().items() if name not in parameters}
    return {name: one.cpu() for name, one in (*merged_weights(module), *buffers.items())}


def _without_adapter(name: str) -> str:
    return name.replace(".base_layer.", ".")


# Adapters on disk ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AdapterPart:
    """The adapters of a model as a checkpoint keeps them, in peft's format."""

    module: Any
    base: Base

    def write(self, path: Path) -> None:
        """Write the directory."""
        write_adapter(self.module, path, self.base)

    def read(self, path: Path) -> None:
        """Take the adapters back."""
        read_adapter(self.module, path, self.base)


def write_adapter(module: Any, path: Path, base: Base) -> None:
    """Write adapters as peft does, with a note of the base model that they belong to."""
    module.save_pretrained(path, state_dict=gather_adapters(module), save_embedding_layers=False)
    (path / "README.md").unlink(missing_ok=True)  # peft's model card, with nothing but blanks
    about = {"base": base.name, "base_sha256": base.sha256}
    (path / _BASE_NAME).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")


def read_adapter(module: Any, path: Path, base: Base) -> None:
    """Load adapters that `write_adapter` or peft wrote; raises ModelError for those of another base model."""
    known = read_object(path / _BASE_NAME) if (path / _BASE_NAME).is_file() else {}
    if known.get("base_sha256", base.sha256) != base.sha256:
        raise ModelError(
            f"the adapter {path} belongs to another base model ({known.get('base')}) than {base.name}; "
            "give that one as model.path"
        )
    try:
        tensors = load_file(path / _WEIGHTS_NAME)
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"cannot read {path / _WEIGHTS_NAME}: {brief(error)}; copy the adapter again"
        ) from error
    own = {name.replace(f".{_NAME}.", "."): parameter for name, parameter in _adapter_parameters(module)}
    _check_same_shapes(tensors, own, path, base)
    for name, parameter in own.items():
        copy_full(parameter, tensors[name])


def _check_same_shapes(
    tensors: Mapping[str, Tensor], own: Mapping[str, Tensor], path: Path, base: Base
) -> None:
    odd = sorted(tensors.keys() ^ own.keys())
    odd += sorted(name for name in tensors.keys() & own.keys() if tensors[name].shape != own[name].shape)
    if odd:
        raise ModelError(
            f"the adapter {path} does not fit {base.name}: {len(odd)} tensors are missing, left over or of "
            f"another shape (the first: {odd[0]}); give the base model that it was made for as model.path"
        )


def _adapter_parameters(module: Any) -> Iterator[tuple[str, Any]]:
    return ((name, parameter) for name, parameter in module.named_parameters() if ".lora_" in name)


def gather_adapters(module: Any) -> dict[str, Tensor]:
    """Return the adapters whole, by name, on the CPU; all ranks together."""
    return {name: full_of(parameter).cpu() for name, parameter in _adapter_parameters(module)}
