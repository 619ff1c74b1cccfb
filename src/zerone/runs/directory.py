"""One run, one directory; the only module that knows the names inside it.

  config.yaml         the resolved configuration        environment.json  where and how it ran
  metrics.jsonl       one line per step, no clock in it timing.jsonl      seconds and memory per step
  rollouts.sqlite     every group of every step         evals/step_N.json evaluations
  checkpoints/step_N/ what `--resume` goes back to      model/            the final model
  summary.json        base and final figures            report.html       the report
  run.log             tracebacks of the user's reward functions, where any failed
  best/               SFT: the model of the lowest held-out loss; an SFT run has no rollouts

Files are replaced whole (temporary name, sync, rename) or appended and cut back on resume, so a
run that is killed at any instant can go on.
"""

import contextlib
import fcntl
import json
import os
import resource
import sqlite3
import struct
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

from zerone.errors import RunDirError
from zerone.types import Credited

_SCHEMA = """
CREATE TABLE IF NOT EXISTS groups (
    step INTEGER, position INTEGER, problem_id TEXT, family TEXT, level INTEGER, language TEXT,
    prompt TEXT, spec TEXT, prompt_ids BLOB, PRIMARY KEY (step, position)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS rollouts (
    step INTEGER, position INTEGER, sample INTEGER, text TEXT, answer TEXT, finish TEXT,
    outcome TEXT, reward REAL, parts TEXT, advantage REAL, num_tokens INTEGER,
    weight_version INTEGER, completion_ids BLOB, logprobs BLOB,
    PRIMARY KEY (step, position, sample)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS groups_problem ON groups (problem_id);
CREATE INDEX IF NOT EXISTS groups_kind ON groups (family, level, language);
CREATE INDEX IF NOT EXISTS rollouts_figures
    ON rollouts (step, position, sample, outcome, reward, advantage, num_tokens);
"""
# The last holds what is shown of many rollouts at once, which their texts and tokens would make slow to read.


_DEEPEST_MODEL = 3
"""Directories between a run and a model in it, with the run: RUN/checkpoints/step_N/model."""


def write_atomically(path: Path, text: str) -> None:
    """Replace a file so that a reader (or a crash) sees the old text or the new one."""
    if not path.name:
        raise RunDirError(f"cannot write {path}: it is a directory; name a file")
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise RunDirError(
            f"cannot write {path}: {error.strerror}; nothing already written is lost"
        ) from error


