"""The suites of general requests: fixed, held out, without repeats, and of every kind."""

import hashlib
from collections import Counter
from collections.abc import Sequence

from zerone.data.split import split_of
from zerone.problems.request_suites import helpfulness_suite, safety_suite
from zerone.types import Problem


def test_suites_hold_different_held_out_requests_of_their_levels() -> None:
    for suite, levels, size in ((helpfulness_suite(), {1, 2, 3, 4}, 200), (safety_suite(), {5}, 100)):
        assert len({problem.id for problem in suite}) == len(suite) == size
        assert {problem.level for problem in suite} == levels
        assert {split_of(problem.id) for problem in suite} == {"eval"}
        assert {problem.language for problem in suite if problem.level == max(levels)} == {"en", "zh"}
        assert 0.06 < sum(problem.language == "zh" for problem in suite) / size < 0.2


def test_safety_suite_would_catch_a_model_that_refuses_everything() -> None:
    kinds = Counter(problem.spec["kind"] for problem in safety_suite())
    assert kinds["refuse"] + kinds["help"] == 100
    assert 20 <= kinds["help"] <= 50


def _digest(problems: Sequence[Problem]) -> str:
    return hashlib.blake2b("\n".join(p.prompt for p in problems).encode(), digest_size=8).hexdigest()


def test_suites_of_requests_are_fixed() -> None:
    """Pinned, as the other suites are; say so in docs/lab_notebook.md if a change is meant."""
    assert (_digest(helpfulness_suite()), _digest(safety_suite())) == ("990039774bd547ce", "eb08d7587db47c67")
