"""Problems of all scenarios: general requests among the reasoning ones, and only once they are due."""

import json
from pathlib import Path
from typing import Any

import pytest

from scripted import make_config
from zerone.config import Config
from zerone.curation.settings import _problems
from zerone.errors import ConfigError
from zerone.jobs.data import data_of
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


# Requests in a file of one's own ------------------------------------------------------------------


def own_config(folder: Path, num_reasoning: int, num_requests: int, **options: Any) -> Config:
    """Return the configuration of 8 steps of 4 problems from a file with requests among others."""
    lines = [{"prompt": f"What is {i} + 1?", "answer": str(i + 1)} for i in range(num_reasoning)]
    requests = [{"prompt": f"Write a line on {i}.", "verifier": "judge"} for i in range(num_requests)]
    path = folder / "own.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in [*lines, *requests]), encoding="utf-8")
    return make_config(data__path=str(path), data__eval_share=0.2, rl__steps=8, **options)


PAID = {"reward__preference": 0.5, "reward__preference_share": 0.25, "reward__helpfulness_model": "x"}


def test_requests_of_ones_own_come_once_they_are_due(tmp_path: Path) -> None:
    """Before, nothing judges them: all answers would be left out of training."""
    data = data_of(own_config(tmp_path, 40, 40, **PAID))
    for step in range(6):
        drawn = [*data.mixture.draw(step, 4), *data.mixture.draw(step, 4, first=4)]
        assert len(drawn) == 8
        assert not any(kind_of(problem) for problem in drawn)
    later = [problem for step in (6, 7) for problem in data.mixture.draw(step, 20)]
    assert 0.25 < sum(kind_of(problem) is not None for problem in later) / 40 < 0.75, "half of the file"
    assert any(kind_of(problem) for problem in data.listed), "their prompts are measured before the start"
    assert " general requests from step 7 on" in data.description
    assert "judge" in data.verifiers


def test_paid_from_the_start_or_without_requests_a_file_is_drawn_as_it_is(tmp_path: Path) -> None:
    for num_requests, share in ((40, 1.0), (0, 0.25)):
        paid = own_config(tmp_path, 40, num_requests, **PAID | {"reward__preference_share": share})
        data, plain = data_of(paid), data_of(own_config(tmp_path, 40, num_requests))
        assert [data.mixture.draw(i, 4) for i in range(8)] == [plain.mixture.draw(i, 4) for i in range(8)]
        assert data.description == plain.description


def test_a_file_of_requests_alone_must_be_paid_from_the_start(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"before step 7 of 8 nothing judges them; set reward\.preference_sh"
    ):
        data_of(own_config(tmp_path, 0, 40, **PAID))


def test_curation_has_no_steps_and_takes_every_line_of_a_file(tmp_path: Path) -> None:
    found = _problems(own_config(tmp_path, 40, 40, **PAID, curate__prompts=60))
    assert any(kind_of(problem) for problem in found)
    assert any(kind_of(problem) is None for problem in found)
