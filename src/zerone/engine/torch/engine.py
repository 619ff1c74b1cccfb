"""The torch engine: continuous batching over a decoder in this process.

One batch (batch.py), one cache and one way to draw serve rollouts, evaluation and HTTP; what differs is
the policy of admission (admission.py). In: requests. Out: an event for each completion or piece of one.
Prefill runs through the trainer's packed forward pass. A draw depends on a completion's seed and its
position alone, whatever is decoded beside it.
"""

from collections.abc import Sequence
from typing import Any

import torch

from zerone.engine.api import Event, Failure, Request, SamplingParams, check_context, generate_with
from zerone.engine.row import rows_of
from zerone.engine.torch.admission import Admission, Arrivals, Waves
from zerone.engine.torch.batch import Bounded
from zerone.engine.weights import ModuleWeights, WeightSource, load_into
from zerone.model.decoder import Decoder
from zerone.model.loading import empty_model
from zerone.types import Rollout


class TorchEngine:
    """Samples with the weights of a transformers module; see the module's docstring.

    `slots` rows are decoded at once. With `kv_bytes` requests are taken as they arrive and the cache is
    bounded by it; without, each submission is a wave whose memory is set aside at once. `config` is the
    model's transformers configuration, needed for weights that do not lie in a module on the CPU here.
    """

    def __init__(
        self,
        tokenizer: Any,
        end_ids: Sequence[int],
        context: int,
        slots: int,
        dtype: torch.dtype,
        *,
        kv_bytes: int | None = None,
        config: Any = None,
    ) -> None:
        self.weight_version = -1
        self.weight_hash = ""
        self.dtype = dtype
        self.num_cancelled = 0
        self._tokenizer = tokenizer
        self._end_ids = frozenset(end_ids)
        self._context = context
        self._slots = slots
        self._kv_bytes = kv_bytes
        self._decoder: Decoder | None = None
        self._config = config
        self._own: Any = None
        """A module that nobody else uses, into which weights from elsewhere are copied."""
        self._admission: Admission | None = None
        self._has_cancelled = False

    @torch.no_grad()
    def update_weights(self, source: WeightSource, version: int) -> None:
        """Take the weights as they are now, to be called again after each update.

        In fp32 some matrices of a module in this process are its own, not copies: sampling between an
        update and the next call would mix old and new weights. Weights from elsewhere (sharded, on a GPU,
        with adapters, in a file) are copied into a module of the engine.
        """
        if isinstance(source, ModuleWeights) and source.module.device.type == "cpu":
            module = source.module
        else:
            module = self._copied(source)
        self.use(Decoder.for_sampling(module, self.dtype), version)

    def own(self, module: Any) -> None:
        """Hold a module that nobody else uses."""
        self._own = module
        self.use(Decoder.for_sampling(module, self.dtype), 0)

    def _copied(self, source: WeightSource) -> Any:
        if self._own is None:
            if self._config is None:
                raise AssertionError("without a configuration an engine takes weights from a module alone")
            self._own = empty_model(self._config, self.dtype)
        load_into(self._own, source)
        return self._own

    def use(self, decoder: Decoder, version: int) -> None:
        """Sample with a decoder from now on."""
        self._decoder, self.weight_version = decoder, version
        self._admission = self._new_admission(decoder)

    def sleep(self) -> None:
        """Give up the weights and their memory until the next `update_weights`."""
        self._decoder = self._admission = self._own = None

    def close(self) -> None:
        """Give up the weights."""
        self.sleep()

    def submit(self, requests: Sequence[Request]) -> None:
        """Accept requests, for a prompt and `max_tokens` that fit into the model's context.

        Raises ModelError where they do not.
        """
        check_context(requests, self._context)
        rows = rows_of(requests, self._tokenizer, self._end_ids)
        for row in rows:
            row.weights = self.weight_version, self.weight_hash
        if rows:
            self._awake.enter(rows)

    def cancel(self, requests: Sequence[Request]) -> None:
        """Stop the work on these requests before the next step."""
        for request in requests:
            request.cancel()
        self._has_cancelled = True

    @property
    def is_busy(self) -> bool:
        """Whether rows are under way or wait."""
        return self._admission is not None and bool(self.num_active or self.num_waiting)

    def events(self) -> list[tuple[Request, Event]]:
        """Drop what was cancelled, admit what is due, decode one token for all; return what came of it.

        Whatever interrupts a step, all rows are lost with it.
        """
        is_done = False
        try:
            with torch.inference_mode():
                told = self._advance()
            is_done = True
            return told
        finally:
            if not is_done and self._decoder is not None:
                self._admission = self._new_admission(self._decoder)

    def _advance(self) -> list[tuple[Request, Event]]:
        if self._has_cancelled:
            self._has_cancelled = False
            self.num_cancelled += self._awake.drop_cancelled()
        told: list[tuple[Request, Event]] = []
        for request, event in self._awake.advance():
            if isinstance(event, Failure):
                if request.is_cancelled:
                    continue
                self.cancel([request])  # so that its other completions leave as well
            told.append((request, event))
        return told

    def generate(self, requests: Sequence[Request], sampling: SamplingParams) -> list[list[Rollout]]:
        """Return the rollouts of each request in the order of its seeds.

        Raises ModelError when a prompt and `max_tokens` do not fit into the model's context.
        """
        return generate_with(self, requests, sampling)

    def holds(self, request: Request) -> bool:
        """Return whether any completion of this request is under way or waits."""
        return self._admission is not None and any(
            row.request is request for row in self._admission.unfinished()
        )

    @property
    def num_active(self) -> int:
        """Completions being decoded, those included whose prompt is being computed."""
        return 0 if self._admission is None else self._admission.num_active

    @property
    def num_waiting(self) -> int:
        """Completions that were accepted and not begun."""
        return 0 if self._admission is None else self._admission.num_waiting

    @property
    def _awake(self) -> Admission:
        if self._admission is None:
            raise AssertionError("update_weights comes before sampling")
        return self._admission

    def _new_admission(self, decoder: Decoder) -> Admission:
        if self._kv_bytes is None:
            return Waves(decoder, self._slots)
        return Arrivals(decoder, Bounded(self._context, self._slots, self._kv_bytes))
