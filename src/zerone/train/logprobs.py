"""Log-probabilities and entropies from hidden states, without holding the logits of all tokens.

Dimensions: C completion tokens, D width, V vocabulary.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from zerone.engine.torch.sampling import scaled_logprobs

LARGEST_LOGITS = 2**24
"""Cells of the [C, V] logits that are held at once: 64 MB in fp32, and several times that in the backward
pass. A micro-batch of a model with a small vocabulary stays below."""

_TIMES_ON_GPU = 8
"""A GPU is given larger pieces: each adds a gradient as large as the head, which takes it longer than the
products of a hundred tokens."""


def largest_logits(is_gpu: bool) -> int:
    """Return the cells of the [C, V] logits that are held at once."""
    return (_TIMES_ON_GPU if is_gpu else 1) * LARGEST_LOGITS


def _piece_of(hidden_CD: Tensor, vocab_size: int) -> int:
    """Return the number of tokens whose logits are held at once."""
    return max(1, largest_logits(hidden_CD.is_cuda) // vocab_size)


def read_logprobs(
    hidden_CD: Tensor,
    targets_C: Tensor,
    head: Callable[[Tensor], Tensor],
    vocab_size: int,
    temperature: float,
) -> tuple[Tensor, Tensor]:
    """Return log pi of each target and, without gradient, the entropy there, both [C] in fp32.

    Logits beyond `largest_logits` are computed in pieces, and once more in the backward pass: many tokens
    then cost the memory of one piece, and half of the head's time more (benchmarks/parallel_memory.py).
    """

    def read(hidden_CD: Tensor, targets_C: Tensor) -> tuple[Tensor, Tensor]:
        logprobs_CV = scaled_logprobs(head(hidden_CD), temperature)
        return chosen(logprobs_CV, targets_C), entropies(logprobs_CV)

    size = _piece_of(hidden_CD, vocab_size)
    if len(hidden_CD) <= size:
        return read(hidden_CD, targets_C)
    pieces = zip(hidden_CD.split(size), targets_C.split(size), strict=True)
    found = [checkpoint(read, *piece, use_reentrant=False) for piece in pieces]
    logprobs, entropy = zip(*found, strict=True)
    return torch.cat(logprobs), torch.cat(entropy)


def read_cross_entropy(
    hidden_CD: Tensor, targets_C: Tensor, head: Callable[[Tensor], Tensor], vocab_size: int
) -> Tensor:
    """Return the sum of -log pi of the targets, with large logits in pieces as in `read_logprobs`."""

    def read(hidden_CD: Tensor, targets_C: Tensor) -> Tensor:
        return functional.cross_entropy(head(hidden_CD), targets_C, reduction="sum")

    size = _piece_of(hidden_CD, vocab_size)
    if len(hidden_CD) <= size:
        return read(hidden_CD, targets_C)
    pieces = zip(hidden_CD.split(size), targets_C.split(size), strict=True)
    found = [checkpoint(read, *piece, use_reentrant=False) for piece in pieces]
    return torch.stack(found).sum()


def token_logprobs(logits_CV: Tensor, tokens_C: Tensor, temperature: float) -> Tensor:
    """Return log pi(token) under the distribution that was sampled from, shape [C], fp32."""
    return chosen(scaled_logprobs(logits_CV, temperature), tokens_C)


def chosen(logprobs_CV: Tensor, tokens_C: Tensor) -> Tensor:
    """Return the entry of each row's token, [C]."""
    return logprobs_CV.gather(1, tokens_C[:, None]).squeeze(1)


@torch.no_grad()
def entropies(logprobs_CV: Tensor) -> Tensor:
    """Return the entropy of each distribution in nats, [C], without gradient."""
    return -(logprobs_CV.exp() * logprobs_CV).sum(-1)
