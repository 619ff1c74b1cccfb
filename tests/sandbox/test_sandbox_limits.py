"""What a candidate can cost, hold and be run as: the judge's time, memory of every kind, any user."""

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import zerone
from processes import call_main
from zerone.errors import SandboxError, SandboxUnavailable
from zerone.sandbox.execution import (
    MIB,
    Ending,
    Execution,
    Job,
    Kind,
    Limits,
    read_execution,
    write_execution,
)
from zerone.sandbox.factory import Nursery
from zerone.sandbox.interpreter import find_interpreter
from zerone.sandbox.outputs import is_same_output
from zerone.sandbox.pool import SandboxPool
from zerone.sandbox.process_tree import scratch_bytes
from zerone.sandbox.streams import Streams
from zerone.sandbox.unit_tests import CodeVerdict, Report, judge, make_suite, run_suite
from zerone.sandbox.users import _free_ids, claim_user
from zerone.sandbox.values import Malformed, decode, is_same_json, is_too_deep, parse_line, weigh

LIMITS = Limits(memory_bytes=96 * MIB, wall_s=3.0)
CALLS = {"mode": "call", "entry": "f", "tests": [{"args": [], "expected": [1, 2]} for _ in range(20)]}
SUITES = {
    "call": make_suite(CALLS),
    "stdin": make_suite({"mode": "stdin", "tests": [{"stdin": "", "stdout": "5\n"} for _ in range(20)]}),
    "assert": make_suite({"mode": "assert", "tests": ["assert sorted(f(1)) == [1, 2]"] * 20}),
}
MOST = 6 * MIB
JUDGE_S = 0.2


@pytest.fixture(scope="module")
def pool() -> Iterator[SandboxPool]:
    with SandboxPool(1) as pool:
        try:
            pool.execute(Job(kind=Kind.STDIN, source="", items=("",)), LIMITS)
        except SandboxUnavailable as error:
            pytest.skip(f"no isolation here: {error}")
        yield pool


# What the judge's time costs -------------------------------------------------------------------------


