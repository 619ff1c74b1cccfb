"""The sandbox from outside: verdicts, limits, threads, failures, the command line, a remote executor."""

import asyncio
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from processes import call_main, has_ended, wait_until
from zerone.errors import DataError, SandboxError, SandboxUnavailable
from zerone.rewards.code import passed_share, prepare_code, verify_code
from zerone.sandbox.cgroup import _mount_points, _own_groups, _path_of
from zerone.sandbox.execution import (
    MIB,
    Ending,
    Execution,
    Job,
    Kind,
    Limits,
    read_execution,
    read_request,
    write_execution,
)
from zerone.sandbox.factory import Nursery
from zerone.sandbox.outputs import is_same_output
from zerone.sandbox.pool import SandboxPool
from zerone.sandbox.process_tree import tree_processes
from zerone.sandbox.remote import RemoteExecutor
from zerone.sandbox.seccomp import filter_program
from zerone.sandbox.self_test import _PROBE, examine_promises
from zerone.sandbox.unit_tests import CodeVerdict, Suite, judge, make_suite, run_suite
from zerone.types import Outcome

LIMITS = Limits(memory_bytes=96 * MIB, wall_s=2.0)
ADD = "def add(a, b):\n    return a + b\n"
ADD_TESTS = {
    "mode": "call",
    "entry": "add",
    "tests": [{"args": [i, 2], "expected": i + 2} for i in range(20)],
}
DOUBLE = "print(2 * int(input()))"
DOUBLE_TESTS = {"mode": "stdin", "tests": [{"stdin": f"{i}\n", "stdout": f"{2 * i}\n"} for i in range(5)]}


@pytest.fixture(scope="module")
def pool() -> Iterator[SandboxPool]:
    with SandboxPool(2) as pool:
        try:
            pool.execute(Job(kind=Kind.STDIN, source="", items=("",)), LIMITS)
        except SandboxUnavailable as error:
            pytest.skip(f"no isolation here: {error}")
        yield pool


def verdict(pool: SandboxPool, source: str, tests: dict[str, Any], limits: Limits = LIMITS) -> str:
    return run_suite(source, make_suite(tests), pool, limits).verdict.value


# Verdicts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "tests", "expected"),
    [
        (ADD, ADD_TESTS, "pass"),
        ("def add(a, b): return a - b", ADD_TESTS, "wrong_answer"),
        ("def add(a): return a", ADD_TESTS, "runtime_error"),
        ("def add(a, b) return", ADD_TESTS, "syntax_error"),
        ("def other(): pass", ADD_TESTS, "runtime_error"),
        ("while True: pass", ADD_TESTS, "timeout"),
        ("x = bytearray(10**10)", ADD_TESTS, "memory_limit"),
        (DOUBLE, DOUBLE_TESTS, "pass"),
        (f"{DOUBLE}\nraise SystemExit(0)", DOUBLE_TESTS, "pass"),
        (f"{DOUBLE}\nraise SystemExit(1)", DOUBLE_TESTS, "runtime_error"),
        (f"import sys\n{DOUBLE}\nsys.stdout.flush()\nimport os\nos._exit(0)", DOUBLE_TESTS, "pass"),
        ("print(2 * int(open(0).read()))", DOUBLE_TESTS, "pass"),
        ("print(2 * int(open('/dev/stdin').read()))", DOUBLE_TESTS, "pass"),
        ("import sys\nfor line in sys.stdin: sys.stdout.write(str(2 * int(line)))", DOUBLE_TESTS, "pass"),
        (f"{DOUBLE}\nexit()", DOUBLE_TESTS, "pass"),
        (f"{DOUBLE}\nquit(0)", DOUBLE_TESTS, "pass"),
        (f"{DOUBLE}\nexit(1)", DOUBLE_TESTS, "runtime_error"),
        ("exit()", ADD_TESTS, "runtime_error"),
        (
            "import math\nmath.isclose = lambda *a, **k: True\ndef add(a, b): return 0.0",
            {
                "mode": "assert",
                "tests": ["assert isclose(add(1, 2), 3.0)"],
                "setup": "from math import isclose",
            },
            "wrong_answer",
        ),
        ("print(input())", DOUBLE_TESTS, "wrong_answer"),
        ("print('x' * 10**7)", DOUBLE_TESTS, "output_limit"),
        ("x = bytearray(10**10)", DOUBLE_TESTS, "memory_limit"),
        ("import ctypes; ctypes.CDLL(None).ptrace(0, 0, 0, 0)", DOUBLE_TESTS, "sandbox_violation"),
        ("import ctypes; ctypes.CDLL(None).ptrace(0, 0, 0, 0)", ADD_TESTS, "sandbox_violation"),
        (
            "class Adder:\n    def add(self, a, b): return a + b",
            {**ADD_TESTS, "entry": "Adder.add"},
            "pass",
        ),
        (ADD, {"mode": "assert", "tests": ["assert add(1, 2) == 3"]}, "pass"),
        (ADD, {"mode": "assert", "tests": ["assert add(1, 2) == 4"]}, "wrong_answer"),
        (ADD, {"mode": "assert", "tests": ["assert add(x, 2) == 3"], "setup": "x = 1"}, "pass"),
        (ADD, {"mode": "assert", "tests": ["assert check(add)"], "setup": "def check(f): pass"}, "refused"),
        (ADD, {"mode": "assert", "tests": ["assert add(1, 2) == 3", "assert True"]}, "refused"),
        (ADD, {"mode": "assert", "tests": ["assert add(1, 2) == 4", "assert True"]}, "wrong_answer"),
    ],
)
def test_verdict(pool: SandboxPool, source: str, tests: dict[str, Any], expected: str) -> None:
    limits = LIMITS if expected != "timeout" else Limits(memory_bytes=96 * MIB, wall_s=0.3)
    assert verdict(pool, source, tests, limits) == expected


