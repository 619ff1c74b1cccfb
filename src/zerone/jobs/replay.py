"""A run's updates once more from its recorded answers, without sampling.

In: a run with rollouts, and a configuration: the run's own, with what is to be tried changed. Out: in a
directory of its own, the metrics and the model that the updates come to. With nothing changed they are the
run's own, bit for bit; so a change of loss, optimiser, reward or code is seen alone, and within seconds.
"""

import struct
from collections import deque
from collections.abc import Mapping, Sequence
from itertools import groupby
from sqlite3 import Row
from typing import Any, Protocol

from zerone.config import Config, build_config
from zerone.config.reading import read_recipe
from zerone.device import device_kind
from zerone.engine.api import Completion, Event, Request, SamplingParams, generate_with
from zerone.engine.weights import WeightSource
from zerone.errors import FileError, RunDirError
from zerone.jobs.algorithm import algorithm_of
from zerone.jobs.origins import run_lineage
from zerone.jobs.rl import new_state, open_session
from zerone.runs.directory import RunDir, not_a_run
from zerone.runs.lineage import write_lineage
from zerone.runs.start import prepare_run
from zerone.trackers.tracking import check_tracker, tracked
from zerone.train.loop import Hooks, train
from zerone.types import Credited, Finish, Rollout


class Display(Protocol):
    """What shows a replay while it goes on."""

    def start(self, config: Config, environment: Mapping[str, Any]) -> None:
        """Show what is about to run."""
        ...

    def step(self, metrics: Mapping[str, Any], timing: Mapping[str, Any], groups: Sequence[Credited]) -> None:
        """Show a finished step."""
        ...


_ANSWERS = (
    "SELECT g.step, g.position, g.problem_id, g.prompt_ids, r.sample, r.text, r.finish, r.weight_version, "
    "r.completion_ids, r.logprobs FROM groups g JOIN rollouts r USING (step, position) "
    "ORDER BY g.step, g.position, r.sample"
)


class RecordedEngine:
    """Gives the rollouts that a run has on file, in the order in which the run asked for them."""

    def __init__(self, run: RunDir) -> None:
        self.weight_version = 0
        self.weight_hash = ""
        self._asked: deque[Request] = deque()
        self._path = run.path
        self._groups = groupby(run.query(_ANSWERS), key=lambda row: (row["step"], row["position"]))

    def update_weights(self, source: WeightSource, version: int) -> None:
        """Take note of the version alone: nothing is sampled."""
        self.weight_version = version

    def sleep(self) -> None:
        """Hold no weights, as ever."""

    def close(self) -> None:
        """Hold nothing, as ever."""

    def submit(self, requests: Sequence[Request]) -> None:
        """Take note of what is asked."""
        self._asked.extend(requests)

    def cancel(self, requests: Sequence[Request]) -> None:
        """Forget these requests; what the run has on file for them is still to come."""
        self._asked = deque(request for request in self._asked if request not in requests)

    @property
    def is_busy(self) -> bool:
        """Whether something was asked and not yet given."""
        return bool(self._asked)

    def events(self) -> list[tuple[Request, Event]]:
        """Return the rollouts of the next request; raises RunDirError where the run asked for another."""
        if not self._asked:
            return []
        request = self._asked.popleft()
        return [(request, completion) for completion in self._completions(request)]

    def generate(self, requests: Sequence[Request], sampling: SamplingParams) -> list[list[Rollout]]:
        """Return the rollouts of these requests; raises RunDirError where the run asked for others."""
        return generate_with(self, requests, sampling)

    def _completions(self, request: Request) -> list[Completion]:
        assert request.problem is not None
        found = next(self._groups, None)
        if found is None:
            raise RunDirError(
                f"{self._path} has no more answers; lower rl.steps to the number of its steps, and keep what "
                "decides how many groups are drawn again (rl.refill and reward.*)"
            )
        (step, _), rows = found[0], list(found[1])
        asked = (request.problem.id, request.prompt_ids, len(request.seeds))
        if (rows[0]["problem_id"], _ints(rows[0]["prompt_ids"]), len(rows)) != asked:
            raise RunDirError(
                f"in step {step} {self._path} asked {rows[0]['problem_id']} for {len(rows)} answers, and the "
                f"replay asks {request.problem.id} for {len(request.seeds)} or in another prompt; keep seed, "
                "data.*, prompt.*, rl.problems_per_step and rl.group_size as they were, and with rl.refill "
                "also reward.*"
            )
        self.weight_version = rows[0]["weight_version"]  # whatever the replay's own has come to
        return [_completion_of(row) for row in rows]


