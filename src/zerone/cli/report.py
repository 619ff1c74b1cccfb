"""`zerone report RUN...`: the page of a run or of a pipeline, or several runs on one page."""

from pathlib import Path
from typing import Annotated

import typer

from zerone.errors import UserError


def report(
    run_dirs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="run directories, finished or not")
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE.html", help="the page; without it, RUN/report.html of one run"),
    ] = None,
    core_price: Annotated[float, typer.Option(min=0.0, help="dollars per core-hour, for the costs")] = 0.04,
) -> None:
    """Write a run's report, also while it is running, or compare several runs in one file."""
    from zerone.files import refuse_overwriting
    from zerone.report.comparison import render_comparison
    from zerone.report.page import write_report
    from zerone.report.pipeline_page import is_pipeline
    from zerone.runs.directory import RunDir, not_a_run, write_atomically

    runs = [RunDir(path) for path in run_dirs]
    for run in runs:
        if not run.has_run and not is_pipeline(run):
            raise not_a_run(run.path)
    if out is not None:
        for run in runs:
            refuse_overwriting({"--out": out}, run.files())
    if len(runs) == 1:
        print(write_report(runs[0], out, core_price).resolve())
        return
    if out is None:
        raise UserError(f"{len(runs)} runs are compared in a file of your choice: add --out FILE.html")
    write_atomically(out, render_comparison(runs, core_price))
    print(out.resolve())
