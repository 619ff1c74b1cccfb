"""What a server remembers of prompts: the longest common beginning, in bounded room."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from zerone.engine.torch.prompt_memory import PromptMemory

LAYERS = 2


def kv_of(prompt: tuple[int, ...]) -> list[Tensor]:
    """Return keys and values that tell their tokens."""
    return [torch.tensor(prompt, dtype=torch.float32).view(-1, 1, 1) + layer for layer in range(LAYERS)]


def numbers(start: int, length: int) -> tuple[int, ...]:
    return tuple(range(start, start + length))


def remembering(*prompts: tuple[int, ...], max_tokens: int = 4096) -> PromptMemory:
    memory = PromptMemory([], max_tokens)
    for prompt in prompts:
        memory.remember(prompt, kv_of(prompt))
    return memory


def test_the_longest_common_beginning_is_found_among_all_that_are_remembered() -> None:
    memory = remembering((*numbers(0, 20), 99), (*numbers(0, 40), 99), numbers(500, 30))
    alike, kv = memory.beginning([numbers(0, 50), (*numbers(0, 35), 7, 8)])
    assert alike == numbers(0, 35)
    assert [layer.flatten().tolist() for layer in kv] == [
        [token + layer for token in alike] for layer in range(LAYERS)
    ]


def test_every_prompt_keeps_a_token_to_be_computed() -> None:
    memory = remembering(numbers(0, 30))
    assert memory.beginning([numbers(0, 30)])[0] == numbers(0, 29)
    assert memory.beginning([numbers(0, 20), numbers(0, 60)])[0] == numbers(0, 19)


def test_what_is_short_or_unknown_is_computed_again() -> None:
    assert remembering().beginning([numbers(0, 30)]) == ((), [])
    memory = remembering(numbers(0, 30))
    assert memory.beginning([(*numbers(0, 15), 99, 98)]) == ((), [])
    assert memory.beginning([numbers(1, 30)]) == ((), [])


def test_the_oldest_leaves_and_what_was_used_stays() -> None:
    memory = remembering(*(numbers(start, 30) for start in (0, 1000, 2000)), max_tokens=100)
    memory.beginning([numbers(0, 30)])
    memory.remember(numbers(3000, 30), kv_of(numbers(3000, 30)))
    found = [bool(memory.beginning([numbers(start, 30)])[0]) for start in (0, 1000, 2000, 3000)]
    assert found == [True, False, True, True]


def test_a_longer_prompt_takes_the_place_of_its_beginning_and_too_long_a_one_none() -> None:
    memory = remembering(numbers(0, 30), numbers(0, 50), numbers(0, 61), max_tokens=60)
    assert memory.beginning([numbers(0, 61)])[0] == numbers(0, 49)


PROMPTS = st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=60).map(tuple), max_size=12)


@given(PROMPTS, st.integers(1, 80))
def test_what_is_returned_is_true_of_all_prompts_and_bounded(
    prompts: list[tuple[int, ...]], room: int
) -> None:
    memory = PromptMemory([], max_tokens=room)
    for prompt in [*prompts, *prompts]:
        alike, kv = memory.beginning([prompt, (*prompt, 0)])
        assert prompt[: len(alike)] == alike
        assert len(alike) < len(prompt)
        assert all(layer[:, 0, 0].tolist() == [t + i for t in alike] for i, layer in enumerate(kv))
        memory.remember(prompt, kv_of(prompt))
        assert sum(map(len, memory._known)) <= room
