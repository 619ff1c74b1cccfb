"""Memory of a process and all its descendants, where no control group counts it.

In: a process id. Out: resident bytes. A process that leaves its parent moves to the sandbox's
first process, which is in the tree, so none escapes the count.
"""

import os
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")


def tree_bytes(root: int) -> int:
    """Return the resident memory of the tree; processes that end meanwhile count as nothing."""
    total, todo = 0, [root]
    while todo:
        folder = Path(f"/proc/{todo.pop()}")
        try:
            total += int((folder / "statm").read_bytes().split()[1]) * _PAGE
            for thread in (folder / "task").iterdir():
                todo += map(int, (thread / "children").read_bytes().split())
        except (OSError, ValueError, LookupError):
            continue
    return total
