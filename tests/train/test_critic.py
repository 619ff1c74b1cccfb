"""PPO's critic: estimates by the equations, values of the right states, and a policy that learns by it.

Tolerance: fp32 sums of some hundred numbers in another order, as in tests/test_batch.py.

Dimensions: C completion tokens, T tokens of one answer.
"""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fakes import Shape, number_problem, random_tokens, tiny_model
from scripted import (
    bandit_config,
    bandit_engine,
    bandit_model,
    copies,
    credited,
    forced_logprobs,
    is_unchanged,
    make_config,
    make_engine,
    member,
    play,
    play_digits,
    talking_model,
)
from training import Learner, Passes, backward, logits_of, make_learner, update
from zerone.config import Config
from zerone.errors import TrainingError
from zerone.jobs.algorithm import RATE_FACTOR
from zerone.train.batch import Aggregation, Batch, make_batches
from zerone.train.critic import (
    Critic,
    ValueObjective,
    explained_variance,
    gae,
    token_rewards,
    value_loss,
    whitened,
)
from zerone.train.loss import Objective
from zerone.types import Credited, Outcome

TOLERANCE = 1e-5
OBJECTIVE = Objective(clip_low=0.2, clip_high=0.2, kl_coef=0.0, kl_estimator="k3")
LENGTHS = ((4, 9, 1), (3, 6), (5, 2, 7, 7))


def ppo_config(**options: Any) -> Config:
    settings = {"rl__algorithm": "ppo", "rl__minibatches": 1, "rl__max_mismatch_kl": 1e9}
    return make_config(**settings | options)


def sampled_groups(model: Any) -> list[Credited]:
    """Return groups of unequal lengths and rewards with the model's own log-probabilities."""
    groups = []
    for number, lengths in enumerate(LENGTHS):
        members = []
        for j, length in enumerate(lengths):
            prompt = (5, *random_tokens(1 + number, "prompt", number))
            completion = random_tokens(length, "completion", number, j)
            blank = member(prompt=prompt, completion=completion)
            members.append(
                member(
                    prompt=prompt,
                    completion=completion,
                    logprobs=forced_logprobs(model, blank.rollout).tolist(),
                    reward=float((number + j) % 2),
                    sample=j,
                    problem=number_problem(number),
                )
            )
        groups.append(credited(members, [0.0] * len(members)))
    return groups


def batches_of(
    groups: Sequence[Credited],
    size: int = 10_000,
    estimates: Any = None,
    aggregation: Aggregation = "token",
) -> list[Batch]:
    return list(
        make_batches(
            groups,
            aggregation=aggregation,
            max_tokens=16,
            mask_truncated=False,
            keep_silent=True,
            microbatch_tokens=size,
            estimates=estimates,
        )
    )


def talkative_critic(learner: Learner) -> Critic:
    """Return the learner's critic with a head that is not zero, so that values differ."""
    assert learner.critic is not None
    head: Any = learner.critic.trainer.module.lm_head
    with torch.no_grad():
        head.weight.copy_(torch.randn(head.weight.shape, generator=torch.Generator().manual_seed(3)))
    return learner.critic


def new_learner(config: Config, seed: int = 0, *, tied: bool = True, reference: Any = None) -> Learner:
    model = tiny_model(Shape(kind="qwen3", tied=tied), seed)
    return make_learner(model, config, updates=1, reference=reference)


# Generalised advantage estimation -----------------------------------------------------------------


def gae_by_the_equation(
    rewards_T: Sequence[float], values_T: Sequence[float], gamma: float, gae_lambda: float
) -> list[float]:
    """Return SUM_l (gamma lambda)^l delta_t+l for each t, with V = 0 after the end."""
    values = [*values_T, 0.0]
    advantages = []
    for t in range(len(rewards_T)):
        total = 0.0
        for later in range(t, len(rewards_T)):
            delta = rewards_T[later] + gamma * values[later + 1] - values[later]
            total += (gamma * gae_lambda) ** (later - t) * delta
        advantages.append(total)
    return advantages


numbers = st.floats(-2, 2)
answers = st.lists(st.tuples(numbers, numbers), min_size=1, max_size=30)


@given(answers, st.floats(0.5, 1), st.floats(0, 1))
def test_gae_is_the_sum_of_the_equation(
    answer: list[tuple[float, float]], gamma: float, gae_lambda: float
) -> None:
    rewards_T, values_T = zip(*answer, strict=True)
    found = gae(rewards_T, values_T, gamma, gae_lambda)
    assert found == pytest.approx(gae_by_the_equation(rewards_T, values_T, gamma, gae_lambda), abs=1e-9)


