"""How much of the machine others use is read from /proc, here a made-up one, and said in a sentence."""

import os
from pathlib import Path

import pytest

from zerone.processes import sharing
from zerone.processes.sharing import OtherWork, Watch, busy_seconds, family_seconds, sentence

TICKS = os.sysconf("SC_CLK_TCK")


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "own_cores", lambda: frozenset({0, 1}))


def write_stat(proc: Path, *cores: tuple[float, float]) -> None:
    """Write /proc/stat with seconds of (work, stolen) for each core; idle time says nothing."""
    lines = ["cpu  1 2 3 4 5 6 7 8 9 10"]
    for number, (work, stolen) in enumerate(cores):
        parts = [int(work * TICKS / 5)] * 5
        user, nice, system, interrupts, soft = parts
        lines.append(
            f"cpu{number} {user} {nice} {system} 987654 4321 {interrupts} {soft} {int(stolen * TICKS)} 0 0"
        )
    (proc / "stat").write_text("\n".join([*lines, "intr 123 4 5", "ctxt 99"]) + "\n")


def write_process(proc: Path, number: int, parent: int, seconds: float, ended: float = 0.0) -> None:
    folder = proc / str(number)
    folder.mkdir(exist_ok=True)
    times = " ".join(str(int(value * TICKS / 2)) for value in (seconds, seconds, ended, ended))
    name = "(a) (b 1 2 3)"  # names may hold anything
    (folder / "stat").write_text(f"{number} {name} S {parent} 1 1 0 -1 4194304 0 0 0 0 {times} 20 0 1 0 99\n")


class Machine:
    """A made-up machine of two cores, on which time passes."""

    def __init__(self, proc: Path) -> None:
        self.proc, self.now = proc, 1000.0
        self.busy, self.stolen, self.own = [500.0, 600.0], [0.0, 0.0], 100.0
        self.write()

    def write(self) -> None:
        write_stat(self.proc, *zip(self.busy, self.stolen, strict=True))

    def pass_by(self, seconds: float, others: float = 0.0, own: float = 0.0, stolen: float = 0.0) -> None:
        """Let seconds pass in which others take so many cores, and we so many."""
        self.now += seconds
        self.own += own * seconds
        for core in (0, 1):
            self.busy[core] += (others + own) * seconds / 2
            self.stolen[core] += stolen * seconds / 2
        self.write()

    def watch(self) -> Watch:
        return Watch(lambda: self.own, self.proc, lambda: self.now)


@pytest.mark.parametrize(
    ("others", "own", "stolen", "taken"),
    [
        (0.0, 0.0, 0.0, 0.0),
        (0.0, 2.0, 0.0, 0.0),
        (1.0, 0.0, 0.0, 1.0),
        (1.0, 1.0, 0.0, 1.0),
        (0.5, 1.5, 0.0, 0.5),
        (2.0, 0.0, 0.0, 2.0),
        (0.0, 1.0, 0.5, 0.5),
        (0.25, 1.0, 0.25, 0.5),
    ],
)
def test_a_watch_tells_what_others_took(
    others: float, own: float, stolen: float, taken: float, tmp_path: Path
) -> None:
    machine = Machine(tmp_path)
    watch = machine.watch()
    machine.pass_by(10, others, own, stolen)
    work = watch.look()
    assert work is not None
    assert work.cores == 2
    assert work.taken == pytest.approx(taken, abs=0.02)


