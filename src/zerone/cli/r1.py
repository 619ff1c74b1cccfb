"""`zerone r1` and `zerone lineage`: the whole pipeline, and where a model comes from.

In: a recipe with a section `stages`, a directory, which stages. Out: the pipeline's directory; a
table, a tree or JSON. Heavy imports wait inside the commands.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from zerone.cli.arguments import ConfigFile, DryPlan, Recipe
from zerone.config.recipes import new_run_path, recipe_file
from zerone.config.staged import build_stage_configs, read_staged_recipe
from zerone.errors import ConfigError

if TYPE_CHECKING:
    from rich.tree import Tree

    from zerone.runs.lineage import Lineage


def r1(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[[STAGE.]KEY=VALUE]...", help="dotted overrides, for all stages or one"),
    ] = None,
    run_dir: Annotated[
        Path | None, typer.Option(help="where the pipeline is kept [default: runs/RECIPE-N]")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="go on with the pipeline in --run-dir")] = False,
    start: Annotated[
        str | None, typer.Option("--from", metavar="STAGE", help="do this stage and all after it again")
    ] = None,
    only: Annotated[str | None, typer.Option(metavar="STAGE", help="do nothing but this stage")] = None,
    recipe: Recipe = "r1_embedded",
    config: ConfigFile = None,
    dry_run: DryPlan = False,
) -> None:
    """R1: all stages from the base model to the last, each done once."""
    if (resume or start) and run_dir is None:
        raise ConfigError("--resume and --from need --run-dir DIR, the pipeline to go on with")
    from zerone.cli.pipeline_progress import PipelineView, plan_table
    from zerone.pipeline.r1 import r1_graph
    from zerone.pipeline.run import Pipeline, Selection

    staged = read_staged_recipe(config or recipe_file(recipe))
    graph = r1_graph(*([staged.students] if staged.students else []))
    configs = build_stage_configs(staged, graph.names, overrides or ())
    directory = run_dir or new_run_path(recipe)
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
    for stage, model in summary["models"].items():
        if "path" not in model:  # measured once, and now to be made again
            continue
        console.print(f"{stage:<10} {model['path']}", highlight=False, soft_wrap=True)
    look = {"origins": f"zerone lineage {directory}/STAGE", "answers": f"zerone rollouts {directory}/STAGE"}
    if (directory / "summary.json").exists():
        look = {"figures": f"{directory}/summary.json", "page": f"zerone report {directory}"} | look
    for what, where in look.items():
        console.print(f"{what:<10} {where}", highlight=False, soft_wrap=True)


def lineage(
    model: Annotated[str, typer.Argument(help="a transformers directory, a run directory, or `embedded`")],
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False,
) -> None:
    """Show what a model was made from: parents, data and seeds, back to the base."""
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
