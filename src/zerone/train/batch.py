"""Credited groups become tensors: shuffled, split into minibatches, cut into micro-batches.

In: the credited groups of a rollout phase. Out: per minibatch (one update) the micro-batches whose
gradients add up to it. Advantages were fixed on the whole phase before, so the shuffle here cannot
touch them. Groups stay whole, because a group's prompt is then computed once (model/packed.py).

Every denominator is counted here over the whole minibatch and sits in `weights_C`; cutting finer
or coarser changes no gradient.

Dimensions: N packed tokens, C completion tokens, D width, V vocabulary.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal

import torch
from torch import Tensor

from zerone.model.packed import Packed, common_prefix, pack
from zerone.seeding import rng_from
from zerone.types import Credited, Estimate, Finish, Graded

Aggregation = Literal["sequence", "token", "constant"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One micro-batch: packed tokens, and for each completion token what the loss needs.

    `sources_C` index the packed token whose output predicts completion token `targets_C`. The
    tokens are those of `members`, one after another, `lengths` how many each has, [S]; where another process
    made the batch, `members` stayed there. `returns_C` are what a critic learns, if any,
    `trainer_logprobs_C` the trainer's own log-probabilities before the step, where a correction wants them.
    """

    packed: Packed
    members: tuple[Graded, ...]
    lengths: Tensor
    sources_C: Tensor
    targets_C: Tensor
    sampler_logprobs_C: Tensor
    advantages_C: Tensor
    weights_C: Tensor
    returns_C: Tensor | None
    trainer_logprobs_C: Tensor | None = None

    @property
    def num_completion_tokens(self) -> int:
        """The number of tokens that carry loss."""
        return len(self.targets_C)


@dataclass(frozen=True, slots=True)
class _Row:
    """A completion that is trained on."""

    graded: Graded
    advantages: tuple[float, ...]
    weight: float
    estimate: Estimate | None

    @property
    def length(self) -> int:
        return len(self.graded.rollout.completion_ids)


def token_weight(
    length: int, *, num_rows: int, num_tokens: int, max_tokens: int, aggregation: Aggregation
) -> float:
    """Return the weight of each token of a completion of `length` tokens.

    sequence: 1 / (rows * length), the mean over sequences of their means (GRPO). token:
    1 / tokens of the minibatch (DAPO). constant: 1 / (rows * max_tokens) (Dr. GRPO). Rows and
    tokens are those of the whole minibatch, groups without signal included.
    """
    match aggregation:
        case "sequence":
            return 1 / (num_rows * length)
        case "token":
            return 1 / num_tokens
        case "constant":
            return 1 / (num_rows * max_tokens)


def split_minibatches(
    groups: Sequence[Credited], num_minibatches: int, seed: tuple[int | str, ...]
) -> list[list[Credited]]:
    """Shuffle the groups and deal them out evenly."""
    order = list(groups)
    rng_from(*seed, "shuffle").shuffle(order)
    return [order[i::num_minibatches] for i in range(num_minibatches)]


def make_batches(
    groups: Sequence[Credited],
    *,
    aggregation: Aggregation,
    max_tokens: int,
    mask_truncated: bool,
    keep_silent: bool,
    microbatch_tokens: int,
    estimates: Mapping[int, Estimate] | None = None,
    trainer_logprobs: Mapping[int, Sequence[float]] | None = None,
) -> Iterator[Batch]:
    """Cut one minibatch into micro-batches of about `microbatch_tokens` packed tokens.

    Groups without signal are left out unless `keep_silent` (a KL term acts on them too). A critic's
    `estimates`, by the id() of the graded rollout, take the place of the groups' advantages;
    `trainer_logprobs`, by the same, become those of the batches.
    """
    members = [
        (credited, graded, advantage)
        for credited in groups
        for graded, advantage in zip(credited.group.members, credited.advantages, strict=True)
        if graded.is_judged and not (mask_truncated and graded.rollout.finish is Finish.LENGTH)
    ]
    num_tokens = sum(len(graded.rollout.completion_ids) for _, graded, _ in members)
    rows_of: dict[int, list[_Row]] = {}
    for credited, graded, advantage in members:
        if credited.has_signal or keep_silent:
            length = len(graded.rollout.completion_ids)
            estimate = None if estimates is None else estimates[id(graded)]
            advantages = estimate.advantages if estimate else (advantage,) * length
            weight = token_weight(
                length,
                num_rows=len(members),
                num_tokens=num_tokens,
                max_tokens=max_tokens,
                aggregation=aggregation,
            )
            rows_of.setdefault(id(credited), []).append(_Row(graded, advantages, weight, estimate))
    everyone = list(rows_of.values())
    apart = common_prefix([_prompt(rows) for rows in everyone]) if everyone else ()
    if len(apart) * _APART_SHARE < microbatch_tokens:
        apart = ()
    for groups_of_batch in _cut(everyone, microbatch_tokens, len(apart)):
        yield _batch(groups_of_batch, apart, trainer_logprobs)


