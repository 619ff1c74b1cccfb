"""Turns logits into tokens with one uniform number per row.

Inverse-transform sampling needs a single number per token, so a row's answer depends on its own
seed and not on which rows happen to be decoded beside it.

Dimensions: B rows, N rows or tokens, V vocabulary.
"""

import numpy as np
import torch
from torch import Tensor


def uniforms(seed: int, count: int) -> list[float]:
    """Return the `count` uniform numbers in [0, 1) that belong to a sample's seed."""
    numbers: list[float] = np.random.Generator(np.random.Philox(key=seed)).random(count).tolist()
    return numbers


def scaled_logprobs(logits_NV: Tensor, temperature: float) -> Tensor:
    """Return the log-probabilities at a temperature above 0, in fp32; at 1 without a pass to divide.

    Sampler and trainer share it, so both mean the same distribution.
    """
    logits_NV = logits_NV.float()
    return (logits_NV if temperature == 1 else logits_NV / temperature).log_softmax(-1)


def sample(
    logits_BV: Tensor, uniforms_B: Tensor, *, temperature: float, top_k: int, top_p: float
) -> tuple[Tensor, Tensor]:
    """Draw a token per row; return tokens_B and their log-probabilities.

    The log-probabilities are those of the distribution drawn from (after temperature, top-k and
    top-p), as importance ratios need them; with temperature 0 those of the softmax at 1.
    """
    if temperature == 0:
        logprobs_BV = logits_BV.log_softmax(-1)
        tokens_B = logits_BV.argmax(-1)
    else:
        logprobs_BV = scaled_logprobs(logits_BV, temperature)
        if top_k or top_p < 1:
            logprobs_BV = restrict(logprobs_BV, top_k, top_p).log_softmax(-1)
        cumulative_BV = logprobs_BV.exp().cumsum(-1, dtype=torch.float64)
        drawn_B = uniforms_B * cumulative_BV[:, -1]
        tokens_B = torch.searchsorted(cumulative_BV, drawn_B[:, None], right=True).squeeze(1)
        tokens_B = tokens_B.clamp_(max=logits_BV.shape[1] - 1)
    return tokens_B, logprobs_BV.gather(1, tokens_B[:, None]).squeeze(1)


def restrict(logprobs_BV: Tensor, top_k: int, top_p: float) -> Tensor:
    """Set all but the `top_k` likeliest tokens, and all beyond the mass `top_p`, to -inf.

    The likeliest token always stays.
    """
    if 0 < top_k < logprobs_BV.shape[1]:
        smallest_kept_B1 = logprobs_BV.topk(top_k, dim=-1).values[:, -1:]
        logprobs_BV = logprobs_BV.masked_fill(logprobs_BV < smallest_kept_B1, float("-inf"))
    if top_p < 1:
        sorted_BV, order_BV = logprobs_BV.softmax(-1).sort(dim=-1, descending=True)
        is_beyond_BV = sorted_BV.cumsum(-1) - sorted_BV >= top_p
        is_beyond_BV = is_beyond_BV.scatter(1, order_BV, is_beyond_BV)
        logprobs_BV = logprobs_BV.masked_fill(is_beyond_BV, float("-inf"))
    return logprobs_BV
