"""A candidate's tests: read from a file, sent inside without their answers, judged outside.

In: a file or mapping of tests and an `Execution`. Out: a `Report` with the verdict. Three forms:
calls with expected values, standard input with expected output, and assertions.
"""

import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from zerone.errors import DataError
from zerone.sandbox.asserts import Assertion, NotConvertible, parse_assert
from zerone.sandbox.execution import Ending, Execution, Executor, Job, Kind, Limits
from zerone.sandbox.harness import BOUND_ENTRY, OWN, Harness, binding, harness_named
from zerone.sandbox.outputs import with_unix_lines
from zerone.sandbox.values import MAX_WEIGHT, Malformed, decode, parse_line, weigh

_ENTRY = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)?")
_MAX_DEPTH = 60
_DAY_S = 86_400
_TOO_LONG = "the test took longer than it may"
_MAX_COMPLAINT = 500
_TIMES_EXPECTED = 12
"""How many times their expected values the results may weigh: a large integer is read as ten numbers."""
_SIGSYS, _SIGXCPU = -31, -24


class CodeVerdict(StrEnum):
    """What is said of a candidate; REFUSED: it was not, or not wholly, put to the test."""

    PASS = "pass"
    WRONG_ANSWER = "wrong_answer"
    RUNTIME_ERROR = "runtime_error"
    TIMEOUT = "timeout"
    MEMORY_LIMIT = "memory_limit"
    OUTPUT_LIMIT = "output_limit"
    SYNTAX_ERROR = "syntax_error"
    SANDBOX_VIOLATION = "sandbox_violation"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """The tests of a problem.

    `expected` has one value per test: of a call, of the output, or the assertion. `unconverted`
    are assertions that no one may run, with the reason. `tolerance` is the problem's own for floats,
    `test_s` its seconds for one test; None: the harness's, and all tests' time together.
    """

    kind: Kind
    entry: str
    setup: str
    inputs: tuple[Any, ...]
    expected: tuple[Any, ...]
    unconverted: tuple[tuple[str, str], ...] = ()
    harness: Harness = OWN
    tolerance: float | None = None
    test_s: float | None = None

    @property
    def total(self) -> int:
        """The number of tests, those that cannot be run included."""
        return len(self.expected) + len(self.unconverted)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The verdict on a candidate, how many tests it passed, and what happened in each.

    `judge_s` is the processor time that watching and judging took, outside of the sandbox.
    """

    verdict: CodeVerdict
    passed: int
    total: int
    tests: tuple[str, ...]
    message: str
    execution: Execution | None
    judge_s: float = 0.0


def read_suite(path: Path) -> Suite:
    """Read a file of tests."""
    try:
        return make_suite(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"{path} is not JSON: {error}") from error
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def make_suite(spec: Mapping[str, Any]) -> Suite:
    """Check tests and take them apart into inputs and expectations."""
    mode = spec.get("mode") if isinstance(spec, Mapping) else None
    tests = spec.get("tests") if isinstance(spec, Mapping) else None
    if mode not in ("call", "stdin", "assert"):
        raise DataError(f'"mode" must be "call", "stdin" or "assert", not {mode!r}')
    if not isinstance(tests, Sequence) or isinstance(tests, str) or not tests:
        raise DataError('"tests" must be a list with at least one test')
    setup = spec.get("setup", "")
    if not isinstance(setup, str):
        raise DataError('"setup" must be a text of code')
    entry = spec.get("entry", "")
    harness = harness_named(spec.get("harness", "own"))
    tolerance, test_s = _tolerance(spec, mode, harness), _seconds(spec)
    if mode == "assert":
        suite = _assert_suite(tests, setup, entry if isinstance(entry, str) else "")
        return replace(suite, harness=harness, test_s=test_s)
    if mode == "call" and not (isinstance(entry, str) and _ENTRY.fullmatch(entry)):
        raise DataError(f'"entry" must name a function or Class.method, not {entry!r}')
    if mode == "call" and harness.keeps_instance and "." in entry:
        setup, entry = f"{setup}\n{binding(entry)}", BOUND_ENTRY
    pairs = _pairs(mode, tests)
    return Suite(
        kind=Kind(mode),
        entry=entry,
        setup=setup,
        inputs=tuple(given for given, _ in pairs),
        expected=tuple(wanted for _, wanted in pairs),
        harness=harness,
        tolerance=tolerance,
        test_s=test_s,
    )


def _pairs(mode: str, tests: Sequence[Any]) -> list[tuple[Any, Any]]:
    """Return what each test gives and expects; lines of texts end alike in both, by `\\n`."""
    given, wanted, kind = ("args", "expected", list) if mode == "call" else ("stdin", "stdout", str)
    for number, test in enumerate(tests, 1):
        if not isinstance(test, Mapping) or given not in test or wanted not in test:
            raise DataError(f'test {number} must be an object with "{given}" and "{wanted}"')
        if not isinstance(test[given], kind) or (mode == "stdin" and not isinstance(test[wanted], str)):
            raise DataError(f'test {number}: "{given}" must be a {"list" if mode == "call" else "text"}')
        if _depth(test[given]) > _MAX_DEPTH:
            raise DataError(f'test {number}: "{given}" is nested more than {_MAX_DEPTH} deep')
    if mode == "call":
        return [(test[given], test[wanted]) for test in tests]
    return [(with_unix_lines(test[given]), with_unix_lines(test[wanted])) for test in tests]


def _tolerance(spec: Mapping[str, Any], mode: str, harness: Harness) -> float | None:
    """Return the tolerance that a problem's floats have, relative or absolute; None: the usual one."""
    given = spec.get("tolerance")
    if given is None:
        return None
    if mode == "assert":
        raise DataError('"tolerance" has no meaning for assertions; write math.isclose in them')
    if harness.is_exact:
        raise DataError('this "harness" compares exactly; leave "tolerance" or "harness" out')
    is_number = isinstance(given, int | float) and not isinstance(given, bool)
    if not is_number or not 0 <= given < 1:
        raise DataError(f'"tolerance" must be from 0 (exact) to below 1, such as 1e-6, not {given!r}')
    return float(given)


