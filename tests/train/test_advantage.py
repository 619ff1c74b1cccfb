"""Credit within the group: the formula, what takes no part, and what must not matter."""

import math
from collections.abc import Sequence
from statistics import fmean, pstdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripted import group, member
from zerone.train.advantage import Scale, credit
from zerone.train.batch import make_batches, split_minibatches
from zerone.types import Credited, Group, Outcome

SCALES: tuple[Scale, ...] = ("group", "none", "batch")
every_scale = pytest.mark.parametrize("scale", SCALES)

rewards_of_a_group = st.lists(st.sampled_from([0.0, 0.1, 1.0, 1.1]), min_size=2, max_size=8)


def group_of(rewards: Sequence[float], errors: Sequence[int] = ()) -> Group:
    return group(
        [
            member(reward=reward, sample=j, outcome=Outcome.INFRASTRUCTURE_ERROR if j in errors else None)
            for j, reward in enumerate(rewards)
        ]
    )


def advantages(groups: Sequence[Sequence[float]], scale: Scale) -> list[tuple[float, ...]]:
    return [credited.advantages for credited in credit([group_of(rewards) for rewards in groups], scale)]


def test_group_scale_is_the_papers_formula() -> None:
    rewards = (1.1, 0.0, 0.1, 1.0)
    (found,) = advantages([rewards], "group")
    mean, deviation = fmean(rewards), pstdev(rewards)
    assert found == pytest.approx([(reward - mean) / deviation for reward in rewards], abs=1e-12)


def test_one_right_answer_of_sixteen_weighs_what_the_formula_says() -> None:
    """With p right, A = sqrt((1 - p) / p) for the right ones: the population's deviation, no epsilon."""
    (found,) = advantages([[1.0] + [0.0] * 15], "group")
    assert found[0] == pytest.approx(math.sqrt(15), abs=1e-12)
    assert found[1:] == pytest.approx([-1 / math.sqrt(15)] * 15, abs=1e-12)


def test_no_scale_only_centres() -> None:
    assert advantages([(1.0, 0.0), (3.0, 0.0, 0.0)], "none") == [(0.5, -0.5), (2.0, -1.0, -1.0)]


def test_batch_scale_centres_in_the_group_and_divides_by_one_deviation_for_all() -> None:
    first, second = advantages([(1.0, 0.0), (3.0, 1.0)], "batch")
    whole = pstdev([0.5, -0.5, 1.0, -1.0])
    assert first == pytest.approx((0.5 / whole, -0.5 / whole), abs=1e-12)
    assert second == pytest.approx((1 / whole, -1 / whole), abs=1e-12)


@every_scale
@pytest.mark.parametrize("reward", [0.0, 0.1, 1.1, 0.1 + 0.2])
def test_equal_rewards_give_no_credit_and_no_signal(scale: Scale, reward: float) -> None:
    (found,) = credit([group_of([reward] * 7)], scale)
    assert found.advantages == (0.0,) * 7
    assert not found.has_signal


@every_scale
def test_rewards_that_differ_by_rounding_only_are_equal(scale: Scale) -> None:
    """0.1 + 0.2 and 0.3 are one reward; divided by their deviation they would become -1 and 1."""
    (found,) = credit([group_of([0.1 + 0.2, 0.3])], scale)
    assert not found.has_signal


@every_scale
def test_a_member_whose_verifier_failed_takes_no_part(scale: Scale) -> None:
    with_error = credit([group_of([1.0, 55.0, 0.0, 0.0], errors=[1]), group_of([1.0, 0.0])], scale)
    without = credit([group_of([1.0, 0.0, 0.0]), group_of([1.0, 0.0])], scale)
    first, failed, *rest = with_error[0].advantages
    assert failed == 0.0
    assert (first, *rest) == pytest.approx(without[0].advantages, abs=1e-12)
    assert with_error[1].advantages == pytest.approx(without[1].advantages, abs=1e-12)


