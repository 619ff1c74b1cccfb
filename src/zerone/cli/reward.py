"""`zerone reward ...`: try a verifier, score a file, look through a file of problems.

In: completions and golds from the command line or JSONL. Out: verdicts as text or JSONL. Nothing here
needs a model or a run; `zerone reward audit`, which needs one, is in cli/main.py.
"""

import json
import os
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer

from zerone.cli.process import is_output_lost
from zerone.errors import UserError, ZeroneError
from zerone.escaping import on_one_line
from zerone.files import refuse_overwriting, written_whole

app = typer.Typer(help="Try, score and check rewards.", no_args_is_help=True)

_CHUNK = 256
"""Rows in work at once: what waits in memory, and what an interruption loses."""


@app.command()
def test(
    name: Annotated[str, typer.Option(help="a verifier, format, language, or path.py:function")],
    completion: Annotated[str, typer.Option(help="the completion; - reads standard input")],
    gold: Annotated[str | None, typer.Option(help="the ground truth, or the language")] = None,
    option: Annotated[
        list[str] | None, typer.Option(help="the verifier's own options, KEY=JSON; may be repeated")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False,
) -> None:
    """Check one completion with a verifier; exit code 1 if there is no verdict."""
    from zerone.rewards.scoring import score_row

    if completion == "-":
        completion = sys.stdin.buffer.read().decode("utf-8", "replace")
    row = {"id": "test", "verifier": name, "completion": completion} | _options(option or [])
    if gold is not None:
        row["answer"] = gold
    scored = score_row(row, frozenset([name] if ":" in name else []))
    if as_json:
        print(json.dumps(scored))
    else:
        for key, value in scored.items():
            if key != "id":
                print(f"{key:<10} {on_one_line(value) if isinstance(value, str) else json.dumps(value)}")
    raise typer.Exit(1 if scored["outcome"] == "infrastructure_error" else 0)


def _options(options: Iterable[str]) -> dict[str, Any]:
    from zerone.data.jsonl import parse_json

    found: dict[str, Any] = {}
    for option in options:
        key, equals, value = option.partition("=")
        if not equals:
            raise UserError(f"--option {option!r}: write KEY=VALUE, as in style=boxed")
        try:
            found[key] = parse_json(value)
        except ValueError:
            found[key] = value
    return found


@app.command()
def score(
    file: Annotated[str, typer.Argument(metavar="FILE.jsonl", help="rows to score; - is stdin")],
    out: Annotated[str, typer.Option(help="where the scored rows go; - is stdout")] = "-",
    function: Annotated[
        list[str] | None, typer.Option(help="path.py:function that rows may name as their verifier")
    ] = None,
) -> None:
    """Score a file of completions, row by row, in order."""
    from zerone.data.files import numbered_rows
    from zerone.rewards.user import load_user_reward

    functions = frozenset(function or [])
    for reference in functions:
        load_user_reward(reference)  # what cannot be loaded stops here
    sources = [None if file == "-" else file, *(reference.rpartition(":")[0] for reference in functions)]
    refuse_overwriting({"--out": None if out == "-" else Path(out)}, sources)
    with ExitStack() as stack:
        source = _open_source(file, stack)
        target = _open_target(out, stack)
        progress = _progress(file, stack)
        counts: dict[str, int] = {}
        rows = (line for _, line in numbered_rows(source, "stdin" if file == "-" else file))
        for scored, num_bytes in score_lines(rows, functions):
            target.write(json.dumps(scored) + "\n")
            counts[scored["outcome"]] = counts.get(scored["outcome"], 0) + 1
            progress(num_bytes)
            if out == "-" and is_output_lost():
                raise ZeroneError(f"standard output is closed; {sum(counts.values())} rows were scored")
        target.flush()
    summary = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items()))
    print(f"{sum(counts.values())} rows: {summary or 'none'}", file=sys.stderr)


