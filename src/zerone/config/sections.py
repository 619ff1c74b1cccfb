"""Every option of zerone, once, with unit and the paper's value; read this file second.

Frozen pydantic sections, closed to unknown keys; tree.py joins them. Only loops, stages and the
command line see these objects; all else takes values.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator


class Section(BaseModel):
    """A part of the tree: frozen, and closed to unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ModelConfig(Section):
    """The base model and how it is computed."""

    path: str = Field("embedded", description="`embedded`, or a local transformers directory")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="of the weights in training and sampling; auto is measured (zerone doctor)"
    )
    threads: int = Field(0, ge=0, description="CPU threads; 0 is measured (zerone doctor)")


class DataConfig(Section):
    """Which problems are trained on."""

    path: str | None = Field(
        None, description="JSONL of your own problems instead of a family; for SFT of demonstrations"
    )
    family: Literal["embedded", "mix", "sums"] = Field(
        "embedded",
        description="procedural problems: countdown and word problems; mix, these with small functions and "
        "choice questions; or plain sums",
    )
    prompt_field: str = Field("prompt", description="JSONL field of the question")
    answer_field: str = Field("answer", description="JSONL field of the answer")
    answer_pattern: str | None = Field(
        None, description="regular expression whose first group is the answer in its field"
    )
    choices_field: str = Field("choices", description="JSONL field of the list of choices, where it has one")
    verifier: Literal["auto", "number", "exact", "choice", "math", "code"] = Field(
        "auto", description="rule that judges a JSONL; auto goes by each line's `verifier` or answer"
    )
    skip_unreadable: bool = Field(
        False, description="leave out lines whose answer the verifier cannot read instead of stopping"
    )
    eval_share: float = Field(
        0.05, gt=0, lt=1, description="share of a JSONL held out for evaluation, by hash"
    )


class PromptConfig(Section):
    """What is put around a question."""

    examples: int = Field(0, ge=0, le=3, description="worked examples shown before the question (paper: 0)")
    style: Literal["tags", "boxed", "summary"] = Field(
        "tags",
        description="what follows the thought: an answer block (paper: R1-Zero), a summary with one "
        "\\boxed{} (R1), or a summary that is the answer",
    )
    open_thought: bool = Field(
        False, description="end the prompt with <think> instead of leaving it to the model (paper: no)"
    )


class SamplingConfig(Section):
    """How answers are drawn in training and evaluation."""

    temperature: float = Field(1.0, ge=0, description="0 is greedy (paper: 1.0 in RL)")
    top_p: float = Field(1.0, gt=0, le=1, description="nucleus (paper: not reported)")
    top_k: int = Field(0, ge=0, description="0 is off")
    max_tokens: int = Field(448, ge=1, description="tokens of a completion (paper: 32,768)")
    stop: tuple[str, ...] = Field((), description="texts that end a completion beside the end token")
    slots: int = Field(192, ge=1, description="sequences decoded at once; KV memory grows with it")


class EngineConfig(Section):
    """Where completions are sampled: rollouts, and evaluation of a model in a directory."""

    kind: Literal["torch", "process", "vllm"] = Field(
        "torch",
        description="torch in the trainer's process, the same in a child process, or vLLM (zerone[vllm])",
    )
    timeout: float = Field(
        300.0, gt=0, description="seconds that a child process may take for a step or be silent"
    )
    gpu_share: float = Field(0.4, gt=0, le=1, description="of a GPU's memory for vLLM beside the trainer")


class FunctionConfig(Section):
    """One of several reward functions of the user's."""

    name: str
    function: str
    weight: float = Field(1.0, ge=0)

    @field_validator("weight", mode="before")
    @classmethod
    def _refuse_switch(cls, weight: Any) -> Any:
        if isinstance(weight, bool):
            raise ValueError("a weight is a number, not a switch")
        return weight


_NAME = re.compile(r"[A-Za-z_][\w-]{0,63}", re.ASCII)
PARTS = ("accuracy", "format", "language", "repetition", "overlong", "user", "helpfulness", "safety")
"""The parts of a reward that have names of their own; those of functions come behind them."""


