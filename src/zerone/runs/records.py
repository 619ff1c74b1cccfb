"""What is known about a stage on disk: started or done, from what, and what it made.

In: a pipeline's directory. Out: `STAGE/stage.json`. A stage's directory appears under its name
together with its record and disappears with it, by renames, so that no crash leaves work whose
inputs are not known.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from zerone.errors import FileError, RunDirError
from zerone.files import read_json, read_yaml
from zerone.identity import is_model, sha256_of_path, sha256_of_value
from zerone.runs.directory import write_atomically

RECORD_NAME = "stage.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """A thing that a stage made: where it is in the stage's directory, and its hash."""

    path: str
    sha256: str
    is_edited: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A stage that was started from `made_from`, and is done where it has outputs.

    `by` names the program that started it, and under `resumed` others that went on with it. `seconds` adds
    up over interruptions, without what a kill cut off.
    """

    stage: str
    made_from: Mapping[str, Any]
    by: Mapping[str, Any]
    seconds: float = 0.0
    peak_rss_bytes: int = 0
    outputs: Mapping[str, Output] = field(default_factory=dict)

    @property
    def is_done(self) -> bool:
        """Whether the stage came to its end."""
        return bool(self.outputs)

    @property
    def identity(self) -> str:
        """The hash of all that the stage was made from."""
        return sha256_of_value(self.made_from)


def read_recipe_of_stages(path: Path) -> dict[str, Mapping[str, Any]]:
    """Return the options of every stage of a pipeline; raises FileError for a damaged recipe."""
    tree = read_yaml(path)
    stages = tree.get("stages") if isinstance(tree, Mapping) else None
    if not isinstance(stages, Mapping) or not all(isinstance(one, Mapping) for one in stages.values()):
        raise FileError(f"{path} is damaged: it must map the names of stages to their options")
    return {str(name): dict(options) for name, options in stages.items()}


def _check(record: Record, stage: str) -> None:
    """Raise TypeError for what a record of a stage cannot hold."""
    kinds = {
        "made_from": (record.made_from, dict),
        "by": (record.by, dict),
        "options": (record.made_from.get("options", {}), dict),
        "inputs": (record.made_from.get("inputs", {}), dict),
        "revision": (record.made_from.get("revision", 0), int),
        "seconds": (record.seconds, int | float),
        "peak_rss_bytes": (record.peak_rss_bytes, int),
        **{f"{name}.path": (output.path, str) for name, output in record.outputs.items()},
        **{f"{name}.sha256": (output.sha256, str) for name, output in record.outputs.items()},
    }
    for name, (value, kind) in kinds.items():
        if not isinstance(value, kind):
            raise TypeError(f"{name} is {str(value)[:40]!r}")
    if record.stage != stage:
        raise TypeError(f"it is of stage {record.stage!r}")
    for output in record.outputs.values():
        if Path(output.path).is_absolute() or ".." in Path(output.path).parts:
            raise TypeError(f"{output.path!r} lies elsewhere")


class Records:
    """The stages of one pipeline's directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._hashes: dict[Path, str] = {}

    def path_of(self, stage: str) -> Path:
        """Return the stage's directory."""
        return self._directory / stage

    def read(self, stage: str) -> Record | None:
        """Return the record of a stage, or None if it was never started."""
        path = self.path_of(stage) / RECORD_NAME
        if not path.exists():
            return None
        try:
            value = dict(read_json(path))
            outputs = {name: Output(**output) for name, output in value.pop("outputs").items()}
            record = Record(**value, outputs=outputs)
            _check(record, stage)
            return record
        except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
            raise RunDirError(f"{path} is damaged ({error}); remove {path.parent} to do it again") from error

    def write(self, record: Record) -> None:
        """Replace the record of a stage that was started."""
        path = self.path_of(record.stage) / RECORD_NAME
        write_atomically(path, json.dumps(asdict(record), indent=2, ensure_ascii=False) + "\n")

    def start(self, record: Record) -> None:
        """Make the stage's directory, with its record in it."""
        path = self.path_of(record.stage)
        if path.exists():
            raise RunDirError(f"{path} exists already and is not a stage of a pipeline; move it away")
        new = path.with_name(f".{path.name}.new")
        try:
            shutil.rmtree(new, ignore_errors=True)
            new.mkdir(parents=True)
            write_atomically(new / RECORD_NAME, json.dumps(asdict(record), indent=2) + "\n")
            new.rename(path)
        except OSError as error:
            raise RunDirError(f"cannot make {path}: {error.strerror}") from error

    def discard(self, stage: str) -> None:
        """Remove a stage's directory if it was ever started."""
        path = self.path_of(stage)
        old = path.with_name(f".{path.name}.old")
        try:
            shutil.rmtree(old, ignore_errors=True)
            if (path / RECORD_NAME).exists():
                path.rename(old)
                shutil.rmtree(old)
        except OSError as error:
            raise RunDirError(f"cannot remove {path}: {error.strerror}") from error
        self._hashes = {known: sha for known, sha in self._hashes.items() if not known.is_relative_to(path)}

    def complaint(self, record: Record) -> str | None:
        """Return why a finished stage must be done again, or None; raises RunDirError for a changed model."""
        for name, output in record.outputs.items():
            path = self.path_of(record.stage) / output.path
            # A directory is a model. One that lost its weights is missing, and what was made from it is kept.
            if not path.exists() or (path.is_dir() and not is_model(path)):
                return f"its {name} is missing"
            if is_model(path) and self.sha256_of(path) != output.sha256:
                raise RunDirError(
                    f"the model {path} is not what stage {record.stage} wrote; put it back, or do the stage "
                    f"again by --from {record.stage}"
                )
        return None

    def as_on_disk(self, record: Record) -> Record:
        """Return the record with the hashes of the outputs as they are now: data may be edited by hand."""
        outputs = {}
        for name, output in record.outputs.items():
            now = self.sha256_of(self.path_of(record.stage) / output.path)
            outputs[name] = output if now == output.sha256 else replace(output, sha256=now, is_edited=True)
        return replace(record, outputs=outputs)

    def sha256_of(self, path: Path) -> str:
        """Return the hash of an output, which is read once in the life of this object."""
        if path not in self._hashes:
            self._hashes[path] = sha256_of_path(path)
        return self._hashes[path]
