"""A run's figures on their way to its tracker, without ever holding the run up.

In: the metrics, evaluations and rollouts of a run, as its hooks get them. Out: messages to the tracker's
process (worker.py), by a thread. A tracker that fails, hangs or dies costs figures, never the run: what it
did not take is counted, the first reason is said, and the run's own files hold all of it anyway.
"""

import contextlib
import importlib.util
import json
import math
import os
import queue
import secrets
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from zerone.config import Config
from zerone.config.reading import flat_options
from zerone.errors import ConfigError
from zerone.processes.worker_pool import import_path
from zerone.runs.directory import RECIPE_NAME, RunDir, write_atomically
from zerone.runs.lineage import read_lineage
from zerone.trackers.api import Figure, Opening, Table, as_json
from zerone.trackers.backends import REMOTE_TRACKIO
from zerone.types import Credited

EXTRAS = {"trackio": "trackers", "wandb": "wandb", "tensorboard": "tensorboard"}
"""Package of a tracker -> extra of ours that brings it."""

REPLY_SECONDS = 120.0
"""What a tracker may take for one message; its first one waits for imports, and maybe for a log-in."""

END_SECONDS = 60.0
"""What a run waits at its end for its tracker; the tracker's process goes on by itself after that."""

_STARTS = 3
"""How often a tracker's process is started, as one that died may have died of one figure."""

_MOST_WAITING = 512
_SAMPLES = 8
_LONGEST_CELL = 20_000

_ORIGIN = ("zerone", "commit", "model", "model_sha256", "data", "data_sha256", "reward_models")


def check_tracker(config: Config) -> None:
    """Raise ConfigError where the tracker of a configuration cannot be used here."""
    log = config.log
    extra = EXTRAS.get(log.tracker)
    if extra is not None and importlib.util.find_spec(log.tracker) is None:
        raise ConfigError(
            f"log.tracker={log.tracker} needs the package {log.tracker}, which is not installed here; run: "
            f"pip install 'zerone[{extra}]'; or choose log.tracker=jsonl, which needs none"
        )
    if log.online and log.tracker == "trackio" and not any(map(os.environ.get, REMOTE_TRACKIO)):
        raise ConfigError(
            "log.online=true with log.tracker=trackio needs a destination, and neither of "
            f"{' and '.join(REMOTE_TRACKIO)} is set; set one, or leave log.online out to keep all here"
        )


