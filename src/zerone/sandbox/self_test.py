"""The start-up self-test: every promise of the sandbox is tried before any program is trusted to it.

In: a zygote. Out: a `Finding` per promise. The probes run inside as any candidate would; what they
see and what is left of them outside is compared with what was promised. One broken promise and
the backend is refused.
"""

import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from zerone.sandbox.execution import MIB, Ending, Job, Kind, Limits
from zerone.sandbox.factory import Nursery
from zerone.sandbox.process_tree import tree_processes
from zerone.sandbox.values import Malformed, decode, parse_line

_LIMITS = Limits(memory_bytes=96 * MIB, wall_s=10.0, processes=8, output_bytes=100_000)
_ROOMY = replace(_LIMITS, memory_bytes=1024 * MIB)
"""For questions, which are not about memory: where no control group counts it, each of the processes that
`forks` makes is charged with all that it shares, and the answer may come after the limit is passed."""
_OUTSIDE = ("/", "/usr", "/etc", "/root", "/home", "/var/tmp", "/dev", "/proc/sys/kernel", "/sys/fs/cgroup")

_PROBE = """
import ctypes, os, socket, sys
libc = ctypes.CDLL(None, use_errno=True)

def tried(function, *arguments):
    try:
        return repr(function(*arguments))
    except OSError as error:
        return None

def read(path):
    with open(path, "rb") as file:
        return file.read(10000)

def status(*names):
    lines = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return [lines[name].strip() for name in names]

def outer_uid():
    return [os.getuid(), int(open("/proc/self/uid_map").read().split()[1])]

def environment():
    return [len(os.environ), tried(read, "/proc/self/environ"), tried(read, "/proc/1/environ")]

def sockets(port):
    reached = []
    for family in (socket.AF_INET, socket.AF_INET6, 16, 17, 40):
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW):
            if tried(socket.socket, family, kind) is not None:
                reached.append([family, int(kind)])
    with socket.socket(socket.AF_UNIX) as unix:
        if tried(unix.connect, "\\0zerone-%d" % port) is not None:
            reached.append("abstract")
    return reached

def written(folders):
    found = []
    for folder in folders:
        try:
            with open(folder + "/zerone-was-here", "w"):
                found.append(folder)
        except OSError:
            pass
    for path in ("/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/dev/mem", "/dev/kmsg"):
        try:
            os.close(os.open(path, os.O_WRONLY))
            found.append(path)
        except OSError:
            pass
    return found

def changed(path):
    # The user's own file, where zerone is not root: its mode and times are no contents.
    ways = ((os.chmod, 0o600), (os.utime, (1, 1)), (os.truncate, 0), (os.setxattr, "user.x", b"x"))
    return [way.__name__ for way, *rest in ways if tried(way, path, *rest) is not None]

def killed_by(numbers):
    codes = []
    for number in numbers:
        pid = os.fork()
        if pid == 0:
            libc.syscall(number, 0, 0, 0, 0, 0)
            os._exit(0)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    return codes

def marks(inotify, sysinfo):
    # What one sandbox could do to a file that all have, and another see.
    import fcntl, struct
    found = []
    lock = struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0)
    file, null = os.open(os.__file__, os.O_RDONLY), os.open("/dev/null", os.O_RDWR)
    folder = os.open(os.path.dirname(os.__file__), os.O_RDONLY)
    for name, function, *arguments in (
        ("flock", fcntl.flock, file, fcntl.LOCK_SH),
        ("lockf", fcntl.lockf, null, fcntl.LOCK_EX | fcntl.LOCK_NB),
        ("F_GETLK", fcntl.fcntl, file, fcntl.F_GETLK, lock),
        ("F_OFD_GETLK", fcntl.fcntl, null, 36, lock),
        ("F_OFD_SETLK", fcntl.fcntl, null, 37, lock),
        ("F_SETLEASE", fcntl.fcntl, file, 1024, fcntl.F_RDLCK),
        ("F_GETLEASE", fcntl.fcntl, file, 1025),
        ("F_NOTIFY", fcntl.fcntl, folder, 1026, 1),
        ("F_SET_RW_HINT", fcntl.fcntl, null, 1036, struct.pack("Q", 2)),
        ("times of a device", os.utime, "/dev/null"),
        ("times of a file", os.utime, os.__file__),
        ("mode of a file", os.chmod, os.__file__, 0o644),
        ("attribute of a file", os.setxattr, os.__file__, "user.x", b"x"),
        *((name, read, "/proc/" + name) for name in ("loadavg", "meminfo", "stat", "sys/fs/file-nr")),
    ):
        if tried(function, *arguments) is not None:
            found.append(name)
    room = ctypes.create_string_buffer(4096)
    for name, number, argument in (("inotify", inotify, 0), ("sysinfo", sysinfo, room)):
        if libc.syscall(number, argument) >= 0:
            found.append(name)
    return found

def forks():
    num = 0
    while True:
        try:
            if os.fork() == 0:
                import time
                time.sleep(60)
                os._exit(0)
        except OSError:
            return num
        num += 1
        if num > 500:
            return num

def signals(pid):
    return tried(os.kill, pid, 0)

def leave(name):
    with open("/tmp/" + name, "w") as file:
        file.write("left")
    return sorted(os.listdir("/tmp"))
"""
_HOARD = """
import os
for path in ("/tmp/a", "/tmp/b", "/tmp/c", "/dev/shm/d"):
    with open(path, "wb") as file:
        file.write(bytes(12 << 20))
kept = []
for _ in range(24):
    kept += os.pipe()
    os.set_blocking(kept[-1], False)
    os.write(kept[-1], bytes(1 << 16))
"""
_CALLS = {
    "x86_64": (101, 321, 425, 272, 165, 308, 250, 304),
    "aarch64": (117, 280, 425, 97, 40, 268, 219, 265),
}
"""ptrace, bpf, io_uring_setup, unshare, mount, setns, keyctl, open_by_handle_at."""

