"""Which Python runs inside, and the few directories of the host that it needs.

In: the uid that programs run as. Out: an `Interpreter`. Nothing else of the host is mounted: no
/etc, no /home, no shell, no compiler. When zerone runs as root the interpreter of its own
environment may lie where an unprivileged user cannot read; then the system's is taken.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from zerone.errors import SandboxUnavailable

_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64")
_DATA = ("/etc/ld.so.cache", "/usr/share/zoneinfo", "/nix/store")
_QUESTION = """
import json, os, sys
print(json.dumps([os.path.realpath(sys.executable), sys.base_prefix, sys.version_info[:2]]))
"""
_OLDEST = [3, 9]


@dataclass(frozen=True, slots=True, kw_only=True)
class Interpreter:
    """A Python for the sandbox; `links` are symbolic links of the host as (target, place)."""

    path: str
    mounts: tuple[str, ...]
    links: tuple[tuple[str, str], ...]


def _is_open_to_all(path: Path) -> bool:
    """Tell whether an unprivileged user may read the file or directory and all that leads to it."""
    try:
        modes = [folder.stat().st_mode for folder in (path, *path.parents)]
    except OSError:
        return False
    return bool(modes[0] & 0o004) and all(mode & 0o001 for mode in modes)


def _is_readable(path: str) -> bool:
    if os.geteuid() != 0:
        return os.access(path, os.R_OK | os.X_OK)
    return _is_open_to_all(Path(os.path.realpath(path)))


def _candidates() -> Iterator[str]:
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    yield str(Path(sys.base_prefix) / "bin" / version)
    yield from ("/usr/bin/python3", "/usr/local/bin/python3")


def _mounts(executable: str, prefix: str) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    mounts: list[str] = []
    links: list[tuple[str, str]] = []
    for path in _LIBRARIES:
        if os.path.islink(path):
            links.append((os.readlink(path), path))
        elif os.path.isdir(path):
            mounts.append(path)
    wanted = [f"{prefix}/lib", executable, *(path for path in _DATA if os.path.exists(path))]
    for path in wanted:
        if not any(path == mount or path.startswith(f"{mount}/") for mount in mounts):
            mounts.append(path)
    return tuple(mounts), tuple(links)


@cache
def find_interpreter() -> Interpreter:
    """Return the first Python that the sandbox may use."""
    for path in _candidates():
        if not os.path.exists(path) or not _is_readable(path):
            continue
        answer = subprocess.run(
            [path, "-I", "-S", "-c", _QUESTION], env={}, capture_output=True, text=True, timeout=60
        )
        if answer.returncode != 0:
            continue
        executable, prefix, version = json.loads(answer.stdout)
        if version >= _OLDEST:
            mounts, links = _mounts(executable, prefix)
            return Interpreter(path=executable, mounts=mounts, links=links)
    raise SandboxUnavailable(
        "the sandbox finds no Python (3.9 or newer) that an unprivileged user may read, tried "
        f"{', '.join(_candidates())}; install the system's python3, or run zerone as the user who "
        "owns its Python"
    )
