"""Models come from transformers directories, local or on the Hub, and go back into local ones.

In: a directory (or `embedded`, or a name on the Hub, model/hub.py) and a precision. Out: a `Model`, whose
module owns the weights that decoder.py reads. What can be told from the small files is checked before the
weights are touched. No code from a model directory is ever run and no pickle is opened: safetensors only.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedConfig
from transformers.initialization import no_init_weights

from zerone import hub
from zerone.errors import CheckpointError, FileError, ModelError
from zerone.files import read_json
from zerone.model.configuration import brief, read_config, read_object
from zerone.model.decoder import check_supported
from zerone.model.hub import fetch_model, fetch_small
from zerone.model.tokenizer import read_tokenizer

EMBEDDED = "embedded"
"""The name of the model inside the package; a directory of that name is `./embedded`."""

PROVENANCE_NAME = "provenance.json"

_SINGLE_NAME = "model.safetensors"
_INDEX_NAME = "model.safetensors.index.json"
_PICKLE_PATTERNS = ("*.bin", "*.pt", "*.pth", "*.pkl")


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A causal language model in memory, and what it was read from.

    `module` and `tokenizer` are transformers objects. `sha256` is that of the weight files, one
    after another by name: for a single file what `sha256sum` says.
    """

    module: Any
    tokenizer: Any
    path: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFiles:
    """A model directory whose small files were read and found usable; the weights stay on disk."""

    directory: Path
    config: PreTrainedConfig
    tokenizer: Any
    weight_paths: list[Path]

    @property
    def sha256(self) -> str:
        """The hash of the weight files, as in `Model`."""
        return _hash_files(self.weight_paths)


def load_model(path: str, precision: torch.dtype, *, any_architecture: bool = False) -> Model:
    """Load a transformers directory, the model of the package for `embedded`, or one of the Hub by its name.

    `any_architecture` admits what the decoder does not compute, see `read_config`. Raises ModelError when
    something is missing, damaged or not supported.
    """
    files = read_model_files(path, any_architecture=any_architecture)
    return Model(
        module=load_weights(files, precision),
        tokenizer=files.tokenizer,
        path=path,
        sha256=files.sha256,
    )


def read_model_files(path: str, *, any_architecture: bool = False) -> ModelFiles:
    """Read and check all but the weights of what `load_model` takes; raises ModelError as it does."""
    directory = find_directory(path)
    config = read_config(directory, any_architecture=any_architecture)
    weight_paths = _find_weights(directory)
    tokenizer = read_tokenizer(directory)
    num_tokens = max([len(tokenizer), *(number + 1 for number in tokenizer.get_vocab().values())])
    if num_tokens > config.vocab_size:
        raise ModelError(
            f"the tokenizer in {directory} has {num_tokens} tokens and the model's embedding only "
            f"{config.vocab_size}; use the tokenizer that belongs to the model, or resize its embedding"
        )
    if config.tie_word_embeddings and _hold_own_head(weight_paths):
        config.tie_word_embeddings = False  # else some readers put the embedding in its place, without a word
    files = ModelFiles(directory=directory, config=config, tokenizer=tokenizer, weight_paths=weight_paths)
    _settle_end(files)
    return files


def find_directory(path: str, *, has_weights: bool = True) -> Path:
    """Return the directory that a `model.path` names; raises ModelError if there is none.

    Without `has_weights` a model on the Hub is fetched as far as its small files.
    """
    if path == EMBEDDED:
        directory = Path(str(resources.files("zerone"))) / "world" / EMBEDDED
        remedy = "this installation lacks the embedded model; make it by `zerone pretrain --out DIR` and set"
    elif hub.is_model_name(path):
        return fetch_model(path, _weight_names) if has_weights else fetch_small(path)
    else:
        directory = Path(path).expanduser()
        remedy = (
            "nothing is downloaded by that name; give OWNER/NAME (hf:OWNER/NAME where a directory OWNER is "
            "here) of a model on the Hub, or a local transformers directory as"
        )
    if not directory.exists():
        raise ModelError(f"model directory {directory} does not exist; {remedy} model.path=DIR")
    if not directory.is_dir():
        raise ModelError(
            f"{directory} is a file; give the transformers directory with config.json as model.path"
        )
    return directory