def _completion_of(row: Row) -> Completion:
    length = len(row["logprobs"]) // 4
    if len(row["completion_ids"]) != len(row["logprobs"]):
        raise FileError(f"step {row['step']} has a completion without a log-probability for each token")
    return Completion(
        index=row["sample"],
        token_ids=_ints(row["completion_ids"]),
        logprobs=struct.unpack(f"<{length}f", row["logprobs"]),
        text=row["text"],
        finish=Finish(row["finish"]),
        weight_version=row["weight_version"],
    )


def _ints(blob: bytes) -> tuple[int, ...]:
    return struct.unpack(f"<{len(blob) // 4}i", blob)


NO_BOUND = 1e9
"""Nats per token; no two models are as far apart."""


def config_of_replay(recorded: RunDir, overrides: Sequence[str]) -> Config:
    """Return a run's configuration with what is to be tried; precision and threads are what the run had.

    The bound on `mismatch_kl` is lifted: a replay that goes another way than the run leaves its sampler.
    """
    if not recorded.has_run:
        raise not_a_run(recorded.path)
    environment = recorded.read_environment()
    of_machine = [key for key in ("precision", "threads", "device") if key in environment]
    kept = [f"model.{key}={environment[key]}" for key in of_machine]
    if found := environment.get("microbatch_tokens"):
        kept.append(f"rl.microbatch_tokens={found}")
    return build_config(
        read_recipe(recorded.config_path), [*kept, f"rl.max_mismatch_kl={NO_BOUND}", *overrides]
    )


def run_replay(config: Config, recorded: RunDir, run: RunDir, display: Display) -> str:
    """Train on what a run has recorded; say in a line whether its figures came out again.

    Raises RunDirError where this cannot be: for other problems than the run's, or another kind of run.
    """
    if not all("mismatch_kl" in line for line in recorded.read_metrics()[:1]):
        raise RunDirError(f"{recorded.path} did not learn by reinforcement; only such runs can be replayed")
    if run.has_run:
        raise RunDirError(f"{run.path} already holds a run; choose another --run-dir")
    check_tracker(config)
    run.lock()
    try:
        environment = prepare_run(config, run, resume=False, kind=device_kind(config.model.device))
        session = open_session(config, run, environment)
        state = new_state(session)
        algorithm = algorithm_of(config, session.model.module, session.placement.device.dtype)
        display.start(config, run.read_environment())
        preferences = {kind: model.rewards for kind, model in session.reward_models.items()}
        engine = RecordedEngine(recorded)
        with tracked(config, run) as tracking:

            def after_step(
                metrics: Mapping[str, Any], timing: Mapping[str, Any], groups: Sequence[Credited]
            ) -> None:
                display.step(metrics, timing, groups)
                tracking.step(metrics, timing, groups)

            hooks = Hooks(before_step=lambda step: None, after_step=after_step, preferences=preferences)
            train(config, state, engine, session.data.mixture, session.to_prompt, run, hooks, algorithm)
        state.trainer.save(run.model_path, session.model.tokenizer)
        does = f"reinforcement learning from the answers recorded in {recorded.path}"
        write_lineage(run.model_path, run_lineage(config, run, does))
    finally:
        run.unlock()
    return _compared(recorded, run)


def _compared(recorded: RunDir, run: RunDir) -> str:
    pairs = [*zip(recorded.read_metrics(), run.read_metrics(), strict=False)]
    for before, now in pairs:
        others = [
            f"{key} {value} (was {before.get(key)})" for key, value in now.items() if value != before.get(key)
        ]
        if others:
            return f"other figures than {recorded.path} from step {now['step']} on: {', '.join(others)}"
    return f"the figures of {recorded.path} in all of {len(pairs)} steps"
