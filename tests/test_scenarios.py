"""Problems of all scenarios: general requests among the reasoning ones, and only once they are due."""

from scripted import make_config
from zerone.evals.suites import data_of
from zerone.problems.mixture import EmbeddedMixture
from zerone.problems.scenarios import GENERAL_SHARE, AllScenarios
from zerone.rewards.preference import kind_of

MIXTURE = AllScenarios(seed=3, reasoning=EmbeddedMixture(seed=3), general_from=5)


def test_before_they_are_due_there_are_no_requests() -> None:
    assert MIXTURE.draw(4, 40) == EmbeddedMixture(seed=3).draw(4, 40)


def test_from_then_on_each_step_has_its_share_of_requests() -> None:
    for step in (5, 6, 50):
        drawn = MIXTURE.draw(step, 100)
        general = [problem for problem in drawn if kind_of(problem)]
        assert len(general) == round(100 * GENERAL_SHARE)
        assert {problem.family for problem in drawn} == {"countdown", "arithmetic", "requests"}
        assert {kind_of(problem) for problem in general} == {"helpfulness", "safety"}
    assert any(kind_of(problem) for problem in MIXTURE.draw(5, 4)), "a small step has some as well"


def test_a_problem_depends_on_its_place_alone() -> None:
    assert MIXTURE.draw(7, 4, first=3) == MIXTURE.draw(7, 10)[3:7]
    assert MIXTURE.draw(7, 10) != MIXTURE.draw(8, 10)


def test_a_run_that_is_paid_by_preference_has_requests_when_it_is() -> None:
    for family in ("embedded", "sums"):
        plain = data_of(make_config(data__family=family, rl__steps=8))
        data = data_of(make_config(data__family=family, rl__steps=8, reward__preference=0.5))
        assert data.mixture.draw(5, 20) == plain.mixture.draw(5, 20)
        assert sum(kind_of(problem) is not None for problem in data.mixture.draw(6, 20)) == 9
        assert data.description.endswith("; general requests from step 7 on")
        assert data.verifiers == plain.verifiers | {"judge"}
        assert (data.mixed, data.hard) == (plain.mixed, plain.hard), "reasoning is what is followed"


def test_paid_from_the_start_it_has_requests_from_the_start() -> None:
    data = data_of(make_config(rl__steps=8, reward__preference=0.5, reward__preference_share=1.0))
    assert any(kind_of(problem) for problem in data.mixture.draw(0, 10))
