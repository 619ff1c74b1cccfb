"""Checkpoints: whole or not there, bit for bit, and an earlier one outlives every failure."""

import json
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from fakes import NUM_TOKENS, Shape, byte_tokenizer, tiny_model
from scripted import copies, credited, is_unchanged, make_config, member
from training import Learner, make_learner, update
from zerone.config import Config
from zerone.errors import CheckpointError
from zerone.model.loading import load_model, write_model
from zerone.runs.checkpoint import SHARDS_NAME, Progress, checkpoints, load_checkpoint, save_checkpoint

CONFIG = make_config(rl__minibatches=1, rl__max_mismatch_kl=1e9, loss__kl_coef=0.01)
PPO = make_config(rl__minibatches=1, rl__max_mismatch_kl=1e9, loss__kl_coef=0.01, rl__algorithm="ppo")
GROUPS = [
    credited([member(completion=(3 + i, 9, 4), reward=float(i), sample=i) for i in range(2)], (-1.0, 1.0))
]


def new_learner(seed: int = 0, *, tied: bool = True, config: Config = CONFIG) -> Learner:
    shape = Shape(kind="qwen3", tied=tied)
    return make_learner(tiny_model(shape, seed), config, updates=1, reference=tiny_model(shape, seed + 10))


def trained_learner(num_updates: int = 2, *, tied: bool = True, config: Config = CONFIG) -> Learner:
    """Return a learner whose optimiser has moments to lose."""
    learner = new_learner(tied=tied, config=config)
    for step in range(num_updates):
        update(config, learner, GROUPS, step)
    return learner


def save(directory: Path, learner: Learner, step: int = 3, keep: int = 2) -> Path:
    save_checkpoint(directory, Progress(step=step, updates=7), learner.kept(byte_tokenizer()), keep)
    return directory / f"step_{step:06d}"


def load(path: Path, learner: Learner) -> Progress:
    return load_checkpoint(path, learner.kept(byte_tokenizer()))


def state_of(learner: Learner) -> dict[str, Any]:
    """Return every tensor that training goes on from."""
    tensors: dict[str, Any] = {f"policy.{name}": tensor for name, tensor in copies(learner.module).items()}
    tensors |= {f"reference.{name}": tensor for name, tensor in copies(learner.reference).items()}
    for number, values in learner.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{name}": value.clone() for name, value in values.items()}
    if learner.critic is not None:
        tensors |= {
            f"critic.{name}": tensor for name, tensor in copies(learner.critic.trainer.module).items()
        }
        for number, values in learner.critic.trainer.optimizers[0].state_dict()["state"].items():
            tensors |= {f"its optimizer.{number}.{name}": value.clone() for name, value in values.items()}
    return tensors


