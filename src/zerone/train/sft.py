"""Supervised fine-tuning: the loss of the answers, given their questions (R1 paper, 2.3 and B.4).

    L = - SUM_i SUM_t log pi(o_it | q_i, o_i<t) / SUM_i |o_i|

over the answers o_i of an update's batch. In: demonstrations and a model. Out: a model that answers
like them, and a run directory that tells how. Only tokens of the answers and their end tokens carry
loss. The denominator is counted over the whole batch before it is cut into micro-batches, so
cutting finer or coarser changes no gradient. Sequences are packed without padding, and each sees
nothing but itself and the template that all begin with (model/packed.py).

A step is one update. Dimensions: N packed tokens, C answer tokens, V vocabulary.
"""

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from zerone.config import Config
from zerone.model.packed import Packed, common_prefix, pack
from zerone.model.tokenizer import encode, encode_prompt, end_id
from zerone.prompts.form import in_form
from zerone.prompts.r1 import THINK_OPEN, Style, write_chat
from zerone.runs.checkpoint import Progress
from zerone.runs.directory import RunDir
from zerone.seeding import rng_from
from zerone.train.algorithm import TrainState
from zerone.train.loop import Clock
from zerone.train.optim import warmup_then_cosine
from zerone.train.trainer import ModelPass, Trainer, pass_over
from zerone.types import Demonstration


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A prompt and the answer to learn, as tokens; the answer ends with the end token."""

    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]

    @property
    def num_tokens(self) -> int:
        """The length of the whole sequence."""
        return len(self.prompt_ids) + len(self.completion_ids)


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroBatch:
    """Packed examples; `sources_C` index the packed token that predicts answer token `targets_C`."""

    packed: Packed
    sources_C: Tensor
    targets_C: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """What surrounds the loop: evaluation, checkpoints and display are none of its business."""

    before_step: Callable[[int], None]
    after_step: Callable[[Mapping[str, Any], Mapping[str, Any]], None]


def train(config: Config, state: TrainState, examples: Sequence[Example], run: RunDir, hooks: Hooks) -> None:
    """Train until `sft.epochs` passes are made, from wherever `state.progress` stands."""
    s = config.sft
    num_steps = num_steps_of(config, len(examples))
    between = Clock()
    for step in range(state.progress.step, num_steps):
        hooks.before_step(step)
        between.mark("between_s")
        clock = Clock()
        batch = batch_of_step(examples, step, s.batch_size, s.epochs, config.seed)
        num_warmup = math.ceil(s.warmup_share * num_steps)
        rate = warmup_then_cosine(step, s.learning_rate, num_warmup, num_steps, s.final_share)
        loss, norm = update(config, state.trainer, batch, rate)
        state.progress = Progress(step=step + 1, updates=step + 1)
        clock.mark("train_s")
        metrics = {
            "step": step + 1,
            "epoch": min(s.epochs, (step + 1) * s.batch_size / len(examples)),
            "loss": loss,
            "grad_norm": norm,
            "learning_rate": rate,
            "num_examples": len(batch),
            "num_trained_tokens": sum(len(example.completion_ids) for example in batch),
            "num_tokens": sum(example.num_tokens for example in batch),
        }
        timing = {"step": step + 1, **clock.seconds, "total_s": clock.total, **between.seconds}
        between = Clock()
        run.record_step(metrics, timing, ())
        hooks.after_step(metrics, timing)


def update(
    config: Config, trainer: Trainer, batch: Sequence[Example], learning_rate: float
) -> tuple[float, float]:
    """Add up the gradients of the batch and apply them; return its loss and the gradient's norm."""
    loss = forward_backward(trainer, batch, config.sft.microbatch_tokens)
    return loss, trainer.step(learning_rate)


def forward_backward(trainer: Trainer, batch: Sequence[Example], microbatch_tokens: int) -> float:
    """Add the gradient of the mean loss per completion token of the whole batch; return that mean."""
    num_targets = sum(len(example.completion_ids) for example in batch)
    return trainer.forward_backward(microbatches(batch, microbatch_tokens), CrossEntropy(num_targets))


