"""Tiny random models of many architectures, as transformers itself builds them."""

from collections.abc import Callable
from typing import Any

import torch
import transformers

from fakes import NUM_TOKENS

_SIZES: dict[str, Any] = {
    "vocab_size": NUM_TOKENS,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.2,
    "bos_token_id": None,
    "eos_token_id": 0,
    "pad_token_id": 0,
}


def _config(name: str, **special: Any) -> Callable[[], Any]:
    def make() -> Any:
        kind: Any = getattr(transformers, name)
        return kind(**(_SIZES | special))

    return make


_EXPERTS = {"moe_intermediate_size": 16, "num_experts_per_tok": 2}

PACKED: dict[str, Callable[[], Any]] = {
    "qwen2": _config("Qwen2Config"),
    "qwen3": _config("Qwen3Config", head_dim=8),
    "qwen3_tied": _config("Qwen3Config", head_dim=8, tie_word_embeddings=True),
    "llama": _config("LlamaConfig"),
    "mistral_window": _config("MistralConfig", sliding_window=6),
    "qwen2_window": _config("Qwen2Config", use_sliding_window=True, sliding_window=6, max_window_layers=1),
    "gemma3": _config("Gemma3TextConfig", head_dim=8, sliding_window=6, sliding_window_pattern=2),
    "gemma2_eager": _config(
        "Gemma2Config", head_dim=8, sliding_window=6, attn_implementation="eager", query_pre_attn_scalar=8
    ),
    "phi3": _config("Phi3Config"),
    "olmo2": _config("Olmo2Config"),
    "qwen3_moe": _config("Qwen3MoeConfig", head_dim=8, num_experts=4, **_EXPERTS),
    "deepseek_v3": _config(
        "DeepseekV3Config",
        num_key_value_heads=4,
        q_lora_rank=16,
        kv_lora_rank=16,
        qk_rope_head_dim=8,
        qk_nope_head_dim=8,
        v_head_dim=8,
        n_routed_experts=4,
        n_group=1,
        topk_group=1,
        first_k_dense_replace=1,
        **_EXPERTS,
    ),
    "granite": _config("GraniteConfig", logits_scaling=3.0, residual_multiplier=0.5),
    "cohere": _config("CohereConfig", logit_scale=0.3),
}
"""Architectures that compute packed batches."""

UNPACKED: dict[str, Callable[[], Any]] = {
    "mamba": lambda: transformers.MambaConfig(
        vocab_size=NUM_TOKENS,
        hidden_size=32,
        state_size=4,
        num_hidden_layers=2,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=0,
        max_position_embeddings=512,
    ),
    "bloom": lambda: transformers.BloomConfig(
        vocab_size=NUM_TOKENS,
        hidden_size=32,
        n_layer=2,
        n_head=4,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=0,
    ),
}
"""Architectures that do not: a state that is carried on, positions told from the mask."""


def build(config: Any, seed: int = 0) -> Any:
    """Return a random fp32 model whose norms and biases are not those of a new one."""
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model
