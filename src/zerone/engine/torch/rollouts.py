"""The in-process rollout engine: continuous batching over the trainer's own weights.

A call prefills what all its prompts share once, each prompt once (however many answers it wants),
and then decodes all slots together: rows that end leave, waiting rows take their place, and when
none wait the batch shrinks. Prefill runs through the trainer's packed forward pass.

Dimensions: B rows being decoded, V vocabulary, K key/value heads, E head size.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from zerone.engine.api import Request, Sampling
from zerone.engine.torch.cache import ClockCache
from zerone.engine.torch.prefill import Prefilled, prefill, prefill_prefix
from zerone.engine.torch.sampling import sample, uniforms
from zerone.engine.weights import ModuleWeights, WeightSource, load_into
from zerone.errors import ModelError
from zerone.model.decoder import Decoder
from zerone.model.loading import Model, empty_model, end_ids
from zerone.model.packed import common_prefix
from zerone.processes.machine import DTYPES, Precision, precision_for
from zerone.types import Finish, Rollout

_REFILL_PART = 8
"""Waiting rows are admitted when one slot in eight is free: prefill in batches, few idle slots."""


@dataclass(slots=True)
class _Row:
    """An answer in the making; `used` counts its tokens so far."""

    request: int
    sample: int
    uniforms: list[float]
    prompt_length: int
    tokens: list[int]
    logprobs: list[float]


class TorchEngine:
    """Samples with the weights of a transformers module; see the module's docstring."""

    def __init__(
        self,
        tokenizer: Any,
        end_ids: Sequence[int],
        context: int,
        slots: int,
        dtype: torch.dtype,
        config: Any = None,
    ) -> None:
        self.weight_version = -1
        self._tokenizer = tokenizer
        self._end_ids = frozenset(end_ids)
        self._context = context
        self._slots = slots
        self.dtype = dtype
        self._config = config
        self._shell: Any = None
        self._decoder: Decoder | None = None

    @classmethod
    def of_model(cls, model: Model, slots: int, precision: Precision | Literal["auto"]) -> "TorchEngine":
        """Return an engine that holds a model's weights; `auto` is what suits its width on this machine."""
        chosen = precision_for(model.module.config.hidden_size, precision)
        context = int(model.module.config.max_position_embeddings)
        engine = cls(model.tokenizer, end_ids(model), context, slots, DTYPES[chosen])
        engine.update_weights(ModuleWeights(model.module), 0)
        return engine

    @torch.no_grad()
    def update_weights(self, source: WeightSource, version: int) -> None:
        """Take the weights as they are now, to be called again after each update.

        In fp32 some matrices of a module in this process are its own, not copies: sampling between an
        update and the next call would mix old and new weights. Weights from elsewhere (sharded, on a GPU,
        with adapters) are copied into a module of the engine, of the transformers configuration `config`.
        """
        if isinstance(source, ModuleWeights) and source.module.device.type == "cpu":
            module = source.module
        else:
            if self._shell is None:
                self._shell = empty_model(self._config, self.dtype)
            load_into(self._shell, source)
            module = self._shell
        self._decoder = Decoder.for_sampling(module, self.dtype)
        self.weight_version = version

    def sleep(self) -> None:
        """Give up the weights and their memory until the next `update_weights`."""
        self._decoder = self._shell = None

    @torch.inference_mode()
    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Rollout]]:
        """Return the rollouts of each request in the order of its seeds.

        Raises ModelError when a prompt and `max_tokens` do not fit into the model's context.
        """
        if self._decoder is None:
            raise AssertionError("update_weights comes before generate")
        self._check_context(requests, sampling)
        return _Call(self._decoder, self._tokenizer, self._end_ids, requests, sampling).run(
            self._slots, self.weight_version
        )

    def _check_context(self, requests: Sequence[Request], sampling: Sampling) -> None:
        for request in requests:
            if len(request.prompt_ids) + sampling.max_tokens > self._context:
                raise ModelError(
                    f"a prompt of {len(request.prompt_ids)} tokens and sampling.max_tokens="
                    f"{sampling.max_tokens} exceed the model's context of {self._context} tokens "
                    f"(problem {request.problem.id}); lower sampling.max_tokens or leave it out"
                )


