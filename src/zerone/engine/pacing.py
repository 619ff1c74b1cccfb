"""Holds back the middle of answers for a moment, so that fewer and longer pieces are sent.

A small model makes hundreds of steps a second. Sending every token of every answer by itself costs
more than making it: the event loop writes JSON for each, and the thread that decodes waits for the
interpreter meanwhile. So each answer's first piece and its last are handed on at once, and what lies
between at most as often as an eye can follow.
"""

import time
from collections.abc import Callable, Sequence

from zerone.engine.api import Deliver, Delta, Event, Failure, Request, Told

PACE_S = 0.02
"""Seconds between two pieces of a completion, where a step takes less."""

PACE_PER_ROW_S = 0.001
"""What each completion under way adds to that, so that the pieces of all stay below a thousand a second."""


class Pacer:
    """Collects events in order and calls `deliver` with those that are due."""

    def __init__(self, deliver: Deliver, clock: Callable[[], float] = time.monotonic) -> None:
        self._deliver = deliver
        self._clock = clock
        self._held: list[tuple[Request, Event]] = []
        self._last_s = float("-inf")

    def hand_on(self, told: Told, num_rows: int) -> None:
        """Take a step's events and deliver what is due: all, or the requests with a beginning or an end."""
        self._held += told
        now_s = self._clock()
        if now_s - self._last_s >= PACE_S + PACE_PER_ROW_S * num_rows:
            self._last_s = now_s
            due, self._held = self._held, []
        else:
            urgent = {request for request, event in told if _is_urgent(request, event)}
            due = [(request, event) for request, event in self._held if request in urgent]
            self._held = [(request, event) for request, event in self._held if request not in urgent]
        for request, event in told:
            if isinstance(event, Delta):
                request.begun.add(event.index)
        if due:
            self._deliver(due)

    def fail(self, requests: Sequence[Request], failure: Failure) -> None:
        """Deliver what is held, and that these requests have failed."""
        due = [*self._held, *((request, failure) for request in requests)]
        self._held = []
        if due:
            self._deliver(due)


def _is_urgent(request: Request, event: Event) -> bool:
    """Whether an event is the first or the last of its completion."""
    if not isinstance(event, Delta) or event.finish is not None:
        return True
    return event.index not in request.begun
