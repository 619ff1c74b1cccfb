"""Writes a model as one GGUF file, for llama.cpp, Ollama and what builds on them.

In: a `Source` and a precision of the matrices. Out: a file that was read back and compared, tensor
by tensor. What GGUF readers could not compute is refused: they know how text is cut into tokens
only by the name of the rule, and not every form of an architecture.
"""

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from zerone.corpus.tokenizer import QWEN2_PATTERN
from zerone.errors import ExportError
from zerone.export.source import Source
from zerone.model.loading import load_weights

Precision = Literal["f32", "f16"]

_LLAMA3 = QWEN2_PATTERN.replace(r"\p{N}|", r"\p{N}{1,3}|", 1)

_Step = tuple[str, str | bool]
_RULES: dict[tuple[_Step, ...], str] = {
    (("split", QWEN2_PATTERN), ("bytes", False)): "qwen2",
    (("split", _LLAMA3), ("bytes", False)): "llama-bpe",
    (("digits", True), ("bytes", True)): "smollm",
    (("bytes", True),): "gpt-2",
}
"""What a tokenizer does before it merges -> the name that llama.cpp has for it."""


def require_gguf() -> None:
    """Raise ExportError when the package that writes GGUF is missing."""
    if importlib.util.find_spec("gguf") is None:
        raise ExportError("writing GGUF needs the package gguf; run: pip install 'zerone[gguf]'")


def write_gguf(source: Source, path: Path, name: str, precision: Precision) -> None:
    """Write the file and read it back; raises ExportError when GGUF has no form for the model."""
    require_gguf()
    import gguf

    _refuse_unwritable(source)
    writer: Any = gguf.GGUFWriter(path, source.files.config.model_type)
    _add_settings(writer, source, name, precision)
    _add_tokenizer(writer, source)
    module = load_weights(source.files, torch.float32)
    for tensor_name, values in _tensors(module, precision):
        writer.add_tensor(tensor_name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    _compare(path, module, precision)


def _refuse_unwritable(source: Source) -> None:
    config = source.files.config
    rope = config.rope_parameters.get("rope_type", "default")
    if rope != "default":
        raise ExportError(f"rotary scaling {rope!r} is not written to GGUF here; export with --to hf instead")
    if config.model_type == "qwen3" and config.attention_bias:
        raise ExportError("llama.cpp knows no Qwen3 with attention_bias; export with --to hf instead")


def _add_settings(writer: Any, source: Source, name: str, precision: Precision) -> None:
    import gguf

    config = source.files.config
    head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_name(name)
    if source.licence is not None:
        writer.add_license(source.licence.lower())
    writer.add_file_type(gguf.LlamaFileType.ALL_F32 if precision == "f32" else gguf.LlamaFileType.MOSTLY_F16)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head_size)
    writer.add_value_length(head_size)
    writer.add_rope_dimension_count(head_size)
    writer.add_rope_freq_base(float(config.rope_parameters["rope_theta"]))
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)


# Tokenizer ----------------------------------------------------------------------------------------


def _add_tokenizer(writer: Any, source: Source) -> None:
    import gguf

    tokenizer = source.files.tokenizer
    if not tokenizer.is_fast:
        raise ExportError("the model has no tokenizer.json; GGUF is written from that file only")
    described: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(rule_name(described))
    size = source.files.config.vocab_size
    tokens = [f"[PAD{number}]" for number in range(size)]
    types = [gguf.TokenType.UNUSED] * size
    for text, number in described["model"]["vocab"].items():
        tokens[number], types[number] = text, gguf.TokenType.NORMAL
    for added in described["added_tokens"]:
        tokens[added["id"]] = added["content"]
        types[added["id"]] = gguf.TokenType.CONTROL if added["special"] else gguf.TokenType.USER_DEFINED
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(
        [pair if isinstance(pair, str) else " ".join(pair) for pair in described["model"]["merges"]]
    )
    writer.add_eos_token_id(tokenizer.eos_token_id)
    if tokenizer.pad_token_id is not None:
        writer.add_pad_token_id(tokenizer.pad_token_id)
    if tokenizer.bos_token_id is not None:
        writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_add_bos_token(bool(tokenizer("")["input_ids"]))
    template = source.chat_template
    if template is not None:
        writer.add_chat_template(template)