@every_scale
def test_groups_of_failed_verifiers_have_no_signal(scale: Scale) -> None:
    found = credit([group_of([1.0, 0.0], errors=[0, 1]), group_of([1.0, 0.0], errors=[0])], scale)
    assert [credited.advantages for credited in found] == [(0.0, 0.0), (0.0, 0.0)]


@every_scale
def test_groups_keep_their_order_and_their_members(scale: Scale) -> None:
    groups = [group_of([1.0, 0.0]), group_of([0.0, 0.0, 1.0]), group_of([1.0, 1.0])]
    assert [credited.group for credited in credit(groups, scale)] == groups


@given(rewards_of_a_group, st.floats(-10, 10), st.sampled_from(SCALES))
def test_a_constant_added_to_all_rewards_changes_nothing(
    rewards: list[float], shift: float, scale: Scale
) -> None:
    (found,) = advantages([[reward + shift for reward in rewards]], scale)
    (expected,) = advantages([rewards], scale)
    assert found == pytest.approx(expected, abs=1e-9)


@given(rewards_of_a_group, st.floats(0.01, 100))
def test_scaled_rewards_keep_their_scaled_credit(rewards: list[float], factor: float) -> None:
    scaled = [reward * factor for reward in rewards]
    for scale in ("group", "batch"):
        assert advantages([scaled], scale)[0] == pytest.approx(advantages([rewards], scale)[0], abs=1e-9)
    expected = [factor * advantage for advantage in advantages([rewards], "none")[0]]
    assert advantages([scaled], "none")[0] == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(rewards_of_a_group, st.sampled_from(SCALES))
def test_credit_of_a_group_sums_to_zero_and_follows_the_rewards(rewards: list[float], scale: Scale) -> None:
    (found,) = advantages([rewards], scale)
    assert sum(found) == pytest.approx(0, abs=1e-9)
    for one, its in zip(rewards, found, strict=True):
        for other, others in zip(rewards, found, strict=True):
            assert (one > other) <= (its > others)


@given(st.lists(rewards_of_a_group, min_size=1, max_size=4))
def test_group_credit_has_deviation_one_or_none(groups: list[list[float]]) -> None:
    for rewards, found in zip(groups, advantages(groups, "group"), strict=True):
        expected = 0.0 if len(set(rewards)) == 1 else 1.0
        assert pstdev(found) == pytest.approx(expected, abs=1e-9)


@given(st.lists(rewards_of_a_group, min_size=2, max_size=4), st.sampled_from(["group", "none"]))
def test_credit_of_a_group_does_not_depend_on_the_others(groups: list[list[float]], scale: Scale) -> None:
    for rewards, found in zip(groups, advantages(groups, scale), strict=True):
        assert found == advantages([rewards], scale)[0]


def test_credit_is_given_before_the_shuffle_and_survives_it() -> None:
    """Each answer's advantage, found again among the shuffled tokens, is that of its whole group."""
    groups = [
        group([member(completion=(10 * i + j + 1,), reward=float(j <= i), sample=j) for j in range(4)])
        for i in range(3)
    ]
    credited = credit(groups, "group")
    expected = {
        graded.rollout.completion_ids[0]: advantage
        for whole in credited
        for graded, advantage in zip(whole.group.members, whole.advantages, strict=True)
    }
    found: dict[int, float] = {}
    for minibatch in split_minibatches(credited, 3, (0, "x")):
        for batch in make_batches(
            minibatch,
            aggregation="token",
            max_tokens=1,
            mask_truncated=False,
            keep_silent=False,
            microbatch_tokens=5,
        ):
            found |= dict(zip(batch.targets_C.tolist(), batch.advantages_C.tolist(), strict=True))
    assert found == pytest.approx(expected, abs=1e-6)


def test_signal_is_any_advantage_that_is_not_zero() -> None:
    whole = group_of([1.0, 0.0])
    assert Credited(group=whole, advantages=(0.0, -1e-3)).has_signal
    assert not Credited(group=whole, advantages=(0.0, -0.0)).has_signal
