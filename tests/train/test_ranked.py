"""What goes between ranks: micro-batches, objectives and completions arrive as they were sent."""

from dataclasses import fields
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fakes import random_tokens
from two_ranks import OBJECTIVE, batches, examples, objective_of
from zerone.engine.api import Completion
from zerone.engine.ranked import completions_in, completions_message
from zerone.model.packed import pack
from zerone.processes.orders import Message
from zerone.train.batch import Batch
from zerone.train.distill import DistillObjective, Sums
from zerone.train.metrics import StepSums
from zerone.train.parallel import emptied
from zerone.train.ranked import batch_message, batches_in, described, objective_from
from zerone.train.sft import CrossEntropy, MicroBatch, microbatches
from zerone.types import Finish


def sent(message: Message) -> Message:
    return Message.from_bytes(message.to_bytes())


def assert_same(found: Any, expected: Any, leave: tuple[str, ...] = ()) -> None:
    """Compare dataclasses, tensors within them by value and type."""
    assert type(found) is type(expected)
    for field in fields(expected):
        left, right = getattr(found, field.name), getattr(expected, field.name)
        if field.name in leave:
            continue
        if isinstance(right, torch.Tensor):
            assert left.dtype == right.dtype and torch.equal(left, right), field.name
        elif field.name == "packed":
            assert_same_packed(left, right)
        else:
            assert left == right, field.name


def assert_same_packed(found: Any, expected: Any) -> None:
    assert torch.equal(found.tokens_N, expected.tokens_N)
    assert torch.equal(found.positions_N, expected.positions_N)
    assert (found.num_prefix, found.apart) == (expected.num_prefix, expected.apart)
    assert len(found.segments) == len(expected.segments)
    for left, right in zip(found.segments, expected.segments, strict=True):
        assert left.num_prompt == right.num_prompt and len(left.blocks) == len(right.blocks)
        for mine, other in zip(left.blocks, right.blocks, strict=True):
            assert mine.num_rows == other.num_rows
            assert torch.equal(mine.padded_M, other.padded_M) and torch.equal(mine.flat_C, other.flat_C)


@pytest.mark.parametrize("microbatch_tokens", [30, 44, 1000])
def test_micro_batches_of_grpo_arrive_as_they_were(microbatch_tokens: int) -> None:
    every = batches(microbatch_tokens)
    spare = emptied(every[0])
    found = batches_in(sent(batch_message([*every, spare])))
    for left, right in zip(found, [*every, spare], strict=True):
        assert isinstance(left, Batch)
        assert_same(left, right, leave=("members",))  # which stay at rank 0


@pytest.mark.parametrize("microbatch_tokens", [8, 24, 1000])
def test_micro_batches_of_sft_arrive_as_they_were(microbatch_tokens: int) -> None:
    every = list(microbatches(examples(), microbatch_tokens))
    for left, right in zip(batches_in(sent(batch_message(every))), every, strict=True):
        assert isinstance(left, MicroBatch)
        assert_same(left, right)


ROWS = st.lists(st.integers(1, 9), min_size=1, max_size=20)


@given(
    prefix=st.integers(0, 3),
    groups=st.lists(st.tuples(st.integers(0, 4), ROWS), min_size=1, max_size=4),
    is_apart=st.booleans(),
)
def test_any_layout_arrives_as_it_was(
    prefix: int, groups: list[tuple[int, list[int]]], is_apart: bool
) -> None:
    sequences = [
        (random_tokens(prompt, "p", i), [random_tokens(length, "r", i, j) for j, length in enumerate(rows)])
        for i, (prompt, rows) in enumerate(groups)
    ]
    packed = pack(sequences, random_tokens(prefix, "x"), is_apart=is_apart and prefix > 0)
    none = torch.zeros(0, dtype=torch.long)
    (found,) = batches_in(sent(batch_message([MicroBatch(packed=packed, sources_C=none, targets_C=none)])))
    assert_same_packed(found.packed, packed)


def test_objectives_arrive_as_they_were() -> None:
    grpo = objective_from(described(objective_of(StepSums())), None)
    assert (grpo.settings, grpo.temperature) == (OBJECTIVE, 1.0)
    assert objective_from(described(CrossEntropy(7)), None) == CrossEntropy(7)
    teacher: Any = object()
    found = objective_from(described(DistillObjective(teacher, 0.5, Sums())), teacher)
    assert (found.teacher, found.temperature) == (teacher, 0.5)
    with pytest.raises(AssertionError, match="trained in one process"):
        described(object())


@given(
    st.lists(
        st.lists(
            st.tuples(
                st.text(), st.lists(st.tuples(st.integers(0, 2**40), st.floats(max_value=0)), min_size=1)
            )
        ),
        max_size=3,
    )
)
def test_completions_arrive_as_they_were(told: list[list[tuple[str, list[tuple[int, float]]]]]) -> None:
    """Texts of any characters, lone surrogates left out by JSON's own escapes; numbers to the last bit."""
    found = [
        [
            Completion(
                index=index,
                token_ids=tuple(token for token, _ in tokens),
                logprobs=tuple(value for _, value in tokens),
                text=text,
                finish=Finish.LENGTH if index else Finish.STOP,
                weight_version=3,
                weight_hash="ab",
            )
            for index, (text, tokens) in enumerate(own)
        ]
        for own in told
    ]
    assert completions_in(sent(completions_message(found))) == found
