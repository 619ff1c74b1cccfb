"""The loop stops before it would train on nonsense: wrong samplers, numbers that are not finite."""

import copy
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from fakes import tiny_model
from scripted import (
    bandit_config,
    bandit_engine,
    bandit_model,
    copies,
    credited,
    group_as_sampled,
    is_unchanged,
    make_config,
    make_engine,
    member,
    play,
    play_digits,
    talking_model,
)
from training import make_learner, update
from zerone.engine.api import Request, SamplingParams
from zerone.engine.torch.engine import TorchEngine
from zerone.engine.weights import ModuleWeights
from zerone.errors import TrainingError
from zerone.types import Rollout

# Step 0, and samplers that are not the policy -----------------------------------------------------


def test_before_the_first_update_the_ratio_is_one_and_the_kl_zero(tmp_path: Path) -> None:
    """In fp32 sampler and trainer differ by the order of additions, about 1e-6 per logarithm."""
    config = make_config(rl__steps=1, rl__minibatches=1, loss__kl_coef=0.1, sampling__max_tokens=24)
    model = talking_model()
    learner = make_learner(model, config, reference=copy.deepcopy(model))
    run = play_digits(config, learner, make_engine(model), tmp_path)
    (line,) = run.read_metrics()
    assert line["ratio_max"] == pytest.approx(1.0, abs=1e-4)
    assert 0 <= line["mismatch_kl"] < 1e-8
    assert line["kl"] == pytest.approx(0.0, abs=1e-9)
    assert (line["clip_low"], line["clip_high"]) == (0.0, 0.0)
    assert line["num_trained_tokens"] == line["num_sampled_tokens"] > 100


class WrongSampler:
    """An engine whose rollouts are not what they say: another model's, or with other numbers."""

    def __init__(self, engine: TorchEngine, *, shift: Sequence[float] = (0.0,), foreign: Any = None) -> None:
        self.weight_version = -1
        self._engine = engine
        self._shift = shift
        self._foreign = None if foreign is None else ModuleWeights(foreign)

    def update_weights(self, source: Any, version: int) -> None:
        self._engine.update_weights(self._foreign or source, version)
        self.weight_version = version

    def sleep(self) -> None:
        self._engine.sleep()

    def generate(self, requests: Sequence[Request], sampling: SamplingParams) -> list[list[Rollout]]:
        return [[self._changed(r) for r in answers] for answers in self._engine.generate(requests, sampling)]

    def _changed(self, rollout: Rollout) -> Rollout:
        shift = self._shift[rollout.sample % len(self._shift)]
        return Rollout(
            problem=rollout.problem,
            sample=rollout.sample,
            prompt_ids=rollout.prompt_ids,
            completion_ids=rollout.completion_ids,
            sampler_logprobs=tuple(logprob + shift for logprob in rollout.sampler_logprobs),
            text=rollout.text,
            finish=rollout.finish,
            weight_version=rollout.weight_version,
        )


@pytest.mark.parametrize(
    "shift",
    [(-0.01,), (0.01,), (0.0,) * 7 + (-0.3,), (0.0,) * 7 + (0.3,)],
    ids=["all too low", "all too high", "one in eight too low", "one in eight too high"],
)
def test_sampler_with_wrong_logprobs_stops_the_run_before_the_first_update(
    shift: tuple[float, ...], tmp_path: Path
) -> None:
    config = bandit_config(rl__steps=1)
    model = bandit_model()
    before = copies(model)
    engine = WrongSampler(bandit_engine(model, config), shift=shift)
    with pytest.raises(TrainingError, match="before the first update the ratio"):
        play(config, make_learner(model, config), engine, tmp_path)
    assert is_unchanged(model, before)


def test_sampler_of_other_weights_stops_the_run_before_the_first_update(tmp_path: Path) -> None:
    config = bandit_config(rl__steps=1)
    model = bandit_model()
    before = copies(model)
    engine = WrongSampler(bandit_engine(model, config), foreign=bandit_model(seed=1))
    with pytest.raises(TrainingError, match="Sampler and trainer compute different models"):
        play(config, make_learner(model, config), engine, tmp_path)
    assert is_unchanged(model, before)


