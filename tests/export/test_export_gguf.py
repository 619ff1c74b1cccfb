"""GGUF files: transformers' own loader computes the same logits from them; what has no form is refused."""

import importlib.util
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM

from fakes import NUM_TOKENS, Kind, Shape, byte_tokenizer, random_tokens, tiny_model
from processes import call_main
from zerone.errors import ExportError
from zerone.export.directory import write_directory
from zerone.export.readback import GgufModel, check_gguf
from zerone.export.source import read_source
from zerone.export.weights import rule_name, write_gguf
from zerone.model.loading import load_model, save_model

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("gguf", "accelerate")),
    reason="the extra gguf is not installed",
)


def logits(module: Any) -> torch.Tensor:
    """Return the logits of a few random texts."""
    ids = torch.tensor([random_tokens(24, row) for row in range(3)])
    with torch.no_grad():
        found: torch.Tensor = module.eval()(ids).logits.float()
    return found


def read_back(path: Path, config: Any) -> Any:
    """Load a GGUF file by transformers; its loader forgets Qwen3's head size, so that is given."""
    return AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, config=config, dtype=torch.float32, local_files_only=True
    )


@pytest.mark.parametrize(
    "shape",
    [
        Shape(kind="qwen3"),
        Shape(kind="qwen3", tied=False, kv_heads=1),
        Shape(kind="qwen2", kv_heads=4),
        Shape(kind="qwen2", tied=False),
        Shape(kind="llama"),
        Shape(kind="llama", tied=False, kv_heads=1),
        Shape(kind="llama", biases=True),
    ],
    ids=str,
)
def test_transformers_computes_the_same_logits(shape: Shape, tmp_path: Path) -> None:
    save_model(tiny_model(shape), byte_tokenizer(), tmp_path / "model")
    source = read_source(str(tmp_path / "model"))
    write_gguf(source, tmp_path / "model.gguf", "tiny", "f32")
    expected = logits(tiny_model(shape))
    found = logits(read_back(tmp_path / "model.gguf", source.files.config))
    assert float(expected.std()) > 0.5, "logits that differ from each other"
    # The weights are equal to the bit; only the order of sums could differ.
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_half_precision_rounds_matrices_and_keeps_vectors(tmp_path: Path) -> None:
    import gguf

    save_model(tiny_model(), byte_tokenizer(), tmp_path / "model")
    source = read_source(str(tmp_path / "model"))
    write_gguf(source, tmp_path / "model.gguf", "tiny", "f16")
    tensors = gguf.GGUFReader(tmp_path / "model.gguf").tensors
    assert {len(tensor.shape): tensor.tensor_type.name for tensor in tensors} == {1: "F32", 2: "F16"}
    found = logits(read_back(tmp_path / "model.gguf", source.files.config))
    # 11 bits of mantissa in every weight of two layers.
    torch.testing.assert_close(found, logits(tiny_model()), atol=0.05, rtol=0.05)


def metadata(path: Path) -> dict[str, Any]:
    """Return the fields of a GGUF file."""
    import gguf

    return {name: field.contents() for name, field in gguf.GGUFReader(path).fields.items()}


