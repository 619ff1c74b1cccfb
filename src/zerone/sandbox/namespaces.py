"""Isolation without bubblewrap: user namespaces, Landlock and the same system-call filter.

In: a forked, unprivileged process. Out: the program in its place, or an OSError before it starts.
The steps of bwrap are done here by system calls, through ctypes: namespaces for users, processes,
network, mounts, IPC and names; fresh /tmp and /dev/shm; then Landlock takes away every file but
Python's, and all TCP. Unlike bwrap, names and sizes of the host's files stay visible; their
contents do not.
"""

import ctypes
import os
import platform
import struct

from zerone.errors import SandboxUnavailable
from zerone.sandbox.bubblewrap import DEVICES, NOBODY, OPTIONS, SHM_BYTES
from zerone.sandbox.interpreter import Interpreter

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 4, 22, 38
_MODE_FILTER = 2
_NEW_ALL = 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000
"""CLONE_NEW{NS,CGROUP,UTS,IPC,USER,PID,NET}."""
_MS_NOSUID, _MS_NODEV, _MS_REC, _MS_PRIVATE = 2, 4, 0x4000, 0x40000

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_RULE_PATH = 1
_EXECUTE, _WRITE, _READ, _READ_FOLDER = 1, 2, 4, 8
_ALL_FILE_RIGHTS = {1: 0x1FFF, 2: 0x3FFF, 3: 0x7FFF, 4: 0x7FFF, 5: 0xFFFF}
_ON_FILES = _EXECUTE | _WRITE | _READ | 0x4000
_ALL_NETWORK = 3
_ALL_SCOPES = 3
_OLDEST_LANDLOCK = 4
"""The first version that covers TCP."""

_DRIVER = "/tmp/driver.pyc"

_libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, result: int) -> int:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{name}: {os.strerror(error)}")
    return result


def _prctl(option: int, value: int, pointer: int = 0) -> None:
    _call("prctl", _libc.prctl(option, ctypes.c_ulong(value), ctypes.c_ulong(pointer), 0, 0))


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent ends, also if it has ended already."""
    _prctl(_PR_SET_PDEATHSIG, 9)
    if os.getppid() != parent:
        os._exit(1)


def landlock_version() -> int:
    """Return the kernel's Landlock version, 0 where there is none."""
    return max(0, _libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint(1)))


def check_landlock() -> None:
    """Raise `SandboxUnavailable` where Landlock is missing or too old."""
    version = landlock_version()
    if version < _OLDEST_LANDLOCK:
        raise SandboxUnavailable(
            f"Landlock version {_OLDEST_LANDLOCK} is needed (Linux 6.7), this kernel has {version}"
        )


def _mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    arguments = (source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), options.encode())
    _call(f"mount {target}", _libc.mount(*arguments))


def enter_namespaces() -> None:
    """Leave the host's namespaces; the next fork is the first process of the new ones."""
    uid, gid = os.getuid(), os.getgid()
    # A change of uid makes /proc/self belong to root, and the maps could not be written.
    _prctl(_PR_SET_DUMPABLE, 1)
    _call("unshare", _libc.unshare(_NEW_ALL))
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{NOBODY} {uid} 1"),
        ("gid_map", f"{NOBODY} {gid} 1"),
    ):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)


def mount_scratch(scratch_bytes: int) -> None:
    """Put empty memory file systems where a program may write."""
    _mount("none", "/", "none", _MS_REC | _MS_PRIVATE)
    for place, size in (("/dev/shm", SHM_BYTES), ("/tmp", scratch_bytes)):
        if os.path.isdir(place):
            _mount("tmpfs", place, "tmpfs", _MS_NOSUID | _MS_NODEV, f"size={size},mode=1777")
    os.chdir("/tmp")


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    if not os.path.isdir(path):
        rights &= _ON_FILES
    rule = ctypes.create_string_buffer(struct.pack("=Qi", rights, place), 12)
    _call(f"landlock {path}", _libc.syscall(_ADD_RULE, ruleset, _RULE_PATH, rule, 0))
    os.close(place)


def restrict_files(interpreter: Interpreter) -> None:
    """Take away every file but Python's and the scratch space, all TCP, and signals to the outside."""
    version = landlock_version()
    rights = _ALL_FILE_RIGHTS[min(version, 5)]
    scopes = _ALL_SCOPES if version >= 6 else 0
    attributes = struct.pack("=QQQ", rights, _ALL_NETWORK, scopes)[: 24 if version >= 6 else 16]
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    ruleset = _call(
        "landlock", _libc.syscall(_CREATE_RULESET, buffer, ctypes.c_size_t(len(attributes)), 0)
    )
    for path in interpreter.mounts:
        _allow(ruleset, path, _EXECUTE | _READ | _READ_FOLDER)
    for path in ("/tmp", "/dev/shm"):
        _allow(ruleset, path, rights & ~_EXECUTE)
    for path in DEVICES:
        _allow(ruleset, path, _READ | _WRITE)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _call("landlock", _libc.syscall(_RESTRICT_SELF, ruleset, 0))
    os.close(ruleset)


def drop_capabilities() -> None:
    """Give up what the new user namespace granted."""
    header = ctypes.create_string_buffer(struct.pack("=II", 0x20080522, 0), 8)
    data = ctypes.create_string_buffer(24)
    _call("capset", _libc.capset(header, data))


def filter_calls(program: bytes) -> None:
    """Install the system-call filter, which nothing can lift again."""
    code = ctypes.create_string_buffer(program, len(program))
    pointer = ctypes.addressof(code)
    description = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(program) // 8, pointer), 16)
    _prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.addressof(description))


def is_known_machine() -> bool:
    """Whether the numbers of the Landlock calls above hold here."""
    return platform.machine() in ("x86_64", "aarch64")


def run_isolated(interpreter: Interpreter, scratch_bytes: int, filter_: bytes, info_fd: int) -> None:
    """Become the sandbox's outermost process: start the program inside, pass its exit code on.

    Three processes, as with bwrap: this one waits outside; the first inside is the new process
    namespace's init, whose death ends all others; the second becomes the program.
    """
    die_with_parent(os.getppid())
    os.setsid()
    enter_namespaces()
    init = os.fork()
    if init:
        os.write(info_fd, b'{"child-pid": %d}' % init)
        os.close(info_fd)
        os.closerange(0, 64)
        os._exit(_exit_code(init))
    os.close(info_fd)
    _prctl(_PR_SET_PDEATHSIG, 9)
    mount_scratch(scratch_bytes)
    with open(_DRIVER, "wb") as file:
        file.write(interpreter.driver)
    program = os.fork()
    if program:
        drop_capabilities()
        os.closerange(0, 64)
        os._exit(_exit_code(program))
    drop_capabilities()
    restrict_files(interpreter)
    filter_calls(filter_)
    os.execve(interpreter.path, [interpreter.path, *OPTIONS, _DRIVER], {})


def _exit_code(child: int) -> int:
    """Reap every child until `child` ends; return its code, 128 and more for a signal."""
    while True:
        pid, status = os.wait()
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
