"""A control group per sandbox: memory and processes of the whole tree, exactly.

In: limits. Out: a `Cgroup` to enter, read and remove. Version 2 and version 1 both work, in the
group that this process is in, where that is writable. Where it is not, `find_cgroups` returns
None and the sandbox falls back to limits per process and to watching the tree.
"""

import contextlib
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

_NAME = re.compile(r"zerone-(\d+)-\d+")
_CONTROLLERS = ("memory", "pids")


@dataclass(frozen=True, slots=True, kw_only=True)
class CgroupFiles:
    """Where groups can be made: for each controller the parent directory, and the version."""

    version: int
    parents: Mapping[str, Path]


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
        kind, _, options = (right.split(" ", 2) + ["", ""])[:3]
        if kind == "cgroup2":
            points[""] = (root, point)
        elif kind == "cgroup":
            points.update(dict.fromkeys(options.split(","), (root, point)))
    return points


def _parent_of(controller: str, groups: Mapping[str, str], points: Mapping[str, tuple[str, str]]) -> Path | None:
    if controller not in points or controller not in groups:
        return None
    root, point = points[controller]
    path = groups[controller]
    if root != "/" and path.startswith(root):
        path = path[len(root) :]
    parent = Path(point + path)
    return parent if parent.is_dir() else Path(point)


def find_cgroups(proc: Path = Path("/proc/self")) -> CgroupFiles | None:
    """Return where this process may make groups with memory and process limits, or None."""
    try:
        groups = _own_groups((proc / "cgroup").read_text(encoding="ascii"))
        points = _mount_points((proc / "mountinfo").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    found = {name: parent for name in _CONTROLLERS if (parent := _parent_of(name, groups, points))}
    unified = _parent_of("", groups, points)
    for files in (
        CgroupFiles(version=1, parents=found),
        CgroupFiles(version=2, parents={"": unified} if unified else {}),
    ):
        if _is_usable(files):
            return files
    return None


def _is_usable(files: CgroupFiles) -> bool:
    """Try it: make a group, set its limits, remove it."""
    wanted = len(_CONTROLLERS) if files.version == 1 else 1
    if len(files.parents) != wanted:
        return False
    try:
        if files.version == 2:
            _enable_controllers(files.parents[""])
        with contextlib.closing(Cgroup(files, 0)) as group:
            group.limit(64 << 20, 8)
    except OSError:
        return False
    return True


def _enable_controllers(parent: Path) -> None:
    enabled = (parent / "cgroup.subtree_control").read_text(encoding="ascii").split()
    missing = [f"+{name}" for name in _CONTROLLERS if name not in enabled]
    if missing:
        (parent / "cgroup.subtree_control").write_text(" ".join(missing), encoding="ascii")


def remove_stale(files: CgroupFiles) -> None:
    """Remove the groups of workers that were killed before they could."""
    for parent in files.parents.values():
        for path in parent.glob("zerone-*"):
            match = _NAME.fullmatch(path.name)
            if match and not Path(f"/proc/{match[1]}").exists():
                with contextlib.suppress(OSError):
                    path.rmdir()


@dataclass(slots=True)
class Cgroup:
    """One group: a directory per controller in version 1, a single one in version 2."""

    files: CgroupFiles
    number: int
    paths: dict[str, Path] = field(init=False)

    def __post_init__(self) -> None:
        name = f"zerone-{os.getpid()}-{self.number}"
        self.paths = {controller: parent / name for controller, parent in self.files.parents.items()}
        for path in self.paths.values():
            path.mkdir()

    def _write(self, controller: str, name: str, value: int | str) -> None:
        path = self.paths[controller if self.files.version == 1 else ""]
        (path / name).write_text(str(value), encoding="ascii")

    def _read(self, controller: str, name: str) -> str:
        path = self.paths[controller if self.files.version == 1 else ""]
        return (path / name).read_text(encoding="ascii")

    def limit(self, memory_bytes: int, processes: int) -> None:
        """Set what the whole tree may use; swap is not to be had."""
        is_old = self.files.version == 1
        self._write("memory", "memory.limit_in_bytes" if is_old else "memory.max", memory_bytes)
        with contextlib.suppress(OSError):
            # Absent where the kernel does not account for swap.
            if is_old:
                self._write("memory", "memory.memsw.limit_in_bytes", memory_bytes)
            else:
                self._write("memory", "memory.swap.max", 0)
                self._write("memory", "memory.oom.group", 1)
        self._write("pids", "pids.max", processes)

    def open_entries(self) -> tuple[int, ...]:
        """Open the files by which a process enters: it writes 0. The opener's rights count."""
        return tuple(
            os.open(path / "cgroup.procs", os.O_WRONLY | os.O_CLOEXEC) for path in self.paths.values()
        )

    def peak_bytes(self) -> int | None:
        """Return the most memory that the tree used at once."""
        name = "memory.max_usage_in_bytes" if self.files.version == 1 else "memory.peak"
        try:
            return int(self._read("memory", name))
        except (OSError, ValueError):
            return None

    def has_run_out(self) -> bool:
        """Whether the kernel killed a process of the tree for its memory."""
        name = "memory.oom_control" if self.files.version == 1 else "memory.events"
        counts = dict(line.split() for line in self._read("memory", name).splitlines())
        return int(counts.get("oom_kill", 0)) > 0

    def close(self) -> None:
        """Remove the group; its processes are dead by now, their leaving may take a moment."""
        deadline = time.monotonic() + 2.0
        for path in self.paths.values():
            while True:
                try:
                    path.rmdir()
                    break
                except FileNotFoundError:
                    break
                except OSError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.001)
