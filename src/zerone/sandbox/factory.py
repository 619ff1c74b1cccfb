"""Where cells come from: a zygote behind walls, started once, asked for one sandbox at a time.

In: a backend's name. Out: cells. This side makes the pipes and the control group; the zygote
forks (template_process.py). It runs as an unprivileged uid with an empty environment (users.py).
"""

import json
import os
import resource
import socket
import subprocess
from collections import deque
from itertools import count
from pathlib import Path

from zerone.errors import SandboxError, SandboxUnavailable
from zerone.sandbox.bubblewrap import DEVICES, bubblewrap_command, bubblewrap_path
from zerone.sandbox.cgroup import Cgroup, CgroupParent, find_cgroup, remove_stale
from zerone.sandbox.execution import MIB, Limits
from zerone.sandbox.interpreter import find_interpreter
from zerone.sandbox.sandbox import Cell
from zerone.sandbox.seccomp import filter_program
from zerone.sandbox.streams import Streams
from zerone.sandbox.users import claim_user

BACKENDS = ("bubblewrap", "namespaces")
_START_S = 60.0
_SHM_BYTES = 16 * MIB
_OPEN_FILES = 64
_REMEMBERED_GROUPS = 64
_STACK_BYTES = 64 * MIB
_OWN_PROCESSES = 4
"""Of the same uid in the zygote's user namespace: bwrap's first process, the zygote, a cell's first."""


class Nursery:
    """A zygote, and the conversation with it."""

    _numbers = count()

    def __init__(self, backend: str) -> None:
        if backend not in BACKENDS:
            raise SandboxUnavailable(f"there is no sandbox backend {backend!r}, only {', '.join(BACKENDS)}")
        interpreter = find_interpreter()
        self._cgroup_parent = _cgroup_parent()
        self._groups: deque[Cgroup] = deque(maxlen=_REMEMBERED_GROUPS)
        self.backend = f"{backend}, {_named(self._cgroup_parent)}"
        bwrap = bubblewrap_path()
        if backend == "bubblewrap" and bwrap is None:
            raise SandboxUnavailable("bwrap is not installed; `apt-get install bubblewrap`")
        is_walled = backend == "bubblewrap"
        walls = bubblewrap_command(bwrap or "", interpreter) if is_walled else [interpreter.path]
        self._start(walls)
        config = {
            "mode": backend,
            "readable": interpreter.mounts,
            "devices": DEVICES,
            "shm_bytes": _SHM_BYTES,
            "filter": filter_program().hex(),
            "driver": _text("runner.py"),
        }
        answer = self._ask(json.dumps(config).encode("ascii"))
        if answer != b"ready":
            reason = answer.decode("utf-8", "replace") or self._complaint()
            self.close()
            raise SandboxUnavailable(f"{backend} does not work here: {reason}")

    def _start(self, walls: list[str]) -> None:
        """Start the zygote with its end of the socket as its standard input."""
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(_START_S)
        self._user = claim_user()
        try:
            self._process = subprocess.Popen(
                [*walls, "-I", "-S", "-B", "-c", _text("template_process.py")],
                env={},
                cwd="/",
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,
                **self._user.options(),
            )
        except OSError as error:
            self._user.release()
            self._socket.close()
            raise SandboxUnavailable(
                f"{walls[0]} cannot be started as user {self._user.uid}: {error.strerror}{_remedy(error)}"
            ) from error
        finally:
            theirs.close()

    def _ask(self, message: bytes) -> bytes:
        try:
            self._socket.send(message)
            return self._socket.recv(4096)
        except TimeoutError as error:
            raise SandboxError(f"the sandbox's zygote has been silent for {_START_S:.0f} s") from error
        except OSError:
            return b""

    def _complaint(self) -> str:
        """Return what a zygote that ended wrote to its standard error."""
        assert self._process.stderr is not None
        self._process.kill()
        text: bytes = self._process.stderr.read(2000)
        return text.decode("utf-8", "replace").strip()

    def cell(self, limits: Limits) -> Cell:
        """Return a new sandbox, which gets ready while the caller goes on."""
        group = None
        if self._cgroup_parent is not None:
            group = Cgroup(self._cgroup_parent, next(self._numbers))
            group.limit(limits.memory_bytes)
            self._groups.append(group)
        job_read, job = os.pipe()
        reads, writes = zip(*(os.pipe() for _ in range(3)), strict=True)
        status, their_status = _status_pair(group is not None)
        theirs = [job_read, *writes, their_status]
        if group is not None:
            theirs.append(group.open_entry())
        wanted = {"rlimits": _rlimits(limits, group is not None), "scratch_bytes": limits.scratch_bytes}
        message = json.dumps(wanted).encode("ascii")
        try:
            socket.send_fds(self._socket, [message], theirs)
            _, handles, _, _ = socket.recv_fds(self._socket, 16, 1)
        except OSError as error:
            raise SandboxError(f"the sandbox's zygote is gone: {error}") from error
        finally:
            for name in theirs:
                os.close(name)
        if not handles:
            raise SandboxError(f"the sandbox's zygote has ended: {self._complaint()}")
        os.set_blocking(job, False)
        return Cell(
            limits=limits,
            backend=self.backend,
            first=handles[0],
            job=job,
            status=status,
            streams=Streams(*reads, limit=limits.output_bytes),
            cgroup=group,
        )

    @property
    def pid(self) -> int:
        """The process under which all of it is."""
        return self._process.pid

    @property
    def uid(self) -> int:
        """The user that programs are outside of their sandbox."""
        return self._user.uid

    def groups(self) -> list[str]:
        """Return the control groups of this zygote's sandboxes that are still there."""
        return [group.name for group in self._groups if group.exists]

    def close(self) -> None:
        """End the zygote, and with it every sandbox that it made."""
        self._socket.close()
        try:
            self._process.wait(5.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stderr is not None:
            self._process.stderr.close()
        self._user.release()


def _remedy(error: OSError) -> str:
    if os.geteuid() != 0 or not isinstance(error, PermissionError):
        return ""
    return "; root needs CAP_SETUID and CAP_SETGID for it: grant them, or start zerone as another user"


def _status_pair(has_cgroup: bool) -> tuple[int, int]:
    """Return two ends for what the first process says, handles included where we count memory ourselves."""
    if has_cgroup:
        return os.pipe()
    ours, theirs = socket.socketpair()
    return ours.detach(), theirs.detach()


def _text(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="ascii")


def _cgroup_parent() -> CgroupParent | None:
    parent = find_cgroup()
    if parent is not None:
        remove_stale(parent)
    return parent


def _named(parent: CgroupParent | None) -> str:
    return f"cgroup v{parent.version}" if parent else "rlimits only"


def _rlimits(limits: Limits, has_cgroup: bool) -> list[tuple[int, int]]:
    """Return what each process may use; the exact limit of the tree's memory is the group's."""
    address_space = limits.memory_bytes * 4 + 1024 * MIB if has_cgroup else limits.memory_bytes + 64 * MIB
    wanted = (
        (resource.RLIMIT_AS, address_space),
        (resource.RLIMIT_CPU, int(limits.wall_s) + 2),
        (resource.RLIMIT_FSIZE, limits.file_bytes),
        (resource.RLIMIT_NOFILE, _OPEN_FILES),
        (resource.RLIMIT_NPROC, limits.processes + _OWN_PROCESSES),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
        (resource.RLIMIT_STACK, _STACK_BYTES),
    )
    bounded = []
    for kind, value in wanted:
        _, hard = resource.getrlimit(kind)
        bounded.append((int(kind), value if hard == resource.RLIM_INFINITY else min(value, hard)))
    return bounded
