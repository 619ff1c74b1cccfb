"""A control group per sandbox: the memory of the whole tree, exactly.

In: a limit. Out: a `Cgroup` to enter, read and remove. Version 2 and version 1 both work, below
the group that this process is in, where that is writable. Where it is not, `find_cgroup` returns
None and the sandbox falls back to limits per process and to watching the tree.

The number of processes is limited by RLIMIT_NPROC on a uid of the sandbox's own: a second
hierarchy of version 1 would cost every candidate another wait for the kernel, a millisecond or two.
"""

import contextlib
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_NAME = re.compile(r"zerone-(\d+)-\d+")


@dataclass(frozen=True, slots=True, kw_only=True)
class CgroupParent:
    """Where groups can be made, and which version's files they have."""

    version: int
    path: Path


def _own_groups(text: str) -> dict[str, str]:
    """Read /proc/self/cgroup: controller ("" for version 2) -> path."""
    groups = {}
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        groups.update(dict.fromkeys(controllers.split(","), path))
    return groups


def _mount_points(text: str) -> dict[str, tuple[str, str]]:
    """Read /proc/self/mountinfo: controller ("" for version 2) -> (root of the mount, mount point)."""
    points = {}
    for line in text.splitlines():
        left, _, right = line.partition(" - ")
        root, point = left.split()[3:5]
        kind, _, options, *_ = [*right.split(" ", 2), "", ""]
        if kind == "cgroup2":
            points[""] = (root, point)
        elif kind == "cgroup":
            points.update(dict.fromkeys(options.split(","), (root, point)))
    return points


def _path_of(
    controller: str, groups: Mapping[str, str], points: Mapping[str, tuple[str, str]]
) -> Path | None:
    if controller not in points or controller not in groups:
        return None
    root, point = points[controller]
    path = groups[controller]
    if root != "/" and path.startswith(root):
        path = path[len(root) :]
    inner = Path(point + path)
    return inner if os.path.isdir(inner) else Path(point)


def find_cgroup(proc: Path = Path("/proc/self")) -> CgroupParent | None:
    """Return where this process may make groups with a memory limit, or None."""
    try:
        groups = _own_groups((proc / "cgroup").read_text(encoding="ascii"))
        points = _mount_points((proc / "mountinfo").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    for version, controller in ((1, "memory"), (2, "")):
        path = _path_of(controller, groups, points)
        if path is not None and _is_usable(parent := CgroupParent(version=version, path=path)):
            return parent
    return None


def _is_usable(parent: CgroupParent) -> bool:
    """Try it: make a group, set its limit, remove it."""
    try:
        if parent.version == 2:
            _enable_memory(parent.path)
        with contextlib.closing(Cgroup(parent, 0)) as group:
            group.limit(64 << 20)
    except OSError:
        return False
    return True


def _enable_memory(path: Path) -> None:
    file = path / "cgroup.subtree_control"
    if "memory" not in file.read_text(encoding="ascii").split():
        file.write_text("+memory", encoding="ascii")


def remove_stale(parent: CgroupParent) -> None:
    """Remove the groups of workers that were killed before they could."""
    for path in parent.path.glob("zerone-*"):
        match = _NAME.fullmatch(path.name)
        if match and not Path(f"/proc/{match[1]}").exists():
            with contextlib.suppress(OSError):
                path.rmdir()


class Cgroup:
    """One group, made at once."""

    def __init__(self, parent: CgroupParent, number: int) -> None:
        self._is_old = parent.version == 1
        self._path = parent.path / f"zerone-{os.getpid()}-{number}"
        self._path.mkdir()

    @property
    def name(self) -> str:
        """The directory's name."""
        return self._path.name

    @property
    def exists(self) -> bool:
        """Whether it is still there."""
        return self._path.exists()

    def _write(self, name: str, value: int) -> None:
        (self._path / name).write_text(str(value), encoding="ascii")

    def limit(self, memory_bytes: int) -> None:
        """Set what the whole tree may use; swap is not to be had."""
        self._write("memory.limit_in_bytes" if self._is_old else "memory.max", memory_bytes)
        with contextlib.suppress(OSError):
            # Absent where the kernel does not account for swap.
            if self._is_old:
                self._write("memory.memsw.limit_in_bytes", memory_bytes)
            else:
                self._write("memory.swap.max", 0)
                self._write("memory.oom.group", 1)

    def open_entry(self) -> int:
        """Open the file by which a process enters: it writes 0. The opener's rights count."""
        return os.open(self._path / "cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)

    def peak_bytes(self) -> int | None:
        """Return the most memory that the tree used at once, None where the kernel does not tell."""
        name = "memory.max_usage_in_bytes" if self._is_old else "memory.peak"
        try:
            return int((self._path / name).read_text(encoding="ascii"))
        except (OSError, ValueError):
            return None

    def has_run_out(self) -> bool:
        """Whether the kernel killed a process of the tree for its memory."""
        name = "memory.oom_control" if self._is_old else "memory.events"
        lines = (self._path / name).read_text(encoding="ascii").splitlines()
        return int(dict(line.split() for line in lines).get("oom_kill", 0)) > 0

    def close(self) -> None:
        """Remove the group; its processes are dead by now, their leaving may take a moment."""
        deadline = time.monotonic() + 2.0
        while True:
            try:
                self._path.rmdir()
                return
            except FileNotFoundError:
                return
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.001)
