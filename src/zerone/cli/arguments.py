"""What commands that run a recipe take, written once, so that all of them say the same in `--help`."""

from pathlib import Path
from typing import Annotated

import typer

Overrides = Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="dotted overrides")]
Recipe = Annotated[str, typer.Option(help="a recipe of the package, see `zerone recipes`")]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="a recipe file of your own (YAML)")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="print the resolved configuration and stop")]
DryPlan = Annotated[
    bool, typer.Option("--dry-run", help="show the stages, what would run and what that takes")
]
Quiet = Annotated[bool, typer.Option("--quiet", help="print nothing but the result")]
KeptIn = Annotated[Path | None, typer.Option(help="where the run is kept", show_default="runs/RECIPE-N")]
Resume = Annotated[bool, typer.Option("--resume", help="go on with the run in --run-dir")]