def test_each_look_tells_of_the_time_since_the_one_before(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    watch = machine.watch()
    told = []
    for others in (0.0, 1.5, 0.0):
        machine.pass_by(5, others=others)
        work = watch.look()
        assert work is not None
        told.append(round(work.taken, 1))
    assert told == [0.0, 1.5, 0.0]


def test_a_look_that_comes_too_soon_says_the_last_one_again(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    watch = machine.watch()
    machine.pass_by(0.01, others=2.0)
    assert watch.look() is None
    machine.pass_by(10, others=1.0)
    first = watch.look()
    machine.pass_by(0.01)
    assert first is not None
    assert watch.look() == first


def test_our_own_time_beyond_the_ticks_is_never_a_debt_of_others(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    watch = machine.watch()
    machine.own += 3
    machine.pass_by(1)
    work = watch.look()
    assert work is not None
    assert work.taken == 0.0


@pytest.mark.parametrize(
    "text",
    [None, "", "cpu  1 2 3\n", "cpu0 1 2\n", "cpu0 one two three four five six seven eight\n", "\xff\xfe"],
)
def test_where_nothing_can_be_read_nothing_is_told(text: str | None, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "stat").write_text(text, encoding="utf-8")
    assert busy_seconds(frozenset({0, 1}), tmp_path) is None
    watch = Watch(lambda: 0.0, tmp_path, lambda: 0.0)
    assert watch.look() is None
    assert sentence(watch.look(), 2, is_at_work=True) == ""


def test_a_counter_that_goes_away_is_not_an_error(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    watch = machine.watch()
    machine.pass_by(1, others=1.0)
    (tmp_path / "stat").unlink()
    assert watch.look() is None
    assert watch.look() is None


def test_only_the_cores_that_we_may_use_count(tmp_path: Path) -> None:
    write_stat(tmp_path, (10, 0), (20, 0), (40, 1))
    assert busy_seconds(frozenset({0}), tmp_path) == pytest.approx(10, abs=0.1)
    assert busy_seconds(frozenset({1, 2}), tmp_path) == pytest.approx(61, abs=0.1)
    assert busy_seconds(frozenset({7}), tmp_path) is None


def test_a_kernel_without_steal_is_read_as_well(tmp_path: Path) -> None:
    (tmp_path / "stat").write_text(f"cpu0 {TICKS} {TICKS} {TICKS} 9 9 {TICKS} {TICKS}\n")
    assert busy_seconds(frozenset({0}), tmp_path) == pytest.approx(5)


def test_children_and_what_has_ended_of_them_are_ours_and_others_are_not(tmp_path: Path) -> None:
    write_process(tmp_path, 1, 0, 1000)
    write_process(tmp_path, 10, 1, 5, ended=2)
    write_process(tmp_path, 11, 10, 3)
    write_process(tmp_path, 12, 11, 1, ended=4)
    write_process(tmp_path, 20, 1, 77)
    (tmp_path / "sys").mkdir()
    (tmp_path / "30").mkdir()  # it ended while we looked
    (tmp_path / "31").mkdir()
    (tmp_path / "31" / "stat").write_text("31 (cut")
    assert family_seconds(10, tmp_path) == pytest.approx(15, abs=0.05)
    assert family_seconds(20, tmp_path) == pytest.approx(77, abs=0.05)
    assert family_seconds(99, tmp_path) == 0.0


@pytest.mark.parametrize("is_elastic", [False, True])
def test_ranks_that_torchrun_started_are_no_strangers(
    is_elastic: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    if is_elastic:
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    write_process(tmp_path, os.getppid(), 1, 1)
    write_process(tmp_path, os.getpid(), os.getppid(), 2)
    write_process(tmp_path, 10**8, os.getppid(), 4)
    seconds = sharing.own_family(tmp_path)()
    assert seconds == pytest.approx(7 if is_elastic else 2, abs=0.05)


@pytest.mark.parametrize(
    ("cores", "taken", "threads", "is_in_the_way"),
    [
        (2, 0.0, 2, False),
        (2, 0.2, 2, False),
        (2, 0.3, 2, True),
        (2, 2.0, 2, True),
        (2, 1.0, 1, False),  # the other core is free
        (2, 1.5, 1, True),
        (16, 8.0, 8, False),
        (16, 8.5, 8, True),
        (16, 1.0, 16, True),
    ],
)
def test_others_are_in_the_way_where_our_threads_find_too_few_cores(
    cores: int, taken: float, threads: int, is_in_the_way: bool
) -> None:
    work = OtherWork(cores=cores, taken=taken)
    assert work.is_in_the_way(threads) == is_in_the_way
    assert bool(sentence(work, threads, is_at_work=True)) == is_in_the_way


@pytest.mark.parametrize(
    ("taken", "threads", "is_at_work", "expected"),
    [
        (1.0, 2, True, "other processes take 1.0 of 2 cores; this takes about 2.0 times as long"),
        (0.67, 2, True, "other processes take 0.7 of 2 cores; this takes about 1.5 times as long"),
        (2.0, 2, True, "other processes take 2.0 of 2 cores; this takes over 10 times as long"),
        (1.0, 2, False, "other processes take 1.0 of 2 cores; this takes about 1.5 times as long"),
        (2.0, 2, False, "other processes take 2.0 of 2 cores; this takes about 2.0 times as long"),
        (2.0, 1, False, "other processes take 2.0 of 2 cores; this takes about 1.5 times as long"),
    ],
)
def test_the_sentence_says_what_is_taken_and_what_it_costs(
    taken: float, threads: int, is_at_work: bool, expected: str
) -> None:
    work = OtherWork(cores=2, taken=taken)
    assert sentence(work, threads, is_at_work=is_at_work) == f"shared machine: {expected}"