def test_tests_passed_are_counted(pool: SandboxPool) -> None:
    source = "def add(a, b): return a + b if a < 15 else 0"
    report = run_suite(source, make_suite(ADD_TESTS), pool, LIMITS)
    assert (report.verdict.value, report.passed, report.total) == ("wrong_answer", 15, 20)
    report = run_suite(
        "def add(a, b):\n    while a > 4: pass\n    return a + b",
        make_suite(ADD_TESTS),
        pool,
        Limits(wall_s=0.3),
    )
    assert (report.verdict.value, report.passed, report.total) == ("timeout", 5, 20)


@pytest.mark.parametrize(
    ("returned", "expected", "is_right"),
    [
        ("(1, 2)", [1, 2], True),
        ("1.0", 1, True),
        ("0.1 + 0.2", 0.3, True),
        ("0.3001", 0.3, False),
        ("True", 1, False),
        ("1", True, False),
        ("'1'", 1, False),
        ("{1: 'a'}", {"1": "a"}, True),
        ("{'a': (1,)}", {"a": [1]}, True),
        ("{1: 'a', '1': 'a'}", {"1": "a"}, False),
        ("float('nan')", 0.0, False),
        ("float('inf')", 1e308, False),
        ("10**400", 1e308, False),
        ("2**70", 2**70, True),
        ("2**70 + 1", 2**70, False),
        ("-(2**53)", -(2**53), True),
        ("2**53 + 1", 2**53, False),
        ("{1, 2}", [1, 2], False),
        ("b'a'", "a", False),
        ("None", None, True),
        ("0", None, False),
        ("''", [], False),
        ("'\\u00e9\\U0001f600'", "\u00e9\U0001f600", True),
        ("__import__('collections').Counter('aab')", {"a": 2, "b": 1}, True),
        ("__import__('collections').OrderedDict(a=1)", {"a": 1}, True),
    ],
)
def test_returned_values_are_compared_as_json(
    pool: SandboxPool, returned: str, expected: Any, is_right: bool
) -> None:
    tests = {"mode": "call", "entry": "f", "tests": [{"args": [], "expected": expected}]}
    assert verdict(pool, f"def f(): return {returned}", tests) == ("pass" if is_right else "wrong_answer")


@pytest.mark.parametrize(
    ("output", "expected", "is_same"),
    [
        ("1 2\n", "1 2", True),
        ("1 2  \r\n\n\n", "1 2\n", True),
        ("1  2", "1 2", True),
        ("1\n2", "1 2", False),
        ("0.333333333333", "0.3333333333334", True),
        ("0.34", "0.33", False),
        ("5.0", "5", False),
        ("5", "5.0", True),
        ("inf", "1e308", False),
        ("nan", "nan", True),
        ("\uff11", "1", False),
        ("\uff11.0", "1.0", False),
        ("1_0.0", "10.0", False),
        ("Yes", "yes", False),
        ("a\n\nb", "a\nb", False),
        ("", "", True),
        ("x", "", False),
    ],
)
def test_output_is_compared_by_lines_and_words(output: str, expected: str, is_same: bool) -> None:
    assert is_same_output(output, expected) is is_same