class _Call:
    """The state of one `generate` call."""

    def __init__(
        self,
        decoder: Decoder,
        tokenizer: Any,
        end_ids: frozenset[int],
        requests: Sequence[Request],
        sampling: Sampling,
    ) -> None:
        self._decoder = decoder
        self._tokenizer = tokenizer
        self._end_ids = end_ids
        self._requests = requests
        self._sampling = sampling
        self._prefix = common_prefix([request.prompt_ids for request in requests])
        self._waiting = deque(
            (index, sample_index)
            for index, request in enumerate(requests)
            for sample_index in range(len(request.seeds))
        )
        self._prefilled: dict[int, Prefilled] = {}
        self._rows: list[_Row | None] = []
        self._done: dict[tuple[int, int], _Row] = {}
        self._finish: dict[tuple[int, int], Finish] = {}

    def run(self, slots: int, weight_version: int) -> list[list[Rollout]]:
        """Decode until every answer has ended."""
        slots = min(slots, len(self._waiting))
        self._rows = [None] * slots
        longest = max(len(request.prompt_ids) for request in self._requests) - len(self._prefix)
        columns = longest + self._sampling.max_tokens + 64
        self._prefix_kv = prefill_prefix(self._decoder, self._prefix)
        self._cache = ClockCache(self._prefix_kv, slots, columns)
        self._next_tokens = torch.zeros(slots, dtype=torch.long)
        self._admit()
        while self._waiting or any(row is not None for row in self._rows):
            if all(row is None for row in self._rows):  # all ended with their first token
                self._admit()
                continue
            self._step()
            free = sum(row is None for row in self._rows)
            if self._waiting and free * _REFILL_PART >= len(self._rows):
                self._admit()
            elif not self._waiting and free * 4 >= len(self._rows) > 8:
                self._shrink()
        return self._collect(weight_version)

    def _prefill(self, indices: Sequence[int]) -> None:
        """Compute prompts beyond the common prefix, all in one packed pass."""
        rests = [self._requests[index].prompt_ids[len(self._prefix) :] for index in indices]
        prefilled = prefill(self._decoder, self._prefix, self._prefix_kv, rests)
        self._prefilled.update(zip(indices, prefilled, strict=True))

    def _admit(self) -> None:
        """Fill free slots with waiting rows and draw their first tokens."""
        free = [slot for slot, row in enumerate(self._rows) if row is None]
        entering = [self._waiting.popleft() for _ in range(min(len(free), len(self._waiting)))]
        missing = dict.fromkeys(index for index, _ in entering if index not in self._prefilled)
        if missing:
            self._prefill(list(missing))
        slots = free[: len(entering)]
        for slot, (index, sample_index) in zip(slots, entering, strict=True):
            request = self._requests[index]
            numbers = uniforms(request.seeds[sample_index], self._sampling.max_tokens)
            self._rows[slot] = _Row(index, sample_index, numbers, len(request.prompt_ids), [], [])
            self._cache.admit(slot, self._prefilled[index].kv)
        logits_BV = torch.stack([self._prefilled[index].logits_V for index, _ in entering])
        self._extend(slots, logits_BV)
        still_waiting = {index for index, _ in self._waiting}
        for index in [index for index in self._prefilled if index not in still_waiting]:
            del self._prefilled[index]

    def _step(self) -> None:
        """Decode one token for every row; empty slots are computed along and ignored."""
        slots = [slot for slot, row in enumerate(self._rows) if row is not None]
        self._cache.begin_step(slots)
        positions_B = torch.tensor(
            [0 if row is None else row.prompt_length + len(row.tokens) - 1 for row in self._rows]
        )
        hidden_BD = self._decoder.hidden(self._next_tokens, positions_B, self._cache.attend)
        if len(slots) < len(self._rows):
            hidden_BD = hidden_BD[torch.tensor(slots)]
        self._extend(slots, self._decoder.logits(hidden_BD))

    def _extend(self, slots: Sequence[int], logits_BV: Tensor) -> None:
        """Draw the next token of the rows in `slots`; rows that end leave their slots."""
        rows = [row for slot in slots if (row := self._rows[slot]) is not None]
        uniforms_B = torch.tensor([row.uniforms[len(row.tokens)] for row in rows], dtype=torch.float64)
        sampling = self._sampling
        tokens_B, logprobs_B = sample(
            logits_BV,
            uniforms_B,
            temperature=sampling.temperature,
            top_k=sampling.top_k,
            top_p=sampling.top_p,
        )
        self._next_tokens[torch.tensor(slots)] = tokens_B
        for slot, row, token, logprob in zip(
            slots, rows, tokens_B.tolist(), logprobs_B.tolist(), strict=True
        ):
            row.tokens.append(token)
            row.logprobs.append(logprob)
            finish = self._finish_of(row)
            if finish is not None:
                self._done[row.request, row.sample] = row
                self._finish[row.request, row.sample] = finish
                self._rows[slot] = None

    def _finish_of(self, row: _Row) -> Finish | None:
        if row.tokens[-1] in self._end_ids or self._ends_with_stop(row):
            return Finish.STOP
        return Finish.LENGTH if len(row.tokens) == self._sampling.max_tokens else None

    def _ends_with_stop(self, row: _Row) -> bool:
        if not self._sampling.stop:
            return False
        # Every token holds at least one byte; 4 more, as the tail may begin inside a character.
        tail_length = max(len(stop.encode()) for stop in self._sampling.stop) + 4
        tail = self._tokenizer.decode(row.tokens[-tail_length:])
        return any(stop in tail for stop in self._sampling.stop)

    def _shrink(self) -> None:
        """Drop the free slots."""
        slots = [slot for slot, row in enumerate(self._rows) if row is not None]
        if slots:
            self._cache.keep(slots)
            self._next_tokens = self._next_tokens[torch.tensor(slots)]
            self._rows = [self._rows[slot] for slot in slots]

    def _collect(self, weight_version: int) -> list[list[Rollout]]:
        """Return the finished rows as rollouts, by request and sample."""
        collected: list[list[Rollout]] = []
        for index, request in enumerate(self._requests):
            rows = [self._done[index, sample_index] for sample_index in range(len(request.seeds))]
            texts = self._tokenizer.batch_decode([self._without_end(row.tokens) for row in rows])
            collected.append(
                [
                    Rollout(
                        problem=request.problem,
                        sample=row.sample,
                        prompt_ids=request.prompt_ids,
                        completion_ids=tuple(row.tokens),
                        sampler_logprobs=tuple(row.logprobs),
                        text=text,
                        finish=self._finish[index, row.sample],
                        weight_version=weight_version,
                    )
                    for row, text in zip(rows, texts, strict=True)
                ]
            )
        return collected

    def _without_end(self, tokens: list[int]) -> list[int]:
        return tokens[:-1] if tokens[-1] in self._end_ids else tokens
