"""Models from directories and back: what is loaded is what was saved, and what is refused."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from fakes import NUM_TOKENS, Kind, Shape, byte_tokenizer, tiny_model, unsupported_config
from zerone.errors import CheckpointError, ModelError
from zerone.model.loading import end_ids, load_model, read_model_files, read_provenance, save_model

WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with a whole tiny model; tests change copies of it."""
    path = tmp_path_factory.mktemp("models") / "whole"
    save_model(tiny_model(Shape(kind="llama")), byte_tokenizer(), path)
    return path


@pytest.fixture
def directory(saved: Path, tmp_path: Path) -> Path:
    """Return a copy of the whole model that a test may damage."""
    return shutil.copytree(saved, tmp_path / "model")


def edit_json(path: Path, **changes: Any) -> None:
    """Change entries of a JSON file; None removes one."""
    value = json.loads(path.read_text(encoding="utf-8")) | changes
    path.write_text(json.dumps({key: entry for key, entry in value.items() if entry is not None}))


@pytest.mark.parametrize("kind", ["qwen2", "qwen3", "llama"])
def test_a_saved_model_comes_back_bit_for_bit(kind: Kind, tmp_path: Path) -> None:
    module = tiny_model(Shape(kind=kind))
    save_model(module, byte_tokenizer(), tmp_path / "m")
    loaded = load_model(str(tmp_path / "m"), torch.float32)
    weights = loaded.module.state_dict()
    assert weights.keys() == module.state_dict().keys()
    assert all(torch.equal(weights[name], tensor) for name, tensor in module.state_dict().items())
    assert loaded.tokenizer.get_vocab() == byte_tokenizer().get_vocab()


def test_precision_is_that_asked_for(saved: Path) -> None:
    full, half = (load_model(str(saved), dtype).module for dtype in (torch.float32, torch.bfloat16))
    assert {parameter.dtype for parameter in half.parameters()} == {torch.bfloat16}
    for name, tensor in full.state_dict().items():
        assert torch.equal(half.state_dict()[name], tensor.bfloat16())


def test_hash_is_that_of_the_weight_file(saved: Path) -> None:
    expected = hashlib.sha256((saved / WEIGHTS).read_bytes()).hexdigest()
    assert load_model(str(saved), torch.float32).sha256 == expected


def test_sharded_weights_load_and_hash_in_the_order_of_their_names(tmp_path: Path) -> None:
    module = tiny_model()
    module.save_pretrained(tmp_path, max_shard_size="20KB")
    byte_tokenizer().save_pretrained(tmp_path)
    shards = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(shards) > 1
    loaded = load_model(str(tmp_path), torch.float32)
    assert loaded.sha256 == hashlib.sha256(b"".join(shard.read_bytes() for shard in shards)).hexdigest()
    for name, tensor in module.state_dict().items():
        assert torch.equal(loaded.module.state_dict()[name], tensor)


def test_end_tokens_are_those_of_the_tokenizer_and_of_the_generation_settings(directory: Path) -> None:
    edit_json(directory / "generation_config.json", eos_token_id=[7, 5])
    assert end_ids(load_model(str(directory), torch.float32)) == (0, 5, 7)


def test_a_model_without_an_end_token_is_refused(directory: Path) -> None:
    (directory / "tokenizer_config.json").write_text("{}")
    (directory / "generation_config.json").unlink()
    edit_json(directory / "config.json", eos_token_id=None)
    with pytest.raises(ModelError, match="names an end token; set eos_token"):
        end_ids(load_model(str(directory), torch.float32))


@pytest.mark.parametrize("token", ["</s>", [[7]], [None, "</s>"]])
def test_an_end_token_that_is_no_number_is_refused(directory: Path, token: object) -> None:
    edit_json(directory / "generation_config.json", eos_token_id=token)
    with pytest.raises(ModelError, match="give the number of a token, or a list of them"):
        end_ids(load_model(str(directory), torch.float32))


def change_weights(change: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Path], None]:
    """Return a damage that edits the tensors of the weight file."""

    def damage(directory: Path) -> None:
        tensors = load_file(directory / WEIGHTS)
        change(tensors)
        save_file(tensors, directory / WEIGHTS, metadata={"format": "pt"})

    return damage


def cut_weights(directory: Path) -> None:
    """Cut the weight file short, as an interrupted copy does."""
    content = (directory / WEIGHTS).read_bytes()
    (directory / WEIGHTS).write_bytes(content[:-100])


def pickle_weights(directory: Path) -> None:
    """Leave only a weight file of the old kind (its content does not matter: it is never opened)."""
    (directory / WEIGHTS).rename(directory / "pytorch_model.bin")


