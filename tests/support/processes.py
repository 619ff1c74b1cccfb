"""Runs of the command line for tests: in a process of their own, or by `main` in this one."""

import contextlib
import io
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import zerone
from zerone.cli.main import main


def command_line(*arguments: str) -> list[str]:
    """Return the command that a user would give as `zerone ARGUMENTS`."""
    return [sys.executable, "-m", "zerone", *arguments]


def _cache_of(folder: Path) -> Path:
    """Return a cache beside the folder: the tests of a session share it, so the machine is measured once."""
    return folder.parent / "cache"


def environment_of_runs(folder: Path) -> dict[str, str]:
    """Return an environment in which runs find this source and leave the user's cache alone."""
    source = Path(zerone.__file__).parents[1]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(source), os.environ.get("PYTHONPATH", "")]),
        "XDG_CACHE_HOME": str(_cache_of(folder)),
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "200",
    }


def has_ended(process: int) -> bool:
    """Return whether a process is gone, or only its parent's interest in it is missing, as in a container."""
    try:
        status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return True
    return re.search(r"^State:\tZ", status, re.MULTILINE) is not None


def wait_until(is_so: Callable[[], bool], what: str, seconds: float = 20) -> None:
    """Ask again and again; fail with `what` if it does not come."""
    until = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < until, what
        time.sleep(0.01)


def start(folder: Path, *arguments: str, **options: Any) -> subprocess.Popen[str]:
    """Start `zerone ARGUMENTS` with its output in pipes."""
    return subprocess.Popen(
        command_line(*arguments),
        env=environment_of_runs(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def run_program(folder: Path, program: str, seconds: float = 300) -> str:
    """Run a Python program in a process of its own, in a folder; return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env=environment_of_runs(folder),
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def call_main(folder: Path, *arguments: str) -> tuple[int, str, str]:
    """Run `zerone ARGUMENTS` in this process, where torch is loaded; return (exit code, out, err)."""
    out, err = io.StringIO(), io.StringIO()
    threads = torch.get_num_threads()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        patch.setenv("XDG_CACHE_HOME", str(_cache_of(folder)))
        patch.setenv("COLUMNS", "200")
        patch.setattr(sys, "argv", ["zerone", *arguments])
        try:
            main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        finally:
            torch.set_num_threads(threads)
    return code, out.getvalue(), err.getvalue()


def arguments_of(folder: Path, name: str, *changes: str) -> list[str]:
    """Return the arguments of a small run in `folder / name`, with something to learn in it.

    The folder holds the model `base` and `problems.jsonl`.
    """
    return [
        "zero",
        "--recipe=tiny",
        f"--run-dir={folder / name}",
        f"model.path={folder / 'base'}",
        f"data.path={folder / 'problems.jsonl'}",
        "data.eval_share=0.2",
        "model.precision=fp32",
        "model.threads=1",
        "optim.learning_rate=0.01",
        *changes,
    ]


def metrics_of(run: Path) -> list[dict[str, Any]]:
    """Return the lines of metrics.jsonl."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
