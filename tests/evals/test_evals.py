"""Evaluation: estimators against brute force, intervals that cover, figures that add up."""

import io
import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from fakes import number_problem
from scripted import (
    bandit_model,
    bandit_problems,
    bandit_prompt,
    bandit_tokenizer,
    make_config,
    make_engine,
    member,
    write_problems,
)
from zerone.cli.progress import TerminalDisplay, no_answer
from zerone.data.split import split_of
from zerone.engine.api import SamplingParams
from zerone.errors import UserError
from zerone.evals.evaluate import Suite, evaluate, figures, is_majority_right
from zerone.evals.figures import details_of, figures_of
from zerone.evals.judged import judged_of
from zerone.evals.suites import SUITE_NAMES, suite_named
from zerone.intervals import mean_with_interval, pass_at_k, share_with_interval, wilson_interval
from zerone.jobs.data import data_of
from zerone.types import Finish, Graded, Outcome

# Estimators ---------------------------------------------------------------------------------------


@given(st.integers(1, 8), st.data())
def test_pass_at_k_is_the_share_of_draws_that_hold_a_right_answer(
    num_samples: int, data: st.DataObject
) -> None:
    num_right = data.draw(st.integers(0, num_samples))
    k = data.draw(st.integers(1, num_samples))
    answers = [True] * num_right + [False] * (num_samples - num_right)
    draws = [any(draw) for draw in itertools.combinations(answers, k)]
    assert pass_at_k(num_samples, num_right, k) == pytest.approx(sum(draws) / len(draws), abs=1e-12)


def test_pass_at_more_than_was_sampled_is_refused() -> None:
    with pytest.raises(ValueError, match="pass@5 needs at least 5 samples, not 4"):
        pass_at_k(4, 1, 5)


def test_interval_covers_the_truth_as_often_as_it_says() -> None:
    """60 problems of chance 0.3, 400 times over: a 95% bootstrap covers 93-95% at this size.

    The count is binomial with deviation 0.011, so 0.90 to 0.98 is four deviations and more.
    """
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        _, (low, high) = mean_with_interval((rng.random(60) < 0.3).astype(float).tolist())
        covered += low <= 0.3 <= high
    assert 0.90 < covered / 400 < 0.98


def test_interval_holds_the_mean_and_shrinks_with_the_number_of_problems() -> None:
    rng = Random(0)
    widths = []
    for count in (20, 80, 320):
        values = [rng.random() for _ in range(count)]
        mean, (low, high) = mean_with_interval(values)
        assert mean == pytest.approx(sum(values) / count)
        assert low < mean < high
        widths.append(high - low)
    # Four times the problems, half the width; single intervals vary by some 10%.
    assert widths[0] / widths[1] == pytest.approx(2, rel=0.4)
    assert widths[1] / widths[2] == pytest.approx(2, rel=0.4)


def test_interval_of_equal_values_is_a_point_and_each_call_gives_the_same() -> None:
    assert mean_with_interval([0.5] * 9) == (0.5, (0.5, 0.5))
    values = [0.0, 1.0, 1.0, 0.25]
    assert mean_with_interval(values) == mean_with_interval(values)


# Majority votes -----------------------------------------------------------------------------------


def vote(*answers: str | None, right: str = "7") -> float | None:
    """Return the verdict on answers; an answer of None could not be read."""
    return is_majority_right(
        [
            judged_of(
                member(
                    answer=answer,
                    sample=j,
                    outcome=Outcome.UNPARSABLE
                    if answer is None
                    else (Outcome.CORRECT if answer == right else Outcome.WRONG),
                )
            )
            for j, answer in enumerate(answers)
        ]
    )


def test_the_most_frequent_answer_is_what_counts() -> None:
    assert vote("7", "3", "7") == 1.0
    assert vote("3", "7", "3", "7", "3") == 0.0


def test_ties_go_to_the_answer_that_came_first() -> None:
    assert vote("7", "3", "3", "7") == 1.0
    assert vote("3", "7", "7", "3") == 0.0


