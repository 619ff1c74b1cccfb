"""Everything that a report needs of a run besides its rollouts, read once.

In: a run directory, finished or not. Out: a `RunRecord` that answers what the figures were before
and after, so that tables, figures and text take them from one place.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zerone.errors import RunDirError
from zerone.runs.commands import command_to_resume
from zerone.runs.directory import RECIPE_NAME, RunDir, shown_suites

Suite = Mapping[str, Any]
_FIRST_SUITES = ("mixed", "hard")
_VOTE = re.compile(r"cons_at_(\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """The figures of a run; `evals` by step, `metrics` and `timing` one entry per step.

    `num_stages_left` is of a pipeline, which has a summary before its end. `resume_command` resumes the run.
    """

    name: str
    path: str
    config: Mapping[str, Any]
    config_yaml: str
    environment: Mapping[str, Any]
    metrics: Sequence[Mapping[str, Any]]
    timing: Sequence[Mapping[str, Any]]
    evals: Mapping[int, Mapping[str, Any]]
    summary: Mapping[str, Any] | None
    num_stages_left: int = 0
    resume_command: str = ""

    @property
    def is_finished(self) -> bool:
        """Whether the summary has been written, which is the last thing a run does."""
        return self.summary is not None and not self.num_stages_left

    @property
    def is_fine_tuning(self) -> bool:
        """Whether the run learned from answers: only then an evaluation has a loss beside its suites."""
        return any("loss" in result for result in self.evals.values())

    @property
    def losses(self) -> dict[int, float]:
        """Loss of fine-tuning on the answers held out, by step."""
        return {step: float(result["loss"]) for step, result in self.evals.items() if "loss" in result}

    @property
    def num_steps(self) -> int:
        """Steps recorded so far."""
        return int(self.metrics[-1]["step"]) if self.metrics else 0

    @property
    def wall_s(self) -> float:
        """Seconds of the whole run, or of the recorded steps while it is unfinished."""
        if self.summary is not None and "wall_s" in self.summary:
            return float(self.summary["wall_s"])
        return sum(float(entry.get("total_s", 0.0)) for entry in self.timing)

    @property
    def suites(self) -> list[str]:
        """Names of the suites that were evaluated, the embedded ones first."""
        found = [name for result in self.evals.values() for name in result["suites"]]
        if self.summary is not None:
            found += [*self._summed_up("base"), *self._summed_up("final")]
        firsts = [name for name in _FIRST_SUITES if name in found]
        return firsts + sorted(set(found) - set(firsts))

    def setting(self, option: str) -> Any:
        """Return a setting by its dotted name, or None where the run's version had none."""
        value: Any = self.config
        for part in option.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        return value

    def base(self, suite: str) -> Suite:
        """Return the figures before training (empty if never measured)."""
        measured = self.evals.get(0, {}).get("suites", {}).get(suite, {})
        return {**measured, **self._summed_up("base").get(suite, {})}

    def final(self, suite: str) -> Suite:
        """Return the last figures after training began (empty if never measured)."""
        step = self.final_step(suite)
        measured = {} if step is None else self.evals[step]["suites"][suite]
        return {**measured, **self._summed_up("final").get(suite, {})}

    def final_step(self, suite: str) -> int | None:
        """Return the step of the last evaluation of a suite after step 0, if there is one."""
        steps = [step for step, result in self.evals.items() if step > 0 and suite in result["suites"]]
        return max(steps, default=None)

    def _summed_up(self, end: str) -> Mapping[str, Suite]:
        found: Mapping[str, Any] = (self.summary or {}).get(end, {})
        # Fine-tuning has its suites beside the step and the loss.
        suites: Mapping[str, Suite] = found["suites"] if "loss" in found else found
        return suites

    @property
    def curve_suite(self) -> str | None:
        """The suite that is evaluated most often: the one to draw over the steps."""
        counts = {
            name: sum(name in result["suites"] for result in self.evals.values()) for name in self.suites
        }
        return max(reversed(self.suites), key=counts.__getitem__, default=None)


def vote_key(suite: Suite) -> str | None:
    """Return the name of the majority-vote figure of a suite, as cons_at_16."""
    return next((key for key in suite if _VOTE.fullmatch(key)), None)


def vote_size(key: str) -> int:
    """Return how many answers vote: 16 for cons_at_16."""
    matched = _VOTE.fullmatch(key)
    if matched is None:
        raise ValueError(f"{key!r} is not the name of a majority vote")
    return int(matched.group(1))


def read_record(run: RunDir) -> RunRecord:
    """Read a run; raise RunDirError where there is none or its configuration is damaged."""
    summary = run.read_summary()
    if not run.has_run:
        raise RunDirError(f"{run.path} holds no run; give a directory that `zerone zero` has written")
    config, evals = run.read_config(), run.read_evals()
    if any("suites" not in result for result in evals.values()):
        raise RunDirError(f"{run.path} holds the training of a reward model, which has no report of its own")
    if not any("loss" in result for result in evals.values()):
        evals = {s: {**found, "suites": shown_suites(found["suites"], config)} for s, found in evals.items()}
        known = summary or {}
        ends: dict[str, Any] = {
            end: shown_suites(known[end], config) for end in ("base", "final") if end in known
        }
        summary = {**known, **ends} if summary else summary
    return RunRecord(
        name=run.path.absolute().name,
        path=str(run.path),
        config=config,
        config_yaml=run.read_config_yaml(),
        environment=run.read_environment(),
        metrics=run.read_metrics(),
        timing=run.read_timing(),
        evals=evals,
        summary=summary,
        resume_command=resume_command(run),
    )


def resume_command(run: RunDir) -> str:
    """Return the command that resumes a run or a pipeline; of a stage, the one that resumes its pipeline."""
    is_stage = (run.path.absolute().parent / RECIPE_NAME).exists()
    whole = RunDir(run.path.parent) if is_stage else run
    environment = whole.read_environment() if (whole.path / "environment.json").exists() else {}
    return command_to_resume(str(environment.get("command") or _without_record(whole)), whole.path)


def _without_record(run: RunDir) -> str:
    """Return the command for what another program started, which records none."""
    if (run.path / RECIPE_NAME).exists():
        return "zerone r1"
    return "zerone sft" if any("loss" in result for result in run.read_evals().values()) else "zerone zero"
