"""Statistics of evaluation against published formulas and against scipy and statsmodels.

Numbers of peers were computed once, by the calls that the comments name, on the same inputs.
"""

from fractions import Fraction
from math import comb
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerone.errors import DataError
from zerone.evals.pairwise import length_controlled
from zerone.evals.rating import estimate_rating, solve_chance
from zerone.evals.significance import compare, paired_bootstrap, sign_test
from zerone.intervals import mean_with_interval, share_with_interval, wilson_interval


# statsmodels 0.15: proportion_confint(right, count, method="wilson")
@pytest.mark.parametrize(
    ("right", "count", "low", "high"),
    [
        (0, 10, 0.0, 0.27753279986288926),
        (3, 30, 0.03459988874733416, 0.25621082579184085),
        (15, 30, 0.3315412564053376, 0.6684587435946624),
        (29, 30, 0.8332960900859081, 0.9940914096183875),
        (30, 30, 0.8864866068260311, 1.0),
        (712, 1000, 0.6831644885571975, 0.7392129658449271),
    ],
)
def test_wilson_interval_is_that_of_statsmodels(right: int, count: int, low: float, high: float) -> None:
    assert wilson_interval(right / count, count) == pytest.approx((low, high), abs=1e-12)


def test_wilson_interval_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one problem"):
        wilson_interval(0.0, 0)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_shares_that_are_all_alike_leave_doubt(share: float) -> None:
    assert share_with_interval([share] * 12) == (share, wilson_interval(share, 12))


def test_other_shares_have_the_interval_of_the_bootstrap() -> None:
    values = [0.0, 1.0, 1.0, 0.25]
    assert share_with_interval(values) == mean_with_interval(values)


# statsmodels 0.15: mcnemar([[50, b], [c, 20]], exact=True).pvalue
@pytest.mark.parametrize(
    ("b", "c", "p"),
    [
        (1, 9, 0.021484375),
        (5, 5, 1.0),
        (12, 30, 0.007915897334896727),
        (0, 6, 0.03125),
        (40, 61, 0.046044066929342785),
    ],
)
def test_exact_mcnemar_is_that_of_statsmodels(b: int, c: int, p: float) -> None:
    assert sign_test(b, c) == pytest.approx(p, rel=1e-12)


@given(st.integers(0, 40), st.integers(0, 40))
def test_sign_test_is_the_binomial_tail_twice_and_symmetric(fewer: int, more: int) -> None:
    count = fewer + more
    tail = sum(Fraction(comb(count, i), 2**count) for i in range(min(fewer, more) + 1))
    assert sign_test(fewer, more) == pytest.approx(float(min(Fraction(1), 2 * tail)))
    assert sign_test(fewer, more) == sign_test(more, fewer)


def shares(values: list[float]) -> dict[str, float]:
    return {f"p{i}": value for i, value in enumerate(values)}


def test_comparison_finds_a_real_difference_and_its_direction() -> None:
    a = [0.0] * 30 + [1.0] * 70
    b = [1.0] * 28 + [0.0] * 2 + [1.0] * 68 + [0.0] * 2
    found = compare(shares(a), shares(b))
    assert (found.better_a, found.better_b, found.equal) == (2, 28, 70)
    assert found.difference == pytest.approx(0.26)
    assert found.test == "exact McNemar"
    assert found.is_real and found.conclusion.startswith("B is better than A: +26.0%")
    assert compare(shares(b), shares(a)).conclusion.startswith("B is worse than A: -26.0%")


def test_comparison_of_equals_shows_no_difference() -> None:
    rng = Random(0)
    a, b = ([float(rng.random() < 0.5) for _ in range(200)] for _ in range(2))
    found = compare(shares(a), shares(b))
    assert not found.is_real
    assert found.conclusion.startswith("no difference is shown")


def test_a_comparison_errs_as_seldom_as_it_says() -> None:
    """Two models of equal chance, 300 times: under 5% are called different (the test is conservative)."""
    rng = Random(1)
    wrong = sum(
        sign_test(b, 40 - b) < 0.05 for b in (sum(rng.random() < 0.5 for _ in range(40)) for _ in range(300))
    )
    assert wrong / 300 < 0.07


def test_pairing_narrows_the_interval_where_problems_differ_in_difficulty() -> None:
    rng = np.random.default_rng(0)
    difficulty = rng.random(200)
    a, b = difficulty * 0.9, difficulty * 0.9 + 0.05
    low, high = paired_bootstrap(a.tolist(), b.tolist())
    assert (low, high) == pytest.approx((0.05, 0.05), abs=1e-9)


@pytest.mark.parametrize("by", [0.0, 1.0, -1.0, 0.25])
def test_differences_that_are_all_alike_are_no_certainty(by: float) -> None:
    a = [max(0.0, -by)] * 8
    low, high = paired_bootstrap(a, [value + by for value in a])
    assert low == max(-1, by - 0.3244) or low == pytest.approx(by - 0.3244, abs=1e-3)  # Wilson: 0 of 8
    assert high == min(1, by + 0.3244) or high == pytest.approx(by + 0.3244, abs=1e-3)
    few = paired_bootstrap(a[:2], [value + by for value in a[:2]])
    assert few[0] <= low < high <= few[1]