def test_unreadable_answers_have_no_vote_and_cannot_win() -> None:
    assert vote(None, None, None, "7") == 1.0
    assert vote(None, None) == 0.0


# Figures ------------------------------------------------------------------------------------------


def answers_to(
    number: int,
    rewards: Sequence[float],
    *,
    level: int = 1,
    finish: Finish = Finish.STOP,
    verifier: str = "number",
) -> list[Graded]:
    problem = number_problem(number)
    changed = type(problem)(
        id=problem.id,
        family="fam",
        level=level,
        language="en",
        prompt=problem.prompt,
        verifier=verifier,
        spec=problem.spec,
    )
    return [
        member(
            problem=changed,
            reward=reward,
            sample=j,
            completion=[5] * (j + 1),
            text="wait, wrong" if j == 0 else "",
            finish=finish,
            answer=None if verifier == "code" else str(number) if reward >= 1 else "none",
        )
        for j, reward in enumerate(rewards)
    ]


@pytest.mark.parametrize(("num_unparsable", "share"), [(0, 0.0), (1, 0.125), (2, 0.25), (4, 0.5)])
def test_the_share_without_a_readable_answer_stands_beside_every_score(
    num_unparsable: int, share: float
) -> None:
    answers = [answers_to(1, [1, 0, 0, 0]), answers_to(2, [1, 0, 0, 0], level=2)]
    answers[0] = [
        replace(one, outcome=Outcome.UNPARSABLE, answer=None) if j < num_unparsable else one
        for j, one in enumerate(answers[0])
    ]
    found = figures(answers)
    assert found["unparsable"] == pytest.approx(share)
    assert found["unparsable_ci"][0] <= share <= found["unparsable_ci"][1]
    levels = details_of([[judged_of(one) for one in own] for own in answers])["levels"]
    assert [level["unparsable"] for level in levels.values()] == pytest.approx([2 * share, 0.0])
    assert no_answer(found) == f"no readable answer {share:.1%}"
    assert no_answer({"pass_at_1": 0.5}) == "no readable answer -"
    printed = io.StringIO()
    console = Console(file=printed, width=200)
    TerminalDisplay(console, Path("runs/a")).evaluation(3, {"mixed": found})
    assert f"no readable answer {share:.1%}" in printed.getvalue()


_SHARES_AND_MEANS = (
    *("pass_at_1", "unparsable", "format", "truncated"),
    *("response_tokens", "reflection_words"),
)


def test_figures_have_the_documented_keys_and_values() -> None:
    found = figures(
        [
            answers_to(1, [1, 0, 0, 0]),
            answers_to(2, [1, 1, 1, 1], level=2, finish=Finish.LENGTH),
            answers_to(3, [0, 0, 0, 0], level=2),
        ]
    )
    assert found.keys() == {
        "num_problems",
        "num_samples",
        *(name + suffix for name in _SHARES_AND_MEANS for suffix in ("", "_ci")),
        "pass_at_k",
        "verifier_errors",
        "levels",
    }
    assert (found["num_problems"], found["num_samples"], found["verifier_errors"]) == (3, 4, 0)
    assert found["pass_at_1"] == pytest.approx(5 / 12)
    assert found["pass_at_k"] == pytest.approx({"1": 5 / 12, "2": (0.5 + 1) / 3, "4": 2 / 3})
    assert found["response_tokens"] == pytest.approx(2.5)
    assert found["reflection_words"] == pytest.approx(2 / 4)
    assert found["truncated"] == pytest.approx(1 / 3)
    assert found["levels"] == {
        "fam/1": {"pass_at_1": 0.25, "num_problems": 1},
        "fam/2": {"pass_at_1": 0.5, "num_problems": 2},
    }
    for name in ("pass_at_1", "response_tokens"):
        low, high = found[f"{name}_ci"]
        assert low <= found[name] <= high


@pytest.mark.parametrize("right", [0, 1])
def test_a_model_that_is_always_right_or_never_has_no_interval_of_a_point(right: int) -> None:
    found = figures([answers_to(level, [right] * 16) for level in range(5)])
    assert found["pass_at_1"] == found["cons_at_16"] == right
    for name in ("pass_at_1", "cons_at_16"):
        assert found[f"{name}_ci"] == list(wilson_interval(right, 5))
    assert found["response_tokens_ci"] == [found["response_tokens"]] * 2, "a count is no share"


