"""The numbers of metrics.jsonl, each against groups whose figures can be counted by hand."""

import json
from typing import Any

import pytest

from fakes import few_problems
from scripted import credited, member
from zerone.train.metrics import rollout_metrics, update_metrics
from zerone.types import Credited, Finish, Graded, Outcome, StepStats

FEW = few_problems()

DOCUMENTED = {
    "reward_mean",
    "reward_std",
    "reward_mean_se",
    "accuracy_se",
    "accuracy",
    "format",
    "groups_with_signal",
    "groups_all_right",
    "groups_all_wrong",
    "response_tokens",
    "response_tokens_right",
    "response_tokens_wrong",
    "truncated",
    "reflection_words",
    "verifier_errors",
    "num_sampled_tokens",
    "accuracy_by",
}


def answer(problem: int, reward: float, length: int, **options: Any) -> Graded:
    return member(problem=FEW[problem], reward=reward, completion=[9] * length, **options)


def groups() -> list[Credited]:
    """Return three groups: one mixed, one all right, one all wrong with a failed verifier."""
    answered = "<think>a</think><answer>1</answer>"
    return [
        credited(
            [answer(0, 1.0, 4, text=f"Wait, wrong. {answered}"), answer(0, 0.0, 8, finish=Finish.LENGTH)],
            (1.0, -1.0),
        ),
        credited([answer(2, 1.0, 2, text=answered), answer(2, 1.0, 2, text=answered)], (0.0, 0.0)),
        credited(
            [answer(4, 0.0, 1), answer(4, 9.0, 7, outcome=Outcome.INFRASTRUCTURE_ERROR, text="no answer")],
            (0.0, 0.0),
        ),
    ]


def test_rollout_metrics_are_what_can_be_counted() -> None:
    found = rollout_metrics(groups())
    assert found.keys() >= DOCUMENTED
    expected = {
        "reward_mean": 3 / 5,
        "accuracy": 3 / 5,
        "format": 0.0,
        "groups_with_signal": 1 / 3,
        "groups_all_right": 1 / 3,
        "groups_all_wrong": 1 / 3,
        "response_tokens": 24 / 6,
        "response_tokens_right": 8 / 3,
        "response_tokens_wrong": 9 / 2,
        "truncated": 1 / 6,
        "no_answer": 3 / 6,
        "reflection_words": 2 / 6,
        "verifier_errors": 1,
        "num_sampled_tokens": 24,
    }
    for name, value in expected.items():
        assert found[name] == pytest.approx(value), name
    assert found["reward_std"] == pytest.approx((3 / 5 * 2 / 5) ** 0.5)
    # The groups' means are 1/2, 1 and 0: their deviation is 1/2.
    assert found["reward_mean_se"] == pytest.approx(0.5 / 3**0.5)
    assert found["accuracy_se"] == pytest.approx(0.5 / 3**0.5)


def test_one_group_alone_tells_no_standard_error() -> None:
    found = rollout_metrics(groups()[:1])
    assert (found["reward_mean_se"], found["accuracy_se"]) == (None, None)


def test_accuracy_is_split_by_family_and_level_in_order() -> None:
    found = rollout_metrics(groups())["accuracy_by"]
    cells = {f"{FEW[i].family}/{FEW[i].level}": share for i, share in ((0, 0.5), (2, 1.0), (4, 0.0))}
    assert found == cells
    assert list(found) == sorted(found)


def test_failed_verifiers_count_neither_as_right_nor_as_wrong_in_the_means() -> None:
    """Their reward is no reward: it must not move mean, deviation or accuracy."""
    with_error = rollout_metrics(
        [
            credited(
                [
                    answer(0, 1.0, 1),
                    answer(0, 0.0, 1),
                    answer(0, 5.0, 1, outcome=Outcome.INFRASTRUCTURE_ERROR),
                ],
                (1, -1, 0),
            )
        ]
    )
    without = rollout_metrics([credited([answer(0, 1.0, 1), answer(0, 0.0, 1)], (1.0, -1.0))])
    for name in ("reward_mean", "reward_std", "accuracy", "format"):
        assert with_error[name] == without[name]
    assert (with_error["verifier_errors"], without["verifier_errors"]) == (1, 0)


def test_means_of_nothing_are_null_and_failed_steps_have_figures() -> None:
    all_right = rollout_metrics([credited([answer(0, 1.0, 3)] * 2, (0.0, 0.0))])
    assert (all_right["response_tokens_right"], all_right["response_tokens_wrong"]) == (3, None)
    all_wrong = rollout_metrics([credited([answer(0, 0.0, 3)] * 2, (0.0, 0.0))])
    assert (all_wrong["response_tokens_right"], all_wrong["response_tokens_wrong"]) == (None, 3)
    failed = rollout_metrics(
        [credited([answer(0, 0.0, 3, outcome=Outcome.INFRASTRUCTURE_ERROR)] * 2, (0.0, 0.0))]
    )
    for name in ("reward_mean", "reward_std", "accuracy", "format"):
        assert failed[name] is None
    assert failed["verifier_errors"] == 2
    assert failed["accuracy_by"] == {}


def test_update_metrics_carry_every_figure_of_the_updates() -> None:
    stats = StepStats(
        loss=1.0,
        kl=2.0,
        entropy=3.0,
        mismatch_kl=4.0,
        ratio_max=5.0,
        clip_low=6.0,
        clip_high=7.0,
        grad_norm=8.0,
        num_updates=9,
        num_tokens=10,
    )
    assert update_metrics(stats, 0.5, 12) == {
        "loss": 1.0,
        "kl": 2.0,
        "entropy": 3.0,
        "mismatch_kl": 4.0,
        "ratio_max": 5.0,
        "clip_low": 6.0,
        "clip_high": 7.0,
        "grad_norm": 8.0,
        "learning_rate": 0.5,
        "num_updates": 9,
        "num_trained_tokens": 10,
        "weight_version": 12,
    }


def test_metrics_are_json_and_the_same_for_the_same_rollouts() -> None:
    assert json.dumps(rollout_metrics(groups())) == json.dumps(rollout_metrics(groups()))