def index_of(weight_map: Any) -> Callable[[Path], None]:
    """Return a damage that leaves an index in place of the weights."""

    def damage(directory: Path) -> None:
        (directory / WEIGHTS).unlink()
        (directory / f"{WEIGHTS}.index.json").write_text(json.dumps({"weight_map": weight_map}))

    return damage


def config_with(**changes: Any) -> Callable[[Path], None]:
    """Return a damage that changes config.json."""
    return lambda directory: edit_json(directory / "config.json", **changes)


DAMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no config": (
        lambda d: (d / "config.json").unlink(),
        "has no config.json; give a transformers directory",
    ),
    "config is not JSON": (lambda d: (d / "config.json").write_text("{"), "cannot read"),
    "config is a list": (lambda d: (d / "config.json").write_text("[]"), "does not hold a JSON object"),
    "unknown type": (config_with(model_type="mamba"), "model type 'mamba'"),
    "own code": (
        config_with(model_type="mine", auto_map={"AutoConfig": "mine.Config"}),
        "model type 'mine'",
    ),
    "wrong field type": (config_with(hidden_size="wide"), "'hidden_size' expected int"),
    "no heads": (config_with(num_attention_heads=0), "num_attention_heads is 0 and must be at least 1"),
    "other activation": (config_with(hidden_act="gelu"), "activation 'gelu'"),
    "quantised": (config_with(quantization_config={"quant_method": "gptq", "bits": 4}), "quantised"),
    "no weights": (lambda d: (d / WEIGHTS).unlink(), "has no model.safetensors"),
    "pickled weights": (pickle_weights, "only pickled weights"),
    "weights cut short": (cut_weights, "cannot load the weights"),
    "shard missing": (index_of({"a": "model-1.safetensors"}), "lacks model-1.safetensors"),
    "shard elsewhere": (index_of({"a": "../x.safetensors"}), "no weight files of its own directory"),
    "empty index": (index_of({}), "no weight files of its own directory"),
    "tensor missing": (
        change_weights(lambda t: t.pop("model.norm.weight")),
        "lack tensors of the model (1, the first model.norm.weight)",
    ),
    "tensor too many": (
        change_weights(lambda t: t.update({"v_head.weight": torch.ones(3)})),
        "no place for (1, the first v_head.weight)",
    ),
    "tensor of another shape": (
        change_weights(lambda t: t.update({"model.norm.weight": torch.ones(3)})),
        "another shape (1, the first model.norm.weight)",
    ),
    "no tokenizer": (lambda d: (d / "tokenizer.json").unlink(), "has no tokenizer"),
    "no settings of a tokenizer": (
        lambda d: (d / "tokenizer_config.json").write_text("[]"),
        "cannot load the tokenizer",
    ),
    "unknown rotary angles": (config_with(rope_parameters={"rope_type": "x"}), "rope_type 'x' is not"),
    "no context": (config_with(max_position_embeddings=-5), "max_position_embeddings is -5"),
    "no settings of generation": (
        lambda d: (d / "generation_config.json").write_text("[]"),
        "cannot load the weights",
    ),
    "settings of generation that generate nothing": (
        lambda d: (d / "generation_config.json").write_text('{"max_new_tokens": -1}'),
        "cannot use generation_config.json",
    ),
    "settings of generation that are a nest": (
        lambda d: (d / "generation_config.json").write_text("[" * 100_000),
        "cannot use generation_config.json",
    ),
    "configuration that is a nest": (
        lambda d: (d / "config.json").write_text("[" * 100_000),
        "cannot read",
    ),
    "length of a tokenizer that is a word": (
        lambda d: edit_json(d / "tokenizer_config.json", model_max_length="x"),
        "cannot load the tokenizer",
    ),
    "damaged tokenizer": (lambda d: (d / "tokenizer.json").write_text("{"), "cannot load the tokenizer"),
    "embedding too small": (
        config_with(vocab_size=NUM_TOKENS - 1),
        f"has {NUM_TOKENS} tokens and the model's embedding only {NUM_TOKENS - 1}",
    ),
}


