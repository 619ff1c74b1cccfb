"""Which token of a packed batch sees which, for models that take a mask.

The rule is that of model/packed.py: a token sees the prefix of the batch, the prompt of its own
segment and the earlier tokens of its own row. A model that takes no such mask computes every
sequence by itself (`Sequences`).

Dimensions: N packed tokens, R rows, T tokens of the longest sequence.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from zerone.model.packed import Packed

NOWHERE = -1
"""The segment of prefix tokens, and the row of prefix and prompt tokens."""


@dataclass(frozen=True, slots=True)
class Places:
    """Segment and row of each packed token, [N]; `apart` stands among the tokens."""

    tokens_N: Tensor
    positions_N: Tensor
    segments_N: Tensor
    rows_N: Tensor
    num_before: int
    """Tokens of a prefix kept apart, which come first here and are not in the batch's own numbering."""


def places_of(packed: Packed, device: torch.device) -> Places:
    """Return where each token of a batch belongs, a prefix kept apart put before the others."""
    num_apart = len(packed.apart)
    num_prefix = num_apart + packed.num_prefix
    segments = [torch.full((num_prefix,), NOWHERE)]
    rows = [torch.full((num_prefix,), NOWHERE)]
    num_rows = 0
    for number, segment in enumerate(packed.segments):
        segments.append(torch.full((segment.num_prompt,), number))
        rows.append(torch.full((segment.num_prompt,), NOWHERE))
        for block in segment.blocks:
            segments.append(torch.full((len(block.flat_C),), number))
            rows.append(num_rows + block.flat_C // block.length)
            num_rows += block.num_rows
    apart = torch.tensor(packed.apart, dtype=torch.long)
    return Places(
        tokens_N=torch.cat((apart, packed.tokens_N)).to(device),
        positions_N=torch.cat((torch.arange(num_apart), packed.positions_N)).to(device),
        segments_N=torch.cat(segments).to(device),
        rows_N=torch.cat(rows).to(device),
        num_before=num_apart,
    )


def is_visible(places: Places, query: Tensor, key: Tensor) -> Tensor:
    """Return whether the tokens `query` see the tokens `key`, both indices that broadcast."""
    segments, rows = places.segments_N, places.rows_N
    in_prefix = segments[key] == NOWHERE
    in_prompt = (segments[key] == segments[query]) & (rows[key] == NOWHERE)
    in_row = (rows[key] == rows[query]) & (rows[key] != NOWHERE)
    return (key <= query) & (in_prefix | in_prompt | in_row)


def dense_mask(places: Places, dtype: torch.dtype, window: int | None = None) -> Tensor:
    """Return the additive mask [1, 1, N, N]; `window` is that of sliding attention, in positions."""
    index = torch.arange(len(places.tokens_N), device=places.tokens_N.device)
    seen = is_visible(places, index[:, None], index[None])
    if window is not None:
        seen = seen & (places.positions_N[:, None] - places.positions_N[None] < window)
    mask = torch.full(seen.shape, torch.finfo(dtype).min, dtype=dtype, device=seen.device)
    return mask.masked_fill(seen, 0.0)[None, None]


def block_mask(places: Places, window: int | None = None) -> Any:
    """Return the same rule as FlexAttention's block mask: the [N, N] mask never exists."""
    from torch.nn.attention.flex_attention import create_block_mask

    def rule(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        seen = is_visible(places, query, key)
        if window is None:
            return seen
        return seen & (places.positions_N[query] - places.positions_N[key] < window)

    length = len(places.tokens_N)
    return create_block_mask(rule, None, None, length, length, device=places.tokens_N.device.type)


@dataclass(frozen=True, slots=True)
class Sequences:
    """Every row of a batch as a sequence of its own, padded on the right.

    `where_N` says for each packed token where it stands in the flattened [R * T] sequences; a token
    that several sequences share stands in the first of them.
    """

    tokens_RT: Tensor
    mask_RT: Tensor
    where_N: Tensor


def sequences_of(places: Places) -> Sequences:
    """Return the rows of a batch one by one, for a model that takes no mask of ours."""
    rows, segments = places.rows_N, places.segments_N
    shared = (segments == NOWHERE).nonzero().squeeze(1)
    found = []
    for row in range(int(rows.max()) + 1):
        own = (rows == row).nonzero().squeeze(1)
        prompt = ((segments == segments[own[0]]) & (rows == NOWHERE)).nonzero().squeeze(1)
        found.append(torch.cat((shared, prompt, own)))
    length = max(map(len, found))
    device = rows.device
    tokens_RT = torch.zeros((len(found), length), dtype=torch.long, device=device)
    mask_RT = torch.zeros_like(tokens_RT)
    where_N = torch.zeros(len(rows), dtype=torch.long, device=device)
    for number, index in reversed([*enumerate(found)]):
        tokens_RT[number, : len(index)] = places.tokens_N[index]
        mask_RT[number, : len(index)] = 1
        where_N[index] = number * length + torch.arange(len(index), device=device)
    return Sequences(tokens_RT, mask_RT, where_N)