@given(answers)
def test_with_gamma_and_lambda_one_an_advantage_is_the_rewards_to_come_minus_the_value(
    answer: list[tuple[float, float]],
) -> None:
    rewards_T, values_T = zip(*answer, strict=True)
    expected = [sum(rewards_T[t:]) - value for t, value in enumerate(values_T)]
    assert gae(rewards_T, values_T, 1.0, 1.0) == pytest.approx(expected, abs=1e-9)


def test_with_lambda_zero_an_advantage_is_one_step_of_surprise() -> None:
    assert gae([0, 0, 1], [0.5, 0.25, 0.75], 0.5, 0.0) == [0.5 * 0.25 - 0.5, 0.5 * 0.75 - 0.25, 0.25]


def test_whitened_advantages_have_mean_zero_and_deviation_one_over_all_tokens() -> None:
    found = whitened([[3.0, 1.0], [-2.0], [5.0, 0.5, 0.25]])
    assert [len(answer) for answer in found] == [2, 1, 3]
    flat = torch.tensor([number for answer in found for number in answer], dtype=torch.float64)
    assert flat.mean().item() == pytest.approx(0, abs=1e-12)
    assert flat.std(correction=0).item() == pytest.approx(1)
    assert found[0][0] > found[0][1] > found[1][0] < found[2][0]


def test_equal_advantages_are_whitened_to_zero_and_none_to_none() -> None:
    assert whitened([[0.3, 0.3], [0.3 + 1e-9]]) == [[0.0, 0.0], [0.0]]
    assert whitened([]) == []


def test_explained_variance_is_one_for_a_seer_and_zero_for_one_who_says_the_same() -> None:
    returns = [[1.0, 1.0], [0.0], [0.5, 0.25]]
    assert explained_variance(returns, returns) == pytest.approx(1)
    assert explained_variance(returns, [[0.4, 0.4], [0.4], [0.4, 0.4]]) == pytest.approx(0)
    opposite = explained_variance(returns, [[0.0, 0.0], [1.0], [0.5, 0.75]])
    assert opposite is not None
    assert opposite < 0
    assert explained_variance([[1.0], [1.0]], [[0.2], [0.4]]) is None


# Values, rewards, estimates -----------------------------------------------------------------------


@pytest.mark.parametrize("tied", [True, False])
def test_a_new_critic_is_a_copy_of_the_policy_that_says_zero(tied: bool) -> None:
    learner = new_learner(ppo_config(), tied=tied)
    policy, critic = learner.module, learner.critic
    assert critic is not None
    of_policy, of_critic = copies(policy), copies(critic.trainer.module)
    head = of_critic.pop("lm_head.weight")
    assert head.shape == (1, 32)
    of_policy.pop("lm_head.weight", None)
    assert of_critic.keys() == of_policy.keys()
    assert all(torch.equal(of_critic[name], of_policy[name]) for name in of_critic)
    shared = {p.data_ptr() for p in policy.parameters()} & {
        p.data_ptr() for p in critic.trainer.module.parameters()
    }
    assert not shared
    (batch,) = batches_of(sampled_groups(policy))
    assert torch.equal(
        logits_of(critic.trainer.module, batch).squeeze(1), torch.zeros(batch.num_completion_tokens)
    )


def test_values_are_those_of_the_states_before_each_token_as_transformers_computes_them() -> None:
    learner = new_learner(ppo_config())
    critic = talkative_critic(learner)
    module: Any = critic.trainer.module
    (batch,) = batches_of(sampled_groups(learner.module))
    expected = []
    for graded in batch.members:
        ids = torch.tensor([[*graded.rollout.prompt_ids, *graded.rollout.completion_ids]])
        hidden = module.model(ids).last_hidden_state[0, len(graded.rollout.prompt_ids) - 1 : -1]
        expected.append((hidden @ module.lm_head.weight.T).squeeze(1))
    found_C, expected_C = logits_of(critic.trainer.module, batch).squeeze(1), torch.cat(expected)
    assert expected_C.std() > 0.5
    assert (found_C - expected_C).abs().max() < TOLERANCE * expected_C.abs().max()


def test_the_reward_comes_with_the_last_token_and_the_kl_with_each() -> None:
    model = tiny_model(Shape(kind="qwen3"))
    (batch,) = batches_of(sampled_groups(model))
    reference_C = batch.sampler_logprobs_C + torch.linspace(-1, 1, batch.num_completion_tokens)
    lengths = [len(graded.rollout.completion_ids) for graded in batch.members]
    bare = token_rewards(batch, None, 0.1).split(lengths)
    punished = token_rewards(batch, reference_C, 0.1).split(lengths)
    gaps = (reference_C - batch.sampler_logprobs_C).split(lengths)
    assert {graded.reward for graded in batch.members} == {0.0, 1.0}
    for graded, one, other, gap in zip(batch.members, bare, punished, gaps, strict=True):
        assert one.tolist() == [0.0] * (len(one) - 1) + [graded.reward]
        torch.testing.assert_close(other - one, 0.1 * gap)