def named_functions(given: Any) -> dict[str, Any]:
    """Return what is said of reward functions by their names, from a mapping or a list.

    `path.py:function` alone has weight 1, and in a list the name of its function.
    """
    if isinstance(given, str):
        given = [given]
    if isinstance(given, Mapping):
        pairs = list(given.items())
    elif isinstance(given, Sequence):
        pairs = [_named(one) for one in given]
    else:
        raise ValueError(
            "write {NAME: path.py:function} or {NAME: {function: path.py:function, weight: 0.5}}"
        )
    found: dict[str, Any] = {}
    for name, one in pairs:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} cannot name a reward: letters, digits, _ and - are read")
        if name in PARTS or name in found:
            taken = "another part of the reward" if name in PARTS else "two of the functions"
            raise ValueError(f"{name!r} is the name of {taken}; write {{NAME: path.py:function}}")
        if one is not None:
            found[name] = {"function": one} if isinstance(one, str) else one
    return found


def _named(one: Any) -> tuple[Any, Any]:
    """Return name and entry of a function in a list."""
    if isinstance(one, Mapping):
        rest = {key: value for key, value in one.items() if key != "name"}
        return one.get("name") or str(one.get("function")).rpartition(":")[2], rest
    return str(one).rpartition(":")[2], one


class RewardConfig(Section):
    """Weights of the reward's parts, and what the parts need to know."""

    accuracy: float = Field(1.0, ge=0, description="of a right answer (paper: equal to format)")
    format: float = Field(0.1, ge=0, description="of well-formed tags (paper: equal to accuracy)")
    language: float = Field(
        0.0,
        ge=0,
        description="of the share of the thought's words in the question's language (paper: R1 only)",
    )
    repetition: float = Field(
        0.0, ge=0, description="of repeated strings, a punishment from 0 to -1 (paper: none)"
    )
    overlong: float = Field(
        0.0, ge=0, description="of nearing sampling.max_tokens, a punishment from 0 to -1 (DAPO: 1)"
    )
    overlong_share: float = Field(
        0.2, gt=0, le=1, description="share of sampling.max_tokens in which it grows (DAPO: 4096 of 20480)"
    )
    user: float = Field(0.0, ge=0, description="of your own function's value")
    function: str | None = Field(None, description="your own reward, `path.py:function`")
    functions: tuple[FunctionConfig, ...] = Field(
        (),
        description="several of your own by name, each `path.py:function` or `{function: ..., weight: 1}`; "
        "also `reward.functions.NAME=path.py:function` and `reward.functions.NAME.weight=0.5`",
    )
    if_function_changed: Literal["refuse", "record"] = Field(
        "refuse", description="what becomes of a resumed run if a reward function's file has changed"
    )
    preference: float = Field(
        0.0, ge=0, description="of what reward models say of general requests, in place of accuracy"
    )
    preference_share: float = Field(
        0.25, gt=0, le=1, description="last share of the steps in which it counts (paper: 400 of 1,700)"
    )
    helpfulness_model: str | None = Field(
        None, description="judge of helpful answers: a reward model's directory, or http://HOST/v1#MODEL"
    )
    safety_model: str | None = Field(
        None, description="judge of harmful requests: a reward model's directory, or http://HOST/v1#MODEL"
    )
    latin_languages: tuple[str, ...] = Field(
        (), description="languages of Latin letters to tell apart (needs the extra `language`)"
    )

    @field_validator("functions", mode="before")
    @classmethod
    def _name_functions(cls, given: Any) -> Any:
        return [
            {"name": name, **one} if isinstance(one, Mapping) else one
            for name, one in named_functions(given).items()
        ]


class AdvantageConfig(Section):
    """Credit within a group."""

    baseline: Literal["mean", "leave_one_out"] = Field(
        "mean", description="what a reward is compared with: the group's mean (paper), the others' (RLOO)"
    )
    scale: Literal["group", "none", "batch"] = Field(
        "group",
        description="divide by the standard deviation of the group (paper) or the batch (REINFORCE++), or "
        "by nothing (Dr. GRPO)",
    )


