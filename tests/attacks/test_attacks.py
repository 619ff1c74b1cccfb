"""No attack passes, every honest program does, and the host is as it was. In both kinds of isolation.

Each category runs on one pool, so every attack has neighbours before and after it, and an honest
program after each attack shows that nothing was broken.
"""

import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from attacks.programs import ASSERTS, CATEGORIES, TESTS, Program, read_programs
from zerone.errors import SandboxUnavailable
from zerone.sandbox.execution import MIB, Limits
from zerone.sandbox.factory import BACKENDS, Nursery
from zerone.sandbox.pool import SandboxPool
from zerone.sandbox.process_tree import tree_processes
from zerone.sandbox.unit_tests import CodeVerdict, Report, make_suite, run_suite

LIMITS = Limits(memory_bytes=96 * MIB, wall_s=0.5, processes=16, output_bytes=200_000)
PATIENT = Limits(memory_bytes=96 * MIB, wall_s=5.0, processes=16)
SUITE, ASSERT_SUITE = make_suite(TESTS), make_suite(ASSERTS)
HONEST = read_programs("honest")
ATTACKS = [(category, program) for category in CATEGORIES for program in read_programs(category)]


@dataclass(frozen=True)
class Host:
    """What attacks look for: a file, a listener, a process."""

    pool: SandboxPool
    prelude: str


def works(backend: str) -> bool:
    try:
        Nursery(backend).close()
    except SandboxUnavailable:
        return False
    return True


@pytest.fixture(scope="module", params=BACKENDS)
def host(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    if not works(request.param):
        pytest.skip(f"{request.param} does not work here")
    folder = tmp_path_factory.mktemp("host")
    canary = folder / "zerone-canary"
    canary.write_text("secret", encoding="ascii")
    for path in (canary, *canary.parents):
        if path.stat().st_uid == os.getuid() and str(path).startswith(str(folder)):
            path.chmod(0o755)
    before = sorted(os.listdir("/"))
    groups = left_groups()  # so may their groups
    processes = set(tree_processes(os.getpid()))  # pools of other tests may be among them
    with (
        SandboxPool(1, request.param) as pool,
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.socket(socket.AF_UNIX) as abstract,
    ):
        port = listener.getsockname()[1]
        abstract.bind(f"\0zerone-attack-{port}")
        abstract.listen()
        yield Host(
            pool=pool, prelude=f"CANARY, HOST_PORT, HOST_PID = {str(canary)!r}, {port}, {os.getpid()}\n"
        )
        for reached in (listener, abstract):
            reached.setblocking(False)
            with pytest.raises(BlockingIOError):
                reached.accept()
    assert canary.read_text(encoding="ascii") == "secret"
    assert sorted(path.name for path in folder.iterdir()) == ["zerone-canary"]
    assert sorted(os.listdir("/")) == before
    assert set(tree_processes(os.getpid())) <= processes
    assert set(left_groups()) <= set(groups)


def left_groups() -> list[str]:
    return [str(path) for path in Path("/sys/fs/cgroup").glob(f"**/zerone-{os.getpid()}-*")]


def judge(host: Host, program: Program, limits: Limits = LIMITS) -> Report:
    return run_suite(host.prelude + program.source, SUITE, host.pool, limits)


@pytest.mark.parametrize("program", HONEST, ids=lambda program: program.name)
def test_honest_program_passes(host: Host, program: Program) -> None:
    report = judge(host, program, PATIENT)
    assert (report.verdict, report.passed) == (CodeVerdict.PASS, 4), report


@pytest.mark.parametrize(
    ("category", "program"), ATTACKS, ids=[f"{category}-{program.name}" for category, program in ATTACKS]
)
def test_attack_does_not_pass(host: Host, category: str, program: Program) -> None:
    start = time.monotonic()
    report = judge(host, program)
    assert time.monotonic() - start < LIMITS.wall_s + 10.0
    if program.verdicts and report.verdict is CodeVerdict.TIMEOUT:  # a busy machine, perhaps
        report = judge(host, program, PATIENT)
    assert report.verdict is not CodeVerdict.PASS
    assert report.verdict is not CodeVerdict.REFUSED
    assert not program.verdicts or report.verdict.value in program.verdicts, report
    assert judge(host, HONEST[0], PATIENT).verdict is CodeVerdict.PASS


@pytest.mark.parametrize("program", read_programs("forging"), ids=lambda program: program.name)
def test_forgery_does_not_pass_where_tests_are_assertions(host: Host, program: Program) -> None:
    verdict = run_suite(program.source, ASSERT_SUITE, host.pool, LIMITS).verdict
    # Python itself finds [2.0] equal to [2] and [True] to [1]; these tests hold no such pair.
    assert verdict is not CodeVerdict.PASS


def test_there_are_enough_of_both() -> None:
    assert len({program.source for _, program in ATTACKS}) >= 100
    assert len(HONEST) >= 15
