"""Runs of the command line on several ranks, as torchrun starts them: in forked processes, or by torchrun."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from forking import Forked, fork
from processes import environment_of_runs


class Team:
    """The ranks of one command, in order."""

    def __init__(self, ranks: list[Forked]) -> None:
        self.ranks = ranks

    def kill(self, rank: int, number: int = signal.SIGKILL) -> None:
        """Send a signal to a rank."""
        os.kill(self.ranks[rank].pid, number)

    def finish(self, timeout: float = 120) -> tuple[list[int | None], list[str], list[str]]:
        """Wait for all; return their exit codes, and what they wrote to either stream."""
        end = time.monotonic() + timeout
        hung: list[int] = []
        while any([rank.poll() is None for rank in self.ranks]):  # noqa: C419  # each of them is asked
            if time.monotonic() > end:
                hung = [number for number, rank in enumerate(self.ranks) if rank.returncode is None]
                for number in hung:
                    self.kill(number)
            time.sleep(0.01)
        told = [rank.communicate() for rank in self.ranks]
        assert not hung, (hung, told)
        codes = [rank.returncode for rank in self.ranks]
        return codes, [out for out, _ in told], [_without_notices(err) for _, err in told]


def _without_notices(text: str) -> str:
    """Leave out what torch says of waits: a command of its own turns that off before it loads torch."""
    return "".join(line for line in text.splitlines(True) if not re.match(r"(\[rank\d+\]:)?\[W\d+ ", line))


def free_port() -> int:
    """Return a port of this machine that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def fork_ranks(
    folder: Path,
    *arguments: str,
    size: int = 2,
    nodes: int = 1,
    before: Callable[[int], object] = lambda rank: None,
    port: int | None = None,
) -> Team:
    """Start `zerone ARGUMENTS` on every rank; `before` is called in each process with its rank."""
    chosen = port or free_port()

    def begin(rank: int) -> Callable[[], object]:
        def as_rank() -> None:
            local = size // nodes
            numbers = {
                "RANK": rank,
                "WORLD_SIZE": size,
                "LOCAL_RANK": rank % local,
                "LOCAL_WORLD_SIZE": local,
                "MASTER_PORT": chosen,
            }
            os.environ.update({name: str(number) for name, number in numbers.items()})
            os.environ["MASTER_ADDR"] = "127.0.0.1"
            before(rank)

        return as_rank

    return Team([fork(folder, *arguments, before=begin(rank)) for rank in range(size)])


def run_ranks_of(folder: Path, *arguments: str, size: int = 2) -> None:
    """Run a command on every rank to its end, which must be a good one."""
    codes, _, complaints = fork_ranks(folder, *arguments, size=size).finish()
    assert codes == [0] * size, complaints


def torchrun(folder: Path, *arguments: str, size: int = 2) -> "subprocess.Popen[str]":
    """Start `torchrun --nproc-per-node SIZE -m zerone ARGUMENTS` with its output in pipes."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={size}"]
    return subprocess.Popen(
        [*command, "-m", "zerone", *arguments],
        env=environment_of_runs(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
