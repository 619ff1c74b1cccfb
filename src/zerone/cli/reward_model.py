"""`zerone reward-model ...`: train one, measure it on other data, score a response.

In: preferences in JSONL, a recipe, `key=value`. Out: a run directory with the model, figures as text or
JSON. Heavy imports wait inside the commands.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from zerone.cli.arguments import ConfigFile, DryRun, Overrides, Resume, RunRecipe
from zerone.config import build_config, read_recipe, to_yaml
from zerone.config.recipes import RUN_OPTIONS, recipe_file, run_path
from zerone.errors import ConfigError, DataError

app = typer.Typer(help="Train and use reward models, which learn from preferences.", no_args_is_help=True)


@app.command()
def train(
    file: Annotated[Path, typer.Argument(metavar="FILE.jsonl", help="pairs, or safety examples")],
    overrides: Overrides = None,
    run_dir: Annotated[
        Path | None, typer.Option(help="directory of the run", show_default="runs/reward_model-N")
    ] = None,
    resume: Resume = False,
    recipe: RunRecipe = None,
    config: ConfigFile = None,
    dry_run: DryRun = False,
) -> None:
    """Train a helpfulness model on pairs, or a safety model on labelled responses."""
    if any(text.removeprefix("--").startswith("data.path=") for text in overrides or ()):
        raise ConfigError(f"the file is given twice, as {file} and as data.path; leave out data.path")
    kept = run_dir / RUN_OPTIONS if resume and run_dir is not None and not (recipe or config) else None
    flat = read_recipe(kept if kept and kept.is_file() else config or recipe_file(recipe or "zero"))
    resolved = build_config(flat | {"data.path": str(file)}, overrides or ())
    if dry_run:
        print(to_yaml(resolved), end="")
        from zerone.jobs.trial import try_reward_model

        print(f"# {try_reward_model(resolved)}")
        return
    path = run_path(run_dir, resume, "reward_model")
    from zerone.reward_model.run import train_reward_model
    from zerone.runs.directory import RunDir

    run = RunDir(path)
    summary = train_reward_model(resolved, run, resume, lambda line: print(line, flush=True))
    _show(summary["final"])
    print(f"model: {run.model_path.resolve()}")


@app.command()
def data(
    out: Annotated[Path, typer.Option(help="where the rows are written (JSONL)")],
    kind: Annotated[str, typer.Option(help="helpfulness or safety")] = "helpfulness",
    count: Annotated[int, typer.Option(min=1, help="rows")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="random seed")] = 0,
    held_out: Annotated[bool, typer.Option("--held-out", help="make them from held-out requests")] = False,
) -> None:
    """Make preferences of the embedded world: pairs, or labelled responses."""
    from zerone.reward_model.embedded import embedded_rows
    from zerone.runs.directory import write_atomically

    if kind not in ("helpfulness", "safety"):
        raise ConfigError(f"--kind {kind!r} is not known; there are helpfulness and safety")
    rows = embedded_rows(
        "safety" if kind == "safety" else "helpfulness", count, seed, "eval" if held_out else "train"
    )
    write_atomically(out, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    print(f"{count} rows of {kind}: {out}")


@app.command()
def judge(
    file: Annotated[Path, typer.Argument(metavar="FILE.jsonl", help='pairs: {"prompt", "a", "b"}')],
    by: Annotated[str, typer.Option(metavar="URL#MODEL", help="the judge, at an OpenAI-compatible endpoint")],
    out: Annotated[Path, typer.Option(help="where judged pairs are appended (JSONL); resumed if it exists")],
    judgments: Annotated[
        int, typer.Option(min=2, max=64, help="verdicts per pair, half with each first")
    ] = 4,
    seed: Annotated[int, typer.Option(min=0, help="random seed of the judge's sampling")] = 0,
) -> None:
    """Have a language model judge pairs by a rubric, in both positions."""
    from zerone.reward_model.by_endpoint import judge_endpoint
    from zerone.reward_model.pair_judging import judge_pairs

    found = judge_pairs(judge_endpoint(by, "--by"), file, out, judgments, seed)
    print(f"judged        {found.judged}, and {found.judged_before} before: {out}")
    print(f"no verdict    {found.without_verdict}")
    if found.bias is not None:
        low, high = found.bias.first_wins_ci
        print(f"first wins    {found.bias.first_wins:.1%} [{low:.1%}, {high:.1%}]")
        print(f"consistent    {found.bias.consistent:.1%} when swapped")
        if found.bias.is_biased:
            print("              THE JUDGE GOES BY POSITION")


@app.command("eval")
def eval_(
    model: Annotated[Path, typer.Argument(help="a reward model or its run directory")],
    file: Annotated[Path, typer.Argument(metavar="FILE.jsonl", help="pairs or safety examples")],
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False,
) -> None:
    """Measure a reward model: accuracy, calibration, what length does to it."""
    from zerone.data.preferences import read_examples
    from zerone.reward_model.run import fitting, measure
    from zerone.reward_model.scorer import load_reward_model

    kind, examples = read_examples(file)
    loaded = load_reward_model(model)
    if loaded.kind != kind:
        raise DataError(f"{model} judges {loaded.kind} and {file} is about {kind}; give a file of its kind")
    measured = fitting(loaded, examples)
    if len(measured) < len(examples):
        left_out = len(examples) - len(measured)
        print(f"left out: {left_out} of {len(examples)} longer than the model's context", file=sys.stderr)
    if not measured:
        raise DataError(f"every line of {file} exceeds the context of {model}; give shorter ones")
    figures = measure(loaded, measured)
    if as_json:
        print(json.dumps(figures))
    else:
        _show(figures)


@app.command()
def score(
    model: Annotated[Path, typer.Argument(help="a reward model or its run directory")],
    prompt: Annotated[str, typer.Option(help="the prompt")],
    response: Annotated[str, typer.Option(help="the response, with its reasoning if there is one")],
) -> None:
    """Score one response: the score, and the reward from 0 to 1 that RL would give."""
    from zerone.reward_model.scorer import load_reward_model

    loaded = load_reward_model(model)
    asked = [(prompt, response)]
    found = {"kind": loaded.kind, "score": loaded.scores(asked)[0], "reward": loaded.rewards(asked)[0]}
    print(json.dumps(found))


def _show(figures: Mapping[str, Any]) -> None:
    low, high = figures["accuracy_ci"]
    print(f"accuracy     {figures['accuracy']:.1%} [{low:.1%}, {high:.1%}]")
    print(f"calibration  error {figures['ece']:.3f}")
    for part in figures["bins"]:
        print(f"             said {part['said']:.2f}  came {part['came']:.2f}  ({part['num']})")
    length = figures["length"]
    if length["correlation"] is not None:
        print(f"length       correlation of score and length {length['correlation']:+.2f}")
    for name, what in (("longer", "longer"), ("shorter", "shorter")):
        accuracy = length.get(f"accuracy_better_is_{name}")
        if accuracy is not None:
            count = length[f"num_better_is_{name}"]
            print(f"             right where the better answer is {what}: {accuracy:.1%} of {count}")
    if length.get("is_biased"):
        print("             THE MODEL GOES BY LENGTH")
