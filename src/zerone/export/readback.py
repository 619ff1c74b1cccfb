"""Reads a GGUF file as llama.cpp does, and compares what it computes with the model it was written from.

In: the file, and the module that was written. Out: nothing, or ExportError. It shares no function with the
writer: names, order of channels, rotary angles and the tied output matrix are read from the file alone, so
that a fault of the writer shows in the logits.

Dimensions: N tokens, D width, H query heads, K key/value heads, E head size, V vocabulary.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from zerone.errors import ExportError

_NUM_TOKENS = 24
_LAST_POSITION = 2047
"""Low frequencies turn visibly up to there, and fp32 still has their angles to 2e-4."""
_TOLERANCE = 0.01
"""Of the logits' standard deviation. Sums in another order differ by a thousandth of that; a head, a norm
or an angle in the wrong place by a tenth of the deviation and more."""


class GgufModel:
    """A Llama, Qwen2 or Qwen3 model in a GGUF file."""

    def __init__(self, path: Path) -> None:
        import gguf

        reader = gguf.GGUFReader(path)
        self._fields = {name: field.contents() for name, field in reader.fields.items()}
        self._tensors = {tensor.name: tensor for tensor in reader.tensors}
        self.kind = str(self._fields["general.architecture"])

    def _number(self, name: str, default: float | str | None = None) -> Any:
        value = self._fields.get(f"{self.kind}.{name}", default)
        if value is None:
            raise KeyError(f"{self.kind}.{name}")
        return value

    def tensor(self, name: str) -> Tensor:
        """Return a tensor in fp32; GGUF names its dimensions from the innermost."""
        tensor = self._tensors[name]
        shape = [int(size) for size in reversed(tensor.shape)]
        return torch.from_numpy(np.array(tensor.data, dtype=np.float32)).view(shape)

    def _product(self, name: str, x_ND: Tensor) -> Tensor:
        bias = self.tensor(f"{name}.bias") if f"{name}.bias" in self._tensors else None
        return functional.linear(x_ND, self.tensor(f"{name}.weight"), bias)

    def _norm(self, name: str, x: Tensor) -> Tensor:
        eps = self._number("attention.layer_norm_rms_epsilon")
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * self.tensor(f"{name}.weight")

    def _angles(self, positions_N: Tensor) -> tuple[Tensor, float]:
        """Return the angle of each pair of channels, and what its products are scaled by."""
        size, base = int(self._number("rope.dimension_count")), float(self._number("rope.freq_base"))
        pairs = torch.arange(size // 2, dtype=torch.float64)
        angles = positions_N.double()[:, None] * base ** (-2 * pairs / size)
        if "rope_freqs.weight" in self._tensors:
            angles = angles / self.tensor("rope_freqs.weight").double()
        kind, factor = self._number("rope.scaling.type", "none"), self._number("rope.scaling.factor", 1.0)
        scale = float(self._number("rope.scaling.attn_factor", 1.0))
        if kind == "linear":
            angles = angles / factor
        if kind == "yarn":
            context = self._number("rope.scaling.original_context_length")
            ends = [
                size * math.log(context / (turns * 2 * math.pi)) / (2 * math.log(base))
                for turns in (
                    self._number("rope.scaling.yarn_beta_fast", 32.0),
                    self._number("rope.scaling.yarn_beta_slow", 1.0),
                )
            ]
            first, last = max(0, math.floor(ends[0])), min(size - 1, math.ceil(ends[1]))
            kept = 1 - ((pairs - first) / max(0.001, last - first)).clamp(0, 1)
            angles = angles / factor * (1 - kept) + angles * kept
            scale *= 1 + 0.1 * math.log(factor)
        return angles, scale

    def _rotate(self, x_NHE: Tensor, positions_N: Tensor) -> Tensor:
        """Turn pairs of channels: neighbours in Llama files, channels i and i + E/2 in the others."""
        angles, scale = self._angles(positions_N)
        cos, sin = (wave(angles)[:, None].float() * scale for wave in (torch.cos, torch.sin))
        if self.kind == "llama":
            a, b = x_NHE[..., 0::2], x_NHE[..., 1::2]
            return torch.stack((a * cos - b * sin, a * sin + b * cos), dim=-1).flatten(-2)
        a, b = x_NHE.chunk(2, dim=-1)
        return torch.cat((a * cos - b * sin, a * sin + b * cos), dim=-1)

    def _attention(self, block: str, x_ND: Tensor, positions_N: Tensor) -> Tensor:
        size = int(self._number("attention.key_length"))
        queries, keys, values = (
            self._product(f"{block}.attn_{name}", x_ND).unflatten(-1, (-1, size)) for name in "qkv"
        )
        if f"{block}.attn_q_norm.weight" in self._tensors:
            queries = self._norm(f"{block}.attn_q_norm", queries)
            keys = self._norm(f"{block}.attn_k_norm", keys)
        queries, keys = (self._rotate(x, positions_N) for x in (queries, keys))
        if (queries.shape[1], keys.shape[1]) != (
            self._number("attention.head_count"),
            self._number("attention.head_count_kv"),
        ):
            raise KeyError(f"{block} has another number of heads")
        shared = queries.shape[1] // keys.shape[1]
        q_HNE, k_HNE, v_HNE = (
            x.transpose(0, 1)
            for x in (queries, keys.repeat_interleave(shared, 1), values.repeat_interleave(shared, 1))
        )
        mixed_HNE = functional.scaled_dot_product_attention(q_HNE, k_HNE, v_HNE, is_causal=True)
        return self._product(f"{block}.attn_output", mixed_HNE.transpose(0, 1).flatten(1))

    @torch.no_grad()
    def logits(self, tokens_N: Tensor, positions_N: Tensor) -> Tensor:
        """Return the logits [N, V] of a text."""
        x_ND = self.tensor("token_embd.weight")[tokens_N]
        for number in range(self._number("block_count")):
            block = f"blk.{number}"
            x_ND = x_ND + self._attention(block, self._norm(f"{block}.attn_norm", x_ND), positions_N)
            y_ND = self._norm(f"{block}.ffn_norm", x_ND)
            gated = functional.silu(self._product(f"{block}.ffn_gate", y_ND))
            x_ND = x_ND + self._product(f"{block}.ffn_down", gated * self._product(f"{block}.ffn_up", y_ND))
        head = "output" if "output.weight" in self._tensors else "token_embd"
        return self._product(head, self._norm("output_norm", x_ND))


@torch.no_grad()
def check_gguf(path: Path, module: Any, *, is_rounded: bool) -> None:
    """Raise ExportError unless a file computes what the module does.

    Where matrices `is_rounded` to half precision, those of the module are too, in place.
    """
    if is_rounded:
        for parameter in module.parameters():
            if parameter.ndim > 1:
                parameter.copy_(parameter.half().float())
    embedding_VD = module.model.embed_tokens.weight
    tokens_N = torch.linspace(0, len(embedding_VD) - 1, _NUM_TOKENS).long()
    last = min(module.config.max_position_embeddings - 1, _LAST_POSITION)
    positions_N = torch.linspace(0, last, _NUM_TOKENS).long()
    # The mask says that this is one text: positions with gaps are read as several.
    expected_NV = module(
        tokens_N[None],
        position_ids=positions_N[None],
        attention_mask=torch.ones_like(tokens_N)[None],
        use_cache=False,
    ).logits[0]
    try:
        read = GgufModel(path)
        is_same = torch.equal(read.tensor("token_embd.weight"), embedding_VD)
        found_NV = read.logits(tokens_N, positions_N)
    except (KeyError, IndexError, ValueError, RuntimeError) as error:
        raise _fault(path, str(error)) from error
    if not is_same or found_NV.shape != expected_NV.shape:
        raise _fault(path, "its embedding or the number of its logits is another")
    allowed = _TOLERANCE * float(expected_NV.std())
    difference = float((found_NV - expected_NV).abs().max())
    if not difference <= allowed:
        raise _fault(path, f"its logits differ by {difference:.3g}, where {allowed:.3g} is rounding")


def _fault(path: Path, what: str) -> ExportError:
    return ExportError(
        f"{path} does not compute what the model does ({what}); check the disk and try again, or export "
        "with --to hf"
    )
