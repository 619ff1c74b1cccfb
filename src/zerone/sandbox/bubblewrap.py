"""The command line of bubblewrap, the first choice for isolation.

In: an interpreter. Out: argv. It builds the walls once per zygote: a root that holds Python and
nothing else, and namespaces of users, processes, network, mounts, IPC and names. It is executed by
an unprivileged uid with an empty environment: run by root, uid 65534 inside would be root outside,
and `--clearenv` would leave the caller's secrets in /proc/1/environ.
"""

import shutil

from zerone.sandbox.interpreter import Interpreter

NOBODY = "65534"
DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")
_STREAMS = (
    ("/proc/self/fd", "/dev/fd"),
    ("fd/0", "/dev/stdin"),
    ("fd/1", "/dev/stdout"),
    ("fd/2", "/dev/stderr"),
)


def bubblewrap_path() -> str | None:
    """Return where bwrap is, or None."""
    return shutil.which("bwrap", path="/usr/bin:/bin:/usr/local/bin:/run/current-system/sw/bin")


def bubblewrap_command(bwrap: str, interpreter: Interpreter) -> list[str]:
    """Return argv up to and including the interpreter; its own arguments are to follow.

    The capabilities hold in the new user namespace only, for the zygote, which makes further
    namespaces there and takes them away from each sandbox. There is no `--die-with-parent`, which
    would tie it to the thread that starts it: the zygote ends with its socket, and all else with it.
    """
    command = [bwrap, "--unshare-all", "--new-session", "--cap-add", "ALL"]
    command += ["--uid", NOBODY, "--gid", NOBODY, "--hostname", "sandbox"]
    for mount in interpreter.mounts:
        command += ["--ro-bind", mount, mount]
    for target, place in interpreter.links:
        command += ["--symlink", target, place]
    command += ["--proc", "/proc"]
    # Not `--dev`, which gives terminals and an unbounded /dev/shm.
    for device in DEVICES:
        command += ["--dev-bind", device, device]
    for target, place in _STREAMS:
        command += ["--symlink", target, place]
    return [*command, "--dir", "/dev/shm", "--dir", "/tmp", "--remount-ro", "/", interpreter.path]
