"""Shapes: parameters are counted exactly, and what is damaged or unknown is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from zerone.errors import ConfigError, ModelError
from zerone.planning.known_models import KNOWN_MODELS
from zerone.planning.shapes import GivenSizes, ModelShape, shape_of_model, shape_of_sizes

PUBLISHED = {
    "Qwen/Qwen2.5-0.5B": 0.494e9,
    "Qwen/Qwen2.5-1.5B": 1.544e9,
    "Qwen/Qwen2.5-Math-1.5B": 1.544e9,
    "Qwen/Qwen2.5-3B": 3.086e9,
    "Qwen/Qwen2.5-7B": 7.616e9,
    "Qwen/Qwen2.5-Math-7B": 7.616e9,
    "Qwen/Qwen2.5-14B": 14.77e9,
    "Qwen/Qwen2.5-32B": 32.76e9,
    "Qwen/Qwen3-0.6B-Base": 0.596e9,
    "Qwen/Qwen3-1.7B-Base": 1.721e9,
    "Qwen/Qwen3-4B-Base": 4.022e9,
    "Qwen/Qwen3-8B-Base": 8.191e9,
    "meta-llama/Llama-3.2-1B": 1.236e9,
    "meta-llama/Llama-3.1-8B": 8.030e9,
    "meta-llama/Llama-3.3-70B-Instruct": 70.55e9,
    "deepseek-ai/DeepSeek-V3-Base": 671.0e9,
}

SMALL: dict[str, dict[str, Any]] = {
    "qwen2": {},
    "qwen3": {"head_dim": 16},
    "llama": {},
    "mistral": {},
    "phi3": {"pad_token_id": 0},
    "olmo2": {},
    "gemma3_text": {"head_dim": 16},
    "qwen3_moe": {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "head_dim": 16},
    "deepseek_v3": {
        "n_routed_experts": 8,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 32,
        "n_group": 2,
        "topk_group": 1,
        "first_k_dense_replace": 1,
        "kv_lora_rank": 24,
        "q_lora_rank": 32,
        "qk_rope_head_dim": 8,
        "qk_nope_head_dim": 16,
        "v_head_dim": 16,
    },
}


def write_config(folder: Path, model_type: str, **changes: Any) -> dict[str, Any]:
    """Write a config.json and nothing else."""
    sizes = {
        "model_type": model_type,
        "vocab_size": 160,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 4 if model_type == "deepseek_v3" else 2,
        **SMALL.get(model_type, {}),
        **changes,
    }
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(sizes), encoding="utf-8")
    return sizes


@pytest.mark.parametrize("name", KNOWN_MODELS)
def test_known_models_have_their_published_size(name: str) -> None:
    shape = shape_of_model(name)
    assert shape.parameters == pytest.approx(PUBLISHED[name], rel=2e-3)


def test_a_mixture_meets_the_published_share_of_its_experts() -> None:
    shape = shape_of_model("deepseek-ai/DeepSeek-V3-Base")
    assert shape.active == pytest.approx(37e9, rel=0.03)
    assert (shape.layers, shape.width, shape.cache_width, shape.inner) == (61, 7168, 576, 9 * 2048)


@pytest.mark.parametrize("model_type", SMALL)
def test_a_config_alone_gives_the_parameters_of_the_model(model_type: str, tmp_path: Path) -> None:
    write_config(tmp_path / "m", model_type)
    shape = shape_of_model(str(tmp_path / "m"))
    module = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(tmp_path / "m"))
    assert shape.parameters == sum(parameter.numel() for parameter in module.parameters())
    assert shape.is_mixture == (model_type in ("qwen3_moe", "deepseek_v3"))
    if shape.is_mixture:
        assert shape.expert_share == 0.25
        assert shape.active == shape.parameters - round(0.75 * shape.experts)
    else:
        assert shape.active == shape.parameters


@pytest.mark.parametrize("model_type", [kind for kind in SMALL if kind != "deepseek_v3"])
def test_the_cache_is_as_wide_as_transformers_own(model_type: str, tmp_path: Path) -> None:
    write_config(tmp_path / "m", model_type)
    shape = shape_of_model(str(tmp_path / "m"))
    module = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(tmp_path / "m")).eval()
    with torch.no_grad():
        cache = module(input_ids=torch.tensor([[1, 2, 3]]), use_cache=True).past_key_values
    numbers = sum(layer.keys.numel() + layer.values.numel() for layer in cache.layers)
    assert numbers == 3 * shape.layers * shape.cache_width


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        "null",
        "{}",
        '{"model_type": "no-such-model"}',
        '{"model_type": 3}',
        '{"model_type": "qwen2", "hidden_size": "wide"}',
        '{"model_type": "qwen2", "hidden_size": -4}',
        '{"model_type": "qwen2", "num_hidden_layers": 1000000000}',
        '{"model_type": "qwen2", "num_attention_heads": 0}',
        '{"model_type": "qwen2", "vocab_size": 1.5}',
        '{"model_type": "custom", "auto_map": {"AutoConfig": "evil.Config"}}',
        '{"model_type": "bert", "hidden_size": [1]}',
        "[" * 100_000,
    ],
)
def test_a_damaged_config_is_refused_in_a_sentence(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text, encoding="utf-8")
    with pytest.raises(ModelError):
        shape_of_model(str(tmp_path))


@pytest.mark.parametrize("path", ["nowhere", "qwen/qwen2.5-0.5b", "Qwen/Qwen9-1B"])
def test_an_unknown_name_is_told_what_there_is(path: str) -> None:
    with pytest.raises(ModelError, match=r"Qwen/Qwen2\.5-0\.5B.*--params N"):
        shape_of_model(path)


def test_a_directory_without_a_config_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has no config\.json"):
        shape_of_model(str(tmp_path))


def test_a_directory_goes_before_a_known_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Qwen").mkdir()
    write_config(tmp_path / "Qwen" / "Qwen2.5-0.5B", "qwen2")
    assert shape_of_model("Qwen/Qwen2.5-0.5B").parameters < 1e6


@pytest.mark.parametrize("name", ["Qwen/Qwen2.5-7B", "Qwen/Qwen2.5-32B", "meta-llama/Llama-3.1-8B"])
def test_sizes_that_are_guessed_are_near_those_of_real_models(name: str) -> None:
    known, guessed = shape_of_model(name), shape_of_sizes(GivenSizes(parameters=PUBLISHED[name]))
    assert guessed.is_guessed and guessed.parameters == pytest.approx(known.parameters, rel=0.01)
    for size in ("layers", "width", "inner"):
        ratio = getattr(guessed, size) / getattr(known, size)
        assert 0.5 < ratio < 2, (size, ratio)


def test_sizes_that_are_given_are_taken() -> None:
    given = GivenSizes(
        parameters=671e9, active=37e9, layers=61, width=7168, cache_width=576, vocabulary=129280
    )
    shape, known = shape_of_sizes(given), shape_of_model("deepseek-ai/DeepSeek-V3-Base")
    for size in ("layers", "width", "cache_width", "vocabulary"):
        assert getattr(shape, size) == getattr(known, size)
    assert shape.experts == pytest.approx(known.experts, rel=0.05)


def test_more_active_parameters_than_all_are_refused() -> None:
    with pytest.raises(ConfigError, match="--active-params 9e\\+09 is more than --params 8e\\+09"):
        shape_of_sizes(GivenSizes(parameters=8e9, active=9e9))


@pytest.mark.parametrize("number", [1e3, 1e6, 135e6, 1e12])
def test_a_model_of_any_size_has_a_shape(number: float) -> None:
    shape = shape_of_sizes(GivenSizes(parameters=number))
    assert isinstance(shape, ModelShape) and shape.layers >= 1 and shape.width >= 128
