"""Padding-free training batches: many sequences in one flat vector, shared prompts only once.

A `Segment` is a prompt and the rows that continue it: the G completions of a GRPO group, or
documents that begin alike. What all segments begin with (the template, worked examples) is the
prefix of the batch. So a prefix is computed once per batch and a prompt once per group, not G
times. A long prefix may be kept apart: the batch then holds only what follows, and the keys and
values of the prefix, which many batches can share (once.py), are given to it. Everything but
attention runs on the flat tokens; attention pads within a few rows.

Dimensions: N tokens of the batch, P prompt tokens, R rows, T tokens of the longest row,
C tokens of a block of rows (C <= R*T = M), H/K query/key heads, E head size.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from zerone.model.decoder import Decoder


@dataclass(frozen=True, slots=True)
class RowBlock:
    """Rows that are padded together.

    `padded_M` (M = R*T) holds for each cell of the padded rows its token (any token for cells
    beyond a row's end), `flat_C` for each token its cell, both counted within the block.
    """

    num_rows: int
    padded_M: Tensor
    flat_C: Tensor

    @property
    def length(self) -> int:
        """The number of cells of each row."""
        return len(self.padded_M) // self.num_rows


@dataclass(frozen=True, slots=True)
class Segment:
    """A prompt's tokens, then its rows one after another, in blocks."""

    num_prompt: int
    blocks: tuple[RowBlock, ...]


@dataclass(frozen=True, slots=True)
class Packed:
    """A packed batch: the prefix of all segments, then the segments in order.

    `apart` is a prefix that all of it continues and that is not among its tokens.
    """

    tokens_N: Tensor
    positions_N: Tensor
    num_prefix: int
    segments: tuple[Segment, ...]
    apart: tuple[int, ...] = ()


ROWS_PER_BLOCK = 8
"""Rows that are padded together; few, so that little is wasted where neighbours differ."""


def common_prefix(sequences: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """Return the longest common prefix that leaves every sequence at least one token."""
    shortest, first, last = min(map(len, sequences)), min(sequences), max(sequences)
    length = 0
    while length < shortest - 1 and first[length] == last[length]:
        length += 1
    return tuple(first[:length])


def pack(
    sequences: Sequence[tuple[Sequence[int], Sequence[Sequence[int]]]],
    prefix: Sequence[int] = (),
    *,
    is_apart: bool = False,
) -> Packed:
    """Pack (prompt, rows) pairs that all continue `prefix`; a prompt may be empty, rows must not be.

    Neighbouring rows are padded together, so rows sorted by length waste least.
    """
    num_prefix = 0 if is_apart else len(prefix)
    tokens: list[int] = [*prefix[:num_prefix]]
    positions: list[int] = [*range(num_prefix)]
    segments = []
    for prompt, rows in sequences:
        start = len(prefix) + len(prompt)
        tokens.extend(prompt)
        positions.extend(range(len(prefix), start))
        for row in rows:
            tokens.extend(row)
            positions.extend(range(start, start + len(row)))
        lengths = [len(row) for row in rows]
        blocks = (lengths[i : i + ROWS_PER_BLOCK] for i in range(0, len(rows), ROWS_PER_BLOCK))
        segments.append(Segment(len(prompt), tuple(_block(block) for block in blocks)))
    apart = tuple(prefix) if is_apart else ()
    return Packed(torch.tensor(tokens), torch.tensor(positions), num_prefix, tuple(segments), apart)


def _block(lengths: list[int]) -> RowBlock:
    lengths_R = torch.tensor(lengths)
    steps_T = torch.arange(max(lengths))
    is_token_RT = steps_T < lengths_R[:, None]
    starts_R = torch.cumsum(lengths_R, 0) - lengths_R
    padded_RT = torch.where(is_token_RT, starts_R[:, None] + steps_T, 0)
    return RowBlock(len(lengths), padded_RT.flatten(), is_token_RT.flatten().nonzero().squeeze(1))


class _PadRows(torch.autograd.Function):
    """Gather flat tokens into padded rows.

    Autograd's own backward of a gather adds up with scattered writes, which is slow on CPUs; as
    every token has exactly one cell, the gradient is a gather as well. Cells beyond a row's end
    receive no gradient: no valid query attends to them.
    """

    @staticmethod
    def forward(ctx: Any, x_CF: Tensor, padded_M: Tensor, flat_C: Tensor) -> Tensor:
        ctx.save_for_backward(flat_C)
        return x_CF.index_select(0, padded_M)

    @staticmethod
    def backward(ctx: Any, grad_MF: Tensor) -> tuple[Tensor, None, None]:
        (flat_C,) = ctx.saved_tensors
        return grad_MF.index_select(0, flat_C), None, None


class _FlattenRows(torch.autograd.Function):
    """The reverse of `_PadRows`; cells beyond a row's end get a gradient of zero."""

    @staticmethod
    def forward(ctx: Any, x_MF: Tensor, flat_C: Tensor) -> Tensor:
        ctx.save_for_backward(flat_C)
        ctx.num_cells = x_MF.shape[0]
        return x_MF.index_select(0, flat_C)

    @staticmethod
    def backward(ctx: Any, grad_CF: Tensor) -> tuple[Tensor, None]:
        (flat_C,) = ctx.saved_tensors
        grad_MF = grad_CF.new_zeros(ctx.num_cells, grad_CF.shape[1])
        grad_MF[flat_C] = grad_CF
        return grad_MF, None


class PackedAttention:
    """Causal attention over a packed batch: rows see prefix, prompt and themselves.

    `apart_kv` are the keys and values of a prefix kept apart, [P, 2K, E] per layer.
    """

    def __init__(self, packed: Packed, dtype: torch.dtype, apart_kv: Sequence[Tensor] = ()) -> None:
        self._packed = packed
        self._apart_kv = apart_kv
        self._sizes = [packed.num_prefix] + [
            size
            for segment in packed.segments
            for size in (segment.num_prompt, *(len(block.flat_C) for block in segment.blocks))
        ]
        self._mask_of = functools.cache(lambda before, length: causal_mask(before, length, dtype))

    def __call__(self, layer: int, q_NHE: Tensor, k_NKE: Tensor, v_NKE: Tensor) -> Tensor:
        """Attend; the layer's number matters to a prefix kept apart only."""
        kv_NKE = torch.cat((k_NKE, v_NKE), dim=1)
        parts = zip(q_NHE.split(self._sizes), kv_NKE.split(self._sizes), strict=True)
        mixed = []
        q, prefix_kv = next(parts)
        if self._packed.num_prefix:
            mixed.append(attend(q[None], prefix_kv[None], self._mask_of(0, len(prefix_kv)))[0])
        if self._apart_kv:
            prefix_kv = self._apart_kv[layer]
        num_prefix = len(prefix_kv)
        for segment in self._packed.segments:
            q, prompt_kv = next(parts)
            before_kv = torch.cat((prefix_kv, prompt_kv)) if num_prefix else prompt_kv
            if segment.num_prompt:
                mask = self._mask_of(num_prefix, segment.num_prompt)
                mixed.append(attend(q[None], before_kv[None], mask)[0])
            for block in segment.blocks:
                mask = self._mask_of(len(before_kv), block.length)
                mixed.append(_attend_rows(block, mask, before_kv, *next(parts)))
        return torch.cat(mixed)


def causal_mask(num_before: int, length: int, dtype: torch.dtype) -> Tensor:
    """Return the additive mask [T, P+T]: everything before, and no later token of the row."""
    mask = torch.full((length, num_before + length), float("-inf"), dtype=dtype)
    return mask.triu(num_before + 1)


def _attend_rows(
    block: RowBlock, mask_TS: Tensor, before_kv: Tensor, q_CHE: Tensor, kv_CKE: Tensor
) -> Tensor:
    def padded(x: Tensor) -> Tensor:
        rows = _PadRows.apply(x.flatten(1), block.padded_M, block.flat_C)  # type: ignore[no-untyped-call]  # as below
        return rows.view(block.num_rows, block.length, *x.shape[1:])  # type: ignore[no-any-return]  # torch leaves autograd functions untyped

    kv = torch.cat((before_kv.expand(block.num_rows, *before_kv.shape), padded(kv_CKE)), dim=1)
    mixed_MF = attend(padded(q_CHE), kv, mask_TS).flatten(2).flatten(0, 1)
    return _FlattenRows.apply(mixed_MF, block.flat_C).view_as(q_CHE)  # type: ignore[no-any-return, no-untyped-call]  # torch leaves autograd functions untyped


def attend(q_RTHE: Tensor, kv_RSKE: Tensor, mask_TS: Tensor) -> Tensor:
    """Attend by plain matrix products, which beat the fused CPU kernel at these sizes."""
    rows, length, heads, size = q_RTHE.shape
    k_RKES, v_RKSE = (x.transpose(1, 2) for x in kv_RSKE.chunk(2, dim=2))
    k_RKES = k_RKES.transpose(2, 3)
    kv_heads = k_RKES.shape[1]
    q = q_RTHE.transpose(1, 2).reshape(rows, kv_heads, heads // kv_heads * length, size)
    scores = (q * size**-0.5) @ k_RKES
    scores = scores.unflatten(2, (-1, length)) + mask_TS
    mixed: Tensor = scores.softmax(-1).flatten(2, 3) @ v_RKSE
    return mixed.reshape(rows, heads, length, size).transpose(1, 2)


def packed_hidden(decoder: Decoder, packed: Packed, apart_kv: Sequence[Tensor] = ()) -> Tensor:
    """Return the hidden states [N, D] of a packed batch; a prefix kept apart is computed if not given."""
    if packed.apart and not apart_kv:
        apart_kv = prefix_kv(decoder, packed.apart)
    attention = PackedAttention(packed, decoder.dtype, apart_kv)
    return decoder.hidden(packed.tokens_N, packed.positions_N, attention)


class _Recorder:
    """An `Attend` function that also keeps the keys and values of every layer."""

    def __init__(self, packed: Packed, dtype: torch.dtype, apart_kv: Sequence[Tensor]) -> None:
        self._attention = PackedAttention(packed, dtype, apart_kv)
        self.kv: list[Tensor] = []

    def __call__(self, layer: int, q_NHE: Tensor, k_NKE: Tensor, v_NKE: Tensor) -> Tensor:
        self.kv.append(torch.cat((k_NKE, v_NKE), dim=1))
        return self._attention(layer, q_NHE, k_NKE, v_NKE)


def kv_of(decoder: Decoder, packed: Packed, apart_kv: Sequence[Tensor] = ()) -> tuple[Tensor, list[Tensor]]:
    """Return the hidden states of a packed batch, and its keys and values, [N, 2K, E] per layer."""
    recorder = _Recorder(packed, decoder.dtype, apart_kv)
    hidden_ND = decoder.hidden(packed.tokens_N, packed.positions_N, recorder)
    return hidden_ND, recorder.kv


def prefix_kv(decoder: Decoder, prefix: Sequence[int]) -> list[Tensor]:
    """Return the keys and values of a prefix, [P, 2K, E] per layer."""
    return kv_of(decoder, pack([], prefix))[1]