def rule_name(described: dict[str, Any]) -> str:
    """Return the name that GGUF readers have for how a tokenizer.json cuts text; ExportError if none."""
    model, normalizer = described["model"], described["normalizer"]
    is_known = (
        model["type"] == "BPE"
        and not model.get("byte_fallback")
        and (normalizer is None or normalizer["type"] == "NFC")
    )
    name = _RULES.get(tuple(_steps(described["pre_tokenizer"]))) if is_known else None
    if name is None or bool(model.get("ignore_merges")) != (name == "llama-bpe"):
        raise ExportError(
            "GGUF readers know how to cut text only by name, and this tokenizer cuts it in none of the ways "
            f"that have one here ({', '.join(_RULES.values())}); export with --to hf instead"
        )
    return name


def _steps(pre_tokenizer: dict[str, Any] | None) -> Iterator[_Step]:
    """Yield what is done to a text before its pieces are merged, nested sequences laid flat."""
    match pre_tokenizer:
        case {"type": "Sequence", "pretokenizers": list(inner)}:
            for step in inner:
                yield from _steps(step)
        case {"type": "Split", "pattern": {"Regex": str(regex)}, "behavior": "Isolated", "invert": False}:
            yield "split", regex
        case {"type": "Digits", "individual_digits": bool(one_by_one)}:
            yield "digits", one_by_one
        case {"type": "ByteLevel", "add_prefix_space": False, "use_regex": bool(use_regex)}:
            yield "bytes", use_regex
        case _:
            yield "unknown", True


# Weights ------------------------------------------------------------------------------------------


def _tensors(module: Any, precision: Precision) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    """Yield the tensors by their GGUF names; vectors stay fp32, as every reader expects."""
    import gguf

    config = module.config
    architectures = {name: number for number, name in gguf.MODEL_ARCH_NAMES.items()}
    names: Any = gguf.get_tensor_name_map(architectures[config.model_type], config.num_hidden_layers)
    for name, tensor in module.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue  # a file without an output matrix has that of the embedding
        values: npt.NDArray[Any] = tensor.detach().float().numpy()
        if config.model_type == "llama":
            values = _interleaved(name, values, config)
        if precision == "f16" and values.ndim > 1:
            with np.errstate(over="ignore"):
                values = values.astype(np.float16)
            if not np.isfinite(values).all():
                raise ExportError(f"{name} has values beyond what f16 holds; use --precision f32")
        yield names.get_name(name, try_suffixes=(".weight", ".bias")), values


def _interleaved(name: str, values: npt.NDArray[Any], config: Any) -> npt.NDArray[Any]:
    """Put channel i + E/2 of a query or key head beside channel i, as GGUF pairs them for Llama."""
    if ".q_proj." in name:
        heads = config.num_attention_heads
    elif ".k_proj." in name:
        heads = config.num_key_value_heads
    else:
        return values
    halves = values.reshape(heads, 2, values.shape[0] // heads // 2, *values.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(values.shape))


def _compare(path: Path, module: Any, precision: Precision) -> None:
    """Read the file back; raises ExportError where it does not hold what was to be written."""
    import gguf

    written = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    expected = dict(_tensors(module, precision))
    wrong = sorted(set(written) ^ set(expected)) or sorted(
        name
        for name, values in expected.items()
        if not np.array_equal(np.asarray(written[name].data).reshape(values.shape), values)
    )
    if wrong:
        raise ExportError(f"{path} does not hold {wrong[0]} as it was written; check the disk and try again")
