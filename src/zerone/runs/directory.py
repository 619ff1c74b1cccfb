"""One run, one directory; the only module that knows the names inside it.

  config.yaml         the resolved configuration        environment.json  where and how it ran
  metrics.jsonl       one line per step, no clock in it timing.jsonl      seconds and memory per step
  rollouts.sqlite     every group of every step         evals/step_N.json evaluations
  checkpoints/step_N/ what `--resume` goes back to      model/            the final model
  summary.json        base and final figures            report.html       the report
  run.log             tracebacks of the user's reward functions, where any failed
  tracker/            what log.tracker keeps here, and its log; with log.tracker=none there is none
  best/               SFT: the model of the lowest held-out loss; an SFT run has no rollouts

Files are replaced whole (temporary name, sync, rename) or appended and cut back on resume, so a
run that is killed at any instant can go on.
"""

import fcntl
import json
import os
import resource
import sqlite3
import struct
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Self, TypeVar

from zerone.config.reading import read_run_options
from zerone.config.recipes import RUN_OPTIONS
from zerone.errors import FileError, RunDirError
from zerone.files import (
    JsonObject,
    parse_json,
    read_json,
    read_json_lines,
    read_text,
    write_json,
    written_whole,
)
from zerone.identity import sha256_of_start
from zerone.runs.shapes import check_columns, check_shape
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


RECIPE_NAME = "recipe.yaml"
"""The configurations of all stages, in the directory of a pipeline."""

_OTHER_NAMES = frozenset(("environment.json", "timing.jsonl", "evals", "summary.json", ".lock"))

_DEEPEST_MODEL = 3
"""Directories between a run and a model in it, with the run: RUN/checkpoints/step_N/model."""


def write_atomically(path: Path, text: str) -> None:
    """Replace a file so that a reader (or a crash) sees the old text or the new one."""
    with written_whole(path) as file:
        file.write(text)


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
        return RunDirError(f"{path} is not a run itself; name one of the runs in it: {', '.join(inside)}")
    return RunDirError(f"{path} is not a run directory (it has no config.yaml)")


HELD_OUT = "held-out"
_T = TypeVar("_T")


def shown_suites(suites: Mapping[str, _T], config: Mapping[str, Any]) -> Mapping[str, _T]:
    """Return the suites of a run of RL under the names that a reader is shown: of own problems there is one.

    `mixed` and `hard` hold the same held-out problems then; shown is `hard`, which has more samples.
    """
    data = config.get("data") or {}
    if not (data.get("path") or data.get("mixture")) or "hard" not in suites:
        return suites
    others = {name: found for name, found in suites.items() if name not in ("mixed", "hard")}
    shown = {HELD_OUT: suites["hard"], **others}
    return JsonObject(shown, suites.place) if isinstance(suites, JsonObject) else shown


