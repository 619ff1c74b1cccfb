"""How fast the rollouts browser answers over 100,000 rollouts, by real requests on loopback.

    python benchmarks/view_speed.py [--rollouts 100000] [--tokens 300] [--repeats 20] [--dir DIR]

It writes a run of made-up rollouts by the writer that training uses, starts `zerone view` on it as a
process, and times requests on one kept connection, as a browser sends them. The first view is the page,
with which come the run, the groups of the last step and one group. Then the same without the indexes, as
runs have it that are older than them.
"""

import argparse
import http.client
import json
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from zerone.config import build_config, to_yaml
from zerone.runs.directory import RunDir
from zerone.types import Credited, Finish, Graded, Group, Outcome, Problem, Rollout

GROUPS, SAMPLES = 48, 16
WORDS = ["3", "5", "7", "+", "*", "=", "12", "no", "wait", "check", "yes", "so", "try", "48", "again"]
INDEXES = ("groups_problem", "groups_kind", "rollouts_figures")

FIRST_VIEW = ("/",)
REQUESTS = {
    "groups of a step by reward": ("/api/groups?step={middle}&order=reward",),
    "a group": ("/api/group?step={middle}&position=20",),
    "the same problem across steps": ("/api/across?step={middle}&position=0",),
    "a kind across steps": ("/api/across?step={middle}&position=20",),
    "all rollouts by length": ("/api/find?order=length",),
    "search, a frequent word": ("/api/find?text=wait",),
    "search, one hit at the end": ("/api/find?text=needle",),
    "search, one hit, sorted": ("/api/find?text=needle&order=reward",),
}


def make_groups(step: int, draw: random.Random, num_tokens: int, *, is_last: bool) -> Iterator[Credited]:
    for position in range(GROUPS):
        problem = Problem(
            id=f"p{position}" if position == 0 else f"p{step}-{position}",
            family=("countdown", "arithmetic")[position % 2],
            level=1 + position % 5,
            language="en",
            prompt=" ".join(draw.choices(WORDS, k=40)),
            verifier="number",
            spec={"answer": "8"},
        )
        members = []
        for sample in range(SAMPLES):
            length = draw.randint(num_tokens // 2, num_tokens * 3 // 2)
            text = " ".join(draw.choices(WORDS, k=length))
            if is_last and position == sample == 0:
                text += " needle"
            is_right = draw.random() < 0.5
            rollout = Rollout(
                problem=problem,
                sample=sample,
                prompt_ids=tuple(range(60)),
                completion_ids=tuple(draw.choices(range(300, 640), k=length)),
                sampler_logprobs=tuple(-draw.random() for _ in range(length)),
                text=text,
                finish=Finish.STOP,
                weight_version=step,
            )
            members.append(
                Graded(
                    rollout=rollout,
                    outcome=Outcome.CORRECT if is_right else Outcome.WRONG,
                    parts={"accuracy": float(is_right), "format": 1.0},
                    reward=float(is_right) + 0.1,
                    answer="8",
                )
            )
        advantages = tuple(graded.reward - 0.6 for graded in members)
        yield Credited(group=Group(problem=problem, members=tuple(members)), advantages=advantages)


def make_run(path: Path, num_rollouts: int, num_tokens: int) -> int:
    """Write a run of at least so many rollouts and return its number of steps."""
    num_steps = -(-num_rollouts // (GROUPS * SAMPLES))
    run, draw = RunDir(path).lock(), random.Random(0)
    run.start(to_yaml(build_config({}, [])), {})
    for step in range(1, num_steps + 1):
        metrics = {"step": step, "accuracy": 0.5, "response_tokens": float(num_tokens), "verdict": "made up"}
        groups = list(make_groups(step, draw, num_tokens, is_last=step == num_steps))
        run.record_step(metrics, {"step": step}, groups)
    run.unlock()
    return num_steps


@contextmanager
def server(path: Path) -> Iterator[http.client.HTTPConnection]:
    command = [sys.executable, "-m", "zerone", "view", str(path), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().rpartition("//")[2].strip()
        try:
            yield http.client.HTTPConnection(address, timeout=60)
        finally:
            process.terminate()


def seconds(connection: http.client.HTTPConnection, paths: Sequence[str]) -> float:
    """Return how long it takes to answer requests one after another."""
    start = time.perf_counter()
    for path in paths:
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200, (path, answer.status)
    return time.perf_counter() - start


def measure(path: Path, num_steps: int, repeats: int) -> dict[str, dict[str, float]]:
    """Return first, median and longest milliseconds of every kind of request."""
    found = {}
    with server(path) as connection:
        for name, paths in {"first view": FIRST_VIEW, **REQUESTS}.items():
            filled = [each.format(last=num_steps, middle=num_steps // 2) for each in paths]
            times = [1000 * seconds(connection, filled) for _ in range(repeats)]
            found[name] = {"first": times[0], "median": statistics.median(times), "longest": max(times)}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rollouts", type=int, default=100_000)
    parser.add_argument("--tokens", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--dir", type=Path, default=None, help="where the run is made [default: temporary]")
    parser.add_argument("--json", type=Path, default=None)
    arguments = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory(dir=arguments.dir) as folder:
        path = Path(folder) / "run"
        start = time.perf_counter()
        num_steps = make_run(path, arguments.rollouts, arguments.tokens)
        size = RunDir(path).rollouts_path.stat().st_size
        num_rollouts = num_steps * GROUPS * SAMPLES
        print(
            f"{num_rollouts:,} rollouts, {size / 2**20:,.0f} MiB, made in {time.perf_counter() - start:.0f} s"
        )
        results["indexed"] = measure(path, num_steps, arguments.repeats)
        with sqlite3.connect(RunDir(path).rollouts_path) as database:
            for index in INDEXES:
                database.execute(f"DROP INDEX {index}")
        database.close()
        results["without indexes"] = measure(path, num_steps, max(1, arguments.repeats // 4))
    for kind, found in results.items():
        print(f"\n{kind:<34}{'first':>9}{'median':>9}{'longest':>9}  ms")
        for name, times in found.items():
            print(f"{name:<34}" + "".join(f"{value:9.1f}" for value in times.values()))
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
