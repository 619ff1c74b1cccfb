"""Programs under the conventions of published harnesses: what passes there passes here, and wrong ones fail.

The verdicts of LiveCodeBench's programs below are those that its own harness gives; where ours differs
the program is in a list of its own, with the reason in docs/evaluation.md.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from zerone.data.jsonl import Fields, read_problems
from zerone.data.records import Row
from zerone.errors import DataError, SandboxUnavailable
from zerone.evals.asking import Form, answer_of
from zerone.evals.published import PUBLISHED, problems_of
from zerone.evals.verdicts import verdict_on
from zerone.rewards.code import report_code
from zerone.sandbox.execution import Execution, Job, Kind, Limits
from zerone.sandbox.outputs import are_same_decimals, are_same_tokens, is_same_output, with_unix_lines
from zerone.sandbox.pool import SandboxPool
from zerone.sandbox.unit_tests import CodeVerdict, make_suite, run_suite
from zerone.types import Outcome, Problem

DATA = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture(scope="module")
def pool() -> Iterator[SandboxPool]:
    with SandboxPool() as pool:
        try:
            pool.execute(Job(kind=Kind.STDIN, source="", items=("",)), Limits())
        except SandboxUnavailable as error:
            pytest.skip(f"no isolation here: {error}")
        yield pool


def problem_of(suite: str, **values: Any) -> Problem:
    return problems_of(PUBLISHED[suite], [Row(place="rows:1", values=values)], 0)[0]


def contest(tests: list[tuple[str, str]], method: str | None = None) -> Problem:
    """Return a problem as LiveCodeBench publishes it; `method` is called, or the program reads input."""
    kind = "stdin" if method is None else "functional"
    listed = [{"input": given, "output": wanted, "testtype": kind} for given, wanted in tests]
    return problem_of(
        "livecodebench",
        question_content="Solve it.",
        question_id="q",
        starter_code="" if method is None else f"class Solution:\n    def {method}(self, nums: List[int]):\n",
        public_test_cases=json.dumps(listed),
        private_test_cases="[]",
        metadata=json.dumps({} if method is None else {"func_name": method}),
    )


def verdict(problem: Problem, program: str, pool: SandboxPool, **changed: Any) -> CodeVerdict:
    return report_code(f"```python\n{program}\n```", {**problem.spec, **changed}, pool).verdict


# LiveCodeBench: programs that read standard input -------------------------------------------------

SUM = [("3\n1 2 3\n", "6\n"), ("2\n10 -4\n", "6")]
"""A count, then numbers: their sum."""

LARGEST = [("[1, 5, 2]\n2", "[5, 2]"), ("[3]\n1", "[3]"), ("[1, 1, 1]\n0", "[]")]
"""The k largest numbers, the largest first."""

READ_THAT_PASS = {
    "the usual": "n = int(input())\nprint(sum(map(int, input().split())))",
    "names of typing": (
        "def total(xs: List[int]) -> Optional[int]:\n    return sum(xs)\n"
        "input()\nprint(total(list(map(int, input().split()))))"
    ),
    "names that nobody imported": (
        "input()\nq = deque(map(int, input().split()))\nc = defaultdict(int)\n"
        "while q: c['s'] += heappop([q.popleft()])\nprint(c['s'] + floor(sqrt(0)) + gcd(0, 0))"
    ),
    "modules that nobody imported": (
        "data = sys.stdin.read().split()\nprint(functools.reduce(operator.add, map(int, data[1:])))"
    ),
    "functions of itertools and operator": (
        "input()\nprint(list(accumulate(map(int, input().split()), add))[-1])"
    ),
    "a module's own names come last": (
        "input()\ncopy.deepcopy([1]); datetime.datetime(2024, 1, 1); random.random(); bisect.bisect([], 1)\n"
        "print(sum(map(int, input().split())))"
    ),
    "builtins are Python's": "input()\nprint(sum(map(int, input().split())) + pow(2, 5, 32) + abs(-0))",
    "a deep recursion": (
        "def down(n): return 0 if n == 0 else down(n - 1)\n"
        "input()\nprint(sum(map(int, input().split())) + down(9000))"
    ),
    "a main block": (
        "def main():\n    input()\n    print(sum(map(int, input().split())))\n\n"
        "if __name__ == '__main__':\n    main()"
    ),
    "a return at the top level": (
        "n = int(input())\nif n == 2:\n    print(6)\n    return\nprint(sum(map(int, input().split())))"
    ),
    "a return at the top level beside imports and functions": (
        "import sys\ndef solve(xs):\n    return sum(xs)\n"
        "data = list(map(int, sys.stdin.read().split()))\nprint(solve(data[1:]))\nreturn"
    ),
    "an exit with a code": "input()\nprint(sum(map(int, input().split())))\nsys.exit(1)",
    "an exit within a function": (
        "def main():\n    input()\n    print(sum(map(int, input().split())))\n    exit(3)\n\nmain()"
    ),
    "a decimal for a whole number": "input()\nprint(float(sum(map(int, input().split()))))",
    "an exponent": "input()\nprint('%.3e' % sum(map(int, input().split())))",
    "leading zeros and a sign": "input()\nprint('+00%d' % sum(map(int, input().split())))",
    "blank lines and spaces around": "input()\nprint('\\n\\n  ', sum(map(int, input().split())), ' \\n\\n')",
    "lines ended by CRLF": "input()\nsys.stdout.write(str(sum(map(int, input().split()))) + '\\r\\n')",
    "bytes": "data = sys.stdin.buffer.read().split()\nprint(sum(map(int, data[1:])))",
    "a thread with a stack of its own": (
        "import threading\nthreading.stack_size(1 << 26)\n"
        "def main():\n    input()\n    print(sum(map(int, input().split())))\n"
        "t = threading.Thread(target=main)\nt.start()\nt.join()"
    ),
    "an annotation of a variable": "x: Dict[int, Tuple[int, ...]] = {}\ninput()\n"
    "print(sum(map(int, input().split())))",
}
READ_THAT_FAIL = {
    "wrong": ("input()\nprint(sum(map(int, input().split())) + 1)", "wrong_answer"),
    "right once": ("input()\nprint(6 if '3' in input() else 7)", "wrong_answer"),
    "too much": ("input()\nprint(sum(map(int, input().split())))\nprint('done')", "wrong_answer"),
    "a label": ("input()\nprint('Sum:', sum(map(int, input().split())))", "wrong_answer"),
    "nothing": ("input()", "wrong_answer"),
    "close to it": ("input()\nprint(sum(map(int, input().split())) + 1e-12)", "wrong_answer"),
    "very close to it": ("input()\nprint('6.00000000000000000000000001')", "wrong_answer"),
    "not a number": ("print('nan')", "wrong_answer"),
    "an error after the output": ("input()\nprint(sum(map(int, input().split())))\n1 / 0", "runtime_error"),
    "too much read": ("input()\nprint(sum(map(int, input().split())))\ninput()", "runtime_error"),
    "a name of no module": ("input()\nprint(numpy_sum(map(int, input().split())))", "runtime_error"),
    "an end of the process": (
        "import os\ninput()\nprint(sum(map(int, input().split())), flush=True)\nos._exit(1)",
        "runtime_error",
    ),
    "a recursion without end": ("def f(n): return f(n + 1)\nf(0)", "runtime_error"),
    "no Python": ("input()\nprint sum(map(int, input().split()))", "syntax_error"),
    "a yield at the top level": ("yield 6", "wrong_answer"),
    "a return before the output": ("input()\nreturn\nprint(6)", "wrong_answer"),
    "an exit before the output": ("input()\nexit()\nprint(6)", "wrong_answer"),
}


@pytest.mark.parametrize("name", READ_THAT_PASS)
def test_a_program_that_livecodebench_passes_passes_here(name: str, pool: SandboxPool) -> None:
    assert verdict(contest(SUM), READ_THAT_PASS[name], pool).value == "pass"


@pytest.mark.parametrize("name", READ_THAT_FAIL)
def test_a_program_that_livecodebench_fails_fails_here(name: str, pool: SandboxPool) -> None:
    program, expected = READ_THAT_FAIL[name]
    assert verdict(contest(SUM), program, pool).value == expected


BROKEN_THERE = {
    "the streams by name": "from sys import stdin, stdout\nstdin.readline()\n"
    "stdout.write(str(sum(map(int, stdin.readline().split()))))",
    "all input at once": "data = open(0).read().split()\nprint(sum(map(int, data[1:])))",
    "a global of the program": (
        "total = 0\ndef more(xs):\n    global total\n    total += sum(xs)\n"
        "input()\nmore(map(int, input().split()))\nprint(total)"
    ),
    "an iteration over the input": "lines = [line for line in sys.stdin]\n"
    "print(sum(map(int, lines[1].split())))",
    "a main block that something follows": (
        "def main():\n    input()\n    print(sum(map(int, input().split())))\n"
        "if __name__ == '__main__':\n    main()\n\nDONE = True"
    ),
    "a future import": "from __future__ import annotations\ninput()\nprint(sum(map(int, input().split())))",
    "quit": "input()\nprint(sum(map(int, input().split())))\nquit()",
}


@pytest.mark.parametrize("name", BROKEN_THERE)
def test_a_right_program_that_livecodebench_breaks_passes_here(name: str, pool: SandboxPool) -> None:
    assert verdict(contest(SUM), BROKEN_THERE[name], pool).value == "pass"


def test_what_only_seems_right_there_is_wrong_here(pool: SandboxPool) -> None:
    """Digits of other alphabets, which its decimals read, and a value that says it equals everything."""
    assert verdict(contest(SUM), "print('\\uff16')", pool).value == "wrong_answer"
    equal_to_all = (
        "class Yes(list):\n    def __eq__(self, other): return True\ndef largest(nums, k): return Yes()"
    )
    assert verdict(contest(LARGEST, "largest"), equal_to_all, pool).value == "wrong_answer"


# LiveCodeBench: functions -------------------------------------------------------------------------

CALLED_THAT_PASS = {
    "the starter code": (
        "class Solution:\n    def largest(self, nums: List[int], k: int) -> List[int]:\n"
        "        return sorted(nums, reverse=True)[:k]"
    ),
    "a function where there is no class": "def largest(nums, k):\n    return sorted(nums)[::-1][:k]",
    "a function with types": "def largest(nums: List[int], k: int) -> List[int]:\n"
    "    return heapq.nlargest(k, nums)",
    "a tuple": "class Solution:\n    def largest(self, nums, k): return tuple(nlargest(k, nums))",
    "a method beside others": (
        "class Solution:\n    def __init__(self): self.sign = -1\n"
        "    def order(self, nums): return sorted(nums, key=lambda n: self.sign * n)\n"
        "    def largest(self, nums, k): return self.order(nums)[:k]"
    ),
    "a global function of the same name": (
        "def largest(nums, k): return sorted(nums)[::-1][:k]\n"
        "class Solution:\n    def largest(self, nums, k): return largest(nums, k)"
    ),
    "a static method": (
        "class Solution:\n    @staticmethod\n    def largest(nums, k): return sorted(nums)[::-1][:k]"
    ),
    "a cached recursion": (
        "class Solution:\n    def largest(self, nums, k):\n        @cache\n"
        "        def take(i): return [] if i == k else [sorted(nums)[::-1][i], *take(i + 1)]\n"
        "        return take(0)"
    ),
    "words on the way": (
        "class Solution:\n    def largest(self, nums, k):\n        print('k is', k)\n"
        "        return sorted(nums)[::-1][:k]"
    ),
    "whole decimals": "class Solution:\n    def largest(self, nums, k):\n"
    "        return [float(n) for n in nlargest(k, nums)]",
    "an unused main block": (
        "def largest(nums, k): return nlargest(k, nums)\nif __name__ == '__main__':\n    print(largest())"
    ),
    "a deep recursion": (
        "def down(n): return 0 if n == 0 else down(n - 1)\n"
        "def largest(nums, k): return nlargest(k + down(9000), nums)"
    ),
    "annotations of every kind": (
        "class Solution:\n    def largest(self, nums: Sequence[int], k: Union[int, None]) -> Iterable[int]:\n"
        "        seen: DefaultDict[int, Deque[int]] = defaultdict(deque)\n"
        "        return [n for n, _ in zip(sorted(nums)[::-1], range(k))]"
    ),
}
CALLED_THAT_FAIL = {
    "wrong": ("class Solution:\n    def largest(self, nums, k): return sorted(nums)[:k]", "wrong_answer"),
    "another order": ("def largest(nums, k): return nlargest(k, nums)[::-1]", "wrong_answer"),
    "nothing": ("class Solution:\n    def largest(self, nums, k): print(nlargest(k, nums))", "wrong_answer"),
    "a set": ("def largest(nums, k): return set(nlargest(k, nums))", "wrong_answer"),
    "a text": ("def largest(nums, k): return str(nlargest(k, nums))", "wrong_answer"),
    "an iterator": ("def largest(nums, k): return iter(nlargest(k, nums))", "wrong_answer"),
    "nearly": ("def largest(nums, k): return [n + 1e-10 for n in nlargest(k, nums)]", "wrong_answer"),
    "another name": ("def biggest(nums, k): return nlargest(k, nums)", "runtime_error"),
    "no such method": (
        "class Solution:\n    def biggest(self, nums, k): return nlargest(k, nums)\n"
        "def largest(nums, k): return nlargest(k, nums)",
        "runtime_error",
    ),
    "too few arguments": ("class Solution:\n    def largest(self, nums): return nums", "runtime_error"),
    "a class that wants arguments": (
        "class Solution:\n    def __init__(self, size): pass\n"
        "    def largest(self, nums, k): return nlargest(k, nums)",
        "runtime_error",
    ),
    "a state that stays": (
        "class Solution:\n    def __init__(self): self.seen = []\n"
        "    def largest(self, nums, k):\n        self.seen += nums\n        return nlargest(k, self.seen)",
        "wrong_answer",
    ),
    "no Python": ("class Solution:\n    def largest(self, nums, k) return nums", "syntax_error"),
    "an error at the third test": (
        "def largest(nums, k): return nlargest(k, nums) if 6 // k else []",
        "runtime_error",
    ),
}


@pytest.mark.parametrize("name", CALLED_THAT_PASS)
def test_a_function_that_livecodebench_passes_passes_here(name: str, pool: SandboxPool) -> None:
    assert verdict(contest(LARGEST, "largest"), CALLED_THAT_PASS[name], pool).value == "pass"


@pytest.mark.parametrize("name", CALLED_THAT_FAIL)
def test_a_function_that_livecodebench_fails_fails_here(name: str, pool: SandboxPool) -> None:
    program, expected = CALLED_THAT_FAIL[name]
    assert verdict(contest(LARGEST, "largest"), program, pool).value == expected


@pytest.mark.parametrize(
    ("returned", "wanted", "is_right"),
    [
        ("True", "1", True),
        ("1.0", "1", True),
        ("0.1 + 0.2", "0.3", False),
        ("0.3", "0.3", True),
        ("(1, 2)", "[1, 2]", True),
        ("[(1, 2)]", "[[1, 2]]", False),
        ("{1: 2}", '{"1": 2}', False),
        ("{'a': 2}", '{"a": 2}', True),
        ("Counter('aab')", '{"a": 2, "b": 1}', True),
        ("None", "null", True),
        ("'a'", '"a"', True),
        ("['a', None]", '["a", null]', True),
        ("2**62 + 1", str(2**62 + 1), True),
        ("2.0**62", str(2**62 + 1), False),
        ("deque([1])", "[1]", False),
    ],
)
def test_values_are_compared_as_livecodebench_does(
    returned: str, wanted: str, is_right: bool, pool: SandboxPool
) -> None:
    found = verdict(contest([("0", wanted)], "f"), f"def f(x): return {returned}", pool)
    assert found.value == ("pass" if is_right else "wrong_answer")


def test_the_starter_code_of_a_prompt_runs_as_it_stands(pool: SandboxPool) -> None:
    problem = contest(LARGEST, "largest")
    starter = problem.prompt.partition("```python\n")[2].partition("\n```")[0]
    assert "List[int]" in starter
    program = (
        starter.replace("nums: List[int]", "nums: List[int], k: int") + "\n        return nlargest(k, nums)"
    )
    assert verdict(problem, program, pool).value == "pass"


def test_a_method_is_known_from_metadata_or_from_the_starter_code() -> None:
    assert contest(LARGEST, "largest").spec["entry"] == "Solution.largest"
    row = {
        "question_content": "?",
        "question_id": "q",
        "starter_code": "class Solution:\n    def best(self, a):\n",
        "public_test_cases": [{"input": "1", "output": "1", "testtype": "functional"}],
        "private_test_cases": "[]",
    }
    assert problem_of("livecodebench", **row).spec["entry"] == "Solution.best"
    assert problem_of("livecodebench", **row, metadata="{}").spec["entry"] == "Solution.best"
    for changed in ({"metadata": '{"func_name": "a b"}'}, {"metadata": "[]", "starter_code": "x"}):
        with pytest.raises(DataError, match="names no method"):
            problem_of("livecodebench", **(row | changed))


@pytest.mark.parametrize(
    ("output", "expected", "is_same"),
    [
        ("1\n2\n", "1\n2", True),
        ("  1  \n 2", "1\n2", True),
        ("\n\n1\n2", "1\n2", True),
        ("1\r\n2\r\n", "1\n2\n", True),
        ("1\n2", "1\r\n2\r\n", True),
        ("1\n\n2", "1\n2", False),
        ("1 2", "1\n2", False),
        ("1  2", "1 2", True),
        ("a  b", "a b", False),
        ("a b", "a b", True),
        ("1.0", "1", True),
        ("1e3", "1000", True),
        ("0.1", "0.10", True),
        ("-0", "0", True),
        ("0.3333333333", "0.333333333", False),
        ("1" + "0" * 50 + "1", "1" + "0" * 51, False),
        ("1" * 5000, "1" * 5000 + ".0", True),
        ("1e999999999999999999999", "1", False),
        ("inf", "Infinity", True),
        ("nan", "nan", True),
        ("nan", "NaN", False),
        ("sNaN", "1", False),
        ("1_0", "10", False),
        ("Yes", "YES", False),
        ("", "", True),
        ("", "0", False),
    ],
)
def test_output_is_compared_as_livecodebench_does(output: str, expected: str, is_same: bool) -> None:
    assert are_same_decimals(output, expected) is is_same


# Time and room ------------------------------------------------------------------------------------


@pytest.mark.parametrize("harness", ["own", "livecodebench"])
def test_each_test_has_its_own_seconds(harness: str, pool: SandboxPool) -> None:
    """A test too slow ends the tests, and says so however many seconds all together would have."""
    slow = "import time\nn = int(input())\ntime.sleep(0.1 if n < 3 else 60)\nprint(n)"
    tests = [{"stdin": str(n), "stdout": str(n)} for n in (1, 2, 3, 4)]
    spec = {"mode": "stdin", "tests": tests, "harness": harness, "test_s": 2.0}
    report = run_suite(slow, make_suite(spec), pool, Limits(wall_s=50.0))
    assert (report.verdict.value, report.passed) == ("timeout", 2)
    calls = {
        "mode": "call",
        "entry": "f",
        "tests": [{"args": [n], "expected": n} for n in (1, 2, 3, 4)],
        "harness": harness,
        "test_s": 2.0,
    }
    source = "import time\ndef f(n):\n    time.sleep(0.1 if n < 3 else 60)\n    return n"
    report = run_suite(source, make_suite(calls), pool, Limits(wall_s=50.0))
    assert (report.verdict.value, report.passed) == ("timeout", 2)
    assert report.execution is not None and report.execution.wall_s < 30
    report = run_suite(f"import time\ntime.sleep(60)\n{source}", make_suite(calls), pool, Limits(wall_s=50.0))
    assert (report.verdict.value, report.passed) == ("timeout", 0)


def test_an_earlier_wrong_answer_is_the_verdict_also_before_a_slow_test(pool: SandboxPool) -> None:
    tests = [{"stdin": str(n), "stdout": "0"} for n in (1, 2)]
    spec = {"mode": "stdin", "tests": tests, "test_s": 1.0}
    source = "if input() == '2':\n    while True: pass\nprint(7)"
    assert run_suite(source, make_suite(spec), pool, Limits(wall_s=30.0)).verdict.value == "wrong_answer"


def test_an_alarm_of_the_program_itself_is_its_own(pool: SandboxPool) -> None:
    tests = [{"stdin": str(n), "stdout": str(n)} for n in range(3)]
    source = (
        "import signal\nsignal.signal(signal.SIGALRM, lambda *_: print(input(), flush=True))\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.05)\nsignal.pause()"
    )
    suite = make_suite({"mode": "stdin", "tests": tests, "test_s": 20.0})
    assert run_suite(source, suite, pool, Limits(wall_s=60.0)).verdict.value == "pass"


def test_expected_output_always_has_room(pool: SandboxPool) -> None:
    """Beyond the usual limit of one MiB for all tests, what is expected can be printed."""
    wanted = "\n".join(map(str, range(200_000))) + "\n"
    suite = make_suite({"mode": "stdin", "tests": [{"stdin": "200000", "stdout": wanted}] * 2})
    source = "print(*range(int(input())), sep='\\n')"
    assert run_suite(source, suite, pool, Limits(wall_s=60.0)).verdict.value == "pass"
    endless = "while True: print('x' * 1000)"
    assert run_suite(endless, suite, pool, Limits(wall_s=60.0)).verdict is not CodeVerdict.PASS


def test_limits_of_the_suites_are_those_of_their_harnesses() -> None:
    spec = contest([*SUM * 5], None).spec
    assert (spec["test_s"], spec["wall_s"], spec["memory_mib"]) == (6.0, 75.0, 1024)
    cf = codeforces_problem(time_limit=2.5, memory_limit=256.0).spec
    assert (cf["test_s"], cf["wall_s"], cf["memory_mib"]) == (5.0, 17.0, 256)
    assert codeforces_problem(time_limit="1.5", memory_limit="64").spec["test_s"] == 3.0
    assert codeforces_problem(time_limit=None).spec["test_s"] == 6.0
    for name, value in (("time_limit", "soon"), ("time_limit", -1), ("memory_limit", 0)):
        with pytest.raises(DataError, match=f"column '{name}' must hold a positive number"):
            codeforces_problem(**{name: value})


# Codeforces ---------------------------------------------------------------------------------------


def codeforces_problem(**changed: Any) -> Problem:
    row = {
        "id": "1A",
        "contest_id": "1",
        "rating": 1000,
        "description": "Print the number and its double.",
        "examples": [{"input": "3\r\n", "output": "3 6\r\n"}],
        "official_tests": [{"input": "4\n", "output": "4\n8\n"}],
    }
    return problem_of("codeforces", **(row | changed))


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ("n = int(input())\nprint(n, 2 * n)", "pass"),
        ("n = int(input())\nprint(n)\nprint(2 * n)", "pass"),
        (
            "import sys\nn = int(sys.stdin.buffer.readline())\nsys.stdout.write(f'{n}\\r\\n{2 * n}\\r\\n')",
            "pass",
        ),
        ("import sys\nassert b'\\r' not in sys.stdin.buffer.read()\nprint(1)", "wrong_answer"),
        ("n = int(input())\nprint(n, 2 * n)\nimport sys\nsys.exit(0)", "pass"),
        ("n = int(input())\nprint(n, 2 * n)\nimport sys\nsys.exit(1)", "runtime_error"),
        ("n = int(input())\nprint(n, 2 * n, n)", "wrong_answer"),
        ("n = int(input())\nprint(n)", "wrong_answer"),
        ("n = int(input())\nprint(n, 2.0 * n)", "wrong_answer"),
        ("n = int(input())\nprint(2 * n, n)", "wrong_answer"),
        ("n: List[int] = int(input())\nprint(n, 2 * n)", "runtime_error"),
        ("n = int(input())\nprint(n, 2 * n)\nreturn", "syntax_error"),
    ],
)
def test_codeforces_compares_words_and_takes_nothing_else_on_itself(
    program: str, expected: str, pool: SandboxPool
) -> None:
    assert verdict(codeforces_problem(), program, pool).value == expected


@pytest.mark.parametrize(
    ("output", "expected", "is_same"),
    [
        ("1 2 3", "1\n2\n3\n", True),
        ("1\n\n2\n3", "1 2 3", True),
        ("YES\r\n", "YES", True),
        ("Yes", "YES", False),
        ("1 2", "1 2 3", False),
        ("0.5000000001", "0.5", True),
        ("0.51", "0.5", False),
        ("3.0", "3", False),
        ("", " \n", True),
    ],
)
def test_words_are_compared_wherever_lines_break(output: str, expected: str, is_same: bool) -> None:
    assert are_same_tokens(output, expected) is is_same


# HumanEval and MBPP -------------------------------------------------------------------------------

STUB = 'from typing import List\n\n\ndef double(xs: List[int]) -> List[int]:\n    """Return each twice."""\n'
CHECK = "def check(candidate):\n    assert candidate([2]) == [4]\n    assert candidate([]) == []\n"


@pytest.mark.parametrize(
    ("completion", "outcome"),
    [
        ("    return [2 * x for x in xs]", Outcome.CORRECT),
        ("def double(xs: List[int]) -> List[int]:\n    return [2 * x for x in xs]", Outcome.CORRECT),
        (
            "def twice(x):\n    return 2 * x\ndef double(xs):\n    return list(map(twice, xs))",
            Outcome.CORRECT,
        ),
        (
            "def double(xs):\n    return [2 * x for x in xs]\nif __name__ == '__main__':\n    1 / 0",
            Outcome.CORRECT,
        ),
        ("    return [2 * x for x in xs]\n\ndef check(f):\n    pass", Outcome.CORRECT),
        ("    return xs", Outcome.WRONG),
        ("def double(xs):\n    return tuple(2 * x for x in xs)", Outcome.WRONG),
        ("    pass", Outcome.WRONG),
        ("def check(candidate):\n    pass", Outcome.WRONG),
        ("    raise SystemExit", Outcome.WRONG),
        ("    return [2 * x for x in xs", Outcome.UNPARSABLE),
    ],
)
def test_humaneval_puts_the_stub_before_the_completion(
    completion: str, outcome: Outcome, pool: SandboxPool
) -> None:
    problem = problem_of("humaneval", task_id="HumanEval/0", prompt=STUB, entry_point="double", test=CHECK)
    assert verdict_on(problem, f"```python\n{completion}\n```")[0].outcome is outcome


@pytest.mark.parametrize(
    ("columns", "program", "outcome"),
    [
        ({}, "def root(x):\n    return x ** 0.5", Outcome.CORRECT),
        ({}, "import math\ndef root(x):\n    return math.sqrt(x)", Outcome.CORRECT),
        ({}, "def root(x):\n    return x / 2 + 1", Outcome.WRONG),
        ({}, "def Root(x):\n    return x ** 0.5", Outcome.WRONG),
        ({"test_setup_code": "base = 4"}, "def root(x):\n    return x ** 0.5", Outcome.CORRECT),
        ({"test_imports": ["import math", "import cmath"]}, "root = lambda x: math.sqrt(x)", Outcome.CORRECT),
        ({"test_imports": []}, "root = lambda x: math.sqrt(x)", Outcome.WRONG),
    ],
)
def test_mbpp_runs_its_set_up_and_the_imports_of_its_tests(
    columns: dict[str, Any], program: str, outcome: Outcome, pool: SandboxPool
) -> None:
    test = "assert root(base) == 2" if "test_setup_code" in columns else "assert root(4) == 2.0"
    problem = problem_of("mbpp", task_id=11, prompt="Take a root.", test_list=[test], **columns)
    assert verdict_on(problem, program)[0].outcome is outcome


# Choices, mathematics, instructions ---------------------------------------------------------------


def test_mmlu_pro_drops_the_options_that_are_none() -> None:
    options = ["one", "two", "three", "N/A", "N/A"]
    problem = problem_of("mmlu_pro", question="Which?", options=options, answer="C", category="law")
    assert problem.spec["choices"] == ["one", "two", "three"]
    assert "N/A" not in problem.prompt
    with pytest.raises(DataError, match="names none of 3 choices"):
        problem_of("mmlu_pro", question="Which?", options=options, answer="D", category="law")


def test_gpqa_draws_an_order_for_each_question_and_keeps_it_for_all_its_samples() -> None:
    row = {f"Incorrect Answer {i}": f"wrong {i}" for i in (1, 2, 3)} | {"Correct Answer": " right\n"}
    rows = [Row(place="rows:1", values=row | {"Question": f"Question {i}?"}) for i in range(60)]
    first, again, other = (problems_of(PUBLISHED["gpqa"], rows, seed) for seed in (0, 0, 1))
    assert first == again != other
    for problem in first:
        letter = problem.spec["answer"]
        assert problem.spec["choices"]["ABCD".index(letter)] == "right"
        assert verdict_on(problem, letter)[0].outcome is Outcome.CORRECT
    # Of 60 fair draws among four, each comes 15 times; fewer than 3 times has a chance below 1e-4.
    counts = [sum(problem.spec["answer"] == letter for problem in first) for letter in "ABCD"]
    assert min(counts) >= 3


@pytest.mark.parametrize(
    ("suite", "values", "answer", "outcome"),
    [
        ("gsm8k", {"question": "?", "answer": "So.\n#### 1,200"}, "1200", Outcome.CORRECT),
        ("gsm8k", {"question": "?", "answer": "So.\n#### 1,200"}, "\\$1,200.", Outcome.CORRECT),
        ("gsm8k", {"question": "?", "answer": "So.\n#### -3"}, "-3.0", Outcome.CORRECT),
        ("gsm8k", {"question": "?", "answer": "So.\n#### 1,200"}, "1,201", Outcome.WRONG),
        ("aime24", {"problem": "?", "answer": "073"}, "73", Outcome.CORRECT),
        ("aime24", {"problem": "?", "answer": "73"}, "073", Outcome.CORRECT),
        ("aime25", {"problem": "?", "answer": "73"}, "730", Outcome.WRONG),
        (
            "math500",
            {"problem": "?", "answer": "\\frac{1}{2}", "subject": "Algebra", "level": 1},
            "\\dfrac12",
            Outcome.CORRECT,
        ),
    ],
)
def test_golds_are_compared_as_the_suites_mean_them(
    suite: str, values: dict[str, Any], answer: str, outcome: Outcome
) -> None:
    problem = problem_of(suite, **values)
    boxed = f"So it is \\boxed{{{answer}}}."
    found = answer_of(problem, boxed, Form(is_chat=True))
    assert verdict_on(problem, found)[0].outcome is outcome


@pytest.mark.parametrize(
    ("letter", "text", "is_followed"),
    [
        ("#", "# a # b # c #", True),
        ("#", "a ### b", False),
        ("!", "Oh! No! So! Go!", True),
        ("!", "Oh", False),
    ],
)
def test_ifeval_counts_the_sign_that_the_prompt_asks_for(letter: str, text: str, is_followed: bool) -> None:
    problem = problem_of(
        "ifeval",
        key=1,
        prompt="Use it at least four times.",
        instruction_id_list=["keywords:letter_frequency"],
        kwargs=[{"letter": letter, "let_frequency": 4, "let_relation": "at least"}],
    )
    verdict, details = verdict_on(problem, text)
    assert (verdict.outcome is Outcome.CORRECT, details["strict"]) == (is_followed, [is_followed])


# Newlines, integers, tolerances -------------------------------------------------------------------


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
    "program",
    [
        "a, b = int(input()), int(input())\nprint(a)\nprint(b)",
        "import sys\na, b = sys.stdin.buffer.read().split(b'\\n')[:2]\nprint(int(a))\nprint(b.decode())",
        "import sys\nlines = open(0, newline='').read().split('\\n')\nprint(*lines[:2], sep='\\r\\n')",
    ],
)
def test_input_and_expected_output_have_the_same_line_ends(
    newline: str, program: str, pool: SandboxPool
) -> None:
    text = newline.join(("1", "2", ""))
    for harness in ("own", "livecodebench", "codeforces"):
        spec = {"mode": "stdin", "tests": [{"stdin": text, "stdout": text}], "harness": harness}
        assert run_suite(program, make_suite(spec), pool, Limits()).verdict.value == "pass", harness


def test_line_ends_are_made_one() -> None:
    assert with_unix_lines("a\r\nb\rc\n\r\nd\r\r\n") == "a\nb\nc\n\nd\n\n"


@pytest.mark.parametrize("digits", [4301, 20_000, 200_000])
def test_integers_of_any_length_are_printed_and_read(digits: int, pool: SandboxPool) -> None:
    text = "7" * digits
    for harness in ("own", "livecodebench", "codeforces"):
        spec = {"mode": "stdin", "tests": [{"stdin": text, "stdout": text}], "harness": harness}
        suite = make_suite(spec)
        assert run_suite("print(int(input()))", suite, pool, Limits()).verdict.value == "pass"
        wrong = "print(input()[:-1] + '8')"
        assert run_suite(wrong, suite, pool, Limits()).verdict.value == "wrong_answer"


def test_integers_of_any_length_are_turned_into_text_by_functions_too(pool: SandboxPool) -> None:
    source = "def f(n): return len(str(10**n))"
    calls = {"mode": "call", "entry": "f", "tests": [{"args": [5000], "expected": 5001}]}
    asserts = {"mode": "assert", "tests": ["assert f(5000) == 5001"]}
    for spec in (calls, asserts):
        assert run_suite(source, make_suite(spec), pool, Limits()).verdict.value == "pass"


@pytest.mark.parametrize(
    ("output", "expected", "tolerance", "is_same"),
    [
        ("0.333333", "0.3333333333", None, False),
        ("0.333333", "0.3333333333", 1e-6, True),
        ("0.3333", "0.3333333333", 1e-6, False),
        ("1000000.4", "1000000.0", 1e-6, True),
        ("1000002.0", "1000000.0", 1e-6, False),
        ("0.0000005", "0.0", 1e-6, True),
        ("2.0000001", "2", 1e-6, True),
        ("2.0000001", "2", None, False),
        ("1000000008", "1000000007", 1e-6, False),
        ("3", "3.0000001", 1e-6, True),
        ("0.5", "0.5", 0, True),
        ("0.50", "0.5", 0, True),
        ("0.5000000001", "0.5", 0, False),
        ("1 0.33333 x", "1 0.33333333 x", 1e-4, True),
        ("1 0.33333 y", "1 0.33333333 x", 1e-4, False),
        ("nan", "0.5", 0.5, False),
        ("1e400", "1e399", 0.9, False),
        ("0." + "3" * 500, "0.333333333333", 1e-6, False),
    ],
)
def test_a_problem_may_have_a_tolerance_for_printed_numbers(
    output: str, expected: str, tolerance: float | None, is_same: bool
) -> None:
    assert is_same_output(output, expected, tolerance) is is_same
    assert are_same_tokens(output, expected, tolerance) is is_same


@pytest.mark.parametrize(
    ("returned", "expected", "tolerance", "is_same"),
    [
        ("0.3333333", 1 / 3, None, False),
        ("0.3333333", 1 / 3, 1e-6, True),
        ("0.333", 1 / 3, 1e-6, False),
        ("[0.3333333, {'a': 0.3333333}]", [1 / 3, {"a": 1 / 3}], 1e-6, True),
        ("1000000008", 1000000007, 1e-6, False),
        ("2.0000001", 2, 1e-6, True),
        ("0.0000001", 0, 1e-6, True),
        ("0.0000001", 0, None, False),
        ("True", 1, 0.5, False),
        ("0.1 + 0.2", 0.3, 0, False),
        ("0.3", 0.3, 0, True),
        ("float('inf')", 1.0, 0.5, False),
    ],
)
def test_a_problem_may_have_a_tolerance_for_returned_numbers(
    returned: str, expected: Any, tolerance: float | None, is_same: bool, pool: SandboxPool
) -> None:
    spec = {
        "mode": "call",
        "entry": "f",
        "tests": [{"args": [], "expected": expected}],
        "tolerance": tolerance,
    }
    report = run_suite(f"def f(): return {returned}", make_suite(spec), pool, Limits())
    assert report.verdict.value == ("pass" if is_same else "wrong_answer")


def test_a_line_of_ones_own_problems_may_have_a_tolerance(tmp_path: Path, pool: SandboxPool) -> None:
    line = {
        "prompt": "A third?",
        "verifier": "code",
        "mode": "stdin",
        "tests": [{"stdin": "1\r\n", "stdout": "0.333333\r\n"}],
        "tolerance": 1e-5,
    }
    path = tmp_path / "mine.jsonl"
    path.write_text(json.dumps(line) + "\n", encoding="utf-8")
    (problem,) = read_problems(path, Fields()).problems
    assert report_code("print(int(input()) / 3 + 5e-6)", problem.spec, pool).verdict.value == "pass"
    assert report_code("print(int(input()) / 3 + 5e-5)", problem.spec, pool).verdict.value == "wrong_answer"


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"tolerance": "1e-6"}, '"tolerance" must be from 0'),
        ({"tolerance": True}, '"tolerance" must be from 0'),
        ({"tolerance": -1e-9}, '"tolerance" must be from 0'),
        ({"tolerance": 1}, '"tolerance" must be from 0'),
        ({"tolerance": float("nan")}, '"tolerance" must be from 0'),
        ({"tolerance": 10**400}, '"tolerance" must be from 0'),
        ({"tolerance": 1e-6, "harness": "livecodebench"}, "compares exactly"),
        ({"tolerance": 1e-6, "mode": "assert", "tests": ["assert f() == 1"]}, "no meaning for assertions"),
        ({"test_s": 0}, '"test_s" must be the seconds'),
        ({"test_s": "6"}, '"test_s" must be the seconds'),
        ({"test_s": float("inf")}, '"test_s" must be the seconds'),
        ({"test_s": 10**400}, '"test_s" must be the seconds'),
        ({"harness": "leetcode"}, '"harness" must be one of "own", "livecodebench", "codeforces"'),
        ({"harness": ["own"]}, '"harness" must be one of'),
    ],
)
def test_conventions_that_cannot_be_are_refused(changed: dict[str, Any], complaint: str) -> None:
    spec = {"mode": "stdin", "tests": [{"stdin": "", "stdout": ""}]} | changed
    with pytest.raises(DataError, match=complaint):
        make_suite(spec)


def test_what_a_remote_executor_is_sent_holds_the_conventions() -> None:
    """Whoever runs the job must know of the prelude, the end by a return, and each test's seconds."""
    sent: list[Job] = []

    class Recorder:
        def execute(self, job: Job, limits: Limits) -> Execution:
            sent.append(job)
            raise SandboxUnavailable("enough")

    spec = contest(LARGEST, "largest").spec
    with pytest.raises(SandboxUnavailable, match="enough"):
        run_suite("pass", make_suite(spec), Recorder(), Limits())
    (job,) = sent
    assert "from typing import *" in job.prelude and job.as_function and job.test_s == 6.0
    assert not json.dumps(job.items).count("expected")