class RunDir:
    """A run's files. Only one process may hold a run directory at a time (`lock`)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock_fd: int | None = None

    @property
    def config_path(self) -> Path:
        """The resolved configuration (YAML)."""
        return self.path / RUN_OPTIONS

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

    @property
    def tracker_path(self) -> Path:
        """The folder of the run's tracker (trackers/)."""
        return self.path / "tracker"

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

    def files(self) -> Iterator[Path]:
        """Yield every file that a run or its stages have written, except the pages made from them."""
        return (path for path in self.path.rglob("*") if path.is_file() and path.suffix != ".html")

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
        return read_text(self.config_path)

    def read_config(self) -> Mapping[str, Any]:
        """Return the configuration as saved, in sections; raises FileError where it is damaged.

        What it names relative to the run stays so.
        """
        return read_run_options(self.config_path)

    def writes(self, name: str) -> bool:
        """Whether a run writes something of this name into its directory."""
        models = (self.model_path, self.best_path, self.checkpoints_path)
        own = (*models, self.config_path, self.rollouts_path, self._metrics_path, self.report_path)
        return name in {path.name for path in own} | _OTHER_NAMES

    @property
    def root(self) -> Path:
        """The directory that is moved as a whole: the run's own, or that of its pipeline."""
        above = self.path.absolute().parent
        return above if (above / RECIPE_NAME).is_file() else self.path.absolute()

    def write_environment(self, environment: Mapping[str, Any]) -> None:
        """Write environment.json."""
        write_atomically(self.path / "environment.json", _pretty(environment))

    def read_environment(self) -> dict[str, Any]:
        """Return the environment that the run was started in, and what has changed since (`resumed`)."""
        return _read(self.path / "environment.json")

    def sums(self) -> dict[str, dict[str, Any]]:
        """Return length and checksum of what is recorded so far: figures and evaluations, no rollouts."""
        paths = [self._metrics_path] if self._metrics_path.exists() else []
        return {
            path.relative_to(self.path).as_posix(): {
                "bytes": path.stat().st_size,
                "sha256": sha256_of_start(path, path.stat().st_size),
            }
            for path in (*paths, *self._eval_paths())
        }

    def compare_sums(self, sums: Mapping[str, Mapping[str, Any]]) -> None:
        """Raise FileError where what was recorded by then is another now; more may have come since."""
        for name, known in sums.items():
            if sha256_of_start(self.path / name, known["bytes"]) != known["sha256"]:
                raise FileError(f"{self.path / name} is not what the run has recorded")

    def require_steps(self, step: int, *, has_rollouts: bool, has_timing: bool = True) -> None:
        """Raise FileError unless all that a run records of its first `step` steps is there to go on from."""
        paths = [self._metrics_path, *([self.path / "timing.jsonl"] if has_timing else [])]
        recorded = {path: {entry["step"] for _, entry in _entries(path)} for path in paths}
        if has_rollouts:
            recorded[self.rollouts_path] = self._steps_of_groups()
        for path, steps in recorded.items():
            if missing := sorted(set(range(1, step + 1)) - steps):
                raise FileError(
                    f"{path} lacks step {missing[0]}, and the checkpoint is of step {step}; put it back, "
                    f"or remove the checkpoints after step {missing[0] - 1} to make the steps again"
                )
        if step and 0 not in self.read_evals():
            raise FileError(
                f"{self.path / 'evals'} lacks the evaluation of step 0; put it back, or begin anew"
            )

    def _steps_of_groups(self) -> set[int]:
        """Return the steps in the database, opened to write: a kill may have left a journal to roll back."""
        if not self.rollouts_path.exists():
            return set()
        try:
            with closing(self._database()) as database:
                return {row["step"] for row in database.execute("SELECT DISTINCT step FROM groups")}
        except sqlite3.Error as error:
            raise FileError(f"cannot read {self.rollouts_path}: {error}") from error

    def rewind(self, step: int, *, has_rollouts: bool = True) -> None:
        """Drop everything recorded after `step` steps, as the checkpoint of that step is used."""
        for path in (self._metrics_path, self.path / "timing.jsonl"):
            kept = [line for line, entry in _entries(path) if entry["step"] <= step]
            if path.exists():
                write_atomically(path, "".join(kept))
        for path in self._eval_paths():
            if _step_of(path) > step:
                path.unlink()
        self.remove_summary()
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
        found: dict[int, dict[str, Any]] = {_step_of(path): _read(path) for path in self._eval_paths()}
        for step, result in found.items():
            if result.get("step", step) != step or result.get("loss", 0.0) is None:
                raise FileError(f"{self.path / 'evals'}: that of step {step} is damaged")
        return found

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
        return _read(path) if path.exists() else None

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> Iterator[sqlite3.Row]:
        """Read from rollouts.sqlite (tables `groups` and `rollouts`, joined by step and position)."""
        if not self.rollouts_path.exists():
            raise RunDirError(f"{self.path} has no rollouts.sqlite; is it a run directory?")
        try:
            with closing(
                sqlite3.connect(f"{self.rollouts_path.absolute().as_uri()}?mode=ro", uri=True)
            ) as database:
                database.row_factory = sqlite3.Row
                rows = database.execute(sql, parameters)
                names = [column[0] for column in rows.description]
                yield from check_columns(rows, names, self.rollouts_path)
        except (sqlite3.Error, OverflowError) as error:
            is_cut = self.rollouts_path.with_name(f"{self.rollouts_path.name}-journal").exists()
            hint = "; it was killed while it wrote, and --resume puts that in order" if is_cut else ""
            raise RunDirError(f"cannot read {self.rollouts_path}: {error}{hint}") from error


def stored(text: str, run: RunDir) -> dict[str, Any]:
    """Return what a column of JSON holds (`spec`, `parts`); raises FileError for anything but an object."""
    value = parse_json(text, str(run.rollouts_path))
    if not isinstance(value, dict):
        raise FileError(f"{run.rollouts_path} is damaged: {text[:40]!r} is not a JSON object")
    return value


def numbers_stored(text: str, run: RunDir) -> dict[str, float]:
    """Return what a column of numbers by name holds; raises FileError for anything else."""
    value = stored(text, run)
    if not all(isinstance(number, int | float) for number in value.values()):
        raise FileError(f"{run.rollouts_path} is damaged: {text[:40]!r} holds something that is not a number")
    return value


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
    return write_json(value, indent=2) + "\n"


def _read(path: Path) -> JsonObject:
    value = read_json(path)
    check_shape(value, str(path))
    return value


def _entries(path: Path) -> list[tuple[str, JsonObject]]:
    """Return the complete lines of a file, as text and read; a last one without an end was cut by a crash."""
    if not path.exists():
        return []
    found: list[tuple[str, JsonObject]] = []
    for number, (line, entry) in enumerate(read_json_lines(path), start=1):
        if not isinstance(entry.get("step"), int):
            raise FileError(f"{path}:{number}: tells of no step, the file is damaged")
        if found and entry["step"] <= found[-1][1]["step"]:
            raise FileError(f"{path}:{number}: step {entry['step']} comes after {found[-1][1]['step']}")
        check_shape(entry, f"{path}:{number}")
        found.append((line, entry))
    return found


def _append(path: Path, value: Mapping[str, Any]) -> None:
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(write_json(value) + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise RunDirError(f"cannot write {path}: {error.strerror}; free some space and --resume") from error


def _step_of(path: Path) -> int:
    number = path.stem.removeprefix("step_")
    if not (number.isascii() and number.isdigit()):
        raise FileError(f"{path} is not named after a step (step_000010.json); move it away")
    return int(number)
