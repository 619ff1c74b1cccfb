"""The shape of a model: its sizes, as far as memory and time depend on them.

In: a directory with config.json, the name of a well-known model, or a number of parameters. Out: a
`ModelShape`. No weights are read: transformers builds the model from its configuration on a device without
memory, and the parameters of any architecture are counted exactly.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from zerone.errors import ConfigError, ModelError
from zerone.model.configuration import brief, read_object
from zerone.model.loading import EMBEDDED, find_directory
from zerone.model.lora import ALL_LINEAR
from zerone.planning.known_models import KNOWN_MODELS

_MOST_LAYERS = 1000
"""A configuration with more is damaged; it would be built one by one."""

_FAULTS = (
    *(OSError, ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RuntimeError),
    StrictDataclassError,
)
"""What transformers raises at a config.json that it cannot build a model from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """Sizes of a model.

    `active` parameters take part in each token, `experts` is how many of all are routed experts'. Widths
    are numbers per token: `width` of the residual stream, `heads_width` of all query heads together,
    `inner` of the MLP (of a mixture: of the experts that a token meets), `cache_width` what a layer's cache
    keeps of it. `linear_widths` adds up inputs and outputs of the linear maps that LoRA would adapt, all or
    those asked for. `is_guessed` where only the number of parameters was given.
    """

    name: str
    parameters: int
    active: int
    layers: int
    width: int
    heads_width: int
    num_heads: int
    inner: int
    cache_width: int
    vocabulary: int
    experts: int = 0
    expert_share: float = 1.0
    linear_widths: int = 0
    is_guessed: bool = False

    @property
    def is_mixture(self) -> bool:
        """Whether it has routed experts."""
        return self.experts > 0


def shape_of_model(path: str, targets: Sequence[str] = (ALL_LINEAR,)) -> ModelShape:
    """Return the shape of what `model.path` names: a directory, or a well-known model by its name.

    `targets` name the linear maps that adapters would go beside. Raises ModelError for what is neither.
    """
    if path != EMBEDDED and not Path(path).expanduser().exists() and path in KNOWN_MODELS:
        declared = dict(KNOWN_MODELS[path])
        return _shape(path, AutoConfig.for_model(declared.pop("model_type"), **declared), targets)
    try:
        directory = find_directory(path)
    except ModelError as error:
        raise ModelError(
            f"{error}; or, to plan, one of the known names ({', '.join(KNOWN_MODELS)}) or --params N"
        ) from error
    return _shape(path, _read(directory), targets)


def _read(directory: Path) -> Any:
    """Return the configuration of any architecture that transformers has; its weights may be missing."""
    path = directory / "config.json"
    if not path.is_file():
        raise ModelError(f"{directory} has no config.json; give a transformers directory, or --params N")
    declared = read_object(path)
    layers = declared.get("num_hidden_layers", 1)
    if isinstance(layers, int) and layers > _MOST_LAYERS:
        raise ModelError(f"num_hidden_layers is {layers} in {path}; copy the model's own config.json again")
    try:
        return AutoConfig.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    except _FAULTS as error:
        raise ModelError(f"cannot use {path}: {brief(error)}") from error


def _shape(name: str, config: Any, targets: Sequence[str]) -> ModelShape:
    try:
        with torch.device("meta"):
            module = AutoModelForCausalLM.from_config(
                config, attn_implementation="eager", trust_remote_code=False
            )
    except _FAULTS as error:
        raise ModelError(f"transformers cannot build {name} from its config.json: {brief(error)}") from error
    text = config.get_text_config()
    sizes = {key: parameter.numel() for key, parameter in module.named_parameters()}
    parameters = sum(sizes.values())
    experts = sum(size for key, size in sizes.items() if ".experts." in key)
    chosen, all_experts = _first(text, "num_experts_per_tok", 1), _first(text, *_EXPERTS, 1)
    share = chosen / all_experts if experts else 1.0
    heads = int(text.num_attention_heads)
    head_dim = getattr(text, "head_dim", None) or text.hidden_size // heads
    width = int(text.hidden_size)
    return ModelShape(
        name=name,
        parameters=parameters,
        active=round(parameters - experts * (1 - share)),
        layers=int(text.num_hidden_layers),
        width=width,
        heads_width=heads * (getattr(text, "v_head_dim", None) or head_dim),
        num_heads=heads,
        inner=_inner(text, chosen) if experts else int(text.intermediate_size),
        cache_width=_cache_width(text, head_dim),
        vocabulary=int(text.vocab_size),
        experts=experts,
        expert_share=share,
        linear_widths=_linear_widths(module, targets),
    )


def _linear_widths(module: nn.Module, targets: Sequence[str]) -> int:
    """Return the sum of inputs and outputs of the adapted linear maps; the head is none of them."""
    return sum(
        linear.in_features + linear.out_features
        for name, linear in module.named_modules()
        if isinstance(linear, nn.Linear)
        and name != "lm_head"
        and (ALL_LINEAR in targets or any(name.split(".")[-1] == target for target in targets))
    )


_EXPERTS = ("num_experts", "n_routed_experts", "num_local_experts")


def _first(config: Any, *names: Any) -> Any:
    """Return the first of these attributes that there is; the last is a default."""
    *wanted, default = names
    return next((value for name in wanted if (value := getattr(config, name, None))), default)


def _inner(config: Any, chosen: int) -> int:
    size = _first(config, "moe_intermediate_size", config.intermediate_size)
    return int(size * (chosen + (getattr(config, "n_shared_experts", None) or 0)))


def _cache_width(config: Any, head_dim: int) -> int:
    """Return the numbers that a layer caches of a token: keys and values, or what MLA compresses them to."""
    if latent := getattr(config, "kv_lora_rank", None):
        return int(latent + config.qk_rope_head_dim)
    return int(2 * _first(config, "num_key_value_heads", config.num_attention_heads) * head_dim)


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenSizes:
    """Sizes that a user gives where there is no config.json; None is guessed from the others."""

    parameters: float
    active: float | None = None
    layers: int | None = None
    width: int | None = None
    cache_width: int | None = None
    vocabulary: int | None = None


def shape_of_sizes(given: GivenSizes) -> ModelShape:
    """Return the shape of a model of so many parameters.

    Guessed as for the usual dense decoder: N = 12 L D^2 with D = 128 L, an MLP of 3.5 D, a cache of D / 2
    numbers (one key/value head for four query heads), a vocabulary of 128,000.
    """
    if given.active is not None and given.active > given.parameters:
        raise ConfigError(
            f"--active-params {given.active:g} is more than --params {given.parameters:g}, which counts all"
        )
    active = given.active or given.parameters
    layers = given.layers or max(1, round((active / (12 * 128**2)) ** (1 / 3)))
    width = given.width or max(128, round((active / (12 * layers)) ** 0.5 / 128) * 128)
    experts = round(given.parameters - active)  # those that a token does not meet, about all of them
    return ModelShape(
        name=f"{given.parameters:.3g} parameters",
        parameters=round(given.parameters),
        active=round(active),
        layers=layers,
        width=width,
        heads_width=width,
        num_heads=max(1, width // 128),
        inner=round(3.5 * width),
        cache_width=given.cache_width or max(1, width // 2),
        vocabulary=given.vocabulary or 128_000,
        experts=experts,
        expert_share=active / given.parameters,
        linear_widths=layers * (4 * width + 3 * round(4.5 * width)),
        is_guessed=True,
    )
