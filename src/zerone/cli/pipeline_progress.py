"""What a person sees while a pipeline runs: all stages at once.

In: the plan, then what each stage reports. Out: on a terminal one live table with a line per stage;
elsewhere (a pipe, a log file, NO_COLOR) plain lines that begin with the stage's name. Where the terminal
has fewer lines than there are stages, those far from the one at work are folded into a line on either side.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from zerone.cli.machine_note import MachineNote
from zerone.pipeline.run import Planned, State

_MARKS = {State.DONE: "[green]ok[/]", State.LEFT_OUT: "--"}
_ENDED = (State.DONE, State.LEFT_OUT)
_SHOWN_NEEDS = 5
_LINES_BESIDE = 3
"""Of a terminal: the table's head, a line that is said, and the cursor's."""


def duration(seconds: float) -> str:
    """Return a duration as a person would say it."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:.1f} h"


def size(num_bytes: float) -> str:
    """Return a size in megabytes or gigabytes."""
    return f"{num_bytes / 1e6:.0f} MB" if num_bytes < 1e9 else f"{num_bytes / 1e9:.1f} GB"


def plan_table(plan: Sequence[Planned]) -> Table:
    """Return the graph with what would run, and what that would roughly take."""
    table = Table(box=None, pad_edge=False)
    for column in ("stage", "makes", "needs", "state", "about", "disk"):
        justify: Literal["left", "right"] = "right" if column in ("about", "disk") else "left"
        table.add_column(column, justify=justify, no_wrap=column == "stage")
    for planned in plan:
        stage = planned.stage
        needed = [given if isinstance(given, str) else f"({role})" for role, given in stage.inputs.items()]
        more = [f"and {len(needed) - _SHOWN_NEEDS} more"] if len(needed) > _SHOWN_NEEDS else []
        needs = ", ".join([*needed[:_SHOWN_NEEDS], *more])
        state = f"{planned.state.value}: {planned.reason}" if planned.reason else planned.state.value
        cells = (stage.name, stage.makes, needs, state, duration(planned.seconds), size(planned.num_bytes))
        table.add_row(*(Text(cell) for cell in cells))
    ahead = [planned for planned in plan if planned.state not in _ENDED]
    table.add_section()
    table.add_row(
        *("still ahead", f"{len(ahead)} of {len(plan)} stages", "", ""),
        duration(sum(planned.seconds for planned in ahead)),
        size(sum(planned.num_bytes for planned in ahead)),
    )
    return table


@dataclass(slots=True)
class _Row:
    """A stage as it stands."""

    planned: Planned
    state: State
    share: float = 0.0
    note: str = ""
    seconds: float = 0.0
    begun: float | None = None


class PipelineView:
    """Shows a pipeline; use as a context manager so that the live table is left in order."""

    def __init__(self, console: Console, note: MachineNote | None = None) -> None:
        self._console = console
        self._note = note or MachineNote()
        self._told = ""
        self._is_live = console.is_terminal and not console.no_color
        self._rows: dict[str, _Row] = {}
        self._live: Live | None = None

    def __enter__(self) -> "PipelineView":
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def begin(self, plan: Sequence[Planned]) -> None:
        """Show what is about to run."""
        self._rows = {planned.stage.name: _Row(planned, planned.state) for planned in plan}
        if self._is_live:
            self._live = Live(console=self._console, auto_refresh=False)
            self._live.start()
            self._refresh()
        else:
            for planned in plan:
                reason = f": {planned.reason}" if planned.reason else ""
                self.say(planned.stage.name, f"{planned.state.value}{reason}")

    def stage_begins(self, name: str, state: State, reason: str) -> "StageView":
        """Show that a stage begins; return what shows its work."""
        row = self._rows[name]
        row.state, row.note, row.begun = state, reason, time.monotonic()
        self.say(name, f"{row.planned.stage.makes} ({state.value}{': ' if reason else ''}{reason})")
        self._refresh()
        return StageView(self, name)

    def stage_ends(self, name: str, state: State, seconds: float) -> None:
        """Show that a stage is done, now or since before."""
        row = self._rows[name]
        is_new = row.begun is not None
        row.state, row.share, row.seconds, row.begun = state, 1.0, seconds, None
        if is_new:
            self.say(name, f"done in {duration(seconds)}")
        self._refresh()

    def say(self, name: str, text: str) -> None:
        """Print a line of a stage, above the table where there is one."""
        self._console.print(f"{name:<10} {text}", markup=False, highlight=False, soft_wrap=True)

    def progress(self, name: str, share: float, note: str) -> None:
        """Show how far a stage is."""
        row = self._rows[name]
        row.share, row.note, self._told = share, note, self._note.told()
        if self._live is None:
            self.say(name, f"{note}  {self._told}" if self._told else note)
        self._refresh()

    def _refresh(self) -> None:
        if self._live is not None:
            self._live.update(self._table(), refresh=True)

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False, expand=True, caption=self._told, caption_justify="left")
        for column, width in (("", 2), ("stage", 16), ("", 20), ("time", 8), ("left", 8)):
            table.add_column(column, min_width=width, no_wrap=True)
        table.add_column("", ratio=1, no_wrap=True, overflow="ellipsis")
        first, last = self._window()
        rows = list(self._rows.items())
        if first:
            table.add_row("", Text(f"{first} before", style="dim"), "", "", "", "")
        for name, row in rows[first:last]:
            running = 0.0 if row.begun is None else time.monotonic() - row.begun
            left = running / row.share - running if 0 < row.share < 1 else row.planned.seconds
            table.add_row(
                _MARKS.get(row.state, "[bold]>[/]" if row.begun is not None else ""),
                Text(name, style="bold" if row.begun is not None else ""),
                # A stage that says nothing of its progress has none to show while it works.
                ProgressBar(total=1.0, completed=row.share, width=20) if row.share > 0 else "",
                duration(row.seconds or running) if row.state is State.DONE or row.begun is not None else "",
                "" if row.state in _ENDED else f"~{duration(left)}",
                Text(row.note if row.begun is not None else "", style="dim"),
            )
        if later := rows[last:]:
            ahead = sum(row.planned.seconds for _, row in later if row.state not in _ENDED)
            table.add_row("", Text(f"{len(later)} after", style="dim"), "", "", f"~{duration(ahead)}", "")
        return table

    def _window(self) -> tuple[int, int]:
        """Return from which row to before which one the terminal has room, around the one at work."""
        rows = list(self._rows.values())
        room = self._console.height - _LINES_BESIDE - bool(self._told)
        if len(rows) <= room:
            return 0, len(rows)
        room = max(1, room - 2)  # a line on either side says how many are folded
        waiting = [i for i, row in enumerate(rows) if row.state not in _ENDED]
        at_work = next((i for i, row in enumerate(rows) if row.begun is not None), None)
        middle = at_work if at_work is not None else waiting[0] if waiting else len(rows) - 1
        first = max(0, min(middle - room // 2, len(rows) - room))
        return first, first + room


class StageView:
    """The part of the view that one stage writes to."""

    def __init__(self, view: PipelineView, name: str) -> None:
        self._view = view
        self._name = name

    def say(self, text: str) -> None:
        """Print a line."""
        self._view.say(self._name, text)

    def progress(self, share: float, note: str) -> None:
        """Show how far the stage is."""
        self._view.progress(self._name, share, note)
