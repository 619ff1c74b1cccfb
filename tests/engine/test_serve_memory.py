"""What is set aside for keys and values never exceeds the limit, and no answer depends on it.

Cells are slots times columns, used or not. The scheduler is driven step by step, without its thread.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes import Shape, byte_tokenizer, random_tokens, tiny_model
from streaming import scheduler_over, streamed
from zerone.engine.api import Delta, Failure, Request, sink_all
from zerone.engine.torch.batch import Batch
from zerone.model.decoder import Decoder

SHAPE = Shape(layers=1, context=400)
CELL_BYTES = 2 * SHAPE.kv_heads * SHAPE.head_dim * SHAPE.layers * 4
DECODER = Decoder(tiny_model(SHAPE), torch.float32)
UNLIMITED = 1 << 20


@dataclass(frozen=True, slots=True)
class Asked:
    """Answers of so many tokens to a prompt of so many, asked for before a step."""

    step: int
    num_prompt: int
    num_tokens: int
    num_answers: int = 1


class Sink:
    """Puts the text of a job's answers where it belongs."""

    def __init__(self, texts: list[str], first: int) -> None:
        self.texts, self.first = texts, first

    def __call__(self, said: Delta | Failure) -> None:
        assert isinstance(said, Delta), said
        self.texts[self.first + said.index] += said.content


def job_of(asked: Asked, sink: Sink) -> Request:
    prompt = random_tokens(asked.num_prompt, "prompt", asked.num_prompt, sink.first)
    return streamed(prompt, sink, asked.num_answers, temperature=0, max_tokens=asked.num_tokens)


def play(asked: Sequence[Asked], max_cells: int) -> tuple[list[str], int]:
    """Return the greedy answers, and the most cells that were set aside at once."""
    scheduler = scheduler_over(
        DECODER,
        byte_tokenizer(),
        (),
        context=SHAPE.context,
        max_rows=64,
        max_waiting=64,
        kv_bytes=max_cells * CELL_BYTES,
    )
    most = 0
    texts: list[str] = []
    really = Batch._make_room

    def watched(batch: Batch, num_entering: int, longest_entering: int) -> None:
        nonlocal most
        really(batch, num_entering, longest_entering)
        most = max(most, len(batch._rows) * batch._cache.num_columns)

    with pytest.MonkeyPatch.context() as patched, torch.inference_mode():
        patched.setattr(Batch, "_make_room", watched)
        step, missing = 0, sorted(asked, key=lambda each: each.step)
        while missing or scheduler.engine.is_busy:
            while missing and missing[0].step <= step:
                each = missing.pop(0)
                sink = Sink(texts, len(texts))
                texts += [""] * each.num_answers
                scheduler.submit([job_of(each, sink)])
            sink_all(scheduler.engine.events())
            step += 1
    return texts, most


def test_columns_of_a_long_answer_are_given_back() -> None:
    """A long answer ends beside another that had just begun, then many short ones come."""
    asked = [Asked(0, 9, 300), Asked(290, 5, 40), Asked(305, 5, 9, num_answers=8), Asked(306, 7, 9)]
    free, wanted = play(asked, UNLIMITED)
    limit = 1000
    assert wanted > limit
    texts, most = play(asked, limit)
    assert most <= limit
    assert texts == free
    assert len(texts) == 11
    assert all(texts)


ASKED = st.builds(
    Asked,
    step=st.integers(0, 60),
    num_prompt=st.integers(1, 120),
    num_tokens=st.integers(1, 60),
    num_answers=st.integers(1, 4),
)


@settings(max_examples=15)
@given(asked=st.lists(ASKED, min_size=1, max_size=6), limit=st.integers(SHAPE.context + 64, 1200))
def test_whatever_comes_and_goes_the_cells_stay_within_the_limit(asked: list[Asked], limit: int) -> None:
    free, _ = play(asked, UNLIMITED)
    texts, most = play(asked, limit)
    assert most <= limit
    assert texts == free
