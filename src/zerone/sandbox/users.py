"""The user that a zygote and its sandboxes run as.

In: who zerone is. Out: a uid. Where zerone is root, each zygote gets a uid of its own, far above any
account, which no other zygote has while it is held: the kernel counts processes, pipes and messages
under way by uid, so candidates of one uid could tell each other something. Everyone else can run
programs only as themselves, and shares that uid with all of their sandboxes.
"""

import os
import pwd
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zerone.errors import SandboxUnavailable

_HIGH = range(0x5A000000, 0x5B000000)
_LOWEST, _NOBODY = 1000, 65534
_TRIES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A uid, and the claim to it where it is not our own."""

    uid: int
    claim: socket.socket | None = None

    def options(self) -> dict[str, Any]:
        """Return what makes `subprocess` start a process as this user."""
        if self.claim is None:
            return {}
        return {"user": self.uid, "group": self.uid, "extra_groups": []}

    def release(self) -> None:
        """Give up the claim, once no process has the uid."""
        if self.claim is not None:
            self.claim.close()


def claim_user(proc: Path = Path("/proc/self")) -> User:
    """Return the user of a new zygote."""
    if os.geteuid() != 0:
        return User(uid=os.geteuid())
    free = _free_ids(proc)
    if not free:
        # Root of a user namespace that knows one user: outside of it, that is someone without rights.
        return User(uid=0)
    for _ in range(_TRIES):
        uid = free[int.from_bytes(os.urandom(4), "big") % len(free)]
        if _is_account(uid):
            continue
        claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        with suppress(OSError):
            # A name that two processes cannot have, and that ends with the process.
            claim.bind(f"\0zerone-sandbox-uid-{uid}")
            return User(uid=uid, claim=claim)
        claim.close()
    raise SandboxUnavailable(f"no user id is free for a sandbox among {len(free)}; end other runs of zerone")


def _free_ids(proc: Path) -> range:
    """Return the ids that exist here and that no account should have."""
    users, groups = (_largest(proc / name) for name in ("uid_map", "gid_map"))
    if _HIGH.start in users and _HIGH[-1] in users and _HIGH.start in groups and _HIGH[-1] in groups:
        return _HIGH
    return range(max(_LOWEST, users.start, groups.start), min(users.stop, groups.stop, _NOBODY))


def _largest(file: Path) -> range:
    """Read a map of ids: inside, outside, how many; one line for each stretch."""
    rows = [tuple(map(int, line.split())) for line in file.read_text(encoding="ascii").splitlines()]
    return max((range(inside, inside + count) for inside, _, count in rows), key=len, default=range(0))


def _is_account(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True
