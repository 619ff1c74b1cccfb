"""One forward pass for Qwen2, Qwen3 and Llama models, over the weights of a transformers module.

In: token ids and positions as flat vectors, and a function that attends. Out: hidden states.
Trainer (packed.py), prefill and decoding (rollout/) differ in how they attend and in nothing
else, so sampler and trainer cannot drift apart. The transformers module stays the owner of the
parameters: it loads and saves them, and tests compare this pass with its own.

Dimensions: N tokens, D width, H query heads, K key/value heads, E head size, V vocabulary.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from zerone.errors import ModelError
from zerone.processes.machine import NARROW

SUPPORTED = ("qwen2", "qwen3", "llama")

Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""(layer, queries_NHE, keys_NKE, values_NKE) -> mixed_NHE; scaling by E**-0.5 is the callee's."""


@dataclass(frozen=True, slots=True)
class Projection:
    """One linear map, or several of the same input as one."""

    weight: Tensor
    bias: Tensor | None

    @classmethod
    def of(cls, *linears: torch.nn.Linear, dtype: torch.dtype) -> "Projection":
        """Join the layers; the copy carries gradients back to each wherever they are wanted."""
        weights = [linear.weight.to(dtype) for linear in linears]
        biases = [linear.bias.to(dtype) for linear in linears if linear.bias is not None]
        if len(linears) == 1:
            return cls(weights[0], biases[0] if biases else None)
        return cls(torch.cat(weights), torch.cat(biases) if biases else None)

    def __call__(self, x_ND: Tensor) -> Tensor:
        """Return the outputs side by side, [N, sum of widths]."""
        if self.weight.is_mkldnn:
            product: Tensor = torch.ops.mkldnn._linear_pointwise(x_ND, self.weight, self.bias, "none", [], "")
            return product
        return functional.linear(x_ND, self.weight, self.bias)

    def prepacked(self) -> "Projection":
        """Return the same map with its weight in oneDNN's own layout: a copy, without gradients."""
        return Projection(torch.ops.mkldnn._reorder_linear_weight(self.weight.contiguous()), self.bias)

    def reordered(self, rows: Tensor) -> "Projection":
        """Return the same map with its outputs in another order."""
        return self.with_each(lambda x: x[rows])

    def with_each(self, change: Callable[[Tensor], Tensor]) -> "Projection":
        """Return the map with its weight and its bias changed."""
        return Projection(change(self.weight), None if self.bias is None else change(self.bias))


@dataclass(frozen=True, slots=True)
class Layer:
    """The weights of one block; `head_norms_HE` stacks the query and key norms of Qwen3."""

    input_norm_D: Tensor
    qkv: Projection
    head_norms_HE: Tensor | None
    out: Projection
    mlp_norm_D: Tensor
    gate_up: Projection
    down: Projection

    def prepacked(self) -> "Layer":
        """Return the layer with the weights of all its maps in oneDNN's own layout."""
        return replace(
            self,
            qkv=self.qkv.prepacked(),
            out=self.out.prepacked(),
            gate_up=self.gate_up.prepacked(),
            down=self.down.prepacked(),
        )


