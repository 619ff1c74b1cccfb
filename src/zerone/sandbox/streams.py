"""What a sandbox writes: standard output, standard error and results, each up to a limit.

In: the reading ends of three pipes. Out: text. Whoever holds the writing ends is not waited for:
grandchildren may keep them open for ever.
"""

import os
import select

_CHUNK = 1 << 16
_RESULTS = 2
_ESCAPED = 6
"""Bytes that one byte of output may take as a JSON string."""
_DONE = b'["done"]\n'
_OVER = b'["output"]\n'


class Streams:
    """Three pipes and what was read from them."""

    def __init__(self, stdout: int, stderr: int, results: int, *, limit: int) -> None:
        self._names = (stdout, stderr, results)
        self._data = (bytearray(), bytearray(), bytearray())
        self._limits = (limit, limit, limit * _ESCAPED + _CHUNK)
        for name in self._names:
            os.set_blocking(name, False)

    def register(self, poll: "select.poll") -> None:
        """Have the pipes polled."""
        for name in self._names:
            poll.register(name, select.POLLIN)

    def read(self, poll: "select.poll | None", name: int) -> bool:
        """Read what is there; return whether there was anything."""
        try:
            part = os.read(name, _CHUNK)
        except BlockingIOError:
            return False
        if not part and poll is not None:
            poll.unregister(name)
        self._data[self._names.index(name)].extend(part)
        return bool(part)

    def drain(self) -> None:
        """Read what is left after the end, up to the limits."""
        for name in self._names:
            while not self.is_over_limit and self.read(None, name):
                pass

    @property
    def is_over_limit(self) -> bool:
        """Whether any stream holds more than it may."""
        too_much = any(len(data) > limit for data, limit in zip(self._data, self._limits, strict=True))
        return too_much or self._data[_RESULTS].endswith(_OVER)

    @property
    def is_done(self) -> bool:
        """Whether the driver has said that it is done."""
        return self._data[_RESULTS].endswith(_DONE)

    @property
    def has_said_anything(self) -> bool:
        """Whether the driver has said anything."""
        return bool(self._data[_RESULTS])

    def results(self, most: int) -> tuple[str, ...]:
        """Return the complete lines of results, one more than there may be at most."""
        lines = self._data[_RESULTS].split(b"\n", most + 1)[:-1]
        return tuple(line.decode("ascii", "replace") for line in lines)

    def text(self, index: int) -> str:
        """Return standard output (0) or standard error (1), up to the limit."""
        return bytes(self._data[index][: self._limits[index]]).decode("utf-8", "replace")

    def close(self) -> None:
        """Close the pipes."""
        for name in self._names:
            os.close(name)