def _seconds(spec: Mapping[str, Any]) -> float | None:
    """Return the seconds that each test has for itself; None: only those of all tests together."""
    given = spec.get("test_s")
    if given is None:
        return None
    is_number = isinstance(given, int | float) and not isinstance(given, bool)
    if not is_number or not 0 < given < _DAY_S:
        raise DataError(f'"test_s" must be the seconds of one test, more than 0, not {given!r}')
    return float(given)


def _depth(value: Any) -> int:
    """Return how deep lists and objects are nested, counted no further than matters."""
    depth, level = 0, [value]
    while level and depth <= _MAX_DEPTH:
        depth += 1
        inner = [item for item in level if isinstance(item, list | dict)]
        level = [part for item in inner for part in (item.values() if isinstance(item, dict) else item)]
    return depth


def _assert_suite(tests: Sequence[Any], setup: str, entry: str) -> Suite:
    converted: list[Assertion] = []
    unconverted: list[tuple[str, str]] = []
    for number, text in enumerate(tests, 1):
        if not isinstance(text, str):
            raise DataError(f"test {number} must be the text of an assert statement")
        try:
            converted.append(parse_assert(text, setup, entry))
        except NotConvertible as error:
            unconverted.append((text, str(error)))
    return Suite(
        kind=Kind.EXPRESSION,
        entry="",
        setup=setup,
        inputs=tuple(call for assertion in converted for call in assertion.calls),
        expected=tuple(converted),
        unconverted=tuple(unconverted),
    )


def run_suite(source: str, suite: Suite, executor: Executor, limits: Limits) -> Report:
    """Run a candidate on its tests and judge it; raise `SandboxError` if it could not be run."""
    if not suite.expected:
        return _judge_nothing(suite)
    job = Job(
        kind=suite.kind,
        source=source,
        items=suite.inputs,
        entry=suite.entry,
        setup=suite.setup,
        prelude=suite.harness.prelude,
        as_function=suite.harness.as_function,
        test_s=suite.test_s,
    )
    return judge(suite, executor.execute(job, _with_room(limits, suite)))


