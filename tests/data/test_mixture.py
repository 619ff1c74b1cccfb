"""Mixtures over fixed sets: epochs, weights, and draws that depend on the step alone."""

from collections import Counter
from fractions import Fraction
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerone.data.mixture import ListMixture, WeightedMixture, turns
from zerone.types import Problem


def listed(name: str, number: int) -> list[Problem]:
    return [
        Problem(
            id=f"{name}{i}",
            family=name,
            level=1,
            language="en",
            prompt=f"{name}{i}?",
            verifier="exact",
            spec={},
        )
        for i in range(number)
    ]


def weighted(*weights: float, sizes: tuple[int, ...] = (), per_step: int = 8) -> WeightedMixture:
    sizes = sizes or (10,) * len(weights)
    parts = tuple(
        ListMixture(seed=k, problems=listed("abcdefgh"[k], size), problems_per_step=per_step)
        for k, size in enumerate(sizes)
    )
    return WeightedMixture(seed=0, parts=parts, weights=weights, problems_per_step=per_step)


@given(
    st.lists(st.sampled_from([0.1, 0.25, 1 / 3, 0.5, 1, 2, 3, 7.5, 100]), min_size=1, max_size=6),
    st.integers(0, 5000),
)
def test_turns_from_any_position_are_those_of_the_whole(weights: list[float], start: int) -> None:
    start %= 300
    whole = list(islice(turns(weights, 0), start + 40))
    assert list(islice(turns(weights, start), 40)) == whole[start:]
    seen = Counter[int]()
    for number, before in whole:
        assert before == seen[number], "each set is met in its own order, without gaps"
        seen[number] += 1


@pytest.mark.parametrize("weights", [(1, 1), (1, 3), (0.5, 0.3, 0.2), (7, 1, 1, 1), (1, 100)])
def test_every_beginning_has_its_share_of_each_set(weights: tuple[float, ...]) -> None:
    counts, total = Counter[int](), sum(map(Fraction, map(str, weights)))
    for position, (number, _) in enumerate(islice(turns(weights, 0), 2000), start=1):
        counts[number] += 1
        for k, weight in enumerate(weights):
            # Half a turn for each set that could be ahead or behind.
            assert abs(counts[k] - position * Fraction(str(weight)) / total) <= max(1, len(weights) / 2)


def test_positions_far_out_are_found_at_once() -> None:
    number, before = next(turns((1, 3), 10**12))
    assert before == pytest.approx(10**12 * (0.25, 0.75)[number], abs=2)


def test_a_step_does_not_depend_on_the_steps_before() -> None:
    mixture = weighted(1, 3)
    steps = [mixture.draw(step, 8) for step in range(20)]
    assert [weighted(1, 3).draw(step, 8) for step in (13, 4, 19)] == [steps[13], steps[4], steps[19]]
    assert all(Counter(problem.family for problem in step) == {"a": 2, "b": 6} for step in steps)


def test_each_set_goes_through_its_own_epochs() -> None:
    mixture = weighted(1, 1, sizes=(4, 12))
    drawn = [problem for step in range(3) for problem in mixture.draw(step, 8)]
    assert Counter(problem.id for problem in drawn if problem.family == "b") == {
        f"b{i}": 1 for i in range(12)
    }
    assert Counter(problem.id for problem in drawn if problem.family == "a") == {f"a{i}": 3 for i in range(4)}


def test_an_epoch_over_one_set_meets_each_problem_once() -> None:
    mixture = ListMixture(seed=0, problems=listed("a", 24), problems_per_step=8)
    epochs = [[p.id for step in range(3 * e, 3 * e + 3) for p in mixture.draw(step, 8)] for e in range(2)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(p.id for p in mixture.problems)
    assert epochs[0] != epochs[1]


def test_extra_problems_are_drawn_by_the_weights_too() -> None:
    mixture = weighted(1, 9)
    extra = [problem.family for step in range(100) for problem in mixture.draw(step, 8, first=8)]
    assert 0.84 < extra.count("b") / len(extra) < 0.96  # five deviations of a share of 800
    assert mixture.draw(3, 8, first=8) == weighted(1, 9).draw(3, 8, first=8)


def test_one_set_alone_is_met_as_without_weights() -> None:
    alone = ListMixture(seed=0, problems=listed("a", 10), problems_per_step=8)
    mixture = WeightedMixture(seed=0, parts=(alone,), weights=(2.5,), problems_per_step=8)
    assert [mixture.draw(step, 8) for step in range(5)] == [alone.draw(step, 8) for step in range(5)]