class LossConfig(Section):
    """The GRPO objective (DeepSeekMath eq. 3)."""

    clip_low: float = Field(0.2, ge=0, description="ratio bound 1 - x (paper: 10, R1's first RL stage)")
    clip_high: float = Field(0.4, ge=0, description="ratio bound 1 + x (paper: 10; DAPO: 0.28)")
    kl_coef: float = Field(
        0.0, ge=0, description="weight of the KL term; 0 needs no reference (paper: 0.001)"
    )
    kl_estimator: Literal["k1", "k2", "k3", "unbiased"] = Field(
        "k3", description="of the KL term (paper: k3; V3.2: unbiased, k3 weighted by the ratio)"
    )
    ratio: Literal["token", "sequence"] = Field(
        "token", description="ratio that is clipped: of each token (paper), of whole sequences (GSPO)"
    )
    surrogate: Literal["clip", "cispo"] = Field(
        "clip", description="clipped objective (paper), or bounded weight times log pi (CISPO)"
    )
    correction: Literal["none", "truncate", "mask", "sequence_mask", "stale_mask"] = Field(
        "none",
        description="of engine/trainer mismatch: min(rho, high), rho inside the bounds else 0 (IcePop), "
        "sequences inside the bounds, or no stale sequences of negative advantage (V3.2)",
    )
    correction_low: float = Field(0.5, ge=0, description="smallest rho = p_trainer / p_engine that is kept")
    correction_high: float = Field(
        2.0, gt=0, description="largest rho; of stale_mask, nats per token from engine to policy"
    )
    aggregation: Literal["sequence", "token", "constant"] = Field(
        "token", description="mean per sequence (GRPO), per token (DAPO), by max_tokens (Dr. GRPO)"
    )
    mask_truncated: bool = Field(False, description="leave out completions that ran out of room (DAPO)")


class OptimConfig(Section):
    """AdamW, for RL at a constant rate after a warm-up; SFT has rates of its own."""

    learning_rate: float = Field(2.5e-4, gt=0, description="peak (paper: 3e-6 for 671B)")
    warmup_updates: int = Field(5, ge=0, description="updates of linear warm-up (paper: not reported)")
    beta1: float = Field(0.9, ge=0, lt=1, description="AdamW (paper: not reported)")
    beta2: float = Field(0.95, ge=0, lt=1, description="AdamW (paper: not reported)")
    weight_decay: float = Field(0.0, ge=0, description="AdamW, matrices only (paper: not reported)")
    max_grad_norm: float = Field(1.0, gt=0, description="clipping of the global norm (paper: not reported)")


class RLConfig(Section):
    """The shape of the loop."""

    preset: Literal[
        "none", "r1_zero", "r1", "dapo", "dr_grpo", "gspo", "cispo", "rloo", "reinforce_pp", "v3_2"
    ] = Field("none", description="a paper's settings of advantage, loss and rl; other options override it")
    algorithm: Literal["grpo", "ppo"] = Field(
        "grpo", description="grpo: baseline is the group's mean (paper); ppo: a critic of the policy's size"
    )
    gae_lambda: float = Field(
        1.0,
        ge=0,
        le=1,
        description="of ppo: 0 looks one token ahead, 1 to the end (paper: 1.0; 0.95 is worse)",
    )
    steps: int = Field(30, ge=1, description="rollout phases (paper: 650)")
    problems_per_step: int = Field(48, ge=1, description="questions of a rollout phase (paper: 512)")
    group_size: int = Field(16, ge=2, description="answers per question, G (paper: 16)")
    minibatches: int = Field(2, ge=1, description="updates per rollout phase (paper: 16)")
    epochs: int = Field(1, ge=1, description="passes over each rollout phase (paper: 1)")
    microbatch_tokens: int = Field(4096, ge=1, description="tokens of one forward and backward pass")
    reference_every: int = Field(
        0, ge=0, description="steps until the reference becomes the policy; 0 never (paper: 25)"
    )
    refill: int = Field(
        0, ge=0, description="extra drawings for groups without signal (DAPO's dynamic sampling; paper: 0)"
    )
    max_mismatch_kl: float = Field(
        0.05, gt=0, description="nats per token between sampler and trainer that stop the run"
    )


class SFTConfig(Section):
    """Supervised fine-tuning (`zerone sft`); paper: cold start and second stage of R1, B.4.2."""

    epochs: int = Field(2, ge=1, description="passes over the data (paper: 2-3)")
    batch_size: int = Field(32, ge=1, description="answers per update (paper: 128; distillation 64)")
    microbatch_tokens: int = Field(4096, ge=1, description="tokens of one forward and backward pass")
    learning_rate: float = Field(1e-3, gt=0, description="peak (paper: 5e-5 for 671B)")
    final_share: float = Field(
        0.1, ge=0, le=1, description="last learning rate as a share of the peak, by a cosine (paper: 0.1)"
    )
    warmup_share: float = Field(
        0.03, ge=0, lt=1, description="share of the updates with linear warm-up (paper: not reported)"
    )
    max_tokens: int = Field(
        0,
        ge=0,
        description="longer samples are left out and counted; 0 is the context (paper: 32,768)",
    )
    suite: str = Field(
        "hard",
        description="measured at each evaluation: mixed, hard, sums, a JSONL of problems, or none",
    )


