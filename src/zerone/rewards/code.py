"""Accuracy of programs: the answer is run in the sandbox on the problem's tests.

In: the text of an answer, with or without a Markdown fence, and a `spec` that holds tests as
`zerone sandbox run` reads them (`mode`, `entry`, `tests`, `setup`), beside optional `memory_mib`,
`wall_s`. Out: a verdict. A sandbox that fails gives an infrastructure error, never a wrong answer.

Programs run on this machine, or where the environment variable ZERONE_SANDBOX_URL says: where a
sandbox is to be had belongs to the machine and not to the experiment.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

from zerone.errors import SandboxError, SandboxUnavailable
from zerone.rewards.accuracy import NO_VERDICT, UNPARSABLE, Verdict
from zerone.sandbox.execution import MIB, Executor, Limits
from zerone.sandbox.remote import URL_VARIABLE, executor_from_environment
from zerone.sandbox.unit_tests import CodeVerdict, Report, make_suite, run_suite
from zerone.types import Outcome

_FENCE = "```"
_MAX_CHARACTERS = 200_000

_OUTCOMES: Mapping[CodeVerdict, Outcome] = {
    CodeVerdict.PASS: Outcome.CORRECT,
    CodeVerdict.SYNTAX_ERROR: Outcome.UNPARSABLE,
    CodeVerdict.TIMEOUT: Outcome.TIMEOUT,
    CodeVerdict.REFUSED: Outcome.INFRASTRUCTURE_ERROR,
}
"""All others are WRONG."""


@cache
def local_executor() -> Executor:
    """Return the sandboxes of this machine that all verdicts of this process share."""
    from zerone.sandbox.pool import SandboxPool

    return SandboxPool()


def _shared_executor() -> Executor:
    return executor_from_environment() or local_executor()


def program_of(answer: str) -> str:
    """Return the program in an answer: the last complete fenced block, or all of it."""
    # One pass over lines: a regular expression tries every opening fence up to the end of the text.
    last, opened, start = answer, -1, 0
    while start < len(answer):
        end = answer.find("\n", start) + 1 or len(answer) + 1
        line = answer[start : end - 1].strip(" \t")
        if opened < 0 and line.startswith(_FENCE):
            opened = end
        elif line == _FENCE:
            last, opened = answer[opened:start], -1
        start = end
    return last


def report_code(answer: str, spec: Mapping[str, Any], executor: Executor | None = None) -> Report:
    """Run an answer on its problem's tests and return all that was found."""
    inner = spec.get("answer")
    tests = inner if isinstance(inner, Mapping) else spec
    defaults = Limits()
    limits = Limits(
        memory_bytes=int(spec.get("memory_mib", defaults.memory_bytes // MIB)) * MIB,
        wall_s=float(spec.get("wall_s", defaults.wall_s)),
    )
    return run_suite(program_of(answer), make_suite(tests), executor or _shared_executor(), limits)


def prepare_code() -> None:
    """Run a first program, which tests the sandbox; raises SandboxUnavailable if none is to be had."""
    spec = {"mode": "call", "entry": "f", "tests": [{"args": [], "expected": 1}]}
    try:
        report = report_code("def f(): return 1", spec)
    except SandboxUnavailable:
        raise
    except SandboxError as error:
        raise SandboxUnavailable(
            f"the sandbox does not run a first program: {error}; {URL_VARIABLE} names a remote one"
        ) from error
    if report.verdict is not CodeVerdict.PASS:
        where = report.execution.backend if report.execution else "the sandbox"
        raise SandboxUnavailable(f"{where} finds a right program {report.verdict}: {report.message}")


def verify_code(answer: str, spec: Mapping[str, Any]) -> Verdict:
    """Judge a program: right only if it passes every test."""
    if not answer.strip() or len(answer) > _MAX_CHARACTERS:
        return UNPARSABLE
    try:
        report = report_code(answer, spec)
    except SandboxError:
        return NO_VERDICT
    return Verdict(outcome=_OUTCOMES.get(report.verdict, Outcome.WRONG), canonical=None)


def passed_share(answer: str, spec: Mapping[str, Any]) -> float | None:
    """Return the share of tests passed, for partial credit; None if the sandbox failed."""
    try:
        report = report_code(answer, spec)
    except SandboxError:
        return None
    return None if report.verdict is CodeVerdict.REFUSED else report.passed / report.total
