"""Reads the config.json of a model directory and refuses what zerone cannot compute.

In: a directory. Out: the configuration of transformers, without anything by which it would fetch code, and
without the numbers that its class has for what the file leaves out. Only the small file is read.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig, PreTrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from zerone.errors import FileError, ModelError
from zerone.files import read_json
from zerone.model.decoder import SUPPORTED, check_supported


def read_config(directory: Path, *, any_architecture: bool = False) -> PreTrainedConfig:
    """Return the configuration of a model that the decoder computes, or that transformers does.

    `any_architecture` admits every causal language model of transformers, for `model.trainer=parallel`.
    """
    path = directory / "config.json"
    if not path.is_file():
        inner = directory / "model"  # of a run or a checkpoint
        hint = (
            f"its model is {inner}" if (inner / "config.json").is_file() else "give a transformers directory"
        )
        raise ModelError(f"{directory} has no config.json; {hint}")
    declared = read_object(path)
    _check_type(declared.get("model_type"), path, any_architecture=any_architecture)
    _check_sizes(declared, path)
    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(
            directory, local_files_only=True, trust_remote_code=False
        )
    except _FAULTS as error:
        raise ModelError(
            f"cannot use {path}: {brief(error)}; copy the model's own config.json again"
        ) from error
    # transformers would fetch and run a kernel that is named there.
    config._attn_implementation = _attention_of(config)
    for name in _IDS:
        if declared.get(name) is None:
            setattr(config, name, None)  # else the number that the first model of the class had
    if any_architecture:
        _check_text_only(config, path)
    else:
        try:
            check_supported(config)
        except ModelError as error:
            raise ModelError(f"{path}: {error}; {_OTHER_TRAINER}") from error
    _check_ids(config, path)
    if "quantization_config" in config.to_dict():
        raise ModelError(f"the weights in {directory} are quantised, which cannot be trained; give full ones")
    return config


_OTHER_TRAINER = "model.trainer=parallel trains other architectures too"


def _check_type(model_type: Any, path: Path, *, any_architecture: bool) -> None:
    """Raise ModelError for an unknown type: transformers would advise to run the code of one."""
    if any_architecture:
        if model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
            raise ModelError(
                f"model type {model_type!r} in {path} is not a causal language model of this transformers; "
                "code from a model directory is never run. Give another model, or a newer transformers"
            )
    elif model_type not in SUPPORTED:
        known = f"; {_OTHER_TRAINER}" if model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES else ""
        raise ModelError(
            f"model type {model_type!r} in {path} is not supported; use one of {', '.join(SUPPORTED)}{known}"
        )


def _attention_of(config: PreTrainedConfig) -> str:
    """Return SDPA, or eager for the classes that have no such form (Gemma 2)."""
    model = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    return "sdpa" if getattr(model, "_supports_sdpa", False) else "eager"


def _check_text_only(config: PreTrainedConfig, path: Path) -> None:
    """Raise ModelError for a model that also sees or hears, or that is no causal language model."""
    if config.get_text_config() is not config or getattr(config, "is_encoder_decoder", False):
        raise ModelError(
            f"{path} describes a model with parts beside its language model (vision, audio or an encoder), "
            "which is not supported; give the language model alone"
        )


_FAULTS = (
    *(OSError, ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError),
    StrictDataclassError,
)
"""What transformers raises at a config.json that it cannot read."""

_SIZES = (
    *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
    *("num_key_value_heads", "head_dim", "max_position_embeddings"),
)
_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")


def _check_sizes(declared: Mapping[str, Any], path: Path) -> None:
    """Raise ModelError for a size that no model has; what is no whole number transformers complains of."""
    sizes = {name: size for name in _SIZES if isinstance(size := declared.get(name), int)}
    for name, size in sizes.items():
        if size < 1:
            raise ModelError(
                f"cannot use {path}: {name} is {size} and must be at least 1; "
                "copy the model's own config.json again"
            )
    width, heads = sizes.get("hidden_size", 0), sizes.get("num_attention_heads", 1)
    # Those of Qwen3 have a width of their own.
    has_own_heads = declared["model_type"] == "qwen3" or declared["model_type"] not in SUPPORTED
    if declared.get("head_dim") is None and not has_own_heads and width % (2 * heads):
        raise ModelError(
            f"cannot use {path}: hidden_size is {width}, of which num_attention_heads, {heads}, take no "
            "equal and even parts; copy the model's own config.json again"
        )


def _check_ids(config: PreTrainedConfig, path: Path) -> None:
    """Raise ModelError for the number of a token that the model does not have."""
    for name in _IDS:
        given = getattr(config, name, None)
        for token in given if isinstance(given, list) else [given]:
            if isinstance(token, int) and not 0 <= token < config.vocab_size:
                raise ModelError(
                    f"cannot use {path}: {name} is {given} and vocab_size {config.vocab_size}; "
                    "give the number of a token, or null for none"
                )


def read_object(path: Path) -> dict[str, Any]:
    """Return the object of a JSON file; raises ModelError if it holds none."""
    try:
        return read_json(path)
    except FileError as error:
        raise ModelError(f"{brief(error)}; copy the model again") from error


def brief(error: BaseException) -> str:
    """Return the first line of a message, or all of it where that line only announces the rest."""
    first, *rest = str(error).strip().splitlines() or [type(error).__name__]
    text = " ".join([first, *(line.strip() for line in rest)]) if first.endswith(":") else first
    return text.rstrip(". ")