def filled(item: bytes, head: bytes = b'[0,"value",[', tail: bytes = b"]]\n") -> bytes:
    return head + b",".join([item] * ((MOST - len(head) - len(tail)) // (len(item) + 1))) + tail


def drawn(make: Callable[[random.Random], str], count: int, head: str = "[", tail: str = "]") -> bytes:
    rng = random.Random(1)
    return f'[0,"value",{head}{",".join(make(rng) for _ in range(count))}{tail}]\n'.encode()


def printed(text: bytes) -> bytes:
    return b'[0,"output",0,"' + text * min(MIB, MOST // len(text) - 10) + b'"]\n'


RESULTS: dict[str, Callable[[], bytes]] = {
    "newlines": lambda: b"\n" * MOST,
    "braces": lambda: b"{\n" * (MOST // 2),
    "empty lists as lines": lambda: b"[]\n" * (MOST // 3),
    "nested lines": lambda: (b"[" * 400 + b"]" * 400 + b"\n") * (MOST // 801),
    "one value as many lines": lambda: b'[0,"value",1]\n' * (MOST // 14),
    "lines of no test": lambda: b'[99,"value",1]\n' * (MOST // 15),
    "lines that begin with a truth value": lambda: b'[true,"value",1]\n' * (MOST // 17),
    "complaints": lambda: b'["load","a","b"]\n' * (MOST // 17),
    "ends": lambda: b'["done"]\n' * (MOST // 9),
    "open brackets": lambda: b"[" * MOST + b"\n",
    "open objects": lambda: b'{"a":' * (MOST // 5) + b"\n",
    "open texts": lambda: b'"\\"' + b'\\"' * (MOST // 2) + b"\n",
    "quotes": lambda: b'"' * MOST + b"\n",
    "backslashes": lambda: b"\\" * MOST + b"\n",
    "high bytes": lambda: b"\xff" * MOST + b"\n",
    "zero bytes": lambda: b"\0" * MOST + b"\n",
    "digits": lambda: b"1" * MOST + b"\n",
    "empty lists": lambda: filled(b"[]"),
    "empty objects": lambda: filled(b"{}"),
    "integers": lambda: filled(b"1"),
    "floats": lambda: filled(b"0.5"),
    "long floats": lambda: filled(b"0." + b"1" * 300),
    "one long float": lambda: b'[0,"value",0.' + b"1" * (MOST - 20) + b"]\n",
    "long exponent": lambda: b'[0,"value",1e' + b"1" * (MOST - 20) + b"]\n",
    "long integers": lambda: filled(b"9" * 4000),
    "texts": lambda: filled(b'"ab"'),
    "empty texts": lambda: filled(b'""'),
    "tuples": lambda: filled(b'{"tuple":[]}'),
    "sets": lambda: filled(b'{"set":[1]}'),
    "dictionaries": lambda: filled(b'{"dict":[[1,1]]}'),
    "hexadecimal": lambda: filled(b'{"int":"0x1"}'),
    "complex": lambda: filled(b'{"complex":[1,1]}'),
    "bytes": lambda: filled(b'{"bytes":"00"}'),
    "others": lambda: filled(b'{"other":"x"}'),
    "nested lists": lambda: filled(b"[" * 90 + b"]" * 90),
    "a complaint of lists": lambda: filled(b"[]", b'["load",', b"]\n"),
    "escapes": lambda: b'[0,"value","' + b"\\n" * (MOST // 2 - 20) + b'"]\n',
    "characters by number": lambda: b'[0,"value","' + b"\\u1234" * (MOST // 6 - 20) + b'"]\n',
    "brackets in a text": lambda: b'[0,"value","' + b'\\",[{' * (MOST // 5) + b'"]\n',
    "a set of texts": lambda: drawn(lambda rng: f'"{rng.random()}"', 130_000, '{"set":[', "]}"),
    "as many integers as are read": lambda: drawn(lambda rng: str(rng.randrange(10**9)), 399_900),
    "as many texts as are read": lambda: drawn(lambda rng: f'"{rng.random()}"', 130_000),
    "as many lists as are read": lambda: drawn(lambda rng: f"[{rng.randrange(10**9)}]", 66_000),
    "as many tuples as are read": lambda: drawn(lambda rng: '{"tuple":[1]}', 30_000),
    "as many complex numbers as are read": lambda: drawn(lambda rng: '{"complex":[1,1]}', 28_000),
    "blank lines": lambda: printed(b"\\n"),
    "short lines": lambda: printed(b"1\\n"),
    "words": lambda: printed(b"1 "),
    "carriage returns": lambda: printed(b"\\r"),
    "wide blanks": lambda: printed(b"\\u3000"),
    "a run of digits": lambda: b'[0,"output",0,"' + b"1" * MIB + b'x"]\n',
    "digits on both sides": lambda: b'[0,"output",0,"' + b"1" * MIB + b"." + b"1" * MIB + b'x"]\n',
    "digits and an exponent": lambda: b'[0,"output",0,"1e' + b"1" * MIB + b'x"]\n',
    "points": lambda: printed(b"."),
}


def came_back(data: bytes) -> tuple[Execution, float]:
    """Return what the streams make of results, and the processor time that it took."""
    pipes = [os.pipe() for _ in range(3)]
    streams = Streams(*(read for read, _ in pipes), limit=MIB)
    streams._data[2].extend(data)
    start = time.thread_time()
    results = streams.results(21)
    took_s = time.thread_time() - start
    streams.close()
    for _, write in pipes:
        os.close(write)
    execution = Execution(
        ending=Ending.DONE,
        exit_code=0,
        results=results,
        stdout="",
        stderr="",
        wall_s=0.0,
        peak_bytes=None,
        backend="",
    )
    return execution, took_s


@pytest.mark.parametrize("name", RESULTS)
@pytest.mark.parametrize("kind", SUITES)
def test_the_largest_output_costs_its_judge_no_more_than_it_may(name: str, kind: str) -> None:
    spent = []
    for _ in range(10):  # the machine may be busy, and its caches with other things
        execution, took_s = came_back(RESULTS[name]())
        report = judge(SUITES[kind], execution)
        assert report.verdict is not CodeVerdict.PASS and report.passed == 0
        spent.append(took_s + report.judge_s)
        if spent[-1] < JUDGE_S:
            break
    assert min(spent) < JUDGE_S


WRITERS = {
    "newlines": "import os\nwhile True: os.write(3, b'\\n' * 65536)",
    "brackets": "import os\nwhile True: os.write(3, b'[' * 65536)",
    "lists": "import os\nos.write(3, b'[0,\"value\",[')\nwhile True: os.write(3, b'[],' * 20000)",
    "single bytes of results": "import os\nwhile True: os.write(3, b' ')",
    "single bytes of errors": "import os\nwhile True: os.write(2, b' ')",
    "single lines": "import os\nwhile True: os.write(3, b'\\n')",
    "single bytes with pauses": "import os, time\nwhile True:\n    os.write(2, b' ')\n    time.sleep(1e-4)",
    "from many processes": "import os\nfor _ in range(5): os.fork()\nwhile True: os.write(2, b' ')",
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_writer_costs_its_judge_no_more_than_it_may(pool: SandboxPool, name: str) -> None:
    start = time.process_time()
    report = run_suite(WRITERS[name], SUITES["call"], pool, LIMITS)
    spent = time.process_time() - start
    assert report.verdict in (CodeVerdict.OUTPUT_LIMIT, CodeVerdict.TIMEOUT)
    assert report.judge_s < JUDGE_S
    assert spent < 2 * JUDGE_S  # the next sandbox is made meanwhile


def test_the_report_counts_the_judges_time(pool: SandboxPool, tmp_path: Path) -> None:
    report = run_suite("def f(): return [1, 2]", SUITES["call"], pool, LIMITS)
    assert report.verdict is CodeVerdict.PASS
    assert report.execution is not None
    assert 0 < report.execution.judge_s < report.judge_s < JUDGE_S
    assert read_execution(write_execution(report.execution)).judge_s == 0.0
    (tmp_path / "p.py").write_text("def f(): return [1, 2]", encoding="ascii")
    (tmp_path / "t.json").write_text(json.dumps(CALLS), encoding="ascii")
    command = ["sandbox", "run", str(tmp_path / "p.py"), "--tests", str(tmp_path / "t.json")]
    code, out, _ = call_main(tmp_path, *command, "--json")
    assert (code, 0 < json.loads(out)["judge_s"] < 1) == (0, True)
    assert "of processor time" in call_main(tmp_path, *command)[1]


def report_of(tests: dict[str, Any], *lines: str) -> Report:
    execution, _ = came_back("".join(f"{line}\n" for line in lines).encode())
    return judge(make_suite(tests), execution)


GARBAGE = """
x|{}|[]|null|1|"done"|[[0]]|[null]|[1.0]|[{"a": 1}]|[-1, 1]|[20, 1]|["other"]|[NaN]|[0, "value"
"""


@pytest.mark.parametrize("garbage", ["", "\ufffd", "[" * 400 + "]" * 400, *GARBAGE.strip().split("|")])
def test_reading_stops_at_the_first_line_that_is_none(garbage: str) -> None:
    first, rest = '[0,"value",[1,2]]', [f'[{i},"value",[1,2]]' for i in range(1, 20)]
    report = report_of(CALLS, first, garbage, *rest, '["done"]')
    assert (report.verdict, report.passed) == (CodeVerdict.RUNTIME_ERROR, 1)
    assert "garbled" in report.message
    assert report_of(CALLS, first, *rest, '["done"]').verdict is CodeVerdict.PASS
    assert report_of(CALLS, first, *rest, '["done"]', garbage).verdict is CodeVerdict.PASS  # after the end


def test_more_lines_than_tests_are_not_read() -> None:
    lines = [f'[{i},"value",[1,2]]' for i in range(20)]
    execution, _ = came_back("".join(f"{line}\n" for line in lines * 50).encode())
    assert len(execution.results) == 22
    assert "twice" in judge(SUITES["call"], execution).message


def test_what_the_tests_expect_may_be_returned_however_much_it_is() -> None:
    numbers = list(range(150_000))
    pairs = [[number, -number] for number in range(40_000)]
    large = [2**60 + number for number in range(60_000)]
    tests = [{"args": [], "expected": value} for value in (numbers, numbers, numbers, pairs, large)]
    lines = [f'[{i},"value",{json.dumps(test["expected"])}]' for i, test in enumerate(tests[:3])]
    lines.append('[3,"value",[' + ",".join(f'{{"tuple":[{a},{b}]}}' for a, b in pairs) + "]]")
    lines.append('[4,"value",[' + ",".join(f'{{"int":"{n:#x}"}}' for n in large) + "]]")
    report = report_of({"mode": "call", "entry": "f", "tests": tests}, *lines, '["done"]')
    assert (report.verdict, report.passed) == (CodeVerdict.PASS, 5)


def test_what_no_test_expects_is_too_much() -> None:
    lines = [f'[{i},"value",{json.dumps(list(range(50_000)))}]' for i in range(20)]
    report = report_of(CALLS, *lines, '["done"]')
    assert (report.verdict, report.passed) == (CodeVerdict.OUTPUT_LIMIT, 0)


@pytest.mark.parametrize(
    ("text", "weight"),
    [
        ("[1,2,3]", 5 + 2),
        ('["a","b"]', 5 + 2 * 2 + 1),
        ('{"tuple":[1]}', 2 * 5 + 2),
        ("", 0),
        ('["' + "," * 1_000_000 + '"]', 5 + 2),
        ('["' + '\\",[' * 300_000 + '"]', 5 + 2),
        ('["' + "\\\\" * 300_000 + '",' + "1," * 500_000 + "2]", 5 + 2 + 500_001),
        ("[" * 100_000, 500_000),
    ],
)
def test_texts_weigh_nothing_by_what_they_contain(text: str, weight: int) -> None:
    assert weigh(text) == weight


@pytest.mark.parametrize("encoded", ["[{}]", '{{"tuple":[{}]}}', '{{"dict":[[1,{}]]}}', '{{"set":[{}]}}'])
def test_a_hundred_levels_are_read_and_no_more_than_the_driver_writes(encoded: str) -> None:
    def nested(levels: int) -> str:
        text = "1"
        for _ in range(levels):
            text = encoded.format(text)
        return f'[0,"value",{text}]'

    assert not is_too_deep(nested(100))
    if "set" not in encoded:
        decode(parse_line(nested(100))[2])
    with pytest.raises(Malformed, match="too deeply"):
        parse_line(nested(310))
    assert not is_too_deep('[0,"value","' + "[" * 10_000 + '"]')


def test_an_executors_answer_of_too_many_values_is_refused() -> None:
    fields = json.loads(write_execution(came_back(b"")[0])) | {"results": [""] * 1_000_000}
    start = time.process_time()
    with pytest.raises(SandboxError, match="too many values"):
        read_execution(json.dumps(fields))
    assert time.process_time() - start < 1.0


# Where memory is held -----------------------------------------------------------------------------------


HOLDERS = {
    "files in /tmp": "for i in range(4): open(f'/tmp/{i}', 'wb').write(bytes(15 << 20))\nhold(40)",
    "files in /dev/shm": (
        "open('/dev/shm/a', 'wb').write(bytes(15 << 20))\n"
        "for i in range(2): open(f'/tmp/{i}', 'wb').write(bytes(15 << 20))\nhold(50)"
    ),
    "files without a name": (
        "for _ in range(4):\n    kept.append(os.open('/tmp', os.O_TMPFILE | os.O_RDWR))\n"
        "    os.write(kept[-1], bytes(15 << 20))\nhold(40)"
    ),
    "files that are removed": (
        "for _ in range(4):\n    kept.append(open('/tmp/x', 'wb'))\n    os.unlink('/tmp/x')\n"
        "    kept[-1].write(bytes(15 << 20))\n    kept[-1].flush()\nhold(40)"
    ),
    "names": "for i in range(16000): os.symlink('a' * 3000, f'/tmp/{i}')\nhold(45)",
    "pipes": "many(lambda: fill(*os.pipe()[::-1]))\nhold(60)",
    "pipes of processes that cannot be looked at": (
        "ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)\nmany(lambda: fill(*os.pipe()[::-1]))\nhold(60)"
    ),
    "sockets": "many(lambda: fill(*(end.detach() for end in socket.socketpair())))",
    "connections nobody takes up": (
        "s = socket.socket(socket.AF_UNIX); s.bind('/tmp/s'); s.listen(4096)\n"
        "for _ in range(400):\n    with socket.socket(socket.AF_UNIX) as c:\n"
        "        c.connect('/tmp/s'); fill(c.fileno())\nhold(40)"
    ),
    "messages": (
        "for i in range(40):\n    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.bind(f'/tmp/{i}')\n"
        "    kept.append(s)\n    for _ in range(10):\n"
        "        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as c:\n"
        "            c.sendto(bytes(200000), f'/tmp/{i}')\nhold(40)"
    ),
    "shared memory": "m = mmap.mmap(-1, 120 << 20)\nfor i in range(0, len(m), 4096): m[i] = 1",
}
NOT_GIVEN = {
    "memfd": "os.write(os.memfd_create('a'), bytes(110 << 20))",
    "larger pipes": "import fcntl\nfcntl.fcntl(os.pipe()[1], 1031, 1 << 20)",
    "larger sockets": "socket.socketpair()[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)",
    "large pages": "mmap.mmap(-1, 4 << 20, flags=0x40022)",
    "pages given to a pipe": "assert ctypes.CDLL(None).vmsplice(os.pipe()[1], None, 0, 0) == 0",
    "shared segments": "assert ctypes.CDLL(None).shmget(0, 110 << 20, 0o1600) >= 0",
}
HOLDING = """
import ctypes, mmap, os, socket, time
kept = []

def hold(mib):
    kept.append(bytearray(b"1") * (mib << 20))

def fill(write, *others):
    kept.extend((write, *others))
    os.set_blocking(write, False)
    try:
        while True: os.write(write, bytes(65536))
    except BlockingIOError:
        pass

def many(make):
    for _ in range(25):
        if os.fork() == 0:
            for _ in range(28): make()
            time.sleep(2)
            os._exit(0)
"""


@pytest.fixture(scope="module", params=["rlimits only", "control groups"])
def nursery(request: pytest.FixtureRequest) -> Iterator[Nursery]:
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "rlimits only":
            patch.setattr("zerone.sandbox.factory.find_cgroup", lambda: None)
        try:
            nursery = Nursery("bubblewrap")
        except SandboxUnavailable as error:
            pytest.skip(str(error))
    if request.param != "rlimits only" and "rlimits only" in nursery.backend:
        nursery.close()
        pytest.skip("no control groups here")
    yield nursery
    nursery.close()


def held(nursery: Nursery, source: str) -> Execution:
    source = f"{HOLDING}{source}\ntime.sleep(1)\n"
    return nursery.cell(LIMITS).run(Job(kind=Kind.STDIN, source=source, items=("",)))


@pytest.mark.parametrize("name", HOLDERS)
def test_memory_is_counted_wherever_it_is_held(nursery: Nursery, name: str) -> None:
    assert held(nursery, HOLDERS[name]).ending is Ending.MEMORY_LIMIT


@pytest.mark.parametrize("name", NOT_GIVEN)
def test_memory_that_nobody_counts_is_not_given(nursery: Nursery, name: str) -> None:
    execution = held(nursery, NOT_GIVEN[name])
    assert execution.ending is Ending.DONE
    assert json.loads(execution.results[0])[2] == 1, execution.results


@pytest.mark.parametrize(
    "source",
    [
        "hold(30)",
        "open('/tmp/a', 'wb').write(bytes(12 << 20))",
        "open('/dev/shm/a', 'wb').write(bytes(8 << 20))",
        "for _ in range(20): fill(*os.pipe()[::-1])",
        "import asyncio\nasyncio.run(asyncio.sleep(0.1))",
        "import multiprocessing\nwith multiprocessing.get_context('fork').Pool(2) as p: p.map(abs, range(9))",
        "import tempfile\nwith tempfile.TemporaryFile() as f: f.write(bytes(9 << 20))",
    ],
)
def test_memory_within_the_limit_is_given(nursery: Nursery, source: str) -> None:
    execution = held(nursery, source)
    assert execution.ending is Ending.DONE
    assert json.loads(execution.results[0])[2] == 0, (execution.results, execution.stderr)


def test_files_in_memory_are_counted_by_a_handle(tmp_path: Path) -> None:
    handle = os.open("/dev/shm", os.O_PATH)
    with tempfile.NamedTemporaryFile(dir="/dev/shm") as file:
        before = scratch_bytes([handle])
        file.write(bytes(MIB))
        file.flush()
        assert scratch_bytes([handle]) >= before + MIB
    os.close(handle)
    assert scratch_bytes([]) == 0


# Who it runs as -----------------------------------------------------------------------------------------


PROBE = """
import sys
from zerone.sandbox.factory import Nursery
from zerone.sandbox.self_test import examine_promises
from zerone.sandbox.pool import SandboxPool
from zerone.sandbox.unit_tests import make_suite, run_suite
from zerone.sandbox.execution import Limits

for backend in sys.argv[1:]:
    nursery = Nursery(backend)
    print(backend, [finding for finding in examine_promises(nursery) if not finding.is_kept])
    nursery.close()
suite = make_suite({"mode": "call", "entry": "f", "tests": [{"args": [2], "expected": 4}]})
with SandboxPool(1) as pool:
    for source in ("def f(n): return 2 * n", "def f(n): return 0"):
        print(run_suite(source, suite, pool, Limits()).verdict.value)
"""


def test_it_works_as_any_user() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can be others")
    for backend in ("bubblewrap", "namespaces"):
        try:
            Nursery(backend).close()
        except SandboxUnavailable as error:
            pytest.skip(str(error))
    python = find_interpreter().path
    question = "import sys; print(sys.version_info >= (3, 11))"
    if subprocess.run([python, "-c", question], capture_output=True).stdout != b"True\n":
        pytest.skip("the system's Python is older than this package")
    source = Path(zerone.__file__).parent
    folder = Path(tempfile.mkdtemp(prefix="zerone-test-"))
    try:
        folder.chmod(0o755)
        (folder / "zerone" / "processes").mkdir(parents=True)
        of_processes = ("processes/__init__.py", "processes/waiting.py")  # what every import of zerone loads
        for name in ("__init__.py", "errors.py", "escaping.py", *of_processes):
            shutil.copy(source / name, folder / "zerone" / name)
        shutil.copytree(source / "sandbox", folder / "zerone" / "sandbox")
        kept = ["bubblewrap []", "namespaces []"]
        for user, groups, expected in (
            (65534, [65534], kept),
            (1000, [1000], kept),
            (2_000_000_000, [7, 8], kept),
            (1, [0], kept),
            (4_000_000_000, [7], []),  # bwrap does not know such users; the other backend does
        ):
            done = subprocess.run(
                [python, "-B", "-c", PROBE, *(line.split()[0] for line in expected)],
                env={"PYTHONPATH": str(folder)},
                cwd="/",
                user=user,
                group=groups[0],
                extra_groups=groups,
                capture_output=True,
                text=True,
            )
            assert done.stdout.splitlines() == [*expected, "pass", "wrong_answer"], (user, done)
    finally:
        shutil.rmtree(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="others run programs as themselves")
def test_no_two_template_processes_share_a_user() -> None:
    users = [claim_user() for _ in range(200)]
    assert len({user.uid for user in users}) == 200
    assert all(user.uid >= 1000 and user.uid != 65534 for user in users)
    taken = users[0].uid
    name = f"'\\0zerone-sandbox-uid-{taken}'"
    script = f"import socket; s = socket; s.socket(s.AF_UNIX, s.SOCK_DGRAM).bind({name})"
    command = [sys.executable, "-c", script]
    assert b"Address already in use" in subprocess.run(command, capture_output=True).stderr
    for user in users:
        user.release()
    assert subprocess.run(command, capture_output=True).returncode == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="others run programs as themselves")
def test_a_user_that_is_taken_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zerone.sandbox.users._free_ids", lambda proc: range(1_500_000_000, 1_500_000_002))
    users = [claim_user() for _ in range(2)]
    assert {user.uid for user in users} == {1_500_000_000, 1_500_000_001}
    with pytest.raises(SandboxUnavailable, match="no user id is free"):
        claim_user()
    for user in users:
        user.release()


@pytest.mark.parametrize(
    ("users", "groups", "first", "last"),
    [
        ("0 0 4294967295", "0 0 4294967295", 0x5A000000, 0x5AFFFFFF),
        ("0 100000 65536", "0 100000 65536", 1000, 65533),
        ("0 1000 1\n1 100000 65536", "0 1000 1\n1 100000 65536", 1000, 65533),
        ("0 100000 65536", "0 100000 5000", 1000, 4999),
        ("0 100000 2000000000", "0 100000 65536", 1000, 65533),
        ("0 1000 1", "0 1000 1", None, None),
        ("", "", None, None),
    ],
)
def test_ids_are_taken_that_exist_here(
    tmp_path: Path, users: str, groups: str, first: int | None, last: int | None
) -> None:
    (tmp_path / "uid_map").write_text(users, encoding="ascii")
    (tmp_path / "gid_map").write_text(groups, encoding="ascii")
    free = _free_ids(tmp_path)
    assert (free[0] if free else None, free[-1] if free else None) == (first, last)


# What is equal -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected", "is_same"),
    [
        (1e18, 10**18 + 1, False),
        (1e18, 10**18 - 1, False),
        (1e18, 10**18, True),
        (-1e18, -(10**18) - 1, False),
        (1e15, 10**15 + 1, False),
        (9007199254740992.0, 2**53 + 1, False),
        (9007199254740992.0, 2**53, True),
        (1e300, 10**300 + 1, False),
        (float(2**400), 2**400, True),
        (1e9 + 0.3, 10**9, True),
        (1e9 + 0.6, 10**9, False),
        (3.0, 3, True),
        (0.1 + 0.2 + 2.7, 3, True),
        (1e-13, 0, True),
        (0.5, 0, False),
        (10**18 + 1, 1e18, True),  # an expected float is itself a rounded number
        (10**18 + 10**10, 1e18, False),
        ([1e18], [10**18 + 1], False),
        ({"a": 1e18}, {"a": 10**18 + 1}, False),
        ((1e18, 1), [10**18 + 1, 1], False),
        (float("inf"), 10**400, False),
    ],
)
def test_an_expected_integer_is_exact(value: Any, expected: Any, is_same: bool) -> None:
    assert is_same_json(value, expected) is is_same


@pytest.mark.parametrize(
    ("output", "expected", "is_same"),
    [
        ("1\r2", "1 2", False),
        ("1\r2\n", "1 2\n", False),
        ("1\r2", "1\n2", True),
        ("1\r\n2", "1\n2", True),
        ("1 2\r\n", "1 2", True),
        ("1 2\r", "1 2", True),
        ("1\r\r\n", "1", True),
        ("1\r2 3", "1\n2 3", True),
        ("1", "1\r2", False),
        ("1\t2", "1 2", True),
    ],
)
def test_a_lone_carriage_return_ends_a_line(output: str, expected: str, is_same: bool) -> None:
    assert is_same_output(output, expected) is is_same
