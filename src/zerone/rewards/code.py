"""Accuracy of programs: the answer is run in the sandbox on the problem's tests.

In: the text of an answer, with or without a Markdown fence, and a `spec` that holds tests as
`zerone sandbox run` reads them (`mode`, `entry`, `tests`, `setup`), beside optional `memory_mib`,
`wall_s`. Out: a verdict. A sandbox that fails gives an infrastructure error, never a wrong answer.

Programs run on this machine, or where the environment variable ZERONE_SANDBOX_URL says: where a
sandbox is to be had belongs to the machine and not to the experiment.
"""

import builtins
import math
import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from zerone.errors import DataError, SandboxError, SandboxUnavailable
from zerone.rewards.accuracy import NO_VERDICT, UNPARSABLE, Verdict
from zerone.rewards.fences import Wanted, program_in
from zerone.sandbox.execution import MIB, Executor, Limits
from zerone.sandbox.remote import URL_VARIABLE, executor_from_environment
from zerone.sandbox.unit_tests import CodeVerdict, Report, make_suite, run_suite
from zerone.types import Outcome

_BUILTINS = frozenset(dir(builtins))
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


def program_of(answer: str, spec: Mapping[str, Any] | None = None) -> str:
    """Return the program in an answer, which the tests of `spec` help to tell from examples and outputs."""
    return program_in(answer, Wanted() if spec is None else _wanted(_tests_of(spec)))


def _tests_of(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the tests of a spec, with the mode that their own words imply where none is given."""
    inner = spec.get("answer")
    tests = inner if isinstance(inner, Mapping) else spec
    listed = tests.get("tests")
    if "mode" in tests or not isinstance(listed, list) or not listed:
        return tests
    words = {str: "assert"}.get(type(listed[0]))
    if isinstance(listed[0], Mapping):
        words = "call" if "args" in listed[0] else "stdin" if "stdin" in listed[0] else None
    return tests if words is None else {**tests, "mode": words}


def _limits_of(spec: Mapping[str, Any]) -> Limits:
    defaults = Limits()
    memory, wall = spec.get("memory_mib", defaults.memory_bytes // MIB), spec.get("wall_s", defaults.wall_s)
    for name, value in (("memory_mib", memory), ("wall_s", wall)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
            raise DataError(f'"{name}" must be a number above 0, not {value!r}')
    return Limits(memory_bytes=int(memory) * MIB, wall_s=float(wall))


def check_code(spec: Mapping[str, Any]) -> str | None:
    """Return why no program could be judged by a problem's tests, or None; nothing is run."""
    try:
        _limits_of(spec)
        suite = make_suite(_tests_of(spec))
    except DataError as error:
        return str(error)
    if suite.unconverted:
        text, reason = suite.unconverted[0]
        return f"{len(suite.unconverted)} of {suite.total} tests cannot be judged: {text[:80]!r}: {reason}"
    return None


_CALLED = re.compile(r"(?<![\w.])([A-Za-z_]\w*)[ \t]*\(")


def _wanted(tests: Mapping[str, Any]) -> Wanted:
    """Return what a program must have to pass: the function asked for, or those that assertions call."""
    entry, listed = tests.get("entry"), tests.get("tests")
    if isinstance(entry, str) and entry:
        return Wanted(names=(entry,))
    if not isinstance(listed, Sequence) or isinstance(listed, str):
        return Wanted()
    if tests.get("mode") == "assert":
        called = {match[1] for test in listed if isinstance(test, str) for match in _CALLED.finditer(test)}
        return Wanted(names=called - _BUILTINS)
    pairs = [test for test in listed if isinstance(test, Mapping)]
    return Wanted(
        reads_input=any(str(test.get("stdin", "")).strip() for test in pairs),
        writes_output=any(str(test.get("stdout", "")).strip() for test in pairs),
    )


def report_code(answer: str, spec: Mapping[str, Any], executor: Executor | None = None) -> Report:
    """Run an answer on its problem's tests and return all that was found."""
    suite, limits = make_suite(_tests_of(spec)), _limits_of(spec)
    return run_suite(program_of(answer, spec), suite, executor or _shared_executor(), limits)


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
        raise SandboxUnavailable(
            f"sandbox self-test failed ({where}): a known-correct program was graded {report.verdict}: "
            f"{report.message}; run `zerone sandbox doctor`"
        )


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
