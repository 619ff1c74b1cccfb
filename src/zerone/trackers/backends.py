"""The trackers: each hands figures to the package that its name says, or writes lines of JSON.

In: an `Opening`. Out: a `Tracker`. The packages are imported when they are opened. Everything that they would
collect by themselves (code, git, console, machine, usage) is switched off: what is sent or kept is what
`log` and `finish` are given, and the configuration.
"""

import html
import json
import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

from zerone.trackers.api import Figure, Opening, Table, Tracker, as_json

QUIET = {
    "WANDB_ERROR_REPORTING": "false",  # else its crashes go to their makers
    "WANDB_DISABLE_CODE": "true",
    "WANDB_DISABLE_GIT": "true",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "GRADIO_ANALYTICS_ENABLED": "False",
}
"""Set in the process of every tracker."""

OFFLINE = {"WANDB_MODE": "offline", "HF_HUB_OFFLINE": "1"}
"""Set beside them unless `log.online`; trackio would ask the Hub for the name of its user."""

REMOTE_TRACKIO = ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL")
"""Variables of trackio that name where it sends to; unset unless `log.online`."""


class JsonLines:
    """One object per line in FOLDER/figures.jsonl: `step` and figures by name."""

    def __init__(self, opening: Opening) -> None:
        self._path = Path(opening.folder) / "figures.jsonl"
        self._cut_partial_line()
        if not self._path.exists():
            self._append({"project": opening.project, "name": opening.name, "config": dict(opening.config)})

    def log(self, step: int, figures: Mapping[str, Figure]) -> None:
        """Append a line."""
        self._append({"step": step, **as_json(figures)})

    def finish(self, summary: Mapping[str, Figure], *, is_done: bool) -> None:
        """Append the summary of a run that is done."""
        if is_done:
            self._append({"summary": as_json(summary)})

    def _append(self, value: Mapping[str, Any]) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(value) + "\n")

    def _cut_partial_line(self) -> None:
        """Remove a last line without an end, which a crash has left."""
        if self._path.exists():
            with self._path.open("rb+") as file:
                whole = file.read().rfind(b"\n") + 1
                file.truncate(whole)


class TensorBoard:
    """Event files in FOLDER, for `tensorboard --logdir`."""

    def __init__(self, opening: Opening) -> None:
        from torch.utils.tensorboard.writer import SummaryWriter

        is_new = not any(Path(opening.folder).glob("events.out.tfevents.*"))
        self._writer: Any = SummaryWriter(opening.folder)
        self._step = 0
        if is_new:
            self._text("config", json.dumps(dict(opening.config), indent=2))

    def log(self, step: int, figures: Mapping[str, Figure]) -> None:
        """Write scalars and texts; a table is a text."""
        self._step = step
        for name, figure in figures.items():
            if isinstance(figure, Table):
                self._text(name, _as_text(figure))
            elif isinstance(figure, str):
                self._text(name, figure)
            else:
                self._writer.add_scalar(name, figure, step)
        self._writer.flush()

    def finish(self, summary: Mapping[str, Figure], *, is_done: bool) -> None:
        """Write the summary and close the file."""
        self.log(self._step, summary)
        self._writer.close()

    def _text(self, name: str, text: str) -> None:
        # Indented, so that it is shown as it is and never as the markup that a model may have written.
        indented = "\n".join(f"    {line}" for line in text.splitlines())
        self._writer.add_text(name, indented, self._step)


class Wandb:
    """A run of Weights & Biases; its files are in FOLDER/wandb, also those to upload later."""

    def __init__(self, opening: Opening) -> None:
        import wandb

        self._table: Callable[..., Any] = wandb.Table
        self._step = 0
        self._run = wandb.init(
            project=opening.project,
            name=opening.name,
            id=opening.identity,
            resume="allow",
            mode="online" if opening.is_online else "offline",
            dir=opening.folder,
            config=dict(opening.config),
            save_code=False,
            settings=wandb.Settings(
                console="off",
                disable_code=True,
                disable_git=True,
                disable_job_creation=True,
                silent=True,
                x_disable_machine_info=True,
                x_disable_meta=True,
                x_disable_stats=True,
                x_save_requirements=False,
            ),
        )

    def log(self, step: int, figures: Mapping[str, Figure]) -> None:
        """Log the figures of a step."""
        self._step = step
        self._run.log({name: self._value(figure) for name, figure in figures.items()}, step=step)

    def finish(self, summary: Mapping[str, Figure], *, is_done: bool) -> None:
        """Write the summary and wait until all is on disk or sent."""
        tables = {name: figure for name, figure in summary.items() if isinstance(figure, Table)}
        if tables:
            self.log(self._step, tables)
        self._run.summary.update({name: summary[name] for name in summary if name not in tables})
        self._run.finish(exit_code=0 if is_done else 1)

    def _value(self, figure: Figure) -> Any:
        if not isinstance(figure, Table):
            return figure
        return self._table(columns=list(figure.columns), data=[list(row) for row in figure.rows])


class Trackio:
    """A run of trackio, in trackio's own folder, where `trackio show` finds the runs of a project."""

    def __init__(self, opening: Opening) -> None:
        import trackio

        self._table: Callable[..., Any] = trackio.Table
        self._step = 0
        self._troubles: list[str] = []
        warnings.showwarning = self._warned  # its only word of figures that it could not keep
        # Found again by its name alone, which must therefore be no other run's.
        self._run = trackio.init(
            project=opening.project,
            name=f"{opening.name}-{opening.identity}",
            resume="allow",
            config=dict(opening.config),
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )
        self._complain()

    def log(self, step: int, figures: Mapping[str, Figure]) -> None:
        """Log the figures of a step."""
        self._step = step
        self._run.log({name: self._value(figure) for name, figure in figures.items()}, step=step)
        self._complain()

    def finish(self, summary: Mapping[str, Figure], *, is_done: bool) -> None:
        """Log the summary with the last step and wait until all is written."""
        if summary:
            self.log(self._step, summary)
        self._run.finish()
        self._complain()

    def _warned(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if "trackio" in str(message).lower():
            self._troubles.append(str(message))

    def _complain(self) -> None:
        if self._troubles:
            told, self._troubles = self._troubles, []
            raise OSError(told[0])

    def _value(self, figure: Figure) -> Any:
        if not isinstance(figure, Table):
            return figure
        # Texts are shown as Markdown, in which a tag that a model wrote would vanish.
        rows = [[html.escape(cell) if isinstance(cell, str) else cell for cell in row] for row in figure.rows]
        return self._table(columns=list(figure.columns), data=rows)


_BACKENDS: Mapping[str, Callable[[Opening], Tracker]] = {
    "jsonl": JsonLines,
    "tensorboard": TensorBoard,
    "trackio": Trackio,
    "wandb": Wandb,
}


def open_tracker(opening: Opening) -> Tracker:
    """Open a tracker in this process, whose environment is set for it."""
    os.environ.update(QUIET)
    if not opening.is_online:
        os.environ.update(OFFLINE)
        for name in REMOTE_TRACKIO:
            os.environ.pop(name, None)
    return _BACKENDS[opening.kind](opening)


def _as_text(table: Table) -> str:
    """Return a table as text, a block for each row."""
    blocks = (
        "\n".join(f"{column}: {cell}" for column, cell in zip(table.columns, row, strict=True))
        for row in table.rows
    )
    return "\n\n".join(blocks)
