"""Trains a reward model: pairs by Bradley-Terry, safety by cross-entropy (R1 paper, 3.1.1 and 3.1.2).

In: a language model with a head, and examples. Out: the model, trained in place. The order of the
examples of an epoch is a function of (seed, epoch), so a step needs no data position to go on from.

Dimensions: R responses of a batch, P pairs.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from zerone.data.preferences import Example, Pair
from zerone.model.decoder import Decoder
from zerone.reward_model.scorer import Question, RewardModel, batches_of, scores_of
from zerone.runs.checkpoint import Progress
from zerone.seeding import rng_from
from zerone.train.optim import apply_update, warmup_then_constant


def bradley_terry(chosen_P: Tensor, rejected_P: Tensor) -> Tensor:
    """Return -log P(chosen beats rejected) of each pair, with P = sigmoid(difference of scores)."""
    return -functional.logsigmoid(chosen_P - rejected_P)


@dataclass(slots=True, kw_only=True)
class Learner:
    """What changes while training."""

    model: RewardModel
    optimizer: torch.optim.Optimizer
    progress: Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How much is done: passes over the data, examples per update, the peak rate and its warm-up."""

    seed: int
    epochs: int
    batch_size: int
    learning_rate: float
    warmup_updates: int
    max_grad_norm: float
    microbatch_tokens: int = 4096

    def steps_per_epoch(self, num_examples: int) -> int:
        """Return the number of updates of a pass; the last one may be smaller."""
        return math.ceil(num_examples / self.batch_size)


def train(
    learner: Learner,
    examples: Sequence[Example],
    shape: Shape,
    before_step: Callable[[int], None],
    after_step: Callable[[dict[str, Any]], None],
) -> None:
    """Train from where the learner stands to the end; the hooks evaluate, record and save."""
    per_epoch = shape.steps_per_epoch(len(examples))
    while (step := learner.progress.step) < shape.epochs * per_epoch:
        before_step(step)
        epoch, position = divmod(step, per_epoch)
        order = rng_from(shape.seed, "reward-model", epoch).sample(range(len(examples)), len(examples))
        chosen = order[position * shape.batch_size : (position + 1) * shape.batch_size]
        rate = warmup_then_constant(step, shape.learning_rate, shape.warmup_updates)
        figures = update(learner, [examples[i] for i in chosen], shape, rate)
        learner.progress = Progress(step=step + 1, updates=learner.progress.updates + 1)
        after_step({"step": step + 1, "epoch": epoch, **figures, "learning_rate": rate})


def update(
    learner: Learner, examples: Sequence[Example], shape: Shape, learning_rate: float
) -> dict[str, float]:
    """Make one update on the mean loss of the examples; return loss, accuracy and gradient norm."""
    model = learner.model
    ordered = sorted(questions_of(model, examples), key=lambda pair: pair[0].num_tokens)
    answers = {id(question): target for question, target in ordered}
    total_loss, num_right = 0.0, 0
    for batch in batches_of([question for question, _ in ordered], shape.microbatch_tokens):
        scores_R = scores_of(Decoder(model.module), model.head, batch)
        losses, is_right = losses_of(scores_R, [answers[id(question)] for question in batch])
        (losses.sum() / len(examples)).backward()
        total_loss += losses.sum().item() / len(examples)
        num_right += int(is_right.sum())
    norm = apply_update(
        [model.module, model.head],
        [learner.optimizer],
        loss=total_loss,
        learning_rate=learning_rate,
        max_grad_norm=shape.max_grad_norm,
        rate_option="reward_model.learning_rate",
    )
    return {"loss": total_loss, "accuracy": num_right / len(examples), "grad_norm": norm}


def questions_of(model: RewardModel, examples: Sequence[Example]) -> list[tuple[Question, bool | None]]:
    """Return what is scored, with the label of a safety example and None for a pair."""
    return [
        (model.encode(example.prompt, [example.chosen, example.rejected]), None)
        if isinstance(example, Pair)
        else (model.encode(example.prompt, [example.response]), example.is_safe)
        for example in examples
    ]


def losses_of(scores_R: Tensor, labels: Sequence[bool | None]) -> tuple[Tensor, Tensor]:
    """Return the loss of each example and whether it is judged rightly; a batch is of one kind."""
    if labels[0] is None:
        chosen_P, rejected_P = scores_R.view(-1, 2).unbind(1)
        return bradley_terry(chosen_P, rejected_P), chosen_P > rejected_P
    wanted_R = torch.tensor(labels, dtype=scores_R.dtype)
    losses_R = functional.binary_cross_entropy_with_logits(scores_R, wanted_R, reduction="none")
    return losses_R, (scores_R > 0) == (wanted_R > 0)
