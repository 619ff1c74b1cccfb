"""`zerone distill`: smaller students learn from a teacher, and are compared with themselves without one.

In: a teacher, students (names of the package, or directories of models), a recipe. Out: a pipeline's
directory with a stage for each student's base, SFT and RL, and a table. Heavy imports wait inside the
command.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from zerone.cli.arguments import ConfigFile, DryPlan, KeptIn, Recipe, Resume, tell_repeated
from zerone.config.recipes import recipe_file, run_path
from zerone.config.staged import StagedRecipe, build_stage_configs, is_given, read_staged_recipe
from zerone.errors import ConfigError

if TYPE_CHECKING:
    from zerone.config import Config
    from zerone.pipeline.graph import Source


def distill(
    teacher: Annotated[str, typer.Argument(help="the teacher: a directory, or `embedded`")],
    given: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[STUDENT]... [[STAGE.]KEY=VALUE]...",
            help="students by name or directory; dotted overrides",
            show_default="the recipe's",
            callback=tell_repeated,
        ),
    ] = None,
    run_dir: KeptIn = None,
    resume: Resume = False,
    on_policy: Annotated[
        bool,
        typer.Option("--on-policy", help="then train each student on its own completions, by reverse KL"),
    ] = False,
    recipe: Recipe = "distill",
    config: ConfigFile = None,
    dry_run: DryPlan = False,
) -> None:
    """Distil a teacher into students, each beside its own base and the same base after RL alone."""
    directory = run_path(run_dir, resume, recipe)
    from zerone.cli.pipeline_progress import PipelineView, plan_table
    from zerone.pipeline.distillation import SAMPLES, distillation_stages
    from zerone.pipeline.graph import Graph
    from zerone.pipeline.run import Pipeline, Selection
    from zerone.pipeline.students import DEFAULT_STUDENTS, model_source

    staged = read_staged_recipe(config or recipe_file(recipe))
    overrides = [argument for argument in given or () if "=" in argument]
    named = [argument for argument in given or () if "=" not in argument]
    students = _by_name(named or staged.students or DEFAULT_STUDENTS)
    source = model_source(teacher, "teacher")
    bases = {name: base for name, base in students.items() if base is not None}
    graph = Graph(stages=distillation_stages(source, tuple(students), bases, on_policy=on_policy))
    beneath, prompt_from = _teachers_prompt(source, staged, graph.names, overrides)
    configs = build_stage_configs(staged, graph.names, overrides, beneath)
    _check_models(directory, source, students, graph.names, configs, on_policy=on_policy)
    pipeline = Pipeline(graph, configs, directory, Selection())
    console = Console()
    shown = "  ".join(f"{key} {value}" for key, value in configs[SAMPLES].prompt.model_dump().items())
    console.print(f"prompt of teacher and students: {shown}  ({prompt_from})", soft_wrap=True, markup=False)
    if dry_run:
        console.print(plan_table(pipeline.plan()))
        return
    with PipelineView(console) as view:
        summary = pipeline.run(resume, view)
    _print_students(console, summary)
    console.print(f"students: {directory.resolve()}", highlight=False, soft_wrap=True)


def _check_models(
    directory: Path,
    teacher: "Source",
    students: "Mapping[str, Source | None]",
    stages: Sequence[str],
    configs: "Mapping[str, Config]",
    *,
    on_policy: bool,
) -> None:
    """Refuse, before any work, models that do not fit each other or what the directory holds."""
    from zerone.pipeline.distillation import refuse_other_models, require_one_tokenizer

    refuse_other_models(directory, teacher, stages, configs)
    if on_policy:
        require_one_tokenizer(teacher, students, configs)


def _teachers_prompt(
    teacher: "Source", staged: StagedRecipe, names: Sequence[str], overrides: Sequence[str]
) -> tuple[dict[str, dict[str, Any]], str]:
    """Return the options by stage that say how the teacher was trained to be asked, and where they are from.

    Its run knows, and what the user or the recipe says of the prompt wins.
    """
    from zerone.jobs.origins import prompt_of_model
    from zerone.pipeline.distillation import SAMPLES, in_teachers_prompt

    if is_given("prompt", staged, SAMPLES, names, overrides):
        return {}, "as given"
    prompt = None if teacher.path is None else prompt_of_model(teacher.path)
    if prompt is None:
        return {}, "the default, as the teacher lies in no run; set prompt.style if it was trained in another"
    options = {f"prompt.{key}": value for key, value in prompt.model_dump().items()}
    return {name: options for name in names if in_teachers_prompt(name)}, "of the teacher's own run"


def _by_name(given: Sequence[str]) -> "dict[str, Source | None]":
    """Return the students by name; one that is named by a directory has its base already."""
    from zerone.pipeline.students import STUDENTS, model_source, name_of_directory

    students: dict[str, Source | None] = {}
    for argument in given:
        name = argument if argument in STUDENTS else name_of_directory(argument)
        if name in students:
            raise ConfigError(f"two students are named {name}; rename the directory of one of them")
        students[name] = None if argument in STUDENTS else model_source(argument, name)
    return students


def _print_students(console: Console, summary: Mapping[str, Any]) -> None:
    from rich.table import Table

    table = Table(box=None)
    ways = ("base", "distilled", "direct_rl", "on_policy")
    shown = [way for way in ways if any(f"{way}_score" in student for student in summary["students"])]
    for column in ("model", "parameters", *shown):
        is_name = column == "model"
        table.add_column(
            column.replace("_", " "), justify="left" if is_name else "right", no_wrap=not is_name
        )
    for student in summary["students"]:
        cells = [_score(student[f"{way}_score"]) for way in shown]
        table.add_row(student["name"], f"{student['parameters']:,}", *cells)
    about = summary["distillation"]
    for model in (about["bases"][-1], about["teacher"]):
        name = PurePath(model["name"]).name
        table.add_row(name, f"{model['parameters']:,}", _score(model["score"]))
    console.print(table)


def _score(found: Mapping[str, Any]) -> str:
    low, high = found["ci"]
    return f"{found['score']:.1%}\n{100 * low:.1f}-{100 * high:.1f}"
