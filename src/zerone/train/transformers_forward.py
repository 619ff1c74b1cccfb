"""The forward pass of any transformers causal language model over packed batches.

The packed layout goes through the model's own modules with a mask: a dense one under SDPA on CPUs,
FlexAttention's block mask on GPUs, so a prompt is computed once for all its completions. Whether a
model computes it rightly is found out by a small batch when it is opened (`computes_packed`); one
that does not is given each sequence by itself.

Dimensions: C completion tokens, D width, N packed tokens, V vocabulary.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from types import MethodType
from typing import Any, Literal

import torch
from torch import Tensor, nn

from zerone.model.lora import adapters_off, base_of
from zerone.model.packed import pack
from zerone.model.visibility import Places, block_mask, dense_mask, places_of, sequences_of
from zerone.train.logprobs import read_cross_entropy, read_logprobs
from zerone.train.trainer import Targets

Attention = Literal["dense", "flex", "unpacked"]


@dataclass(frozen=True, slots=True)
class TransformersForward:
    """A `ModelPass` over a module that `add_methods` was called for."""

    module: Any
    device: torch.device
    dtype: torch.dtype
    attention: Attention
    is_base: bool = False
    """Whether adapters are off, as for the reference of a LoRA training."""

    def logits(self, batch: Targets) -> Tensor:
        """Return the head's output for each target, [C, V] in fp32."""
        places = places_of(batch.packed, self.device)
        sources_C = batch.sources_C.to(self.device) + places.num_before
        with self._model() as module:
            found: Tensor = module.zerone_logits(places, sources_C, self.dtype, self.attention)
        return found

    def logprobs(self, batch: Targets, temperature: float) -> tuple[Tensor, Tensor]:
        """Return log pi of each target and, without gradient, the entropy there, both [C] in fp32."""
        places = places_of(batch.packed, self.device)
        sources_C = batch.sources_C.to(self.device) + places.num_before
        targets_C = batch.targets_C.to(self.device)
        with self._model() as module:
            found: tuple[Tensor, Tensor] = module.zerone_logprobs(
                places, sources_C, targets_C, self.dtype, self.attention, temperature
            )
        return found

    def cross_entropy(self, batch: Targets) -> Tensor:
        """Return the sum of -log pi of the targets, in fp32."""
        places = places_of(batch.packed, self.device)
        sources_C = batch.sources_C.to(self.device) + places.num_before
        targets_C = batch.targets_C.to(self.device)
        with self._model() as module:
            found: Tensor = module.zerone_cross_entropy(
                places, sources_C, targets_C, self.dtype, self.attention
            )
        return found

    @contextmanager
    def _model(self) -> Iterator[Any]:
        with adapters_off(self.module) if self.is_base else nullcontext():
            yield self.module


def add_methods(module: Any) -> tuple[str, ...]:
    """Give a transformers model the methods of the pass; return their names.

    They are methods of the root module because FSDP2 gathers parameters in hooks of such methods,
    once they are registered (`register_fsdp_forward_method`).
    """
    module.zerone_logits = MethodType(_logits, module)
    module.zerone_logprobs = MethodType(_logprobs, module)
    module.zerone_cross_entropy = MethodType(_cross_entropy, module)
    return ("zerone_logits", "zerone_logprobs", "zerone_cross_entropy")


def _logits(
    module: Any, places: Places, sources_C: Tensor, dtype: torch.dtype, attention: Attention
) -> Tensor:
    hidden_CD = _hidden(module, places, dtype, attention).index_select(0, sources_C)
    return _head(module, hidden_CD)


def _logprobs(
    module: Any,
    places: Places,
    sources_C: Tensor,
    targets_C: Tensor,
    dtype: torch.dtype,
    attention: Attention,
    temperature: float,
) -> tuple[Tensor, Tensor]:
    hidden_CD = _hidden(module, places, dtype, attention).index_select(0, sources_C)
    vocab_size = text_config(module).vocab_size
    logprobs_C, entropy_C = read_logprobs(
        hidden_CD, targets_C, lambda hidden: _head(module, hidden), vocab_size, temperature
    )
    return logprobs_C.clone(), entropy_C  # FSDP2 hangs its hook on the output, which must not be a view