def assert_same_state(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name
        assert found[name].shape == tensor.shape, name


# Round trip ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("tied", [True, False])
def test_everything_comes_back_bit_for_bit(tied: bool, tmp_path: Path) -> None:
    saved, restored = trained_learner(tied=tied), new_learner(seed=1, tied=tied)
    assert load(save(tmp_path, saved), restored) == Progress(step=3, updates=7)
    state = state_of(saved)
    assert sum(name.startswith("optimizer.") for name in state) > 20
    assert_same_state(state_of(restored), state)


@pytest.mark.parametrize("config", [CONFIG, PPO], ids=["grpo", "ppo"])
def test_training_goes_on_as_if_it_had_not_stopped(config: Config, tmp_path: Path) -> None:
    saved, restored = trained_learner(config=config), new_learner(seed=1, config=config)
    load(save(tmp_path, saved), restored)
    stats = [update(config, learner, GROUPS, step=2) for learner in (saved, restored)]
    assert stats[0] == stats[1]
    assert_same_state(state_of(restored), state_of(saved))


def test_restored_parameters_stay_tied_and_trainable(tmp_path: Path) -> None:
    restored = new_learner(seed=1)
    load(save(tmp_path, trained_learner()), restored)
    module: Any = restored.module
    assert module.lm_head.weight is module.model.embed_tokens.weight
    assert all(parameter.requires_grad for parameter in restored.module.parameters())
    held = [p for group in restored.optimizer.param_groups for p in group["params"]]
    assert sorted(map(id, held)) == sorted(map(id, restored.module.parameters()))


def test_checkpoint_before_any_update_has_no_moments_and_loads(tmp_path: Path) -> None:
    restored = trained_learner()
    load(save(tmp_path, new_learner()), restored)
    assert_same_state(state_of(restored), state_of(new_learner()))


def test_a_critic_comes_back_with_its_moments_and_its_loss_is_refused(tmp_path: Path) -> None:
    saved, restored = trained_learner(config=PPO), new_learner(seed=1, config=PPO)
    path = save(tmp_path, saved)
    load(path, restored)
    state = state_of(saved)
    assert sum(name.startswith("its optimizer.") for name in state) > 20
    assert_same_state(state_of(restored), state)
    for name in ("critic.safetensors", "critic_optimizer.safetensors"):
        (path / name).rename(tmp_path / name)
        with pytest.raises(CheckpointError, match=r"step_000003 is damaged"):
            load(path, new_learner(config=PPO))
        (tmp_path / name).rename(path / name)


def test_a_checkpoint_of_grpo_holds_nothing_of_a_critic(tmp_path: Path) -> None:
    assert not [*save(tmp_path, trained_learner()).glob("critic*")]


def test_run_without_a_reference_neither_writes_nor_wants_one(tmp_path: Path) -> None:
    saved, restored = trained_learner(), new_learner(seed=1)
    saved.trainer.reference_module = restored.trainer.reference_module = None
    path = save(tmp_path, saved)
    assert not (path / "reference.safetensors").exists()
    load(path, restored)
    assert is_unchanged(restored.module, copies(saved.module))


def test_weights_of_a_checkpoint_are_a_model_that_other_tools_load(tmp_path: Path) -> None:
    saved = trained_learner()
    path = save(tmp_path, saved)
    model = load_model(str(path / "model"), torch.float32)
    assert is_unchanged(model.module, copies(saved.module))
    assert model.tokenizer.get_vocab() == byte_tokenizer().get_vocab()


# Which ones there are -----------------------------------------------------------------------------


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    learner = trained_learner(1)
    for step in (5, 10, 15, 100):
        save(tmp_path, learner, step, keep=2)
    assert [path.name for path in checkpoints(tmp_path)] == ["step_000015", "step_000100"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step_000015", "step_000100"]


def test_a_complete_checkpoint_of_the_step_is_left_as_it_is(tmp_path: Path) -> None:
    """The last step is saved twice; a kill while replacing it would leave nothing with keep=1."""
    first = trained_learner()
    path = save(tmp_path, first, keep=1)
    before = {file: file.stat().st_mtime_ns for file in path.rglob("*")}
    save(tmp_path, first, keep=1)
    assert {file: file.stat().st_mtime_ns for file in path.rglob("*")} == before


def test_a_half_written_checkpoint_is_ignored_and_overwritten(tmp_path: Path) -> None:
    whole = save(tmp_path, trained_learner(), step=3)
    shutil.copytree(whole, tmp_path / ".step_000004.tmp")
    (tmp_path / ".step_000004.tmp" / "optimizer.safetensors").write_bytes(b"half")
    shutil.copytree(whole, tmp_path / "step_000005")
    (tmp_path / "step_000005" / "progress.json").unlink()
    assert checkpoints(tmp_path) == [whole]
    restored = new_learner(seed=1)
    assert load(save(tmp_path, trained_learner(), step=4), restored).step == 3 + 1
    assert not (tmp_path / ".step_000004.tmp").exists()


def test_no_directory_has_no_checkpoints(tmp_path: Path) -> None:
    assert checkpoints(tmp_path / "nothing") == []


# Damage -------------------------------------------------------------------------------------------


def _truncate(name: str) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        data = (path / name).read_bytes()
        (path / name).write_bytes(data[: len(data) // 2])

    return damage


def _overwrite(name: str, data: bytes) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        (path / name).write_bytes(data)

    return damage


def _edit(name: str, change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        tensors = load_file(path / name)
        change(tensors)
        save_file(tensors, path / name)

    return damage


def _reshape(tensors: dict[str, Any]) -> None:
    tensors["model.embed_tokens.weight"] = torch.zeros(NUM_TOKENS - 1, 32)


DAMAGES = {
    "progress cut": _truncate("progress.json"),
    "progress of another kind": _overwrite("progress.json", b"[3, 7]"),
    "progress without updates": _overwrite("progress.json", json.dumps({"step": 3}).encode()),
    "weights cut": _truncate("model/model.safetensors"),
    "weights zeroed": _overwrite("model/model.safetensors", bytes(4096)),
    "weights gone": lambda path: (path / "model" / "model.safetensors").unlink(),
    "a weight gone": _edit("model/model.safetensors", lambda t: t.pop("model.norm.weight")),
    "a weight of another shape": _edit("model/model.safetensors", _reshape),
    "optimizer cut": _truncate("optimizer.safetensors"),
    "optimizer gone": lambda path: (path / "optimizer.safetensors").unlink(),
    "optimizer's names changed": _edit("optimizer.safetensors", lambda t: t.update(x=t.pop("0.exp_avg"))),
    "reference gone": lambda path: (path / "reference.safetensors").unlink(),
    "reference cut": _truncate("reference.safetensors"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_checkpoint_is_refused_by_name(damage: Callable[[Path], None], tmp_path: Path) -> None:
    path = save(tmp_path, trained_learner())
    damage(path)
    with pytest.raises(CheckpointError, match=r"step_000003 is damaged .*remove it to go on from the one"):
        load(path, new_learner(seed=1))


# A full disk --------------------------------------------------------------------------------------


@contextmanager
def file_size_limit(num_bytes: int) -> Iterator[None]:
    """Let no file grow beyond a size: writing fails as on a full disk, and nothing else does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    "largest", ["model/tokenizer.json", "model/model.safetensors", "optimizer.safetensors"]
)
def test_a_full_disk_leaves_the_earlier_checkpoint_alone(largest: str, tmp_path: Path) -> None:
    """Each file in turn is the one that there is no room for."""
    learner = trained_learner()
    first = save(tmp_path, learner, step=1, keep=1)
    expected = state_of(learner)
    size = (first / largest).stat().st_size
    update(CONFIG, learner, GROUPS, step=2)
    with file_size_limit(size - 1), pytest.raises(CheckpointError, match=r"cannot write .*step_000002"):
        save(tmp_path, learner, step=2, keep=1)
    assert [path.name for path in tmp_path.iterdir()] == ["step_000001"]
    restored = new_learner(seed=1)
    load(first, restored)
    assert_same_state(state_of(restored), expected)


def test_a_tokenizer_that_does_not_fit_is_an_os_error(tmp_path: Path) -> None:
    """The tokenizers library would raise a bare Exception, which no caller could tell from a bug."""
    tokenizer = load_model("embedded", torch.float32).tokenizer
    tokenizer.add_tokens([f"[{i}]" for i in range(2000)])
    model = tiny_model(Shape(kind="qwen3", tied=True), 0)
    write_model(model, tokenizer, tmp_path)
    sizes = {name: (tmp_path / name).stat().st_size for name in ("model.safetensors", "tokenizer.json")}
    assert sizes["model.safetensors"] < sizes["tokenizer.json"]
    with file_size_limit(sizes["tokenizer.json"] - 1), pytest.raises(OSError, match="File too large"):
        write_model(model, tokenizer, tmp_path)


def test_sizes_of_the_files_that_do_not_fit_differ(tmp_path: Path) -> None:
    """Else the test above would try one and the same failure three times."""
    path = save(tmp_path, trained_learner())
    sizes = [
        (path / name).stat().st_size
        for name in ("model/tokenizer.json", "model/model.safetensors", "optimizer.safetensors")
    ]
    assert sizes[0] < sizes[1] < sizes[2]


# Shards -------------------------------------------------------------------------------------------


def tensors_by_part(learner: Learner) -> dict[str, dict[str, torch.Tensor]]:
    """Return what a checkpoint of several ranks keeps, whole."""
    optimizer = {
        f"{number}.{name}": value.detach().clone().reshape(value.shape or (1,))
        for number, values in learner.optimizer.state_dict()["state"].items()
        for name, value in values.items()
    }
    return {"model": copies(learner.module), "reference": copies(learner.reference), "optimizer": optimizer}


def write_cut(directory: Path, learner: Learner, num_ranks: int) -> Path:
    """Write a checkpoint as so many ranks would: rows cut as torch.chunk does, one-row tensors at rank 0."""
    path = directory / "step_000003"
    (path / SHARDS_NAME).mkdir(parents=True)
    (path / "progress.json").write_text('{"step": 3, "updates": 7}', encoding="utf-8")
    for part, tensors in tensors_by_part(learner).items():
        for rank in range(num_ranks):
            pieces, rows = {}, {}
            for name, tensor in tensors.items():
                size = -(-len(tensor) // num_ranks)
                start = min(rank * size, len(tensor))
                if (piece := tensor[start : start + size]).numel():
                    pieces[name] = piece.clone()
                    rows[name] = {"start": start, "shape": list(tensor.shape)}
            about = json.dumps({"num_ranks": num_ranks, "rows": rows})
            save_file(
                pieces, path / SHARDS_NAME / f"{part}.{rank:05d}.safetensors", metadata={"zerone": about}
            )
    return path


@pytest.mark.parametrize("num_ranks", [1, 2, 3, 7, 40])
def test_shards_of_any_number_of_ranks_are_put_together(tmp_path: Path, num_ranks: int) -> None:
    learner = trained_learner()
    path = write_cut(tmp_path, learner, num_ranks)
    other = new_learner(seed=5)
    assert load(path, other) == Progress(step=3, updates=7)
    found, expected = state_of(other), state_of(learner)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


def rewrite_index(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change what a file of shards says of its pieces."""
    with safe_open(str(path), framework="pt") as file:
        about = json.loads(file.metadata()["zerone"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
    change(about)
    save_file(tensors, path, metadata={"zerone": json.dumps(about)})


def first_row(about: dict[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = next(iter(about["rows"].values()))
    return row


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(path.read_bytes()[:-5]),
        lambda path: path.write_bytes(b""),
        lambda path: save_file({}, path),
        lambda path: rewrite_index(path, lambda about: about.update(num_ranks=3)),
        lambda path: rewrite_index(path, lambda about: about.pop("num_ranks")),
        lambda path: rewrite_index(path, lambda about: about.update(rows=[])),
        lambda path: rewrite_index(path, lambda about: about.update(rows={})),
        lambda path: rewrite_index(path, lambda about: first_row(about).update(start=1)),
        lambda path: rewrite_index(path, lambda about: first_row(about).update(start="0")),
        lambda path: rewrite_index(path, lambda about: first_row(about).update(shape=[1, 1])),
        lambda path: rewrite_index(path, lambda about: first_row(about).update(shape=None)),
        lambda path: rewrite_index(path, lambda about: about["rows"].pop(next(iter(about["rows"])))),
    ],
)
@pytest.mark.parametrize("part", ["model.00001", "reference.00000", "optimizer.00001"])
def test_damaged_shards_are_refused(tmp_path: Path, damage: Callable[[Path], object], part: str) -> None:
    path = write_cut(tmp_path, trained_learner(num_updates=1), 2)
    damage(path / SHARDS_NAME / f"{part}.safetensors")
    with pytest.raises(CheckpointError, match="is damaged"):
        load(path, new_learner())
