"""When pieces of answers are handed on: beginnings and ends at once, the rest at a bounded pace."""

from collections.abc import Sequence

from streaming import streamed
from zerone.engine.api import Delta, Event, Failure, Request
from zerone.engine.pacing import PACE_PER_ROW_S, PACE_S, Pacer
from zerone.types import Finish

Delivered = list[list[tuple[Request, Event]]]


class _Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def _pacer() -> tuple[Pacer, _Clock, Delivered]:
    delivered: Delivered = []
    clock = _Clock()
    return Pacer(lambda deltas: delivered.append([*deltas]), clock), clock, delivered


def _request(num_samples: int = 1) -> Request:
    return streamed((1,), lambda event: None, num_samples)


def _texts(delivered: Sequence[tuple[Request, Event]]) -> str:
    return "".join(delta.content for _, delta in delivered if isinstance(delta, Delta))


def test_the_first_piece_and_the_last_of_an_answer_are_handed_on_at_once() -> None:
    pacer, _, delivered = _pacer()
    other, row = _request(), _request()
    pacer.hand_on([(other, Delta(index=0, content="x"))], 2)
    pacer.hand_on([(row, Delta(index=0, content="a"))], 2)
    pacer.hand_on([(row, Delta(index=0, content="b"))], 2)
    pacer.hand_on([(row, Delta(index=0, content="c", finish=Finish.STOP))], 2)
    assert [_texts(deltas) for deltas in delivered] == ["x", "a", "bc"]


def test_the_middle_of_an_answer_waits_for_the_pace_and_comes_whole_and_in_order() -> None:
    pacer, clock, delivered = _pacer()
    row = _request()
    for letter in "abcdefgh":
        pacer.hand_on([(row, Delta(index=0, content=letter))], 1)
        clock.now_s += (PACE_S + PACE_PER_ROW_S) / 4 + 1e-6
    assert [_texts(deltas) for deltas in delivered] == ["a", "bcde"]


def test_steps_slower_than_the_pace_hand_on_every_token() -> None:
    pacer, clock, delivered = _pacer()
    row = _request()
    for letter in "abcd":
        pacer.hand_on([(row, Delta(index=0, content=letter))], 1)
        clock.now_s += 2 * PACE_S
    assert [_texts(deltas) for deltas in delivered] == ["a", "b", "c", "d"]


def test_an_end_does_not_hurry_the_answers_of_others() -> None:
    pacer, _, delivered = _pacer()
    ending, going_on = _request(), _request()
    both = [(ending, Delta(index=0, content="1")), (going_on, Delta(index=0, content="a"))]
    pacer.hand_on(both, 2)
    pacer.hand_on([(going_on, Delta(index=0, content="b"))], 2)
    pacer.hand_on([(ending, Delta(index=0, content="2", finish=Finish.STOP))], 2)
    assert [_texts(deltas) for deltas in delivered] == ["1a", "2"]


def test_several_answers_of_a_job_keep_their_order() -> None:
    pacer, _, delivered = _pacer()
    job = _request(num_samples=2)
    pacer.hand_on([(job, Delta(index=0, content="a")), (job, Delta(index=1, content="b"))], 2)
    pacer.hand_on([(job, Delta(index=0, content="c")), (job, Delta(index=1, content="d"))], 2)
    pacer.hand_on([(job, Delta(index=1, content="e", finish=Finish.LENGTH))], 1)
    assert [_texts(deltas) for deltas in delivered] == ["ab", "cde"]


def test_a_failure_comes_after_what_was_held_back() -> None:
    pacer, _, delivered = _pacer()
    row = _request()
    pacer.hand_on([(row, Delta(index=0, content="a"))], 1)
    pacer.hand_on([(row, Delta(index=0, content="b"))], 1)
    pacer.fail([row], Failure(message="gone"))
    assert _texts(delivered[-1]) == "b"
    assert delivered[-1][-1] == (row, Failure(message="gone"))
