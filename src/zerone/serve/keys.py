"""API keys: who may ask, told by a file of keys and compared in constant time.

A line of the file is a key, or a name and a key; the name stands for the key in metrics, where the
key itself never appears. Lines that begin with `#` and empty lines do not count.
"""

import base64
import binascii
import hashlib
import hmac
from pathlib import Path

from zerone.errors import ConfigError

NO_KEY = "none"
"""Whose requests come without a key, in metrics."""


class Keys:
    """The known keys, as digests."""

    def __init__(self, keys: dict[str, str]) -> None:
        """Take keys by name."""
        self._digests = {name: _digest(key.encode()) for name, key in keys.items()}

    @classmethod
    def read(cls, path: Path) -> "Keys":
        """Read a key file; raises ConfigError for one that holds no usable key."""
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read the key file {path}: {error}; write one key per line") from error
        keys: dict[str, str] = {}
        for number, line in enumerate(lines, 1):
            words = line.split()
            if not words or words[0].startswith("#"):
                continue
            name = words[0] if len(words) == 2 else f"key{len(keys) + 1}"
            if len(words) > 2 or name in keys or not words[-1].isascii():
                raise ConfigError(
                    f"{path}, line {number}: give `KEY` or `NAME KEY`, in ASCII, each name once"
                )
            if name == NO_KEY:
                raise ConfigError(
                    f"{path}, line {number}: the name {NO_KEY!r} stands for requests without a key in the "
                    "metrics; give the key another name"
                )
            keys[name] = words[-1]
        if not keys:
            raise ConfigError(f"{path} holds no key; write one per line")
        return cls(keys)

    def name_of(self, authorization: bytes) -> str | None:
        """Return whose key an Authorization header holds, or None.

        `Bearer KEY`, as OpenAI's clients send it, or `Basic` with the key as password, as browsers
        do. Every known key is compared, so that time tells nothing.
        """
        found = None
        digest = _digest(_presented(authorization))
        for name, known in self._digests.items():
            if hmac.compare_digest(digest, known):
                found = name
        return found


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def _presented(authorization: bytes) -> bytes:
    scheme, _, value = authorization.partition(b" ")
    match scheme.lower():
        case b"bearer":
            return value.strip()
        case b"basic":
            try:
                return base64.b64decode(value.strip(), validate=True).partition(b":")[2]
            except binascii.Error:
                return b""
    return b""
