"""`zerone ablate`: a stage of R1 in several variants, and one figure that shows what differs.

In: the name of an ablation, a recipe or a finished pipeline, `key=value`. Out: a run directory per
variant, and a page. Heavy imports wait inside the command.
"""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from zerone.cli.arguments import ConfigFile, DryPlan, Recipe, tell_repeated
from zerone.config.recipes import recipe_file, run_path


def ablate(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="without a name, all are listed")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[[VARIANT.]KEY=VALUE]...",
            help="dotted overrides, for all variants or one",
            callback=tell_repeated,
        ),
    ] = None,
    run_dir: Annotated[
        Path | None, typer.Option(help="directory of the run", show_default="runs/ablate_NAME-N")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="resume the ablation in --run-dir")] = False,
    pipeline: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="a finished `zerone r1` to start from, in place of a recipe"),
    ] = None,
    recipe: Recipe = "r1_embedded",
    config: ConfigFile = None,
    dry_run: DryPlan = False,
) -> None:
    """Run a stage of R1 in several variants and draw them in one figure."""
    from zerone.pipeline.ablations import ablation_named, ablation_pipeline, take_over

    console = Console()
    if name is None:
        _list_ablations()
        return
    directory = run_path(run_dir, resume, f"ablate_{name}")
    from zerone.cli.pipeline_progress import PipelineView, plan_table
    from zerone.pipeline.r1 import r1_graph
    from zerone.report.ablation import write_ablation

    ablation, graph = ablation_named(name), r1_graph()
    # Before anything is copied, a plan finds what is done where it was made.
    place = pipeline if dry_run and pipeline and not directory.exists() else directory
    work = ablation_pipeline(graph, ablation, place, config or recipe_file(recipe), overrides or (), pipeline)
    if dry_run:
        console.print(plan_table(work.plan()))
        return
    if pipeline is not None:
        take_over(work, ablation, pipeline)
    with PipelineView(console) as view:
        work.run(resume, view)
    page = write_ablation(name, ablation, directory)
    console.print(f"figure: {page.resolve()}", highlight=False, soft_wrap=True)


def _list_ablations() -> None:
    from zerone.pipeline.ablations import ABLATIONS

    for known, each in ABLATIONS.items():
        print(f"{known:<12} {each.stage}: {', '.join(each.variants)}. {each.shows}")
