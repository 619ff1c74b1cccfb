"""Published suites of programming problems, as prompts and tests for the sandbox.

In: a row of HumanEval, MBPP, LiveCodeBench or Codeforces. Out: what the verifier `code` needs. The
prompt asks for one complete program in a fenced block. Private tests of LiveCodeBench are published
pickled; they are a single text there, which is read out without unpickling anything. What each suite's
own harness does with a program is in docs/evaluation.md, point by point; `"harness"` names it.
"""

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from zerone.data.code_tests import packed_tests
from zerone.data.records import Row
from zerone.sandbox.asserts import NotConvertible, asserts_of_check

_COMPLETE = "Complete this Python function. Give the whole program."
_PASS = "Your Python code must pass these tests:"
_START = "Start from this code and keep its names:"
_STANDARD = "Read from standard input and write to standard output."
_PARTS = (
    ("Input", "input_format"),
    ("Output", "output_format"),
    ("Note", "note"),
)
FRAMES = frozenset((_COMPLETE, _PASS, _START, _STANDARD, "```python", "```", "Example", "Input:", "Output:"))
FRAMES |= {title for title, _ in _PARTS}
"""The lines that our prompts put around the task's own words."""

_MEMORY_MIB = 512
_CONTEST_MEMORY_MIB = 1024
"""What contests allow at most; LiveCodeBench itself sets no limit."""

_SECONDS_PER_TEST = 6.0
"""LiveCodeBench's limit for one test."""

_MOST_SECONDS = 600.0
_LONGEST_TESTS = 1 << 28
"""Bytes of decompressed tests; a file must not fill the memory."""


def humaneval(row: Row) -> Mapping[str, Any]:
    """A function to be completed from its signature and description."""
    entry, stub = row.text("entry_point"), row.text("prompt")
    return {
        "prompt": f"{_COMPLETE}\n\n```python\n{stub.strip()}\n```",
        "spec": {
            "mode": "assert",
            "tests": _some(_checks(row), row, "test"),
            # Imports and helpers that stand in the stub belong to the task, not to the answer.
            "setup": f"candidate = {entry}",
            "prelude": stub,
            "entry": entry,
            "wall_s": 20.0,
            "memory_mib": _MEMORY_MIB,
        },
        "identity": row.text("task_id").removeprefix("HumanEval/"),
    }


