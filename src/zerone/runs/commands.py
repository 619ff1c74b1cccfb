"""Commands that a reader can paste: the program by the name that a shell finds, and how a run is resumed.

In: the arguments of this process, or the command that a run has on record. Out: lines for a shell, quoted.
"""

import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

NAME = "zerone"


def program() -> str:
    """Return `zerone`, or where a shell would not find this installation by that name, its path.

    `make zero` installs into .venv, which only an activated shell has on its PATH.
    """
    script = Path(sys.executable).with_name(NAME)
    if not script.exists():
        return f"{shlex.quote(sys.executable)} -m {NAME}"
    found = shutil.which(NAME)
    if found is not None and Path(found).resolve() == script.resolve():
        return NAME
    try:
        here = Path.cwd()
    except FileNotFoundError:  # deleted meanwhile
        return shlex.quote(str(script))
    is_beneath = here in script.parent.parents  # a path without a slash would be searched for on PATH
    return shlex.quote(str(script.relative_to(here) if is_beneath else script))


def command_of_process() -> str:
    """Return the `zerone` command that this process runs; empty where another program uses the package."""
    started = Path(sys.argv[0])
    is_ours = started.name == NAME or started.parts[-2:] == (NAME, "__main__.py")
    return shlex.join([NAME, *sys.argv[1:]]) if is_ours else ""


_BY_DIRECTORY = ("zero", "sft", "r1")
"""Commands that read all options of a run to resume in its directory."""

_OF_ONE_START = {"--run-dir": True, "--from": True, "--only": True, "--resume": False}
"""Flags that hold for one start alone -> whether a value follows."""


def command_to_resume(command: str, run_dir: Path) -> str:
    """Return the command that resumes what `command` started in a directory.

    `zerone zero --resume DIR` suffices where the directory holds all options; other commands are repeated.
    """
    try:
        arguments = shlex.split(command)[1:]
    except ValueError:  # not written by `command_of_process`
        arguments = command.split()[1:]
    if arguments and arguments[0] in _BY_DIRECTORY:
        return shlex.join([NAME, arguments[0], "--resume", str(run_dir)])
    return shlex.join([NAME, *_without(arguments, _OF_ONE_START), "--run-dir", str(run_dir), "--resume"])


def _without(arguments: Sequence[str], flags: Mapping[str, bool]) -> Iterator[str]:
    """Yield the arguments other than these flags and their values."""
    rest = iter(arguments)
    for argument in rest:
        flag, sign, _ = argument.partition("=")
        if flag not in flags:
            yield argument
        elif flags[flag] and not sign:
            next(rest, None)


def as_typed(command: str) -> str:
    """Return a command as a shell finds it here, under torchrun where this process is."""
    from zerone.processes.ranks import started_ranks  # which loads torch, and --help needs none

    ranks = started_ranks()
    if ranks.size > 1:
        nodes = f"--nnodes {ranks.num_nodes} " if ranks.num_nodes > 1 else ""
        return f"torchrun {nodes}--nproc-per-node {ranks.local_size} -m {command}"
    return program() + command.removeprefix(NAME)
