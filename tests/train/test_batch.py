"""Groups become tensors: nothing lost, nothing twice, and no cut that changes a gradient.

Tolerance for gradients: fp32 sums in another order, compared with the largest entry of each
tensor; 1e-5 is what tests/parity measures for packing.

Dimensions: N packed tokens, C completion tokens.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fakes import Shape, number_problem, random_tokens, tiny_model
from scripted import credited, forced_logprobs, make_config, member
from training import Passes, backward, make_learner
from zerone.train.batch import Aggregation, Batch, make_batches, split_minibatches, token_weight
from zerone.train.loss import Objective
from zerone.types import Credited, Finish, Outcome

TOLERANCE = 1e-5
MAX_TOKENS = 16
AGGREGATIONS: tuple[Aggregation, ...] = ("sequence", "token", "constant")
every_aggregation = pytest.mark.parametrize("aggregation", AGGREGATIONS)

Lengths = Sequence[int]


def group_of(number: int, lengths: Lengths, *, num_prompt: int = 3, is_silent: bool = False) -> Credited:
    """Return a group whose tokens, log-probabilities and advantages are all different."""
    members = [
        member(
            prompt=(5, *random_tokens(num_prompt, "prompt", number)),
            completion=random_tokens(length, "completion", number, j),
            logprobs=[-1 - number - j / 8 - t / 128 for t in range(length)],
            sample=j,
            problem=number_problem(number),
            finish=Finish.LENGTH if length == MAX_TOKENS else Finish.STOP,
        )
        for j, length in enumerate(lengths)
    ]
    return credited(
        members, [0.0 if is_silent else 1.5 * (-1) ** j + number / 4 for j in range(len(lengths))]
    )


GROUPS = [
    group_of(0, (4, 9, 1, 2)),
    group_of(1, (3, 3), num_prompt=0),
    group_of(2, (5, 16, 2), is_silent=True),
    group_of(3, (16, 7, 16, 1, 6), num_prompt=8),
]


def batches_of(groups: Sequence[Credited], **options: Any) -> list[Batch]:
    settings: dict[str, Any] = {
        "aggregation": "token",
        "max_tokens": MAX_TOKENS,
        "mask_truncated": False,
        "keep_silent": False,
        "microbatch_tokens": 10_000,
    }
    return list(make_batches(groups, **settings | options))


def rows_of(
    groups: Sequence[Credited], *, keep_silent: bool = False, mask_truncated: bool = False
) -> list[Any]:
    """Return (graded, advantage) of everything that is trained on."""
    return [
        (graded, advantage)
        for whole in groups
        if whole.has_signal or keep_silent
        for graded, advantage in zip(whole.group.members, whole.advantages, strict=True)
        if not (mask_truncated and graded.rollout.finish is Finish.LENGTH)
    ]


def tokens_seen(batches: Sequence[Batch]) -> Counter[tuple[int, float, float]]:
    """Return (token, log-probability, advantage) of every completion token, counted."""
    return Counter(
        (token, round(logprob, 4), round(advantage, 4))
        for batch in batches
        for token, logprob, advantage in zip(
            batch.targets_C.tolist(),
            batch.sampler_logprobs_C.tolist(),
            batch.advantages_C.tolist(),
            strict=True,
        )
    )


def tokens_expected(rows: Sequence[Any]) -> Counter[tuple[int, float, float]]:
    return Counter(
        (token, round(logprob, 4), round(advantage, 4))
        for graded, advantage in rows
        for token, logprob in zip(graded.rollout.completion_ids, graded.rollout.sampler_logprobs, strict=True)
    )


# What is in a batch -------------------------------------------------------------------------------


@pytest.mark.parametrize("microbatch_tokens", [1, 20, 37, 60, 10_000])
def test_every_completion_token_appears_once_with_what_belongs_to_it(microbatch_tokens: int) -> None:
    batches = batches_of(GROUPS, microbatch_tokens=microbatch_tokens)
    assert tokens_seen(batches) == tokens_expected(rows_of(GROUPS))


@pytest.mark.parametrize("microbatch_tokens", [1, 37, 10_000])
def test_sources_are_the_tokens_that_come_before_the_targets(microbatch_tokens: int) -> None:
    pairs: Counter[tuple[int, int, int]] = Counter()
    for batch in batches_of(GROUPS, microbatch_tokens=microbatch_tokens):
        sources_C = batch.packed.tokens_N[batch.sources_C]
        places_C = batch.packed.positions_N[batch.sources_C]
        pairs.update(zip(sources_C.tolist(), places_C.tolist(), batch.targets_C.tolist(), strict=True))
    expected: Counter[tuple[int, int, int]] = Counter()
    for graded, _ in rows_of(GROUPS):
        prompt, completion = graded.rollout.prompt_ids, graded.rollout.completion_ids
        whole = (*prompt, *completion)
        expected.update((whole[i - 1], i - 1, whole[i]) for i in range(len(prompt), len(whole)))
    assert pairs == expected


def test_a_group_in_one_micro_batch_has_its_prompt_once() -> None:
    (batch,) = batches_of(GROUPS[:1])
    assert len(batch.packed.tokens_N) == 4 + (4 + 9 + 1 + 2)
    assert batch.num_completion_tokens == 16


def test_micro_batches_stay_near_their_size() -> None:
    """One row with its prompt always fits, however small the size; else it is kept."""
    for size in (20, 30, 40):
        for batch in batches_of(GROUPS, microbatch_tokens=size):
            assert len(batch.packed.tokens_N) <= max(size, 9 + 16)
    smallest = batches_of(GROUPS, microbatch_tokens=1)
    assert len(smallest) == len(rows_of(GROUPS))


def test_nothing_to_train_on_gives_no_batch() -> None:
    assert batches_of([group_of(0, (3, 4), is_silent=True)]) == []
    assert batches_of([]) == []
    assert batches_of([group_of(0, (MAX_TOKENS, MAX_TOKENS))], mask_truncated=True) == []


def test_groups_without_signal_are_left_out_unless_something_else_acts_on_them() -> None:
    assert tokens_seen(batches_of(GROUPS, keep_silent=True)) == tokens_expected(
        rows_of(GROUPS, keep_silent=True)
    )
    assert tokens_expected(rows_of(GROUPS)) < tokens_expected(rows_of(GROUPS, keep_silent=True))


@pytest.mark.parametrize("microbatch_tokens", [1, 30, 10_000])
def test_truncated_answers_are_left_out_where_wanted(microbatch_tokens: int) -> None:
    batches = batches_of(GROUPS, mask_truncated=True, microbatch_tokens=microbatch_tokens)
    assert tokens_seen(batches) == tokens_expected(rows_of(GROUPS, mask_truncated=True))


def test_answers_whose_verifier_failed_are_left_out_of_tokens_and_denominators() -> None:
    """Also where a KL term acts on groups without signal: a failed verifier says nothing either way."""
    whole = GROUPS[0]
    failed = member(
        prompt=whole.group.members[0].rollout.prompt_ids,
        completion=random_tokens(6, "failed"),
        sample=9,
        outcome=Outcome.INFRASTRUCTURE_ERROR,
    )
    mixed = credited([*whole.group.members, failed], [*whole.advantages, 0.0])
    for keep_silent in (False, True):
        (found,) = batches_of([mixed], keep_silent=keep_silent)
        (expected,) = batches_of([whole], keep_silent=keep_silent)
        assert tokens_seen([found]) == tokens_seen([expected])
        assert torch.equal(found.weights_C, expected.weights_C)


def test_two_groups_of_one_problem_stay_two_groups() -> None:
    twins = [group_of(1, (3, 4)), group_of(1, (3, 4))]
    (batch,) = batches_of(twins)
    assert tokens_seen([batch]) == tokens_expected(rows_of(twins))
    assert batch.num_completion_tokens == 14


# Denominators -------------------------------------------------------------------------------------


def test_token_weight_is_what_its_name_says() -> None:
    def weight(aggregation: Aggregation) -> float:
        return token_weight(5, num_rows=4, num_tokens=50, max_tokens=100, aggregation=aggregation)

    assert weight("sequence") == 1 / 20
    assert weight("token") == 1 / 50
    assert weight("constant") == 1 / 400


@every_aggregation
@pytest.mark.parametrize("mask_truncated", [False, True])
def test_denominators_count_the_groups_left_out_and_not_the_answers_masked(
    aggregation: Aggregation, mask_truncated: bool
) -> None:
    counted = rows_of(GROUPS, keep_silent=True, mask_truncated=mask_truncated)
    num_tokens = sum(len(graded.rollout.completion_ids) for graded, _ in counted)
    expected: Counter[float] = Counter()
    for graded, _ in rows_of(GROUPS, mask_truncated=mask_truncated):
        length = len(graded.rollout.completion_ids)
        per_token = {
            "sequence": 1 / (len(counted) * length),
            "token": 1 / num_tokens,
            "constant": 1 / (len(counted) * MAX_TOKENS),
        }
        expected[round(per_token[aggregation], 6)] += length
    found: Counter[float] = Counter()
    for batch in batches_of(
        GROUPS, aggregation=aggregation, mask_truncated=mask_truncated, microbatch_tokens=30
    ):
        found.update(round(weight, 6) for weight in batch.weights_C.tolist())
    assert found == expected


@pytest.mark.parametrize("aggregation", ["sequence", "token"])
def test_weights_of_a_minibatch_sum_to_one_where_all_is_trained_on(aggregation: Aggregation) -> None:
    batches = batches_of(GROUPS, aggregation=aggregation, keep_silent=True, microbatch_tokens=25)
    assert sum(batch.weights_C.sum().item() for batch in batches) == pytest.approx(1, abs=TOLERANCE)


# Invariance ---------------------------------------------------------------------------------------


def gradients(
    groups: Sequence[Credited], aggregation: Aggregation, size: int
) -> tuple[float, dict[str, Tensor]]:
    """Return the loss and the gradients of a minibatch cut into micro-batches of a size."""
    model = tiny_model(Shape(kind="qwen3"))
    learner = make_learner(model, make_config(), reference=tiny_model(Shape(kind="qwen3"), seed=1))
    objective = Objective(clip_low=0.2, clip_high=0.28, kl_coef=0.05, kl_estimator="k3")
    loss, passes = 0.0, Passes(learner.module, learner.reference, learner.dtype)
    for batch in batches_of(groups, aggregation=aggregation, microbatch_tokens=size, keep_silent=True):
        loss += backward(passes, batch, objective, 1.0)[0].loss.item()
    passes.policy.finish()
    return loss, {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.fixture(scope="module")
def sampled() -> list[Credited]:
    """Return GROUPS as a model near the trained one would have sampled them."""
    model = tiny_model(Shape(kind="qwen3"))
    found = []
    for whole in GROUPS:
        members = [
            member(
                prompt=graded.rollout.prompt_ids,
                completion=graded.rollout.completion_ids,
                logprobs=(
                    forced_logprobs(model, graded.rollout)
                    + 0.4 * torch.sin(torch.arange(len(graded.rollout.completion_ids)) * 2.0)
                ).tolist(),
                sample=graded.rollout.sample,
                problem=graded.rollout.problem,
                finish=graded.rollout.finish,
            )
            for graded in whole.group.members
        ]
        found.append(credited(members, whole.advantages))
    return found


HALF_A_GROUP = 25
ONE_GROUP = 60


@every_aggregation
def test_loss_and_gradient_are_invariant_to_micro_batching(
    sampled: list[Credited], aggregation: Aggregation
) -> None:
    loss, expected = gradients(sampled, aggregation, 10_000)
    for size in (1, HALF_A_GROUP, ONE_GROUP):
        other_loss, found = gradients(sampled, aggregation, size)
        assert other_loss == pytest.approx(loss, abs=TOLERANCE)
        _assert_close(found, expected)


def test_sizes_that_are_compared_do_cut_groups() -> None:
    counts = [len(batches_of(GROUPS, microbatch_tokens=size, keep_silent=True)) for size in (25, 60, 10_000)]
    assert counts[0] > len(GROUPS) > counts[1] > counts[2] == 1


def test_gradient_is_invariant_to_packing_order(sampled: list[Credited]) -> None:
    _, expected = gradients(sampled, "token", 10_000)
    turned = [credited(whole.group.members[::-1], whole.advantages[::-1]) for whole in reversed(sampled)]
    for size in (HALF_A_GROUP, 10_000):
        _assert_close(gradients(turned, "token", size)[1], expected)


def _assert_close(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    for name, gradient in expected.items():
        difference = (found[name] - gradient).abs().max().item()
        assert difference <= TOLERANCE * gradient.abs().max().item(), f"{name}: {difference:.2e}"


# Minibatches --------------------------------------------------------------------------------------


@given(st.integers(1, 12), st.integers(1, 6), st.integers(0, 2**40))
def test_minibatches_are_a_partition_of_whole_groups(
    num_groups: int, num_minibatches: int, seed: int
) -> None:
    groups = [group_of(i, (1, 1)) for i in range(num_groups)]
    parts = split_minibatches(groups, num_minibatches, (seed, 0))
    assert len(parts) == num_minibatches
    assert sorted(id(whole) for part in parts for whole in part) == sorted(map(id, groups))
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1


def test_minibatches_are_a_function_of_the_seed() -> None:
    groups = [group_of(i, (1, 1)) for i in range(16)]
    parts: Callable[..., list[list[str]]] = lambda *seed: [  # noqa: E731
        [whole.group.problem.id for whole in part] for part in split_minibatches(groups, 4, seed)
    ]
    assert parts(0, 3, 0) == parts(0, 3, 0)
    different = [parts(0, 3, 0), parts(0, 3, 1), parts(0, 4, 0), parts(1, 3, 0)]
    assert len({str(found) for found in different}) == 4
    assert [whole.group.problem.id for whole in groups] == [f"say-{i}" for i in range(16)]
