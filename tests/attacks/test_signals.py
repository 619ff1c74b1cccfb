"""What one sandbox does is not seen in another that runs at the same time: no bit crosses.

Each channel is a pair of programs, a sender and a receiver that prints what it sees. The receiver
runs twice, once while the sender sends and once while it does nothing, and must print the same. Both
kinds of isolation, two template processes.
"""

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from zerone.errors import SandboxUnavailable
from zerone.sandbox.execution import MIB, Job, Kind, Limits
from zerone.sandbox.factory import BACKENDS, Nursery

LIMITS = Limits(memory_bytes=96 * MIB, wall_s=10.0, processes=24)
TRY = """
import ctypes, fcntl, os, socket, struct, time
libc = ctypes.CDLL(None, use_errno=True)
FILE, FOLDER = os.__file__, os.path.dirname(os.__file__)
LOCK = lambda kind: struct.pack("hhqqi4x", kind, 0, 0, 0, 0)
kept = []

def tried(function, *arguments):
    try:
        return function(*arguments)
    except OSError as error:
        return type(error).__name__

def opened(path, flags=os.O_RDONLY):
    kept.append(os.open(path, flags))
    return kept[-1]
"""
WAIT = "\nprint('sending', flush=True)\ntime.sleep(1.2)\n"
CHANNELS = {
    "flock": (
        "tried(fcntl.flock, opened(FILE), fcntl.LOCK_EX)",
        "print(tried(fcntl.flock, opened(FILE), fcntl.LOCK_EX | fcntl.LOCK_NB))",
    ),
    "lock of a device": (
        "tried(fcntl.lockf, opened('/dev/null', os.O_RDWR), fcntl.LOCK_EX | fcntl.LOCK_NB)",
        "print(tried(fcntl.lockf, opened('/dev/null', os.O_RDWR), fcntl.LOCK_EX | fcntl.LOCK_NB))",
    ),
    "lock that is asked for": (
        "tried(fcntl.fcntl, opened(FILE), fcntl.F_SETLK, LOCK(fcntl.F_RDLCK))",
        "print(tried(fcntl.fcntl, opened(FILE), fcntl.F_GETLK, LOCK(fcntl.F_WRLCK)))",
    ),
    "lock of an open file": (
        "tried(fcntl.fcntl, opened('/dev/zero', os.O_RDWR), 37, LOCK(fcntl.F_WRLCK))",
        "print(tried(fcntl.fcntl, opened('/dev/zero', os.O_RDWR), 37, LOCK(fcntl.F_WRLCK)))",
    ),
    "lease": (
        "tried(fcntl.fcntl, opened(FILE), 1024, fcntl.F_RDLCK)",
        "print(tried(fcntl.fcntl, opened(FILE), 1025))",
    ),
    "hint": (
        "tried(fcntl.fcntl, opened('/dev/null', os.O_RDWR), 1036, struct.pack('Q', 4))",
        "print(tried(fcntl.fcntl, opened('/dev/null', os.O_RDWR), 1035, bytes(8)))",
    ),
    "time of a device": (
        "tried(os.utime, '/dev/null')",
        "print(time.time() - os.stat('/dev/null').st_mtime < 3)",
    ),
    "time of a read": ("open(FOLDER + '/this.py').read()", "print(os.stat(FOLDER + '/this.py').st_atime_ns)"),
    "abstract socket": (
        "s = socket.socket(socket.AF_UNIX); s.bind('\\0zerone-bit'); s.listen()",
        "print(tried(socket.socket(socket.AF_UNIX).connect, '\\0zerone-bit'))",
    ),
    "file in scratch": (
        "open('/tmp/bit', 'w').close(); open('/dev/shm/bit', 'w').close()",
        "print(os.path.exists('/tmp/bit'), os.path.exists('/dev/shm/bit'))",
    ),
    "processes": (
        "for _ in range(20):\n    if os.fork() == 0:\n        time.sleep(1.2)\n        os._exit(0)",
        "print([name for name in os.listdir('/proc') if name.isdigit() and int(name) > 9])",
    ),
    "counters": (
        "for _ in range(20):\n    if os.fork() == 0:\n        time.sleep(1.2)\n        os._exit(0)",
        "print([tried(open, '/proc/' + n) for n in ('loadavg', 'stat', 'sys/fs/file-nr', 'locks')],"
        " libc.sysinfo(ctypes.create_string_buffer(4096)))",
    ),
    "messages under way": (
        "ours, theirs = socket.socketpair()\n"
        "for _ in range(3): socket.send_fds(ours, [b'x'], [opened(FILE) for _ in range(12)])",
        "ours, theirs = socket.socketpair()\n"
        "print(tried(socket.send_fds, ours, [b'x'], [opened(FILE) for _ in range(8)]))",
    ),
}
WATCHES = {
    "inotify of a folder": "tried(libc.inotify_add_watch, libc.inotify_init(), FOLDER.encode(), 0xfff)",
    "inotify of a file": "tried(libc.inotify_add_watch, libc.inotify_init(), FILE.encode(), 0xfff)",
    "notice by signal": "tried(fcntl.fcntl, opened(FOLDER), 1026, 0x8000003f)",
}


@pytest.fixture(scope="module", params=BACKENDS)
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[Nursery, Nursery]]:
    try:
        first = Nursery(request.param)
    except SandboxUnavailable as error:
        pytest.skip(str(error))
    second = Nursery(request.param)
    yield first, second
    first.close()
    second.close()


def run(nursery: Nursery, source: str) -> str:
    execution = nursery.cell(LIMITS).run(Job(kind=Kind.STDIN, source=TRY + source, items=("",)))
    return f"{execution.results} {execution.stderr}"


def seen_by(pair: tuple[Nursery, Nursery], sender: str, receiver: str) -> str:
    """Return what the receiver prints while the sender's state holds."""
    with ThreadPoolExecutor(1) as threads:
        sent = threads.submit(run, pair[0], sender + WAIT)
        time.sleep(0.5)
        seen = run(pair[1], receiver)
        assert "sending" in sent.result()
    return seen


@pytest.mark.parametrize("name", CHANNELS)
def test_no_bit_crosses(pair: tuple[Nursery, Nursery], name: str) -> None:
    sender, receiver = CHANNELS[name]
    assert seen_by(pair, "pass", receiver) == seen_by(pair, sender, receiver)


@pytest.mark.parametrize("name", WATCHES)
def test_nothing_is_noticed(pair: tuple[Nursery, Nursery], name: str) -> None:
    """The other way round: the receiver watches first, then another candidate reads the file."""
    watch = f"print({WATCHES[name]} in (-1, 'PermissionError'))\n"
    assert "True" in run(pair[1], watch)


def test_template_processes_have_users_of_their_own(pair: tuple[Nursery, Nursery]) -> None:
    first, second = pair
    assert (first.uid != second.uid) is (os.geteuid() == 0)
    assert {first.uid, second.uid} & {0} == set()
