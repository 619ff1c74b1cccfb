"""What a tracker is told: figures by name and step, and at the end a summary.

A figure is a number, a text or a table; its name is a path, as `train/reward_mean`. Nothing here is imported
but the standard library, since a tracker runs in a process of its own, which should start at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

KINDS = ("trackio", "wandb", "tensorboard", "jsonl")


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of numbers and texts under the names of their columns."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]


Figure = float | int | str | Table


class Tracker(Protocol):
    """What keeps or shows a run's figures; it may raise anything."""

    def log(self, step: int, figures: Mapping[str, Figure]) -> None:
        """Take the figures of a step; steps never go back, and may come several times."""
        ...

    def finish(self, summary: Mapping[str, Figure], *, is_done: bool) -> None:
        """Take the last figures and bring everything to its place; a run that is not done may go on."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """What a tracker is opened with.

    `folder` is the run's own for it; `identity` stays the same however often the run is resumed. Without
    `is_online` nothing may leave the machine.
    """

    kind: str
    folder: str
    identity: str
    project: str
    name: str
    is_online: bool
    config: Mapping[str, Any]


def as_json(figures: Mapping[str, Figure]) -> dict[str, Any]:
    """Return figures as JSON values; a table becomes an object of columns and rows."""
    return {
        name: {"columns": list(figure.columns), "rows": [list(row) for row in figure.rows]}
        if isinstance(figure, Table)
        else figure
        for name, figure in figures.items()
    }


def from_json(values: Mapping[str, Any]) -> dict[str, Figure]:
    """Return the figures that `as_json` made values of."""
    return {
        name: Table(tuple(value["columns"]), tuple(map(tuple, value["rows"])))
        if isinstance(value, dict)
        else value
        for name, value in values.items()
    }