def score_lines(
    lines: Iterable[bytes], functions: frozenset[str] = frozenset()
) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield the scored row of each line that is not blank, in order, and the bytes read for it."""
    remaining, to_row = iter(lines), partial(_score_line, functions=functions)
    # Verifiers that wait for another process (math, code) keep all cores busy this way.
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        while chunk := list(islice(remaining, _CHUNK)):
            filled = [line for line in chunk if line.strip()]
            for line, scored in zip(filled, pool.map(to_row, filled), strict=True):
                yield scored, len(line)


def _score_line(line: bytes, functions: frozenset[str]) -> dict[str, Any]:
    from zerone.data.jsonl import parse_json
    from zerone.rewards.scoring import failed_row, score_row

    try:
        row = parse_json(line.decode("utf-8", "replace"))
    except (ValueError, RecursionError) as error:
        return failed_row(None, f"not usable JSON: {error}")
    if not isinstance(row, dict):
        return failed_row(None, f"a JSON object is needed, not {type(row).__name__}")
    return score_row(row, functions)


def _open_source(file: str, stack: ExitStack) -> BinaryIO:
    if file == "-":
        return sys.stdin.buffer
    try:
        return stack.enter_context(Path(file).open("rb"))
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}") from error


def _open_target(out: str, stack: ExitStack) -> Any:
    if out == "-":
        return sys.stdout
    return stack.enter_context(written_whole(Path(out)))


def _progress(file: str, stack: ExitStack) -> Any:
    """Return a function that takes the bytes done; it shows a bar where someone watches."""
    if not sys.stderr.isatty():
        return lambda num_bytes: None
    from rich.console import Console
    from rich.progress import Progress

    bar = stack.enter_context(Progress(console=Console(stderr=True)))
    task = bar.add_task("scoring", total=None if file == "-" else Path(file).stat().st_size)
    return lambda num_bytes: bar.advance(task, num_bytes)


_FOR_WHICH_MODEL = (
    "note: the embedded model knows only its own world (countdown, word problems, sums, small functions) and "
    "solves next to nothing else; for other problems give a pretrained model by model.path=DIR"
)


@app.command()
def check(
    data: Annotated[str, typer.Argument(metavar="DATA", help="problems, as data.path names them")],
    prompt_field: Annotated[str, typer.Option(help="field of the prompt")] = "prompt",
    answer_field: Annotated[str, typer.Option(help="field of the ground truth")] = "answer",
    answer_pattern: Annotated[
        str | None, typer.Option(help="regular expression whose first group is the ground truth")
    ] = None,
    choices_field: Annotated[str, typer.Option(help="field of the list of choices")] = "choices",
    verifier: Annotated[str, typer.Option(help="auto, number, exact, choice, math or code")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False,
) -> None:
    """List every line of a problem file that could not be trained on; exit code 2 if there is one."""
    from zerone.data.jsonl import NAMED_VERIFIERS, Fields, read_lines
    from zerone.rewards.ground_truth import gold_complaint, reasons_of

    if verifier not in ("auto", *NAMED_VERIFIERS):
        known = ", ".join(("auto", *NAMED_VERIFIERS))
        raise UserError(f"--verifier {verifier!r} is not known; there are {known}")
    fields = Fields(
        prompt=prompt_field,
        answer=answer_field,
        answer_pattern=answer_pattern,
        choices=choices_field,
        verifier=verifier,
    )
    found, by_verifier = dict[str, dict[str, Any]](), dict[str, int]()
    num_lines = 0
    for read, problem in read_lines(data, fields):
        num_lines += 1
        if isinstance(problem, UserError):
            complaint: str | None = str(problem).removeprefix(f"{read.place}: ")
        else:
            by_verifier[problem.verifier] = by_verifier.get(problem.verifier, 0) + 1
            complaint = gold_complaint(problem)
        if complaint is not None:
            found[read.place] = {"line": read.number, "complaint": complaint}
    unusable = list(found.values())
    reasons = reasons_of(line["complaint"] for line in unusable)
    result = {"lines": num_lines, "verifiers": by_verifier, "unusable": unusable, "reasons": reasons}
    if as_json:
        print(json.dumps(result))
    else:
        for place, line in found.items():
            print(on_one_line(f"{place}: {line['complaint']}"))
        for reason, count in reasons.items():
            print(on_one_line(f"{count:>6} unusable: {reason}"))
        kinds = ", ".join(f"{count} {name}" for name, count in sorted(by_verifier.items()))
        print(f"{num_lines} lines ({kinds or 'no problem'}), {len(found)} unusable")
        print(_FOR_WHICH_MODEL, file=sys.stderr)
    raise typer.Exit(2 if found or not num_lines else 0)