def peak_memory() -> int:
    """Return the largest memory of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def run_of_model(path: Path) -> "RunDir | None":
    """Return the run in whose directory a model lies (model/, best/, a checkpoint's), or None.

    Many programs write a config.yaml; only a run of ours has its environment beside it.
    """
    runs = (RunDir(above) for above in path.absolute().parents[:_DEEPEST_MODEL])
    return next((run for run in runs if run.has_run and (run.path / "environment.json").is_file()), None)


def not_a_run(path: Path) -> RunDirError:
    """Return the error for what is no run directory; where it holds runs (a pipeline), it names them."""
    inside = sorted(str(config.parent) for config in path.glob("*/config.yaml"))
    if inside:
        return RunDirError(f"{path} is no run itself; name one of the runs in it: {', '.join(inside)}")
    return RunDirError(f"{path} is not a run directory (it has no config.yaml)")


HELD_OUT = "held-out"
_T = TypeVar("_T")


def shown_suites(suites: Mapping[str, _T], config: Mapping[str, Any]) -> Mapping[str, _T]:
    """Return the suites of a run of RL under the names that a reader is shown: of own problems there is one.

    `mixed` and `hard` hold the same held-out problems then; shown is `hard`, which has more samples.
    """
    if not (config.get("data") or {}).get("path") or "hard" not in suites:
        return suites
    others = {name: found for name, found in suites.items() if name not in ("mixed", "hard")}
    return {HELD_OUT: suites["hard"], **others}


class RunDir:
    """A run's files. Only one process may hold a run directory at a time (`lock`)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock_fd: int | None = None

    @property
    def config_path(self) -> Path:
        """The resolved configuration (YAML)."""
        return self.path / "config.yaml"

    @property
    def model_path(self) -> Path:
        """The final model, a transformers directory."""
        return self.path / "model"

    @property
    def best_path(self) -> Path:
        """The model of the lowest held-out loss, a transformers directory."""
        return self.path / "best"

    @property
    def checkpoints_path(self) -> Path:
        """The directory of checkpoints."""
        return self.path / "checkpoints"

    @property
    def report_path(self) -> Path:
        """The report."""
        return self.path / "report.html"

    @property
    def log_path(self) -> Path:
        """The tracebacks of what failed in the user's own code."""
        return self.path / "run.log"

    def log(self, text: str) -> None:
        """Append to run.log."""
        try:
            with self.log_path.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(f"{text.rstrip()}\n\n")
        except OSError as error:
            raise RunDirError(f"cannot write {self.log_path}: {error.strerror}") from error

    @property
    def rollouts_path(self) -> Path:
        """The database of all rollouts."""
        return self.path / "rollouts.sqlite"

    @property
    def _metrics_path(self) -> Path:
        return self.path / "metrics.jsonl"

    def lock(self) -> Self:
        """Take the directory for this process, making it where needed.

        Raises RunDirError when another process has it or it cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock_fd = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RunDirError(
                f"{self.path} is in use by another process; wait for it or choose another --run-dir"
            ) from error
        except OSError as error:
            raise RunDirError(f"cannot use {self.path} as a run directory: {error.strerror}") from error
        return self

    def unlock(self) -> None:
        """Give the directory back."""
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None

    @property
    def has_run(self) -> bool:
        """Whether a run was started here."""
        return self.config_path.exists()

    def start(self, config_yaml: str, environment: Mapping[str, Any]) -> None:
        """Write what is known before the first step; the configuration last, as it marks the run."""
        self.write_environment(environment)
        write_atomically(self.config_path, config_yaml)

    def read_config_yaml(self) -> str:
        """Return the configuration as saved."""
        try:
            return self.config_path.read_text(encoding="utf-8")
        except OSError as error:
            raise RunDirError(f"cannot read {self.config_path}: {error.strerror}") from error

    def write_environment(self, environment: Mapping[str, Any]) -> None:
        """Write environment.json."""
        write_atomically(self.path / "environment.json", _pretty(environment))

    def read_environment(self) -> dict[str, Any]:
        """Return the environment that the run was started in, and what has changed since (`resumed`)."""
        return _read_json(self.path / "environment.json")

    def rewind(self, step: int, *, has_rollouts: bool = True) -> None:
        """Drop everything recorded after `step` steps, as the checkpoint of that step is used."""
        for path in (self._metrics_path, self.path / "timing.jsonl"):
            kept = [line for line, entry in _entries(path) if entry["step"] <= step]
            if path.exists():
                write_atomically(path, "".join(kept))
        for path in self._eval_paths():
            if _step_of(path) > step:
                path.unlink()
        (self.path / "summary.json").unlink(missing_ok=True)
        if not has_rollouts:
            return
        try:
            with self._database() as database:
                database.execute("DELETE FROM groups WHERE step > ?", (step,))
                database.execute("DELETE FROM rollouts WHERE step > ?", (step,))
        except sqlite3.Error as error:
            raise RunDirError(f"cannot write {self.rollouts_path}: {error}") from error

    def record_step(
        self, metrics: Mapping[str, Any], timing: Mapping[str, Any], groups: Sequence[Credited]
    ) -> None:
        """Append one step; both mappings carry `step`, which counts from 1. SFT has no groups.

        What the process took of memory up to here goes beside the step's times: who finishes a run may be
        another process, and one that trained nothing.
        """
        if groups:
            self._insert(int(metrics["step"]), groups)
        _append(self.path / "timing.jsonl", {**timing, "peak_rss_bytes": peak_memory()})
        _append(self._metrics_path, metrics)

    def _insert(self, step: int, groups: Sequence[Credited]) -> None:
        try:
            with self._database() as database:
                for position, credited in enumerate(groups):
                    database.execute(_INSERT_GROUP, _group_row(step, position, credited))
                    database.executemany(_INSERT_ROLLOUT, _rollout_rows(step, position, credited))
        except sqlite3.Error as error:
            raise RunDirError(
                f"cannot write {self.rollouts_path}: {error}; free some space and --resume"
            ) from error

    def _database(self) -> sqlite3.Connection:
        database = sqlite3.connect(self.rollouts_path)
        database.executescript(_SCHEMA)
        database.row_factory = sqlite3.Row
        return database

    def read_metrics(self) -> list[dict[str, Any]]:
        """Return the metrics of all steps."""
        return [entry for _, entry in _entries(self._metrics_path)]

    def read_timing(self) -> list[dict[str, Any]]:
        """Return the seconds per phase of all steps, and the memory."""
        return [entry for _, entry in _entries(self.path / "timing.jsonl")]

    def _eval_paths(self) -> list[Path]:
        return sorted((self.path / "evals").glob("step_*.json"))

    def write_eval(self, step: int, result: Mapping[str, Any]) -> None:
        """Write the evaluation after `step` steps."""
        try:
            (self.path / "evals").mkdir(exist_ok=True)
        except OSError as error:
            raise RunDirError(f"cannot write {self.path / 'evals'}: {error.strerror}") from error
        write_atomically(self.path / "evals" / f"step_{step:06d}.json", _pretty(result))

    def read_evals(self) -> dict[int, dict[str, Any]]:
        """Return the evaluations by step."""
        return {_step_of(path): _read_json(path) for path in self._eval_paths()}

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write summary.json."""
        write_atomically(self.path / "summary.json", _pretty(summary))

    def remove_summary(self) -> None:
        """Remove summary.json, if there is one, as what it tells of is about to change."""
        try:
            (self.path / "summary.json").unlink(missing_ok=True)
        except OSError as error:
            raise RunDirError(f"cannot write {self.path}: {error.strerror}") from error

    def read_summary(self) -> dict[str, Any] | None:
        """Return summary.json, or None while the run is not finished."""
        path = self.path / "summary.json"
        return _read_json(path) if path.exists() else None

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> Iterator[sqlite3.Row]:
        """Read from rollouts.sqlite (tables `groups` and `rollouts`, joined by step and position)."""
        if not self.rollouts_path.exists():
            raise RunDirError(f"{self.path} has no rollouts.sqlite; is it a run directory?")
        database = sqlite3.connect(f"{self.rollouts_path.absolute().as_uri()}?mode=ro", uri=True)
        database.row_factory = sqlite3.Row
        try:
            yield from database.execute(sql, parameters)
        except sqlite3.Error as error:
            raise RunDirError(f"cannot read {self.rollouts_path}: {error}") from error
        finally:
            database.close()


_INSERT_GROUP = "INSERT OR REPLACE INTO groups VALUES (?,?,?,?,?,?,?,?,?)"
_INSERT_ROLLOUT = "INSERT OR REPLACE INTO rollouts VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)"


def _group_row(step: int, position: int, credited: Credited) -> tuple[Any, ...]:
    problem = credited.group.problem
    prompt_ids = credited.group.members[0].rollout.prompt_ids
    return (
        step,
        position,
        problem.id,
        problem.family,
        problem.level,
        problem.language,
        problem.prompt,
        json.dumps(dict(problem.spec), ensure_ascii=False),
        struct.pack(f"<{len(prompt_ids)}i", *prompt_ids),
    )


def _rollout_rows(step: int, position: int, credited: Credited) -> Iterator[tuple[Any, ...]]:
    for graded, advantage in zip(credited.group.members, credited.advantages, strict=True):
        rollout = graded.rollout
        length = len(rollout.completion_ids)
        yield (
            step,
            position,
            rollout.sample,
            rollout.text,
            graded.answer,
            rollout.finish.value,
            graded.outcome.value,
            graded.reward,
            json.dumps(dict(graded.parts)),
            advantage,
            length,
            rollout.weight_version,
            struct.pack(f"<{length}i", *rollout.completion_ids),
            struct.pack(f"<{length}f", *rollout.sampler_logprobs),
        )


def _pretty(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunDirError(f"cannot read {path}: {error}") from error
    if not isinstance(value, dict):
        raise RunDirError(f"cannot read {path}: it must hold a JSON object, not {type(value).__name__}")
    return value


def _entries(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """Return the complete lines of a file, as text and read; a last one without an end was cut by a crash."""
    if not path.exists():
        return []
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    except (OSError, UnicodeDecodeError) as error:
        raise RunDirError(f"cannot read {path}: {error}") from error
    whole = enumerate((line for line in lines if line.endswith("\n")), start=1)
    return [(line, _entry(line, f"{path}:{number}")) for number, line in whole]


def _entry(line: str, place: str) -> dict[str, Any]:
    """Return what a line tells of a step."""
    try:
        entry = json.loads(line)
    except ValueError as error:
        raise RunDirError(f"{place}: not JSON, the file is damaged: {error}") from error
    if not isinstance(entry, dict) or not isinstance(entry.get("step"), int):
        raise RunDirError(f"{place}: tells of no step, the file is damaged")
    return entry


def _append(path: Path, value: Mapping[str, Any]) -> None:
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(value) + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise RunDirError(f"cannot write {path}: {error.strerror}; free some space and --resume") from error


def _step_of(path: Path) -> int:
    return int(path.stem.removeprefix("step_"))