_TELLING_CALLS = {"x86_64": (294, 99), "aarch64": (26, 179)}
"""inotify_init1, sysinfo."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A promise, whether it holds, and what was seen."""

    promise: str
    is_kept: bool
    detail: str


def examine_promises(nursery: Nursery) -> tuple[Finding, ...]:
    """Try every promise."""
    return (*_quiet_probes(nursery), *_violent_probes(nursery), *_afterwards(nursery))


def _ask(nursery: Nursery, *questions: str) -> list[Any]:
    """Evaluate expressions in one sandbox; what failed is the text of its error."""
    job = Job(kind=Kind.EXPRESSION, source=_PROBE, items=questions)
    answers: list[Any] = ["no answer"] * len(questions)
    for line in nursery.cell(_ROOMY).run(job).results:
        try:
            match parse_line(line):
                case [int(index), "value", encoded] if index < len(answers):
                    answers[index] = decode(encoded)
                case [int(index), "error", *words] if index < len(answers):
                    answers[index] = f"error: {words}"
        except Malformed as error:
            return [f"garbled: {error}"] * len(questions)
    return answers


_Question = tuple[str, Callable[[Any], bool]]
"""An expression to be evaluated inside, and whether what it saw is as promised."""


def _quiet_probes(nursery: Nursery) -> Iterator[Finding]:
    with (
        tempfile.NamedTemporaryFile(prefix="zerone-canary-", dir=_lasting_folder()) as canary,
        socket.socket() as listener,
        socket.socket(socket.AF_UNIX) as abstract,
    ):
        os.chmod(canary.name, 0o644)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        abstract.bind(f"\0zerone-{port}")
        abstract.listen()
        questions = {**_questions_about_the_host(canary.name, port), **_questions_about_rights(nursery.uid)}
        answers = _ask(nursery, *(question for question, _ in questions.values()))
    for (promise, (_, is_right)), seen in zip(questions.items(), answers, strict=True):
        try:
            is_kept = is_right(seen)
        except (TypeError, ValueError, LookupError):
            is_kept = False
        yield Finding(promise=promise, is_kept=is_kept, detail=f"saw {seen!r}"[:300])


def _lasting_folder() -> str | None:
    """Return a folder that a sandbox has not mounted its own over, if there is one to write to."""
    return "/var/tmp" if os.access("/var/tmp", os.W_OK) else None


