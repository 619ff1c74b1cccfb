"""What a training run does beside training: it measures and saves in time, goes on, and stops.

In: a run directory and a learner. Out: checkpoints, an end by Ctrl-C that loses nothing, and what a finished
run took. One piece for every loop that is a stage of its own.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from zerone.config import Config
from zerone.errors import Interrupted
from zerone.processes.stopping import stop_requests
from zerone.runs.checkpoint import RECORDS_NAME, RecordsPart, State, restore_newest, save_checkpoint
from zerone.runs.commands import as_typed, command_to_resume
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
        found = restore_newest(self.run.checkpoints_path, self._kept())
        if found is not None:
            self.run.require_steps(found.step, has_rollouts=has_rollouts)
            self.state.progress = found
        self.run.rewind(self.state.progress.step, has_rollouts=has_rollouts)

    def save(self) -> None:
        """Write a checkpoint of the state as it is."""
        save_checkpoint(
            self.run.checkpoints_path, self.state.progress, self._kept(), self.config.checkpoint.keep
        )

    def _kept(self) -> State:
        beside = {} if self.algorithm is None else self.algorithm.state()
        records = {RECORDS_NAME: RecordsPart(self.run)}
        return {**self.state.trainer.state(self.tokenizer), **beside, **records}

    @contextmanager
    def attending(self, evaluate: Callable[[int], None]) -> Iterator[Attendance]:
        """Evaluate and save every so many steps; after a signal to stop save and raise Interrupted.

        A step is finished first. An evaluation is broken off, and made again when the run is resumed.
        """
        with stop_requests() as stopping, stopping.patiently():

            def stop_if_wished() -> None:
                if stopping.is_wished:
                    raise Interrupted("stopped between two steps")

            def measure(step: int) -> None:
                try:
                    with stopping.at_once():
                        evaluate(step)
                except KeyboardInterrupt as error:
                    raise Interrupted("stopped in an evaluation") from error

            def before_step(step: int) -> None:
                every = self.config.eval.every
                if step == 0 or (every and step % every == 0):
                    measure(step)
                stop_if_wished()

            def after_step(step: int) -> None:
                if step % self.config.checkpoint.every == 0:
                    self.save()
                stop_if_wished()

            try:
                yield Attendance(before_step=before_step, after_step=after_step, evaluate=measure)
            except Interrupted as error:
                # Also where an endpoint was asked in the middle of a step: it has changed nothing yet.
                raise self._stopped() from error

    def _stopped(self) -> Interrupted:
        """Save, and return how to resume."""
        self.save()
        again = "the same call with resume=True"  # of a program that uses the package
        if command := self.run.read_environment().get("command"):
            again = as_typed(command_to_resume(str(command), self.run.path))
        return Interrupted(f"stopped after step {self.state.progress.step}; resume with: {again}")


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
