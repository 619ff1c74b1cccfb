"""Computes prompts: token ids in, keys and values for the cache and the next logits out.

Many short prompts go through the trainer's packed forward pass at once. A long one can be computed
in pieces, so that a server goes on decoding in between and no square of its length is held.

Dimensions: N tokens, H query heads, K key/value heads, E head size, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from zerone.model.decoder import Decoder
from zerone.model.packed import attend, causal_mask, kv_of, pack, prefix_kv


@dataclass(frozen=True, slots=True)
class Prefilled:
    """A prompt's keys and values, [T, 2K, E] per layer (keys, then values), and its next logits."""

    kv: list[Tensor]
    logits_V: Tensor

    def after(self, before_kv: Sequence[Tensor]) -> "Prefilled":
        """Return the whole prompt, of which this is the rest."""
        return Prefilled([torch.cat(pair) for pair in zip(before_kv, self.kv, strict=True)], self.logits_V)


def empty_kv(decoder: Decoder) -> list[Tensor]:
    """Return the keys and values of no token."""
    shape = (0, 2 * decoder.num_kv_heads, decoder.head_dim)
    return [torch.zeros(shape, dtype=decoder.dtype)] * decoder.num_layers


def prefill_prefix(decoder: Decoder, prefix: Sequence[int]) -> list[Tensor]:
    """Return the keys and values of what all prompts begin with."""
    return prefix_kv(decoder, prefix) if prefix else empty_kv(decoder)


def prefill(
    decoder: Decoder, before: Sequence[int], before_kv: Sequence[Tensor], rests: Sequence[Sequence[int]]
) -> list[Prefilled]:
    """Compute prompts that continue `before`, whose keys and values are known, in one packed pass.

    Returns the rest of each. No rest may be empty.
    """
    hidden_ND, kv = kv_of(decoder, pack([((), rests)], before, is_apart=True), before_kv)
    ends = torch.tensor([len(rest) for rest in rests]).cumsum(0)
    logits_BV = decoder.logits(hidden_ND[ends - 1])
    return [
        Prefilled([layer[end - len(rest) : end] for layer in kv], logits_V)
        for rest, end, logits_V in zip(rests, ends.tolist(), logits_BV, strict=True)
    ]


class _Continuation:
    """An `Attend` function for tokens that follow others, whose keys and values it is given."""

    def __init__(self, before_kv: Sequence[Tensor], length: int, dtype: torch.dtype) -> None:
        self._before_kv = before_kv
        self._mask = causal_mask(len(before_kv[0]), length, dtype)
        self.kv: list[Tensor] = []

    def __call__(self, layer: int, q_NHE: Tensor, k_NKE: Tensor, v_NKE: Tensor) -> Tensor:
        kv = torch.cat((self._before_kv[layer], torch.cat((k_NKE, v_NKE), dim=1)))
        self.kv.append(kv)
        return attend(q_NHE[None], kv[None], self._mask)[0]


class PiecewisePrefill:
    """A prompt that is computed piece by piece; `result` is there after the last one.

    `known_kv` are the keys and values of its beginning, of no token where none is known.
    """

    def __init__(self, decoder: Decoder, prompt_ids: Sequence[int], known_kv: Sequence[Tensor]) -> None:
        self._decoder = decoder
        self._prompt_ids = prompt_ids
        self._kv = list(known_kv)
        self.result: Prefilled | None = None

    def advance(self, num_tokens: int) -> None:
        """Compute the next `num_tokens` tokens, or what is left."""
        start = len(self._kv[0])
        piece = torch.tensor(self._prompt_ids[start : start + num_tokens])
        positions = torch.arange(start, start + len(piece))
        attention = _Continuation(self._kv, len(piece), self._decoder.dtype)
        hidden_ND = self._decoder.hidden(piece, positions, attention)
        self._kv = attention.kv
        if start + len(piece) == len(self._prompt_ids):
            self.result = Prefilled(self._kv, self._decoder.logits(hidden_ND[-1:])[0])
