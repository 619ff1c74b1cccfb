"""torch's threads sleep while others need the cores, and the sums that they make stay the same."""

import os
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import torch

from processes import wait_until
from zerone.processes import crowd, machine, threads
from zerone.processes.crowd import Crowd
from zerone.processes.machine import Machine
from zerone.processes.sharing import OtherWork, Watch
from zerone.processes.threads import Keeper, threads_for

FREE = OtherWork(cores=2, taken=0.0)
TAKEN = OtherWork(cores=2, taken=1.0)

needs_libgomp = pytest.mark.skipif(crowd._libgomp() is None, reason="this torch has no libgomp")


@pytest.fixture(autouse=True)
def no_settings_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)


def num_threads_of_process() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


@needs_libgomp
def test_a_crowd_is_threads_that_come_and_go() -> None:
    team = Crowd()
    before = num_threads_of_process()
    for _ in range(3):
        seen = [team.is_there]
        gather = partial(team.gather, 2, 2)
        changes: tuple[Callable[[], None], ...] = (gather, gather, team.disperse)
        for change in changes:
            change()
            seen.append(team.is_there)
            if team.is_there:
                assert num_threads_of_process() == before + 2
        assert seen == [False, True, True, False]
        wait_until(lambda: num_threads_of_process() == before, "the threads stay")
    team.disperse()


@needs_libgomp
@pytest.mark.parametrize(
    ("cores", "threads", "size"), [(2, 2, 2), (2, 8, 2), (8, 8, 2), (8, 4, 6), (8, 2, 8)]
)
def test_with_the_crowd_libgomp_counts_more_threads_than_cores(
    cores: int, threads: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[int] = []
    monkeypatch.setattr(crowd, "_libgomp", lambda: started.append)
    team = Crowd()
    team.gather(cores, threads)
    team.disperse()
    assert started == [size]
    assert threads + size - 1 > cores


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@needs_libgomp
@pytest.mark.usefixtures("two_threads")
def test_sums_are_the_same_bit_for_bit_with_and_without_a_crowd() -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(300, 4000), torch.randn(64, 4000)

    def sums() -> list[torch.Tensor]:
        return [x.sum(), x.logsumexp(-1), x @ weight.T, torch.cumsum(x.flatten(), 0), x.var()]

    before = sums()
    team = Crowd()
    team.gather(cores=2, threads=2)
    during = sums()
    team.disperse()
    for results in (during, sums()):
        assert all(torch.equal(one, other) for one, other in zip(before, results, strict=True))


@pytest.mark.parametrize("error", [OSError, AttributeError])
def test_a_torch_without_libgomp_is_left_alone(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("ctypes.CDLL", refuse)
    team = Crowd()
    team.gather(cores=2, threads=2)
    assert not team.is_there
    team.disperse()


class FakeCrowd(Crowd):
    """Notes what it is told; there is no libgomp in it."""

    def __init__(self) -> None:
        super().__init__()
        self.has_come = False

    @property
    def is_there(self) -> bool:
        return self.has_come

    def gather(self, cores: int, threads: int) -> None:
        self.has_come = True

    def disperse(self) -> None:
        self.has_come = False


def keeper_of(threads: int, make_watch: Callable[[], Watch] = Watch) -> Keeper:
    keeper = Keeper(make_watch, FakeCrowd())
    keeper._threads = threads
    return keeper


@pytest.mark.parametrize(
    ("threads", "looks", "crowded"),
    [
        (2, [FREE, FREE], [False, False]),
        (2, [TAKEN], [True]),
        (2, [TAKEN, FREE, FREE, FREE], [True, True, False, False]),
        (2, [TAKEN, FREE, TAKEN, FREE, FREE], [True, True, True, True, False]),  # bursts
        (2, [TAKEN, None], [True, False]),
        (2, [None, None], [False, False]),
        (1, [TAKEN, TAKEN], [False, False]),
        (2, [OtherWork(cores=8, taken=5.0)], [False]),  # there are cores for all
        (4, [OtherWork(cores=8, taken=5.0)], [True]),
    ],
)
def test_threads_sleep_while_others_need_the_cores(
    threads: int, looks: list[OtherWork | None], crowded: list[bool]
) -> None:
    keeper = keeper_of(threads)
    seen = []
    for look in looks:
        keeper.heed(look)
        seen.append(keeper.is_crowded)
    assert seen == crowded


def test_when_one_thread_is_left_it_need_not_sleep() -> None:
    keeper = keeper_of(2)
    keeper.heed(TAKEN)
    assert keeper.is_crowded
    keeper.use(1)
    keeper.heed(TAKEN)
    assert not keeper.is_crowded


class Scripted(Watch):
    """A watch that tells the same at each look."""

    def __init__(self, told: OtherWork) -> None:
        self.told = told

    def look(self) -> OtherWork:
        return self.told


def watchers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "machine watch"]


def test_one_watch_runs_while_there_is_more_than_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "LOOK_S", 0.01)
    before = watchers()
    keeper = Keeper(lambda: Scripted(TAKEN), FakeCrowd())
    keeper.use(1)
    assert watchers() == before
    keeper.use(2)
    keeper.use(2)
    assert len(watchers()) == len(before) + 1
    wait_until(lambda: keeper.is_crowded, "nothing came of the look")
    keeper.use(1)
    wait_until(lambda: watchers() == before and not keeper.is_crowded, "the watch goes on")
    keeper.use(2)
    wait_until(lambda: keeper.is_crowded, "the watch did not begin again")
    keeper.use(1)
    wait_until(lambda: watchers() == before, "the watch goes on")


@pytest.mark.parametrize(
    ("name", "value"),
    [("OMP_WAIT_POLICY", "active"), ("OMP_WAIT_POLICY", "passive"), ("GOMP_SPINCOUNT", "0")],
)
def test_a_policy_of_the_users_own_is_left_alone(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    before = watchers()
    keeper = Keeper(lambda: Scripted(TAKEN), FakeCrowd())
    keeper.use(2)
    assert watchers() == before


@pytest.mark.parametrize(
    ("wanted", "users", "expected"),
    [
        (0, None, 7),
        (3, None, 3),
        (0, "5", 5),
        (3, "5", 3),  # an option of the run is more than a setting of the machine
        (0, "4,2,1", 4),
        (0, " 6 ", 6),
        (0, "", 7),
        (0, "0", 7),
        (0, "-1", 7),
        (0, "many", 7),
    ],
)
def test_the_number_of_threads_is_wanted_or_the_users_or_measured(
    wanted: int, users: str | None, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        threads, "known_machine", lambda: Machine(precision="fp32", threads=7, gflops={"fp32 x7": 1.0})
    )
    if users is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", users)
    assert threads_for(wanted) == expected


@pytest.mark.parametrize(("taken", "expected"), [(0.0, 1), (1.0, 2)])
def test_beside_others_no_threads_are_given_up(
    taken: float, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever spins beside a busy process is measured slow; that is kept for good in the cache."""
    monkeypatch.setattr(machine, "available_cores", lambda: 2)
    monkeypatch.setattr(machine, "Watch", lambda _: Scripted(OtherWork(cores=2, taken=taken)))
    monkeypatch.setattr(machine, "measure_gflops", lambda precision, number: {1: 100.0, 2: 20.0}[number])
    assert machine.measure().threads == expected


def test_the_machine_that_runs_these_tests_is_watched_without_an_error() -> None:
    watch = Watch()
    wait_until(lambda: watch.look() is not None or not Path("/proc/stat").exists(), "nothing is told")
    work = watch.look()
    if work is not None:
        assert 0 <= work.taken <= work.cores == len(os.sched_getaffinity(0))