class Decoder:
    """The functional view of a transformers causal language model, as its weights are now.

    Matrices of the same input are joined, and the channels of each query and key head are put in
    the order that lets rotary embedding be one complex product (transformers pairs channel i with
    i + E/2; scores do not depend on the order). Joined matrices are copies: make a new Decoder
    after the weights have changed. `dtype` is that of all weights and activations; gradients flow
    back to the module's own parameters in theirs, through `pass_on` (once.py), which is given every
    weight as it is used. Logits, and what follows them, are fp32.
    Raises ModelError for an architecture or a feature that this pass does not implement.
    """

    def __init__(
        self,
        model: Any,
        dtype: torch.dtype = torch.float32,
        pass_on: Callable[[Tensor], Tensor] = lambda weight: weight,
    ) -> None:
        config = model.config
        check_supported(config)
        check_plain(model)
        self.num_heads: int = config.num_attention_heads
        self.num_kv_heads: int = config.num_key_value_heads
        self.head_dim: int = getattr(config, "head_dim", None) or config.hidden_size // self.num_heads
        self.num_layers: int = config.num_hidden_layers
        self._eps: float = config.rms_norm_eps
        self.dtype = dtype
        self._pass_on = pass_on
        self._embedding_VD = pass_on(model.model.embed_tokens.weight.to(dtype))
        is_tied = model.lm_head.weight is model.model.embed_tokens.weight
        head_VD = self._embedding_VD if is_tied else pass_on(model.lm_head.weight.to(dtype))
        self.vocab_size = len(head_VD)
        self._head = Projection(head_VD, None)
        self._final_norm_D = pass_on(model.model.norm.weight.to(dtype))
        self._order_E = torch.arange(self.head_dim).view(2, -1).T.flatten()
        self._layers = [self._read_layer(block) for block in model.model.layers]
        self._rotation_TE = rotations(model)

    @classmethod
    @torch.no_grad()
    def for_sampling(cls, model: Any, dtype: torch.dtype) -> "Decoder":
        """Return a decoder that computes no gradients and is quick for the few rows of a decoding step.

        On CPUs the fp32 weights of wide models are put into the layout that oneDNN computes in, once. On
        two AVX2 cores that makes products of 8 rows with SmolLM2's matrices 1.2 to 2.9 times as fast,
        and those of 64 rows up to 1.7 times; narrow ones (the embedded model's) lose by its call.
        """
        decoder = cls(model, dtype)
        weight = model.model.embed_tokens.weight
        is_on_cpu = weight.device.type == "cpu" and torch.backends.mkldnn.is_available()
        if is_on_cpu and dtype == torch.float32 and weight.shape[1] >= NARROW:
            decoder._layers = [layer.prepacked() for layer in decoder._layers]
            decoder._head = decoder._head.prepacked()
        return decoder

    def _read_layer(self, block: Any) -> Layer:
        attention, mlp = block.self_attn, block.mlp
        rotated = self.num_heads + self.num_kv_heads
        heads = torch.arange(rotated)[:, None] * self.head_dim + self._order_E
        values = torch.arange(self.num_kv_heads * self.head_dim) + rotated * self.head_dim
        dtype = self.dtype
        qkv = Projection.of(attention.q_proj, attention.k_proj, attention.v_proj, dtype=dtype)
        norms = None
        if hasattr(attention, "q_norm"):
            q_norm, k_norm = attention.q_norm.weight, attention.k_norm.weight
            norms = torch.cat([q_norm.expand(self.num_heads, -1), k_norm.expand(self.num_kv_heads, -1)])[
                :, self._order_E
            ].to(dtype)
        pass_on = self._pass_on
        return Layer(
            input_norm_D=pass_on(block.input_layernorm.weight.to(dtype)),
            qkv=qkv.reordered(torch.cat((heads.flatten(), values))).with_each(pass_on),
            head_norms_HE=None if norms is None else pass_on(norms),
            out=Projection.of(attention.o_proj, dtype=dtype).with_each(pass_on),
            mlp_norm_D=pass_on(block.post_attention_layernorm.weight.to(dtype)),
            gate_up=Projection.of(mlp.gate_proj, mlp.up_proj, dtype=dtype).with_each(pass_on),
            down=Projection.of(mlp.down_proj, dtype=dtype).with_each(pass_on),
        )

    def hidden(self, tokens_N: Tensor, positions_N: Tensor, attend: Attend) -> Tensor:
        """Return the normalised hidden states [N, D] that the output head reads."""
        rotation_NE = self._rotation_TE[positions_N, None]
        x_ND = functional.embedding(tokens_N, self._embedding_VD)
        for index, layer in enumerate(self._layers):
            x_ND = x_ND + self._attention(index, layer, x_ND, rotation_NE, attend)
            gate, up = layer.gate_up(self._norm(x_ND, layer.mlp_norm_D)).chunk(2, dim=-1)
            x_ND = x_ND + layer.down(functional.silu(gate) * up)
        return self._norm(x_ND, self._final_norm_D)

    def _attention(
        self, index: int, layer: Layer, x_ND: Tensor, rotation_NE: Tensor, attend: Attend
    ) -> Tensor:
        heads = self.num_heads + self.num_kv_heads
        qkv = layer.qkv(self._norm(x_ND, layer.input_norm_D))
        qkv_NHE = qkv.unflatten(-1, (heads + self.num_kv_heads, self.head_dim))
        qk_NHE, v_NKE = qkv_NHE.split((heads, self.num_kv_heads), dim=1)
        if layer.head_norms_HE is not None:
            qk_NHE = functional.rms_norm(qk_NHE, (self.head_dim,), eps=self._eps) * layer.head_norms_HE
        qk_NHE = _rotate(qk_NHE, rotation_NE)
        q_NHE, k_NKE = qk_NHE.split((self.num_heads, self.num_kv_heads), dim=1)
        return layer.out(attend(index, q_NHE, k_NKE, v_NKE).flatten(1))

    def _norm(self, x_ND: Tensor, weight_D: Tensor) -> Tensor:
        return functional.rms_norm(x_ND, weight_D.shape, weight_D, self._eps)

    def logits(self, hidden_ND: Tensor) -> Tensor:
        """Return the logits [N, V] in fp32."""
        return self._head(hidden_ND).float()


