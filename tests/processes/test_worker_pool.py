"""The pool of killable workers: deadlines, deaths, threads, forks and what is left behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from processes import has_ended, wait_until
from zerone.errors import VerifierError
from zerone.processes.worker_pool import WorkerPool, WorkerTimeout


def pool_of(size: int = 1, seconds: float = 5.0, *arguments: str) -> WorkerPool:
    return WorkerPool("pool_worker", arguments, size, seconds)


@pytest.fixture
def pool() -> Iterator[WorkerPool]:
    pool = pool_of()
    yield pool
    pool.close()


def is_running(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_worker_is_started_when_needed_and_kept(pool: WorkerPool) -> None:
    assert pool.process_ids == ()
    first, second = pool.ask({"say": "\u4f60\n\u597d"}), pool.ask({"say": 2})
    assert (first["said"], second["said"]) == ("\u4f60\n\u597d", 2)
    assert first["pid"] == second["pid"] != os.getpid()


def test_a_late_worker_is_killed_and_replaced() -> None:
    pool = pool_of(1, 0.3)
    late = pool.ask({"say": 1})["pid"]
    start = time.monotonic()
    with pytest.raises(WorkerTimeout):
        pool.ask({"say": 2, "work": 60})
    assert time.monotonic() - start < 20
    assert not is_running(late)
    assert pool.ask({"say": 3})["said"] == 3
    pool.close()


def test_a_worker_that_gets_no_processor_is_our_failure_and_no_timeout() -> None:
    pool = pool_of(1, 0.2)
    with pytest.raises(VerifierError, match="no answer"):
        pool.ask({"say": 1, "sleep": 60})
    assert pool.ask({"say": 2})["said"] == 2
    pool.close()


def test_time_that_others_use_does_not_count_towards_the_deadline() -> None:
    pool = pool_of(1, 0.3)
    assert pool.ask({"say": 1, "sleep": 0.6, "work": 0.05})["said"] == 1
    pool.close()


def test_time_in_the_queue_does_not_count_towards_the_deadline() -> None:
    pool = pool_of(1, 0.6)
    pool.warm_up()
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda i: pool.ask({"say": i, "sleep": 0.3}), range(4)))
    assert [answer["said"] for answer in answers] == [0, 1, 2, 3]
    pool.close()


def test_a_worker_that_dies_by_accident_is_replaced_and_asked_again(pool: WorkerPool, tmp_path: Path) -> None:
    assert pool.ask({"say": 1, "die_once": str(tmp_path / "mark")})["said"] == 1


@pytest.mark.parametrize("request_", [{"signal": signal.SIGSEGV}, {"spin": True}])
def test_a_request_that_breaks_every_worker_is_a_timeout(pool: WorkerPool, request_: dict[str, int]) -> None:
    with pytest.raises(WorkerTimeout):
        pool.ask({"say": 1, **request_})
    assert pool.ask({"say": 2})["said"] == 2


@pytest.mark.parametrize("request_", [{"signal": signal.SIGKILL}, {"exit": 1}])
def test_workers_that_end_for_another_reason_are_a_failure_of_ours(
    pool: WorkerPool, request_: dict[str, int]
) -> None:
    with pytest.raises(VerifierError, match="exit code"):
        pool.ask({"say": 1, **request_})
    assert pool.ask({"say": 2})["said"] == 2


def test_a_worker_killed_while_idle_is_no_loss(pool: WorkerPool) -> None:
    os.kill(pool.ask({"say": 1})["pid"], signal.SIGKILL)
    assert pool.ask({"say": 2})["said"] == 2


@pytest.mark.parametrize(("mode", "message"), [("broken", "no library"), ("silent", "did not start")])
def test_workers_that_cannot_start_are_a_failure_and_not_a_hang(mode: str, message: str) -> None:
    pool = pool_of(1, 5.0, mode)
    for _ in range(3):
        with pytest.raises(VerifierError, match=message):
            pool.ask({"say": 1})
    assert pool.process_ids == ()
    pool.close()


def test_many_threads_get_their_own_answers() -> None:
    pool = pool_of(2)
    with ThreadPoolExecutor(32) as threads:
        answers = list(threads.map(lambda i: pool.ask({"say": i}), range(320)))
    assert [answer["said"] for answer in answers] == list(range(320))
    assert len(pool.process_ids) <= 2
    pool.close()


def test_a_closed_pool_leaves_no_process_and_says_so() -> None:
    pool = pool_of(2)
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda i: pool.ask({"say": i, "sleep": 0.1}), range(2)))
    workers = pool.process_ids
    pool.close()
    assert len(workers) == 2
    assert not any(map(is_running, workers))
    with pytest.raises(VerifierError):
        pool.ask({"say": 1})


def test_workers_see_nothing_of_the_environment(pool: WorkerPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_SECRET", "token")
    process_id = pool.ask({"say": 1})["pid"]
    assert b"token" not in Path(f"/proc/{process_id}/environ").read_bytes()


def run_script(code: str) -> list[int]:
    """Run a program that ends by force, and return the numbers that it printed."""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    return [int(number) for number in run.stdout.split()]


def test_workers_end_when_their_parent_is_killed() -> None:
    (worker,) = run_script(
        "import os\n"
        "from zerone.processes.worker_pool import WorkerPool\n"
        "pool = WorkerPool('zerone.rewards.math.worker', ('1024', '2'), 1, 5.0)\n"
        "pool.warm_up()\n"
        "print(*pool.process_ids, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    wait_until(lambda: has_ended(worker), "a worker goes on without its parent")


def test_a_forked_child_gets_workers_of_its_own() -> None:
    parent, child = run_script(
        "import os\n"
        "from zerone.rewards.math import verifier as math\n"
        "def ask():\n"
        "    assert math.verify_math('\\\\ln 8', {'answer': '3\\\\ln 2'}).outcome == 'correct'\n"
        "    print(*math._pool().process_ids, flush=True)\n"
        "ask()\n"
        "if os.fork() == 0:\n"
        "    ask()\n"
        "    math._pool().close()\n"
        "    os._exit(0)\n"
        "os.wait()\n"
        "math.verify_math('\\\\ln 9', {'answer': '2\\\\ln 3'})\n"
        "math._pool().close()\n"
    )
    assert parent != child