def test_estimates_do_not_depend_on_how_the_phase_is_cut_and_name_every_judged_answer() -> None:
    learner = new_learner(ppo_config(rl__gae_lambda=0.9))
    groups = sampled_groups(learner.module)
    failed = member(completion=(9, 9), outcome=Outcome.INFRASTRUCTURE_ERROR, reward=0.0)
    groups.append(credited([failed, member(completion=(8, 7))], [0.0, 0.0]))
    critic = talkative_critic(learner)
    whole, parts = (critic.estimate(batches_of(groups, size), None) for size in (10_000, 12))
    (batch,) = batches_of(groups)
    parts_C = (
        logits_of(critic.trainer.module, batch)
        .squeeze(1)
        .split([len(graded.rollout.completion_ids) for graded in batch.members])
    )
    values_of = {id(graded): v.tolist() for graded, v in zip(batch.members, parts_C, strict=True)}
    judged = [graded for g in groups for graded in g.group.members if graded is not failed]
    assert whole.by_member.keys() == parts.by_member.keys() == set(map(id, judged))
    for graded in judged:
        one, other = whole.by_member[id(graded)], parts.by_member[id(graded)]
        assert one.advantages == pytest.approx(other.advantages, abs=1e-4)
        values, rewards = values_of[id(graded)], [0.0] * len(one.returns)
        rewards[-1] = graded.reward
        raw = gae_by_the_equation(rewards, values, 1.0, 0.9)
        expected = [advantage + value for advantage, value in zip(raw, values, strict=True)]
        assert one.returns == pytest.approx(expected, abs=1e-5)


def test_the_policy_is_trained_by_the_advantage_of_each_token() -> None:
    """At ratio 1 the loss is minus the weighted sum of advantages; those of an answer differ."""
    learner = new_learner(ppo_config(rl__gae_lambda=0.5))
    groups = sampled_groups(learner.module)
    estimates = talkative_critic(learner).estimate(batches_of(groups), None).by_member
    (batch,) = batches_of(groups, estimates=estimates, aggregation="sequence")
    advantages = [number for g in batch.members for number in estimates[id(g)].advantages]
    assert len(set(advantages)) == batch.num_completion_tokens
    torch.testing.assert_close(batch.advantages_C, torch.tensor(advantages))
    passes = Passes(learner.module, None, learner.dtype)
    terms, _ = backward(passes, batch, OBJECTIVE, 1.0)
    expected = -(batch.weights_C * batch.advantages_C).sum().item()
    assert abs(expected) > 0.01
    assert terms.loss.item() == pytest.approx(expected, abs=TOLERANCE)


# The value loss -----------------------------------------------------------------------------------


def test_value_loss_is_half_the_weighted_square() -> None:
    values_C, returns_C = torch.tensor([1.0, 0.0, 2.0]), torch.tensor([1.5, 3.0, 1.0])
    weights_C = torch.tensor([0.5, 0.25, 0.25])
    expected = (0.5 * 0.25 + 0.25 * 9 + 0.25 * 1) / 2
    assert value_loss(values_C, returns_C, weights_C).item() == pytest.approx(expected)


def test_value_loss_and_gradient_are_invariant_to_micro_batching() -> None:
    learner = new_learner(ppo_config())
    groups = sampled_groups(learner.module)
    critic = talkative_critic(learner)
    estimates = critic.estimate(batches_of(groups), None).by_member
    losses, gradients = [], []
    for size in (10_000, 20, 1):
        batches = batches_of(groups, size, estimates)
        losses.append(critic.trainer.forward_backward(batches, ValueObjective()))
        gradients.append(
            {
                name: p.grad.clone()
                for name, p in critic.trainer.module.named_parameters()
                if p.grad is not None
            }
        )
        critic.trainer.module.zero_grad(set_to_none=True)
    assert len(batches) == sum(map(len, LENGTHS))
    assert losses[0] > 0.1
    assert losses == pytest.approx([losses[0]] * 3, rel=TOLERANCE)
    for other in gradients[1:]:
        for name, gradient in gradients[0].items():
            assert (other[name] - gradient).abs().max() <= 10 * TOLERANCE * gradient.abs().max(), name


def test_a_ruined_gradient_stops_the_critic_before_anything_changes() -> None:
    learner = new_learner(ppo_config())
    critic = talkative_critic(learner)
    before = copies(critic.trainer.module)
    estimates = critic.estimate(batches_of(groups := sampled_groups(learner.module)), None).by_member
    critic.trainer.forward_backward(batches_of(groups, estimates=estimates), ValueObjective())
    for parameter in critic.trainer.module.parameters():
        parameter.grad = torch.full_like(parameter, float("nan"))
    with pytest.raises(TrainingError, match=r"lower optim\.learning_rate"):
        critic.trainer.step(0.1)
    assert is_unchanged(critic.trainer.module, before)


