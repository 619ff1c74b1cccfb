"""Checkpoints: weights, optimizer state, reference, and how far a run was.

A checkpoint is written under a temporary name, synced, and renamed, so it exists whole or not at
all. A manifest holds the checksum of every file: one that was damaged since is told by name and set
aside, and the one before is used. Weights are a transformers directory that other tools load; tensors are
safetensors, the rest is JSON. Of a training on several ranks each writes its own rows (`write_shards`),
and any number of ranks reads them. Randomness is a function of (seed, step, ...), so no generator state
is needed.
"""

import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from zerone.errors import CheckpointError, FileError
from zerone.files import parse_json, read_json, write_json
from zerone.identity import sha256_of_file
from zerone.model.loading import stored_parameters, sync_path, write_model
from zerone.model.lora import AdapterPart, full_weights
from zerone.model.sharding import copy_full, full_of, own_rows, sharded_like
from zerone.runs.directory import RunDir


@dataclass(frozen=True, slots=True)
class ModelPart:
    """A model that a checkpoint keeps as a transformers directory, which other tools load."""

    module: nn.Module
    tokenizer: Any

    def write(self, path: Path) -> None:
        """Write the directory."""
        write_model(self.module, self.tokenizer, path, full_weights(self.module))

    def read(self, path: Path) -> None:
        """Load the weights into the module."""
        _load_into(self.module, stored_parameters(path, self.module))


_MANIFEST_NAME = "manifest.json"
_PROGRESS_NAME = "progress.json"


class Part(Protocol):
    """What a checkpoint keeps in a place of its own."""

    def write(self, path: Path) -> None:
        """Write it to a path that does not exist."""
        ...

    def read(self, path: Path) -> None:
        """Take back what was written."""
        ...


@dataclass(frozen=True, slots=True)
class RecordsPart:
    """What a run has recorded up to a checkpoint, by checksum: it goes on from figures that are its own."""

    run: RunDir

    def write(self, path: Path) -> None:
        """Write the checksums."""
        path.write_text(write_json(self.run.sums()), encoding="utf-8")

    def read(self, path: Path) -> None:
        """Compare the checksums, which a checkpoint of an older version has not."""
        if path.exists():
            self.run.compare_sums(read_json(path))


RECORDS_NAME = "records.json"

State = Mapping[str, Part | nn.Module | torch.optim.Optimizer]
"""What a run resumes from, by name; modules and optimizers are kept as NAME.safetensors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a run stands: steps done and updates of the weights made."""

    step: int
    updates: int


def _path_of(directory: Path, step: int) -> Path:
    return directory / f"step_{step:06d}"


def checkpoints(directory: Path) -> list[Path]:
    """Return the complete checkpoints, oldest first."""
    return sorted(path for path in directory.glob("step_*") if (path / _PROGRESS_NAME).exists())


def save_checkpoint(
    directory: Path,
    progress: Progress,
    state: State,
    keep: int,
) -> None:
    """Write a checkpoint unless it is there, then remove all but the newest `keep`.

    A step's state is a function of the run's configuration, so a complete checkpoint of the same
    step holds the same. Replacing it would mean a moment without any.
    """
    final = _path_of(directory, progress.step)
    if (final / _PROGRESS_NAME).exists():
        return
    temporary = directory / f".{final.name}.tmp"
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        for name, part in state.items():
            if isinstance(part, nn.Module):
                save_file(_distinct_tensors(part), temporary / f"{name}.safetensors")
            elif isinstance(part, torch.optim.Optimizer):
                save_file(_optimizer_tensors(part), temporary / f"{name}.safetensors")
            else:
                part.write(temporary / name)
        text = write_json({"step": progress.step, "updates": progress.updates})
        (temporary / _PROGRESS_NAME).write_text(text, encoding="utf-8")
        (temporary / _MANIFEST_NAME).write_text(write_json({"sha256": _sums(temporary)}), encoding="utf-8")
        _sync(temporary)
        shutil.rmtree(final, ignore_errors=True)
        temporary.rename(final)
        sync_path(directory)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise CheckpointError(
            f"cannot write {final}: {error}; earlier checkpoints are untouched. "
            "Free some space and go on with --resume"
        ) from error
    for old in checkpoints(directory)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)


