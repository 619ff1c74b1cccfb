"""How threads wait is said before torch is loaded, in every process, and the user's word counts more."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import zerone
from processes import command_line, environment_of_runs, wait_until
from serving import live_server
from zerone.engine.link import EngineLink
from zerone.engine.serving import EngineSpec
from zerone.processes.waiting import SPINS, set_wait_policy, users_wait_policy

ROOT = Path(__file__).parents[2]
EMBEDDED = Path(zerone.__file__).parent / "world" / "embedded"
OURS = f"GOMP_SPINCOUNT={SPINS}"

SPY = '''
import os, sys

class Spy:
    """Writes down what a process is and what its libgomp will read, just before torch is loaded."""

    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            sys.meta_path.remove(self)
            names = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
            told = [f"{name}={os.environ[name]}" for name in names if name in os.environ]
            with open("/proc/self/cmdline", "rb") as file:
                command = file.read().decode().replace("\\0", " ")
            with open(os.environ["SPY_LOG"], "a") as file:
                file.write(f"{' '.join(told)} | {command}\\n")
        return None

sys.meta_path.insert(0, Spy())
'''
"""A sitecustomize, which every Python runs first."""


class Log:
    """What the spies of some processes wrote down."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def of(self, command: str) -> list[str]:
        """Return the settings of the processes whose command line has this in it."""
        lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []
        return [line.partition(" | ")[0] for line in lines if command in line]


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Log:
    """Have every Python that is started from here write down what it finds; no setting is inherited."""
    (tmp_path / "spy").mkdir()
    (tmp_path / "spy" / "sitecustomize.py").write_text(SPY)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "spy"))
    monkeypatch.syspath_prepend(tmp_path / "spy")  # child processes are given sys.path
    monkeypatch.setenv("SPY_LOG", str(tmp_path / "log"))
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    return Log(tmp_path / "log")


USERS = [
    ({}, OURS),
    ({"OMP_WAIT_POLICY": "passive"}, "OMP_WAIT_POLICY=passive"),
    ({"GOMP_SPINCOUNT": "7"}, "GOMP_SPINCOUNT=7"),
    (
        {"GOMP_SPINCOUNT": "infinity", "OMP_WAIT_POLICY": "active"},
        "GOMP_SPINCOUNT=infinity OMP_WAIT_POLICY=active",
    ),
]


def run_command(folder: Path, *arguments: str) -> None:
    done = subprocess.run(
        [*command_line(*arguments)],
        env=environment_of_runs(folder),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("users", "found"), USERS[::3])
def test_a_command_says_it_before_torch_is_loaded(
    users: dict[str, str], found: str, log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in users.items():
        monkeypatch.setenv(name, value)
    run_command(tmp_path, "doctor")
    assert log.of("zerone doctor") == [found]


@pytest.mark.parametrize(
    "arguments", [["zero", "--dry-run"], ["plan", "zero"], ["sandbox", "doctor", "--help"]]
)
def test_each_command_that_loads_torch_has_said_it(arguments: list[str], log: Log, tmp_path: Path) -> None:
    run_command(tmp_path, *arguments)
    assert set(log.of("zerone")) <= {OURS}


@pytest.mark.parametrize(
    "module", ["zerone", "zerone.cli.main", "zerone.model.decoder", "zerone.processes.threads"]
)
def test_whatever_is_imported_first_says_it(module: str, log: Log, tmp_path: Path) -> None:
    """As a notebook, a user's program, or a rank of torchrun does."""
    code = f"import importlib; importlib.import_module({module!r}); import torch"
    subprocess.run([sys.executable, "-c", code], env=environment_of_runs(tmp_path), check=True, timeout=120)
    assert log.of(module) == [OURS]


@pytest.mark.parametrize(("users", "found"), USERS)
def test_an_engine_of_its_own_has_it(
    users: dict[str, str], found: str, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in users.items():
        monkeypatch.setenv(name, value)
    link = EngineLink(
        EngineSpec(directory=str(EMBEDDED), context=256, max_rows=2, max_waiting=2, kv_bytes=1 << 24)
    )
    try:
        wait_until(lambda: bool(log.of("zerone.engine.worker")), "the engine never loads torch", 60)
    finally:
        link.kill()
        link.ending()
        link.close()
    assert log.of("zerone.engine.worker") == [found]


def test_a_server_and_its_engine_have_it(log: Log, tmp_path: Path) -> None:
    with live_server(tmp_path, key=None):
        engines = log.of("zerone.engine.worker")
        servers = log.of("zerone serve")
    assert engines == [OURS]
    assert set(servers) <= {OURS}  # the server itself need not load torch


def test_these_tests_have_it() -> None:
    assert users_wait_policy(os.environ) is not None or os.environ["GOMP_SPINCOUNT"] == SPINS


@pytest.mark.parametrize(
    ("environment", "users"),
    [
        ({}, None),
        ({"GOMP_SPINCOUNT": SPINS}, None),  # inherited from a process of ours
        ({"GOMP_SPINCOUNT": "0"}, "GOMP_SPINCOUNT=0"),
        ({"GOMP_SPINCOUNT": ""}, "GOMP_SPINCOUNT="),
        ({"OMP_WAIT_POLICY": "PASSIVE"}, "OMP_WAIT_POLICY=PASSIVE"),
        ({"OMP_WAIT_POLICY": "active", "GOMP_SPINCOUNT": SPINS}, "OMP_WAIT_POLICY=active"),
        ({"OMP_NUM_THREADS": "1"}, None),
        ({"OMP_PROC_BIND": "true"}, None),
    ],
)
def test_what_the_user_has_said_stays(environment: dict[str, str], users: str | None) -> None:
    assert users_wait_policy(environment) == users
    after = dict(environment)
    set_wait_policy(after)
    assert after == (environment if users else environment | {"GOMP_SPINCOUNT": SPINS})
    set_wait_policy(after)
    assert users_wait_policy(after) == users


def loads_torch_too_early(source: str) -> bool:
    """Whether a program imports torch, or what does so, before anything of zerone."""
    for node in ast.parse(source).body:
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        roots = {name.partition(".")[0] for name in names}
        if "zerone" in roots:
            return False
        if roots & {"torch", "transformers", "trl", "workload", "machine_peak"}:
            return True
    return False


@pytest.mark.parametrize(
    "path",
    [ROOT / "tests" / "conftest.py", *sorted((ROOT / "benchmarks").glob("*.py"))],
    ids=lambda p: p.name,
)
def test_benchmarks_and_tests_import_zerone_before_torch(path: Path) -> None:
    assert not loads_torch_too_early(path.read_text(encoding="utf-8"))


def test_a_program_that_loads_torch_too_early_is_found() -> None:
    assert loads_torch_too_early("import os\nimport torch\nimport zerone\n")
    assert loads_torch_too_early("from transformers import logging\nfrom zerone import __version__\n")
    assert not loads_torch_too_early("from zerone.types import Problem\nimport torch\n")
