"""Holds back the middle of answers for a moment, so that fewer and longer pieces are sent.

A small model makes hundreds of steps a second. Sending every token of every answer by itself costs
more than making it: the event loop writes JSON for each, and the thread that decodes waits for the
interpreter meanwhile. So each answer's first piece and its last are handed on at once, and what lies
between at most as often as an eye can follow.
"""

import time
from collections.abc import Callable, Sequence

from zerone.engine.jobs import Deliver, Delta, Failure, Job
from zerone.engine.row import Row

PACE_S = 0.02
"""Seconds between two pieces of an answer, where a step takes less."""

PACE_PER_ROW_S = 0.001
"""What each answer under way adds to that, so that the pieces of all stay below a thousand a second."""


class Pacer:
    """Collects deltas in order and calls `deliver` with those that are due."""

    def __init__(self, deliver: Deliver, clock: Callable[[], float] = time.monotonic) -> None:
        self._deliver = deliver
        self._clock = clock
        self._held: list[tuple[Job, Delta | Failure]] = []
        self._last_s = float("-inf")

    def hand_on(self, deltas: Sequence[tuple[Row, Delta]], num_rows: int) -> None:
        """Take a step's deltas and deliver what is due: all, or the jobs with a beginning or an end."""
        self._held += [(row.job, delta) for row, delta in deltas]
        now_s = self._clock()
        if now_s - self._last_s >= PACE_S + PACE_PER_ROW_S * num_rows:
            self._last_s = now_s
            due, self._held = self._held, []
        else:
            urgent = {row.job for row, delta in deltas if delta.finish is not None or not row.is_told}
            due = [(job, delta) for job, delta in self._held if job in urgent]
            self._held = [(job, delta) for job, delta in self._held if job not in urgent]
        for row, _ in deltas:
            row.is_told = True
        if due:
            self._deliver(due)

    def fail(self, jobs: Sequence[Job], failure: Failure) -> None:
        """Deliver what is held, and that these jobs have failed."""
        due = [*self._held, *((job, failure) for job in jobs)]
        self._held = []
        if due:
            self._deliver(due)