_APART_SHARE = 8
"""A prefix that would take an eighth of each micro-batch is kept apart, to be computed once an update;
a shorter one costs less than a pass of its own."""


def _prompt(rows: list[_Row]) -> tuple[int, ...]:
    return rows[0].graded.rollout.prompt_ids


def _cut(groups: list[list[_Row]], microbatch_tokens: int, num_apart: int) -> Iterator[list[list[_Row]]]:
    """Gather groups, and parts of groups too long for one, until a micro-batch is full."""
    pending: list[list[_Row]] = []
    num_pending = 0
    for rows in groups:
        rows = sorted(rows, key=lambda row: row.length)
        part: list[_Row] = []
        num_pending += len(_prompt(rows)) - num_apart
        for row in rows:
            if num_pending + row.length > microbatch_tokens and (part or pending):
                yield [*pending, part] if part else pending
                pending, part = [], []
                num_pending = len(_prompt(rows)) - num_apart
            part.append(row)
            num_pending += row.length
        pending.append(part)
    if pending:
        yield pending


def _batch(
    groups: list[list[_Row]],
    apart: tuple[int, ...],
    trainer_logprobs: Mapping[int, Sequence[float]] | None,
) -> Batch:
    prompts = [_prompt(rows) for rows in groups]
    # Prompts keep their last token, which predicts the first one of each completion.
    prefix = apart or common_prefix(prompts)
    packed = pack(
        [
            (prompt[len(prefix) :], [row.graded.rollout.completion_ids for row in rows])
            for prompt, rows in zip(prompts, groups, strict=True)
        ],
        prefix,
        is_apart=bool(apart),
    )
    everyone = [row for rows in groups for row in rows]
    sources: list[Tensor] = []
    offset = len(prefix) - len(apart)
    for prompt, rows in zip(prompts, groups, strict=True):
        last_of_prompt = offset + len(prompt) - len(prefix) - 1
        offset = last_of_prompt + 1
        for row in rows:
            sources.append(torch.arange(offset - 1, offset + row.length - 1))
            sources[-1][0] = last_of_prompt
            offset += row.length
    repeats = torch.tensor([row.length for row in everyone])
    estimates = [row.estimate for row in everyone if row.estimate]
    return Batch(
        packed=packed,
        members=tuple(row.graded for row in everyone),
        lengths=repeats,
        sources_C=torch.cat(sources),
        targets_C=_flat(row.graded.rollout.completion_ids for row in everyone),
        sampler_logprobs_C=_flat(row.graded.rollout.sampler_logprobs for row in everyone),
        advantages_C=_flat(row.advantages for row in everyone),
        weights_C=torch.tensor([row.weight for row in everyone]).repeat_interleave(repeats),
        returns_C=_flat(estimate.returns for estimate in estimates) if estimates else None,
        trainer_logprobs_C=None
        if trainer_logprobs is None
        else _flat(trainer_logprobs[id(row.graded)] for row in everyone),
    )


def _flat(sequences: Iterable[Sequence[float]]) -> Tensor:
    return torch.tensor([*chain.from_iterable(sequences)])