def _with_room(limits: Limits, suite: Suite) -> Limits:
    """Return limits under which the expected outputs of all tests can be printed, twice over."""
    texts = [text for text in suite.expected if isinstance(text, str)] if suite.kind is Kind.STDIN else []
    needed = 2 * sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)
    return replace(limits, output_bytes=max(limits.output_bytes, needed))


def _judge_nothing(suite: Suite) -> Report:
    return Report(
        verdict=CodeVerdict.REFUSED,
        passed=0,
        total=suite.total,
        tests=tuple(f"not run: {reason}" for _, reason in suite.unconverted),
        message="no test can be judged outside of the sandbox",
        execution=None,
    )


# Judging ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answers:
    """The lines of results, sorted: by test, what came; and what was said of the program itself."""

    by_test: Mapping[int, list[Any]]
    failure: tuple[CodeVerdict, str] | None


def _read_answers(lines: Sequence[str], suite: Suite) -> _Answers:
    """Sort the driver's lines up to the first that is none; that is held against the program."""
    by_test: dict[int, list[Any]] = {}
    if _weighs_too_much(lines, suite):
        reason = "the results hold too many values to be compared"
        return _Answers(by_test=by_test, failure=(CodeVerdict.OUTPUT_LIMIT, reason))
    failure = None
    for line in lines:
        try:
            first, *rest = parse_line(line)
        except Malformed as error:
            failure = (CodeVerdict.RUNTIME_ERROR, f"results are garbled: {error}")
            break
        if first in ("done", "output"):
            break
        failure = _failure_in(first, rest, len(suite.inputs))
        if failure is None and first in by_test:
            failure = (CodeVerdict.RUNTIME_ERROR, f"test {first + 1} was answered twice")
        if failure:
            break
        by_test[first] = rest
    return _Answers(by_test=by_test, failure=failure)


def _failure_in(first: Any, rest: Sequence[Any], num_tests: int) -> tuple[CodeVerdict, str] | None:
    """Return what a line says of the program itself, or of what wrote it; None if it is of a test."""
    if first == "syntax":
        return CodeVerdict.SYNTAX_ERROR, _complaint(rest)
    if first == "load":
        kind = CodeVerdict.MEMORY_LIMIT if rest[:1] == ["MemoryError"] else CodeVerdict.RUNTIME_ERROR
        return kind, _complaint(rest)
    if type(first) is not int or not 0 <= first < num_tests:
        return CodeVerdict.RUNTIME_ERROR, "results are garbled: a line is of no test"
    return None


def _weighs_too_much(lines: Sequence[str], suite: Suite) -> bool:
    """Tell whether there are more values than the judge reads, and far more than the tests expect."""
    weight = weigh("\n".join(lines))
    if weight <= MAX_WEIGHT:
        return False
    expected = json.dumps(suite.expected, default=lambda assertion: assertion.text)
    return weight > _TIMES_EXPECTED * weigh(expected)


def _complaint(words: Sequence[Any]) -> str:
    return ": ".join(word[:_MAX_COMPLAINT] for word in words[:2] if isinstance(word, str))


def judge(suite: Suite, execution: Execution) -> Report:
    """Compare what came back with what was expected."""
    start_cpu = time.thread_time()
    answers = _read_answers(execution.results, suite)
    results = [_judge_test(suite, index, answers.by_test) for index in range(len(suite.expected))]
    passed = sum(verdict is CodeVerdict.PASS for verdict, _ in results)
    verdict, message = CodeVerdict.PASS, ""
    for found, reason in results:
        if found is not CodeVerdict.PASS:
            verdict, message = found, reason
            break
    if answers.failure:
        verdict, message = answers.failure
    if verdict is CodeVerdict.RUNTIME_ERROR and execution.stderr.rstrip().endswith("MemoryError"):
        verdict = CodeVerdict.MEMORY_LIMIT
    if execution.ending not in (Ending.DONE, Ending.EXITED):
        verdict = CodeVerdict(execution.ending.value)
    elif execution.ending is Ending.EXITED and verdict is CodeVerdict.PASS:
        verdict, message = CodeVerdict.RUNTIME_ERROR, "the process ended before its tests did"
    if verdict is CodeVerdict.PASS and suite.unconverted:
        verdict, message = CodeVerdict.REFUSED, "some tests cannot be judged outside of the sandbox"
    shown = [found.value if found is CodeVerdict.PASS else f"{found}: {why}" for found, why in results]
    return Report(
        verdict=verdict,
        passed=passed,
        total=suite.total,
        tests=(*shown, *(f"not run: {reason}" for _, reason in suite.unconverted)),
        message=message,
        execution=execution,
        judge_s=execution.judge_s + time.thread_time() - start_cpu,
    )


