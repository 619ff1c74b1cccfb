"""`zerone data ...`: build a cold start, sample SFT data from a model, look through data by hand.

In: options, model directories, files. Out: JSONL for `zerone sft`, each with its data card. Heavy
imports wait inside the commands.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from zerone.cli.arguments import ConfigFile, DryRun, Overrides, Recipe
from zerone.config import Config, to_yaml
from zerone.config.recipes import resolve_config
from zerone.escaping import on_one_line
from zerone.files import refuse_overwriting

app = typer.Typer(help="Make data for SFT, and look through it.", no_args_is_help=True)

Out = Annotated[Path, typer.Option(help="the JSONL to write; the same command resumes it")]


@app.command()
def cold_start(
    out: Out,
    overrides: Overrides = None,
    zero: Annotated[Path | None, typer.Option(help="an R1-Zero model to sample from")] = None,
    examples: Annotated[
        Path | None,
        typer.Option(help="worked examples for few-shot prompts (JSONL: question, thought, answer)"),
    ] = None,
    config: ConfigFile = None,
    dry_run: DryRun = False,
) -> None:
    """Build a small, high-quality SFT set from R1-Zero's completions, few-shot prompts and designed cases."""
    resolved = resolve_config("cold_start", config, overrides)
    if dry_run:
        print(to_yaml(resolved), end="")
        return
    from zerone.curation.settings import make_cold_start

    _refuse_inputs(out, resolved, zero, examples, config)
    card = make_cold_start(resolved, out, None if zero is None else str(zero), examples, _show)
    _print_card(card, out)


@app.command()
def reject_sample(
    out: Out, overrides: Overrides = None, config: ConfigFile = None, dry_run: DryRun = False
) -> None:
    """Build an SFT set by rejection sampling from model.path, a model after reasoning RL."""
    resolved = resolve_config("reject_sample", config, overrides)
    if dry_run:
        print(to_yaml(resolved), end="")
        return
    from zerone.curation.settings import make_rejection_samples

    _refuse_inputs(out, resolved, config)
    _print_card(make_rejection_samples(resolved, out, _show), out)


@app.command()
def pass_rates(
    overrides: Overrides = None,
    out: Annotated[
        Path | None,
        typer.Option(help="the JSONL to write [default: DATA.pass_rates.jsonl, beside a local file]"),
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="completions drawn for each problem")] = 8,
    recipe: Recipe = "zero",
    config: ConfigFile = None,
    dry_run: DryRun = False,
) -> None:
    """Measure how often model.path solves each problem of data.path; `data.pass_rates` then filters by it."""
    resolved = resolve_config(recipe, config, overrides)
    if dry_run:
        print(to_yaml(resolved), end="")
        return
    from zerone.curation.pass_rates import measure_pass_rates, path_beside

    path = out or path_beside(resolved)
    _refuse_inputs(path, resolved, config)
    card = measure_pass_rates(resolved, path, samples, _show)
    counts = ", ".join(f"{count} {fate}" for fate, count in card["counts"].items() if count)
    print(f"{card['problems']} problems: {counts}")
    print(f"rates:   {path.resolve()}")
    print(f"train:   zerone zero data.pass_rates={path} and the same data options")


@app.command()
def review(
    file: Annotated[Path, typer.Argument(metavar="FILE.jsonl", help="the data to look through")],
    out: Annotated[
        Path | None, typer.Option(help="where accepted samples go", show_default="FILE.reviewed.jsonl")
    ] = None,
) -> None:
    """Accept, reject or edit samples by hand; the next call resumes where this one stopped."""
    from zerone.curation.review import Review, review_all

    work = Review(file, out or file.with_suffix(".reviewed.jsonl"))
    review_all(work, Console(highlight=False))
    counts = work.counts()
    print(
        f"{counts['accepted']} accepted ({counts['edited']} edited), {counts['rejected']} rejected, "
        f"{counts['open']} to go -> {work.out_path}"
    )


def _refuse_inputs(out: Path, resolved: Config, *others: Path | None) -> None:
    """Raise FileError where what is written for a data set is something that it is made from."""
    written = (out, *(out.with_name(f"{out.stem}.card.{kind}") for kind in ("json", "md")))
    written += tuple(out.with_name(f"{out.name}.{kind}") for kind in ("part", "journal"))
    for path in written:
        refuse_overwriting({"--out": path}, [resolved.data.path, *others])


def _show(share: float, line: str) -> None:
    print(line, file=sys.stderr)


def _print_card(card: Mapping[str, Any], path: Path) -> None:
    console = Console(highlight=False)
    for row in card["table"]:
        console.print(
            f"{on_one_line(row['domain']):<8} {row['samples']:>8} samples  {row['rounds']:>4} rounds  "
            f"{row['tokens']:>8} tokens",
            markup=False,
        )
    print(f"dropped: {json.dumps(card['dropped'])}")
    print(f"data:    {path.resolve()}")
    print(f"card:    {path.with_name(f'{path.stem}.card.md').resolve()}")