def restore_newest(directory: Path, state: State) -> Progress | None:
    """Put the newest sound checkpoint's state into the given objects; None where there is no checkpoint.

    Damaged ones are told of and set aside, so that their steps are made again. Raises CheckpointError where
    none is sound.
    """
    found = checkpoints(directory)
    # They appear whole, so one without its last file was damaged too.
    damaged = [
        (path, CheckpointError(f"checkpoint {path} is damaged (it has no {_PROGRESS_NAME}); remove it"))
        for path in sorted(directory.glob("step_*"))
        if path not in found
    ]
    progress = None
    while found and progress is None:
        try:
            progress = load_checkpoint(found[-1], state)
        except CheckpointError as error:
            damaged.append((found.pop(), error))
    if damaged and progress is None:
        raise CheckpointError(
            f"no checkpoint of {directory} can be used: {damaged[0][1]}; with none before it, put back what "
            "is damaged or begin anew in another directory"
        )
    for path, fault in damaged:
        aside = path.with_name(f".{path.name}.damaged")
        print(f"warning: {fault}; going on from {found[-1].name}; it is kept as {aside}", file=sys.stderr)
        try:
            shutil.rmtree(aside, ignore_errors=True)
            path.rename(aside)
        except OSError as problem:
            raise CheckpointError(f"cannot move the damaged {path} away: {problem.strerror}") from problem
    return progress


def load_checkpoint(path: Path, state: State) -> Progress:
    """Put a checkpoint's state into the given objects; raises CheckpointError if it is damaged.

    One of a version without manifests is taken as it is.
    """
    try:
        _compare_sums(path)
        progress = _progress_of(path)
        _read_parts(path, state)
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(
            f"checkpoint {path} is damaged ({error}); remove it to go on from the one before"
        ) from error
    return progress


def read_state(path: Path, state: State) -> None:
    """Put what a checkpoint has into this rank's objects; raises CheckpointError if it is damaged."""
    try:
        _read_parts(path, state)
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(str(error)) from error


def _read_parts(path: Path, state: State) -> None:
    shards = path / SHARDS_NAME
    is_sharded = shards.is_dir()
    for name, part in state.items():
        if isinstance(part, torch.optim.Optimizer):
            tensors = Shards(shards, name) if is_sharded else load_file(path / f"{name}.safetensors")
            _load_optimizer(part, tensors)
        elif isinstance(part, _OF_MODULES) and is_sharded:
            _load_into(_module_of(part), Shards(shards, name))
        elif isinstance(part, nn.Module):
            _load_into(part, load_file(path / f"{name}.safetensors"))
        else:
            part.read(path / name)


# The shards of several ranks ----------------------------------------------------------------------

SHARDS_NAME = "shards"
"""The directory of what several ranks wrote, in place of model, optimizer and reference."""

_OF_MODULES = (nn.Module, ModelPart, AdapterPart)
_INDEX = "rows"


def write_shards(directory: Path, state: State, rank: int, num_ranks: int) -> None:
    """Write what this rank has of the tensors of a state, NAME.RANK.safetensors, without asking another.

    Each file says in its header how many there are, and of each tensor the full shape and the row at which
    this piece begins. Raises CheckpointError where it cannot be written.
    """
    try:
        for name, part in state.items():
            tensors: dict[str, Tensor] = {}
            rows: dict[str, Any] = {}
            for key, tensor in _as_they_lie(part):
                if (found := own_rows(tensor, rank == 0)) is not None:
                    start, piece = found
                    whole = piece.reshape(1) if not piece.ndim else piece
                    tensors[key] = whole.cpu().contiguous()
                    rows[key] = {"start": start, "shape": list(tensor.shape or (1,))}
            about = write_json({"num_ranks": num_ranks, _INDEX: rows})
            path = directory / f"{name}.{rank:05d}.safetensors"
            save_file(tensors, path, {"zerone": about})
            sync_path(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"cannot write {directory}: {error}") from error


