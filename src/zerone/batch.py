"""Credited groups become tensors: shuffled, split into minibatches, cut into micro-batches.

In: the credited groups of a rollout phase. Out: per minibatch (one update) the micro-batches whose
gradients add up to it. Advantages were fixed on whole groups before, so the shuffle here cannot
touch them. Groups stay whole, because a group's prompt is then computed once (model/packed.py).

Every denominator is counted here over the whole minibatch and sits in `weights_C`; cutting finer
or coarser changes no gradient.

Dimensions: N packed tokens, C completion tokens.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from zerone.model.packed import Packed, common_prefix, pack
from zerone.seeding import rng_from
from zerone.types import Credited, Finish, Graded

Aggregation = Literal["sequence", "token", "constant"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One micro-batch: packed tokens, and for each completion token what the loss needs.

    `sources_C` index the packed token whose output predicts completion token `targets_C`.
    """

    packed: Packed
    sources_C: Tensor
    targets_C: Tensor
    sampler_logprobs_C: Tensor
    advantages_C: Tensor
    weights_C: Tensor

    @property
    def num_completion_tokens(self) -> int:
        """The number of tokens that carry loss."""
        return len(self.targets_C)


@dataclass(frozen=True, slots=True)
class _Row:
    """A completion that is trained on."""

    graded: Graded
    advantage: float
    weight: float

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
) -> Iterator[Batch]:
    """Cut one minibatch into micro-batches of about `microbatch_tokens` packed tokens.

    Groups without signal are left out unless `keep_silent` (a KL term acts on them too).
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
            weight = token_weight(
                len(graded.rollout.completion_ids),
                num_rows=len(members),
                num_tokens=num_tokens,
                max_tokens=max_tokens,
                aggregation=aggregation,
            )
            rows_of.setdefault(id(credited), []).append(_Row(graded, advantage, weight))
    for rows in _cut(list(rows_of.values()), microbatch_tokens):
        yield _batch(rows)


def _cut(groups: list[list[_Row]], microbatch_tokens: int) -> Iterator[list[list[_Row]]]:
    """Gather groups, and parts of groups too long for one, until a micro-batch is full."""
    pending: list[list[_Row]] = []
    num_pending = 0
    for rows in groups:
        rows = sorted(rows, key=lambda row: row.length)
        part: list[_Row] = []
        num_pending += len(rows[0].graded.rollout.prompt_ids)
        for row in rows:
            if num_pending + row.length > microbatch_tokens and (part or pending):
                yield [*pending, part] if part else pending
                pending, part = [], []
                num_pending = len(row.graded.rollout.prompt_ids)
            part.append(row)
            num_pending += row.length
        pending.append(part)
    if pending:
        yield pending


def _batch(groups: list[list[_Row]]) -> Batch:
    prompts = [rows[0].graded.rollout.prompt_ids for rows in groups]
    # Prompts keep their last token, which predicts the first one of each completion.
    prefix = common_prefix(prompts)
    packed = pack(
        [
            (prompt[len(prefix) :], [row.graded.rollout.completion_ids for row in rows])
            for prompt, rows in zip(prompts, groups, strict=True)
        ],
        prefix,
    )
    sources: list[Tensor] = []
    lengths, advantages, weights = [], [], []
    logprobs: list[float] = []
    offset = len(prefix)
    for prompt, rows in zip(prompts, groups, strict=True):
        last_of_prompt = offset + len(prompt) - len(prefix) - 1
        offset = last_of_prompt + 1
        for row in rows:
            sources.append(torch.arange(offset - 1, offset + row.length - 1))
            sources[-1][0] = last_of_prompt
            offset += row.length
            lengths.append(row.length)
            advantages.append(row.advantage)
            weights.append(row.weight)
            logprobs.extend(row.graded.rollout.sampler_logprobs)
    repeats = torch.tensor(lengths)
    targets = [token for rows in groups for row in rows for token in row.graded.rollout.completion_ids]
    return Batch(
        packed=packed,
        sources_C=torch.cat(sources),
        targets_C=torch.tensor(targets),
        sampler_logprobs_C=torch.tensor(logprobs),
        advantages_C=torch.tensor(advantages).repeat_interleave(repeats),
        weights_C=torch.tensor(weights).repeat_interleave(repeats),
    )