def test_paired_bootstrap_has_the_width_of_the_normal_interval() -> None:
    """Of 400 differences the percentile interval is within some percent of mean -+ 1.96 sd/sqrt(n)."""
    rng = np.random.default_rng(3)
    b = rng.normal(0.1, 0.4, 400)
    low, high = paired_bootstrap([0.0] * 400, b.tolist())
    half = 1.96 * b.std() / 20
    assert (low, high) == pytest.approx((b.mean() - half, b.mean() + half), abs=0.15 * half)


def test_several_samples_per_problem_are_compared_by_the_sign_test() -> None:
    found = compare(shares([0.25, 0.5, 0.5]), shares([0.5, 0.75, 0.5]))
    assert (found.test, found.better_b, found.equal) == ("exact sign test over problems", 2, 1)


def test_only_common_problems_are_compared_and_some_must_be() -> None:
    assert compare({"a": 1.0, "b": 0.0}, {"b": 1.0, "c": 1.0}).num_problems == 1
    with pytest.raises(DataError, match="share no problem"):
        compare({"a": 1.0}, {"b": 1.0})


# statsmodels 0.15: GLM(shares, ones, Binomial(), offset=-ln(10)/400 * ratings).fit(), scaled to Elo
@pytest.mark.parametrize(
    ("solved", "rating", "low", "high"),
    [
        ([1, 1, 1, 0, 1, 0, 0], 1529.4733596516355, 1131.19290976, 1927.75380954),
        ([1, 0.75, 0.5, 0.5, 0.25, 0, 0.125], 1331.769488131573, 949.97330609, 1713.56567017),
    ],
)
def test_rating_is_the_maximum_likelihood_of_statsmodels(
    solved: list[float], rating: float, low: float, high: float
) -> None:
    found = estimate_rating([800, 1000, 1200, 1400, 1600, 1900, 2400], solved)
    assert found.value == pytest.approx(rating, abs=1e-4)
    assert found.interval == pytest.approx((low, high), abs=1e-2)
    assert not found.is_bound


def test_rating_of_a_known_player_is_found_again() -> None:
    rng = Random(2)
    difficulties = [800 + 4.0 * i for i in range(500)]
    solved = [float(rng.random() < solve_chance(1500, d)) for d in difficulties]
    found = estimate_rating(difficulties, solved)
    low, high = found.interval
    assert low < 1500 < high
    assert high - low < 200


def test_an_equal_opponent_is_beaten_half_of_the_time_and_400_points_are_ten_to_one() -> None:
    assert solve_chance(1500, 1500) == 0.5
    assert solve_chance(1900, 1500) == pytest.approx(10 / 11)


def test_all_or_none_solved_gives_a_bound_not_infinity() -> None:
    for share, side in ((0.0, -1), (1.0, 1)):
        found = estimate_rating([1500.0] * 10, [share] * 10)
        # half a problem in ten: 400 log10(19) away
        assert found.value == pytest.approx(1500 + side * 511.5, abs=0.1)
        assert found.is_bound


@pytest.mark.parametrize("rest", [0.0, 0.125, 0.5])
@pytest.mark.parametrize("is_strong", [False, True])
def test_a_rating_that_half_a_problem_made_is_called_a_bound(rest: float, is_strong: bool) -> None:
    """One of eight attempts at one problem of ten is no more than none, and the estimate is the same."""
    shares = [float(is_strong)] * 9 + [1 - rest if is_strong else rest]
    found = estimate_rating([1500.0] * 10, shares)
    assert found.value == pytest.approx(1500 + (1 if is_strong else -1) * 511.5, abs=0.1)
    assert found.is_bound == (rest < 0.5)


def test_length_control_takes_out_what_length_alone_brings() -> None:
    """statsmodels' plain logistic fit of the same 60 games: intercept 0.50120374, so 0.62274."""
    rng = np.random.default_rng(1)
    pairs = zip(rng.integers(100, 900, 60), rng.integers(100, 900, 60), strict=True)
    lengths = [(int(a), int(b)) for a, b in pairs]
    differences = np.array([a - b for a, b in lengths], float)
    x = np.tanh(differences / differences.std())
    wins = (rng.random(60) < 1 / (1 + np.exp(-(0.3 + 1.2 * x)))).astype(float).tolist()
    # The ridge moves it by a thousandth.
    assert length_controlled(wins, lengths) == pytest.approx(0.622742, abs=0.003)
    longer = [(900, 100)] * 20 + [(100, 900)] * 20
    assert length_controlled([1.0] * 20 + [0.0] * 20, longer) == pytest.approx(0.5, abs=1e-6)
