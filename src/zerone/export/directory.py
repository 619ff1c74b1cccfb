"""Writes the transformers directory that other tools load unchanged.

In: a `Source`. Out: weights and configuration byte for byte as they were, tokenizer, chat template,
generation settings, provenance.json and README.md. The directory appears under its name when it is
complete, and takes nobody's place.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from zerone.errors import ExportError, ZeroneError
from zerone.export.card import write_card
from zerone.export.source import Source
from zerone.model.loading import PROVENANCE_NAME, sync_path
from zerone.model.tokenizer import FILE_NAME

TEMPERATURE, TOP_P = 0.6, 0.95
"""How the R1 paper samples, and what its models recommend."""

_INDEX_NAME = "model.safetensors.index.json"


@contextmanager
def fresh_directory(out: Path) -> Iterator[Path]:
    """Give a directory to write to, which becomes `out` if nothing fails.

    Raises ExportError when something stands there already or it cannot be written.
    """
    if out.exists() and not (out.is_dir() and next(out.iterdir(), None) is None):
        raise ExportError(f"{out} is there already; choose another --out, or remove it")
    temporary = out.absolute().with_name(f".{out.absolute().name}.tmp")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        yield temporary
        for entry in temporary.iterdir():
            sync_path(entry)
        if out.exists():
            out.rmdir()
        temporary.rename(out)
    except ZeroneError:
        raise  # says already what is wrong; some of these are OSErrors
    except OSError as error:
        raise ExportError(f"cannot write {out}: {error.strerror or error}; choose another --out") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_directory(source: Source, directory: Path, name: str) -> None:
    """Write the whole model into an empty directory; raises OSError when that fails."""
    files = source.files
    for path in [files.directory / "config.json", *files.weight_paths, files.directory / _INDEX_NAME]:
        if path.exists():
            shutil.copyfile(path, directory / path.name)
    _correct_head(directory / "config.json", files.config.tie_word_embeddings)
    _write_tokenizer(source, directory)
    _write_json(directory / "generation_config.json", generation_settings(source))
    _write_json(directory / PROVENANCE_NAME, _provenance(source, name))
    (directory / "README.md").write_text(write_card(source, name), encoding="utf-8")


def _correct_head(path: Path, is_tied: bool) -> None:
    """Let a config.json say that the output matrix is a matrix of its own, where the weights have one."""
    stated: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if stated.get("tie_word_embeddings", False) and not is_tied:
        _write_json(path, stated | {"tie_word_embeddings": False})


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _write_tokenizer(source: Source, directory: Path) -> None:
    tokenizer = source.files.tokenizer
    if source.prompt is not None:
        tokenizer.chat_template = source.chat_template
    # Written here first, as the library reports a full disk by a bare Exception.
    text = tokenizer.backend_tokenizer.to_str(pretty=True)
    (directory / FILE_NAME).write_text(text, encoding="utf-8")
    tokenizer.save_pretrained(directory)
    path = directory / "tokenizer_config.json"
    settings: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    for key in ("is_local", "local_files_only"):  # how it was loaded here says nothing elsewhere
        settings.pop(key, None)
    if settings.get("tokenizer_class") == "TokenizersBackend":
        # The same class by the name that transformers before 5 knows too.
        settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    _write_json(path, settings)


def generation_settings(source: Source) -> dict[str, Any]:
    """Return what generation_config.json holds: how to sample, when to stop, how long answers may be."""
    config = source.files.config
    settings: dict[str, Any] = {
        "do_sample": True,
        "temperature": TEMPERATURE,
        "top_p": TOP_P,
        "eos_token_id": list(source.end_ids),
        "pad_token_id": source.files.tokenizer.pad_token_id,
        "bos_token_id": config.bos_token_id,
    }
    if source.config is not None:
        settings["max_new_tokens"] = source.config.sampling.max_tokens
    return {key: value for key, value in settings.items() if value is not None}


def _provenance(source: Source, name: str) -> dict[str, Any]:
    """Return the lineage, with the key of the licence where `read_source` looks for it."""
    return {
        "model": name,
        "licence": source.licence,
        "sha256": source.lineage[0].sha256,
        "lineage": [ancestor.as_dict() for ancestor in source.lineage],
    }