def _checks(row: Row) -> list[str]:
    """Return the assertions of HumanEval's checking function."""
    try:
        return asserts_of_check(row.text("test"))
    except (NotConvertible, SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise row.error(("test",), f"holds no checks that can be read: {error}") from error


_MBPP_TEST = range(11, 511)


def mbpp(row: Row) -> Mapping[str, Any]:
    """A function described in a sentence; its name is known from the tests, which are shown."""
    tests = _some(row.list_of(str, "test_list"), row, "test_list")
    shown = "\n".join(tests)
    return {
        "prompt": f"{row.text('text', 'prompt').strip()}\n{_PASS}\n\n{shown}",
        "spec": {
            "mode": "assert",
            "tests": tests,
            "setup": _setup(row),
            "wall_s": 20.0,
            "memory_mib": _MEMORY_MIB,
        },
        "identity": row.text("task_id"),
    }


def _setup(row: Row) -> str:
    """Return what the tests need: set-up code of the whole data set, imports of the sanitized one."""
    imports = row.list_of(str, "test_imports") if row.values.get("test_imports") else []
    return "\n".join((*imports, row.optional("test_setup_code") or ""))


def is_mbpp_test(row: Row) -> bool:
    """Whether a row of MBPP belongs to the test split, by its number (Austin et al. 2021)."""
    task = row.text("task_id")
    return task.isdigit() and int(task) in _MBPP_TEST


_DIFFICULTIES = {"easy": 1, "medium": 2, "hard": 3}


def livecodebench(row: Row) -> Mapping[str, Any]:
    """A contest problem with public and private tests: standard input, or calls of a method."""
    tests = [
        *row.list_of(dict, "public_test_cases"),
        *_private_tests(row),
    ]
    starter = row.optional("starter_code")
    prompt = row.text("question_content").strip()
    if starter:
        prompt += f"\n\n{_START}\n\n```python\n{starter.strip()}\n```"
    else:
        prompt += f"\n\n{_STANDARD}"
    difficulty = (row.optional("difficulty") or "").lower()
    return {
        "prompt": prompt,
        "spec": _contest_tests(row, tests),
        "level": _DIFFICULTIES.get(difficulty, 0),
        "domain": difficulty or None,
        "identity": row.text("question_id"),
    }


def _contest_tests(row: Row, tests: Sequence[Any]) -> dict[str, Any]:
    tests = _some(tests, row, "public_test_cases")
    try:
        if any(test.get("testtype") == "functional" for test in tests):
            spec = {
                "mode": "call",
                "entry": f"Solution.{_method_of(row)}",
                "tests": [
                    {
                        "args": [json.loads(line) for line in test["input"].split("\n") if line.strip()],
                        "expected": json.loads(test["output"]),
                    }
                    for test in tests
                ],
            }
        else:
            spec = {
                "mode": "stdin",
                "tests": [{"stdin": test["input"], "stdout": test["output"]} for test in tests],
            }
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise row.error(("public_test_cases",), f"holds a test that cannot be read: {error!r}") from error
    limits = _limits(len(tests), _SECONDS_PER_TEST, _CONTEST_MEMORY_MIB)
    return spec | {"harness": "livecodebench"} | limits


def _method_of(row: Row) -> str:
    """Return the method that is called: the one that the metadata name, or the starter code's first."""
    metadata = row.json("metadata") if row.optional("metadata") else {}
    name = metadata.get("func_name") if isinstance(metadata, Mapping) else None
    if name is None:
        found = re.search(r"def\s+(\w+)\s*\(\s*self", row.text("starter_code"))
        name = found[1] if found else None
    if not isinstance(name, str) or not name.isidentifier():
        raise row.error(("metadata", "starter_code"), "names no method")
    return name


def _private_tests(row: Row) -> list[Any]:
    """Return the private tests: JSON, or JSON that was pickled, deflated and written in base64."""
    text = row.optional("private_test_cases")
    if text is None:
        return []
    if text.lstrip().startswith("["):
        return row.list_of(dict, "private_test_cases")
    try:
        tests = packed_tests(text, _LONGEST_TESTS)
    except ValueError as error:
        raise row.error(("private_test_cases",), f"cannot be read: {error}") from error
    if not isinstance(tests, list):
        raise row.error(("private_test_cases",), "must hold a list of tests")
    return tests


_HIGHEST_RATING = 10_000
"""Of no problem or person ever; a larger number is a mistake in the file."""


def codeforces_obstacle(row: Row) -> str | None:
    """Return why a problem cannot be judged by comparing outputs with official ones, or None if it can."""
    if row.optional("generated_checker"):
        return "needs a checker of its own"
    if row.optional("interaction_format"):
        return "is interactive"
    if (row.optional("input_mode") or "stdio") != "stdio":
        return "does not read from standard input"
    if _is_false(row, "executable"):
        return "is not executable"
    return "has incomplete tests" if _is_false(row, "official_tests_complete") else None


_SLOWER = 2.0
"""Times a problem's time limit: it is meant for processor time, and here other programs run beside."""

_HIGHEST_LIMIT = 1 << 16
_LEAST_MEMORY_MIB = 64


def _is_false(row: Row, name: str) -> bool:
    return str(row.values.get(name)).lower() == "false"  # in a CSV it is a text


def codeforces(row: Row) -> Mapping[str, Any]:
    """A contest problem with official tests and the rating that Codeforces gives it, if it has one."""
    rating = _rating(row)
    examples = row.list_of(dict, "examples") if row.values.get("examples") else []
    tests = [*examples, *row.list_of(dict, "official_tests")]
    parts = [row.text("description").strip()]
    parts += [f"{title}\n{text}" for title, name in _PARTS if (text := row.optional(name))]
    parts += [
        f"Example\nInput:\n{example.get('input', '')}\nOutput:\n{example.get('output', '')}"
        for example in examples
    ]
    parts.append(_STANDARD)
    try:
        pairs = [{"stdin": test["input"], "stdout": test["output"]} for test in tests]
    except KeyError as error:
        raise row.error(("official_tests",), f"has a test without {error}") from error
    return {
        "prompt": "\n\n".join(parts),
        "spec": {
            "mode": "stdin",
            "tests": _some(pairs, row, "official_tests"),
            "harness": "codeforces",
            **({} if rating is None else {"rating": rating}),
            **_limits(
                len(pairs),
                _positive(row, "time_limit", _SECONDS_PER_TEST / _SLOWER) * _SLOWER,
                _positive(row, "memory_limit", _MEMORY_MIB),
            ),
        },
        "level": int(rating or 0),
        "domain": row.optional("contest_id"),
        "identity": row.text("id"),
    }


def _rating(row: Row) -> float | None:
    """Return a problem's rating, a text in a CSV; None where it has none."""
    given = row.get("rating")
    rating = given
    if isinstance(given, str):
        with suppress(ValueError):
            rating = float(given) if given.strip() else None
    if rating is None:
        return None
    is_number = isinstance(rating, int | float) and not isinstance(rating, bool)
    if not is_number or not 0 < rating < _HIGHEST_RATING:
        raise row.error(("rating",), f"must hold the problem's rating or null, not {given!r}")
    return float(rating)


def _positive(row: Row, name: str, otherwise: float) -> float:
    """Return a problem's own limit, a text in a CSV, or another where it gives none."""
    text = row.optional(name)
    if text is None:
        return otherwise
    with suppress(ValueError):
        if 0 < (number := float(text)) < _HIGHEST_LIMIT:
            return number
    raise row.error((name,), f"must hold a positive number or null, not {text[:30]!r}")


def _limits(num_tests: int, seconds: float, memory_mib: float) -> dict[str, Any]:
    """Return the limits of a problem: of each test, and of all together, with a second's grace for each."""
    wall = min(_MOST_SECONDS, (seconds + 1) * num_tests + 5)
    return {"test_s": seconds, "wall_s": wall, "memory_mib": max(_LEAST_MEMORY_MIB, int(memory_mib))}


def _some(tests: Sequence[Any], row: Row, column: str) -> list[Any]:
    if not tests:
        raise row.error((column,), "holds no test")
    return list(tests)