def test_the_embedded_model_for_ollama(tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, said, _ = call_main(tmp_path, "export", "embedded", "--to", "ollama", "--out", str(out))
    assert (code, f"ollama create zerone-embedded -f {out / 'Modelfile'}" in said) == (0, True)
    found = metadata(out / "model.gguf")
    model = load_model("embedded", torch.float32)
    config, tokenizer = model.module.config, model.tokenizer
    think = tokenizer.convert_tokens_to_ids("<think>")
    assert found["general.architecture"] == "qwen3"
    assert found["qwen3.attention.key_length"] == config.head_dim
    assert (found["tokenizer.ggml.model"], found["tokenizer.ggml.pre"]) == ("gpt2", "qwen2")
    assert found["tokenizer.ggml.tokens"] == tokenizer.convert_ids_to_tokens(range(config.vocab_size))
    assert [found["tokenizer.ggml.token_type"][token] for token in (0, 1, think)] == [3, 1, 4]
    assert found["tokenizer.ggml.eos_token_id"] == 0
    assert found["tokenizer.ggml.add_bos_token"] is False
    assert "<think>" in found["tokenizer.chat_template"]
    lines = (out / "Modelfile").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "FROM ./model.gguf"
    for line in (
        "PARAMETER temperature 0.6",
        "PARAMETER top_p 0.95",
        f"PARAMETER num_ctx {config.max_position_embeddings}",
        "LICENSE MIT",
    ):
        assert line in lines


def described(*steps: Any, **model: Any) -> dict[str, Any]:
    """Return a tokenizer.json with these pre-tokenizers."""
    tokenizer = Tokenizer(models.BPE(**model))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(list(steps))
    value: dict[str, Any] = json.loads(tokenizer.to_str())
    return value


BYTES = {"add_prefix_space": False, "use_regex": True}


def test_rules_of_known_tokenizers_have_a_name() -> None:
    digits, by_bytes = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(**BYTES)
    assert rule_name(described(digits, by_bytes)) == "smollm"
    assert rule_name(described(pre_tokenizers.Sequence([digits, by_bytes]))) == "smollm"
    assert rule_name(described(by_bytes)) == "gpt-2"
    assert rule_name(json.loads(byte_tokenizer().backend_tokenizer.to_str())) == "qwen2"


@pytest.mark.parametrize(
    "tokenizer",
    [
        described(pre_tokenizers.Whitespace()),
        described(
            pre_tokenizers.Split(Regex("own"), "isolated"), pre_tokenizers.ByteLevel(False, False, False)
        ),
        described(pre_tokenizers.ByteLevel(add_prefix_space=True)),
        described(pre_tokenizers.ByteLevel(**BYTES), byte_fallback=True),
        described(pre_tokenizers.ByteLevel(**BYTES), ignore_merges=True),
    ],
)
def test_a_tokenizer_that_gguf_has_no_name_for_is_refused(tokenizer: dict[str, Any]) -> None:
    with pytest.raises(ExportError, match="by name"):
        rule_name(tokenizer)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (Shape(kind="qwen3", biases=True), "attention_bias"),
    ],
    ids=str,
)
def test_what_readers_could_not_compute_is_refused(shape: Shape, message: str, tmp_path: Path) -> None:
    save_model(tiny_model(shape), byte_tokenizer(), tmp_path / "model")
    code, _, err = call_main(
        tmp_path, "export", str(tmp_path / "model"), "--to", "gguf", "--out", str(tmp_path / "out")
    )
    assert (code, message in err) == (2, True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"], "nothing is left behind"


def test_values_beyond_half_precision_are_refused(tmp_path: Path) -> None:
    model = tiny_model()
    model.lm_head.weight.data[0, 0] = 1e6
    save_model(model, byte_tokenizer(), tmp_path / "model")
    with pytest.raises(ExportError, match="beyond what f16 holds"):
        write_gguf(read_source(str(tmp_path / "model")), tmp_path / "model.gguf", "tiny", "f16")


# Rotary angles ------------------------------------------------------------------------------------

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128, "rope_theta": 10000.0}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
LINEAR = {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}


def scaled(kind: Kind, rope: dict[str, Any], path: Path) -> Any:
    """Return a tiny model with scaled rotary angles, loaded by zerone, as what is exported."""
    save_model(tiny_model(Shape(kind=kind)), byte_tokenizer(), path)
    config = json.loads((path / "config.json").read_text())
    config.pop("rope_parameters", None)
    (path / "config.json").write_text(json.dumps(config | {"rope_parameters": rope}))
    return read_source(str(path))


@pytest.mark.parametrize(
    ("kind", "rope", "expected"),
    [
        ("qwen2", YARN, {"type": "yarn", "factor": 4.0, "original_context_length": 128}),
        ("qwen3", YARN, {"type": "yarn", "factor": 4.0, "original_context_length": 128}),
        ("llama", YARN, {"type": "yarn", "factor": 4.0, "original_context_length": 128}),
        ("qwen3", YARN | {"factor": 1.5}, {"factor": 1.5}),
        (
            "qwen2",
            YARN | {"beta_fast": 16.0, "beta_slow": 2.0},
            {"yarn_beta_fast": 16.0, "yarn_beta_slow": 2.0},
        ),
        ("llama", YARN | {"attention_factor": 1.0}, {"type": "yarn"}),
        ("qwen3", YARN | {"mscale": 1.0, "mscale_all_dim": 0.5}, {"type": "yarn"}),
        ("qwen2", YARN | {"rope_theta": 1000000.0}, {"type": "yarn"}),
        ("qwen2", LINEAR, {"type": "linear", "factor": 2.0}),
        ("qwen3", LINEAR | {"factor": 8.0}, {"type": "linear", "factor": 8.0}),
        ("llama", LINEAR, {"type": "linear", "factor": 2.0}),
        ("llama", LLAMA3, {}),
        ("llama", LLAMA3 | {"factor": 32.0}, {}),
        ("llama", LLAMA3 | {"low_freq_factor": 2.0, "high_freq_factor": 8.0}, {}),
    ],
)
def test_scaled_angles_are_written(
    kind: Kind, rope: dict[str, Any], expected: dict[str, Any], tmp_path: Path
) -> None:
    """`write_gguf` refuses a file that does not compute the same; the keys are those of llama.cpp."""
    import gguf

    source = scaled(kind, rope, tmp_path / "model")
    write_gguf(source, tmp_path / "model.gguf", "tiny", "f32")
    found = metadata(tmp_path / "model.gguf")
    stated = {name: found.get(f"{kind}.rope.scaling.{name}") for name in expected}
    assert stated == expected
    names = {tensor.name for tensor in gguf.GGUFReader(tmp_path / "model.gguf").tensors}
    assert ("rope_freqs.weight" in names) == (rope["rope_type"] == "llama3")


