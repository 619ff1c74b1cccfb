"""The nouns of zerone, one per arrow of the flow; read this file first.

A `Problem` is drawn, the policy answers it (`Rollout`), the answer is judged (`Graded`), credit is
given within the group (`Credited`), groups become tensors (`Batch`, in train/batch.py because it holds
tensors), and one update of the weights is summed up (`StepStats`). Under PPO a critic's `Estimate`
of each answer gives the credit. SFT starts from a `Demonstration` instead.

All are frozen. A later type contains the earlier one, and no field changes its meaning or appears
later than its object: what is not known yet has no field yet.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A question that a rule can judge.

    `verifier` names the rule in `rewards/accuracy.py`; `spec` is what that rule needs (JSON values
    only, so that a problem can be written to a file and read back). `row` holds the columns of the
    line that it was read from, for rewards of the user's own; a problem that was drawn has none.
    """

    id: str
    family: str
    level: int
    language: str
    prompt: str
    verifier: str
    spec: Mapping[str, Any]
    row: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One turn of a conversation: `system`, `user` or `assistant`, and what it says.

    `thought` is None where there is none, and where the tagged thought is part of the content.
    `takes_form`: its final answer is put into the form of the style that is trained (a chat's); else it
    is written as it stands. `is_trained`: it is learnt, and not only read before later turns.
    """

    role: str
    content: str
    thought: str | None = None
    takes_form: bool = False
    is_trained: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Demonstration:
    """A conversation to learn from: user and assistant by turns, after a system message or none.

    Answers to equal questions have equal ids, so that a held-out share keeps them together.
    `style` is what the row says of its form, as samples of our own do.
    """

    id: str
    messages: tuple[Message, ...]
    style: str | None = None


class Finish(StrEnum):
    """Why a completion ended: the model wrote its end token or a stop string, or ran out of room."""

    STOP = "stop"
    LENGTH = "length"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """One answer of the policy to a problem, as the sampler produced it.

    `completion_ids` and `sampler_logprobs` have equal length and include the end token where one
    was written. `sampler_logprobs` are natural logarithms under the distribution that was sampled
    from (after temperature, top-k and top-p). `weight_version` counts the updates of the weights.
    """

    problem: Problem
    sample: int
    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]
    sampler_logprobs: tuple[float, ...]
    text: str
    finish: Finish
    weight_version: int


class Outcome(StrEnum):
    """What a verifier found.

    TIMEOUT: the answer made the judge exceed its time, which earns nothing. INFRASTRUCTURE_ERROR: the
    verifier itself failed, which is not a wrong answer; see `Graded.is_judged`.
    """

    CORRECT = "correct"
    WRONG = "wrong"
    UNPARSABLE = "unparsable"
    TIMEOUT = "timeout"
    INFRASTRUCTURE_ERROR = "infrastructure_error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Graded:
    """A rollout with its verdict: the parts of the reward before weighting, and their total."""

    rollout: Rollout
    outcome: Outcome
    parts: Mapping[str, float]
    reward: float
    answer: str | None

    @property
    def is_judged(self) -> bool:
        """Whether the verifier gave a verdict; without one the rollout is neither right nor wrong."""
        return self.outcome is not Outcome.INFRASTRUCTURE_ERROR


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """All graded rollouts of one drawing of one problem: what GRPO compares with each other.

    The group is a type, never a column to be guessed from equal prompts: drawn twice in a step,
    a problem makes two groups.
    """

    problem: Problem
    members: tuple[Graded, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Credited:
    """A group with one advantage per member, computed on the whole group."""

    group: Group
    advantages: tuple[float, ...]

    @property
    def has_signal(self) -> bool:
        """Whether any member differs from the others; without it the policy gradient is zero."""
        return any(advantage != 0.0 for advantage in self.advantages)


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What PPO's critic makes of one answer, a number per token of it.

    `returns` are what the critic should have said before each token, `advantages` what the policy
    is trained by.
    """

    returns: tuple[float, ...]
    advantages: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CriticStats:
    """What one step did to PPO's critic, and how much its values told before.

    `value_loss` is the mean over the updates, `explained_variance` 1 - Var(returns - values) /
    Var(returns) over the step's tokens: 1 for a critic that foresees all, 0 for one that says the
    same everywhere, None where all returns are equal.
    """

    value_loss: float
    explained_variance: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepStats:
    """What one step did to the weights; means over the completion tokens that were trained on.

    `kl` is to the reference (nats per token), `mismatch_kl` from sampler to trainer before the
    first update of the step, `clip_low` and `clip_high` the shares of tokens whose ratio was
    clipped from below and above, `grad_norm` the mean norm before clipping; `critic` is None for GRPO.
    `mismatch_ratio` and its maximum are of p_trainer / p_engine per token, `corrected` the share of tokens
    whose weight the correction of that mismatch changed.
    """

    loss: float
    kl: float
    entropy: float
    mismatch_kl: float
    ratio_max: float
    clip_low: float
    clip_high: float
    grad_norm: float
    num_updates: int
    num_tokens: int
    critic: CriticStats | None = None
    mismatch_ratio: float = 1.0
    mismatch_ratio_max: float = 1.0
    corrected: float = 0.0
