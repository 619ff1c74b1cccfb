"""On-policy distillation: a student learns from a teacher's opinion of the student's own answers.

    L = 1 / SUM_i |o_i| * SUM_i SUM_t KL( student(. | q_i, o_i<t) || teacher(. | q_i, o_i<t) )

over the student's answers o_i to the questions q_i of an update's minibatch, in nats and fp32 (reverse
KL; GKD with all data on policy, Agarwal et al. 2024). In: a student, a teacher of the same vocabulary,
problems. Out: a student that is nearer to its teacher where the student itself goes. The loop is that of
reinforcement learning (loop.py); the rewards of completions are recorded and not learned from.

The KL is that of the whole vocabulary, as the teacher is here and a vocabulary is small. What a single
sampled token says of it, log student - log teacher, is recorded beside it: unbiased and noisy, it is all
that a teacher behind HTTP could give.

Dimensions: C completion tokens, V vocabulary.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from zerone.config import Config
from zerone.errors import ModelError
from zerone.model.loading import ModelFiles
from zerone.runs.checkpoint import State
from zerone.train.advantage import credit
from zerone.train.algorithm import StepResult, TrainState, learning_rate_of
from zerone.train.batch import Batch, make_batches, split_minibatches
from zerone.train.logprobs import entropies
from zerone.train.trainer import ModelPass
from zerone.types import Group


def reverse_kl(student_CV: Tensor, teacher_CV: Tensor) -> Tensor:
    """Return KL(student || teacher) of each next-token distribution from logits, [C], fp32, in nats."""
    student_CV, teacher_CV = student_CV.float().log_softmax(-1), teacher_CV.float().log_softmax(-1)
    return (student_CV.exp() * (student_CV - teacher_CV)).sum(-1)


def sampled_reverse_kl(student_CV: Tensor, teacher_CV: Tensor, tokens_C: Tensor) -> Tensor:
    """Return log student - log teacher of tokens that the student drew: unbiased for `reverse_kl`."""
    difference_CV = student_CV.float().log_softmax(-1) - teacher_CV.float().log_softmax(-1)
    return difference_CV.gather(1, tokens_C[:, None]).squeeze(1)


def check_same_vocabulary(student: ModelFiles, teacher: ModelFiles) -> None:
    """Raise ModelError unless both models mean the same by every token.

    The teacher is asked about the student's tokens, not about its text.
    """
    ours, theirs = student.tokenizer.get_vocab(), teacher.tokenizer.get_vocab()
    sizes = (student.config.vocab_size, teacher.config.vocab_size)
    if ours == theirs and sizes[0] == sizes[1]:
        return
    differing = len({*ours.items()} ^ {*theirs.items()})
    raise ModelError(
        f"on-policy distillation needs one tokenizer for both: {student.directory} has {len(ours)} tokens "
        f"(outputs: {sizes[0]}), the teacher {teacher.directory} {len(theirs)} (outputs: {sizes[1]}), and "
        f"{differing} entries differ. Leave --on-policy out: samples are text, which any tokenizer can learn"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DistillTerms:
    """Sums over the tokens of a micro-batch, as plain numbers."""

    kl: float
    sampled_kl: float
    entropy: float
    num_tokens: int


@dataclass(slots=True)
class Sums:
    """Sums over the micro-batches of a step, from which its means come."""

    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    kl: float = 0.0
    sampled_kl: float = 0.0
    entropy: float = 0.0
    num_tokens: int = 0

    def metrics(self, learning_rate: float, updates: int) -> dict[str, Any]:
        """Return the means; `kl` is to the teacher, before each token's update."""
        tokens = max(1, self.num_tokens)
        return {
            "loss": math.fsum(self.losses) / max(1, len(self.losses)),
            "kl": self.kl / tokens,
            "sampled_kl": self.sampled_kl / tokens,
            "entropy": self.entropy / tokens,
            "grad_norm": math.fsum(self.norms) / max(1, len(self.norms)),
            "learning_rate": learning_rate,
            "num_updates": len(self.losses),
            "num_trained_tokens": self.num_tokens,
            "weight_version": updates,
        }


class OnPolicyDistillation:
    """Learns from a teacher's next-token distributions on the student's own completions; an `Algorithm`."""

    needs_rewards = False

    def __init__(self, teacher: ModelPass) -> None:
        self._teacher = teacher

    def learn(self, config: Config, state: TrainState, groups: Sequence[Group], step: int) -> StepResult:
        """Make a step's updates, one per minibatch; the reward of a completion counts nothing in them."""
        credited = credit(groups, "none")
        sums = Sums()
        objective = DistillObjective(self._teacher, config.sampling.temperature, sums)
        for minibatch in split_minibatches(credited, config.rl.minibatches, (config.seed, step, 0)):
            batches = make_batches(
                minibatch,
                aggregation="token",
                max_tokens=config.sampling.max_tokens,
                mask_truncated=config.loss.mask_truncated,
                keep_silent=True,
                microbatch_tokens=config.rl.microbatch_tokens,
            )
            loss = state.trainer.forward_backward(batches, objective)
            learning_rate = learning_rate_of(config, state.progress.updates + len(sums.losses))
            sums.norms.append(state.trainer.step(learning_rate))
            sums.losses.append(loss)
        updates = state.progress.updates + len(sums.losses)
        figures = sums.metrics(learning_rate_of(config, updates - 1), updates)
        return StepResult(credited=credited, updates=updates, figures=figures)

    def health(self, config: Config, history: Sequence[Mapping[str, Any]], now: Mapping[str, Any]) -> str:
        """Return how far the student is from its teacher."""
        return f"{now['kl']:.4f} nats per token from the teacher"

    def state(self) -> State:
        """Return nothing: the teacher does not change."""
        return {}


@dataclass(frozen=True, slots=True)
class DistillObjective:
    """The mean reverse KL per token of a minibatch, whose denominator is in the batches' weights.

    Both models are compared as they are sampled from.
    """

    teacher: ModelPass
    temperature: float
    sums: Sums

    def loss(
        self, policy: ModelPass, reference: ModelPass | None, batch: Batch
    ) -> tuple[Tensor, DistillTerms]:
        """Return a micro-batch's part of the loss, with gradient, and its terms."""
        student_CV = policy.logits(batch) / self.temperature
        with torch.no_grad():
            teacher_CV = self.teacher.logits(batch).to(student_CV.device) / self.temperature
        kl_C = reverse_kl(student_CV, teacher_CV)
        with torch.no_grad():
            sampled_C = sampled_reverse_kl(student_CV, teacher_CV, batch.targets_C)
            terms = DistillTerms(
                kl=kl_C.sum().item(),
                sampled_kl=sampled_C.sum().item(),
                entropy=entropies(student_CV.float().log_softmax(-1)).sum().item(),
                num_tokens=batch.num_completion_tokens,
            )
        return (batch.weights_C * kl_C).sum(), terms

    def record(self, terms: DistillTerms) -> None:
        """Add up a micro-batch's terms for the metrics."""
        self.sums.kl += terms.kl
        self.sums.sampled_kl += terms.sampled_kl
        self.sums.entropy += terms.entropy
        self.sums.num_tokens += terms.num_tokens