def test_consensus_takes_the_first_sixteen_answers() -> None:
    """Nine wrong in the first sixteen lose, however many right ones follow."""
    losing = answers_to(1, [0] * 9 + [1] * 7 + [1] * 8)
    winning = answers_to(2, [0] * 7 + [1] * 9 + [0] * 8)
    found = figures([losing, winning])
    assert found["cons_at_16"] == 0.5
    assert found["cons_at_16_ci"] == [0.0, 1.0]
    assert "cons_at_16" not in figures([answers_to(1, [0] * 15)])


def test_programs_have_no_vote_and_take_none_from_what_has() -> None:
    programs = [answers_to(number, [1] * 16, verifier="code") for number in (1, 2)]
    assert not [key for key in figures(programs) if key.startswith("cons")]
    found = figures([*programs, answers_to(3, [1] * 16), answers_to(4, [0] * 16)])
    assert (found["cons_at_16"], found["cons_at_16_n"], found["num_problems"]) == (0.5, 2, 4)


def test_a_problem_without_any_verdict_is_not_lost_by_vote() -> None:
    failed = [judged_of(member(outcome=Outcome.INFRASTRUCTURE_ERROR, sample=j)) for j in range(16)]
    won = [judged_of(one) for one in answers_to(1, [1] * 16)]
    found = figures_of([failed, won]) | details_of([failed, won])
    for votes in (4, 16):
        assert (found[f"cons_at_{votes}"], found[f"cons_at_{votes}_n"]) == (1.0, 1)
        assert found[f"cons_at_{votes}_wilson"] == list(wilson_interval(1.0, 1))
    assert not [key for key in figures_of([failed]) | details_of([failed]) if key.startswith("cons")]


def test_what_an_endpoint_refused_has_no_length() -> None:
    answers = [judged_of(one) for one in answers_to(1, [1, 0, 0])]  # of 1, 2 and 3 tokens
    refused = replace(
        answers[0], num_tokens=0, outcome=Outcome.INFRASTRUCTURE_ERROR, details={"refused": "too long"}
    )
    assert details_of([answers, [refused] * 3])["tokens"] == details_of([answers])["tokens"]
    assert details_of([[refused]])["tokens"]["median"] is None


def test_pass_at_k_has_the_interval_of_its_values_by_problem() -> None:
    answers = [
        [judged_of(one) for one in answers_to(number, rewards)]
        for number, rewards in enumerate(([1, 0, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0], [1, 1]))
    ]
    found = figures_of(answers) | details_of(answers)
    assert found["pass_at_k_ci"].keys() == found["pass_at_k"].keys() == {"1", "2", "4"}
    by_problem: dict[str, list[float]] = {"1": [0.25, 1, 0, 1], "2": [0.5, 1, 0, 1], "4": [1, 1, 0]}
    for k, values in by_problem.items():
        mean, interval = share_with_interval(values)
        assert (found["pass_at_k"][k], found["pass_at_k_ci"][k]) == (pytest.approx(mean), list(interval))


def test_levels_and_domains_tell_length_and_truncation() -> None:
    graded = [answers_to(1, [1, 0]), answers_to(2, [1] * 4, level=2, finish=Finish.LENGTH)]
    answers = [[judged_of(one) for one in own] for own in graded]
    answers[1] = [
        replace(one, problem=replace(one.problem, spec={**one.problem.spec, "domain": "sums"}))
        for one in answers[1]
    ]
    found = figures_of(answers) | details_of(answers)
    first, second = found["levels"]["fam/1"], found["levels"]["fam/2"]
    assert (first["response_tokens"], first["truncated"], first["pass_at_1"]) == (1.5, 0.0, 0.5)
    assert (second["response_tokens"], second["truncated"], second["num_problems"]) == (2.5, 1.0, 1)
    assert found["domains"] == {"sums": second}


