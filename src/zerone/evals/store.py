"""Answers once given are kept: a JSONL to which an evaluation appends and from which it goes on.

In: what was asked, as a key made of all that shapes the answer (model, prompt, drawing, seed). Out: the
answer, if it was ever given. Killed at any moment, the file loses the line being written at most.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from zerone.errors import RunDirError
from zerone.files import parse_json

FILE_NAME = "answers.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a model wrote, with the tokens it took; `text` includes what the prompt had opened."""

    text: str
    prompt_tokens: int
    num_tokens: int
    is_truncated: bool


def _answer_of(row: Mapping[str, Any]) -> Answer:
    kinds = {"key": str, "text": str, "prompt_tokens": int, "num_tokens": int, "is_truncated": bool}
    if any(type(row[name]) is not kind for name, kind in kinds.items()):
        raise TypeError("a field is of another kind")
    return Answer(**{name: row[name] for name in kinds if name != "key"})


def key_of(identity: str, prompt: object, draw: Mapping[str, Any], seed: int) -> str:
    """Return the key of an answer: equal exactly where everything that shapes it is equal."""
    asked = json.dumps([identity, prompt, dict(draw), seed], sort_keys=True, ensure_ascii=True)
    return hashlib.blake2b(asked.encode(), digest_size=20).hexdigest()


class AnswerStore:
    """The answers kept in a directory, or in memory only where there is none; for one process at once."""

    def __init__(self, directory: Path | None) -> None:
        self.directory = directory
        self._answers: dict[str, Answer] = {}
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Self:
        if self.directory is not None:
            self._open(self.directory)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def __len__(self) -> int:
        return len(self._answers)

    def get(self, key: str) -> Answer | None:
        """Return the answer under a key, or None."""
        return self._answers.get(key)

    def put(self, key: str, problem: str, sample: int, answer: Answer) -> None:
        """Keep an answer; problem and sample are written for the reader only."""
        self._answers[key] = answer
        if self._file is None:
            return
        line = json.dumps({"key": key, "problem": problem, "sample": sample} | asdict(answer))
        try:
            self._file.write(line.encode() + b"\n")
            self._file.flush()
        except OSError as error:
            raise RunDirError(
                f"cannot write to {self._file.name}: {error.strerror}; what it holds is kept: free some "
                "space and start the same command again"
            ) from error

    def _open(self, directory: Path) -> None:
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._file = (directory / FILE_NAME).open("a+b")
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RunDirError(f"{directory} is in use by another evaluation; choose another --out") from error
        except OSError as error:
            raise RunDirError(
                f"cannot write to {directory}: {error.strerror}; choose another --out"
            ) from error
        self._read(self._file)

    def _read(self, file: IO[bytes]) -> None:
        """Read what is there; a last line that was cut off is removed."""
        file.seek(0)
        whole = 0
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                file.truncate(whole)
                break
            whole += len(line)
            try:
                row = parse_json(line.decode("utf-8"), f"{file.name}:{number}")
                self._answers[row["key"]] = _answer_of(row)
            except (ValueError, LookupError, TypeError) as error:
                raise RunDirError(
                    f"{file.name}:{number} is not an answer of an evaluation; remove the line or choose "
                    "another --out"
                ) from error
        file.seek(0, os.SEEK_END)
