"""The process of an engine and the pipes to it; no caller ever waits for what the process reads.

A pipe takes some dozen prompts and then whoever writes waits until somebody reads. An engine that was
stopped, or hangs, reads nothing: so a thread of its own writes, and is the only one that waits.
"""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict

from zerone.engine.messages import Json, line_of
from zerone.engine.serving import EngineSpec
from zerone.errors import ModelError
from zerone.processes.worker_pool import import_path

_KILLED_SECONDS = 5.0
"""What the system may take to end a process that was killed."""


class EngineLink:
    """Starts an engine's process at once; messages go out in order."""

    def __init__(self, spec: EngineSpec) -> None:
        self.started_s = time.monotonic()
        self._outbox: queue.SimpleQueue[Json | None] = queue.SimpleQueue()
        self.process = subprocess.Popen(
            # -P: the folder that the server was started in is no place to import from.
            [sys.executable, "-P", "-m", "zerone.engine.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": import_path()},
            start_new_session=True,  # Ctrl-C is for the server, which lets answers under way end
        )
        self.send(asdict(spec))
        threading.Thread(target=self._write, name="engine writer", daemon=True).start()

    def send(self, message: Json) -> None:
        """Have a message written as soon as the engine reads; it is lost where the engine has ended."""
        self._outbox.put(message)

    def wait_until_ready(self) -> None:
        """Return when the model is loaded; raises ModelError where it cannot be."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line.endswith(b"\n"):
            raise ModelError(f"the engine ended before it was ready ({self.ending()}); see its message above")
        message: Json = json.loads(line)
        if "failed" in message:
            raise ModelError(message["failed"])

    def messages(self) -> Iterator[Json]:
        """Yield what the engine says until it ends."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if not line.endswith(b"\n"):  # it was killed while it wrote
                return
            yield json.loads(line)

    def kill(self) -> None:
        """End the process without waiting for what it is at, also one that was stopped, and its children."""
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)

    def end(self, seconds: float) -> None:
        """Have the process finish its step and end; kill it after so many seconds."""
        self._outbox.put(None)
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):  # it waits for a disk that does not answer
                self.process.wait(_KILLED_SECONDS)

    def close(self) -> None:
        """Give the pipe back, once nobody reads it any more."""
        assert self.process.stdout is not None
        self.process.stdout.close()

    def ending(self) -> str:
        """Say how the process ended."""
        code = self.process.wait()
        return f"killed by signal {-code}" if code < 0 else f"exit code {code}"

    def _write(self) -> None:
        target = self.process.stdin
        assert target is not None
        # It has ended, or its input was closed; whoever listens to it sees that as well.
        with contextlib.suppress(OSError, ValueError):
            while (message := self._outbox.get()) is not None:
                target.write(line_of(message))
                target.flush()
        with contextlib.suppress(OSError, ValueError):
            target.close()
