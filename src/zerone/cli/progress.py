"""What a person sees while a run goes on.

In: finished steps and evaluations. Out: on a terminal a live table that keeps the last steps in
view; elsewhere (a pipe, a log file, NO_COLOR) one plain line per step. Each step of RL ends with one
line of verdict, and now and then with a completion that the model wrote. SFT shows plain lines. Where
other processes need the cores, the line says so and what it costs.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from zerone.cli.machine_note import MachineNote
from zerone.config import Config
from zerone.escaping import visible
from zerone.prompts.r1 import split_reasoning
from zerone.runs.directory import shown_suites
from zerone.types import Credited, Graded

COLUMNS = (
    ("step", "step", "{:d}"),
    ("reward", "reward_mean", "{:.3f}"),
    ("correct", "accuracy", "{:.1%}"),
    ("format", "format", "{:.1%}"),
    ("signal", "groups_with_signal", "{:.0%}"),
    ("tokens", "response_tokens", "{:.0f}"),
    ("reflect", "reflection_words", "{:.2f}"),
    ("truncated", "truncated", "{:.1%}"),
    ("entropy", "entropy", "{:.3f}"),
    ("mismatch", "mismatch_kl", "{:.0e}"),
    ("grad", "grad_norm", "{:.2g}"),
)
"""Columns of the live table: heading, field of metrics.jsonl, format; docs/debug.md explains each."""
_ROWS_IN_VIEW = 12
_SPARKS = "\u2581\u2582\u2583\u2584\u2585\u2586\u2587\u2588"


_OF_TRAINED_TOKENS = ("entropy", "mismatch_kl")


def written(metrics: Mapping[str, Any], key: str, form: str) -> str:
    """Write a figure of a step; a dash where nothing was judged, or no token was trained on to measure it."""
    if key in _OF_TRAINED_TOKENS and metrics.get("num_trained_tokens") == 0:
        return "-"
    return "-" if metrics[key] is None else form.format(metrics[key])


def sparkline(values: Sequence[float], width: int = 32) -> str:
    """Return the values as a line of bars, thinned to `width`."""
    if len(values) > width:
        values = [values[i * len(values) // width] for i in range(width)]
    if not values:
        return ""
    low, high = min(values), max(values)
    spread = (high - low) or 1.0
    return "".join(_SPARKS[round((value - low) / spread * (len(_SPARKS) - 1))] for value in values)


def clearest(groups: Sequence[Credited]) -> Graded:
    """Return the correct completion with the longest text of the step, or the longest if none is correct."""
    everyone = [graded for credited in groups for graded in credited.group.members]
    return max(everyone, key=lambda graded: (graded.parts["accuracy"], len(graded.rollout.text)))


def no_answer(figures: Mapping[str, Any]) -> str:
    """Return the share without a readable answer as text; older evaluations have none."""
    share = figures.get("unparsable")
    return "no readable answer -" if share is None else f"no readable answer {share:.1%}"


def completion_text(graded: Graded) -> Text:
    """Return a rollout as shown in the terminal, its reasoning dimmed."""
    completion = graded.rollout.text
    end = split_reasoning(completion).reasoning_end
    text = Text(f"  {visible(graded.rollout.problem.prompt)}\n", style="bold")
    text.append(visible(completion[:end]), style="dim")
    text.append(visible(completion[end:]))
    text.append(f"\n  {graded.outcome.value}, reward {graded.reward:.2f}", style="italic")
    return text


class TerminalDisplay:
    """Shows a run; use as a context manager so that the live table is left in order."""

    def __init__(
        self,
        console: Console,
        run_path: Path,
        *,
        is_quiet: bool = False,
        note: MachineNote | None = None,
    ) -> None:
        self._console = console
        self._run_path = run_path
        self._note = note or MachineNote()
        self._is_live = console.is_terminal and not console.no_color
        self._is_quiet = is_quiet
        self._rows: deque[Mapping[str, Any]] = deque(maxlen=_ROWS_IN_VIEW)
        self._timings: deque[float] = deque(maxlen=5)
        self._rewards: list[float] = []
        self._config: Mapping[str, Any] = {}
        self._num_steps = 0
        self._sample_every = 0
        self._live: Live | None = None

    def __enter__(self) -> "TerminalDisplay":
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def start(self, config: Config, environment: Mapping[str, Any]) -> None:
        """Say what is about to run and where."""
        self._config = config.model_dump()
        self._num_steps = config.rl.steps
        self._sample_every = config.log.sample_every
        self._say(
            f"R1-Zero on {environment['model']}: {config.rl.steps} steps of {config.rl.problems_per_step} "
            f"problems x {config.rl.group_size} completions ({environment['data']}), seed {config.seed}, "
            f"{environment['precision']} on {environment['threads']} threads -> {self._run_path}"
        )
        if self._is_live and not self._is_quiet:
            self._live = Live(console=self._console, auto_refresh=False)
            self._live.start()

    def evaluation(self, step: int, suites: Mapping[str, Any]) -> None:
        """Show the figures of an evaluation."""
        for name, figures in shown_suites(suites, self._config).items():
            low, high = figures["pass_at_1_ci"]
            consensus = figures.get("cons_at_16")
            self._say(
                f"eval after step {step}: {name:<6} pass@1 {figures['pass_at_1']:.1%} [{low:.1%}, {high:.1%}]"
                + (f"  cons@16 {consensus:.1%}" if consensus is not None else "")
                + f"  {no_answer(figures)}"
                f"  format {figures['format']:.1%}  {figures['response_tokens']:.0f} tokens"
                f"  {figures['reflection_words']:.2f} reflection words"
            )

    def step(self, metrics: Mapping[str, Any], timing: Mapping[str, Any], groups: Sequence[Credited]) -> None:
        """Show a step: a row of figures, its verdict, now and then a sample."""
        self._rows.append(metrics)
        if metrics["reward_mean"] is not None:
            self._rewards.append(metrics["reward_mean"])
        self._timings.append(timing["total_s"])
        told = self._note.told()
        if self._live is not None:
            self._live.update(self._view(told), refresh=True)
        else:
            figures = "  ".join(f"{name} {written(metrics, key, form)}" for name, key, form in COLUMNS)
            line = f"{figures}  {timing['total_s']:.1f}s  {metrics['verdict']}"
            self._say(f"{line}  {told}" if told else line)
        if self._sample_every and metrics["step"] % self._sample_every == 0:
            self._say(completion_text(clearest(groups)))

    def _say(self, what: RenderableType) -> None:
        if not self._is_quiet:
            self._console.print(what, markup=False, highlight=False, soft_wrap=True)

    def _view(self, told: str) -> RenderableType:
        table = Table(box=None, pad_edge=False)
        for name, _, _ in COLUMNS:
            table.add_column(name, justify="right")
        table.add_column("s", justify="right")
        seconds = list(self._timings)
        for row in self._rows:
            cells = [written(row, key, form) for _, key, form in COLUMNS]
            table.add_row(*cells, f"{seconds[-1]:.1f}" if row is self._rows[-1] else "")
        last = self._rows[-1]
        left = (self._num_steps - last["step"]) * sum(seconds) / len(seconds)
        status = Text(f"{sparkline(self._rewards)} reward   {left / 60:.1f} min left   ")
        status.append(last["verdict"], style="bold")
        return Group(table, status, Text(told)) if told else Group(table, status)


class LossDisplay:
    """Shows SFT: its evaluations, and about a hundred plain lines of steps however long it is."""

    def __init__(
        self,
        console: Console,
        run_path: Path,
        *,
        is_quiet: bool = False,
        note: MachineNote | None = None,
    ) -> None:
        self._console = console
        self._run_path = run_path
        self._note = note or MachineNote()
        self._is_quiet = is_quiet
        self._num_steps = 0
        self._seconds = 0.0

    def start(self, num_steps: int, environment: Mapping[str, Any]) -> None:
        """Say what is about to run and where."""
        self._num_steps = num_steps
        self._say(
            f"SFT of {environment['model']}: {num_steps} steps ({environment['data']}), seed "
            f"{environment['seed']}, {environment['precision']} on {environment['threads']} threads -> "
            f"{self._run_path}"
        )

    def evaluation(self, evaluation: Mapping[str, Any]) -> None:
        """Show the held-out loss, and the figures of the suite where there is one."""
        line = f"eval after step {evaluation['step']}: held-out loss {evaluation['loss']:.4f}"
        for name, figures in evaluation["suites"].items():
            low, high = figures["pass_at_1_ci"]
            line += (
                f"  {name} pass@1 {figures['pass_at_1']:.1%} [{low:.1%}, {high:.1%}]  {no_answer(figures)}"
                f"  format {figures['format']:.1%}  {figures['response_tokens']:.0f} tokens"
            )
        self._say(line)

    def step(self, metrics: Mapping[str, Any], timing: Mapping[str, Any]) -> None:
        """Show a step, if it is its turn."""
        # A mean that forgets: the first steps are slower, and lengths differ.
        self._seconds = 0.9 * (self._seconds or timing["total_s"]) + 0.1 * timing["total_s"]
        step, every = metrics["step"], max(1, self._num_steps // 100)
        if step % every == 0 or step == self._num_steps:
            left = (self._num_steps - step) * self._seconds / 60
            told = self._note.told()
            self._say(
                f"step {step}/{self._num_steps}  epoch {metrics['epoch']:.2f}  loss {metrics['loss']:.4f}  "
                f"grad {metrics['grad_norm']:.2g}  rate {metrics['learning_rate']:.1e}  "
                f"{metrics['num_tokens'] / max(1e-9, timing['total_s']):.0f} tokens/s  {left:.1f} min left"
                + (f"  {told}" if told else "")
            )

    def _say(self, what: str) -> None:
        if not self._is_quiet:
            self._console.print(what, markup=False, highlight=False, soft_wrap=True)
