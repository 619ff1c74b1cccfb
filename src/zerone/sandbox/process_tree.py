"""A process and all its descendants, and their memory where no control group counts it.

In: a process id. Out: process ids, resident bytes. A process that leaves its parent moves to the sandbox's
first process, which is in the tree, so none escapes the count.
"""

import os
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")


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
    """Return the resident memory of the tree; processes that end meanwhile count as nothing."""
    total = 0
    for pid in tree_processes(root):
        try:
            total += int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * _PAGE
        except (OSError, LookupError):
            continue
    return total