# Limits and what is left --------------------------------------------------------------------------


def test_candidates_share_nothing_but_run_at_the_same_time(pool: SandboxPool) -> None:
    source = "import os\ndef f(n):\n    open('/tmp/x', 'a').write(n)\n    return open('/tmp/x').read()"

    def run(number: int) -> str:
        tests = {"mode": "call", "entry": "f", "tests": [{"args": [str(number)], "expected": str(number)}]}
        return verdict(pool, source, tests)

    with ThreadPoolExecutor(32) as threads:
        assert list(threads.map(run, range(64))) == ["pass"] * 64


def test_asyncio_gets_the_same_verdicts(pool: SandboxPool) -> None:
    async def run() -> list[str]:
        calls = (
            asyncio.to_thread(verdict, pool, ADD if i % 2 else "def add(a, b): return 0", ADD_TESTS)
            for i in range(8)
        )
        return await asyncio.gather(*calls)

    assert asyncio.run(run()) == ["wrong_answer", "pass"] * 4


def test_memory_that_was_used_is_told(pool: SandboxPool) -> None:
    job = Job(
        kind=Kind.STDIN,
        source="x = bytearray(40 << 20)\nfor i in range(0, len(x), 4096): x[i] = 1",
        items=("",),
    )
    peak = pool.execute(job, LIMITS).peak_bytes
    assert peak is not None
    assert 40 * MIB < peak < 70 * MIB


def processes() -> set[int]:
    return set(tree_processes(os.getpid()))


def test_closed_pool_leaves_no_process_and_starts_again(pool: SandboxPool) -> None:
    pool.close()  # Its sandboxes get ready at times of their own.
    before = processes()
    with SandboxPool(2) as pool:
        assert verdict(pool, ADD, ADD_TESTS) == "pass"
        assert processes() > before
        pool.close()
        assert processes() == before
        assert verdict(pool, ADD, ADD_TESTS) == "pass"
    assert processes() == before


def test_killed_zygote_is_an_error_once_and_made_anew(pool: SandboxPool) -> None:
    pool.close()
    before = processes()
    with SandboxPool(1) as pool:
        assert verdict(pool, ADD, ADD_TESTS) == "pass"
        for pid in processes() - before:
            # The death of a namespace's first process takes the others along.
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_until(lambda: all(map(has_ended, processes() - before)), "a process outlives SIGKILL")
        with pytest.raises(SandboxError):
            verdict(pool, ADD, ADD_TESTS)
        assert verdict(pool, ADD, ADD_TESTS) == "pass"


def test_pool_is_not_used_in_a_fork(pool: SandboxPool) -> None:
    pid = os.fork()
    if pid == 0:
        try:
            verdict(pool, ADD, ADD_TESTS)
        except SandboxError:
            os._exit(7)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7


@pytest.mark.parametrize("backend", ["bubblewrap", "namespaces"])
def test_every_promise_is_kept(backend: str) -> None:
    try:
        nursery = Nursery(backend)
    except SandboxUnavailable as error:
        pytest.skip(str(error))
    try:
        findings = examine_promises(nursery)
    finally:
        nursery.close()
    assert len(findings) >= 16
    assert [finding for finding in findings if not finding.is_kept] == []


_SLOW = """
quick = forks

def forks():
    import time
    num = quick()
    time.sleep(0.3)
    return num
"""


