"""A candidate's tests: read from a file, sent inside without their answers, judged outside.

In: a file or mapping of tests and an `Execution`. Out: a `Report` with the verdict. Three forms:
calls with expected values, standard input with expected output, and assertions.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from zerone.errors import DataError
from zerone.sandbox.asserts import Assertion, NotConvertible, parse_assert
from zerone.sandbox.execution import Ending, Execution, Executor, Job, Kind, Limits
from zerone.sandbox.values import Malformed, decode, is_same_json, parse_line

_ENTRY = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)?")
_DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_MAX_DEPTH = 60
_SIGSYS, _SIGXCPU = -31, -24
_OUTPUT_TOLERANCE = 1e-9


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
    are assertions that no one may run, with the reason.
    """

    kind: Kind
    entry: str
    setup: str
    inputs: tuple[Any, ...]
    expected: tuple[Any, ...]
    unconverted: tuple[tuple[str, str], ...] = ()

    @property
    def total(self) -> int:
        """The number of tests, those that cannot be run included."""
        return len(self.expected) + len(self.unconverted)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The verdict on a candidate, how many tests it passed, and what happened in each."""

    verdict: CodeVerdict
    passed: int
    total: int
    tests: tuple[str, ...]
    message: str
    execution: Execution | None


def read_suite(path: Path) -> Suite:
    """Read a file of tests."""
    try:
        return make_suite(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"{path} is no JSON: {error}") from error
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
    if mode == "assert":
        return _assert_suite(tests, setup, entry if isinstance(entry, str) else "")
    if mode == "call" and not (isinstance(entry, str) and _ENTRY.fullmatch(entry)):
        raise DataError(f'"entry" must name a function or Class.method, not {entry!r}')
    given, wanted, kind = ("args", "expected", list) if mode == "call" else ("stdin", "stdout", str)
    for number, test in enumerate(tests, 1):
        if not isinstance(test, Mapping) or given not in test or wanted not in test:
            raise DataError(f'test {number} must be an object with "{given}" and "{wanted}"')
        if not isinstance(test[given], kind) or (mode == "stdin" and not isinstance(test[wanted], str)):
            raise DataError(f'test {number}: "{given}" must be a {"list" if mode == "call" else "text"}')
        if _depth(test[given]) > _MAX_DEPTH:
            raise DataError(f'test {number}: "{given}" is nested more than {_MAX_DEPTH} deep')
    return Suite(
        kind=Kind(mode),
        entry=entry,
        setup=setup,
        inputs=tuple(test[given] for test in tests),
        expected=tuple(test[wanted] for test in tests),
    )


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
    job = Job(kind=suite.kind, source=source, items=suite.inputs, entry=suite.entry, setup=suite.setup)
    return judge(suite, executor.execute(job, limits))


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


def _read_answers(lines: Sequence[str], num_tests: int) -> _Answers:
    """Sort the driver's lines; anything twice or unreadable is held against the program.

    Numbers of no test are dropped: a dictionary of numbers that a candidate chose is quadratic.
    """
    by_test: dict[int, list[Any]] = {}
    failure = None
    for line in lines:
        try:
            first, *rest = parse_line(line)
        except Malformed as error:
            failure = failure or (CodeVerdict.RUNTIME_ERROR, f"results are garbled: {error}")
            continue
        if isinstance(first, int) and not isinstance(first, bool):
            if not 0 <= first < num_tests:
                continue
            if first in by_test:
                failure = failure or (CodeVerdict.RUNTIME_ERROR, f"test {first + 1} was answered twice")
            by_test[first] = rest
        elif first == "syntax":
            failure = failure or (CodeVerdict.SYNTAX_ERROR, ": ".join(map(str, rest)))
        elif first == "load":
            kind = CodeVerdict.MEMORY_LIMIT if rest[:1] == ["MemoryError"] else CodeVerdict.RUNTIME_ERROR
            failure = failure or (kind, ": ".join(map(str, rest)))
    return _Answers(by_test=by_test, failure=failure)


def judge(suite: Suite, execution: Execution) -> Report:
    """Compare what came back with what was expected."""
    answers = _read_answers(execution.results, len(suite.inputs))
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
    )


def _judge_test(suite: Suite, index: int, answers: Mapping[int, list[Any]]) -> tuple[CodeVerdict, str]:
    if suite.kind is Kind.EXPRESSION:
        return _judge_assertion(suite, index, answers)
    answer = answers.get(index)
    if answer is None:
        return CodeVerdict.RUNTIME_ERROR, "no result"
    expected = suite.expected[index]
    if suite.kind is Kind.STDIN:
        return _judge_output(answer, expected)
    found = _value(answer)
    if isinstance(found, _Failed):
        return found.verdict, found.reason
    if is_same_json(found, expected):
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


def _judge_output(answer: list[Any], expected: str) -> tuple[CodeVerdict, str]:
    match answer:
        case ["output", int(status), str(output)]:
            if status == _SIGSYS:
                return CodeVerdict.SANDBOX_VIOLATION, "a forbidden system call"
            if status == _SIGXCPU:
                return CodeVerdict.TIMEOUT, "processor time is used up"
            if status != 0:
                return CodeVerdict.RUNTIME_ERROR, f"exit code {status}"
            if expected is None or is_same_output(output, expected):
                return CodeVerdict.PASS, ""
            return CodeVerdict.WRONG_ANSWER, f"printed {_shown(output)}"
    return CodeVerdict.RUNTIME_ERROR, "the result is garbled"


def is_same_output(output: str, expected: str) -> bool:
    """Compare output by lines and words; trailing space and blank lines at the end do not count.

    A word of the expected output that is a decimal with a point or exponent admits any decimal
    within 1e-9 of it, relative or absolute; all else must be the same text.
    """
    mine, theirs = _lines(output), _lines(expected)
    return len(mine) == len(theirs) and all(map(_is_same_line, mine, theirs))


def _lines(text: str) -> list[str]:
    lines = [line.rstrip() for line in text.replace("\r\n", "\n").split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def _is_same_line(line: str, expected: str) -> bool:
    if line == expected:
        return True
    words, wanted = line.split(), expected.split()
    return len(words) == len(wanted) and all(map(_is_same_word, words, wanted))


def _is_same_word(word: str, expected: str) -> bool:
    if word == expected:
        return True
    if not (_DECIMAL.fullmatch(word) and _DECIMAL.fullmatch(expected)) or len(word) > 400:
        return False
    if not re.search(r"[.eE]", expected):
        return False
    mine, theirs = float(word), float(expected)
    return (
        math.isfinite(mine)
        and math.isfinite(theirs)
        and math.isclose(mine, theirs, rel_tol=_OUTPUT_TOLERANCE, abs_tol=_OUTPUT_TOLERANCE)
    )
