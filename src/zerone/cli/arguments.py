"""What commands that run a recipe take, written once, so that all of them say the same in `--help`."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from zerone.config.reading import repeated
from zerone.errors import ConfigError


def tell_repeated(given: Any) -> Any:
    """Say which of two values for one option counts: neither is dropped without a word."""
    for line in repeated(given or ()):
        print(f"note: {line}", file=sys.stderr)
    return given


def refuse_both(context: typer.Context, value: Any) -> Any:
    """Raise ConfigError where a recipe of the package and a file are given: one would be dropped."""
    sources = (context.get_parameter_source(name) for name in ("recipe", "config"))
    if all(source is not None and source.name == "COMMANDLINE" for source in sources):
        raise ConfigError("--recipe and --config are both given; give one, and key=value for the rest")
    return value


Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE]...",
        help="dotted overrides; of two for one option the last counts",
        callback=tell_repeated,
    ),
]
Recipe = Annotated[
    str, typer.Option(help="a recipe of the package, see `zerone recipes`", callback=refuse_both)
]
RunRecipe = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        help="a recipe of the package, see `zerone recipes`",
        show_default="the command's own; on resume the run's options",
        callback=refuse_both,
    ),
]
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", help="a recipe file of your own (YAML), in place of one", callback=refuse_both),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="print the resolved configuration, check it, and stop")
]
DryPlan = Annotated[
    bool, typer.Option("--dry-run", help="show the stages, what would run and what that takes")
]
Quiet = Annotated[bool, typer.Option("--quiet", help="print nothing but the result")]
KeptIn = Annotated[Path | None, typer.Option(help="directory of the run", show_default="runs/RECIPE-N")]
Resume = Annotated[
    bool, typer.Option("--resume", help="resume a run: `--resume RUN`, or the one in --run-dir")
]
