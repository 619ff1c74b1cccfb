"""Writes a model as one GGUF file, for llama.cpp, Ollama and what builds on them.

In: a `Source` and a precision of the matrices. Out: a file that was read back and computes the same
(readback.py). What is written is what the module in memory holds, whatever its configuration says. What
GGUF readers could not compute is refused: they know how text is cut into tokens only by the name of the
rule, and not every form of an architecture.
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
from zerone.export.readback import check_gguf
from zerone.export.rope import Rope, rope_of
from zerone.export.source import Source
from zerone.model.loading import load_weights
from zerone.model.tokenizer import end_id, start_ids

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

    module = load_weights(source.files, torch.float32)
    if module.config.model_type == "qwen3" and module.model.layers[0].self_attn.q_proj.bias is not None:
        raise ExportError("llama.cpp knows no Qwen3 with attention_bias; export with --to hf instead")
    rope = rope_of(module)
    writer: Any = gguf.GGUFWriter(path, module.config.model_type)
    writer.add_name(name)
    if source.licence is not None:
        writer.add_license(source.licence.lower())
    writer.add_file_type(gguf.LlamaFileType.ALL_F32 if precision == "f32" else gguf.LlamaFileType.MOSTLY_F16)
    _add_settings(writer, module)
    _add_rope(writer, rope)
    _add_tokenizer(writer, source)
    for tensor_name, values in _tensors(module, precision):
        writer.add_tensor(tensor_name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    check_gguf(path, module, is_rounded=precision == "f16")


def _add_settings(writer: Any, module: Any) -> None:
    layers, attention = module.model.layers, module.model.layers[0].self_attn
    head_size = attention.head_dim
    writer.add_context_length(module.config.max_position_embeddings)
    writer.add_embedding_length(module.model.embed_tokens.weight.shape[1])
    writer.add_block_count(len(layers))
    writer.add_feed_forward_length(len(layers[0].mlp.gate_proj.weight))
    writer.add_head_count(len(attention.q_proj.weight) // head_size)
    writer.add_head_count_kv(len(attention.k_proj.weight) // head_size)
    writer.add_key_length(head_size)
    writer.add_value_length(head_size)
    writer.add_layer_norm_rms_eps(module.model.norm.variance_epsilon)
    writer.add_vocab_size(len(module.model.embed_tokens.weight))
    writer.add_rope_dimension_count(head_size)


def _add_rope(writer: Any, rope: Rope) -> None:
    import gguf

    writer.add_rope_freq_base(rope.base)
    if rope.kind is not None:
        writer.add_rope_scaling_type(gguf.RopeScalingType(rope.kind))
        writer.add_rope_scaling_factor(rope.factor)
    if rope.original_context is not None:
        writer.add_rope_scaling_orig_ctx_len(rope.original_context)
    for name, number in rope.numbers.items():
        writer.add_float32(f"{writer.arch}.rope.scaling.{name}", number)
    if rope.factors_E is not None:
        writer.add_tensor("rope_freqs.weight", rope.factors_E.numpy())


# Tokenizer ----------------------------------------------------------------------------------------


def _add_tokenizer(writer: Any, source: Source) -> None:
    import gguf

    tokenizer = source.files.tokenizer
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
    _add_ends(writer, source)
    template = source.chat_template
    if template is not None:
        writer.add_chat_template(template)


def _add_ends(writer: Any, source: Source) -> None:
    """Write the tokens that begin and end a text; GGUF has room for three that end one."""
    tokenizer = source.files.tokenizer
    end = end_id(tokenizer)
    writer.add_eos_token_id(end)
    others = [token for token in source.end_ids if token != end]
    for add, token in zip((writer.add_eot_token_id, writer.add_eom_token_id), others, strict=False):
        add(token)
    if tokenizer.pad_token_id is not None:
        writer.add_pad_token_id(tokenizer.pad_token_id)
    starts = start_ids(tokenizer)
    if len(starts) > 1:
        raise ExportError(
            f"the tokenizer puts {len(starts)} tokens before a text, and GGUF readers one at most; "
            "export with --to hf instead"
        )
    beginning = [*starts, tokenizer.bos_token_id][0]
    if beginning is not None:
        writer.add_bos_token_id(beginning)
    writer.add_add_bos_token(bool(starts))
    writer.add_add_eos_token(False)  # whatever the tokenizer does: a prompt goes on


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
    is_tied = module.lm_head.weight is module.model.embed_tokens.weight
    for name, tensor in module.state_dict().items():
        if name == "lm_head.weight" and is_tied:
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
