"""Verifiers and the reward made of them: exact, and a verifier's failure is no wrong answer."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes import number_problem
from scripted import member
from zerone.rewards.accuracy import VERIFIERS, Verdict, verify_countdown, verify_exact, verify_number
from zerone.rewards.total import RewardWeights, grade, grade_all
from zerone.types import Outcome, Problem, Rollout


@given(st.text(max_size=220))
def test_no_text_crashes_the_parsers(text: str) -> None:
    for verifier, spec in (
        (verify_countdown, {"numbers": [1, 2], "target": 3}),
        (verify_number, {"answer": "3"}),
        (verify_exact, {"answer": "three"}),
    ):
        assert verifier(text, spec).outcome in (Outcome.CORRECT, Outcome.WRONG, Outcome.UNPARSABLE)


# Countdown ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        ("3*(8-5)/2", Outcome.WRONG),
        ("(3+5)*8", Outcome.CORRECT),
        ("8*3+8*5", Outcome.WRONG),
        ("64", Outcome.WRONG),
        ("(3+5)*8*1", Outcome.WRONG),
        ("8*8", Outcome.WRONG),
        ("(3+5)*8=64", Outcome.UNPARSABLE),
        ("64/0", Outcome.UNPARSABLE),
    ],
    ids=[
        "another value",
        "right",
        "a number twice",
        "the target itself",
        "a foreign number",
        "twice",
        "equation",
        "by zero",
    ],
)
def test_countdown_wants_the_value_from_each_number_at_most_once(answer: str, outcome: Outcome) -> None:
    assert verify_countdown(answer, {"numbers": [3, 5, 8, 2], "target": 64}).outcome is outcome


def test_countdown_numbers_given_twice_may_be_used_twice_and_some_left_over() -> None:
    spec = {"numbers": [8, 8, 3], "target": 64}
    assert verify_countdown("8*8", spec).outcome is Outcome.CORRECT
    assert verify_countdown("8*8*8/8", spec).outcome is Outcome.WRONG


def test_countdown_takes_no_rounded_value() -> None:
    spec = {"numbers": [1, 3, 3], "target": 1}
    assert verify_countdown("1/3*3", spec).outcome is Outcome.CORRECT
    assert verify_countdown("3/3", spec).outcome is Outcome.CORRECT
    assert verify_countdown("3/3+1", spec).outcome is Outcome.WRONG


# Numbers ------------------------------------------------------------------------------------------


def test_numbers_that_are_equal_vote_together() -> None:
    votes = {verify_number(text, {"answer": "0.5"}).canonical for text in ("1/2", "0.50", "2/4", ".5")}
    assert votes == {"1/2"}
    assert verify_number("1/2", {"answer": "0.5"}).outcome is Outcome.CORRECT
    assert verify_number("0.49", {"answer": "0.5"}).outcome is Outcome.WRONG


@pytest.mark.parametrize("text", ["", "seven", "7 apples", "1/0", "1e5"])
def test_what_is_no_number_is_unparsable(text: str) -> None:
    found = verify_number(text, {"answer": "7"})
    assert (found.outcome, found.canonical) == (Outcome.UNPARSABLE, None)


# Exact texts --------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", ["Paris", " paris\n", "PARIS"])
def test_exact_ignores_case_and_white_space_around(answer: str) -> None:
    assert verify_exact(answer, {"answer": "Paris"}).outcome is Outcome.CORRECT


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        ("Pari s", Outcome.WRONG),
        ("Paris.", Outcome.WRONG),
        ("", Outcome.UNPARSABLE),
        (" \n", Outcome.UNPARSABLE),
    ],
)
def test_exact_forgives_nothing_else(answer: str, outcome: Outcome) -> None:
    assert verify_exact(answer, {"answer": "Paris"}).outcome is outcome


def test_exact_counts_white_space_inside_as_one_space() -> None:
    assert verify_exact("new   York", {"answer": "New York"}).outcome is Outcome.CORRECT


# The whole reward ---------------------------------------------------------------------------------


def rollout_of(text: str, problem: Problem | None = None) -> Rollout:
    return member(text=text, problem=problem or number_problem(7)).rollout


WEIGHTS = RewardWeights(accuracy=1.0, format=0.1)


@pytest.mark.parametrize(
    ("text", "outcome", "parts", "reward"),
    [
        ("<think>a</think><answer>7</answer>", Outcome.CORRECT, (1.0, 1.0), 1.1),
        ("<think>a</think><answer>8</answer>", Outcome.WRONG, (0.0, 1.0), 0.1),
        ("<think>a</think><answer>seven</answer>", Outcome.UNPARSABLE, (0.0, 1.0), 0.1),
        ("<answer>7</answer>", Outcome.CORRECT, (1.0, 0.0), 1.0),
        ("7", Outcome.UNPARSABLE, (0.0, 0.0), 0.0),
        ("", Outcome.UNPARSABLE, (0.0, 0.0), 0.0),
    ],
)
def test_reward_is_the_weighted_sum_of_recorded_parts(
    text: str, outcome: Outcome, parts: tuple[float, float], reward: float
) -> None:
    found = grade(rollout_of(text), WEIGHTS)
    assert found.outcome is outcome
    assert found.parts == {"accuracy": parts[0], "format": parts[1]}
    assert found.reward == pytest.approx(reward)


def test_what_the_prompt_opened_belongs_to_the_completion() -> None:
    text = "a</think><answer>7</answer>"
    assert grade(rollout_of(text), WEIGHTS).parts["format"] == 0.0
    assert grade(rollout_of(text), WEIGHTS, opened="<think>").parts["format"] == 1.0


def _broken(verifier: str, spec: dict[str, Any]) -> Problem:
    problem = number_problem()
    return Problem(
        id="broken",
        family=problem.family,
        level=1,
        language="en",
        prompt="?",
        verifier=verifier,
        spec=spec,
    )


@pytest.mark.parametrize(
    "problem",
    [
        _broken("countdown", {}),
        _broken("countdown", {"numbers": 3, "target": 3}),
        _broken("number", {"answer": 7}),
        _broken("exact", {}),
        _broken("no such verifier", {}),
    ],
    ids=["no spec", "spec of another type", "number as number", "no answer", "unknown verifier"],
)
def test_a_verifier_that_fails_is_no_wrong_answer(problem: Problem) -> None:
    found = grade(rollout_of("<answer>7</answer>", problem), WEIGHTS)
    assert found.outcome is Outcome.INFRASTRUCTURE_ERROR
    assert (found.reward, found.answer) == (0.0, None)


def test_a_group_is_graded_member_by_member() -> None:
    texts = ["<answer>7</answer>", "<answer>8</answer>"]
    found = grade_all([rollout_of(text) for text in texts], WEIGHTS)
    assert [graded.outcome for graded in found] == [Outcome.CORRECT, Outcome.WRONG]
    assert [graded.answer for graded in found] == ["7", "8"]


def test_the_same_answer_to_a_problem_is_verified_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thoughts and form may differ, and count for themselves; another problem is judged anew."""
    asked: list[str] = []

    def counting(answer: str, spec: Mapping[str, Any]) -> Verdict:
        asked.append(answer)
        return verify_number(answer, spec)

    monkeypatch.setitem(VERIFIERS, "number", counting)
    texts = ["<answer>7</answer>", "<think>a</think> <answer>7</answer>", "<answer>8</answer>", "no answer"]
    for _ in range(2):
        found = grade_all([rollout_of(text) for text in texts], WEIGHTS)
        assert [graded.parts["accuracy"] for graded in found] == [1.0, 1.0, 0.0, 0.0]
        assert [graded.parts["format"] for graded in found] == [0.0, 1.0, 0.0, 0.0]
    assert asked == ["7", "8", "7", "8"]


@pytest.mark.parametrize("name", ["countdown", "number", "exact"])
def test_verifiers_of_the_problems_are_there(name: str) -> None:
    verifier: Callable[..., Any] = VERIFIERS[name]
    assert callable(verifier)
