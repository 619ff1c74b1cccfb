"""Rotary angles as GGUF files state them.

In: a transformers module. Out: the keys and the tensor of frequency factors from which llama.cpp computes
the angles that the module turns by, or ExportError where it could not. It knows no scaling for all lengths
(`linear`), by length ramps (`yarn`), and a factor per frequency, which it reads for Llama only.

Dimensions: E head size.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from zerone.errors import ExportError

_TOLERANCE = 1e-5
"""Relative; both sides compute in fp32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rope:
    """What a GGUF file says of rotary angles, beside their base; `factors_E` divide the frequencies."""

    base: float
    kind: str | None = None
    factor: float = 1.0
    numbers: dict[str, float] = field(default_factory=dict)
    original_context: int | None = None
    factors_E: Tensor | None = None


def rope_of(module: Any) -> Rope:
    """Return how a GGUF file states the rotary angles of a module; raises ExportError if none does."""
    config, embedding = module.config, module.model.rotary_emb
    stated = config.rope_parameters
    kind, base = stated.get("rope_type", "default"), float(stated["rope_theta"])
    inverse_E = embedding.inv_freq.double()
    plain_E = base ** (-torch.arange(len(inverse_E), dtype=torch.float64) / len(inverse_E))
    scale = float(embedding.attention_scaling)
    if stated.get("partial_rotary_factor", 1.0) != 1.0:
        raise _refusal("rotation of a part of the channels")
    match kind:
        case "default":
            rope, expected_E = Rope(base=base), plain_E
        case "linear":
            factor = float(stated["factor"])
            rope, expected_E = Rope(base=base, kind=kind, factor=factor), plain_E / factor
        case "llama3" if config.model_type == "llama":
            factors_E = plain_E / inverse_E
            rope, expected_E = Rope(base=base, factors_E=factors_E.float()), plain_E / factors_E
        case "yarn":
            rope, expected_E = _yarn(stated, config, plain_E, scale)
            scale = 1.0  # stated by the file
        case _:
            raise _refusal(f"rotary scaling {kind!r} of a {config.model_type} model")
    if scale != 1.0 or not torch.allclose(inverse_E, expected_E, rtol=_TOLERANCE, atol=0):
        raise _refusal(f"rotary scaling {kind!r} with these settings: {stated}")
    return rope


def _refusal(what: str) -> ExportError:
    return ExportError(f"{what} has no form in GGUF that llama.cpp computes; export with --to hf instead")


def _yarn(stated: Any, config: Any, plain_E: Tensor, scale: float) -> tuple[Rope, Tensor]:
    """Return the keys of YaRN, and the frequencies that llama.cpp makes of them."""
    original = int(stated["original_max_position_embeddings"])
    factor = float(stated.get("factor") or config.max_position_embeddings / original)
    fast, slow = float(stated.get("beta_fast") or 32), float(stated.get("beta_slow") or 1)
    size = 2 * len(plain_E)

    def channel(turns: float) -> float:
        """Return the channel that turns so often within the original context."""
        return size * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(stated["rope_theta"]))

    low, high = max(0, math.floor(channel(fast))), min(size - 1, math.ceil(channel(slow)))
    ramp_E = ((torch.arange(len(plain_E)) - low) / max(0.001, high - low)).clamp(0, 1).double()
    own_scale = 1 + 0.1 * math.log(factor)
    numbers = {"yarn_beta_fast": fast, "yarn_beta_slow": slow} if (fast, slow) != (32, 1) else {}
    if not math.isclose(scale, own_scale, rel_tol=_TOLERANCE):
        numbers["attn_factor"] = scale / own_scale
    rope = Rope(
        base=float(stated["rope_theta"]),
        kind="yarn",
        factor=factor,
        numbers=numbers,
        original_context=original,
    )
    return rope, plain_E * (1 - ramp_E) + plain_E / factor * ramp_E