def test_pass_at_k_goes_up_in_powers_of_two() -> None:
    assert list(figures([answers_to(1, [0] * 6)])["pass_at_k"]) == ["1", "2", "4"]
    assert list(figures([answers_to(1, [0] * 16)])["pass_at_k"]) == ["1", "2", "4", "8", "16"]


def test_failed_verifiers_are_counted() -> None:
    answers = [
        member(outcome=outcome, sample=j)
        for j, outcome in enumerate([Outcome.INFRASTRUCTURE_ERROR, Outcome.WRONG])
    ]
    assert figures([answers])["verifier_errors"] == 1


# Suites -------------------------------------------------------------------------------------------


def test_evaluation_of_a_known_policy_finds_its_chances() -> None:
    """A nearly indifferent bandit picks each of its 17 tokens about as often."""
    suite = Suite(name="mixed", problems=bandit_problems(8), num_samples=64)
    engine = make_engine(bandit_model(), slots=1024, tokenizer=bandit_tokenizer())
    found = evaluate(engine, suite, SamplingParams(max_tokens=1), bandit_prompt, seed=0)
    # 512 answers of chance 1/17 (up to a third more or less, see bandit_model): deviation 0.01
    assert found["pass_at_1"] == pytest.approx(1 / 17, abs=0.05)
    assert found["truncated"] == pytest.approx(16 / 17, abs=0.05)
    assert found["response_tokens"] == 1.0


def test_evaluation_depends_on_the_seed_and_the_suite_and_nothing_else() -> None:
    engine = make_engine(bandit_model(), slots=1024, tokenizer=bandit_tokenizer())

    def pattern(seed: int, name: str) -> object:
        suite = Suite(name=name, problems=bandit_problems(8), num_samples=16)
        return evaluate(engine, suite, SamplingParams(max_tokens=1), bandit_prompt, seed)["levels"], evaluate(
            engine, suite, SamplingParams(max_tokens=1), bandit_prompt, seed
        )["pass_at_k"]

    assert pattern(0, "mixed") == pattern(0, "mixed")
    assert pattern(0, "mixed") != pattern(1, "mixed")
    assert pattern(0, "mixed") != pattern(0, "hard")


@pytest.mark.parametrize("name", SUITE_NAMES)
def test_named_suites_are_fixed_held_out_and_free_of_doubles(name: str) -> None:
    suite = suite_named(name, 3)
    assert suite.num_samples == 3
    assert suite == suite_named(name, 3)
    ids = [problem.id for problem in suite.problems]
    assert len(set(ids)) == len(ids) >= 30
    assert {split_of(identity) for identity in ids} == {"eval"}


def test_mini_aime_is_the_hard_suite() -> None:
    assert suite_named("mini-aime", 2) == suite_named("hard", 2)


def test_unknown_suite_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UserError, match="no suite is named 'aime'; there are mixed, hard"):
        suite_named("aime", 1)


def test_suites_of_a_run_follow_its_options(tmp_path: object) -> None:
    data = data_of(make_config(eval__problems=7, eval__mixed_samples=3, eval__hard_samples=5))
    assert (data.mixed.name, len(data.mixed.problems), data.mixed.num_samples) == ("mixed", 7, 3)
    assert (data.hard.name, len(data.hard.problems), data.hard.num_samples) == ("hard", 7, 5)
    sums = data_of(make_config(data__family="sums"))
    assert {problem.family for problem in [*sums.mixed.problems, *sums.mixture.draw(0, 9)]} == {"sums"}


@pytest.mark.parametrize("step", range(3))
def test_problems_of_a_file_are_trained_on_or_held_out_never_both(
    step: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = write_problems(tmp_path_factory.mktemp("data") / "p.jsonl", 40)
    data = data_of(make_config(data__path=str(path), data__eval_share=0.3, rl__problems_per_step=8))
    held_out = {problem.id for problem in data.mixed.problems}
    assert held_out == {problem.id for problem in data.hard.problems}
    drawn = {problem.id for problem in data.mixture.draw(step, 8)}
    assert len(drawn) == 8
    assert not drawn & held_out