def _questions_about_rights(uid: int) -> dict[str, _Question]:
    return {
        "programs run as nobody, not as root": ("outer_uid()", lambda seen: seen == [65534, uid]),
        # bwrap names the directory that it starts in.
        "the environment is empty": (
            "environment()",
            lambda seen: seen[0] == 0 and {*seen[1:]} <= {None, "b''", "b'PWD=/\\x00'"},
        ),
        "no capability, no new privileges, a system-call filter": (
            "status('CapEff', 'CapPrm', 'CapBnd', 'CapAmb', 'NoNewPrivs', 'Seccomp')",
            lambda seen: [int(word, 16) for word in seen] == [0, 0, 0, 0, 1, 2],
        ),
        "forbidden system calls end a program": (
            f"killed_by({_CALLS.get(os.uname().machine, ())!r})",
            lambda seen: bool(seen) and set(seen) == {-31},
        ),
        "candidates cannot signal each other by files or counters": (
            f"marks(*{_TELLING_CALLS.get(os.uname().machine, ())!r})",
            lambda seen: seen == [],
        ),
        "the number of processes is limited": (
            "forks()",
            lambda seen: 0 < seen <= _LIMITS.processes + 4,
        ),
    }


def _questions_about_the_host(canary: str, port: int) -> dict[str, _Question]:
    return {
        "no socket but local ones, and none to the host": (f"sockets({port})", lambda seen: seen == []),
        "nothing of the host can be written or changed": (
            f"written({_OUTSIDE!r}) + changed({canary!r})",
            lambda seen: seen == [],
        ),
        "files of the host cannot be read": (
            f"[tried(read, path) for path in {[canary, '/etc/passwd', '/etc/shadow']!r}]",
            lambda seen: seen == [None, None, None],
        ),
        "processes of the host cannot be signalled": (
            f"[signals({os.getpid()}), signals({os.getppid()})]",
            lambda seen: seen == [None, None],
        ),
    }


def _violent_probes(nursery: Nursery) -> Iterator[Finding]:
    touch = "x = bytearray({n})\nfor i in range(0, {n}, 4096): x[i] = 1\nimport time; time.sleep(1)"
    too_much = _LIMITS.memory_bytes + 32 * MIB
    for promise, source, limits, wanted in (
        (
            "memory is limited, over all processes",
            f"import os\nos.fork()\n{touch.format(n=too_much // 2)}",
            _LIMITS,
            (Ending.MEMORY_LIMIT,),
        ),
        (
            "memory is limited, what files and pipes hold included",
            f"{_HOARD}\n{touch.format(n=_LIMITS.memory_bytes // 2)}",
            _LIMITS,
            (Ending.MEMORY_LIMIT,),
        ),
        ("time is limited", "while True: pass", replace(_LIMITS, wall_s=0.2), (Ending.TIMEOUT,)),
        ("output is limited", "while True: print('x' * 1000)", _LIMITS, (Ending.OUTPUT_LIMIT,)),
        (
            "errors are limited",
            "import os\nwhile True: os.write(2, b'x' * 1000)",
            _LIMITS,
            (Ending.OUTPUT_LIMIT,),
        ),
    ):
        start = time.monotonic()
        job = Job(kind=Kind.STDIN, source=source, items=("",))
        execution = nursery.cell(limits).run(job)
        took_s = time.monotonic() - start
        yield Finding(
            promise=promise,
            is_kept=execution.ending in wanted and took_s < limits.wall_s + 2.0,
            detail=f"ended by {execution.ending.value} after {took_s:.2f} s",
        )


def _afterwards(nursery: Nursery) -> Iterator[Finding]:
    before = len(tree_processes(nursery.pid))
    daemon = (
        "import os, time\nfor _ in range(3):\n    if os.fork() == 0:\n        os.setsid()\n"
        "        while True: time.sleep(9)\nos._exit(0)"
    )
    nursery.cell(_LIMITS).run(Job(kind=Kind.CALL, source=daemon, items=((),), entry="f"))
    left = len(tree_processes(nursery.pid)) - before
    yield Finding(promise="no process is left", is_kept=left <= 0, detail=f"{max(left, 0)} more than before")
    groups = nursery.groups()
    yield Finding(promise="no control group is left", is_kept=not groups, detail=f"left {groups}")
    seen = [_ask(nursery, f"leave({name!r})")[0] for name in ("first", "second")]
    yield Finding(
        promise="a candidate sees nothing of another",
        is_kept=seen == [["first"], ["second"]],
        detail=f"saw {seen}",
    )
    traces = [folder for folder in _OUTSIDE if os.path.exists(f"{folder}/zerone-was-here")]
    yield Finding(promise="the host is as it was", is_kept=not traces, detail=f"found traces in {traces}")
