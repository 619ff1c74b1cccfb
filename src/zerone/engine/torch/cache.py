"""The key/value cache of the torch engine: one clock for all rows.

Every decoding step writes one column for all rows, so a step is one plain copy per layer instead
of a scatter. A row that joins later puts its prompt into the columns just before the present one
and is blind to what lies before; rotary angles are in the keys already, so a column's number
means nothing. Columns that no living row can see are outside the window and cost nothing.

What all prompts of a call have in common (the template) is kept once, outside the columns.

Keys and values lie in [S*K, C, E] tensors of their own: a window of columns is then a view that
batched products take as it is, where any other order would be copied at every step.

Dimensions: B slots, K key/value heads, G queries per key head, X = B*K, H = K*G, E head size,
C columns, W columns in the window, P tokens of the common prefix, T tokens of a row's own prompt.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


class ClockCache:
    """Keys and values of the rows being decoded; also the `Attend` function of a decoding step."""

    def __init__(self, prefix_kv: Sequence[Tensor], num_slots: int, num_columns: int) -> None:
        """Start with the common prefix, one [P, 2K, E] tensor per layer (keys, then values)."""
        self._prefix = [kv.transpose(0, 1).chunk(2) for kv in prefix_kv]
        double_heads, size = prefix_kv[0].shape[1:]
        self._kv_heads = double_heads // 2
        shape = (num_slots * self._kv_heads, num_columns, size)
        self._keys = [kv.new_zeros(shape) for kv in prefix_kv]
        self._values = [kv.new_zeros(shape) for kv in prefix_kv]
        # Empty slots are computed along; were all their columns hidden, NaN would come of it.
        self._mask_BC = prefix_kv[0].new_zeros(num_slots, num_columns)
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
        rows = slice(slot * self._kv_heads, (slot + 1) * self._kv_heads)
        for keys, values, kv in zip(self._keys, self._values, prompt_kv, strict=True):
            keys[rows, start : self._clock], values[rows, start : self._clock] = kv.transpose(0, 1).chunk(2)
        self._mask_BC[slot, :start] = float("-inf")
        self._mask_BC[slot, start:] = 0
        self._starts[slot] = start

    def _move_clock(self, clock: int, low: int) -> None:
        """Shift the columns from `low` on so that the next one becomes `clock`."""
        shift = clock - self._clock
        source, target = slice(low, self._clock), slice(low + shift, clock)
        for cache in (*self._keys, *self._values):
            cache[:, target] = cache[:, source].clone()
        self._mask_BC[:, target] = self._mask_BC[:, source].clone()
        self._mask_BC[:, : low + shift] = float("-inf")
        self._mask_BC[:, clock:] = 0
        self._starts = [start + shift for start in self._starts]
        self._low, self._clock = low + shift, clock

    def begin_step(self, rows: Sequence[int]) -> None:
        """Open the next column; `rows` are the slots still in use, which bound the window."""
        self._low = min(self._starts[slot] for slot in rows)
        if self._clock == self._mask_BC.shape[1]:
            self._move_clock(self._clock - self._low, self._low)
        self._clock += 1

    @property
    def window(self) -> int:
        """Columns that attention reads now."""
        return self._clock - self._low

    @property
    def num_columns(self) -> int:
        """Columns that there is memory for."""
        return self._mask_BC.shape[1]

    def resize(self, slots: Sequence[int], num_slots: int, num_columns: int) -> None:
        """Move what these slots can see, in this order, to memory for so many slots and columns.

        Layer by layer, so that never more than one layer's is there twice.
        """
        low = min((self._starts[slot] for slot in slots), default=self._clock)
        window, live = self._clock - low, slice(low, self._clock)
        index_X = self._index_X(slots)
        for caches in (self._keys, self._values):
            for layer, cache in enumerate(caches):
                moved = cache.new_zeros(num_slots * self._kv_heads, num_columns, cache.shape[2])
                moved[: len(index_X), :window] = cache[:, live].index_select(0, index_X)
                caches[layer] = moved
        mask_BC = self._mask_BC.new_zeros(num_slots, num_columns)
        mask_BC[: len(slots), :window] = self._mask_BC[list(slots), live]
        self._mask_BC = mask_BC
        self._starts = [self._starts[slot] - low for slot in slots] + [window] * (num_slots - len(slots))
        self._clock, self._low = window, 0

    def _index_X(self, slots: Sequence[int]) -> Tensor:
        index = torch.tensor(slots, dtype=torch.long)
        return (index[:, None] * self._kv_heads + torch.arange(self._kv_heads)).flatten()

    def keep(self, slots: Sequence[int]) -> None:
        """Keep these slots only, in this order."""
        index = torch.tensor(slots)
        index_X = self._index_X(slots)
        self._keys = [keys.index_select(0, index_X) for keys in self._keys]
        self._values = [values.index_select(0, index_X) for values in self._values]
        self._mask_BC = self._mask_BC.index_select(0, index)
        self._starts = [self._starts[slot] for slot in slots]

    def attend(self, layer: int, q_BHE: Tensor, k_BKE: Tensor, v_BKE: Tensor) -> Tensor:
        """Write the step's keys and values, then mix the values that each row can see."""
        rows, heads, size = q_BHE.shape
        keys_XCE, values_XCE = self._keys[layer], self._values[layer]
        keys_XCE[:, self._clock - 1] = k_BKE.flatten(0, 1)
        values_XCE[:, self._clock - 1] = v_BKE.flatten(0, 1)
        window = slice(self._low, self._clock)
        q_XGE = (q_BHE * size**-0.5).reshape(rows * self._kv_heads, -1, size)
        own_XGW = torch.bmm(q_XGE, keys_XCE[:, window].transpose(1, 2))
        own_XGW.view(rows, heads, -1).add_(self._mask_BC[:, None, window])
        prefix_k_KPE, prefix_v_KPE = self._prefix[layer]
        num_prefix = prefix_k_KPE.shape[1]
        if not num_prefix:
            return torch.bmm(own_XGW.softmax(-1), values_XCE[:, window]).view(rows, heads, size)
        shared_XGP = self._by_row(torch.bmm(self._by_head(q_XGE), prefix_k_KPE.transpose(1, 2)), rows)
        weights = torch.cat((shared_XGP, own_XGW), dim=-1).softmax(-1)
        shared_XGP, own_XGW = weights.split((num_prefix, self.window), dim=-1)
        mixed_XGE = torch.bmm(own_XGW, values_XCE[:, window])
        mixed_XGE += self._by_row(torch.bmm(self._by_head(shared_XGP), prefix_v_KPE), rows)
        return mixed_XGE.view(rows, heads, size)

    def _by_head(self, x_XGF: Tensor) -> Tensor:
        """Gather what meets the same prefix head: [B*K, G, F] -> [K, B*G, F]."""
        by_head = x_XGF.unflatten(0, (-1, self._kv_heads)).transpose(0, 1)
        gathered: Tensor = by_head.reshape(self._kv_heads, -1, x_XGF.shape[-1])
        return gathered

    def _by_row(self, x_KYF: Tensor, rows: int) -> Tensor:
        """The reverse of `_by_head`."""
        spread: Tensor = x_KYF.unflatten(1, (rows, -1)).transpose(0, 1).flatten(0, 1)
        return spread