def _as_they_lie(part: Any) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of a part by name, sharded as they are."""
    if isinstance(part, torch.optim.Optimizer):
        for number, values in part.state_dict()["state"].items():
            for name, value in values.items():
                if hasattr(value, "codes"):
                    raise CheckpointError("optim.kind=adamw_8bit is trained on one rank")
                yield f"{number}.{name}", value
        return
    for name, parameter in _module_of(part).named_parameters():
        if not isinstance(part, AdapterPart) or ".lora_" in name:
            yield name, parameter


def _module_of(part: Any) -> nn.Module:
    module: nn.Module = part if isinstance(part, nn.Module) else part.module
    return module


class Shards(Mapping[str, Tensor]):
    """The tensors that several ranks wrote, put together one by one as they are read.

    Raises FileError where a file or a part of a tensor is missing.
    """

    def __init__(self, directory: Path, name: str) -> None:
        self._pieces: dict[str, list[tuple[int, Path]]] = {}
        self._shapes: dict[str, list[int]] = {}
        paths = sorted(directory.glob(f"{name}.*.safetensors"))
        for path in paths:
            with safe_open(str(path), framework="pt") as file:
                about = parse_json((file.metadata() or {})["zerone"], str(path))
            if about["num_ranks"] != len(paths):
                raise FileError(f"{directory} has {len(paths)} of {about['num_ranks']} files of {name}")
            if not isinstance(about[_INDEX], dict):
                raise FileError(f"{path} has no index of its rows")
            for key, rows in about[_INDEX].items():
                self._pieces.setdefault(key, []).append((rows["start"], path))
                if self._shapes.setdefault(key, rows["shape"]) != rows["shape"]:
                    raise FileError(f"the files of {name} in {directory} give {key} several shapes")
        if not paths:
            raise FileError(f"{directory} has no {name}")

    def __getitem__(self, key: str) -> Tensor:
        """Return a tensor whole."""
        pieces: list[Tensor] = []
        filled = 0
        for start, path in sorted(self._pieces[key]):
            with safe_open(str(path), framework="pt") as file:
                piece = file.get_tensor(key)
            if start != filled:
                raise FileError(f"{path} begins {key} at row {start}, not {filled}")
            filled += len(piece)
            pieces.append(piece)
        whole = torch.cat(pieces) if len(pieces) > 1 else pieces[0]
        if list(whole.shape) != self._shapes[key]:
            raise FileError(f"{key} has the shape {list(whole.shape)}, not {self._shapes[key]}")
        return whole

    def __iter__(self) -> Iterator[str]:
        """Yield the names."""
        return iter(self._pieces)

    def __len__(self) -> int:
        """Return the number of tensors."""
        return len(self._pieces)


def _progress_of(path: Path) -> Progress:
    found = read_json(path / _PROGRESS_NAME)
    progress = Progress(step=found["step"], updates=found["updates"])
    if not all(type(count) is int and count >= 0 for count in (progress.step, progress.updates)):
        raise FileError(f"{path / _PROGRESS_NAME} holds no counts")
    if path.name != _path_of(path.parent, progress.step).name:
        raise FileError(f"{path / _PROGRESS_NAME} is of step {progress.step}")
    return progress


def _sums(directory: Path) -> dict[str, str]:
    """Return the checksum of every file of a checkpoint by its name, except the manifest's own."""
    files = sorted(path for path in directory.rglob("*") if path.is_file() and path.name != _MANIFEST_NAME)
    return {path.relative_to(directory).as_posix(): sha256_of_file(path) for path in files}


def _compare_sums(directory: Path) -> None:
    """Raise FileError for a file that is missing, or other than when the checkpoint was written."""
    path = directory / _MANIFEST_NAME
    if not path.exists():
        return
    sums = read_json(path)["sha256"]
    if not isinstance(sums, dict) or _PROGRESS_NAME not in sums:
        raise FileError(f"{path} holds no checksums")
    for name, sha256 in sums.items():
        if sha256_of_file(directory / name) != sha256:
            raise FileError(f"{name} is not what was written")


def _distinct_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Return the parameters by name, tied ones once."""
    return {name: full_of(parameter).contiguous() for name, parameter in module.named_parameters()}


def _load_into(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    parameters = dict(module.named_parameters())
    missing = parameters.keys() - tensors.keys()
    if missing:
        raise KeyError(f"no tensor named {sorted(missing)[0]}")
    with torch.no_grad():
        for name, parameter in parameters.items():
            copy_full(parameter, tensors[name])


_CODES = ("codes", "scale", "qmap")
"""The tensors of a state that torchao keeps in 8 bits; `is_signed` stands beside them."""


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return AdamW's state by parameter number; a state in 8 bits as the tensors that it consists of."""
    found: dict[str, Tensor] = {}
    for number, values in optimizer.state_dict()["state"].items():
        for name, value in values.items():
            full: Any = full_of(value)
            key = f"{number}.{name}"
            if hasattr(full, "codes"):
                found |= {f"{key}.{part}": getattr(full, part).contiguous() for part in _CODES}
                found[f"{key}.is_signed"] = torch.tensor([full.signed])
            else:
                found[key] = full.contiguous() if full.ndim else full.reshape(1)
    return found


def _load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    tree = optimizer.state_dict()
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    parts: dict[tuple[int, str], dict[str, Tensor]] = {}
    for key, value in tensors.items():
        number, name, *part = key.split(".")
        if part:
            parts.setdefault((int(number), name), {})[part[0]] = value
        elif name == "step":
            state.setdefault(int(number), {})[name] = value.squeeze()
        else:
            state.setdefault(int(number), {})[name] = sharded_like(value, parameters[int(number)])
    for (index, name), found in parts.items():
        state.setdefault(index, {})[name] = sharded_like(_in_8_bits(found), parameters[index])
    optimizer.load_state_dict({"state": state, "param_groups": tree["param_groups"]})


def _in_8_bits(parts: Mapping[str, Tensor]) -> Tensor:
    """Return the state of torchao's AdamW that `parts` are of."""
    from torchao.optim.subclass_8bit import OptimState8bit

    tensors = [parts[name] for name in _CODES]
    return OptimState8bit(*tensors, bool(parts["is_signed"]), torch.float32)  # type: ignore[no-any-return]  # without types


def _sync(directory: Path) -> None:
    """Force every file and folder of a tree to the disk."""
    for path in [*directory.rglob("*"), directory]:
        sync_path(path)
