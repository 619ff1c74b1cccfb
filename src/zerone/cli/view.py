"""`zerone view RUN`: what the command line says of the rollouts browser."""

from pathlib import Path
from typing import Annotated

import typer


def view(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN", help="a run directory, finished or not")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="port; 0 picks a free one")] = 8765,
) -> None:
    """Browse a run's rollouts in a page on this machine."""
    from zerone.runs.directory import RunDir, not_a_run
    from zerone.view.app import make_app
    from zerone.view.serving import serve

    run = RunDir(run_dir)
    if not run.has_run:
        raise not_a_run(run_dir)
    serve(make_app(run), port)
