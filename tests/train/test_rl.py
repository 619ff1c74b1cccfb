"""The loop: it learns what can be learned, draws what it should, and repeats itself exactly.

All runs here go through the real engine, verifiers and run directory; the models are tiny.
"""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from fakes import Shape, tiny_model
from scripted import (
    bandit_config,
    bandit_engine,
    bandit_mixture,
    bandit_model,
    bandit_problems,
    bandit_prompt,
    bandit_tokenizer,
    copies,
    credited,
    forced_logprobs,
    is_unchanged,
    make_config,
    make_engine,
    member,
    new_run,
    play,
    play_digits,
    talking_model,
)
from training import make_learner, train, update
from zerone.engine.api import Request, SamplingParams
from zerone.engine.torch.engine import TorchEngine
from zerone.engine.weights import ModuleWeights
from zerone.runs.checkpoint import Progress
from zerone.train.advantage import credit
from zerone.train.loop import Clock, Hooks, collect, requests_for
from zerone.types import Credited, Problem, Rollout

# Learning -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kl_coef", [0.0, 0.001])
def test_bandit_with_another_right_arm_per_question_is_solved(kl_coef: float, tmp_path: Path) -> None:
    """Eight arms and a guess is right once in seventeen; no arm is right for two questions."""
    config = bandit_config(rl__steps=40, loss__kl_coef=kl_coef)
    model = bandit_model()
    reference = copy.deepcopy(model) if kl_coef else None
    learner = make_learner(model, config, reference=reference)
    run = play(config, learner, bandit_engine(model, config), tmp_path)
    rewards = [line["reward_mean"] for line in run.read_metrics()]
    assert rewards[0] < 0.2
    assert min(rewards[-5:]) > 0.95
    assert learner.progress == Progress(step=40, updates=80)
    for problem in bandit_problems(4):
        greedy = bandit_engine(model, config).generate(
            [Request(problem=problem, prompt_ids=bandit_prompt(problem), seeds=(0,))],
            SamplingParams(temperature=0, max_tokens=1),
        )
        assert greedy[0][0].text == f"<answer>{problem.spec['answer']}</answer>"


def test_talking_model_learns_the_format_and_then_some(tmp_path: Path) -> None:
    """Many tokens per answer, packed, in several micro-batches: the whole path, not a bandit's."""
    config = make_config(
        rl__steps=12,
        rl__problems_per_step=8,
        rl__group_size=12,
        sampling__max_tokens=32,
        optim__learning_rate=0.01,
        loss__clip_high=0.28,
    )
    model = talking_model()
    learner = make_learner(model, config)
    run = play_digits(config, learner, make_engine(model, slots=64), tmp_path)
    metrics = run.read_metrics()
    assert metrics[0]["format"] < 0.7
    assert metrics[-1]["format"] > 0.9
    assert metrics[-1]["reward_mean"] > metrics[0]["reward_mean"] + 0.05


def test_repeated_updates_on_one_batch_raise_the_probability_of_what_was_rewarded() -> None:
    model = tiny_model(Shape(kind="qwen3"))
    config = make_config(
        rl__minibatches=1,
        rl__max_mismatch_kl=1e9,
        loss__clip_high=1e6,
        optim__learning_rate=0.001,
    )
    groups = []
    for i in range(3):
        prompt = (50 + i, 7)
        blanks = [
            member(prompt=prompt, completion=(10 + i, 20 + j, 30, 40 + j), reward=float(j == i), sample=j)
            for j in range(4)
        ]
        members = [
            member(
                prompt=prompt,
                completion=blank.rollout.completion_ids,
                logprobs=forced_logprobs(model, blank.rollout).tolist(),
                reward=blank.reward,
                sample=blank.rollout.sample,
            )
            for blank in blanks
        ]
        groups.append(credited(members, [2.0 if j == i else -2 / 3 for j in range(4)]))
    learner = make_learner(model, config, updates=1)

    def mean_logprob(is_wanted: bool) -> float:
        sums = [
            forced_logprobs(model, graded.rollout).sum().item()
            for whole in groups
            for graded in whole.group.members
            if (graded.reward == 1.0) is is_wanted
        ]
        return sum(sums) / len(sums)

    right, wrong = [mean_logprob(True)], [mean_logprob(False)]
    for step in range(15):
        update(config, learner, groups, step)
        right.append(mean_logprob(True))
        wrong.append(mean_logprob(False))
    assert right == sorted(right)
    assert right[-1] > right[0] + 5
    assert right[-1] - wrong[-1] > right[0] - wrong[0] + 5


