"""A process and all its descendants, and their memory where no control group counts it.

In: a process id. Out: process ids, bytes. A process that leaves its parent moves to the sandbox's
first process, which is in the tree, so none escapes the count. Beside the pages of processes, pipes
and sockets hold memory: what they have room for is counted, since nobody can look into them.
"""

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")
_KIB = 1024
_PIPE_BYTES = 16 * _PAGE
_MOST_PIPES = 64
"""Of one process, whose descriptors may not be looked at."""
_DATAGRAM, _DATAGRAMS_IN_QUEUE = "0002", 11
_SOCKET_BYTES = 212_992
_INODE_BYTES = 1024
_MEMORY = re.compile(rb"^(?:VmRSS|VmSwap|VmPTE|HugetlbPages):\s+(\d+) kB$", re.MULTILINE)
"""Pages in memory, those written to swap, the tables that find them, and large pages."""


def tree_processes(root: int) -> list[int]:
    """Return the processes of the tree, as far as they are alive."""
    found, todo = [], [root]
    while todo:
        pid = todo.pop()
        try:
            for thread in Path(f"/proc/{pid}/task").iterdir():
                todo += map(int, (thread / "children").read_bytes().split())
        except (OSError, ValueError):
            continue
        found.append(pid)
    return found


def tree_bytes(root: int) -> int:
    """Return the memory of the tree; processes that end meanwhile count as nothing."""
    pids = tree_processes(root)
    return (
        sum(map(_process_bytes, pids)) + _pipe_bytes(pid for pid in pids if pid != root) + _socket_bytes(root)
    )


def scratch_bytes(handles: Iterable[int]) -> int:
    """Return what is held by file systems in memory, given a handle of a directory of each."""
    total = 0
    for handle in handles:
        found = os.statvfs(handle)
        total += (found.f_blocks - found.f_bfree) * found.f_frsize
        total += (found.f_files - found.f_ffree) * _INODE_BYTES
    return total


def _process_bytes(pid: int) -> int:
    try:
        return _KIB * sum(map(int, _MEMORY.findall(Path(f"/proc/{pid}/status").read_bytes())))
    except OSError:
        return 0


def _pipe_bytes(pids: Iterable[int]) -> int:
    """Return the room in all pipes that have an open end. Threads can have descriptors of their own."""
    pipes: set[str] = set()
    num_hidden = 0
    for pid in pids:
        try:
            pipes.update(_pipes(pid))
        except PermissionError:
            num_hidden += _MOST_PIPES
        except OSError:
            continue
    return (len(pipes) + num_hidden) * _PIPE_BYTES


def _pipes(pid: int) -> Iterator[str]:
    for thread in os.listdir(f"/proc/{pid}/task"):
        folder = f"/proc/{pid}/task/{thread}/fd"
        for name in os.listdir(folder):
            with suppress(FileNotFoundError):
                target = os.readlink(f"{folder}/{name}")
                if target.startswith("pipe:"):
                    yield target


def _socket_bytes(pid: int) -> int:
    """Return the room in all sockets of the network namespace, those too that wait to be taken up."""
    try:
        lines = Path(f"/proc/{pid}/net/unix").read_text(encoding="utf-8", errors="replace").splitlines()[1:]
    except OSError:
        return 0
    types = [fields[4] for line in lines if len(fields := line.split()) > 4]
    num_queues = len(types) + (_DATAGRAMS_IN_QUEUE - 1) * types.count(_DATAGRAM)
    return num_queues * _room_in_socket()


@cache
def _room_in_socket() -> int:
    try:
        return int(Path("/proc/sys/net/core/wmem_default").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return _SOCKET_BYTES