def test_the_factors_of_llama_3_are_those_of_its_makers(tmp_path: Path) -> None:
    """By Meta's formula: long waves are stretched by the factor, short ones kept, between them a ramp."""
    source = scaled("llama", LLAMA3, tmp_path / "model")
    write_gguf(source, tmp_path / "model.gguf", "tiny", "f32")
    found = GgufModel(tmp_path / "model.gguf").tensor("rope_freqs.weight").tolist()
    for pair, factor in enumerate(found):
        wave = 2 * math.pi * 500000.0 ** (pair / 8)
        if wave < 64 / 4:
            expected = 1.0
        elif wave > 64:
            expected = 8.0
        else:
            share = (64 / wave - 1) / 3
            expected = 1 / ((1 - share) / 8 + share)
        assert factor == pytest.approx(expected, rel=1e-5)  # fp32


@pytest.mark.parametrize(
    ("kind", "rope", "message"),
    [
        ("qwen2", LLAMA3, "rotary scaling 'llama3' of a qwen2 model"),
        ("qwen3", LLAMA3, "rotary scaling 'llama3' of a qwen3 model"),
        ("llama", {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}, "rotary scaling 'dynamic'"),
        ("qwen3", YARN | {"truncate": False}, "rotary scaling 'yarn' with these settings"),
    ],
)
def test_angles_that_llama_cpp_does_not_know_are_refused(
    kind: Kind, rope: dict[str, Any], message: str, tmp_path: Path
) -> None:
    source = scaled(kind, rope, tmp_path / "model")
    with pytest.raises(ExportError, match=message):
        write_gguf(source, tmp_path / "model.gguf", "tiny", "f32")


# What the module holds ----------------------------------------------------------------------------


def ties_by_config_only(kind: Kind, path: Path) -> Any:
    """Save a model with a head of its own whose config.json says that it has none; return its logits."""
    model = tiny_model(Shape(kind=kind, tied=False))
    save_model(model, byte_tokenizer(), path)
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": True}))
    return logits(model)


@pytest.mark.parametrize("kind", ["qwen2", "qwen3", "llama"])
@pytest.mark.parametrize("form", ["gguf", "hf", "saved again"])
def test_a_head_of_its_own_is_kept_whatever_the_configuration_says(
    kind: Kind, form: str, tmp_path: Path
) -> None:
    expected = ties_by_config_only(kind, tmp_path / "model")
    source = read_source(str(tmp_path / "model"))
    loaded = load_model(str(tmp_path / "model"), torch.float32)
    torch.testing.assert_close(logits(loaded.module), expected, atol=1e-5, rtol=1e-5)  # order of sums
    if form == "gguf":
        write_gguf(source, tmp_path / "model.gguf", "tiny", "f32")
        found = read_back(tmp_path / "model.gguf", source.files.config)
    else:
        (tmp_path / "out").mkdir()
        if form == "hf":
            write_directory(source, tmp_path / "out", "tiny")
        else:
            save_model(loaded.module, loaded.tokenizer, tmp_path / "out" / "again")
        written = next((tmp_path / "out").rglob("config.json"))
        assert json.loads(written.read_text())["tie_word_embeddings"] is False
        found = AutoModelForCausalLM.from_pretrained(written.parent, dtype=torch.float32)
    torch.testing.assert_close(logits(found), expected, atol=1e-5, rtol=1e-5)


def test_a_head_that_repeats_the_embedding_is_written_once(tmp_path: Path) -> None:
    import gguf

    save_model(tiny_model(), byte_tokenizer(), tmp_path / "model")
    weights = load_file(tmp_path / "model" / "model.safetensors")
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()
    save_file(weights, tmp_path / "model" / "model.safetensors", metadata={"format": "pt"})
    write_gguf(read_source(str(tmp_path / "model")), tmp_path / "model.gguf", "tiny", "f32")
    assert "output.weight" not in {t.name for t in gguf.GGUFReader(tmp_path / "model.gguf").tensors}


