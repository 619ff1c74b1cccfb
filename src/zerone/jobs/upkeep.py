"""What a training run does beside training: it measures and saves in time, goes on, and stops.

In: a run directory and a learner. Out: checkpoints, an end by Ctrl-C that loses nothing, and what a finished
run took. One piece for every loop that is a stage of its own.
"""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

from zerone.config import Config
from zerone.errors import Interrupted
from zerone.runs.checkpoint import State, checkpoints, load_checkpoint, save_checkpoint
from zerone.runs.directory import RunDir, peak_memory
from zerone.train.algorithm import Algorithm, TrainState


@dataclass(frozen=True, slots=True, kw_only=True)
class Attendance:
    """What to call before and after each step, and to evaluate; steps count from 0, after one from 1."""

    before_step: Callable[[int], None]
    after_step: Callable[[int], None]
    evaluate: Callable[[int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Upkeep:
    """Keeps the state of a training in its run directory."""

    config: Config
    run: RunDir
    state: TrainState
    tokenizer: Any
    algorithm: Algorithm | None = None

    def restore(self, *, has_rollouts: bool) -> None:
        """Go back to the newest checkpoint, and forget what was recorded after it."""
        found = checkpoints(self.run.checkpoints_path)
        if found:
            self.state.progress = load_checkpoint(found[-1], self._kept())
        self.run.rewind(self.state.progress.step, has_rollouts=has_rollouts)

    def save(self) -> None:
        """Write a checkpoint of the state as it is."""
        save_checkpoint(
            self.run.checkpoints_path, self.state.progress, self._kept(), self.config.checkpoint.keep
        )

    def _kept(self) -> State:
        beside = {} if self.algorithm is None else self.algorithm.state()
        return {**self.state.trainer.state(self.tokenizer), **beside}

    @contextmanager
    def attending(self, evaluate: Callable[[int], None]) -> Iterator[Attendance]:
        """Evaluate and save every so many steps; after Ctrl-C or SIGTERM save and raise Interrupted.

        A step is finished first. An evaluation is broken off, and made again when the run goes on.
        """
        with stop_requests() as stopping, stopping.patiently():

            def stop(during: str) -> Interrupted:
                self.save()
                return Interrupted(
                    f"stopped {during} step {self.state.progress.step}; go on with the same command and "
                    f"--run-dir {self.run.path} --resume"
                )

            def measure(step: int) -> None:
                try:
                    with stopping.at_once():
                        evaluate(step)
                except KeyboardInterrupt as error:
                    raise stop("in the evaluation after") from error

            def before_step(step: int) -> None:
                every = self.config.eval.every
                if step == 0 or (every and step % every == 0):
                    measure(step)
                if stopping.is_wished:
                    raise stop("after")

            def after_step(step: int) -> None:
                if step % self.config.checkpoint.every == 0:
                    self.save()
                if stopping.is_wished:
                    raise stop("after")

            yield Attendance(before_step=before_step, after_step=after_step, evaluate=measure)


class Stopping:
    """Whether Ctrl-C or SIGTERM came, and what that means now: a wish to honour, or an end at once.

    At once means KeyboardInterrupt in the midst of work, for what can be killed at any moment and goes on.
    """

    def __init__(self) -> None:
        self.is_wished = False
        self._is_patient = False

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """Take a signal; a second one always ends at once."""
        if self.is_wished or not self._is_patient:
            self.is_wished = True
            raise KeyboardInterrupt
        self.is_wished = True
        print("stopping after this step; once more to stop at once", file=sys.stderr)

    @contextmanager
    def patiently(self) -> Iterator[None]:
        """Take a signal as a wish, which the work honours at the end of a step."""
        yield from self._with_patience(True)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Raise KeyboardInterrupt at a signal, and for a wish that is not honoured yet."""
        if self.is_wished:
            raise KeyboardInterrupt
        yield from self._with_patience(False)

    def _with_patience(self, is_patient: bool) -> Iterator[None]:
        before, self._is_patient = self._is_patient, is_patient
        try:
            yield
        finally:
            self._is_patient = before


_active: list[Stopping] = []
"""The one that has the signals of this process; what runs inside of it shares it."""


@contextmanager
def stop_requests() -> Iterator[Stopping]:
    """Take Ctrl-C and SIGTERM, at once until the work says otherwise; within another one, share that."""
    if _active:
        yield _active[0]
        return
    stopping = Stopping()
    try:
        before = {n: signal.signal(n, stopping.on_signal) for n in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread, as in a notebook server: no signals here
        yield stopping
        return
    _active.append(stopping)
    try:
        yield stopping
    finally:
        _active.remove(stopping)
        for number, handler in before.items():
            signal.signal(number, handler)


def spent(run: RunDir) -> dict[str, Any]:
    """Return what a finished run took: its time, added up over interruptions, and its largest memory.

    From the run's own files: the process that says it may have trained nothing.
    """
    evaluations, timings = run.read_evals(), run.read_timing()
    # What lies between steps is evaluation, recording and checkpoints. A process that goes on after an
    # evaluation does not measure again, so that evaluation's time is in no step's line.
    wall = evaluations[max(evaluations)]["seconds"] + sum(
        timing["total_s"]
        + max(timing["between_s"], evaluations.get(timing["step"] - 1, {}).get("seconds", 0.0))
        for timing in timings
    )
    lines = (*timings, *evaluations.values())
    peaks = [line["peak_rss_bytes"] for line in lines if "peak_rss_bytes" in line]
    return {"wall_s": round(wall, 1), "peak_rss_bytes": max(peaks, default=peak_memory())}
