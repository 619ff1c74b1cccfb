"""The key/value cache of the torch engine: one clock for all rows.

Every decoding step writes one column for all rows, so a step is one plain copy per layer instead
of a scatter. A row that joins later puts its prompt into the columns just before the present one
and is blind to what lies before; rotary angles are in the keys already, so a column's number
means nothing. Columns that no living row can see are outside the window and cost nothing.

What all prompts of a call have in common (the template) is kept once, outside the columns.

Dimensions: L layers, S slots, B rows in use (B <= S), K key/value heads, G queries per key head,
E head size, C columns, W columns in the window, P tokens of the common prefix.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


class ClockCache:
    """Keys and values of the rows being decoded; also the `Attend` function of a decoding step."""

    def __init__(self, prefix_kv: Sequence[Tensor], num_slots: int, num_columns: int) -> None:
        """Start with the common prefix, one [P, 2K, E] tensor per layer (keys, then values)."""
        self._prefix = [kv.transpose(0, 1).chunk(2) for kv in prefix_kv]
        heads, size = prefix_kv[0].shape[1:]
        shape = (num_slots, heads, num_columns, size)
        self._layers = [kv.new_zeros(shape) for kv in prefix_kv]
        # Empty slots are computed along; were all their columns hidden, NaN would come of it.
        self._mask_SC = prefix_kv[0].new_zeros(num_slots, num_columns)
        self._starts = [0] * num_slots
        self._clock = 0
        self._low = 0

    def admit(self, slot: int, prompt_kv: Sequence[Tensor]) -> None:
        """Put a row's own prompt, one [T, 2K, E] tensor per layer, into a slot."""
        length = len(prompt_kv[0])
        if length > self._clock:
            # Slots without a row may have left the columns; they have nothing to move.
            self._move_clock(length, low=max(0, min(self._starts)))
        start = self._clock - length
        for layer, kv in zip(self._layers, prompt_kv, strict=True):
            layer[slot, :, start : self._clock] = kv.transpose(0, 1)
        self._mask_SC[slot, :start] = float("-inf")
        self._mask_SC[slot, start:] = 0
        self._starts[slot] = start

    def _move_clock(self, clock: int, low: int) -> None:
        """Shift the columns from `low` on so that the next one becomes `clock`."""
        shift = clock - self._clock
        source, target = slice(low, self._clock), slice(low + shift, clock)
        for layer in self._layers:
            layer[:, :, target] = layer[:, :, source].clone()
        self._mask_SC[:, target] = self._mask_SC[:, source].clone()
        self._mask_SC[:, : low + shift] = float("-inf")
        self._mask_SC[:, clock:] = 0
        self._starts = [start + shift for start in self._starts]
        self._low, self._clock = low + shift, clock

    def begin_step(self, rows: Sequence[int]) -> None:
        """Open the next column; `rows` are the slots still in use, which bound the window."""
        self._low = min(self._starts[slot] for slot in rows)
        if self._clock == self._mask_SC.shape[1]:
            self._move_clock(self._clock - self._low, self._low)
        self._clock += 1

    @property
    def window(self) -> int:
        """Columns that attention reads now."""
        return self._clock - self._low

    def keep(self, slots: Sequence[int]) -> None:
        """Keep these slots only, in this order."""
        index = torch.tensor(slots)
        self._layers = [layer.index_select(0, index) for layer in self._layers]
        self._mask_SC = self._mask_SC.index_select(0, index)
        self._starts = [self._starts[slot] for slot in slots]

    def attend(self, layer: int, q_BHE: Tensor, k_BKE: Tensor, v_BKE: Tensor) -> Tensor:
        """Write the step's keys and values, then mix the values that each row can see."""
        cache = self._layers[layer]
        rows, heads, size = q_BHE.shape
        kv_heads = k_BKE.shape[1]
        cache[:, :kv_heads, self._clock - 1] = k_BKE
        cache[:, kv_heads:, self._clock - 1] = v_BKE
        k_BKWE, v_BKWE = cache[:, :, self._low : self._clock].chunk(2, dim=1)
        q_BKGE = (q_BHE * size**-0.5).view(rows, kv_heads, heads // kv_heads, size)
        own = q_BKGE @ k_BKWE.transpose(2, 3)
        own += self._mask_SC[:, None, None, self._low : self._clock]
        prefix_k_KPE, prefix_v_KPE = self._prefix[layer]
        if not prefix_k_KPE.shape[1]:
            return (own.softmax(-1) @ v_BKWE).view(rows, heads, size)
        q_KXE = q_BKGE.transpose(0, 1).reshape(kv_heads, -1, size)
        shared = (q_KXE @ prefix_k_KPE.transpose(1, 2)).unflatten(1, (rows, -1)).transpose(0, 1)
        weights = torch.cat((shared, own), dim=-1).softmax(-1)
        shared, own = weights.split((prefix_k_KPE.shape[1], self.window), dim=-1)
        mixed_KXE = shared.transpose(0, 1).reshape(kv_heads, -1, shared.shape[-1]) @ prefix_v_KPE
        mixed_BKGE = mixed_KXE.unflatten(1, (rows, -1)).transpose(0, 1) + own @ v_BKWE
        return mixed_BKGE.reshape(rows, heads, size)
