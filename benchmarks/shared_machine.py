"""Sampling and training beside busy processes: threads that wait as libgomp does, and as zerone has them.

    python benchmarks/shared_machine.py [--problems 16] [--group 4] [--busy 0 1 2] ...

What is compared. Processes hold the same model with as many threads as there are cores. `before` waits as
libgomp does by itself (`GOMP_SPINCOUNT=300k`, its default, which counts as the user's own word), `zerone` as
zerone has it. In turn each samples the same completions and makes one update with them (GRPO, forward and
backward pass and AdamW), alone, then beside one process that only computes, then beside two. All do the same
sums. A round is one sample and one update of each; medians count. The first round of each load is not
counted: zerone sees a new load within a second. `one thread` has one; `--more NAME=VALUE` adds processes with
other settings of libgomp.

The share is of each process's own speed alone. What others than our busy processes took of the cores is
shown for each load: it has to be near nothing for the figures to be those of a quiet machine.
"""

import zerone  # noqa: F401 - before torch, which reads once how threads wait

# isort: split
import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from machine_peak import matmul_peak
from workload import (
    add_arguments,
    conditions,
    new_state,
    open_workload,
    print_table,
    with_signal,
    write_json,
)
from zerone.processes.machine import available_cores
from zerone.processes.sharing import Watch
from zerone.processes.threads import LOOK_S
from zerone.train.advantage import credit
from zerone.train.grpo import Grpo
from zerone.train.loop import Clock, collect, requests_for, sampling_of

LIBGOMPS_OWN = "GOMP_SPINCOUNT=300k"
BUSY = "while True: pass"
WORK = ("sample", "train")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Sampling and training beside busy processes.")
    add_arguments(parser)
    parser.set_defaults(problems=16, group=4, max_tokens=96)
    parser.add_argument("--busy", type=int, nargs="+", default=[0, 1, 2], help="busy processes beside ours")
    parser.add_argument("--more", nargs="*", default=[], metavar="NAME=VALUE", help="further settings to try")
    parser.add_argument("--limit", type=float, default=200.0, help="seconds after which no work begins")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


# The process that works ---------------------------------------------------------------------------


def work_on_demand(arguments: argparse.Namespace) -> None:
    """Answer each line, `sample` or `train`, with the tokens and the seconds that it took."""
    work = open_workload(arguments, "fp32", ["rl.minibatches=1", "optim.learning_rate=1e-9"])
    engine, state, config = work.engine(), new_state(work), work.config
    groups = with_signal(collect(config, engine, work.mixture, work.to_prompt, 0, Clock()))
    credited = credit(groups, config.advantage.scale)
    problems = work.mixture.draw(0, config.rl.problems_per_step, first=0)
    requests = requests_for(problems, work.to_prompt, config.rl.group_size, ("shared machine",))

    def sample() -> int:
        rollouts = engine.generate(requests, sampling_of(config))
        return sum(len(rollout.completion_ids) for group in rollouts for rollout in group)

    def train() -> int:
        return Grpo().update(config, state, credited, 0).num_tokens

    kinds = {"sample": sample, "train": train}
    for kind in kinds.values():
        kind()  # warm-up
    print(json.dumps({"about": conditions(work, matmul_peak(work.threads, work.dtype))}), flush=True)
    for line in sys.stdin:
        start = time.perf_counter()
        tokens = kinds[line.strip()]()
        print(json.dumps({"tokens": tokens, "seconds": time.perf_counter() - start}), flush=True)


# The process that measures ------------------------------------------------------------------------


SETTLE_S = 4 * LOOK_S
"""Seconds in which zerone sees that others have left the cores: it looks twice a second, and twice."""