def _cross_entropy(
    module: Any,
    places: Places,
    sources_C: Tensor,
    targets_C: Tensor,
    dtype: torch.dtype,
    attention: Attention,
) -> Tensor:
    hidden_CD = _hidden(module, places, dtype, attention).index_select(0, sources_C)
    vocab_size = text_config(module).vocab_size
    return read_cross_entropy(hidden_CD, targets_C, lambda hidden: _head(module, hidden), vocab_size)


def text_config(module: Any) -> Any:
    """Return the configuration of the language model, where a model has others beside it."""
    return module.config.get_text_config()


def _hidden(module: Any, places: Places, dtype: torch.dtype, attention: Attention) -> Tensor:
    """Return what the head reads of each token, [N, D]."""
    body = _body(module)
    if attention == "unpacked":
        found = sequences_of(places)
        hidden = body(input_ids=found.tokens_RT, attention_mask=found.mask_RT, use_cache=False)
        return hidden.last_hidden_state.flatten(0, 1).index_select(0, found.where_N)  # type: ignore[no-any-return]  # of a module without types
    hidden = body(
        input_ids=places.tokens_N[None],
        position_ids=places.positions_N[None],
        attention_mask=_masks(module, places, dtype, attention),
        use_cache=False,
    )
    return hidden.last_hidden_state[0]  # type: ignore[no-any-return]  # as above


def _body(module: Any) -> Any:
    """Return the model without its head, below an adapter where there is one."""
    inner = base_of(module)
    return getattr(inner, inner.base_model_prefix)


def _masks(module: Any, places: Places, dtype: torch.dtype, attention: Attention) -> Any:
    """Return the mask, or one for each kind of layer where a model has several."""
    config = text_config(module)
    window = getattr(config, "sliding_window", None)
    if not getattr(config, "use_sliding_window", True):
        window = None

    def mask(window: int | None) -> Any:
        return block_mask(places, window) if attention == "flex" else dense_mask(places, dtype, window)

    kinds = set(getattr(config, "layer_types", None) or ())
    if "sliding_attention" in kinds and len(kinds) > 1:
        return {"full_attention": mask(None), "sliding_attention": mask(window)}
    return mask(window if not kinds or "sliding_attention" in kinds else None)


def _head(module: Any, hidden_CD: Tensor) -> Tensor:
    """Return the logits in fp32, with the scaling that some models have behind their head."""
    config = text_config(module)
    logits_CV: Tensor = module.get_output_embeddings()(hidden_CD).float()
    if scale := getattr(config, "logit_scale", None):  # Cohere
        logits_CV = logits_CV * scale
    if divisor := getattr(config, "logits_scaling", None):  # Granite
        logits_CV = logits_CV / divisor
    if cap := getattr(config, "final_logit_softcapping", None):  # Gemma
        logits_CV = torch.tanh(logits_CV / cap) * cap
    return logits_CV


# Whether a model takes the layout -----------------------------------------------------------------

_TOLERANCES = {torch.float32: 1e-3, torch.bfloat16: 0.1}


@torch.no_grad()
def computes_packed(
    module: nn.Module, device: torch.device, dtype: torch.dtype, attention: Attention
) -> bool:
    """Whether a packed batch gives the logits of each sequence by itself; `add_methods` comes first."""
    vocab_size = int(text_config(module).vocab_size)
    generator = torch.Generator().manual_seed(0)

    def tokens(length: int) -> list[int]:
        return torch.randint(vocab_size, (length,), generator=generator).tolist()

    packed = pack([(tokens(3), [tokens(2), tokens(5)]), (tokens(1), [tokens(4)])], tokens(4))
    places = places_of(packed, device)
    every_N = torch.arange(len(places.tokens_N), device=device)
    whole: Any = module
    try:
        found = whole.zerone_logits(places, every_N, dtype, attention)
    except (ValueError, TypeError, RuntimeError, NotImplementedError, AttributeError):
        return False
    expected = whole.zerone_logits(places, every_N, dtype, "unpacked")
    scale = expected.abs().max().clamp(min=1.0)
    return bool((found - expected).abs().max() <= _TOLERANCES[dtype] * scale)
