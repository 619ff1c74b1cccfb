"""`zerone sandbox ...`: run a program under limits, and see what isolation there is here.

In: files. Out: text, or one JSON object as the last line. Exit codes: 0 the program passed, 1 it
did not, 2 it was not run.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zerone.errors import DataError, SandboxError, SandboxUnavailable
from zerone.escaping import marked, on_one_line, visible
from zerone.sandbox.execution import MIB, Execution, Executor, Kind, Limits

if TYPE_CHECKING:
    from zerone.sandbox.unit_tests import Report, Suite

app = typer.Typer(help="Run untrusted programs under hard limits.", no_args_is_help=True)

Backend = Annotated[str, typer.Option(help="auto, bubblewrap or namespaces")]


@app.command()
def run(
    program: Annotated[Path, typer.Argument(metavar="PROGRAM.py", help="the program, never trusted")],
    tests: Annotated[
        Path | None, typer.Option(help="its tests (JSON); without any it runs on this standard input")
    ] = None,
    memory_mib: Annotated[int, typer.Option(min=16, help="memory of all its processes")] = 256,
    wall_s: Annotated[float, typer.Option(min=0.05, max=3600.0, help="seconds for all its tests")] = 10.0,
    processes: Annotated[int, typer.Option(min=1, max=1000, help="processes and threads at once")] = 32,
    backend: Backend = "auto",
    remote: Annotated[str | None, typer.Option(help="address of a remote executor instead")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object as the last line")] = False,
) -> None:
    """Run a program in the sandbox and check its results against its tests."""
    from zerone.sandbox.unit_tests import CodeVerdict, read_suite, run_suite

    limits = Limits(memory_bytes=memory_mib * MIB, wall_s=wall_s, processes=processes)
    limits = replace(limits, scratch_bytes=min(limits.scratch_bytes, limits.memory_bytes))
    source = _read_program(program)
    suite = read_suite(tests) if tests is not None else _suite_of_stdin()
    executor = _executor(backend, remote)
    try:
        report = run_suite(source, suite, executor, limits)
    except SandboxError as error:
        if not as_json:
            raise
        print(json.dumps({"verdict": "refused", "passed": 0, "total": suite.total, **_no_run(str(error))}))
        raise typer.Exit(2) from error
    if as_json:
        print(json.dumps(_as_json(report)))
    else:
        _show(report, shows_output=tests is None)
    raise typer.Exit({CodeVerdict.PASS: 0, CodeVerdict.REFUSED: 2}.get(report.verdict, 1))


def _read_program(path: Path) -> str:
    try:
        # Bytes that are no UTF-8 go inside as they are; Python there says what it thinks of them.
        return path.read_bytes().decode("utf-8-sig", "surrogateescape")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error


def _suite_of_stdin() -> "Suite":
    from zerone.sandbox.unit_tests import Suite

    given = "" if sys.stdin.isatty() else sys.stdin.buffer.read().decode("utf-8", "surrogateescape")
    return Suite(kind=Kind.STDIN, entry="", setup="", inputs=(given,), expected=(None,))


def _executor(backend: str, remote: str | None) -> Executor:
    if remote is not None:
        from zerone.sandbox.remote import RemoteExecutor, token_from_environment

        return RemoteExecutor(remote, token_from_environment())
    from zerone.sandbox.pool import SandboxPool

    return SandboxPool(num_benches=1, backend=backend)


def _no_run(message: str) -> dict[str, Any]:
    return {
        "wall_s": 0.0,
        "judge_s": 0.0,
        "peak_bytes": None,
        "backend": None,
        "message": message,
        "tests": [],
    }


def _as_json(report: "Report") -> dict[str, Any]:
    fields: dict[str, Any] = {
        "verdict": report.verdict.value,
        "passed": report.passed,
        "total": report.total,
        "judge_s": round(report.judge_s, 6),
    }
    execution = report.execution
    if execution is None:
        return fields | _no_run(report.message) | {"tests": list(report.tests)}
    return fields | {
        "wall_s": round(execution.wall_s, 6),
        "peak_bytes": execution.peak_bytes,
        "backend": execution.backend,
        "message": report.message,
        "tests": list(report.tests),
    }


def _show(report: "Report", *, shows_output: bool) -> None:
    execution = report.execution
    if execution is not None and shows_output:
        _show_output(execution)
    for number, test in enumerate(report.tests, 1):
        if not shows_output:
            print(f"test {number}: {on_one_line(test)}")
    message = on_one_line(report.message)
    print(f"{report.verdict.value}: {report.passed} of {report.total} passed {message}".rstrip())
    if execution is not None:
        peak = "unknown" if execution.peak_bytes is None else f"{execution.peak_bytes / MIB:.1f} MiB"
        judged = f"judged in {report.judge_s * 1000:.1f} ms of processor time"
        print(f"{execution.wall_s * 1000:.1f} ms, {peak}, {execution.backend}; {judged}")


def _show_output(execution: Execution) -> None:
    """Show what the program printed, line by line behind a mark, so that it cannot pass for a verdict."""
    from zerone.sandbox.values import Malformed, parse_line

    for line in execution.results:
        try:
            parsed = parse_line(line)
        except Malformed:
            break
        match parsed:
            case [int(), "output", int(), str(output)]:
                sys.stdout.write(marked(output))
    sys.stdout.flush()
    sys.stderr.write(marked(execution.stderr))


@app.command()
def doctor(backend: Backend = "auto") -> None:
    """Run the sandbox's self-test on this machine, and say how to enable what is missing."""
    from zerone.sandbox.factory import BACKENDS, Nursery
    from zerone.sandbox.pool import HOW_TO_ENABLE
    from zerone.sandbox.self_test import examine_promises

    works = False
    for name in BACKENDS if backend == "auto" else (backend,):
        try:
            nursery = Nursery(name)
        except SandboxUnavailable as error:
            print(f"!!  {name}: {visible(str(error))}")
            continue
        try:
            print(f"    {nursery.backend}")
            findings = examine_promises(nursery)
        finally:
            nursery.close()
        for finding in findings:
            print(f"{'ok' if finding.is_kept else '!!'}  {finding.promise:<58} {on_one_line(finding.detail)}")
        works = works or all(finding.is_kept for finding in findings)
    if not works:
        print(HOW_TO_ENABLE)
    raise typer.Exit(0 if works else 1)
