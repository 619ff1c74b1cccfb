"""Programs per second and latency: the sandbox against plain subprocesses and a bare bwrap.

    python benchmarks/sandbox_speed.py [--runs 200] [--threads 2] [--json FILE]

One run is one candidate with `--tests` calls of a function. All ways run the same program on the
same Python in the same process, one after the other.

sandbox: `SandboxPool`, verdict included. latency is what a caller waits when it comes alone and
the sandbox had time to get ready; rate is that of `--threads` callers without a pause.
subprocess: `python -I -S program` without any isolation, the results compared in the same way.
bwrap: the same in a new bubblewrap sandbox for each run, without system-call filter, control
group or limits: what isolation by a fresh bwrap costs at the least.
"""

import argparse
import json
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median, quantiles

from zerone.sandbox.bubblewrap import bubblewrap_command, bubblewrap_path
from zerone.sandbox.execution import Limits
from zerone.sandbox.interpreter import find_interpreter
from zerone.sandbox.pool import SandboxPool
from zerone.sandbox.unit_tests import CodeVerdict, make_suite, run_suite

PROGRAM = "def solve(n):\n    return [i * i for i in range(n)]\n"
PAUSE_S = 0.03


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Speed of the sandbox against plain subprocesses.")
    parser.add_argument("--runs", type=int, default=200, help="runs per figure")
    parser.add_argument("--threads", type=int, default=2, help="callers at once")
    parser.add_argument("--tests", type=int, default=20, help="tests per candidate")
    parser.add_argument("--json", type=Path, help="write the figures here")
    return parser.parse_args()


def subprocess_run(prefix: list[str], num_tests: int) -> Callable[[], None]:
    source = f"{PROGRAM}import json\nprint(json.dumps([solve(i) for i in range({num_tests})]))"
    expected = [[j * j for j in range(i)] for i in range(num_tests)]

    def run() -> None:
        command = [*prefix, "-I", "-S", "-B", "-c", source]
        done = subprocess.run(command, capture_output=True, env={}, timeout=10, check=True)
        assert json.loads(done.stdout) == expected

    return run


def sandbox_run(pool: SandboxPool, num_tests: int) -> Callable[[], None]:
    tests = [{"args": [i], "expected": [j * j for j in range(i)]} for i in range(num_tests)]
    suite = make_suite({"mode": "call", "entry": "solve", "tests": tests})

    def run() -> None:
        assert run_suite(PROGRAM, suite, pool, Limits()).verdict is CodeVerdict.PASS

    return run


def measure(run: Callable[[], None], runs: int, threads: int) -> dict[str, float]:
    def timed(_: int) -> float:
        start = time.perf_counter()
        run()
        return (time.perf_counter() - start) * 1000

    for index in range(2 * threads):
        timed(index)
    alone = []
    for index in range(min(runs, 60)):
        time.sleep(PAUSE_S)
        alone.append(timed(index))
    with ThreadPoolExecutor(threads) as pool:
        start = time.perf_counter()
        busy = list(pool.map(timed, range(runs)))
        rate = runs / (time.perf_counter() - start)
    return {
        "latency_p50_ms": median(alone),
        "latency_p95_ms": quantiles(alone, n=20)[-1],
        "busy_p50_ms": median(busy),
        "runs_per_s": rate,
    }


def main() -> None:
    arguments = parse_arguments()
    interpreter = find_interpreter()
    figures: dict[str, dict[str, float]] = {}
    with SandboxPool(arguments.threads) as pool:
        one, many = sandbox_run(pool, 1), sandbox_run(pool, arguments.tests)
        figures["sandbox, 1 test"] = measure(one, arguments.runs, arguments.threads)
        figures[f"sandbox, {arguments.tests} tests"] = measure(many, arguments.runs, arguments.threads)
    plain = subprocess_run([interpreter.path], arguments.tests)
    figures[f"subprocess, {arguments.tests} tests"] = measure(plain, arguments.runs, arguments.threads)
    if bwrap := bubblewrap_path():
        walls = bubblewrap_command(bwrap, interpreter)
        bare = subprocess_run(walls, arguments.tests)
        figures[f"bwrap, {arguments.tests} tests"] = measure(bare, arguments.runs, arguments.threads)
    for name, row in figures.items():
        print(f"{name:<24}", *(f"{key} {value:8.1f}" for key, value in row.items()))
    rates = {name.split(",")[0]: row["runs_per_s"] for name, row in figures.items()}
    print(f"sandbox / subprocess: {rates['sandbox'] / rates['subprocess']:.2f} of the rate")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