def _judge_test(suite: Suite, index: int, answers: Mapping[int, list[Any]]) -> tuple[CodeVerdict, str]:
    if suite.kind is Kind.EXPRESSION:
        return _judge_assertion(suite, index, answers)
    answer = answers.get(index)
    if answer is None:
        return CodeVerdict.RUNTIME_ERROR, "no result"
    expected = suite.expected[index]
    if suite.kind is Kind.STDIN:
        return _judge_output(suite, answer, expected)
    found = _value(answer)
    if isinstance(found, _Failed):
        return found.verdict, found.reason
    if suite.harness.is_same_value(found, expected, suite.tolerance):
        return CodeVerdict.PASS, ""
    return CodeVerdict.WRONG_ANSWER, f"returned {_shown(found)}"


@dataclass(frozen=True, slots=True)
class _Failed:
    verdict: CodeVerdict
    reason: str


def _value(answer: list[Any]) -> Any:
    """Return the value of a call, or why there is none."""
    match answer:
        case ["value", encoded]:
            try:
                return decode(encoded)
            except Malformed as error:
                return _Failed(CodeVerdict.RUNTIME_ERROR, f"the result is garbled: {error}")
        case ["timeout"]:
            return _Failed(CodeVerdict.TIMEOUT, _TOO_LONG)
        case ["error", "MemoryError", *_]:
            return _Failed(CodeVerdict.MEMORY_LIMIT, "MemoryError")
        case ["error", str(kind), str(message)]:
            return _Failed(CodeVerdict.RUNTIME_ERROR, f"{kind}: {message}")
    return _Failed(CodeVerdict.RUNTIME_ERROR, "the result is garbled")


def _judge_assertion(suite: Suite, index: int, answers: Mapping[int, list[Any]]) -> tuple[CodeVerdict, str]:
    start = sum(len(assertion.calls) for assertion in suite.expected[:index])
    assertion: Assertion = suite.expected[index]
    values = []
    for number in range(start, start + len(assertion.calls)):
        if number not in answers:
            return CodeVerdict.RUNTIME_ERROR, "no result"
        found = _value(answers[number])
        if isinstance(found, _Failed):
            return found.verdict, found.reason
        values.append(found)
    if assertion.holds(values):
        return CodeVerdict.PASS, ""
    return CodeVerdict.WRONG_ANSWER, f"returned {', '.join(map(_shown, values))}"


def _shown(value: Any) -> str:
    value = value[:201] if isinstance(value, str) else value
    text = (
        json.dumps(value, default=lambda item: type(item).__name__)
        if _is_plain(value)
        else type(value).__name__
    )
    return text if len(text) <= 200 else f"{text[:200]}..."


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | bool | float | None) or (
        isinstance(value, int) and value.bit_length() < 1000
    )


_BY_SIGNAL = {
    -31: (CodeVerdict.SANDBOX_VIOLATION, "a forbidden system call"),
    -24: (CodeVerdict.TIMEOUT, "processor time is used up"),
}
"""Exit codes of programs that SIGSYS and SIGXCPU ended."""


def _judge_output(suite: Suite, answer: list[Any], expected: str | None) -> tuple[CodeVerdict, str]:
    match answer:
        case ["timeout"]:
            return CodeVerdict.TIMEOUT, _TOO_LONG
        case ["output", int(status), str()] if status != 0:
            return _BY_SIGNAL.get(status, (CodeVerdict.RUNTIME_ERROR, f"exit code {status}"))
        case ["output", int(), str(output)]:
            if expected is None or suite.harness.is_same_output(output, expected, suite.tolerance):
                return CodeVerdict.PASS, ""
            return CodeVerdict.WRONG_ANSWER, f"printed {_shown(output)}"
    return CodeVerdict.RUNTIME_ERROR, "the result is garbled"