def test_a_slow_answer_about_processes_breaks_no_promise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without control groups its children are charged with all that they share, if they are looked at."""
    monkeypatch.setattr("zerone.sandbox.factory.find_cgroup", lambda: None)
    monkeypatch.setattr("zerone.sandbox.self_test._PROBE", _PROBE + _SLOW)
    nursery = Nursery("bubblewrap")
    try:
        assert [finding for finding in examine_promises(nursery) if not finding.is_kept] == []
    finally:
        nursery.close()


def test_without_control_groups_the_tree_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zerone.sandbox.factory.find_cgroup", lambda: None)
    nursery = Nursery("bubblewrap")
    try:
        assert "rlimits only" in nursery.backend
        broken = [finding for finding in examine_promises(nursery) if not finding.is_kept]
    finally:
        nursery.close()
    assert broken == []


def test_where_nothing_works_nothing_is_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("zerone.sandbox.factory.bubblewrap_path", lambda: None)
    with pytest.raises(SandboxUnavailable, match="apt-get install bubblewrap"):
        SandboxPool(1, "bubblewrap").execute(Job(kind=Kind.CALL, source=ADD, items=()), LIMITS)
    with pytest.raises(SandboxUnavailable, match="no sandbox backend 'none'"):
        SandboxPool(1, "none").execute(Job(kind=Kind.CALL, source=ADD, items=()), LIMITS)


def test_backend_that_breaks_a_promise_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A filter that allows everything is noticed by the self-test, and no candidate is run."""
    allow = filter_program()[-8:]
    monkeypatch.setattr("zerone.sandbox.factory.filter_program", lambda: allow)
    monkeypatch.setattr("zerone.sandbox.pool._examined", set())
    with pytest.raises(SandboxUnavailable, match="forbidden system calls end a program"):
        SandboxPool(1, "bubblewrap").execute(Job(kind=Kind.CALL, source=ADD, items=()), LIMITS)


def test_filter_is_refused_for_machines_that_it_does_not_know() -> None:
    assert len(filter_program("x86_64")) % 8 == len(filter_program("aarch64")) % 8 == 0
    with pytest.raises(SandboxUnavailable, match="riscv64"):
        filter_program("riscv64")


def test_control_groups_of_both_versions_are_found(tmp_path: Path) -> None:
    v1 = "36 25 0:31 / /sys/fs/cgroup/memory rw,nosuid shared:17 - cgroup cgroup rw,memory\n"
    v2 = f"30 24 0:26 / {tmp_path} rw - cgroup2 cgroup2 rw,nsdelegate\n"
    points = _mount_points(v1 + v2)
    assert (points["memory"], points[""]) == (("/", "/sys/fs/cgroup/memory"), ("/", str(tmp_path)))
    groups = _own_groups("4:memory:/a/b\n0::/user.slice/x:y\n")
    assert groups == {"memory": "/a/b", "": "/user.slice/x:y"}
    (tmp_path / "user.slice" / "x:y").mkdir(parents=True)
    assert _path_of("", groups, _mount_points(v2)) == tmp_path / "user.slice" / "x:y"
    assert _path_of("memory", groups, {}) is None


# Tests as given -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        ([], '"mode" must be'),
        ({"mode": "run", "tests": [1]}, "\"mode\" must be .* not 'run'"),
        ({"mode": "call", "entry": "f", "tests": []}, "at least one test"),
        ({"mode": "call", "entry": "f", "tests": "x"}, '"tests" must be a list'),
        ({"mode": "call", "entry": "f()", "tests": [{}]}, '"entry" must name'),
        ({"mode": "call", "tests": [{"args": [], "expected": 1}]}, '"entry" must name'),
        ({"mode": "call", "entry": "f", "tests": [{"args": []}]}, "test 1 must be an object"),
        ({"mode": "call", "entry": "f", "tests": [{"args": 1, "expected": 1}]}, '"args" must be a list'),
        ({"mode": "stdin", "tests": [{"stdin": 1, "stdout": ""}]}, '"stdin" must be a text'),
        ({"mode": "stdin", "tests": [{"stdin": "", "stdout": 1}]}, "must be a text"),
        ({"mode": "assert", "tests": [1]}, "test 1 must be the text"),
        ({"mode": "assert", "tests": ["assert f()"], "setup": 1}, '"setup" must be'),
    ],
)
def test_malformed_tests_are_refused(spec: Any, complaint: str) -> None:
    with pytest.raises(DataError, match=complaint):
        make_suite(spec)


def test_arguments_nested_too_deeply_are_refused() -> None:
    nested: list[Any] = []
    for _ in range(100):
        nested = [nested]
    with pytest.raises(DataError, match="nested more than 60 deep"):
        make_suite({"mode": "call", "entry": "f", "tests": [{"args": nested, "expected": 1}]})


# Verifier -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (f"```python\n{ADD}```", Outcome.CORRECT),
        (ADD, Outcome.CORRECT),
        ("def add(a, b): return 0", Outcome.WRONG),
        ("def add(a, b): return 1 / 0", Outcome.WRONG),
        ("I think that one adds the numbers.", Outcome.UNPARSABLE),
        ("", Outcome.UNPARSABLE),
        ("x" * 300_000, Outcome.UNPARSABLE),
        ("while True: pass", Outcome.TIMEOUT),
    ],
)
def test_code_is_judged(pool: SandboxPool, answer: str, outcome: Outcome) -> None:
    assert verify_code(answer, {**ADD_TESTS, "wall_s": 0.5}).outcome is outcome
    assert verify_code(answer, {"answer": ADD_TESTS, "wall_s": 0.5}).outcome is outcome


