"""`zerone eval ...`: measure a model, compare two measurements, look for a suite in training data.

In: a model directory or an address, a suite by name or file. Out: figures as text or JSON, and with
`--out` the record and all answers. `zerone eval MODEL` is short for `zerone eval model MODEL`.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from zerone.cli.arguments import ConfigFile, Overrides, refuse_both
from zerone.config import Config, build_config, parse_overrides, read_recipe
from zerone.config.recipes import recipe_file
from zerone.config.sections import SamplingConfig
from zerone.errors import ConfigError, DataError, FileError, UserError
from zerone.escaping import on_one_line
from zerone.files import read_json

if TYPE_CHECKING:
    from zerone.evals.protocol import Progress


class _ModelFirst(TyperGroup):
    """A group whose first command need not be named: `zerone eval MODEL`, `zerone eval --compare A B`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the name of the command before its arguments, where it is left out."""
        if args and args[0] == "--compare":
            args = ["compare", *args[1:]]
        elif args and args[0] not in self.commands and args[0] not in ("--help", "-h"):
            args = ["model", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_ModelFirst,
    no_args_is_help=True,
    help="Measure a model: zerone eval MODEL --suite NAME (options: zerone eval model --help).",
)

AsJson = Annotated[bool, typer.Option("--json", help="print one JSON object")]
SuiteData = Annotated[
    str | None, typer.Option("--data", help="file of a published suite, or `hub` to download it")
]


@app.command()
def model(  # noqa: PLR0913 - the flags of a command
    model: Annotated[
        str, typer.Argument(help="a transformers directory, a run directory, `embedded`, or http://HOST/v1")
    ],
    overrides: Overrides = None,
    suite: Annotated[
        str, typer.Option(help="mixed, hard (mini-aime), one of `zerone eval suites`, or a file")
    ] = "mixed",
    data: SuiteData = None,
    k: Annotated[
        int | None, typer.Option("--k", min=1, help="samples per problem", show_default="the suite's, or 4")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="directory for completions and record; an interrupted evaluation resumes there"),
    ] = None,
    as_json: AsJson = False,
    chat: Annotated[
        bool | None,
        typer.Option(
            "--chat/--no-chat", help="chat template or R1-Zero template", show_default="as the model"
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="the first N problems only")] = None,
    since: Annotated[str | None, typer.Option(help="contest problems from this date on")] = None,
    until: Annotated[str | None, typer.Option(help="contest problems up to this date")] = None,
    endpoint_model: Annotated[
        str | None, typer.Option("--model", help="name of the model at the address; key: ZERONE_API_KEY")
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, max=1024, help="requests at once")] = 8,
    tries: Annotated[int, typer.Option(min=1, help="how often a failing request is sent")] = 6,
    judge: Annotated[str | None, typer.Option(help="address of the judge; key: ZERONE_JUDGE_KEY")] = None,
    judge_model: Annotated[str | None, typer.Option(help="name of the judge model")] = None,
    baseline: Annotated[Path | None, typer.Option(help="responses to compare with (ArenaHard)")] = None,
    inspect_log: Annotated[
        Path | None, typer.Option(help="also write a log of inspect-ai, .json or .eval")
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="a recipe of the package", show_default="as the model's run, or zero", callback=refuse_both
        ),
    ] = None,
    config: ConfigFile = None,
) -> None:
    """Measure a model on a suite: pass@1, pass@k, cons@k, format, length, by level and by domain."""
    model = _directory_of(model)
    trained = _options_as_trained(model, suite)
    is_given = recipe is not None or config is not None
    options = read_recipe(config or recipe_file(recipe or "zero")) | ({} if is_given else trained or {})
    resolved, drawing = _resolve(suite, options, overrides or [])
    from zerone.evals.sources import Choice
    from zerone.jobs.evaluate import Patience, Wanted, measure_model

    wanted = Wanted(
        model=model,
        suite=suite,
        data=data,
        choice=Choice(since=since, until=until, limit=limit),
        num_samples=k,
        # Runs train in a template of their own, whatever else the tokenizer of their base has.
        is_chat=False if chat is None and trained is not None else chat,
        out=out,
        endpoint_model=endpoint_model,
        patience=Patience(concurrency=concurrency, tries=tries),
        judge=judge,
        judge_model=judge_model,
        baseline=baseline,
        drawing=drawing,
        inspect_log=inspect_log,
        fits_budget=not any(override.startswith("sampling.max_tokens=") for override in overrides or ()),
    )
    with _progress(is_shown=not as_json) as progress:
        record = measure_model(resolved, wanted, progress)
    if as_json:
        print(json.dumps(record))
    else:
        _show(record)


def _directory_of(model: str) -> str:
    """Return the directory of a model, of which a run may be given; an address as it is."""
    from zerone.jobs.evaluate import is_address
    from zerone.runs.settings import locate_model

    return model if is_address(model) else locate_model(model)[1]


def _options_as_trained(model: str, suite: str) -> dict[str, Any] | None:
    """Return how the model's run asked it; the package's own suites are drawn as in training, too."""
    from zerone.evals.suites import SUITE_NAMES
    from zerone.jobs.evaluate import is_address
    from zerone.jobs.origins import options_as_trained
    from zerone.model.loading import EMBEDDED

    if model == EMBEDDED or is_address(model):  # neither is a path, which may lie in a run by chance
        return None
    path = Path(model).expanduser().resolve()
    return options_as_trained(path, is_drawn_alike=suite in SUITE_NAMES)


def _resolve(
    suite: str, options: Mapping[str, Any], overrides: Sequence[str]
) -> tuple[Config, SamplingConfig]:
    """Return the options, and how to draw: outside of the embedded suites the paper's way by default.

    Greedy answers, top-p and top-k stand apart: training refuses them, evaluation does not.
    """
    from pydantic import ValidationError

    from zerone.evals.published import MAX_TOKENS, TEMPERATURE, TOP_P
    from zerone.evals.suites import SUITE_NAMES

    values = dict(options)
    if suite not in SUITE_NAMES:
        drawing = {"temperature": TEMPERATURE, "top_p": TOP_P, "max_tokens": MAX_TOKENS}
        values = {f"sampling.{key}": value for key, value in drawing.items()} | values
    values |= parse_overrides(overrides)
    names = ("temperature", "top_p", "top_k")
    apart = {name: values.pop(f"sampling.{name}") for name in names if f"sampling.{name}" in values}
    config = build_config(values)
    try:
        return config, SamplingConfig.model_validate(config.sampling.model_dump() | apart)
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(f"sampling.{first['loc'][0]}={first['input']!r}: {first['msg']}") from error


@contextmanager
def _progress(*, is_shown: bool) -> Iterator["Progress"]:
    """Show how many answers there are, on a terminal only."""
    console = Console(stderr=True)
    if not is_shown or not console.is_terminal:
        yield lambda done, total: None
        return
    from rich.progress import Progress as Bar

    with Bar(console=console, transient=True) as bar:
        task = bar.add_task("answers", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


_OF_SOME_SUITES = ("instructions", "pairwise", "rating")
"""Figures of a record that are tables, each of its own kind of suite."""


def _show(record: Mapping[str, Any]) -> None:
    console = Console(highlight=False, soft_wrap=True)
    low, high = record["pass_at_1_ci"]
    console.print(
        f"{on_one_line(record['suite'])}: pass@1 {record['pass_at_1']:.1%} ({low:.1%} to {high:.1%}), "
        f"no readable answer {record['unparsable']:.1%}, "
        f"{record['num_problems']} problems x {record['num_samples']}",
        markup=False,
    )
    for key, value in record.items():
        if isinstance(value, float) and key not in ("pass_at_1", "unparsable"):
            votes = f" of {record[f'{key}_n']} problems" if f"{key}_n" in record else ""
            console.print(f"  {key:<18} {value:.3f}{votes}")
    powers = record["pass_at_k"] | {f"{k}_ci": ci for k, ci in record["pass_at_k_ci"].items()}
    for key, figures in (("pass_at_k", powers), *((key, record.get(key, {})) for key in _OF_SOME_SUITES)):
        for line in _lines(figures):
            console.print(f"  {key} {on_one_line(line)}", markup=False)
    for part, found in record["parts"].items():
        low, high = found["ci"]
        shown = f"{part} {found['score']:.1%} ({low:.1%} to {high:.1%}), {found['n']} problems"
        console.print(f"  {on_one_line(shown)}", markup=False)
    for part in ("levels", "domains"):
        for cell, level in record[part].items():
            written = (
                f"{level['unparsable']:.0%} no readable answer, {level['response_tokens']:.0f} tokens, "
                f"{level['truncated']:.0%} cut off"
            )
            shown = f"{level['pass_at_1']:.1%} of {level['num_problems']}; {written}"
            console.print(f"  {on_one_line(cell):<32} {shown}", markup=False)
    if record.get("problems_left_out"):
        from zerone.evals.sources import counted

        console.print(f"  left out of the suite: {counted(record['problems_left_out'])}", markup=False)
    if record["verifier_errors"]:
        console.print(f"  {record['verifier_errors']} answers have no verdict and are in no share")


def _lines(figures: Mapping[str, Any]) -> Iterator[str]:
    """Yield figures one a line, each with its interval where it has one."""
    for name, value in figures.items():
        if name == "ci" or name.endswith("_ci") or value is None:
            continue
        shown = f"{value:.3f}" if isinstance(value, float) else value
        interval = figures.get("ci" if name == "value" else f"{name}_ci")
        between = f" ({interval[0]:.3f} to {interval[1]:.3f})" if interval else ""
        yield f"{name:<26} {shown}{between}"


@app.command()
def compare(
    a: Annotated[Path, typer.Argument(metavar="A.json", help="a record that --out wrote, or its directory")],
    b: Annotated[Path, typer.Argument(metavar="B.json", help="another record of the same suite")],
    as_json: AsJson = False,
) -> None:
    """Test whether two models differ on the same problems: paired bootstrap and exact test."""
    from zerone.evals.significance import compare as compare_shares

    record_a, record_b = _comparable(a, b)
    suite, shares_a, shares_b = record_a["suite"], record_a["problems"], record_b["problems"]
    found = compare_shares(shares_a, shares_b)
    left_out = len(shares_a.keys() ^ shares_b.keys())
    if as_json:
        print(
            json.dumps(
                {
                    "suite": suite,
                    **asdict(found),
                    "is_real": found.is_real,
                    "conclusion": found.conclusion,
                    "left_out": left_out,
                    "unparsable_a": record_a["unparsable"],
                    "unparsable_b": record_b["unparsable"],
                }
            )
        )
        return
    print(f"{on_one_line(suite)}, {found.num_problems} problems: A {found.mean_a:.1%}, B {found.mean_b:.1%}")
    shown = [
        "unknown" if one["unparsable"] is None else f"{one['unparsable']:.1%}" for one in (record_a, record_b)
    ]
    print(f"no readable answer: A {shown[0]}, B {shown[1]}")
    print(f"A better on {found.better_a}, B on {found.better_b}, equal on {found.equal} ({found.test})")
    print(found.conclusion)
    if left_out:
        print(f"{left_out} problems that only one of them has are left out")


def _comparable(a: Path, b: Path) -> list[dict[str, Any]]:
    """Return two records; raises UserError where they are not of one suite."""
    records = [_read_record(path) for path in (a, b)]
    names = [str(record["suite"]) for record in records]
    if names[0] != names[1]:
        raise UserError(f"{a} is of suite {names[0]!r} and {b} of {names[1]!r}; compare the same suite")
    return records


def _read_record(path: Path) -> dict[str, Any]:
    """Return a record; of a directory, the only one in it."""
    if path.is_dir():
        found = sorted(path.glob("*.json"))
        if len(found) != 1:
            raise UserError(
                f"{path} holds {len(found)} records; name one: {', '.join(p.name for p in found)}"
            )
        path = found[0]
    try:
        record = read_json(path)
        shares = {str(key): float(value) for key, value in record["problems"].items()}
        unparsable = record.get("unparsable")
        return {"suite": str(record["suite"]), "problems": shares, "unparsable": unparsable}
    except FileError as error:
        if not isinstance(error.__cause__, OSError):
            raise DataError(f"{path} is not a record of `zerone eval --out`: {error}") from error
        raise DataError(f"{error}; name a record that `zerone eval --out` wrote, or its directory") from error
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is not a record of `zerone eval --out`: {error!r}") from error


@app.command()
def contamination(
    train: Annotated[Path, typer.Argument(metavar="TRAIN.jsonl", help="training data")],
    suite: Annotated[str, typer.Option(help="a suite by name, or a file")],
    data: SuiteData = None,
    n: Annotated[int, typer.Option("--n", min=2, help="words in a row that must be shared")] = 10,
    as_json: AsJson = False,
) -> None:
    """Look for a suite's problems in training data: shared runs of ten words, as the paper did."""
    from zerone.data.records import read_rows
    from zerone.evals.contamination import find_contamination
    from zerone.evals.sources import Choice, load_source

    source = load_source(Config(), suite, data, Choice())
    found = find_contamination(read_rows(train), source.problems, n)
    if as_json:
        print(json.dumps({"suite": source.name, **asdict(found), "share": found.share}))
        return
    for overlap in found.overlaps:
        print(f"{overlap.problem}  {overlap.place}  ({overlap.num_places} lines)  {overlap.words}")
    print(
        f"{len(found.overlaps)} of {found.num_problems} problems of {source.name} ({found.share:.1%}) share "
        f"{n} words in a row with {found.num_hit} of {found.num_lines} lines of {train}"
    )


@app.command()
def suites() -> None:
    """List the suites: the package's own, and the published ones with the paper's k."""
    from zerone.evals.published import PUBLISHED
    from zerone.evals.suites import SUITE_NAMES

    for name in SUITE_NAMES:
        print(f"{name:<14} in the package")
    for published in PUBLISHED.values():
        print(f"{published.name:<14} {published.title}; k = {published.num_samples}; --data FILE or hub")
