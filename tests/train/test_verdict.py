"""The verdict line names what is in the way, the most telling cause first, or how the reward moves."""

from typing import Any

import pytest

from zerone.train.health import verdict


def step(**changes: Any) -> dict[str, Any]:
    """Return the metrics of an unremarkable step: 100 answers of 50 tokens, half of the groups telling."""
    return {
        "reward_mean": 0.5,
        "accuracy": 0.5,
        "groups_with_signal": 0.5,
        "groups_all_right": 0.2,
        "groups_all_wrong": 0.3,
        "response_tokens": 50.0,
        "num_sampled_tokens": 5000,
        "truncated": 0.0,
        "no_answer": 0.1,
        "verifier_errors": 0,
        "entropy": 0.5,
        "kl": 0.0,
    } | changes


def history(*rewards: float) -> list[dict[str, Any]]:
    return [step(reward_mean=reward) for reward in rewards]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"verifier_errors": 6}, "the verifier failed on 6 answers (left out): mend the verifier"),
        ({"kl": 1.5}, "KL to the reference is 1.50: lower optim.learning_rate"),
        (
            {"groups_with_signal": 0.05, "groups_all_right": 0.9},
            "95% of groups are all equal, 90% all right: use harder problems or rl.refill",
        ),
        ({"truncated": 0.3}, "30% of answers run out of room: raise sampling.max_tokens"),
        (
            {"no_answer": 0.9},
            "90% of completions have no parsable answer: raise prompt.examples or reward.format",
        ),
        (
            {"groups_with_signal": 0.0, "groups_all_wrong": 1.0},
            "100% of groups are all equal, 100% all wrong: use easier problems or a larger rl.group_size",
        ),
    ],
)
def test_each_obstacle_has_its_sentence_with_the_option_to_turn(
    changes: dict[str, Any], sentence: str
) -> None:
    assert verdict(history(*[0.5] * 10), step(**changes)) == sentence


@pytest.mark.parametrize(
    ("changes", "start"),
    [
        ({"verifier_errors": 5}, "flat"),
        ({"kl": 0.9}, "flat"),
        ({"groups_with_signal": 0.15, "groups_all_right": 0.8}, "flat"),
        ({"truncated": 0.2}, "flat"),
        ({"no_answer": 0.7}, "flat"),
    ],
)
def test_a_little_of_it_is_no_obstacle(changes: dict[str, Any], start: str) -> None:
    assert verdict(history(*[0.5] * 10), step(**changes)).startswith(start)


def test_the_most_telling_cause_comes_first() -> None:
    """Truncated answers have no tags and no signal: the room is the cause, the rest its effect."""
    all_at_once = {
        "verifier_errors": 50,
        "kl": 2.0,
        "truncated": 0.9,
        "no_answer": 0.9,
        "groups_with_signal": 0.0,
        "groups_all_wrong": 1.0,
    }
    for cause in (
        "the verifier failed",
        "KL to the reference",
        "90% of answers run out",
        "90% of answers lack",
    ):
        assert verdict([], step(**all_at_once)).startswith(cause)
        first = next(iter(all_at_once))
        all_at_once.pop(first)
    assert verdict([], step(**all_at_once)).startswith("100% of groups are all equal, 100% all wrong")


def test_a_young_run_is_warming_up() -> None:
    assert verdict([], step()) == "warming up: 50% of groups carry signal"
    assert verdict(history(*[0.1] * 4), step()).startswith("warming up")


@pytest.mark.parametrize(
    ("before", "now", "sentence"),
    [
        ([0.1] * 5 + [0.3] * 4, {"reward_mean": 0.3}, "learning: reward +0.200 in 5 steps"),
        ([0.5] * 5 + [0.3] * 4, {"reward_mean": 0.3}, "getting worse: reward -0.200 in 5 steps; lower "),
        ([1.0] * 9, {"reward_mean": 1.0, "accuracy": 0.97}, "solved: 97% right; harder problems"),
        ([0.5] * 9, {"entropy": 0.01}, "flat, and entropy is down to 0.010: raise loss.clip_high"),
        ([0.5] * 9, {}, "flat: reward +0.000 in 5 steps, 50% of groups carry signal"),
    ],
    ids=["up", "down", "solved", "sure of itself", "flat"],
)
def test_the_trend_compares_five_steps_with_the_five_before(
    before: list[float], now: dict[str, Any], sentence: str
) -> None:
    assert verdict(history(*before), step(**now)).startswith(sentence)


def test_only_the_last_ten_steps_count() -> None:
    assert verdict(history(*[0.0] * 20, *[0.5] * 9), step()).startswith("flat")
    assert verdict(history(*[0.9] * 20, *[0.1] * 5, *[0.3] * 4), step(reward_mean=0.3)).startswith("learning")
