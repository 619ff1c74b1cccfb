"""What a stand-in for an engine shares whose rollouts come by `generate` alone."""

from collections.abc import Sequence

from zerone.engine.api import Event, Request
from zerone.types import Problem


class WholeGroups:
    """The part of the `Engine` protocol that such a stand-in is not asked for."""

    weight_hash = ""
    is_busy = False

    def close(self) -> None:
        pass

    def submit(self, requests: Sequence[Request]) -> None:
        raise AssertionError("asked by `generate` alone")

    def cancel(self, requests: Sequence[Request]) -> None:
        raise AssertionError("asked by `generate` alone")

    def events(self) -> list[tuple[Request, Event]]:
        raise AssertionError("asked by `generate` alone")


def problem_of(request: Request) -> Problem:
    """Return what a rollout is of."""
    assert request.problem is not None
    return request.problem