def test_tests_that_nobody_may_run_are_no_verdict(pool: SandboxPool) -> None:
    spec = {"mode": "assert", "tests": ["assert check(add)"], "setup": "def check(f): return True"}
    assert verify_code(ADD, spec).outcome is Outcome.INFRASTRUCTURE_ERROR


def test_sandbox_that_fails_is_no_wrong_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = SandboxPool(1, "none")
    monkeypatch.setattr("zerone.rewards.code.local_executor", lambda: broken)
    assert verify_code(ADD, ADD_TESTS).outcome is Outcome.INFRASTRUCTURE_ERROR
    assert passed_share(ADD, ADD_TESTS) is None


def test_numbers_of_no_test_are_dropped_before_they_collide() -> None:
    lines = [f"[{k * (2**61 - 1)},0]" for k in range(1, 20_000)]
    suite = make_suite(ADD_TESTS)
    execution = Execution(
        ending=Ending.DONE,
        exit_code=0,
        results=tuple(lines),
        stdout="",
        stderr="",
        wall_s=0.0,
        peak_bytes=None,
        backend="",
    )
    start = time.process_time()
    assert judge(suite, execution).verdict is CodeVerdict.RUNTIME_ERROR
    assert time.process_time() - start < 1.0


def test_share_of_tests_passed(pool: SandboxPool) -> None:
    assert passed_share("def add(a, b): return a + b if a < 5 else 0", ADD_TESTS) == 0.25


# Command line -------------------------------------------------------------------------------------


def sandbox_run(folder: Path, source: str | bytes, tests: Any, *options: str) -> tuple[int, dict[str, Any]]:
    program, file = folder / "program.py", folder / "tests.json"
    program.write_bytes(source.encode() if isinstance(source, str) else source)
    file.write_text(json.dumps(tests), encoding="utf-8")
    code, out, _ = call_main(
        folder, "sandbox", "run", str(program), "--tests", str(file), "--json", "--wall-s", "2", *options
    )
    answer: dict[str, Any] = json.loads(out.splitlines()[-1])
    return code, answer


def test_command_prints_one_verdict(pool: SandboxPool, tmp_path: Path) -> None:
    code, answer = sandbox_run(tmp_path, ADD, ADD_TESTS, "--memory-mib", "64")
    assert code == 0
    assert (answer["verdict"], answer["passed"], answer["total"]) == ("pass", 20, 20)
    assert 0 < answer["wall_s"] < 2
    assert 0 < answer["peak_bytes"] < 64 * MIB
    assert sandbox_run(tmp_path, b"\xef\xbb\xbf" + ADD.encode(), ADD_TESTS)[0] == 0
    code, answer = sandbox_run(tmp_path, b"x = '\xff'", ADD_TESTS)
    assert (code, answer["verdict"]) == (1, "syntax_error")
    code, answer = sandbox_run(tmp_path, ADD, ADD_TESTS, "--backend", "none")
    assert (code, answer["verdict"]) == (2, "refused")


def test_command_names_assertions_that_it_does_not_run(pool: SandboxPool, tmp_path: Path) -> None:
    tests = {"mode": "assert", "tests": ["assert add(1, 2) == 3", "assert all(add(i, 0) == i for i in x)"]}
    code, answer = sandbox_run(tmp_path, ADD, tests)
    assert (code, answer["verdict"], answer["passed"], answer["total"]) == (2, "refused", 1, 2)
    assert "comprehension" in answer["tests"][1]