def _rotate(qk_NHE: Tensor, rotation_NE: Tensor) -> Tensor:
    """Turn neighbouring pairs of channels by the position's angles, in fp32."""
    pairs = torch.view_as_complex(qk_NHE.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * rotation_NE).flatten(-2).type_as(qk_NHE)


@torch.no_grad()
def rotations(model: Any) -> Tensor:
    """Return the rotary angles [T, E/2] as complex numbers.

    transformers computes them, so that every kind of RoPE scaling is theirs.
    """
    weight = model.model.embed_tokens.weight
    num_positions = min(model.config.max_position_embeddings, 32768)
    positions = torch.arange(num_positions, device=weight.device)[None]
    cos, sin = model.model.rotary_emb(weight.float()[:1, None], positions)
    half = cos.shape[-1] // 2
    return torch.complex(cos[0, :, :half].contiguous(), sin[0, :, :half].contiguous())


def check_plain(model: Any) -> None:
    """Raise ModelError for a module with adapters, which this pass would leave out without a word."""
    if any(hasattr(part, "base_layer") for part in model.modules()):
        raise ModelError(
            f"{type(model).__name__} has adapters (peft), which the decoder does not compute; train it with "
            "model.trainer=parallel, or merge them first: module.merge_and_unload()"
        )


def check_supported(config: Any) -> None:
    """Raise ModelError unless the forward pass of this module implements the configuration."""
    if config.model_type not in SUPPORTED:
        raise ModelError(
            f"model type {config.model_type!r} is not supported; use one of {', '.join(SUPPORTED)}"
        )
    if getattr(config, "hidden_act", "silu") != "silu":
        raise ModelError(f"activation {config.hidden_act!r} is not supported; only silu is")
    if getattr(config, "use_sliding_window", False):
        raise ModelError("sliding-window attention is not supported; set use_sliding_window to false")
    _check_shape(config)
    rope_type = config.rope_parameters.get("rope_type", "default")
    if rope_type != "default" and rope_type not in ROPE_INIT_FUNCTIONS:
        kinds = ", ".join(sorted({"default", *ROPE_INIT_FUNCTIONS}))
        raise ModelError(f"rope_type {rope_type!r} is not supported; use one of {kinds}")


_COUNTED = ("num_attention_heads", "num_key_value_heads", "num_hidden_layers", "max_position_embeddings")


def _check_shape(config: Any) -> None:
    """Raise ModelError for sizes that make no model, alone or together."""
    heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
    for name in _COUNTED:
        if getattr(config, name) < 1:
            raise ModelError(f"{name} is {getattr(config, name)} and must be at least 1")
    if heads % kv_heads:
        raise ModelError(
            f"num_key_value_heads is {kv_heads}, which does not divide num_attention_heads, {heads}"
        )
    size = getattr(config, "head_dim", None) or config.hidden_size / heads
    if size % 2:
        raise ModelError(
            f"heads of {size:g} channels cannot be rotated: head_dim (or hidden_size, {config.hidden_size}, "
            f"by num_attention_heads, {heads}) must be an even number"
        )
    if not 0 < config.rms_norm_eps < 1:
        raise ModelError(f"rms_norm_eps is {config.rms_norm_eps}; it is a small number above 0")
    theta = config.rope_parameters.get("rope_theta")
    if theta is not None and not 0 < theta < math.inf:
        raise ModelError(f"rope_theta is {theta}; it is a number above 0, as 10000")
