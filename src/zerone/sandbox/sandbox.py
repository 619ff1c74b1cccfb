"""One sandbox for one candidate: made ahead of time, used once, killed with all that is in it.

In: a handle of its first process and the near ends of its pipes; later one job. Out: an
`Execution`. A cell waits ready and reads the job only when there is one, so a candidate never
meets another's process, files or memory, and yet does not wait for any of it to be set up.
"""

import contextlib
import itertools
import json
import os
import re
import select
import signal
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from zerone.errors import SandboxError
from zerone.sandbox.cgroup import Cgroup
from zerone.sandbox.execution import Ending, Execution, Job, Limits
from zerone.sandbox.process_tree import scratch_bytes, tree_bytes
from zerone.sandbox.streams import Streams

_POLL_MS = 25
_TIMES_LOOKING = 20
_NUM_SCRATCH = 2
_BY_SIGNAL = {128 + signal.SIGSYS: Ending.VIOLATION, 128 + signal.SIGXCPU: Ending.TIMEOUT}
_KILL_S = 10.0
_LINES_BESIDE = 1
"""Lines of results beside one per test: the last, or one that says why there are none."""
_PAUSE_S, _LONGEST_PAUSE_S, _MIN_PAUSED = 1e-5, 0.02, 20
"""How much longer the watch pauses with each event, and after how many events it does."""