class Tracking:
    """What a run's hooks call; without a tracker all of it does nothing."""

    def __init__(self, config: Config, run: RunDir) -> None:
        self._sample_every = config.log.sample_every
        self._run = run
        self._line: _Line | None = None
        if config.log.tracker != "none":
            try:
                self._line = _Line(_opening_of(config, run), run)
            except OSError as error:
                _say(config.log.tracker, f"{error}; the run goes on without it")

    def step(
        self,
        metrics: Mapping[str, Any],
        timing: Mapping[str, Any] | None = None,
        groups: Sequence[Credited] = (),
    ) -> None:
        """Tell of a step that is done; every `log.sample_every` steps some of its completions go along."""
        if self._line is None:
            return
        step = int(metrics["step"])
        figures = {**figures_of("train", metrics), **figures_of("time", timing or {})}
        if groups and self._sample_every and step % self._sample_every == 0:
            figures["samples"] = sample_table(groups)
        self._line.tell({"stream": "train", "step": step, "log": as_json(figures)})

    def evaluation(self, evaluation: Mapping[str, Any]) -> None:
        """Tell of an evaluation, as it is in the run's files, without the single problems."""
        if self._line is not None:
            rest = {key: value for key, value in evaluation.items() if key != "suites"}
            suites = {
                suite: {key: value for key, value in measured.items() if key != "problems"}
                for suite, measured in evaluation.get("suites", {}).items()
            }
            figures = figures_of("eval", {**rest, **suites})
            self._line.tell({"stream": "eval", "step": int(evaluation["step"]), "log": as_json(figures)})

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Tell of the end, with the lineage of the model."""
        if self._line is None:
            return
        figures = figures_of("summary", summary)
        lineage = read_lineage(self._run.model_path)
        if lineage is not None:
            figures["lineage"] = Table(
                ("name", "kind", "sha256", "made by", "from"),
                tuple(
                    (node.name, node.kind, node.sha256, _brief(node.made_by), _brief(node.inputs))
                    for node in lineage.nodes.values()
                ),
            )
        self._line.tell({"finish": as_json(figures), "is_done": True})

    def close(self) -> None:
        """Wait a while until the tracker has all; say what it did not take."""
        if self._line is not None:
            self._line.close()


@contextmanager
def tracked(config: Config, run: RunDir) -> Iterator[Tracking]:
    """Open the tracker of a run that has begun, and close it however the run ends."""
    check_tracker(config)
    tracking = Tracking(config, run)
    try:
        yield tracking
    finally:
        tracking.close()


# What is told -------------------------------------------------------------------------------------


def figures_of(prefix: str, values: Mapping[str, Any]) -> dict[str, Figure]:
    """Return nested values as figures by path, as `eval/hard/pass_at_1`.

    An interval becomes two figures, `low` and `high`. What is not known (null, or not finite) has none, nor
    has the number of the step, which every tracker keeps beside them.
    """
    found: dict[str, Figure] = {}
    for key, value in values.items():
        name = f"{prefix}/{key}"
        if isinstance(value, Mapping):
            found |= figures_of(name, value)
        elif isinstance(value, Sequence) and not isinstance(value, str):
            if str(key).endswith("_ci") and len(value) == 2:
                found |= figures_of(name, {"low": value[0], "high": value[1]})
        elif isinstance(value, str) or (isinstance(value, int | float) and math.isfinite(value)):
            found[name] = value
    found.pop(f"{prefix}/step", None)
    return found


def sample_table(groups: Sequence[Credited]) -> Table:
    """Return the first completion of each of the step's first groups."""
    rows = []
    for credited in groups[:_SAMPLES]:
        graded, advantage = credited.group.members[0], credited.advantages[0]
        rollout = graded.rollout
        rows.append(
            (
                credited.group.problem.id,
                credited.group.problem.prompt[:_LONGEST_CELL],
                rollout.text[:_LONGEST_CELL],
                graded.answer,
                graded.outcome.value,
                graded.reward,
                advantage,
                len(rollout.completion_ids),
                rollout.finish.value,
            )
        )
    columns = (
        "problem",
        "prompt",
        "completion",
        "answer",
        "outcome",
        "reward",
        "advantage",
        "tokens",
        "finish",
    )
    return Table(columns, tuple(rows))


def _brief(value: Mapping[str, Any]) -> str:
    return json.dumps(dict(value), ensure_ascii=False) if value else ""


def _opening_of(config: Config, run: RunDir) -> Opening:
    """Return what the tracker of a run is opened with; its identity is made once and kept with the run."""
    folder = run.tracker_path
    folder.mkdir(exist_ok=True)
    kept = folder / "identity"
    if not kept.is_file():
        write_atomically(kept, secrets.token_hex(4))
    environment = run.read_environment()
    options = flat_options(config.model_dump(mode="json"))
    origin = {f"origin.{key}": environment[key] for key in _ORIGIN if environment.get(key)}
    path = run.path.resolve()
    is_stage = (path.parent / RECIPE_NAME).is_file()
    return Opening(
        kind=config.log.tracker,
        folder=str(folder.resolve()),
        identity=kept.read_text(encoding="utf-8").strip(),
        project=config.log.project,
        name=config.log.name or (f"{path.parent.name}-{path.name}" if is_stage else path.name),
        is_online=config.log.online,
        config={**options, **origin},
    )


# How it is told -----------------------------------------------------------------------------------