SIZES: dict[str, tuple[dict[str, Any], str]] = {
    f"{name}={size}": ({name: size}, f"{name} is {size} and must be at least 1")
    for name, size in [
        ("num_attention_heads", -4),
        ("num_key_value_heads", 0),
        ("num_key_value_heads", -2),
        ("head_dim", 0),
        ("head_dim", -16),
        ("hidden_size", 0),
        ("intermediate_size", 0),
        ("num_hidden_layers", 0),
        ("num_hidden_layers", -1),
        ("vocab_size", 0),
        ("vocab_size", -261),
        ("max_position_embeddings", 0),
    ]
} | {
    "heads that key heads do not divide": (
        {"num_key_value_heads": 3},
        "num_key_value_heads is 3, which does not divide num_attention_heads, 4",
    ),
    "more key heads than heads": ({"num_key_value_heads": 8}, "num_key_value_heads is 8"),
    "odd heads": ({"head_dim": 15}, "head_dim"),
    "no epsilon": ({"rms_norm_eps": -1.0}, "rms_norm_eps is -1.0"),
    "no base of angles": (
        {"rope_parameters": {"rope_type": "default", "rope_theta": 0.0}},
        "rope_theta is 0",
    ),
    "base below 0": ({"rope_parameters": {"rope_type": "default", "rope_theta": -5.0}}, "rope_theta is -5"),
    "names that are a number": ({"id2label": 3}, "cannot use"),
    "precision that is a word": ({"dtype": "evil"}, "cannot use"),
    "epsilon that is not a number": ({"rms_norm_eps": float("nan")}, "NaN is not a JSON value"),
}
IDS: dict[str, tuple[dict[str, Any], str]] = {
    f"{name}={token}": ({name: token}, f"{name} is {token} and vocab_size {NUM_TOKENS}")
    for name, token in [
        ("bos_token_id", -1),
        ("bos_token_id", NUM_TOKENS),
        ("eos_token_id", -7),
        ("eos_token_id", 10**9),
        ("eos_token_id", [0, NUM_TOKENS]),
        ("eos_token_id", [-1]),
        ("pad_token_id", -1),
        ("pad_token_id", -(10**6)),
        ("pad_token_id", 10**9),
        ("pad_token_id", 2**70),
    ]
}


@pytest.mark.parametrize("kind", ["qwen2", "qwen3", "llama"])
@pytest.mark.parametrize("name", SIZES | IDS)
def test_an_absurd_number_is_refused_by_the_name_of_its_field(name: str, kind: Kind, tmp_path: Path) -> None:
    """Before the weights are touched: there are none here that could be read."""
    changes, complaint = (SIZES | IDS)[name]
    tiny_model(Shape(kind=kind)).config.save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    (tmp_path / WEIGHTS).write_bytes(b"no weights")
    edit_json(tmp_path / "config.json", **changes)
    with pytest.raises(ModelError) as caught:
        read_model_files(str(tmp_path))
    assert complaint in str(caught.value)
    assert str(tmp_path / "config.json") in str(caught.value)


@pytest.mark.parametrize("width", [30, 12])
@pytest.mark.parametrize("kind", ["qwen2", "llama"])
def test_a_width_that_makes_no_heads_is_refused_by_its_name(width: int, kind: Kind, tmp_path: Path) -> None:
    tiny_model(Shape(kind=kind)).config.save_pretrained(tmp_path)
    edit_json(tmp_path / "config.json", hidden_size=width, head_dim=None)
    with pytest.raises(ModelError, match=rf"hidden_size.* is {width}|hidden_size, {width}"):
        read_model_files(str(tmp_path))


def test_ids_that_a_configuration_leaves_out_are_none_and_not_those_of_its_class(directory: Path) -> None:
    edit_json(directory / "config.json", bos_token_id=None, eos_token_id=None, pad_token_id=None)
    config = read_model_files(str(directory)).config
    assert [config.bos_token_id, config.eos_token_id, config.pad_token_id] == [None] * 3


