"""The family of plain sums: answers, levels, language, and the examples shown in prompts."""

import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerone.data.split import split_of
from zerone.evals.suites import sums_problems
from zerone.problems import sums
from zerone.problems.mixture import distinct_problems, draw_from_split
from zerone.prompts.examples import EXAMPLES
from zerone.seeding import rng_from
from zerone.types import Problem

DRAWS = [
    sums.draw(rng_from("test", level, language, i), level, language)
    for level in sums.LEVELS
    for language in ("en", "zh")
    for i in range(200)
]


def expression(problem: Problem) -> list[tuple[str, int]]:
    """Read the terms back from the prompt, in symbols or in words of either language."""
    text = problem.prompt
    for word, operator in (("plus", "+"), ("minus", "-"), ("加", "+"), ("减", "-")):
        text = text.replace(word, operator)
    first, *rest = re.findall(r"(?:([-+]) )?(\d+)", text)
    return [("+", int(first[1])), *((operator, int(number)) for operator, number in rest)]


def prefix_values(terms: list[tuple[str, int]]) -> list[int]:
    """Return the value after each term."""
    values: list[int] = []
    for operator, number in terms:
        values.append((values[-1] if values else 0) + (number if operator == "+" else -number))
    return values


def test_answer_is_the_value_of_what_the_prompt_says() -> None:
    for problem in DRAWS:
        assert problem.spec == {"answer": str(prefix_values(expression(problem))[-1])}, problem.prompt


def test_no_value_on_the_way_is_negative() -> None:
    assert all(min(prefix_values(expression(problem))) >= 0 for problem in DRAWS)


def test_level_is_the_number_of_operations() -> None:
    assert all(len(expression(problem)) == problem.level + 1 for problem in DRAWS)


def test_both_operations_and_both_notations_occur_at_every_level() -> None:
    for level in sums.LEVELS:
        prompts = " ".join(p.prompt for p in DRAWS if p.level == level and p.language == "en")
        for sign in (" + ", " - ", " plus ", " minus "):
            assert sign in prompts


def test_chinese_problems_are_chinese_and_english_ones_are_ascii() -> None:
    for problem in DRAWS:
        assert problem.prompt.isascii() == (problem.language == "en")


@pytest.mark.parametrize("level", sums.LEVELS)
def test_a_draw_is_a_function_of_its_generator(level: int) -> None:
    draws = [sums.draw(rng_from("again", 3), level, "en") for _ in range(2)]
    assert draws[0] == draws[1]


@given(st.lists(st.tuples(st.sampled_from("+-"), st.integers(1, 50)), max_size=3), st.randoms())
def test_all_orders_of_a_sum_are_one_problem(rest: list[tuple[str, int]], rng: object) -> None:
    terms = [("+", 50), *rest]
    shuffled = sorted(terms, key=lambda _: rng.random())  # type: ignore[attr-defined]  # hypothesis leaves it untyped
    assert sums.canonical(shuffled) == sums.canonical(terms)


def test_training_begins_without_single_steps_and_ends_with_equal_shares() -> None:
    first = Counter(sums.level_at(step, position) for step in range(12) for position in range(12))
    last = Counter(sums.level_at(30, position) for position in range(12))
    assert set(first) == {2, 3}
    assert last == {1: 4, 2: 4, 3: 4}


def test_the_suite_has_as_many_sums_of_each_level_all_held_out() -> None:
    mixed, hard = sums_problems()
    assert Counter(problem.level for problem in mixed) == {1: 25, 2: 25, 3: 25}
    assert {problem.level for problem in hard} == {3}
    assert {split_of(problem.id) for problem in (*mixed, *hard)} == {"eval"}


def test_a_suite_larger_than_its_family_is_refused() -> None:
    with pytest.raises(AssertionError, match="sums of level 1 holds fewer problems than wanted"):
        distinct_problems("too many", [(sums, 1)] * 100, chinese_share=0)


def test_ids_of_different_sums_differ() -> None:
    by_id: dict[str, list[tuple[str, int]]] = {}
    for problem in DRAWS:
        terms = sorted(expression(problem))
        assert by_id.setdefault(problem.id, terms) == terms


def test_id_is_the_expression() -> None:
    assert sums.canonical([("+", 12), ("-", 5), ("+", 23)]) == "23+12-5"


def test_train_and_evaluation_draws_are_disjoint() -> None:
    train, held_out = (
        {draw_from_split(rng_from("split", i), sums, 1, "en", split).id for i in range(300)}
        for split in ("train", "eval")
    )
    assert not train & held_out


def test_worked_examples_do_every_step_right() -> None:
    for question, thought, answer in EXAMPLES:
        steps = re.findall(r"(\d+) ([-+]) (\d+) = (\d+)", thought)
        asked = [int(number) for number in re.findall(r"\d+", question)]
        running = asked[0]
        for left, operator, right, result in steps:
            assert int(left) == running
            running += int(right) if operator == "+" else -int(right)
            assert int(result) == running
        assert [int(step[2]) for step in steps] == asked[1:]
        assert str(running) == answer


def test_worked_examples_are_not_evaluation_problems() -> None:
    for question, _, _ in EXAMPLES:
        problem = Problem(
            id="", family="", level=1, language="en", prompt=question, verifier="number", spec={}
        )
        assert split_of(f"sums-{sums.canonical(expression(problem))}") == "train"