def test_sampler_that_stays_behind_is_noticed_by_the_mismatch(tmp_path: Path) -> None:
    """The weights of the first step served for ever: right at first, then wrong by more and more."""
    config = bandit_config(rl__steps=40)
    model = bandit_model()
    engine = WrongSampler(bandit_engine(model, config), foreign=copy.deepcopy(model))
    learner = make_learner(model, config)
    with pytest.raises(TrainingError, match=r"sampler and trainer disagree by 0\.\d+ nats per token"):
        play(config, learner, engine, tmp_path)
    assert 0 < learner.progress.step < 20


def test_wrong_sampler_is_noticed_though_the_first_minibatch_is_silent() -> None:
    """Rare rewards leave whole minibatches without signal; the check must wait for the first tokens."""
    config = make_config(rl__minibatches=2)
    model = tiny_model()
    silent = credited([member(sample=j, logprobs=(-9.0,)) for j in range(2)], (0.0, 0.0))
    telling = credited([member(sample=j, logprobs=(-9.0,)) for j in range(2)], (1.0, -1.0))
    for groups in ([silent, telling], [telling, silent]):
        with pytest.raises(TrainingError):
            update(config, make_learner(model, config), groups, step=0)


# What cannot be trained on ------------------------------------------------------------------------


def test_loss_that_is_not_finite_stops_the_run_and_changes_no_weight() -> None:
    config = make_config(rl__minibatches=1)
    model = tiny_model()
    before = copies(model)
    with pytest.raises(TrainingError, match=r"the loss is nan and .* weights have not been changed"):
        update(config, make_learner(model, config, updates=1), [group_as_sampled(model, (math.nan, 1.0))], 3)
    assert is_unchanged(model, before)


def test_gradient_that_is_not_finite_stops_the_run_and_changes_no_weight() -> None:
    """A loss can be finite where its gradient is not; clipping would spread NaN to every weight."""
    config = make_config(rl__minibatches=1, rl__max_mismatch_kl=1e300)
    model = tiny_model()
    before = copies(model)
    with pytest.raises(TrainingError):
        groups = [group_as_sampled(model, (1.0, 0.5), shift=-200.0)]
        update(config, make_learner(model, config, updates=1), groups, step=3)
    assert is_unchanged(model, before)


def test_groups_without_signal_change_no_weight() -> None:
    config = make_config(rl__minibatches=2, optim__weight_decay=0.1)
    model = tiny_model()
    before = copies(model)
    stats = update(config, make_learner(model, config), [group_as_sampled(model, (0.0, 0.0))] * 4, step=0)
    assert is_unchanged(model, before)
    assert (stats.loss, stats.grad_norm, stats.num_tokens) == (0.0, 0.0, 0)


def test_groups_without_signal_are_pulled_to_the_reference_where_there_is_one() -> None:
    config = make_config(rl__minibatches=1, loss__kl_coef=1.0)
    model, reference = tiny_model(), tiny_model(seed=1)
    before = copies(model)
    learner = make_learner(model, config, updates=1, reference=reference)
    stats = update(config, learner, [group_as_sampled(model, (0.0, 0.0))], step=0)
    assert not is_unchanged(model, before)
    assert stats.kl > 0.1


def test_an_update_is_clipped_to_the_given_norm() -> None:
    """Plain gradient sizes show through AdamW's second moment, so the moment itself is looked at."""
    config = make_config(rl__minibatches=1, optim__max_grad_norm=0.01)
    model = tiny_model()
    learner = make_learner(model, config, updates=1)
    stats = update(config, learner, [group_as_sampled(model, (1.0, -1.0))], step=0)
    moments = [state["exp_avg"] for state in learner.optimizer.state.values()]
    norm = math.sqrt(sum(moment.square().sum().item() for moment in moments)) / (1 - config.optim.beta1)
    assert stats.grad_norm > 0.1
    assert norm == pytest.approx(0.01, rel=1e-3)