@dataclass(slots=True, kw_only=True)
class Cell:
    """A sandbox that waits for its job, runs it and is gone."""

    limits: Limits
    backend: str
    first: int
    """A handle (pidfd) of the sandbox's first process; its end is the end of all in it."""
    job: int
    status: int
    streams: Streams
    cgroup: Cgroup | None
    peak_bytes: int = 0
    scratch: tuple[int, ...] = ()
    """Handles of the file systems in memory that it writes to, where no control group counts them."""
    next_look: float = 0.0

    def run(self, job: Job) -> Execution:
        """Deliver the job, watch it, and return what came back once every process is dead."""
        start, start_cpu = time.monotonic(), time.thread_time()
        try:
            ending = self._watch(_payload(job, self.limits), start + self.limits.wall_s)
        finally:
            wall_s = time.monotonic() - start
            has_run_out = self.kill()
        exit_code = self._exit_code()
        self._release()
        if has_run_out:
            ending = Ending.MEMORY_LIMIT
        elif ending is Ending.EXITED and exit_code in _BY_SIGNAL:
            ending = _BY_SIGNAL[exit_code]
        elif ending is Ending.EXITED and exit_code is None and not self.streams.has_said_anything:
            raise SandboxError(f"the sandbox could not be started: {self.streams.text(1)[:500]!r}")
        results = self.streams.results(len(job.items) + _LINES_BESIDE)
        return Execution(
            ending=ending,
            exit_code=exit_code,
            results=results,
            stdout=self.streams.text(0),
            stderr=self.streams.text(1),
            wall_s=wall_s,
            peak_bytes=self.peak_bytes or None,
            backend=self.backend,
            judge_s=time.thread_time() - start_cpu,
        )

    def _watch(self, payload: bytes, deadline: float) -> Ending:
        """Feed the payload and collect the streams until the driver is done or must be stopped."""
        poll = select.poll()
        poll.register(self.first, select.POLLIN)
        poll.register(self.job, select.POLLOUT)
        self.streams.register(poll)
        rest = memoryview(payload)
        for num_events in itertools.count():
            left_ms = (deadline - time.monotonic()) * 1000
            if left_ms <= 0:
                return Ending.TIMEOUT
            if self.job < 0 and num_events > _MIN_PAUSED:
                # Single bytes would wake the judge one by one. A pause is a hundredth of what has passed.
                time.sleep(min(num_events * _PAUSE_S, _LONGEST_PAUSE_S, left_ms / 1000))
            events = poll.poll((left_ms if self.cgroup else min(left_ms, _POLL_MS)) + 1)
            for name, event in events:
                if name == self.job:
                    rest = self._feed(poll, rest, event)
                elif name != self.first:
                    self.streams.read(poll, name)
            if ending := self._ending(any(name == self.first for name, _ in events)):
                return ending
        raise AssertionError("counting has an end")

    def _ending(self, has_ended: bool) -> Ending | None:
        """Return why to stop, or None to go on."""
        if has_ended:
            self.streams.drain()
        if self.streams.is_over_limit:
            return Ending.OUTPUT_LIMIT
        if self.streams.is_done:
            return Ending.DONE
        if has_ended:
            return Ending.EXITED
        if self.cgroup is None and self._is_too_large():
            return Ending.MEMORY_LIMIT
        return None

    def _is_too_large(self, *, is_last: bool = False) -> bool:
        """Count the memory of the tree, if it is time, and compare the most that it was."""
        start = time.monotonic()
        if start >= self.next_look or is_last:
            self._receive_scratch()
            self.peak_bytes = max(self.peak_bytes, self._tree_bytes() + scratch_bytes(self.scratch))
            now = time.monotonic()
            # Who has many descriptors is looked at less often: the looking is bounded too.
            self.next_look = now + max(_POLL_MS / 1000, _TIMES_LOOKING * (now - start))
        return self.peak_bytes > self.limits.memory_bytes

    def _receive_scratch(self) -> None:
        if self.scratch:
            return
        with socket.socket(fileno=os.dup(self.status)) as status, contextlib.suppress(BlockingIOError):
            self.scratch = tuple(socket.recv_fds(status, 1, _NUM_SCRATCH, socket.MSG_DONTWAIT)[1])

    def _feed(self, poll: "select.poll", rest: memoryview, event: int) -> memoryview:
        try:
            if not event & select.POLLOUT:
                raise BrokenPipeError
            rest = rest[os.write(self.job, rest[: 1 << 16]) :]
        except BlockingIOError:
            return rest
        except BrokenPipeError:
            rest = rest[:0]
        if not rest:
            poll.unregister(self.job)
            os.close(self.job)
            self.job = -1
        return rest

    def _tree_bytes(self) -> int:
        text = Path(f"/proc/self/fdinfo/{self.first}").read_text(encoding="ascii")
        match = re.search(r"^Pid:\t(\d+)$", text, re.MULTILINE)
        return tree_bytes(int(match[1])) if match else 0

    def kill(self) -> bool:
        """Kill all that is in the cell and wait until it is gone; return whether memory ran out."""
        is_too_large = self.cgroup is None and self._is_too_large(is_last=True)
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.first, signal.SIGKILL)
        # A namespace's first process is reaped last: when it has ended, all others have.
        if not select.select([self.first], [], [], _KILL_S)[0]:
            raise SandboxError(f"the sandbox's processes could not be killed within {_KILL_S:.0f} s")
        if self.cgroup is None:
            return is_too_large
        self.peak_bytes = self.cgroup.peak_bytes() or 0
        has_run_out = self.cgroup.has_run_out()
        self.cgroup.close()
        return has_run_out

    def _exit_code(self) -> int | None:
        """Return what the first process wrote before it ended, None if it was killed."""
        text = os.read(self.status, 16).removeprefix(b"s")
        return int(text) if text else None

    def _release(self) -> None:
        for name in (self.first, self.status, self.job, *self.scratch):
            if name >= 0:
                os.close(name)
        self.streams.close()

    def close(self) -> None:
        """Kill a cell that was not used."""
        self.kill()
        self._release()


def _payload(job: Job, limits: Limits) -> bytes:
    """Return what the driver reads, as JSON."""
    fields = {
        "kind": job.kind.value,
        "source": job.source,
        "setup": job.setup,
        "entry": job.entry,
        "prelude": job.prelude,
        "as_function": job.as_function,
        "test_s": job.test_s,
        "items": list(job.items),
        "output_bytes": limits.output_bytes,
    }
    return json.dumps(fields).encode("ascii")
