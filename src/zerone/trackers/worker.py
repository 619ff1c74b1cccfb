"""The process of a tracker: `python -m zerone.trackers.worker`, one message per line, one reply per line.

In: an `Opening`, figures, an end. Out: `{}` for each message that was taken, else `{"failed": why}`. What a
package prints goes to the log that stderr is. Steps that the tracker took before a resume are not given to it
again: FOLDER/state.json says which. When the run's process ends, however it does, what came is brought to its
place.
"""

import contextlib
import fcntl
import json
import os
import signal
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from zerone.errors import Caught
from zerone.trackers.api import Opening, Tracker, from_json
from zerone.trackers.backends import open_tracker

END_SECONDS = 300
"""What a tracker may take to end after its run has; then it is ended by a signal."""


class Taken:
    """The last step that the tracker took of each stream, on disk."""

    def __init__(self, folder: Path, kind: str) -> None:
        self._path = folder / "state.json"
        self._kind = kind
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
            self._all = found if isinstance(found, dict) else {}
        except (OSError, ValueError):  # none yet, or one that a crash has cut
            self._all = {}

    @property
    def _steps(self) -> dict[str, int]:
        steps: dict[str, int] = self._all.setdefault(self._kind, {})
        return steps

    def has(self, stream: str, step: int) -> bool:
        """Whether a step is there already."""
        return step <= self._steps.get(stream, -1)

    def add(self, stream: str, step: int) -> None:
        """Write down that a step was taken."""
        self._steps[stream] = step
        temporary = self._path.with_suffix(".tmp")
        temporary.write_text(json.dumps(self._all), encoding="utf-8")
        temporary.replace(self._path)


class Worker:
    """Takes messages until there are no more."""

    def __init__(self, replies: IO[str]) -> None:
        self._replies = replies
        self._tracker: Tracker | None = None
        self._taken: Taken | None = None
        self._refusal = ""
        self._has_finished = False

    def work(self, messages: IO[str]) -> None:
        """Take every message; finish for a run that ended without a word."""
        for line in messages:
            self._reply(self._caught(json.loads(line)))
        signal.alarm(END_SECONDS)
        if not self._has_finished:
            self._caught({"finish": {}, "is_done": False})

    def _caught(self, message: Mapping[str, Any]) -> str | None:
        """Take a message; return what the tracker raised, as a line."""
        if self._refusal:
            return self._refusal
        with Caught() as caught:
            self._take(message)
        if caught.error is None:
            return None
        traceback.print_exception(caught.error)
        reason = " ".join(f"{type(caught.error).__name__}: {caught.error}".split())[:300]
        if "open" in message:
            self._refusal = reason
        return reason

    def _take(self, message: Mapping[str, Any]) -> None:
        if "open" in message:
            opening = Opening(**message["open"])
            self._taken = Taken(Path(opening.folder), opening.kind)
            self._tracker = open_tracker(opening)
        elif self._tracker is None or self._taken is None:
            return  # the run ended before it had told anything
        elif "finish" in message:
            self._has_finished = True
            self._tracker.finish(from_json(message["finish"]), is_done=message["is_done"])
        elif not self._taken.has(message["stream"], message["step"]):
            self._tracker.log(message["step"], from_json(message["log"]))
            self._taken.add(message["stream"], message["step"])

    def _reply(self, failed: str | None) -> None:
        with contextlib.suppress(BrokenPipeError):  # nobody is left to hear it; what came is still taken
            self._replies.write(json.dumps({} if failed is None else {"failed": failed}) + "\n")
            self._replies.flush()


def main() -> None:
    """Wait for the folder, then work."""
    folder = Path(sys.argv[1])
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    # The process of a run that was killed a moment ago may still write down what it was told.
    lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    fcntl.flock(lock, fcntl.LOCK_EX)
    Worker(replies).work(sys.stdin)


if __name__ == "__main__":
    main()
