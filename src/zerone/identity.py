"""What a file or a model is, as a sha256 of its content: two things with one hash are the same.

In: a path. Out: a hex digest. A directory's is made of the names and digests of its files; hidden
files and files that tell about the content (origin, time) are no part of it, so that the same work
done twice has the same hash.
"""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from zerone.errors import RunDirError

LINEAGE_NAME = "lineage.json"
ABOUT = (LINEAGE_NAME, "provenance.json")
"""Files of a model directory that tell where it comes from."""


def sha256_of_text(text: str) -> str:
    """Return the digest of a text; names of files may not be UTF-8."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def sha256_of_value(value: Any) -> str:
    """Return the digest of a JSON value, whatever the order of its keys."""
    return sha256_of_text(json.dumps(value, sort_keys=True, ensure_ascii=False))


def sha256_of_file(path: Path) -> str:
    """Return what `sha256sum` says."""
    return sha256_of_start(path)


def sha256_of_start(path: Path, num_bytes: int | None = None) -> str:
    """Return the digest of the first bytes of a file, or of all of them."""
    digest, left = hashlib.sha256(), sys.maxsize if num_bytes is None else num_bytes
    try:
        with path.open("rb") as file:
            while chunk := file.read(min(left, 1 << 20)):
                digest.update(chunk)
                left -= len(chunk)
    except OSError as error:
        raise RunDirError(f"cannot read {path}: {error.strerror}") from error
    return digest.hexdigest()


def sha256_of_path(path: Path) -> str:
    """Return the digest of a file, or of all files below a directory with their names."""
    if not path.is_dir():
        return sha256_of_file(path)
    names = sorted(
        file.relative_to(path).as_posix()
        for file in path.rglob("*")
        if file.is_file() and file.name not in ABOUT and not file.name.startswith(".")
    )
    return sha256_of_text("".join(f"{sha256_of_file(path / name)}  {name}\n" for name in names))


def is_model(path: Path) -> bool:
    """Whether a path is a transformers directory with weights."""
    return (path / "config.json").is_file() and any(path.glob("*.safetensors"))
