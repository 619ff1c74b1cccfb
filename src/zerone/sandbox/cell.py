"""One sandbox for one candidate: started ahead of time, used once, killed with all that is in it.

In: an isolation, and later one job. Out: an `Execution`. A cell waits with its Python started and
reads the job only when there is one, so a candidate never meets another's process, files or
memory, and yet does not wait for any of it to be set up.
"""

import contextlib
import fcntl
import json
import os
import resource
import select
import signal
import time
from dataclasses import dataclass, field

from zerone.errors import SandboxError
from zerone.sandbox import namespaces
from zerone.sandbox.bubblewrap import bubblewrap_command, bubblewrap_path
from zerone.sandbox.cgroup import Cgroup, CgroupParent
from zerone.sandbox.execution import MIB, Ending, Execution, Job, Limits
from zerone.sandbox.interpreter import Interpreter
from zerone.sandbox.seccomp import filter_program
from zerone.sandbox.streams import Streams
from zerone.sandbox.tree import tree_bytes

_RESULTS_FD, _INFO_FD, _FILTER_FD, _DRIVER_FD, _FIRST_SPARE_FD = 3, 4, 5, 6, 20
_OPEN_FILES = 64
_STACK_BYTES = 64 * MIB
_OWN_PROCESSES = 2
"""Of bwrap: the one outside and the first one inside. The driver counts as the candidate's."""
_UID_FLOOR = 0x5A000000
"""Far above any account; each worker adds its process id, so that no two share a uid."""
_POLL_MS = 25
_SIGSYS = 31


@dataclass(frozen=True, slots=True, kw_only=True)
class Isolation:
    """What sandboxes are made of on this machine."""

    backend: str
    interpreter: Interpreter
    cgroup: CgroupParent | None

    @property
    def description(self) -> str:
        """Name the backend and how limits are kept."""
        limits = f"cgroup v{self.cgroup.version}" if self.cgroup else "rlimits only"
        return f"{self.backend}, {limits}"


def _set_rlimits(limits: Limits, has_cgroup: bool) -> None:
    """Limit what each process may use; exact limits of the tree are the control group's."""
    address_space = limits.memory_bytes * 4 + 1024 * MIB if has_cgroup else limits.memory_bytes + 32 * MIB
    cpu_s = int(limits.wall_s) + 2
    for kind, value in (
        (resource.RLIMIT_AS, address_space),
        (resource.RLIMIT_CPU, cpu_s),
        (resource.RLIMIT_FSIZE, limits.file_bytes),
        (resource.RLIMIT_NOFILE, _OPEN_FILES),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
        (resource.RLIMIT_STACK, _STACK_BYTES),
    ):
        _, hard = resource.getrlimit(kind)
        bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (bound, bound))


def _place(sources: dict[int, int]) -> None:
    """Give descriptors their numbers (wanted -> present), and close all others."""
    spare = {
        wanted: fcntl.fcntl(present, fcntl.F_DUPFD, _FIRST_SPARE_FD) for wanted, present in sources.items()
    }
    for wanted, present in spare.items():
        os.dup2(present, wanted, inheritable=True)
    # All other descriptors close by themselves at the exec, which is Python's default.


def _filled_pipe(data: bytes) -> int:
    """Return the reading end of a pipe that holds a few kilobytes."""
    read, write = os.pipe()
    os.write(write, data)
    os.close(write)
    return read


