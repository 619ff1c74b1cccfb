"""The process that sandboxes are forked from: inside bwrap's walls, and never shown a candidate.

In: a configuration, then one short message per sandbox with the descriptors of its streams, on a
socket to zerone. Out: a handle of the new sandbox's first process. It runs as text given to
`python -c`, by the sandbox's Python, as an unprivileged uid with an empty environment; no module
imports this file, and it imports nothing of zerone.

Every sandbox is a fork with process, mount, network, IPC and name spaces of its own, fresh /tmp,
/dev/shm and /proc, no capability and the system-call filter, and dies after one candidate. Jobs go
to it by a pipe of its own, so the memory that forks share holds nothing of any candidate. What
is imported here is there for every candidate at no cost.

Without bwrap (`mode` "namespaces") the first steps are taken here: user namespace, then in each
sandbox Landlock, which takes away every file but Python's. Names and sizes of the host's files
stay visible then; their contents do not.
"""

# ruff: noqa: F401
import bisect
import collections
import copy
import ctypes
import dataclasses
import enum
import fcntl
import functools
import heapq
import itertools
import json
import math
import operator
import os
import random
import re
import resource
import signal
import socket
import string
import struct
import sys
import typing

CONTROL = 0
"""The descriptor of the socket to zerone."""
FIRST_SPARE = 16
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_CAPBSET_DROP = 1, 4, 22, 24
PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT, CLEAR_ALL, MODE_FILTER = 38, 47, 4, 2
NEW_NS, NEW_CGROUP, NEW_UTS, NEW_IPC = 0x00020000, 0x02000000, 0x04000000, 0x08000000
NEW_USER, NEW_PID, NEW_NET = 0x10000000, 0x20000000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 32, 0x1000, 0x4000, 0x40000
MOUNT_SETATTR, AT_FDCWD, AT_RECURSIVE, ATTR_RDONLY = 442, -100, 0x8000, 1

CREATE_RULESET, ADD_RULE, RESTRICT_SELF, RULE_PATH = 444, 445, 446, 1
EXECUTE, WRITE, READ, READ_FOLDER, TRUNCATE = 1, 2, 4, 8, 0x4000
FILE_RIGHTS = {4: 0x7FFF, 5: 0xFFFF}
"""By Landlock version; 4 is the first that covers TCP."""

libc = ctypes.CDLL(None, use_errno=True)


def call(name: str, result: int) -> int:
    """Raise the error of a C function that failed."""
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{name}: {os.strerror(error)}")
    return result


def prctl(option: int, value: int, pointer: int = 0) -> None:
    """Call prctl(2)."""
    call(f"prctl {option}", libc.prctl(option, ctypes.c_ulong(value), ctypes.c_ulong(pointer), 0, 0))


def mount(kind: str, target: str, flags: int, options: str = "") -> None:
    """Call mount(2)."""
    words = (kind.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), options.encode())
    call(f"mount {target}", libc.mount(*words))


# Once ---------------------------------------------------------------------------------------------


def landlock_version() -> int:
    """Return the kernel's Landlock version, 0 where there is none."""
    return max(0, int(libc.syscall(CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint(1))))


