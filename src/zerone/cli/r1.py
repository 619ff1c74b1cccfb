"""`zerone r1` and `zerone lineage`: the whole pipeline, and where a model comes from.

In: a recipe with a section `stages`, a directory, which stages. Out: the pipeline's directory; a
table, a tree or JSON. Heavy imports wait inside the commands.
"""

import json
import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from zerone.cli.arguments import ConfigFile, DryPlan, RunRecipe, tell_repeated
from zerone.config.recipes import new_run_path, recipe_file, run_to_resume
from zerone.config.staged import StagedRecipe, build_stage_configs, read_staged_recipe
from zerone.errors import ConfigError
from zerone.runs.commands import program

if TYPE_CHECKING:
    from rich.tree import Tree

    from zerone.runs.lineage import Lineage


def r1(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[[STAGE.]KEY=VALUE]...",
            help="dotted overrides, for all stages or one",
            callback=tell_repeated,
        ),
    ] = None,
    run_dir: Annotated[
        Path | None, typer.Option(help="directory of the pipeline", show_default="runs/RECIPE-N")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="resume a pipeline: `--resume DIR`, or the one in --run-dir")
    ] = False,
    start: Annotated[
        str | None, typer.Option("--from", metavar="STAGE", help="run this stage and all that need it again")
    ] = None,
    only: Annotated[str | None, typer.Option(metavar="STAGE", help="run this stage alone")] = None,
    recipe: RunRecipe = None,
    config: ConfigFile = None,
    dry_run: DryPlan = False,
) -> None:
    """Run all stages of R1; the programs among its problems need a sandbox (apt-get install bubblewrap)."""
    overrides, run_dir = run_to_resume(overrides, run_dir, resume)
    if (resume or start) and run_dir is None:
        raise ConfigError("--resume and --from need --run-dir DIR (or --resume DIR), the pipeline to resume")
    from zerone.cli.pipeline_progress import PipelineView, plan_table
    from zerone.pipeline.r1 import graph_of
    from zerone.pipeline.run import Pipeline, Selection

    staged = recipe_of(recipe, config, run_dir if resume else None)
    graph = graph_of(staged)
    configs = build_stage_configs(staged, graph.names, overrides or ())
    directory = run_dir or new_run_path(recipe or _RECIPE)
    pipeline = Pipeline(graph, configs, directory, Selection(start=start, only=only))
    console = Console()
    if pipeline.left_out:
        gone = ", ".join(pipeline.left_out)
        console.print(f"left out, as options name what they would make: {gone}", soft_wrap=True, markup=False)
    if dry_run:
        console.print(plan_table(pipeline.plan()))
        return
    with PipelineView(console) as view:
        summary = pipeline.run(resume, view)
    _tell(console, summary, directory)


def _tell(console: Console, summary: Mapping[str, Any], directory: Path) -> None:
    """Say where the models are, and how to look at what came of them."""
    for stage, model in summary["models"].items():
        if "path" not in model:  # measured once, and now to be made again
            continue
        console.print(f"{stage:<10} {model['path']}", highlight=False, soft_wrap=True)
    for what, where in _look(directory, summary["models"]).items():
        console.print(f"{what:<10} {where}", markup=False, highlight=False, soft_wrap=True)


_WITH_ROLLOUTS = ("r1", "dev2", "r1_zero")
"""The stages whose rollouts are on file, the last first."""


def _look(directory: Path, models: Mapping[str, Any]) -> dict[str, str]:
    """Return what there is to look at -> a file or a command, which can be pasted."""
    look = {}
    if (directory / "summary.json").exists():
        look = {"figures": f"{directory}/summary.json", "report": _typed("report", directory)}
    if (stage := next((name for name in _WITH_ROLLOUTS if name in models), None)) is not None:
        look["lineage"] = _typed("lineage", directory / stage)
        look["rollouts"] = _typed("rollouts", directory / stage)
    return look


def _typed(command: str, path: Path) -> str:
    return f"{program()} {shlex.join([command, str(path)])}"


_RECIPE = "r1_embedded"


def recipe_of(recipe: str | None, config: Path | None, resumed: Path | None) -> StagedRecipe:
    """Return what is given, or of a pipeline that goes on its own recipe."""
    from zerone.pipeline.r1 import r1_graph
    from zerone.pipeline.students import students_of
    from zerone.runs.directory import RECIPE_NAME

    if recipe or config or resumed is None or not (resumed / RECIPE_NAME).is_file():
        return read_staged_recipe(config or recipe_file(recipe or _RECIPE))
    staged = read_staged_recipe(resumed / RECIPE_NAME)
    students = students_of(staged.stages)
    left_out = tuple(name for name in r1_graph(students).names if name not in staged.stages)
    return replace(staged, students=students, left_out=left_out)


def lineage(
    model: Annotated[str, typer.Argument(help="a transformers directory, a run directory, or `embedded`")],
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False,
) -> None:
    """Show what a model was made from: models, data and seeds, back to the base."""
    from zerone.runs.lineage import lineage_of_model, model_directory, read_lineage

    found, told = lineage_of_model(model), read_lineage(model_directory(model))
    is_changed = told is not None and found.root != told.root  # a model of its own then
    if as_json:
        print(json.dumps(found.as_dict() | {"weights_have_changed": is_changed}, ensure_ascii=False))
        return
    console = Console()
    console.print(_tree(found, found.root, set()))
    if is_changed:
        console.print(f"the weights in {model} are not those that its lineage tells of", style="bold red")


def _tree(lineage: "Lineage", key: str, shown: set[str], role: str = "") -> "Tree":
    """Return a node and its parents; one that was shown before is only named."""
    from rich.text import Text
    from rich.tree import Tree

    node = lineage.nodes[key]
    label = Text(f"{role}: " if role else "")
    label.append(node.name, style="bold")
    label.append(f"  {node.kind}  {node.sha256[:12]}", style="dim")
    if key in shown:
        label.append("  (above)", style="dim")
        return Tree(label)
    shown.add(key)
    for told in (node.made_by, node.about):
        for line in _lines(told):
            label.append(f"\n{line}")
    tree = Tree(label)
    for parent_role, parent in node.inputs.items():
        tree.add(_tree(lineage, parent, shown, parent_role))
    return tree


_SHOWN = (
    "does",
    "what",
    "command",
    "seed",
    "zerone",
    "commit",
    "path",
    "family",
    "draw",
    "edited",
    "licence",
)


def _lines(told: Mapping[str, Any]) -> list[str]:
    lines = [f"{key}: {told[key]}" for key in _SHOWN if told.get(key) is not None]
    for entry in told.get("resumed") or ():
        lines.append("gone on with: " + ", ".join(f"{key} {value}" for key, value in entry.items()))
    options = told.get("options") or {}
    return lines + ([", ".join(f"{key}={value}" for key, value in options.items())] if options else [])
