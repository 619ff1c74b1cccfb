"""Preference as a reward: who judges what, when it counts, and what happens when a model fails."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from fakes import Shape, byte_tokenizer, number_problem, tiny_model
from processes import arguments_of, call_main
from scripted import member, save_talking_model, write_problems
from zerone.config import build_config
from zerone.data.preferences import Kind
from zerone.errors import ConfigError
from zerone.problems import requests
from zerone.reward_model.scorer import RewardModel, new_head, save_reward_model
from zerone.rewards.preference import is_due, kind_of
from zerone.rewards.total import RewardRules, RewardWeights, grade_all
from zerone.seeding import rng_from
from zerone.train.loop import weights_of
from zerone.types import Outcome, Problem, Rollout

TEXTS = [
    "<think>a</think>\n<answer>short</answer>",
    "<think>a</think>\n<answer>much longer</answer>",
    "no tags",
]


def request(kind: str = "greeting") -> Problem:
    """Return a request of the embedded world of some kind."""
    for i in range(100):
        rng = rng_from("preference", i)
        problem = requests.draw(rng, rng.choice(requests.LEVELS), "en")
        if problem.spec["kind"] == kind:
            return problem
    raise AssertionError(f"no request is of kind {kind}")


def answers(problem: Problem) -> list[Rollout]:
    return [member(text=text, problem=problem, completion=[3]).rollout for text in TEXTS]


def by_length(asked: Sequence[tuple[str, str]]) -> list[float]:
    """Prefer long responses, and refuse to judge what has no tags."""
    if any("<" not in response for _, response in asked):
        raise ValueError("too long")
    return [min(1.0, len(response) / 100) for _, response in asked]


WEIGHTS = RewardWeights(format=0.1, preference=2.0)


def test_a_request_belongs_to_one_model_and_reasoning_to_none() -> None:
    assert kind_of(request("refuse")) == "safety"
    assert kind_of(request("help")) == kind_of(request("greeting")) == "helpfulness"
    assert kind_of(number_problem()) is None


def test_a_request_earns_preference_and_format_in_place_of_its_rule() -> None:
    rules = RewardRules(preferences={"helpfulness": by_length})
    for graded, text in zip(grade_all(answers(request())[:2], WEIGHTS, rules=rules), TEXTS, strict=False):
        assert graded.parts["helpfulness"] == len(text) / 100
        assert graded.reward == pytest.approx(0.1 + 2.0 * len(text) / 100)


def test_what_a_model_cannot_judge_is_left_out_and_costs_its_group_nothing() -> None:
    rules = RewardRules(preferences={"helpfulness": by_length})
    graded = grade_all(answers(request()), WEIGHTS, rules=rules)
    assert [one.is_judged for one in graded] == [True, True, False]
    assert graded[2].outcome is Outcome.INFRASTRUCTURE_ERROR
    assert [one.parts.get("helpfulness") for one in graded[:2]] == [len(text) / 100 for text in TEXTS[:2]]


def test_reasoning_and_requests_without_a_model_keep_their_rules() -> None:
    plain = RewardWeights(format=0.1)
    rules = RewardRules(preferences={"helpfulness": by_length})
    for problem in (number_problem(), request("refuse")):
        found = grade_all(answers(problem)[:2], WEIGHTS, rules=rules)
        assert found == grade_all(answers(problem)[:2], plain, rules=RewardRules())


def test_before_it_is_due_a_request_earns_its_format_alone() -> None:
    def never(asked: Sequence[tuple[str, str]]) -> list[float]:
        raise AssertionError("asked too early")

    rules = RewardRules(preferences={"helpfulness": never})
    found = grade_all(answers(request()), RewardWeights(format=0.1), rules=rules)
    assert [graded.reward for graded in found] == [0.1, 0.1, 0.0]
    assert all("helpfulness" not in graded.parts for graded in found)


@pytest.mark.parametrize(
    ("num_steps", "share", "first"),
    [(1700, 400 / 1700, 1300), (10, 1.0, 0), (4, 0.25, 3), (30, 0.25, 22), (2, 0.2, 1), (1, 0.25, 0)],
)
def test_preference_counts_in_the_last_steps_only_and_at_least_in_one(
    num_steps: int, share: float, first: int
) -> None:
    due = [step for step in range(num_steps) if is_due(step, num_steps, share)]
    assert due == list(range(first, num_steps))
    config = build_config(
        {
            "rl.steps": num_steps,
            "reward.preference_share": share,
            "reward.preference": 0.5,
            "reward.safety_model": "x",
        }
    )
    assert [weights_of(config, step).preference for step in (first, max(0, first - 1))] == [
        0.5,
        0.5 if first == 0 else 0.0,
    ]


def test_a_model_without_a_weight_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"a reward model is given and reward\.preference is 0"):
        build_config({"reward.helpfulness_model": "x"})


def save_reward(path: Path, kind: Kind) -> Path:
    head = new_head(32)
    head.weight.data.normal_()
    module = tiny_model(Shape(context=1024), 3)
    save_reward_model(RewardModel(module=module, tokenizer=byte_tokenizer(), head=head, kind=kind), path)
    return path


def test_a_run_is_paid_by_a_reward_model_in_its_last_steps(tmp_path: Path) -> None:
    save_talking_model(tmp_path / "base")
    write_problems(tmp_path / "problems.jsonl")
    reward = save_reward(tmp_path / "reward", "helpfulness")
    options = ["reward.preference=1", "reward.preference_share=0.5", "rl.steps=2", "eval.problems=2"]
    arguments = arguments_of(tmp_path, "run", *options, f"reward.helpfulness_model={reward}")
    code, _, err = call_main(tmp_path, *arguments)
    assert code == 0, err
    environment = json.loads((tmp_path / "run" / "environment.json").read_text(encoding="utf-8"))
    assert environment["reward_models"].keys() == {"helpfulness"}
    code, _, err = call_main(tmp_path, *arguments_of(tmp_path, "x", *options))
    assert (code, "needs reward.helpfulness_model or reward.safety_model" in err) == (2, True)
    code, _, err = call_main(
        tmp_path, *arguments_of(tmp_path, "x", *options, f"reward.safety_model={reward}")
    )
    assert (code, "judges helpfulness; train one of safety" in err) == (2, True)