@dataclass(slots=True)
class System:
    """A process at work under its settings, and its tokens per second by load and kind of work."""

    name: str
    process: "subprocess.Popen[str]"
    about: dict[str, Any] = field(default_factory=dict)
    speeds: dict[int, dict[str, list[float]]] = field(default_factory=dict)

    def read(self) -> dict[str, Any]:
        """Return the next line that it says."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"error: the process of {self.name!r} ended")
        said: dict[str, Any] = json.loads(line)
        return said

    def speed(self, kind: str) -> float:
        """Have it work and return tokens per second."""
        assert self.process.stdin is not None
        time.sleep(SETTLE_S)  # the system that worked before this one was a stranger to it
        self.process.stdin.write(f"{kind}\n")
        self.process.stdin.flush()
        said = self.read()
        return float(said["tokens"] / said["seconds"])

    def median(self, busy: int, kind: str) -> float:
        """Return the median of the rounds that count."""
        return median(self.speeds[busy][kind])


def start_system(name: str, settings: Sequence[str], threads: int, arguments: Sequence[str]) -> System:
    """Start a process and wait until it is ready, so that no other is loading while one is timed."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "GOMP_"))}
    given = dict(setting.split("=", 1) for setting in settings)
    process = subprocess.Popen(
        [sys.executable, __file__, *arguments, "--worker", f"--threads={threads}"],
        env={**clean, **given},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    system = System(name, process)
    system.about = system.read()["about"]
    return system


@contextlib.contextmanager
def busy_processes(number: int) -> Iterator[None]:
    """Have so many processes compute until the block ends."""
    processes = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(number)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def measure(systems: Sequence[System], busy: int, repeats: int, end: float) -> float:
    """Time all systems in turn beside so many busy processes; return the cores that strangers took."""
    speeds: list[dict[str, list[float]]] = [{kind: [] for kind in WORK} for _ in systems]
    with busy_processes(busy):
        strangers = Watch()  # what we started is ours
        turns = [turn for _ in range(1 + repeats) for turn in zip(systems, speeds, strict=True)]
        for number, (system, found) in enumerate(turns):
            if number >= len(systems) and time.monotonic() > end:
                print(f"  out of time beside {busy}: {number // len(systems) - 1} rounds count", flush=True)
                break
            for kind in WORK:
                found[kind].append(system.speed(kind))
        time.sleep(0.3)
        work = strangers.look()
    for system, found in zip(systems, speeds, strict=True):
        system.speeds[busy] = {kind: values[1:] or values for kind, values in found.items()}
    return -1.0 if work is None else work.taken


def show(systems: Sequence[System], strangers: dict[int, float]) -> None:
    """Print the medians, each system's share of its own speed alone, and what zerone gains."""
    loads = list(strangers)
    for kind in WORK:
        rows = []
        for system in systems:
            cells = [system.name]
            for busy in loads:
                speed, alone = system.median(busy, kind), system.median(loads[0], kind)
                cells += [f"{speed:,.0f}", f"{speed / alone:.0%}"]
                cells.append(f"{speed / systems[0].median(busy, kind):.2f}x")
            rows.append(cells)
        print(
            f"\n{kind}, tokens/s, the share of that beside {loads[0]}, and the ratio to `{systems[0].name}`:"
        )
        header = [part for busy in loads for part in (f"{busy} busy", "share", "ratio")]
        print_table(["system", *header], rows)
    told = ", ".join(f"{taken:.2f} beside {busy}" for busy, taken in strangers.items())
    print(f"\ncores that strangers took: {told}")


def main() -> None:
    arguments = parse_arguments()
    if arguments.worker:
        work_on_demand(arguments)
        return
    end = time.monotonic() + arguments.limit
    threads = arguments.threads or available_cores()
    passed = [argument for argument in sys.argv[1:] if argument != "--worker"]
    wanted = [
        ("before", [LIBGOMPS_OWN], threads),
        ("zerone", [], threads),
        ("one thread", [], 1),
        *((setting, [setting], threads) for setting in arguments.more),
    ]
    systems: list[System] = []
    strangers: dict[int, float] = {}
    try:
        for name, settings, threads in wanted:
            systems.append(start_system(name, settings, threads, passed))
        print("  ".join(f"{key}={value}" for key, value in systems[1].about.items()), flush=True)
        for busy in arguments.busy:
            # Each load has its part of the time, so that a slow one leaves some to the next.
            part = (end - time.monotonic()) / (len(arguments.busy) - len(strangers))
            strangers[busy] = measure(systems, busy, arguments.repeats, time.monotonic() + part)
    finally:
        for system in systems:
            system.process.kill()
            system.process.wait()
    show(systems, strangers)
    speeds = {system.name: system.speeds for system in systems}
    write_json(arguments.json, systems[1].about | {"strangers": strangers, "tokens_per_s": speeds})


if __name__ == "__main__":
    main()
