"""Accuracy of programs: the answer is run in the sandbox on the problem's tests.

In: the text of an answer, with or without a Markdown fence, and a `spec` that holds tests as
`zerone sandbox run` reads them (`mode`, `entry`, `tests`, `setup`), beside optional `memory_mib`,
`wall_s`. Out: a verdict. A sandbox that fails gives an infrastructure error, never a wrong answer.
"""

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from zerone.errors import SandboxError
from zerone.rewards.accuracy import NO_VERDICT, UNPARSABLE, Verdict
from zerone.sandbox.execution import MIB, Executor, Limits
from zerone.sandbox.suite import CodeVerdict, Report, make_suite, run_suite
from zerone.types import Outcome

_FENCE = re.compile(
    r"^[ \t]*```[ \t]*([A-Za-z0-9_+-]*)[^\n]*\n(.*?)^[ \t]*```[ \t]*$", re.MULTILINE | re.DOTALL
)
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
    """Return the sandboxes that all verdicts of this process share."""
    from zerone.sandbox.pool import SandboxPool

    return SandboxPool()


def program_of(answer: str) -> str:
    """Return the program in an answer: the last complete fenced block, or all of it."""
    blocks = _FENCE.findall(answer)
    return str(blocks[-1][1]) if blocks else answer


def report_code(answer: str, spec: Mapping[str, Any], executor: Executor | None = None) -> Report:
    """Run an answer on its problem's tests and return all that was found."""
    inner = spec.get("answer")
    tests = inner if isinstance(inner, Mapping) else spec
    defaults = Limits()
    limits = Limits(
        memory_bytes=int(spec.get("memory_mib", defaults.memory_bytes // MIB)) * MIB,
        wall_s=float(spec.get("wall_s", defaults.wall_s)),
    )
    return run_suite(program_of(answer), make_suite(tests), executor or local_executor(), limits)


def prepare_code() -> None:
    """Run a first program, which tests the sandbox; raises SandboxError if none is to be had."""
    report_code("def f(): return 1", {"mode": "call", "entry": "f", "tests": [{"args": [], "expected": 1}]})


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