def enter_namespaces() -> None:
    """Do what bwrap does for processes: a user namespace, and a first process whose end ends all."""
    if landlock_version() < min(FILE_RIGHTS):
        raise OSError(f"Landlock version 4 is needed (Linux 6.7), this kernel has {landlock_version()}")
    uid, gid = os.getuid(), os.getgid()
    call("unshare", libc.unshare(NEW_USER | NEW_NS | NEW_PID | NEW_NET | NEW_IPC | NEW_UTS | NEW_CGROUP))
    for name, text in (("setgroups", "deny"), ("uid_map", f"65534 {uid} 1"), ("gid_map", f"65534 {gid} 1")):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)
    first = os.fork()
    if first:
        os.close(CONTROL)
        os.waitpid(first, 0)
        os._exit(0)
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    mount("none", "/", MS_REC | MS_PRIVATE)
    mount("proc", "/proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    # Landlock lets modes, times and attributes of the user's own files be changed; this does not.
    words = ctypes.create_string_buffer(struct.pack("=4Q", ATTR_RDONLY, 0, 0, 0), 32)
    size = ctypes.c_size_t(len(words))
    call("mount_setattr", libc.syscall(MOUNT_SETATTR, AT_FDCWD, b"/", AT_RECURSIVE, words, size))


def close_devices(devices: list[str]) -> None:
    """Make the mounts of devices read-only: they can still be written to, but their times not be changed.

    Every sandbox sees the times. bwrap's own `--remount-ro` shuts the device as well.
    """
    for device in devices:
        kept = os.statvfs(device).f_flag & (MS_NOSUID | MS_NOEXEC)
        mount("none", device, MS_REMOUNT | MS_BIND | MS_RDONLY | kept)


def prepare(config: dict[str, typing.Any]) -> int:
    """Take the steps that all sandboxes share; return a handle of our own process namespace."""
    if config["mode"] == "namespaces":
        enter_namespaces()
    else:
        close_devices(config["devices"])
    # Sandboxes report through their pipes; nobody waits for them here.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    capability = 0
    while libc.prctl(PR_CAPBSET_DROP, ctypes.c_ulong(capability), 0, 0, 0) == 0:
        capability += 1
    return os.open("/proc/self/ns/pid", os.O_RDONLY)


# Per sandbox --------------------------------------------------------------------------------------


def mount_scratch(shm_bytes: int, scratch_bytes: int) -> None:
    """Put empty memory file systems where a program may write, and a /proc of its own processes alone."""
    mount("none", "/", MS_REC | MS_PRIVATE)
    # The rest of /proc counts what the whole machine does, and so tells what other sandboxes do.
    mount("proc", "/proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, "subset=pid")
    for place, size in (("/dev/shm", shm_bytes), ("/tmp", scratch_bytes)):
        mount("tmpfs", place, MS_NOSUID | MS_NODEV, f"size={size},nr_inodes=16384,mode=1777")
    os.chdir("/tmp")


def send_scratch() -> None:
    """Send handles of what a program writes to, which nobody but zerone counts here; 4 is a socket then."""
    handles = [os.open(place, os.O_PATH | os.O_CLOEXEC) for place in ("/tmp", "/dev/shm")]
    status = socket.socket(fileno=4)
    socket.send_fds(status, [b"s"], handles)
    status.detach()
    for handle in handles:
        os.close(handle)


def drop_capabilities() -> None:
    """Give up every capability of this process."""
    prctl(PR_CAP_AMBIENT, CLEAR_ALL)
    header = ctypes.create_string_buffer(struct.pack("=II", 0x20080522, 0), 8)
    call("capset", libc.capset(header, ctypes.create_string_buffer(24)))


def allow(ruleset: int, path: str, rights: int) -> None:
    """Allow rights on a file or all that is below a directory, if it exists."""
    if not os.path.exists(path):
        return
    place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    if not os.path.isdir(path):
        rights &= EXECUTE | WRITE | READ | TRUNCATE
    rule = ctypes.create_string_buffer(struct.pack("=Qi", rights, place), 12)
    call(f"landlock {path}", libc.syscall(ADD_RULE, ruleset, RULE_PATH, rule, 0))
    os.close(place)


def restrict_files(config: dict[str, typing.Any]) -> None:
    """Take away every file but Python's and the scratch space, all TCP, and signals to the outside."""
    version = landlock_version()
    rights = FILE_RIGHTS[min(version, 5)]
    words = (rights, 3, 3) if version >= 6 else (rights, 3)
    attributes = ctypes.create_string_buffer(struct.pack(f"={len(words)}Q", *words), 8 * len(words))
    size = ctypes.c_size_t(len(attributes))
    ruleset = call("landlock", libc.syscall(CREATE_RULESET, attributes, size, 0))
    for path in config["readable"]:
        allow(ruleset, path, EXECUTE | READ | READ_FOLDER)
    for path in ("/tmp", "/dev/shm"):
        allow(ruleset, path, rights & ~EXECUTE)
    for path in config["devices"]:
        allow(ruleset, path, READ | WRITE)
    allow(ruleset, f"/proc/{os.getpid()}", READ | READ_FOLDER)
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    call("landlock", libc.syscall(RESTRICT_SELF, ruleset, 0))
    os.close(ruleset)


def filter_calls(program: bytes) -> None:
    """Install the system-call filter, which nothing can lift again."""
    code = ctypes.create_string_buffer(program, len(program))
    packed = struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(code))
    description = ctypes.create_string_buffer(packed, 16)
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    prctl(PR_SET_SECCOMP, MODE_FILTER, ctypes.addressof(description))


def exit_code(child: int) -> int:
    """Reap every child until `child` ends; return its code, 128 and more for a signal."""
    while True:
        pid, status = os.wait()
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def become_first(config: dict[str, typing.Any], limits: dict[str, typing.Any], fds: list[int]) -> None:
    """In the fork: be the first process of new namespaces, start the candidate's, wait, end.

    Returns in the candidate's process only, with nothing left of what it may not have. The
    descriptors are moved to 0 (job), 1, 2 (output), 3 (results) and 4 (status, ours alone).
    """
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    *streams, entry = fds if len(fds) == 6 else [*fds, -1]
    if entry >= 0:
        os.write(entry, b"0")
    spare = [fcntl.fcntl(source, fcntl.F_DUPFD, FIRST_SPARE) for source in streams]
    for target, source in enumerate(spare):
        os.dup2(source, target)
    os.closerange(len(streams), 1024)
    call("unshare", libc.unshare(NEW_NS | NEW_NET | NEW_IPC | NEW_UTS | NEW_CGROUP))
    mount_scratch(config["shm_bytes"], limits["scratch_bytes"])
    if entry < 0:
        send_scratch()
    # The memory and the descriptors of the first process stay closed to the candidate, which has the
    # same uid and the same lack of rights: from before it exists, or it might look in time.
    prctl(PR_SET_DUMPABLE, 0)
    candidate = os.fork()
    if candidate:
        os.closerange(0, 4)
        drop_capabilities()
        os.write(4, b"%d" % exit_code(candidate))
        os._exit(0)
    prctl(PR_SET_DUMPABLE, 1)
    os.close(4)
    os.setsid()
    for kind, value in limits["rlimits"]:
        resource.setrlimit(kind, (value, value))
    if config["mode"] == "namespaces":
        restrict_files(config)
    drop_capabilities()
    filter_calls(bytes.fromhex(config["filter"]))


def serve(control: socket.socket, config: dict[str, typing.Any], own: int) -> bool:
    """Make a sandbox for each message; return only in a candidate's process, or at the end (False)."""
    while True:
        message, fds, _, _ = socket.recv_fds(control, 4096, 8)
        if not message:
            return False
        call("setns", libc.setns(own, NEW_PID))
        call("unshare", libc.unshare(NEW_PID))
        first = os.fork()
        if first == 0:
            control.close()
            try:
                become_first(config, json.loads(message), fds)
            except OSError as error:
                os.write(2, f"sandbox: {error}".encode())
                os._exit(125)
            return True
        handle = os.pidfd_open(first)
        socket.send_fds(control, [b"1"], [handle])
        for name in (handle, *fds):
            os.close(name)


def start() -> typing.Any:
    """Read the configuration, prepare, serve; return the driver's code in a candidate's process."""
    os.environ.clear()
    control = socket.socket(fileno=CONTROL)
    config = json.loads(control.recv(1 << 20))
    driver = compile(config.pop("driver"), "driver", "exec")
    try:
        own = prepare(config)
    except OSError as error:
        control.send(f"sandbox: {error}".encode())
        return None
    control.send(b"ready")
    return driver if serve(control, config, own) else None


code = start()
if code is not None:
    exec(code, {"__name__": "driver", "__builtins__": __builtins__})
