"""A smaller model out of a larger one: fewer layers, fewer neurons in each, in one of two architectures.

In: a Qwen3 module. Out: a new module, Qwen3 or Llama, of the same width and vocabulary, whose weights
are the larger one's as far as there is room. It is a start for training, not a model to use: pruned
models are trained on for a while (as in Sheared LLaMA and Minitron). Layers are kept at even distances,
first and last among them; of neurons those with the largest weights.

Dimensions: F neurons of a layer, D width, H heads, E head size.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from zerone.errors import ModelError


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """What is kept: shares of the layers and of the neurons, and the architecture that comes out."""

    family: Literal["qwen3", "llama"]
    layers: float
    neurons: float


def cut_model(module: Any, cut: Cut) -> Any:
    """Return the smaller model in fp32; raises ModelError for a model that is not a plain Qwen3."""
    from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

    whole = module.config
    if whole.model_type != "qwen3" or whole.attention_bias:
        raise ModelError(
            f"a student is cut out of a Qwen3 model without biases, not out of {whole.model_type}; give the "
            "directory of a student's base instead of its name"
        )
    kept_layers = kept_positions(whole.num_hidden_layers, cut.layers)
    num_neurons = max(1, round(cut.neurons * whole.intermediate_size))
    settings = {
        "vocab_size": whole.vocab_size,
        "hidden_size": whole.hidden_size,
        "intermediate_size": num_neurons,
        "num_hidden_layers": len(kept_layers),
        "num_attention_heads": whole.num_attention_heads,
        "num_key_value_heads": whole.num_key_value_heads,
        "head_dim": whole.head_dim,
        "max_position_embeddings": whole.max_position_embeddings,
        "rope_parameters": dict(whole.rope_parameters),
        "rms_norm_eps": whole.rms_norm_eps,
        "tie_word_embeddings": whole.tie_word_embeddings,
        "bos_token_id": None,
        "eos_token_id": whole.eos_token_id,
        "pad_token_id": whole.pad_token_id,
    }
    is_llama = cut.family == "llama"
    small: Any = (
        LlamaForCausalLM(LlamaConfig(**settings)) if is_llama else Qwen3ForCausalLM(Qwen3Config(**settings))
    )
    small = small.float()
    with torch.no_grad():
        small.model.embed_tokens.weight.copy_(module.model.embed_tokens.weight)
        small.model.norm.weight.copy_(module.model.norm.weight)
        if not whole.tie_word_embeddings:
            small.lm_head.weight.copy_(module.lm_head.weight)
        for target, index in zip(small.model.layers, kept_layers, strict=True):
            _fill_layer(target, module.model.layers[index], num_neurons, is_llama)
    return small


def kept_positions(total: int, share: float) -> list[int]:
    """Return which of `total` layers are kept: evenly spread, the last one and, of several, the first."""
    number = max(1, min(total, round(share * total)))
    if number == 1:
        return [total - 1]
    return [round(i * (total - 1) / (number - 1)) for i in range(number)]


def _fill_layer(target: Any, source: Any, num_neurons: int, is_llama: bool) -> None:
    target.input_layernorm.weight.copy_(source.input_layernorm.weight)
    target.post_attention_layernorm.weight.copy_(source.post_attention_layernorm.weight)
    ours, theirs = target.self_attn, source.self_attn
    ours.v_proj.weight.copy_(theirs.v_proj.weight)
    ours.o_proj.weight.copy_(theirs.o_proj.weight)
    gain_D = source.input_layernorm.weight
    for name in ("q", "k"):
        weight, norm = getattr(theirs, f"{name}_proj").weight, getattr(theirs, f"{name}_norm").weight
        if is_llama:
            weight = _with_norm_inside(weight, norm, gain_D)
        else:
            getattr(ours, f"{name}_norm").weight.copy_(norm)
        getattr(ours, f"{name}_proj").weight.copy_(weight)
    kept_F = _strongest(source.mlp, source.post_attention_layernorm.weight, num_neurons)
    target.mlp.gate_proj.weight.copy_(source.mlp.gate_proj.weight[kept_F])
    target.mlp.up_proj.weight.copy_(source.mlp.up_proj.weight[kept_F])
    target.mlp.down_proj.weight.copy_(source.mlp.down_proj.weight[:, kept_F])


def _with_norm_inside(weight: Tensor, norm_E: Tensor, gain_D: Tensor) -> Tensor:
    """Return a projection without the norm that followed it, scaled as that norm does on average.

    Llama has no norm of queries and keys. For inputs of unit variance a head's mean square is the mean of
    its rows' squared lengths.
    """
    heads_HED = weight.unflatten(0, (-1, len(norm_E)))
    mean_square_H = (heads_HED * gain_D).square().sum(-1).mean(-1)
    folded_HED: Tensor = heads_HED * norm_E[:, None] * mean_square_H.rsqrt()[:, None, None]
    return folded_HED.flatten(0, 1)


def _strongest(mlp: Any, gain_D: Tensor, number: int) -> Tensor:
    """Return the neurons whose weights in and out are the largest together, in their old order."""
    into_F = (mlp.gate_proj.weight * gain_D).norm(dim=1) * (mlp.up_proj.weight * gain_D).norm(dim=1)
    sizes_F: Tensor = into_F * mlp.down_proj.weight.norm(dim=0)
    return sizes_F.topk(number).indices.sort().values