@pytest.mark.parametrize("kind", ["qwen2", "qwen3", "llama"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(
    "tensor", ["model.embed_tokens.weight", "model.layers.1.mlp.up_proj.weight", "model.norm.weight"]
)
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_weights_that_are_no_numbers_are_refused(
    kind: Kind, value: float, tensor: str, precision: torch.dtype, tmp_path: Path
) -> None:
    module = tiny_model(Shape(kind=kind))
    module.get_parameter(tensor).data.view(-1)[-1] = value
    save_model(module, byte_tokenizer(), tmp_path / "m")
    with pytest.raises(ModelError, match=f"hold NaN or infinite values, the first in {tensor}"):
        load_model(str(tmp_path / "m"), precision)


@pytest.mark.parametrize(
    "attention",
    ["kernels-community/flash-attn3", "someone/evil@main:run", "flash_attention_2", "eager", "paged|x/y", 3],
)
@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation"])
def test_a_configuration_never_chooses_the_code_of_attention(
    key: str, attention: object, directory: Path
) -> None:
    """transformers would fetch a kernel of that name from the Hub and run it."""
    edit_json(directory / "config.json", **{key: attention})
    module = load_model(str(directory), torch.float32).module
    assert module.config._attn_implementation == "sdpa"
    assert module(torch.tensor([[1, 2, 3]])).logits.isfinite().all()


def test_a_run_or_checkpoint_in_place_of_a_model_is_told_where_its_model_is(directory: Path) -> None:
    inner = directory.rename(directory.with_name("inner"))
    directory.mkdir()
    inner.rename(directory / "model")
    with pytest.raises(ModelError, match=rf"has no config\.json; its model is {directory / 'model'}"):
        read_model_files(str(directory))


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_directory_is_refused_with_the_reason(name: str, directory: Path) -> None:
    damage, complaint = DAMAGES[name]
    damage(directory)
    with pytest.raises(ModelError) as caught:
        load_model(str(directory), torch.float32)
    assert complaint in str(caught.value)
    assert str(directory) in str(caught.value)


def test_an_unsupported_architecture_is_refused_before_its_weights_are_opened(tmp_path: Path) -> None:
    unsupported_config().save_pretrained(tmp_path)
    (tmp_path / WEIGHTS).write_bytes(b"not weights")
    with pytest.raises(ModelError, match=r"model type 'gpt2'.*use one of qwen2, qwen3, llama"):
        load_model(str(tmp_path), torch.float32)


def test_a_name_that_is_no_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not exist; nothing is downloaded by that name"):
        load_model("./Qwen/Qwen3-0.6B", torch.float32)
    with pytest.raises(ModelError, match=r"HF_HUB_OFFLINE is set, and the model Qwen/Qwen3-0\.6B is not"):
        load_model("Qwen/Qwen3-0.6B", torch.float32)
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match="is a file"):
        load_model(str(tmp_path / "file"), torch.float32)


def test_embedded_is_the_model_of_the_package() -> None:
    weights = Path(str(resources.files("zerone"))) / "world" / "embedded" / WEIGHTS
    loaded = load_model("embedded", torch.float32)
    assert loaded.sha256 == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert end_ids(loaded) == (loaded.tokenizer.eos_token_id,)


def test_a_tied_head_that_the_file_repeats_is_accepted(directory: Path) -> None:
    change_weights(lambda t: t.update({"lm_head.weight": t["model.embed_tokens.weight"].clone()}))(directory)
    module = load_model(str(directory), torch.float32).module
    assert module.lm_head.weight is module.model.embed_tokens.weight


def test_saving_replaces_a_model_and_leaves_nothing_beside_it(directory: Path) -> None:
    module = tiny_model(seed=1)
    save_model(module, byte_tokenizer(), directory, {"seed": 1})
    loaded = load_model(str(directory), torch.float32)
    assert_close(loaded.module.state_dict(), module.state_dict(), rtol=0, atol=0)  # files hold fp32 exactly
    assert read_provenance(directory) == {"seed": 1}
    assert [entry.name for entry in directory.parent.iterdir()] == [directory.name]


def test_saving_leaves_anything_but_a_model_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ModelError, match="is not a model"):
        save_model(tiny_model(), byte_tokenizer(), tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_a_crash_between_the_renames_loses_no_model(saved: Path, directory: Path) -> None:
    # What such a crash leaves: the old model aside, nothing under the name. The next save fails.
    aside = directory.with_name(".model.old")
    directory.rename(aside)
    (directory.with_name(".model.tmp")).write_text("in the way of the temporary directory")
    with pytest.raises(CheckpointError, match="cannot write the model"):
        save_model(tiny_model(), byte_tokenizer(), directory)
    assert (directory / WEIGHTS).read_bytes() == (saved / WEIGHTS).read_bytes()


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="free some space or choose another place"):
        save_model(tiny_model(), byte_tokenizer(), tmp_path / "file" / "model")


def test_saved_files_are_as_readable_as_their_directory(saved: Path) -> None:
    readable = saved.stat().st_mode & 0o444
    assert {entry.stat().st_mode & 0o444 for entry in saved.iterdir()} == {readable}


def test_loading_runs_no_code_of_the_directory(directory: Path) -> None:
    marker = directory / "ran"
    (directory / "mine.py").write_text(f"open({os.fspath(marker)!r}, 'w').close()\n")
    edit_json(directory / "config.json", auto_map={"AutoConfig": "mine.C", "AutoModelForCausalLM": "mine.M"})
    edit_json(directory / "tokenizer_config.json", auto_map={"AutoTokenizer": ["mine.T", None]})
    load_model(str(directory), torch.float32)
    assert not marker.exists()


@pytest.mark.parametrize("content", [None, "{", "[]"])
def test_an_unreadable_provenance_is_none(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "provenance.json").write_text(content)
    assert read_provenance(tmp_path) is None
