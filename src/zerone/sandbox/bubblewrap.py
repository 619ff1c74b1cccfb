"""The command line of bubblewrap, the first choice for isolation.

In: an interpreter and sizes. Out: argv. It is executed by an unprivileged uid with an empty
environment: run by root, uid 65534 inside would be root outside, and `--clearenv` would leave
the caller's secrets in /proc/1/environ.
"""

import shutil
from collections.abc import Mapping

from zerone.sandbox.interpreter import Interpreter

NOBODY = "65534"
SHM_BYTES = 16 << 20
DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")
_STREAMS = (("/proc/self/fd", "/dev/fd"), ("fd/0", "/dev/stdin"), ("fd/1", "/dev/stdout"), ("fd/2", "/dev/stderr"))
OPTIONS = ("-I", "-S", "-B")
_DRIVER = "/driver.pyc"


def bubblewrap_path() -> str | None:
    """Return where bwrap is, or None."""
    return shutil.which("bwrap", path="/usr/bin:/bin:/usr/local/bin:/run/current-system/sw/bin")


def bubblewrap_command(
    bwrap: str, interpreter: Interpreter, scratch_bytes: int, fds: Mapping[str, int]
) -> list[str]:
    """Return argv; `fds` are the descriptors of `seccomp`, `info` and `driver`."""
    command = [bwrap, "--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    command += ["--uid", NOBODY, "--gid", NOBODY, "--hostname", "sandbox"]
    for mount in interpreter.mounts:
        command += ["--ro-bind", mount, mount]
    for target, place in interpreter.links:
        command += ["--symlink", target, place]
    command += ["--proc", "/proc"]
    # `--dev` would also give a writable /dev/shm without a bound, and terminals.
    for device in DEVICES:
        command += ["--dev-bind", device, device]
    for target, place in _STREAMS:
        command += ["--symlink", target, place]
    command += ["--size", str(SHM_BYTES), "--perms", "1777", "--tmpfs", "/dev/shm"]
    command += ["--size", str(scratch_bytes), "--perms", "1777", "--tmpfs", "/tmp", "--chdir", "/tmp"]
    command += ["--file", str(fds["driver"]), _DRIVER, "--remount-ro", "/"]
    command += ["--seccomp", str(fds["seccomp"]), "--info-fd", str(fds["info"])]
    return [*command, interpreter.path, *OPTIONS, _DRIVER]
