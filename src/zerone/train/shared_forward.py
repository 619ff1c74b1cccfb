"""A model's forward pass over the micro-batches of one update, with what they share computed once.

Shared are the decoder's joined (or cast) weights, and the keys and values of a prefix that the batches
keep apart. Each micro-batch's backward pass ends there and adds its gradient up; `finish` carries
the sums on to the module's own parameters. The gradient is the same as without, to the last bit for
the weights, for the price of one pass where every micro-batch would pay.

Dimensions: C completion tokens, D width, E head size, K key/value heads, P prefix tokens, V vocabulary.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from zerone.model.decoder import Decoder
from zerone.model.packed import packed_hidden, prefix_kv
from zerone.train.logprobs import read_cross_entropy, read_logprobs
from zerone.train.trainer import Targets

_SMALL = 2**14
"""Cells up to which a tensor's gradients are kept apart. The norms of Qwen3's heads are one vector for
all heads, and so summed over heads on their way; batch by batch, the sum is that of no cut at all."""


class _Cut:
    """A cut through the graph: passes on tensors whose gradient stays with them until `finish`."""

    def __init__(self, small: int = 0) -> None:
        self._small = small
        self._ends: list[tuple[Tensor, _Gradients]] = []

    def __call__(self, x: Tensor) -> Tensor:
        """Return `x` for graphs that end at it; parameters and constants are such ends already."""
        if x.is_leaf or not x.requires_grad:
            return x
        end, gradients = x.detach().requires_grad_(), _Gradients(is_one_by_one=x.numel() <= self._small)
        end.register_post_accumulate_grad_hook(gradients.take)
        self._ends.append((x, gradients))
        return end

    def finish(self) -> None:
        """Carry the gradients on; graphs and sums are given up."""
        ends, self._ends = self._ends, []
        for number in range(max((len(gradients.kept) for _, gradients in ends), default=0)):
            reached = [(x, g.kept[number].type_as(x)) for x, g in ends if number < len(g.kept)]
            tensors, gradients = zip(*reached, strict=True)
            torch.autograd.backward(tensors, gradients, retain_graph=True)


class _Gradients:
    """What has reached a tensor: one by one, or its sum in fp32 whatever its type."""

    def __init__(self, *, is_one_by_one: bool) -> None:
        self._is_one_by_one = is_one_by_one
        self.kept: list[Tensor] = []

    def take(self, x: Tensor) -> None:
        """Keep the gradient that has just reached `x`."""
        if x.grad is None:
            raise AssertionError("called after a gradient has been accumulated")
        if self.kept and not self._is_one_by_one:
            self.kept[0] += x.grad
        else:
            self.kept.append(x.grad.float())
        x.grad = None


class SharedForward:
    """A module's decoder for all micro-batches of an update, to be finished before the optimiser's step.

    Made under `torch.no_grad()` it serves a module that does not learn.
    """

    def __init__(self, module: nn.Module, dtype: torch.dtype) -> None:
        self._weights, self._prefixes = _Cut(_SMALL), _Cut()
        self.decoder = Decoder(module, dtype, self._weights)
        self._kv: dict[tuple[int, ...], list[Tensor]] = {}

    def kv(self, prefix: tuple[int, ...]) -> Sequence[Tensor]:
        """Return the keys and values of a prefix kept apart, [P, 2K, E] per layer; nothing for none."""
        if not prefix:
            return ()
        if prefix not in self._kv:
            self._kv[prefix] = [self._prefixes(layer) for layer in prefix_kv(self.decoder, prefix)]
        return self._kv[prefix]

    def hidden(self, batch: Targets) -> Tensor:
        """Return what the head reads for each target, [C, D]."""
        hidden_ND = packed_hidden(self.decoder, batch.packed, self.kv(batch.packed.apart))
        return hidden_ND.index_select(0, batch.sources_C.to(hidden_ND.device))

    def logits(self, batch: Targets) -> Tensor:
        """Return the head's output for each target, [C, V] in fp32."""
        return self.decoder.logits(self.hidden(batch))

    def logprobs(self, batch: Targets, temperature: float) -> tuple[Tensor, Tensor]:
        """Return log pi of each target and, without gradient, the entropy there, both [C] in fp32."""
        decoder = self.decoder
        return read_logprobs(
            self.hidden(batch), batch.targets_C, decoder.logits, decoder.vocab_size, temperature
        )

    def cross_entropy(self, batch: Targets) -> Tensor:
        """Return the sum of -log pi of the targets, in fp32."""
        decoder = self.decoder
        return read_cross_entropy(self.hidden(batch), batch.targets_C, decoder.logits, decoder.vocab_size)

    def finish(self) -> None:
        """Carry the gradient that all backward passes have added up to the module's parameters."""
        self._prefixes.finish()
        self._weights.finish()
