"""HumanEval and MBPP in the sandbox: every reference solution passes its own tests, a broken one never.

Needs the public files (shared/data beside the checkout); minutes, hence `slow`.
"""

import ast
import gzip
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from zerone.sandbox.asserts import asserts_of_check
from zerone.sandbox.execution import MIB, Limits
from zerone.sandbox.pool import SandboxPool
from zerone.sandbox.unit_tests import CodeVerdict, Report, make_suite, run_suite

DATA = Path(__file__).parents[3] / "shared" / "data"
LIMITS = Limits(memory_bytes=512 * MIB, wall_s=20.0)

CANNOT = {
    "HumanEval/32": "draws random polynomials while it tests and evaluates them by a function of its own",
    "HumanEval/38": "draws random texts and encodes them while it tests",
    "HumanEval/50": "draws random texts and encodes them while it tests",
    "HumanEval/53": "draws random numbers while it tests",
    "HumanEval/151": "computes one expected value by a comprehension over its own variable",
    "MBPP/126": "calls its function `sum`, which is taken for Python's own",
    "MBPP/596": "expects sys.getsizeof of its arguments, which is the interpreter's business",
}
"""Problems of which some tests cannot be judged outside of the sandbox, and why; `refused`."""

Task = tuple[str, str, dict[str, Any]]


def human_eval() -> Iterator[Task]:
    with gzip.open(DATA / "humaneval.jsonl.gz", "rt", encoding="utf-8") as file:
        for row in map(json.loads, file):
            tests = {
                "mode": "assert",
                "tests": asserts_of_check(row["test"]),
                "setup": f"candidate = {row['entry_point']}",
            }
            yield row["task_id"], row["prompt"] + row["canonical_solution"], tests


def mbpp() -> Iterator[Task]:
    for line in (DATA / "mbpp.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        tests = {"mode": "assert", "tests": row["test_list"], "setup": row["test_setup_code"]}
        yield f"MBPP/{row['task_id']}", row["code"].replace("\r\n", "\n"), tests


def broken(source: str) -> str:
    """Return the program with the first statement of its last function made to return nothing."""
    tree = ast.parse(source)
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    for function in functions:
        function.body.insert(0, ast.Return(value=ast.Constant("broken")))
    return ast.unparse(ast.fix_missing_locations(tree))


@pytest.mark.slow
@pytest.mark.parametrize("source", [human_eval, mbpp], ids=["HumanEval", "MBPP"])
def test_reference_solutions_pass_and_broken_ones_do_not(source: Any) -> None:
    if not DATA.exists():
        pytest.skip("the public data are not here")
    tasks = list(source())
    with SandboxPool() as pool, ThreadPoolExecutor(4) as threads:

        def run(program: str, tests: dict[str, Any]) -> Report:
            return run_suite(program, make_suite(tests), pool, LIMITS)

        right = list(threads.map(lambda task: run(task[1], task[2]), tasks))
        wrong = list(threads.map(lambda task: run(broken(task[1]), task[2]), tasks))
    failed = {
        name: (report.verdict.value, report.message, report.tests)
        for (name, _, _), report in zip(tasks, right, strict=True)
        if report.verdict is not CodeVerdict.PASS
    }
    expected = {name for name, _, _ in tasks} & set(CANNOT)
    assert set(failed) == expected, failed
    assert all(verdict == "refused" for verdict, _, _ in failed.values()), failed
    # All that could be judged of them was right.
    for (name, _, _), report in zip(tasks, right, strict=True):
        assert name not in CANNOT or "not run" in " ".join(report.tests)
    assert [
        name for (name, _, _), report in zip(tasks, wrong, strict=True) if report.verdict is CodeVerdict.PASS
    ] == []
