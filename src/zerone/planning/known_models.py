"""Configurations of well-known models by their name on the Hub, so that a plan needs no download.

Only what decides on sizes, as their own config.json has it; a test counts their parameters.
"""

from collections.abc import Mapping
from typing import Any


def _qwen2(width: int, inner: int, layers: int, heads: int, kv_heads: int, vocabulary: int) -> dict[str, Any]:
    return {
        "model_type": "qwen2",
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "vocab_size": vocabulary,
        "tie_word_embeddings": width <= 2048,
    }


def _qwen3(width: int, inner: int, layers: int, heads: int) -> dict[str, Any]:
    return _qwen2(width, inner, layers, heads, 8, 151936) | {
        "model_type": "qwen3",
        "head_dim": 128,
        "tie_word_embeddings": width <= 2560,
    }


def _llama(width: int, inner: int, layers: int, heads: int, kv_heads: int) -> dict[str, Any]:
    return {
        "model_type": "llama",
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": width // heads,
        "vocab_size": 128256,
        "tie_word_embeddings": width <= 3072,
    }


_DEEPSEEK_V3 = {
    "model_type": "deepseek_v3",
    "vocab_size": 129280,
    "hidden_size": 7168,
    "intermediate_size": 18432,
    "moe_intermediate_size": 2048,
    "num_hidden_layers": 61,
    "num_attention_heads": 128,
    "num_key_value_heads": 128,
    "n_shared_experts": 1,
    "n_routed_experts": 256,
    "num_experts_per_tok": 8,
    "n_group": 8,
    "topk_group": 4,
    "first_k_dense_replace": 3,
    "kv_lora_rank": 512,
    "q_lora_rank": 1536,
    "qk_rope_head_dim": 64,
    "qk_nope_head_dim": 128,
    "v_head_dim": 128,
}

KNOWN_MODELS: Mapping[str, Mapping[str, Any]] = {
    "Qwen/Qwen2.5-0.5B": _qwen2(896, 4864, 24, 14, 2, 151936),
    "Qwen/Qwen2.5-1.5B": _qwen2(1536, 8960, 28, 12, 2, 151936),
    "Qwen/Qwen2.5-Math-1.5B": _qwen2(1536, 8960, 28, 12, 2, 151936),
    "Qwen/Qwen2.5-3B": _qwen2(2048, 11008, 36, 16, 2, 151936),
    "Qwen/Qwen2.5-7B": _qwen2(3584, 18944, 28, 28, 4, 152064),
    "Qwen/Qwen2.5-Math-7B": _qwen2(3584, 18944, 28, 28, 4, 152064),
    "Qwen/Qwen2.5-14B": _qwen2(5120, 13824, 48, 40, 8, 152064),
    "Qwen/Qwen2.5-32B": _qwen2(5120, 27648, 64, 40, 8, 152064),
    "Qwen/Qwen3-0.6B-Base": _qwen3(1024, 3072, 28, 16),
    "Qwen/Qwen3-1.7B-Base": _qwen3(2048, 6144, 28, 16),
    "Qwen/Qwen3-4B-Base": _qwen3(2560, 9728, 36, 32),
    "Qwen/Qwen3-8B-Base": _qwen3(4096, 12288, 36, 32),
    "meta-llama/Llama-3.2-1B": _llama(2048, 8192, 16, 32, 8),
    "meta-llama/Llama-3.1-8B": _llama(4096, 14336, 32, 32, 8),
    "meta-llama/Llama-3.3-70B-Instruct": _llama(8192, 28672, 80, 64, 8),
    "deepseek-ai/DeepSeek-V3-Base": _DEEPSEEK_V3,
}