@dataclass
class Cell:
    """A sandbox that waits for its job, runs it and is gone."""

    isolation: Isolation
    limits: Limits
    number: int
    _pid: int = field(init=False)
    _outer: int = field(init=False)
    _cgroup: Cgroup | None = field(init=False, default=None)
    _job: int = field(init=False)
    _info: int = field(init=False)
    _streams: Streams = field(init=False)

    def __post_init__(self) -> None:
        """Start it: pipes, control group, a fork that becomes bwrap or enters namespaces itself."""
        if self.isolation.cgroup is not None:
            self._cgroup = Cgroup(self.isolation.cgroup, self.number)
            self._cgroup.limit(self.limits.memory_bytes)
        job, self._job = os.pipe()
        self._info, info = os.pipe()
        reads, writes = zip(*(os.pipe() for _ in range(3)), strict=True)
        filter_read, driver_read = _filled_pipe(filter_program()), _filled_pipe(self.isolation.interpreter.driver)
        entry = self._cgroup.open_entry() if self._cgroup else None
        places = {0: job, 1: writes[0], 2: writes[1], _RESULTS_FD: writes[2], _INFO_FD: info}
        self._pid = os.fork()
        if self._pid == 0:
            try:
                self._become({**places, _FILTER_FD: filter_read, _DRIVER_FD: driver_read}, entry)
            except OSError as error:
                os.write(2, f"sandbox: {error}".encode())
            finally:
                os._exit(125)
        for name in (job, info, filter_read, driver_read, *writes):
            os.close(name)
        if entry is not None:
            os.close(entry)
        self._outer = os.pidfd_open(self._pid)
        self._streams = Streams(*reads, limit=self.limits.output_bytes)

    def _become(self, places: dict[int, int], entry: int | None) -> None:
        """In the fork: enter the control group, become nobody, become the sandbox."""
        if entry is not None:
            os.write(entry, b"0")
        _place(places)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        for name in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(name, signal.SIG_DFL)
        if os.geteuid() == 0:
            uid = _UID_FLOOR + os.getppid()
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            num = self.limits.processes + _OWN_PROCESSES
            resource.setrlimit(resource.RLIMIT_NPROC, (num, num))
        os.chdir("/")
        os.umask(0o077)
        _set_rlimits(self.limits, self._cgroup is not None)
        interpreter, size = self.isolation.interpreter, self.limits.scratch_bytes
        if self.isolation.backend == "bubblewrap":
            fds = {"seccomp": _FILTER_FD, "info": _INFO_FD, "driver": _DRIVER_FD}
            command = bubblewrap_command(bubblewrap_path() or "bwrap", interpreter, size, fds)
            os.execve(command[0], command, {})
        program = os.read(_FILTER_FD, 1 << 16)
        os.close(_FILTER_FD)
        os.close(_DRIVER_FD)
        namespaces.run_isolated(interpreter, size, program, _INFO_FD)

    def run(self, job: Job) -> Execution:
        """Deliver the job, watch it, and return what came back once every process is dead."""
        start = time.monotonic()
        # The user's own uid has processes outside too; only inside can they be told apart.
        processes = 0 if os.geteuid() == 0 else self.limits.processes + _OWN_PROCESSES
        payload = repr(
            {
                "kind": job.kind.value,
                "source": job.source,
                "setup": job.setup,
                "entry": job.entry,
                "items": list(job.items),
                "processes": processes,
                "output_bytes": self.limits.output_bytes,
            }
        ).encode("utf-8", "surrogatepass")
        ending = self._watch(payload, start + self.limits.wall_s)
        wall_s = time.monotonic() - start
        exit_code, peak, has_run_out = self._kill()
        streams = self._streams
        if has_run_out:
            ending = Ending.MEMORY_LIMIT
        elif ending is Ending.EXITED:
            ending = self._reason(exit_code)
        return Execution(
            ending=ending,
            exit_code=exit_code,
            results=streams.results(),
            stdout=streams.text(0),
            stderr=streams.text(1),
            wall_s=wall_s,
            peak_bytes=peak,
            backend=self.isolation.description,
        )

    def _reason(self, exit_code: int | None) -> Ending:
        if exit_code == 128 + _SIGSYS:
            return Ending.VIOLATION
        if not self._streams.has_said_anything and exit_code in (1, 125):
            # Neither result nor end of the driver: bwrap or the launcher failed, not the program.
            text = self._streams.text(1)
            if text.startswith(("bwrap:", "sandbox:")):
                raise SandboxError(f"the sandbox could not be started: {text.strip()[:500]}")
        return Ending.EXITED

    def _watch(self, payload: bytes, deadline: float) -> Ending:
        """Feed the payload and collect the streams until the driver is done or must be stopped."""
        os.set_blocking(self._job, False)
        poll = select.poll()
        poll.register(self._outer, select.POLLIN)
        poll.register(self._job, select.POLLOUT)
        self._streams.register(poll)
        rest = memoryview(payload)
        while True:
            left_ms = (deadline - time.monotonic()) * 1000
            if left_ms <= 0:
                return Ending.TIMEOUT
            wait_ms = left_ms if self._cgroup else min(left_ms, _POLL_MS)
            events = poll.poll(wait_ms + 1)
            for name, event in events:
                if name == self._job:
                    rest = self._feed(poll, rest, event)
                elif name != self._outer:
                    self._streams.read(poll, name)
            if self._streams.is_over_limit:
                return Ending.OUTPUT_LIMIT
            if self._streams.is_done:
                return Ending.DONE
            if any(name == self._outer for name, _ in events):
                self._streams.drain()
                return Ending.DONE if self._streams.is_done else Ending.EXITED
            if self._cgroup is None and tree_bytes(self._pid) > self.limits.memory_bytes:
                return Ending.MEMORY_LIMIT

    def _feed(self, poll: "select.poll", rest: memoryview, event: int) -> memoryview:
        try:
            if not event & select.POLLOUT:
                raise BrokenPipeError
            rest = rest[os.write(self._job, rest[: 1 << 16]) :]
        except BlockingIOError:
            return rest
        except BrokenPipeError:
            rest = rest[:0]
        if not rest:
            poll.unregister(self._job)
            os.close(self._job)
            self._job = -1
        return rest

    def _kill(self) -> tuple[int | None, int | None, bool]:
        """Kill the whole tree and wait until it is gone; return exit code, peak and out-of-memory."""
        init = self._init_process()
        if init is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(init, signal.SIGKILL)
            # A namespace's first process is reaped last: when it has ended, all others have.
            if not _has_ended(init, 10.0):
                raise SandboxError("the sandbox's processes could not be killed within 10 s")
            os.close(init)
        else:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._outer, signal.SIGKILL)
        if not _has_ended(self._outer, 1.0):
            signal.pidfd_send_signal(self._outer, signal.SIGKILL)
        _, status, usage = os.wait4(self._pid, 0)
        code = os.waitstatus_to_exitcode(status)
        peak: int | None = usage.ru_maxrss * 1024
        has_run_out = False
        if self._cgroup is not None:
            peak, has_run_out = self._cgroup.peak_bytes() or peak, self._cgroup.has_run_out()
            self._cgroup.close()
        for name in (self._outer, self._info, self._job):
            if name >= 0:
                os.close(name)
        self._streams.close()
        return code, peak, has_run_out

    def _init_process(self) -> int | None:
        """Return a handle of the first process inside, or None if none was started."""
        text = b""
        while select.select([self._info], [], [], 5.0)[0] and (part := os.read(self._info, 4096)):
            text += part
            if b"}" in text:
                break
        try:
            return os.pidfd_open(json.loads(text)["child-pid"])
        except (ValueError, LookupError, ProcessLookupError):
            return None

    def close(self) -> None:
        """Kill a cell that was not used."""
        self._kill()


def _has_ended(process: int, within_s: float) -> bool:
    return bool(select.select([process], [], [], within_s)[0])