class _Line:
    """A thread that hands messages to the tracker's process one by one, and waits for each reply."""

    def __init__(self, opening: Opening, run: RunDir) -> None:
        self._kind = opening.kind
        self._opening = {"open": asdict(opening)}
        self._run = run
        self._messages: queue.Queue[Mapping[str, Any] | None] = queue.Queue(_MOST_WAITING)
        self._process: subprocess.Popen[bytes] | None = None
        self._starts_left = _STARTS
        self._num_told = self._num_missed = 0
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._work, name="tracker", daemon=True)
        self._thread.start()

    def tell(self, message: Mapping[str, Any]) -> None:
        """Put a message behind those that wait."""
        self._num_told += 1
        try:
            self._messages.put_nowait(message)
        except queue.Full:
            self._missed("it is slower than the run")

    def close(self) -> None:
        """Let the thread come to its end, but not for ever."""
        with contextlib.suppress(queue.Full):
            self._messages.put(None, timeout=END_SECONDS)
        self._thread.join(END_SECONDS)
        if self._thread.is_alive():
            self._missed("it is still not done with what it was told", self._messages.qsize() + 1)
        if self._num_missed:
            _say(self._kind, f"it did not take {self._num_missed} of {self._num_told} messages")

    def _work(self) -> None:
        while (message := self._messages.get()) is not None:
            failed = self._hand_over(message)
            if failed:
                self._missed(failed)
        if self._process is not None:
            self._end(self._process)

    def _hand_over(self, message: Mapping[str, Any]) -> str | None:
        """Give a message to the process, which is started where it is needed; return what went wrong."""
        if self._process is None:
            if not self._starts_left:
                return "its process ended too often"
            self._starts_left -= 1
            failed = self._start() or self._ask(self._opening)
            if failed:
                return failed
        return self._ask(message)

    def _start(self) -> str | None:
        folder = Path(self._opening["open"]["folder"])
        try:
            with (folder / "log.txt").open("ab") as log:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "zerone.trackers.worker", str(folder)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    env={**os.environ, "PYTHONPATH": import_path()},
                    start_new_session=True,  # Ctrl-C is for the run, which then ends its tracker in order
                )
        except OSError as error:
            return f"its process cannot start ({error})"
        return None

    def _ask(self, message: Mapping[str, Any]) -> str | None:
        process = self._process
        if process is None:
            return "its process ended"
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(json.dumps(message).encode() + b"\n")
            process.stdin.flush()
            reply = _read_line(process.stdout, REPLY_SECONDS)
        except OSError as error:
            reply = f"its process does not listen ({error.strerror})"
        if isinstance(reply, str):
            self._process = None
            process.kill()
            process.wait()
            with contextlib.suppress(OSError):
                process.stdin.close()
            return reply
        failed: str | None = json.loads(reply).get("failed")
        return failed

    def _end(self, process: "subprocess.Popen[bytes]") -> None:
        assert process.stdin is not None
        with contextlib.suppress(OSError):
            process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(END_SECONDS)

    def _missed(self, reason: str, number: int = 1) -> None:
        with self._lock:
            is_first = not self._num_missed
            self._num_missed += number
        if is_first:
            _say(
                self._kind,
                f"{reason}; the run goes on, and what it does not take is left out there (all figures are in "
                f"{self._run.path}, more on this in {self._run.tracker_path / 'log.txt'})",
            )


def _say(kind: str, text: str) -> None:
    print(f"warning: tracker {kind}: {text}", file=sys.stderr, flush=True)


def _read_line(pipe: IO[bytes], seconds: float) -> bytes | str:
    """Return a line from a process, or what is wrong with it."""
    end = time.monotonic() + seconds
    line = b""
    while not line.endswith(b"\n"):
        left = end - time.monotonic()
        if left <= 0 or not select.select([pipe], [], [], left)[0]:
            return f"it does not reply within {seconds:.0f} s"
        piece = os.read(pipe.fileno(), 1 << 16)
        if not piece:
            return "its process ended"
        line += piece
    return line
