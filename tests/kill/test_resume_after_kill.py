"""A run that is killed again and again ends with the very bytes of one that was left alone.

Real processes, real SIGKILL. Where a kill falls is drawn at random: after some lines of output
(steps and evaluations) and then a part of a step, so that it hits sampling, updates, records,
checkpoints, and the rewinding after the kill before. The slow tests start an interpreter each time,
and now and then a kill hits the start-up; the quick one forks, which saves most of its time.
"""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from safetensors.torch import load_file

from forking import Forked, fork
from processes import arguments_of, start
from scripted import save_talking_model, write_problems

PART_OF_A_STEP_S = 0.4
START_UP_S = {False: 2.0, True: 0.2}
"""How long a process starts, by whether it is forked."""

Process = subprocess.Popen[str] | Forked
Launch = Callable[..., Process]


class Case:
    """One configuration, to be run in several directories."""

    def __init__(self, folder: Path, steps: int, options: tuple[str, ...], launch: Launch) -> None:
        self.folder = folder
        self._launch = launch
        self.model = save_talking_model(folder / "base")
        self._options = (f"rl.steps={steps}", "rl.reference_every=3", "log.sample_every=0", *options)
        write_problems(folder / "problems.jsonl")

    def start(self, name: str) -> Process:
        """Start the run, or go on with it."""
        return self._launch(self.folder, *arguments_of(self.folder, name, *self._options), "--resume")

    def finish(self, name: str) -> Path:
        """Run without disturbance to the end."""
        process = self.start(name)
        _, complaints = process.communicate(timeout=300)
        assert process.returncode == 0, complaints
        return self.folder / name


def kill_once(process: Process, rng: Random) -> bool:
    """Kill the process at a random moment of its work; return whether it was still alive."""
    assert process.stdout is not None
    if rng.random() < 0.15:
        time.sleep(rng.random() * START_UP_S[isinstance(process, Forked)])
    else:
        for line in process.stdout:
            if line.startswith("R1-Zero on"):
                break
        for _ in range(rng.randint(0, 3)):
            process.stdout.readline()
        time.sleep(rng.random() * PART_OF_A_STEP_S)
    was_alive = process.poll() is None
    if was_alive:  # whoever asked an ended process has taken it away; its number may be another's
        os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    return was_alive


def assert_same_run(found: Path, expected: Path) -> None:
    """Weights and metrics byte for byte; records row for row; evaluations but for their duration."""
    for name in ("metrics.jsonl", "model/model.safetensors"):
        assert (found / name).read_bytes() == (expected / name).read_bytes(), name
    assert rollouts_of(found) == rollouts_of(expected)
    assert evaluations_of(found) == evaluations_of(expected)


def rollouts_of(run: Path) -> list[Any]:
    with sqlite3.connect(run / "rollouts.sqlite") as database:
        return [
            database.execute(f"SELECT * FROM {table} ORDER BY step, position").fetchall()
            for table in ("groups", "rollouts")
        ]


def evaluations_of(run: Path) -> dict[str, Any]:
    paths = sorted((run / "evals").glob("*.json"))
    return {path.name: json.loads(path.read_text(encoding="utf-8"))["suites"] for path in paths}


def kill_and_compare(
    folder: Path, steps: int, num_kills: int, seed: int, *options: str, launch: Launch = start
) -> Path:
    """Run once undisturbed and once with kills; return the killed run, which ended the same."""
    case, rng = Case(folder, steps, options, launch), Random(seed)
    expected = case.finish("left-alone")
    kills = 0
    while kills < num_kills:
        if kill_once(case.start("killed"), rng):
            kills += 1
        else:  # over before it was killed often enough: it begins anew
            assert_same_run(folder / "killed", expected)
            shutil.rmtree(folder / "killed")
    found = case.finish("killed")
    assert_same_run(found, expected)
    lines = [json.loads(line) for line in (found / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["step"] for line in lines] == list(range(1, steps + 1))
    assert sum(line["grad_norm"] for line in lines) > 0
    base, trained = (load_file(path / "model.safetensors") for path in (case.model, found / "model"))
    assert any((base[name] != trained[name]).any() for name in base)
    return found


def test_run_killed_five_times_ends_like_one_left_alone(tmp_path: Path) -> None:
    kill_and_compare(tmp_path, steps=8, num_kills=5, seed=0, launch=fork)


@pytest.mark.slow
def test_ppo_run_killed_three_times_ends_with_the_same_critic_too(tmp_path: Path) -> None:
    found = kill_and_compare(tmp_path, 6, 3, 2, "rl.algorithm=ppo")
    last = Path("checkpoints") / "step_000006"
    for name in ("critic.safetensors", "critic_optimizer.safetensors"):
        assert (found / last / name).read_bytes() == (tmp_path / "left-alone" / last / name).read_bytes()
    critic, policy = (
        load_file(found / last / name) for name in ("critic.safetensors", "model/model.safetensors")
    )
    assert critic["lm_head.weight"].abs().sum() > 0
    assert (critic["model.norm.weight"] != policy["model.norm.weight"]).any()


@pytest.mark.slow
def test_run_killed_twenty_times_ends_like_one_left_alone(tmp_path: Path) -> None:
    kill_and_compare(tmp_path, steps=24, num_kills=20, seed=1)
