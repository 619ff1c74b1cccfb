"""GGUF files: transformers' own loader computes the same logits from them; what has no form is refused."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers

from fakes import Shape, byte_tokenizer, random_tokens, tiny_model
from processes import call_main
from zerone.errors import ExportError
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
    from transformers import AutoModelForCausalLM

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
        (Shape(kind="llama", llama3_rope=True), "rotary scaling 'llama3'"),
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
