"""The clock cache against one list of keys and values per row: no row notices where its columns are.

Dimensions: R rows, H query heads, K key heads, E head size, T tokens of a row.
"""

import math
from dataclasses import dataclass, field
from random import Random

import pytest
import torch
from torch import Tensor

from zerone.engine.torch.cache import ClockCache

LAYERS, HEADS, KV_HEADS, SIZE = 2, 4, 2, 8


@dataclass
class _PlainCache:
    """What the cache should hold: for each slot the keys and values of its row, in a list."""

    prefix: list[Tensor]
    rows: list[list[Tensor]] = field(default_factory=list)

    def attend(self, slot: int, layer: int, q_HE: Tensor) -> Tensor:
        kv_TKE = torch.cat([self.prefix[layer], self.rows[slot][layer]])
        k_TKE, v_TKE = kv_TKE.chunk(2, dim=1)
        mixed = []
        for head in range(HEADS):
            kv_head = head // (HEADS // KV_HEADS)
            weights_T = (k_TKE[:, kv_head] @ q_HE[head] / math.sqrt(SIZE)).softmax(0)
            mixed.append(weights_T @ v_TKE[:, kv_head])
        return torch.stack(mixed)


def random_kv(length: int) -> list[Tensor]:
    return [torch.randn(length, 2 * KV_HEADS, SIZE) for _ in range(LAYERS)]


def count_shifts(cache: ClockCache, shifts: list[int]) -> None:
    """Note by how much the columns move, so that a test can tell that they did."""
    move = cache._move_clock

    def counted(clock: int, low: int) -> None:
        shifts.append(clock - cache._clock)
        move(clock, low)

    cache._move_clock = counted  # type: ignore[method-assign]  # watched, not replaced


@pytest.mark.parametrize("num_prefix", [0, 5])
def test_the_clock_may_shift_left_and_right_and_no_row_notices(num_prefix: int) -> None:
    """Rows come and go at random in so few columns that the clock has to move all the time."""
    rng = Random(num_prefix)
    torch.manual_seed(num_prefix)
    num_slots, longest, max_tokens = 3, 12, 9
    prefix = random_kv(num_prefix)
    cache, plain, shifts = (
        ClockCache(prefix, num_slots, longest + max_tokens),
        _PlainCache(prefix),
        list[int](),
    )
    count_shifts(cache, shifts)
    plain.rows = [[] for _ in range(num_slots)]
    steps_left = [0] * num_slots
    for _ in range(200):
        for slot in [slot for slot, left in enumerate(steps_left) if not left]:
            # A row alone must always be decoded, else there would be no step to take.
            if rng.random() < 0.5 or not any(steps_left):
                plain.rows[slot] = random_kv(rng.choice([1, 2, longest]))
                cache.admit(slot, plain.rows[slot])
                steps_left[slot] = rng.randint(1, max_tokens)
        living = [slot for slot, left in enumerate(steps_left) if left]
        cache.begin_step(living)
        assert cache.window <= longest + max_tokens
        for layer in range(LAYERS):
            q_RHE, kv_RKE = torch.randn(num_slots, HEADS, SIZE), torch.randn(num_slots, 2 * KV_HEADS, SIZE)
            found = cache.attend(layer, q_RHE, kv_RKE[:, :KV_HEADS], kv_RKE[:, KV_HEADS:])
            assert found.isfinite().all()
            for slot in living:
                plain.rows[slot][layer] = torch.cat([plain.rows[slot][layer], kv_RKE[slot, None]])
                expected = plain.attend(slot, layer, q_RHE[slot])
                # fp32 sums of some twenty terms of size 1, in another order.
                torch.testing.assert_close(found[slot], expected, atol=1e-5, rtol=1e-5)
        for slot in living:
            steps_left[slot] -= 1
    assert sum(shift < 0 for shift in shifts) > 5
    assert sum(shift > 0 for shift in shifts) > 5


def test_columns_that_no_living_row_sees_leave_the_window() -> None:
    cache = ClockCache(random_kv(0), 2, 40)
    cache.admit(0, random_kv(10))
    cache.begin_step([0])
    cache.admit(1, random_kv(3))
    cache.begin_step([0, 1])
    assert cache.window == 12
    cache.begin_step([1])
    assert cache.window == 5


def test_kept_slots_go_on_in_their_new_order() -> None:
    torch.manual_seed(0)
    prefix = random_kv(2)
    cache, plain = (
        ClockCache(prefix, 4, 30),
        _PlainCache(prefix, [random_kv(length) for length in (3, 9, 1, 5)]),
    )
    for slot, kv in enumerate(plain.rows):
        cache.admit(slot, kv)
    cache.keep([3, 1])
    cache.begin_step([0, 1])
    q_RHE, kv_RKE = torch.randn(2, HEADS, SIZE), torch.randn(2, 2 * KV_HEADS, SIZE)
    found = cache.attend(0, q_RHE, kv_RKE[:, :KV_HEADS], kv_RKE[:, KV_HEADS:])
    for place, slot in enumerate((3, 1)):
        plain.rows[slot][0] = torch.cat([plain.rows[slot][0], kv_RKE[place, None]])
        torch.testing.assert_close(found[place], plain.attend(slot, 0, q_RHE[place]), atol=1e-5, rtol=1e-5)