# The reference, refills, seeds --------------------------------------------------------------------


def test_reference_becomes_the_policy_every_n_steps_and_only_then(tmp_path: Path) -> None:
    config = bandit_config(rl__steps=5, rl__reference_every=2, loss__kl_coef=0.01)
    model = bandit_model()
    learner = make_learner(model, config, reference=copy.deepcopy(model))
    seen = []

    def after_step(metrics: Mapping[str, Any], timing: Mapping[str, Any], groups: Sequence[Credited]) -> None:
        seen.append((copies(learner.module), copies(learner.reference)))

    hooks = Hooks(before_step=lambda step: None, after_step=after_step)
    first = copies(model)
    engine = bandit_engine(model, config)
    train(config, learner, engine, bandit_mixture(config), bandit_prompt, new_run(tmp_path), hooks)
    policies = [policy for policy, _ in seen]
    expected = [first, policies[1], policies[1], policies[3], policies[3]]
    for (policy, reference), wanted in zip(seen, expected, strict=True):
        assert all(torch.equal(reference[name], wanted[name]) for name in wanted)
        assert not all(torch.equal(policy[name], first[name]) for name in first)


class Counter:
    """A mixture that notes what was drawn."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self._problems = problems
        self.drawn: list[tuple[int, int, int]] = []

    def draw(self, step: int, num_problems: int, first: int = 0) -> list[Problem]:
        self.drawn.append((step, num_problems, first))
        return [self._problems[j % len(self._problems)] for j in range(first, first + num_problems)]


def test_refill_draws_again_for_groups_without_signal_until_there_are_enough() -> None:
    """Four answers of an untrained bandit differ in reward about once in five groups."""
    config = bandit_config(rl__group_size=4, rl__refill=60)
    model = bandit_model()
    mixture = Counter(bandit_problems(4))
    groups = collect(config, bandit_engine(model, config), mixture, bandit_prompt, 5, Clock())
    telling = [credited for credited in credit(groups, "group") if credited.has_signal]
    assert len(telling) == config.rl.problems_per_step
    assert len(mixture.drawn) > 2
    expected_first = 0
    for step, num_problems, first in mixture.drawn:
        assert (step, first) == (5, expected_first)
        expected_first += num_problems
    assert len(groups) == expected_first


def test_refill_ends_after_its_drawings_and_zero_draws_once() -> None:
    never = [Problem(**{**_fields(problem), "spec": {"answer": "none"}}) for problem in bandit_problems(2)]
    for refill, expected in ((2, 3), (0, 1)):
        model, mixture = bandit_model(), Counter(never)
        config = bandit_config(rl__group_size=2, rl__refill=refill)
        groups = collect(config, bandit_engine(model, config), mixture, bandit_prompt, 0, Clock())
        assert len(mixture.drawn) == expected
        assert len(groups) == expected * config.rl.problems_per_step


def _fields(problem: Problem) -> dict[str, Any]:
    return {name: getattr(problem, name) for name in Problem.__dataclass_fields__}


def test_refilled_problems_are_answered_with_seeds_of_their_own() -> None:
    config = bandit_config(rl__group_size=2, rl__refill=3)
    seeds: list[int] = []

    class Watching(TorchEngine):
        def generate(self, requests: Sequence[Request], sampling: SamplingParams) -> list[list[Rollout]]:
            seeds.extend(seed for request in requests for seed in request.seeds)
            return super().generate(requests, sampling)

    engine = Watching(bandit_tokenizer(), (0,), 512, config.sampling.slots, torch.float32)
    engine.update_weights(ModuleWeights(bandit_model()), 0)
    collect(config, engine, Counter(bandit_problems(1)), bandit_prompt, 0, Clock())
    assert len(seeds) > 16
    assert len(set(seeds)) == len(seeds)


def test_seeds_of_answers_are_distinct_and_a_function_of_their_place() -> None:
    problems = bandit_problems(3)
    one = requests_for(problems, bandit_prompt, 4, (0, "rollout", 1, 0))
    again = requests_for(problems, bandit_prompt, 4, (0, "rollout", 1, 0))
    later = requests_for(problems, bandit_prompt, 4, (0, "rollout", 2, 0))
    more = requests_for(problems, bandit_prompt, 6, (0, "rollout", 1, 0))
    assert [(r.problem, r.prompt_ids, r.seeds) for r in one] == [
        (r.problem, r.prompt_ids, r.seeds) for r in again
    ]
    assert [request.seeds for request in one] == [request.seeds[:4] for request in more]
    seeds = [seed for request in (*one, *later) for seed in request.seeds]
    assert len(set(seeds)) == len(seeds) == 24


# Exactness ----------------------------------------------------------------------------------------


def test_two_runs_of_one_seed_write_the_same_metrics_and_another_seed_does_not(tmp_path: Path) -> None:
    lines = []
    for name, seed in (("one", 0), ("two", 0), ("other", 1)):
        config = bandit_config(rl__steps=3, seed=seed)
        model = bandit_model()
        run = play(config, make_learner(model, config), bandit_engine(model, config), tmp_path / name)
        lines.append((run.path / "metrics.jsonl").read_bytes())
    assert lines[0] == lines[1] != lines[2]


def test_loop_goes_on_from_where_progress_stands(tmp_path: Path) -> None:
    """Two steps and then two more of the same learner are the four steps of one call."""
    model, other = bandit_model(), bandit_model()
    whole = bandit_config(rl__steps=4)
    run = play(whole, make_learner(model, whole), bandit_engine(model, whole), tmp_path / "whole")
    learner = make_learner(other, whole)
    for steps in (2, 4):
        part = play(bandit_config(rl__steps=steps), learner, bandit_engine(other, whole), tmp_path / "parts")
    assert (part.path / "metrics.jsonl").read_bytes() == (run.path / "metrics.jsonl").read_bytes()
    assert is_unchanged(other, copies(model))


def test_learning_rate_warms_up_and_updates_are_counted(tmp_path: Path) -> None:
    config = bandit_config(rl__steps=3, rl__minibatches=2, optim__warmup_updates=4, optim__learning_rate=0.01)
    model = bandit_model()
    learner = make_learner(model, config)
    used: list[float] = []
    learner.optimizer.register_step_pre_hook(
        lambda optimizer, *_: used.append(optimizer.param_groups[0]["lr"])
    )
    lines = play(config, learner, bandit_engine(model, config), tmp_path).read_metrics()
    assert used == pytest.approx([0.0025, 0.005, 0.0075, 0.01, 0.01, 0.01])
    assert [line["learning_rate"] for line in lines] == pytest.approx(used[1::2]), "of the step's last update"
    assert [line["weight_version"] for line in lines] == [2, 4, 6]
    assert [line["num_updates"] for line in lines] == [2, 2, 2]


def test_rollouts_of_a_step_come_from_the_weights_after_the_step_before(tmp_path: Path) -> None:
    config = bandit_config(rl__steps=3)
    model = bandit_model()
    run = play(config, make_learner(model, config), bandit_engine(model, config), tmp_path)
    rows = run.query("SELECT DISTINCT step, weight_version FROM rollouts ORDER BY step")
    assert [tuple(row) for row in rows] == [(1, 0), (2, 2), (3, 4)]


def test_hooks_see_every_step_in_order(tmp_path: Path) -> None:
    config = bandit_config(rl__steps=3)
    model = bandit_model()
    seen: list[tuple[str, int]] = []
    hooks = Hooks(
        before_step=lambda step: seen.append(("before", step)),
        after_step=lambda metrics, timing, groups: seen.append(("after", metrics["step"])),
    )
    engine = bandit_engine(model, config)
    train(
        config,
        make_learner(model, config),
        engine,
        bandit_mixture(config),
        bandit_prompt,
        new_run(tmp_path),
        hooks,
    )
    assert seen == [("before", 0), ("after", 1), ("before", 1), ("after", 2), ("before", 2), ("after", 3)]


def test_timing_names_the_phases_and_adds_up(tmp_path: Path) -> None:
    config = bandit_config(rl__steps=1)
    model = bandit_model()
    run = play(config, make_learner(model, config), bandit_engine(model, config), tmp_path)
    (timing,) = run.read_timing()
    assert timing.keys() >= {"step", "generate_s", "reward_s", "train_s", "total_s"}
    parts = sum(value for key, value in timing.items() if key.endswith("_s") and key != "total_s")
    assert parts == pytest.approx(timing["total_s"], abs=0.05)


def test_several_epochs_make_more_updates_and_ratios_leave_one(tmp_path: Path) -> None:
    config = bandit_config(rl__steps=1, rl__epochs=3)
    model = bandit_model()
    run = play(config, make_learner(model, config), bandit_engine(model, config), tmp_path)
    (line,) = run.read_metrics()
    assert line["num_updates"] == 6
    assert line["ratio_max"] > 1.1
    assert 0 < line["clip_low"] + line["clip_high"] < 1
