"""`zerone replay`: a run's updates once more from its recorded answers, to see what a change does to them.

In: a run directory with rollouts, `key=value`. Out: a run directory of its own, and whether the figures are
the run's. Heavy imports wait inside the command.
"""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from zerone.cli.arguments import DryRun, Overrides, Quiet
from zerone.config import to_yaml
from zerone.config.recipes import run_path


def replay(
    recorded: Annotated[Path, typer.Argument(metavar="RUN", help="a run directory with rollouts.sqlite")],
    overrides: Overrides = None,
    run_dir: Annotated[
        Path | None, typer.Option(help="directory of the run", show_default="runs/replay-N")
    ] = None,
    dry_run: DryRun = False,
    quiet: Quiet = False,
) -> None:
    """Repeat a run's updates from its recorded completions, without sampling."""
    from zerone.cli.progress import TerminalDisplay
    from zerone.jobs.replay import config_of_replay, run_replay
    from zerone.runs.directory import RunDir

    source = RunDir(recorded)
    config = config_of_replay(source, overrides or ())
    if dry_run:
        print(to_yaml(config), end="")
        return
    run = RunDir(run_path(run_dir, False, "replay"))
    console = Console()
    with TerminalDisplay(console, run.path, is_quiet=quiet) as display:
        line = run_replay(config, source, run, display)
    console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.print(f"model: {run.model_path.resolve()}", highlight=False, soft_wrap=True)