def context_of(model: Model) -> int:
    """Return the most tokens of a sequence; raises ModelError where the model does not say it."""
    context = getattr(model.module.config, "max_position_embeddings", None)
    if not isinstance(context, int):
        raise ModelError(
            f"config.json in {model.path} has no max_position_embeddings; add the longest context"
        )
    return context


def width_of(path: str) -> int:
    """Return the hidden size of the model that a `model.path` names; raises ModelError if there is none."""
    return int(read_config(find_directory(path, has_weights=False), any_architecture=True).hidden_size)


def decoder_fault(path: str) -> ModelError | None:
    """Return why the decoder (decoder.py) does not compute the model of a `model.path`; None if it does."""
    directory = find_directory(path, has_weights=False)
    config = read_config(directory, any_architecture=True)
    try:
        check_supported(config)
    except ModelError as error:
        return ModelError(f"{directory / 'config.json'}: {error}")
    return None


def _find_weights(directory: Path) -> list[Path]:
    """Return the weight files by name."""
    names = _weight_names(directory)
    if names == {_SINGLE_NAME} and not (directory / _SINGLE_NAME).is_file():
        if any(next(directory.glob(pattern), None) for pattern in _PICKLE_PATTERNS):
            raise ModelError(
                f"{directory} holds only pickled weights, which can run code when opened; convert them to "
                "safetensors by model.save_pretrained(DIR) in a place you trust"
            )
        raise ModelError(f"{directory} has no {_SINGLE_NAME}; copy the weights there")
    paths = [directory / name for name in sorted(names)]
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        raise ModelError(f"{directory} lacks {', '.join(missing)}, named in {_INDEX_NAME}; copy them there")
    return paths


def _weight_names(directory: Path) -> set[str]:
    """Return the names of the weight files that a directory has or should have."""
    index_path = directory / _INDEX_NAME
    is_sharded = index_path.is_file() and not (directory / _SINGLE_NAME).is_file()
    return _shard_names(index_path) if is_sharded else {_SINGLE_NAME}


def _shard_names(index_path: Path) -> set[str]:
    weight_map = read_object(index_path).get("weight_map")
    names = set(weight_map.values()) if isinstance(weight_map, dict) else set()
    if not names or any(Path(str(name)).name != name for name in names):
        raise ModelError(f"{index_path} names no weight files of its own directory; copy the model again")
    return names


def _hold_own_head(weight_paths: Sequence[Path]) -> bool:
    """Whether the weights have an output matrix that differs from the embedding; False if unreadable."""
    matrices = []
    try:
        for name in ("lm_head.weight", "model.embed_tokens.weight"):
            for path in weight_paths:
                with safe_open(path, framework="pt") as file:
                    if name in file.keys():  # noqa: SIM118 - it is no mapping
                        matrices.append(file.get_tensor(name))
                        break
            else:
                return False
    except (OSError, SafetensorError):
        return False
    return not torch.equal(*matrices)


def load_weights(files: ModelFiles, precision: torch.dtype) -> Any:
    """Return the transformers module of a model directory; raises ModelError if a tensor is not in place."""
    directory = files.directory
    try:
        with quiet_transformers():
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                directory,
                config=files.config,
                dtype=precision,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
    except (OSError, ValueError, TypeError, RuntimeError, SafetensorError) as error:
        raise ModelError(
            f"cannot load the weights in {directory}: {brief(error)}; copy them again"
        ) from error
    module, info = loaded
    # transformers puts random numbers where tensors are missing or misshapen, and only warns.
    faults = {
        "lack tensors of the model": sorted(info["missing_keys"]),
        "hold tensors of another shape": sorted(str(key[0]) for key in info["mismatched_keys"]),
        "hold tensors that the model has no place for": sorted(info["unexpected_keys"]),
    }
    for fault, names in faults.items():
        if names:
            raise ModelError(
                f"the weights in {directory} {fault} ({len(names)}, the first {names[0]}); give a causal "
                "language model with the config.json that belongs to it"
            )
    angles = [buffer for name, buffer in module.named_buffers() if name.endswith("inv_freq")]
    if not all(buffer.isfinite().all() for buffer in angles):
        raise ModelError(f"rope_parameters in {directory / 'config.json'} give angles that are not numbers")
    for name, parameter in module.named_parameters():
        if not all(extreme.isfinite() for extreme in parameter.detach().aminmax()):
            raise ModelError(
                f"the weights in {directory} hold NaN or infinite values, the first in {name}: such a model "
                "computes nothing; copy them again, or take an earlier checkpoint"
            )
    return module


