"""Published problems: reference solutions are right, the next problem's answer is not, golds parse."""

import json
from pathlib import Path
from typing import Any

import pytest

from zerone.rewards.math.extraction import extract_math_answer
from zerone.rewards.math.verifier import check_gold, verify_math
from zerone.types import Outcome

DATA = Path(__file__).parents[3] / "shared" / "data"
pytestmark = pytest.mark.skipif(not DATA.exists(), reason="the public data sets are not here")

EQUAL_NEIGHBOURS = {("5", "x=5"), ("7", "7"), ("3", "3")}
"""Answers of consecutive MATH-500 problems that are truly equal."""


def rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / name).read_text(encoding="utf-8").splitlines()]


def outcome_of(solution: str, gold: str) -> Outcome:
    return verify_math(extract_math_answer(solution) or "", {"answer": gold}).outcome


def test_all_reference_solutions_of_math_500_are_right() -> None:
    problems = rows("math500.jsonl")
    wrong = [
        p["unique_id"] for p in problems if outcome_of(p["solution"], p["answer"]) is not Outcome.CORRECT
    ]
    assert (len(problems), wrong) == (500, [])


def test_no_solution_of_math_500_is_right_for_the_next_problem_unless_equal() -> None:
    problems = rows("math500.jsonl")
    pairs = list(zip(problems, [*problems[1:], problems[0]], strict=True))
    found = [(p, q, outcome_of(p["solution"], q["answer"])) for p, q in pairs]
    assert {o for _, _, o in found} == {Outcome.CORRECT, Outcome.WRONG}
    assert {(p["answer"], q["answer"]) for p, q, o in found if o is Outcome.CORRECT} == EQUAL_NEIGHBOURS


def test_every_gold_answer_of_gsm8k_aime_and_math_500_can_be_judged_against() -> None:
    golds = [row["answer"].rpartition("####")[2].strip() for row in rows("gsm8k_train.jsonl")]
    golds += [row["answer"].rpartition("####")[2].strip() for row in rows("gsm8k_test.jsonl")]
    golds += [str(row["answer"]) for row in rows("aime24.jsonl") + rows("math500.jsonl")]
    assert len(golds) == 7473 + 1319 + 30 + 500
    assert [gold for gold in golds if check_gold(gold) is not None] == []
    assert {verify_math(gold, {"answer": gold}).outcome for gold in golds} == {Outcome.CORRECT}


def test_all_reference_solutions_of_aime_are_right() -> None:
    problems = rows("aime24.jsonl")
    wrong = [p["id"] for p in problems if outcome_of(p["solution"], str(p["answer"])) is not Outcome.CORRECT]
    assert (len(problems), wrong) == (30, [])
