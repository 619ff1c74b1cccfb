"""How much a run does: prompts, completions and updates, in tokens.

In: a configuration. Out: a `Work`. How long completions will be is what a run finds out; until then a share
of the room that they have, or what the user says.
"""

from dataclasses import dataclass

from zerone.config import Config

SHARE_OF_ROOM = 0.15
"""Of `sampling.max_tokens` that a completion fills on average in 30 steps of `zerone zero`."""

PROMPT_TOKENS = 80
"""Of a prompt that is read in training, once for a completion at worst."""

TEMPLATE_SHARE = 0.75
"""Of a prompt, which all prompts have in common: the R1 template takes about 60 tokens."""

TRIED_OUT = 8192
"""Tokens of a micro-batch where the run is to find them out (0); it takes what there is memory for."""

_SAMPLING_SHARE = 1 / 3
"""A forward pass is a third of a training pass, which has a backward pass twice as long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One step of RL or SFT, and how many there are.

    `sequences` of `completion` tokens are sampled (none in SFT) and trained on, each with a prompt of
    `prompt` tokens, of which all prompts share `template`; `updates` share them out. `longest` is the room
    of a completion. `trained_models` counts the models that learn; a reference reads what is learned from,
    and with `is_read_again` the policy too, before a step. `evaluated` sequences are sampled beside training,
    over the whole run, in so many `evaluations`.
    """

    steps: int
    sequences: int
    group: int
    prompt: float
    completion: float
    longest: int
    updates: int
    passes: int
    microbatch_tokens: int
    slots: int
    template: float = 0.0
    trained_models: int = 1
    has_reference: bool = False
    is_read_again: bool = False
    evaluated: int = 0
    evaluations: int = 2
    is_sampled: bool = True

    @property
    def sampled_tokens(self) -> float:
        """Of a step."""
        return self.sequences * self.completion if self.is_sampled else 0.0

    @property
    def trained_tokens(self) -> float:
        """Of a step, each pass over them counted; a prompt counts once for each completion."""
        return self.sequences * (self.prompt + self.completion) * self.passes

    @property
    def packed_tokens(self) -> float:
        """Of a step: what a pass really computes, as a group's prompt is computed once."""
        return self.sequences * (self.completion + self.prompt / self.group) * self.passes


def rl_work(config: Config, completion: float | None = None, prompt: float = PROMPT_TOKENS) -> Work:
    """Return the work of a run of reinforcement learning."""
    rl, suites = config.rl, config.eval
    return Work(
        steps=rl.steps,
        sequences=rl.problems_per_step * rl.group_size,
        group=rl.group_size,
        prompt=prompt,
        template=TEMPLATE_SHARE * prompt,
        completion=completion or config.sampling.max_tokens * SHARE_OF_ROOM,
        longest=config.sampling.max_tokens,
        updates=rl.minibatches * rl.epochs,
        passes=rl.epochs,
        microbatch_tokens=rl.microbatch_tokens or TRIED_OUT,
        slots=config.sampling.slots,
        trained_models=2 if rl.algorithm == "ppo" else 1,  # the critic is of the policy's size
        has_reference=bool(config.loss.kl_coef),
        is_read_again=config.loss.correction not in ("none", "stale_mask"),
        evaluated=2 * suites.problems * (suites.mixed_samples + suites.hard_samples),
    )


_PROBLEMS_OF_A_SUITE = {
    **{"none": 0, "mixed": 500, "hard": 48, "mini-aime": 48, "mix": 304, "mix-hard": 64, "sums": 75},
    **{"code": 100, "choice": 100, "languages": 100, "helpfulness": 200, "safety": 100, "requests": 300},
}
"""What `sft.suite` may name; to draw the problems takes seconds."""


def sft_work(
    config: Config,
    rows: int,
    completion: float,
    prompt: float = PROMPT_TOKENS,
    num_problems: int | None = None,
) -> Work:
    """Return the work of supervised fine-tuning on so many rows, with its evaluations on `sft.suite`.

    There is one before, one after and one every `eval.every` updates. `num_problems` are those of the suite;
    where they are not counted, a file is taken to have as many as are used.
    """
    s, e = config.sft, config.eval
    steps = -(-rows * s.epochs // s.batch_size)
    evaluations = 2 + (max(0, steps - 1) // e.every if e.every else 0)
    if num_problems is None:
        num_problems = min(e.problems, _PROBLEMS_OF_A_SUITE.get(s.suite, e.problems))
    return Work(
        steps=steps,
        sequences=min(s.batch_size, rows),
        group=1,
        prompt=prompt,
        template=TEMPLATE_SHARE * prompt,
        completion=completion,
        longest=s.max_tokens or round(4 * (completion + prompt)),
        updates=1,
        passes=1,
        microbatch_tokens=s.microbatch_tokens or TRIED_OUT,
        slots=config.sampling.slots,
        evaluated=evaluations * num_problems * s.samples,
        evaluations=evaluations,
        is_sampled=False,
    )


def model_passes(work: Work) -> float:
    """Return the passes over a step's tokens, in training passes of one model."""
    return work.trained_models + (work.has_reference + work.is_read_again) * _SAMPLING_SHARE