class CurateConfig(Section):
    """Data from a model's own answers: cold start and rejection sampling; paper: B.3."""

    prompts: int = Field(
        256, ge=0, description="reasoning problems that answers are drawn for (paper: not reported)"
    )
    general: int = Field(
        96,
        ge=0,
        description="general requests beside them, where data.path is unset; of a reward model's stage, "
        "those that its preferences are about",
    )
    samples: int = Field(4, ge=1, description="answers per problem and source (paper: several)")
    cap: int = Field(2, ge=1, description="most samples kept per problem (paper: not reported)")
    designed: int = Field(
        64, ge=0, description="complex cases with a worked solution, in cold start (paper: not reported)"
    )
    ratio: float = Field(
        3.0, gt=0, description="most reasoning samples per general one, where there are any (paper: 3.5)"
    )
    minimum: int = Field(32, ge=1, description="fewer samples than this stop the stage")
    refiner: str = Field("rules", description="`rules`, or the address of an OpenAI-compatible endpoint")
    judge: str = Field(
        "rules", description="of general requests: `rules`, or the address of an OpenAI-compatible endpoint"
    )
    endpoint_model: str = Field("", description="name of the model behind those addresses")


class RewardModelConfig(Section):
    """Reward models from preferences (`zerone reward-model`); paper: 3.1.1 and 3.1.2."""

    epochs: int = Field(2, ge=1, description="passes over the preferences (paper: 1)")
    batch_size: int = Field(32, ge=1, description="pairs or safety examples per update (paper: 256)")
    learning_rate: float = Field(1e-3, gt=0, description="after the warm-up (paper: 6e-6 for 671B)")
    min_margin: float = Field(
        0.3,
        ge=0,
        description="pairs of a smaller known margin are left out (paper: 1 on its own scale)",
    )
    balance_lengths: bool = Field(
        True,
        description="keep as many pairs with a longer better answer as with a shorter one (paper: yes)",
    )


class EvalConfig(Section):
    """Evaluation during training."""

    every: int = Field(10, ge=0, description="steps between evaluations; 0 only first and last")
    mixed_samples: int = Field(2, ge=1, description="answers per problem of the mixed suite")
    hard_samples: int = Field(16, ge=1, description="answers per problem of the hard suite (paper: 16)")
    during: Literal["hard", "both"] = Field("hard", description="suites evaluated between first and last")
    problems: int = Field(500, ge=1, description="at most this many problems of each suite")


class CheckpointConfig(Section):
    """What a killed run can go back to."""

    every: int = Field(5, ge=1, description="steps between checkpoints")
    keep: int = Field(2, ge=1, description="checkpoints that are kept")


class LogConfig(Section):
    """What is shown while training."""

    sample_every: int = Field(5, ge=0, description="steps between completions shown; 0 none")


class HabitsConfig(Section):
    """Habits of the embedded base in the template; see docs/base_model.md."""

    careful: float = Field(0.20, ge=0, le=1, description="share of answers with real work in them")
    checks: float = Field(0.4, ge=0, le=1, description="share of careful word problems with checks")
    give_up: float = Field(0.20, ge=0, le=1, description="chance to guess after each failed try")
    slip: float = Field(0.06, ge=0, le=1, description="chance of a wrong result per calculation")
    malformed: float = Field(0.18, ge=0, le=1, description="share of answers without the right tags")
    mixed_language: float = Field(0.06, ge=0, le=1, description="share in the other language")


class PretrainConfig(Section):
    """How the embedded base is made (`zerone pretrain`)."""

    steps: int = Field(3000, ge=1, description="updates")
    documents_per_step: int = Field(128, ge=1, description="documents per update, about 110 tokens each")
    learning_rate: float = Field(1e-2, gt=0, description="peak of Muon and AdamW")
    habits: HabitsConfig = HabitsConfig()