@dataclass(frozen=True, slots=True)
class CrossEntropy:
    """The mean negative log-likelihood per completion token of a whole batch; an `Objective`."""

    num_targets: int

    def loss(self, policy: ModelPass, reference: ModelPass | None, batch: MicroBatch) -> tuple[Tensor, None]:
        """Return a micro-batch's part of the loss, with gradient."""
        return policy.cross_entropy(batch) / self.num_targets, None

    def record(self, terms: None) -> None:
        """Record nothing: the loss says it all."""


@torch.no_grad()
def mean_loss(policy: ModelPass, examples: Sequence[Example], microbatch_tokens: int) -> float:
    """Return the mean loss per completion token, as for examples that are held out."""
    num_targets = sum(len(example.completion_ids) for example in examples)
    parts = pass_over(policy, "cross_entropy", microbatches(examples, microbatch_tokens))
    return math.fsum(part.item() for part in parts) / num_targets


# Examples and batches -----------------------------------------------------------------------------


def examples_of(demonstration: Demonstration, tokenizer: Any, config: Config) -> list[Example]:
    """Return one example per answer of a conversation that is learnt, tokenised as in sampling.

    Answers of a chat are put into the form of the style that evaluation asks for. Where prompts open the
    thought (`prompt.open_thought`), an answer's own `<think>` moves there.
    """
    found = []
    style = Style(config.prompt.style)
    for prompt, completion in write_chat(in_form(demonstration.messages, style), style):
        if config.prompt.open_thought and completion.startswith(THINK_OPEN):
            prompt, completion = prompt + THINK_OPEN, completion.removeprefix(THINK_OPEN)
        found.append(
            Example(
                prompt_ids=encode_prompt(tokenizer, prompt),
                completion_ids=(*encode(tokenizer, completion), end_id(tokenizer)),
            )
        )
    return found


def num_steps_of(config: Config, num_examples: int) -> int:
    """Return the number of updates; the last one takes what is left."""
    return math.ceil(config.sft.epochs * num_examples / config.sft.batch_size)


def batch_of_step(
    examples: Sequence[Example], step: int, batch_size: int, epochs: int, seed: int
) -> list[Example]:
    """Return the batch of a step: its share of all epochs' shuffles, one after another.

    A function of (seed, step), so that a resumed run needs no position. A batch may reach into the
    next epoch; so every example is seen exactly `epochs` times.
    """
    start = step * batch_size
    batch = []
    for position in range(start, min(start + batch_size, epochs * len(examples))):
        epoch, offset = divmod(position, len(examples))
        batch.append(examples[_shuffled(seed, epoch, len(examples))[offset]])
    return batch


@functools.lru_cache(maxsize=2)
def _shuffled(seed: int, epoch: int, size: int) -> list[int]:
    order = list(range(size))
    rng_from(seed, "sft", epoch).shuffle(order)
    return order


def microbatches(batch: Sequence[Example], microbatch_tokens: int) -> Iterator[MicroBatch]:
    """Cut a batch into micro-batches of at most `microbatch_tokens` tokens, or of one example.

    Sorted by length, as neighbours are padded together in attention.
    """
    pending: list[Example] = []
    num_pending = 0
    for example in sorted(batch, key=lambda example: example.num_tokens):
        if pending and num_pending + example.num_tokens > microbatch_tokens:
            yield _pack(pending)
            pending, num_pending = [], 0
        pending.append(example)
        num_pending += example.num_tokens
    if pending:
        yield _pack(pending)


def _pack(examples: Sequence[Example]) -> MicroBatch:
    # Prompts keep their last token, so every row begins with a token that carries no loss.
    prefix = common_prefix([example.prompt_ids for example in examples])
    rows = [(*example.prompt_ids[len(prefix) :], *example.completion_ids) for example in examples]
    sources = []
    end = len(prefix)
    for example, row in zip(examples, rows, strict=True):
        end += len(row)
        # A token is predicted by the one before it.
        sources.append(torch.arange(end - len(example.completion_ids), end) - 1)
    return MicroBatch(
        packed=pack([((), rows)], prefix),
        sources_C=torch.cat(sources),
        targets_C=torch.tensor([token for example in examples for token in example.completion_ids]),
    )
