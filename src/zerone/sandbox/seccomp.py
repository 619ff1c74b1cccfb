"""The system-call filter, assembled here as classic BPF, so that no library is needed.

In: nothing but the machine's architecture. Out: the filter's bytes, for `bwrap --seccomp` or
prctl(2). Namespaces alone leave open what this closes: vsock and netlink sockets, nested user
namespaces, io_uring, keyrings, ptrace and the kernel's less trodden paths.

What no honest program calls kills the process, which shows as a sandbox violation; what one may
try and do without is refused with an error.
"""

import errno
import platform
import struct
from collections.abc import Iterator

from zerone.errors import SandboxUnavailable

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCH, _FIRST, _SECOND, _THIRD, _FOURTH = 0, 4, 16, 24, 32, 40
"""Offsets in `struct seccomp_data`; both architectures are little-endian, so low words come first."""

_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_X32_BIT = 0x40000000
_AF_UNIX = 1
_NEW_NAMESPACES = 0x7E020080
"""CLONE_NEW{TIME,NS,CGROUP,UTS,IPC,USER,PID,NET}."""
_TERMINAL_INPUT = (0x5412, 0x541C)
"""TIOCSTI and TIOCLINUX put words into a terminal's input."""

_ARCHITECTURES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}

_KILLING = {
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "unshare": (272, 97),
    "setns": (308, 268),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "open_by_handle_at": (304, 265),
    "name_to_handle_at": (303, 264),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "pidfd_getfd": (438, 438),
    "kcmp": (312, 272),
    "fanotify_init": (300, 262),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "vhangup": (153, 58),
    "lookup_dcookie": (212, 18),
    "iopl": (172, None),
    "ioperm": (173, None),
    "modify_ldt": (154, None),
}
_FORBIDDEN = {
    "syslog": (103, 116),
    "personality": (135, 92),
    "process_madvise": (440, 440),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    "mbind": (237, 235),
    "set_mempolicy": (238, 237),
    # Marks on a file of Python's, and notice of what is done to it, are seen in every sandbox.
    "flock": (73, 32),
    "inotify_init": (253, None),
    "inotify_init1": (294, 26),
    "inotify_add_watch": (254, 27),
    "inotify_rm_watch": (255, 28),
    "fanotify_mark": (301, 263),
    # The memory, load and number of processes of the whole machine.
    "sysinfo": (99, 179),
    # Pages that a pipe holds whole, of which it counts a byte.
    "vmsplice": (278, 75),
}
_MISSING = {
    # Its flags stand behind a pointer, out of a filter's reach; C libraries fall back to clone.
    "clone3": (435, 435),
    # Memory that belongs to no process and no sized file system.
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "semget": (64, 190),
    "msgget": (68, 186),
    "mq_open": (240, 180),
    # Tells what other sandboxes have read.
    "cachestat": (451, 451),
}
_SOCKETS = {"socket": (41, 198), "socketpair": (53, 199)}
_CLONE, _IOCTL, _FCNTL, _MMAP, _SETSOCKOPT = (56, 220), (16, 29), (72, 25), (9, 222), (54, 208)
_OWN_COMMANDS = (0, 1, 2, 3, 4, 8, 9, 10, 11, 15, 16, 1027, 1030, 1032, 1034)
"""Of fcntl, those that concern a descriptor only: F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_SETOWN,
F_GETOWN, F_SETSIG, F_GETSIG, F_SETOWN_EX, F_GETOWN_EX, F_DUPFD_QUERY, F_DUPFD_CLOEXEC, F_GETPIPE_SZ and
F_GET_SEALS.
All others are of the file: locks of every kind, leases, notice of changes, hints; or make a pipe larger."""
_HUGE_PAGES = 0x40000
"""MAP_HUGETLB: pages from the machine's own reserve, which nobody counts."""
_BUFFER_SIZES = (7, 8, 32, 33)
"""SO_SNDBUF, SO_RCVBUF and both with FORCE."""


def _statement(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


def _refuse(error: int) -> int:
    return _ERRNO | error


def _answer(number: int, result: int) -> bytes:
    """Give `result` to one system call."""
    return _statement(_EQUAL, number, 0, 1) + _statement(_RETURN, result)


def _when(number: int, body: bytes) -> bytes:
    """Run `body`, which must return, for one system call."""
    return _statement(_EQUAL, number, 0, len(body) // 8) + body


def filter_program(machine: str | None = None) -> bytes:
    """Return the filter for this machine's architecture."""
    machine = machine or platform.machine()
    if machine not in _ARCHITECTURES:
        raise SandboxUnavailable(
            f"the sandbox has no system-call filter for {machine}, only for "
            f"{' and '.join(_ARCHITECTURES)}; use a remote executor on such a machine"
        )
    token, column = _ARCHITECTURES[machine]
    parts = [
        _statement(_LOAD, _ARCH),
        _statement(_EQUAL, token, 1, 0),
        _statement(_RETURN, _KILL),
        _statement(_LOAD, _NUMBER),
        _statement(_AT_LEAST, _X32_BIT, 0, 1),
        _statement(_RETURN, _KILL),
    ]
    for table, result in (
        (_KILLING, _KILL),
        (_FORBIDDEN, _refuse(errno.EPERM)),
        (_MISSING, _refuse(errno.ENOSYS)),
    ):
        numbers = [number for row in table.values() if (number := row[column]) is not None]
        parts += [_answer(number, result) for number in numbers]
    return b"".join((*parts, *_by_argument(column), _statement(_RETURN, _ALLOW)))


def _by_argument(column: int) -> Iterator[bytes]:
    """Yield what depends on the arguments of a system call."""
    refused, allowed = _statement(_RETURN, _refuse(errno.EPERM)), _statement(_RETURN, _ALLOW)
    only_unix = _statement(_EQUAL, _AF_UNIX, 1, 0) + _statement(_RETURN, _refuse(errno.EAFNOSUPPORT))
    no_namespaces = _statement(_ANY_BIT, _NEW_NAMESPACES, 0, 1) + refused
    no_huge_pages = _statement(_ANY_BIT, _HUGE_PAGES, 0, 1) + refused
    no_input = b"".join(_answer(request, _refuse(errno.EPERM)) for request in _TERMINAL_INPUT)
    own_commands = b"".join(_answer(command, _ALLOW) for command in _OWN_COMMANDS) + refused
    no_sizes = b"".join(_answer(option, _refuse(errno.EPERM)) for option in _BUFFER_SIZES)
    for row, argument, body in (
        *((row, _FIRST, only_unix) for row in _SOCKETS.values()),
        (_CLONE, _FIRST, no_namespaces),
        (_IOCTL, _SECOND, no_input),
        (_FCNTL, _SECOND, own_commands),
        (_MMAP, _FOURTH, no_huge_pages),
        (_SETSOCKOPT, _THIRD, no_sizes),
    ):
        yield _when(row[column], _statement(_LOAD, argument) + body + allowed)