def test_command_refuses_what_cannot_be_read(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    assert call_main(tmp_path, "sandbox", "run", str(program))[0] == 2
    program.write_text(ADD, encoding="ascii")
    tests = tmp_path / "tests.json"
    tests.write_text("{", encoding="ascii")
    code, _, err = call_main(tmp_path, "sandbox", "run", str(program), "--tests", str(tests))
    assert (code, "is not JSON" in err) == (2, True)


def test_doctor_tries_every_promise(pool: SandboxPool, tmp_path: Path) -> None:
    code, out, _ = call_main(tmp_path, "sandbox", "doctor")
    assert code == 0
    assert "forbidden system calls end a program" in out
    code, out, _ = call_main(tmp_path, "sandbox", "doctor", "--backend", "none")
    assert (code, "apt-get install bubblewrap" in out) == (1, True)


# Remote -------------------------------------------------------------------------------------------


class Server(BaseHTTPRequestHandler):
    """A small executor by the protocol of docs/sandbox.md."""

    pool: SandboxPool

    def do_POST(self) -> None:
        if self.headers["Authorization"] != "Bearer secret":
            self._answer(401, "who are you?")
            return
        text = self.rfile.read(int(self.headers["Content-Length"])).decode()
        job, limits = read_request(text)
        assert "expected" not in text
        self._answer(200, write_execution(self.pool.execute(job, limits)))

    def _answer(self, code: int, text: str) -> None:
        self.send_response(code)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def address(pool: SandboxPool) -> Iterator[str]:
    handler = type("Bound", (Server,), {"pool": pool})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def judged_by(executor: RemoteExecutor, source: str, suite: Suite) -> CodeVerdict:
    return run_suite(source, suite, executor, LIMITS).verdict


def test_remote_executor_gives_the_same_verdicts(address: str) -> None:
    remote = RemoteExecutor(address, "secret")
    for tests, right in ((ADD_TESTS, ADD), (DOUBLE_TESTS, DOUBLE)):
        assert judged_by(remote, right, make_suite(tests)) is CodeVerdict.PASS
        assert (
            judged_by(remote, "def add(a, b): return 0\nprint(0)", make_suite(tests))
            is CodeVerdict.WRONG_ANSWER
        )


def test_remote_failure_is_an_error_of_the_sandbox(address: str) -> None:
    suite = make_suite(ADD_TESTS)
    with pytest.raises(SandboxError, match="answered 401"):
        judged_by(RemoteExecutor(address, "wrong"), ADD, suite)
    with pytest.raises(SandboxError, match="cannot be reached"):
        judged_by(RemoteExecutor("http://127.0.0.1:9"), ADD, suite)
    with pytest.raises(SandboxUnavailable, match="begins with http"):
        RemoteExecutor("ftp://somewhere")


def test_environment_chooses_the_remote_executor(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zerone.rewards.code.local_executor", lambda: pytest.fail("it ran here"))
    monkeypatch.setenv("ZERONE_SANDBOX_URL", address)
    with pytest.raises(SandboxUnavailable, match=rf"{address}.* answered 401"):
        prepare_code()
    monkeypatch.setenv("ZERONE_SANDBOX_TOKEN", "secret\n")
    prepare_code()
    assert verify_code(ADD, ADD_TESTS).outcome is Outcome.CORRECT
    assert passed_share("def add(a, b): return 0", ADD_TESTS) == 0.0
    code, answer = sandbox_run(tmp_path, ADD, ADD_TESTS, "--remote", address)
    assert (code, answer["backend"]) == (0, f"remote {address}/v1/executions")
    monkeypatch.setenv("ZERONE_SANDBOX_URL", "http://127.0.0.1:9")
    with pytest.raises(SandboxUnavailable, match=r"http://127.0.0.1:9.* cannot be reached"):
        prepare_code()
    assert verify_code(ADD, ADD_TESTS).outcome is Outcome.INFRASTRUCTURE_ERROR


@pytest.mark.parametrize("text", ["", "x", "[]", "{}", '{"ending": "won"}', "[" * 100_000])
def test_answer_that_is_no_execution_is_refused(text: str) -> None:
    with pytest.raises(SandboxError, match="not an execution"):
        read_execution(text)


def test_requests_and_executions_survive_the_wire() -> None:
    job = Job(kind=Kind.CALL, source="\ud800 \u00e9", items=([1, {"a": None}], []), entry="f", setup="x = 1")
    assert read_request(json.dumps(json.loads(_request(job)))) == (job, LIMITS)


def _request(job: Job) -> str:
    from zerone.sandbox.execution import write_request

    return write_request(job, LIMITS)


def test_execution_survives_the_wire() -> None:
    execution = Execution(
        ending=Ending.DONE,
        exit_code=None,
        results=('["done"]',),
        stdout="\ufffd",
        stderr="",
        wall_s=0.5,
        peak_bytes=None,
        backend="x",
    )
    assert read_execution(write_execution(execution)) == execution