# Learning -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kl_coef", [0.0, 0.01])
def test_ppo_solves_the_bandit(kl_coef: float, tmp_path: Path) -> None:
    config = bandit_config(rl__steps=40, rl__algorithm="ppo", loss__kl_coef=kl_coef)
    model = bandit_model()
    reference = copy.deepcopy(model) if kl_coef else None
    learner = make_learner(model, config, reference=reference)
    metrics = play(config, learner, bandit_engine(model, config), tmp_path).read_metrics()
    assert metrics[0]["reward_mean"] < 0.2
    assert min(line["reward_mean"] for line in metrics[-5:]) > 0.9
    assert all(line["value_loss"] >= 0 for line in metrics)
    assert (metrics[-1]["kl"] > 0.1) is bool(kl_coef)


def test_ppo_teaches_a_talking_model_the_format(tmp_path: Path) -> None:
    config = ppo_config(
        rl__steps=12,
        rl__problems_per_step=8,
        rl__group_size=12,
        rl__minibatches=2,
        rl__max_mismatch_kl=0.05,
        sampling__max_tokens=32,
        optim__learning_rate=0.01,
    )
    model = talking_model()
    metrics = play_digits(config, make_learner(model, config), make_engine(model, slots=64), tmp_path)
    lines = metrics.read_metrics()
    assert lines[0]["format"] < 0.7
    assert lines[-1]["format"] > 0.85


def test_repeated_updates_on_one_phase_make_a_seer_of_the_critic_and_raise_what_was_rewarded() -> None:
    config = ppo_config(optim__learning_rate=1e-3, loss__clip_high=1e6)
    learner = new_learner(config)
    groups = sampled_groups(learner.module)
    right = [g for whole in groups for g in whole.group.members if g.reward]

    def logprob_of_right() -> float:
        return sum(forced_logprobs(learner.module, graded.rollout).sum().item() for graded in right)

    before = logprob_of_right()
    stats = [update(config, learner, groups, step).critic for step in range(25)]
    assert stats[0] is not None
    assert stats[-1] is not None
    assert stats[0].explained_variance == pytest.approx(0, abs=1e-6)
    assert stats[-1].explained_variance is not None
    assert stats[-1].explained_variance > 0.7
    assert stats[-1].value_loss < 0.2 * stats[0].value_loss
    assert logprob_of_right() > before + 5


def test_a_group_of_equal_answers_teaches_ppo_and_not_grpo() -> None:
    """What no group can tell, a critic can: all answers to one question are right, to another wrong."""
    moved = []
    for algorithm in ("grpo", "ppo"):
        config = ppo_config(rl__algorithm=algorithm)
        learner = new_learner(config)
        groups: list[Credited] = []
        for whole in sampled_groups(learner.module)[:2]:
            rollouts = [graded.rollout for graded in whole.group.members]
            members = [
                member(
                    prompt=r.prompt_ids,
                    completion=r.completion_ids,
                    logprobs=r.sampler_logprobs,
                    reward=float(not groups),
                )
                for r in rollouts
            ]
            groups.append(credited(members, [0.0] * len(members)))
        before = copies(learner.module)
        stats = update(config, learner, groups, 0)
        moved.append(not is_unchanged(learner.module, before))
        assert (stats.critic is None) is (algorithm == "grpo")
    assert moved == [False, True]


def test_the_critics_rate_warms_up_with_that_of_the_policy(tmp_path: Path) -> None:
    config = bandit_config(
        rl__steps=2, rl__algorithm="ppo", optim__warmup_updates=4, optim__learning_rate=0.02 / RATE_FACTOR
    )
    model = bandit_model()
    learner = make_learner(model, config)
    assert learner.critic is not None
    used: list[float] = []
    learner.critic.trainer.optimizers[0].register_step_pre_hook(
        lambda optimizer, *_: used.append(optimizer.param_groups[0]["lr"])
    )
    play(config, learner, bandit_engine(model, config), tmp_path)
    assert used == pytest.approx([0.005, 0.01, 0.015, 0.02])


def test_grpo_has_no_critic_and_says_nothing_of_one(tmp_path: Path) -> None:
    config = bandit_config(rl__steps=1)
    model = bandit_model()
    learner = make_learner(model, config)
    (line,) = play(config, learner, bandit_engine(model, config), tmp_path).read_metrics()
    assert learner.critic is None
    assert not {"value_loss", "explained_variance"} & line.keys()