# Reading back -------------------------------------------------------------------------------------


def swapped(rows: torch.Tensor, size: int) -> torch.Tensor:
    """Put the halves of each head in the order of neighbours, as a forgotten or doubled exchange does."""
    return rows.view(-1, 2, size // 2, rows.shape[-1]).transpose(1, 2).reshape(rows.shape)


@pytest.mark.parametrize("kind", ["qwen2", "qwen3", "llama"])
def test_the_reader_of_the_check_computes_what_transformers_does(kind: Kind, tmp_path: Path) -> None:
    save_model(tiny_model(Shape(kind=kind)), byte_tokenizer(), tmp_path / "model")
    write_gguf(read_source(str(tmp_path / "model")), tmp_path / "model.gguf", "tiny", "f32")
    tokens = torch.tensor(random_tokens(40))
    with torch.no_grad():
        expected = tiny_model(Shape(kind=kind))(tokens[None]).logits[0]
    found = GgufModel(tmp_path / "model.gguf").logits(tokens, torch.arange(40))
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)  # order of sums


FAULTS: dict[str, Callable[[Any], Any]] = {
    "order of query channels": lambda m: set_rows(
        m.layers[0].self_attn.q_proj, lambda rows: swapped(rows, 16)
    ),
    "order of key channels": lambda m: set_rows(m.layers[1].self_attn.k_proj, lambda rows: swapped(rows, 16)),
    "one row of the embedding": lambda m: m.embed_tokens.weight[77].mul_(1.01),
    "gate and up exchanged": lambda m: m.layers[0].mlp.gate_proj.weight.copy_(m.layers[0].mlp.up_proj.weight),
    "a norm": lambda m: m.layers[1].input_layernorm.weight.add_(0.1),
    "the last norm": lambda m: m.norm.weight.mul_(1.1),
    "a layer": lambda m: m.layers.__setitem__(1, m.layers[0]),
    "base of the angles": lambda m: m.rotary_emb.inv_freq.mul_(0.9),
    "epsilon": lambda m: setattr(m.norm, "variance_epsilon", 0.5),
    "output of attention": lambda m: m.layers[0].self_attn.o_proj.weight.mul_(-1),
}


def set_rows(linear: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    linear.weight.copy_(change(linear.weight))


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("kind", ["qwen3", "llama"])
def test_a_file_that_computes_something_else_is_found(kind: Kind, fault: str, tmp_path: Path) -> None:
    save_model(tiny_model(Shape(kind=kind)), byte_tokenizer(), tmp_path / "model")
    write_gguf(read_source(str(tmp_path / "model")), tmp_path / "model.gguf", "tiny", "f32")
    module = load_model(str(tmp_path / "model"), torch.float32).module
    check_gguf(tmp_path / "model.gguf", module, is_rounded=False)
    with torch.no_grad():
        FAULTS[fault](module.model)
    with pytest.raises(ExportError, match="does not compute what the model does"):
        check_gguf(tmp_path / "model.gguf", module, is_rounded=False)


@pytest.mark.parametrize("changed", ["another head", "another vocabulary"])
def test_another_output_is_found(changed: str, tmp_path: Path) -> None:
    save_model(tiny_model(Shape(tied=False)), byte_tokenizer(), tmp_path / "model")
    write_gguf(read_source(str(tmp_path / "model")), tmp_path / "model.gguf", "tiny", "f32")
    module = load_model(str(tmp_path / "model"), torch.float32).module
    if changed == "another head":
        module.lm_head.weight = module.model.embed_tokens.weight
    else:
        module.resize_token_embeddings(NUM_TOKENS + 8)
    with pytest.raises(ExportError, match="does not compute"):
        check_gguf(tmp_path / "model.gguf", module, is_rounded=False)


# The ends of a text -------------------------------------------------------------------------------


def test_all_tokens_that_end_a_completion_are_written(tmp_path: Path) -> None:
    save_model(tiny_model(), byte_tokenizer(), tmp_path / "model")
    settings = {"eos_token_id": [0, 9, 7]}
    (tmp_path / "model" / "generation_config.json").write_text(json.dumps(settings))
    write_gguf(read_source(str(tmp_path / "model")), tmp_path / "model.gguf", "tiny", "f32")
    found = metadata(tmp_path / "model.gguf")
    assert [found[f"tokenizer.ggml.{name}_token_id"] for name in ("eos", "eot", "eom")] == [0, 7, 9]
    assert (found["tokenizer.ggml.add_bos_token"], found["tokenizer.ggml.add_eos_token"]) == (False, False)