def empty_model(config: PreTrainedConfig, dtype: torch.dtype) -> Any:
    """Return a model on the CPU whose weights are to be copied into it: they are random, or not even that."""
    with quiet_transformers(), no_init_weights():
        module = AutoModelForCausalLM.from_config(config, dtype=dtype).requires_grad_(False).eval()
    module.tie_weights()
    return module


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers' bars and reports off the screen; what they tell is checked here."""
    logging: Any = transformers.logging  # its functions carry no types
    verbosity, had_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if had_bars:
            logging.enable_progress_bar()


def hash_weights(directory: Path) -> str:
    """Return the sha256 of a model's weight files, as `Model.sha256` has it."""
    return _hash_files(_find_weights(directory))


def _hash_files(paths: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()


def end_ids(model: Model) -> tuple[int, ...]:
    """Return the tokens that end a completion: the tokenizer's and those of the generation settings.

    Raises ModelError when there is none, as no completion would ever end.
    """
    settings = _with_end(model.module.generation_config, model.module.config)
    return end_ids_of(model.tokenizer, settings, model.path)


def end_ids_of(tokenizer: Any, settings: Any, path: str) -> tuple[int, ...]:
    """Return what `end_ids` does, from a tokenizer and generation settings; `path` is where they lie."""
    found = {*_configured_ends(settings, len(tokenizer), path)}
    if tokenizer.eos_token_id is not None:
        found.add(tokenizer.eos_token_id)
    if not found:
        raise ModelError(
            f"neither the tokenizer nor generation_config.json in {path} names an end token; "
            "set eos_token in tokenizer_config.json"
        )
    return tuple(sorted(found))


def _configured_ends(settings: Any, num_tokens: int, path: str) -> list[int]:
    """Return the end tokens of generation settings, in their order."""
    given = settings.eos_token_id
    ids = [token for token in (given if isinstance(given, list) else [given]) if token is not None]
    for token in ids:
        if not isinstance(token, int) or isinstance(token, bool):
            raise ModelError(
                f"eos_token_id in generation_config.json or config.json in {path} is {given!r}; "
                "give the number of a token, or a list of them"
            )
        if not 0 <= token < num_tokens:
            raise ModelError(
                f"eos_token_id in generation_config.json or config.json in {path} is {given!r}, and the "
                f"tokenizer has {num_tokens} tokens, from 0 on; give the number of one of them"
            )
    return ids


def _settle_end(files: ModelFiles) -> None:
    """See to it that the tokenizer has an end token, the one to write: its own, else the first configured.

    Raises ModelError as `end_ids_of` does.
    """
    settings, path = generation_settings(files), str(files.directory)
    end_ids_of(files.tokenizer, settings, path)
    if files.tokenizer.eos_token_id is None:
        first = _configured_ends(settings, len(files.tokenizer), path)[0]
        files.tokenizer.eos_token = files.tokenizer.convert_ids_to_tokens(first)


def generation_settings(files: ModelFiles) -> GenerationConfig:
    """Return how a model is sampled by default: its generation_config.json, else what config.json says.

    Raises ModelError for settings by which nothing can be generated.
    """
    try:
        settings = GenerationConfig.from_pretrained(files.directory, local_files_only=True)
    except (OSError, TypeError):  # missing or damaged; transformers does much the same
        settings = GenerationConfig.from_model_config(files.config)
    except (ValueError, AttributeError, RecursionError) as error:
        raise ModelError(
            f"cannot use generation_config.json in {files.directory}: {brief(error)}; "
            "correct it, or take it away"
        ) from error
    return _with_end(settings, files.config)


def _with_end(settings: Any, config: Any) -> Any:
    """Return generation settings with the end tokens of config.json where they name none."""
    if settings.eos_token_id is None:
        settings.eos_token_id = config.eos_token_id
    return settings


def save_model(
    module: Any,
    tokenizer: Any,
    path: Path,
    provenance: Mapping[str, Any] | None = None,
    *,
    weights: Mapping[str, Tensor] | None = None,
    write_more: Callable[[Path], None] = lambda directory: None,
) -> None:
    """Write a transformers directory that appears under its name only when it is complete.

    `weights` as in `write_model`; `write_more` puts more beside them before the directory appears.
    A model that was there is replaced, anything else is left alone. Raises ModelError where
    something that is not a model stands, CheckpointError when the directory cannot be written.
    """
    path = path.resolve()
    temporary = path.with_name(f".{path.name}.tmp")
    replaced = path.with_name(f".{path.name}.old")
    try:
        if replaced.exists() and not path.exists():  # a crash came between the two renames below
            replaced.rename(path)
        check_replaceable(path)
        for leftover in (temporary, replaced):
            shutil.rmtree(leftover, ignore_errors=True)
        temporary.mkdir(parents=True)
        write_model(module, tokenizer, temporary, weights)
        _write_provenance(temporary, provenance)
        write_more(temporary)
        _sync(temporary)
        if path.exists():
            path.rename(replaced)
        temporary.rename(path)
        sync_path(path.parent)
        shutil.rmtree(replaced, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise CheckpointError(
            f"cannot write the model to {path}: {brief(error)}; free some space or choose another place"
        ) from error


def check_replaceable(path: Path) -> None:
    """Raise ModelError if `path` holds anything but a model, which `save_model` would not replace."""
    if not path.exists():
        return
    if not path.is_dir() or (any(path.iterdir()) and not (path / "config.json").is_file()):
        raise ModelError(f"{path} is there already and is not a model; choose another place")


def stored_parameters(directory: Path, module: Any) -> Mapping[str, Tensor]:
    """Return the weights of a directory that `write_model` made, by the names that `module` has for them.

    Raises ModelError where one is missing.
    """
    tensors: dict[str, Tensor] = {}
    for path in _find_weights(directory):
        tensors |= load_file(path)
    if all(name in tensors for name, _ in module.named_parameters()):
        return tensors
    # transformers keeps the experts of a mixture one by one in files, and as one tensor in memory.
    files = ModelFiles(directory=directory, config=module.config, tokenizer=None, weight_paths=[])
    return dict(load_weights(files, torch.float32).named_parameters())


def write_model(
    module: Any, tokenizer: Any, directory: Path, weights: Mapping[str, Tensor] | None = None
) -> None:
    """Write weights, configuration and tokenizer; raises OSError or SafetensorError, so also on a full disk.

    `weights` are written in place of the module's own, which may be sharded or have adapters beside them.
    The tokenizers library reports a full disk by a bare Exception, so its file is written here first,
    where the same bytes meet the same disk.
    """
    with quiet_transformers():
        module.save_pretrained(directory, state_dict=None if weights is None else dict(weights))
    if tokenizer.is_fast:
        text = tokenizer.backend_tokenizer.to_str(pretty=True)
        (directory / "tokenizer.json").write_text(text, encoding="utf-8")
    tokenizer.save_pretrained(directory)


def _write_provenance(directory: Path, provenance: Mapping[str, Any] | None) -> None:
    if provenance is not None:
        text = json.dumps(provenance, indent=2, ensure_ascii=False) + "\n"
        (directory / PROVENANCE_NAME).write_text(text, encoding="utf-8")


def _sync(directory: Path) -> None:
    """Bring all files to disk, readable by whom the directory is: safetensors writes for its owner only."""
    for entry in directory.rglob("*"):
        if entry.is_file():
            entry.chmod(directory.stat().st_mode & 0o666)
        sync_path(entry)
    sync_path(directory)


def sync_path(path: Path) -> None:
    """Force a file or folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_provenance(path: Path) -> dict[str, Any] | None:
    """Return what a model directory says about its origin, or None if it says nothing readable."""
    try:
        return read_json(path / PROVENANCE_NAME)
    except FileError:
        return None
