"""A data set that is written bit by bit and survives being killed.

In: the kept lines and the counts of each finished piece of work. Out: `FILE.part` and
`FILE.journal` while at work, FILE and its data card at the end. A piece counts once its line stands
in the journal; what was written after that is cut off when the work goes on, so that the file of a
run that was killed is that of a run left alone. Other work than the journal was begun with is
refused, with the difference.
"""

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from zerone.curation.drafts import is_record
from zerone.curation.tally import Tally
from zerone.errors import RunDirError
from zerone.files import parse_json, read_json
from zerone.runs.directory import write_atomically


class Journal:
    """The state of one data set in the making; `identity` says what work it is, as JSON values."""

    def __init__(self, path: Path, identity: Mapping[str, Any]) -> None:
        self.path = path
        self.card_path = path.with_name(f"{path.stem}.card.json")
        self.tally = Tally()
        self.num_pieces = 0
        self.num_skipped = 0
        self._identity = json.loads(json.dumps(identity))
        self._part_path = path.with_name(path.name + ".part")
        self._log_path = path.with_name(path.name + ".journal")
        self._num_bytes = 0
        self._part: BinaryIO | None = None
        self._log: BinaryIO | None = None

    def finished_card(self) -> dict[str, Any] | None:
        """Return the card of this very work if it is done; raises RunDirError over another file."""
        if not self.path.exists():
            return None
        card: dict[str, Any] = read_json(self.card_path) if self.card_path.exists() else {}
        if card.get("made_by") != self._identity:
            raise RunDirError(
                f"{self.path} exists already and was made otherwise"
                f"{_difference(card.get('made_by') or {}, self._identity)}; move it away or choose another "
                "file"
            )
        self._log_path.unlink(missing_ok=True)
        return card

    def open(self) -> None:
        """Start, or go on after the last finished piece; raises RunDirError where neither can be."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._log = self._log_path.open("ab+")
            fcntl.flock(self._log, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._part = self._part_path.open("ab+")
        except BlockingIOError as error:
            raise RunDirError(f"{self.path} is being written by another process") from error
        except OSError as error:
            raise RunDirError(f"cannot write beside {self.path}: {error.strerror}") from error
        self._log.seek(0)
        whole = [line for line in self._log.read().split(b"\n")[:-1] if line]
        if whole:
            self._take_up(whole)
        self._log.truncate(sum(len(line) + 1 for line in whole))
        if not whole:
            _append(self._log, {"made_by": self._identity})
        if self._part.seek(0, os.SEEK_END) < self._num_bytes:
            raise RunDirError(
                f"{self._part_path} is shorter than its journal says; delete both and begin anew"
            )
        self._part.truncate(self._num_bytes)

    def _take_up(self, lines: Sequence[bytes]) -> None:
        try:
            header, *pieces = (parse_json(line.decode("utf-8"), str(self._log_path)) for line in lines)
            begun = header["made_by"]
            for piece in pieces:
                self.tally.update(Tally.of_rows(piece["tally"]))
                self.num_skipped += piece["skipped"]
                self._num_bytes = piece["bytes"]
        except (ValueError, LookupError, TypeError) as error:
            raise RunDirError(f"{self._log_path} is damaged: {error}; delete it and begin anew") from error
        if begun != self._identity:
            raise RunDirError(
                f"{self._log_path} belongs to other work{_difference(begun, self._identity)}; go on with the "
                "same settings, or choose another file"
            )
        self.num_pieces = len(pieces)

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield what has been kept so far."""
        path = self._part_path if self._part is not None else self.path
        with path.open("rb") as file:
            for line in file:
                record = parse_json(line.decode("utf-8", "replace"), str(path))
                if not is_record(record):
                    raise RunDirError(f"{path} holds a line that is not a sample: {line[:80]!r}")
                yield record

    def append(self, records: Sequence[Mapping[str, Any]], tally: Tally, num_skipped: int = 0) -> None:
        """Write what a piece of work kept, then that the piece is finished."""
        if self._part is None or self._log is None:
            raise AssertionError("open comes before append")
        for record in records:
            self._num_bytes += _append(self._part, record, sync=False)
        _sync(self._part)
        _append(self._log, {"bytes": self._num_bytes, "skipped": num_skipped, "tally": tally.rows()})
        self.tally.update(tally)
        self.num_skipped += num_skipped
        self.num_pieces += 1

    def finish(self, card: Mapping[str, Any], markdown: str) -> dict[str, Any]:
        """Write the data card, give the file its name, and return the whole card."""
        digest = hashlib.sha256()
        with self._part_path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
        whole = {"file": self.path.name, "sha256": digest.hexdigest(), **card}
        write_atomically(self.card_path.with_suffix(".md"), markdown)
        write_atomically(self.card_path, json.dumps(whole, indent=2, ensure_ascii=False) + "\n")
        os.replace(self._part_path, self.path)
        self._log_path.unlink()
        self.close()
        return whole

    def close(self) -> None:
        """Let another process go on."""
        for file in (self._part, self._log):
            if file is not None:
                # A full disk has been told of already; what did not get there is not in the journal.
                with contextlib.suppress(OSError):
                    file.close()
        self._part = self._log = None


def _append(file: BinaryIO, value: Mapping[str, Any], *, sync: bool = True) -> int:
    line = json.dumps(value, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
    with _telling(file):
        file.write(line)
    if sync:
        _sync(file)
    return len(line)


def _sync(file: BinaryIO) -> None:
    with _telling(file):
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def _telling(file: BinaryIO) -> Iterator[None]:
    """Raise a RunDirError where the file cannot be written."""
    try:
        yield
    except OSError as error:
        raise RunDirError(f"cannot write {file.name}: {error.strerror}; free some space and go on") from error


def _difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Return the settings that differ, old against new, for a message."""
    changed = [
        f"\n  {key}: {old.get(key)!r} (now: {new.get(key)!r})"
        for key in dict.fromkeys((*old, *new))
        if old.get(key) != new.get(key)
    ]
    return ":" + "".join(changed[:10]) + "\n" if changed else ""
