"""The command line of bubblewrap, the first choice for isolation.

In: an interpreter and sizes. Out: argv. It is executed by an unprivileged uid with an empty
environment: run by root, uid 65534 inside would be root outside, and `--clearenv` would leave
the caller's secrets in /proc/1/environ.
"""

import shutil

from zerone.sandbox.interpreter import Interpreter

NOBODY = "65534"
SHM_BYTES = 16 << 20


def bubblewrap_path() -> str | None:
    """Return where bwrap is, or None."""
    return shutil.which("bwrap", path="/usr/bin:/bin:/usr/local/bin:/run/current-system/sw/bin")


def bubblewrap_command(
    bwrap: str, interpreter: Interpreter, scratch_bytes: int, seccomp_fd: int, info_fd: int
) -> list[str]:
    """Return argv up to and including the interpreter; its own arguments are to follow."""
    command = [bwrap, "--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    command += ["--uid", NOBODY, "--gid", NOBODY, "--hostname", "sandbox"]
    for mount in interpreter.mounts:
        command += ["--ro-bind", mount, mount]
    for target, place in interpreter.links:
        command += ["--symlink", target, place]
    command += ["--proc", "/proc", "--dev", "/dev", "--remount-ro", "/dev"]
    command += ["--size", str(SHM_BYTES), "--tmpfs", "/dev/shm"]
    command += ["--size", str(scratch_bytes), "--tmpfs", "/tmp", "--chdir", "/tmp"]
    command += ["--remount-ro", "/"]
    command += ["--seccomp", str(seccomp_fd), "--info-fd", str(info_fd)]
    return [*command, interpreter.path]
