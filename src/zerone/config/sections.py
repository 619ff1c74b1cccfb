"""Every option of zerone, once, with unit and the paper's value; read this file second.

Frozen pydantic sections, closed to unknown keys; tree.py joins them. Only loops, stages and the
command line see these objects; all else takes values.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator


class Section(BaseModel):
    """A part of the tree: frozen, and closed to unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ModelConfig(Section):
    """The base model and how it is computed."""

    path: str = Field(
        "embedded",
        description="`embedded`, a local transformers directory, or OWNER/NAME[@REVISION] of the Hub",
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="precision of weights in training and sampling; auto is measured (zerone doctor)"
    )
    threads: int = Field(0, ge=0, description="CPU threads; 0 is measured (zerone doctor)")
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="where RL and SFT train; auto is the GPU where torch sees one"
    )
    trainer: Literal["auto", "local", "parallel"] = Field(
        "auto",
        description="local: our own pass, bit-exact, Qwen2, Qwen3 and Llama on a CPU; parallel: any causal "
        "language model of transformers, GPUs, LoRA; auto is local where that computes the model",
    )
    gradient_checkpointing: bool = Field(
        False, description="compute blocks again in the backward pass: less memory, a third more time"
    )
    offload: Literal["none", "reference", "all"] = Field(
        "none", description="kept on the CPU between uses: the reference model, or weights and optimizer too"
    )


class LoraConfig(Section):
    """Adapters in place of the whole model (needs the extra `lora`); the reference is the base model."""

    rank: int = Field(0, ge=0, description="of the adapters; 0 trains all weights (paper: all)")
    alpha: float = Field(32.0, gt=0, description="adapters count alpha / rank")
    targets: tuple[str, ...] = Field(
        ("all-linear",), min_length=1, description="names of linear maps; all-linear: all but the head"
    )
    path: str | None = Field(
        None, description="adapter directory of peft to begin from, with its own rank, alpha and targets"
    )


_NAME = re.compile(r"[A-Za-z_][\w-]{0,63}", re.ASCII)


class NamedConfig(Section):
    """One of several things of a kind that have names and weights."""

    name: str
    weight: float = Field(1.0, ge=0)

    @field_validator("weight", mode="before")
    @classmethod
    def _refuse_switch(cls, weight: Any) -> Any:
        if isinstance(weight, bool):
            raise ValueError("a weight is a number, not a switch")
        return weight


class FunctionConfig(NamedConfig):
    """One of several reward functions of the user's."""

    function: str


class PartConfig(NamedConfig):
    """One of several sources of problems; a field that is None is that of the section `data`."""

    path: str
    weight: float = Field(1.0, gt=0)
    prompt_field: str | None = None
    answer_field: str | None = None
    answer_pattern: str | None = None
    choices_field: str | None = None
    verifier: Literal["auto", "number", "exact", "choice", "math", "code"] | None = None


def named_entries(given: Any, leaf: str, taken: Sequence[str] = ()) -> dict[str, Any]:
    """Return what is said of things by their names, from a mapping or a list; a text alone is their `leaf`.

    In a list a text has the name that stands behind its last colon or slash.
    """
    shape = _SHAPES[leaf]
    if isinstance(given, str):
        given = [given]
    if isinstance(given, Mapping):
        pairs = list(given.items())
    elif isinstance(given, Sequence):
        pairs = [_named(one, leaf) for one in given]
    else:
        raise ValueError(f"write {{NAME: {shape}}} or {{NAME: {{{leaf}: {shape}, weight: 0.5}}}}")
    found: dict[str, Any] = {}
    for name, one in pairs:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} cannot name a {_KINDS[leaf]}: letters, digits, _ and - are read")
        if name in taken or name in found:
            other = "another part of the reward" if name in taken else f"two of the {leaf}s"
            raise ValueError(f"{name!r} is the name of {other}; write {{NAME: {shape}}}")
        if one is not None:
            found[name] = {leaf: one} if isinstance(one, str) else one
    return found


_SHAPES = {"function": "path.py:function", "path": "FILE"}
_KINDS = {"function": "reward", "path": "source of problems"}


def _named(one: Any, leaf: str) -> tuple[Any, Any]:
    """Return name and entry of a thing in a list."""
    if isinstance(one, Mapping):
        rest = {key: value for key, value in one.items() if key != "name"}
        return one.get("name") or _name_in(str(one.get(leaf)), leaf), rest
    return _name_in(str(one), leaf), one


def _name_in(text: str, leaf: str) -> str:
    if leaf == "function":
        return text.rpartition(":")[2]
    name = re.split(r"[@#]", text)[0].rstrip("/").rpartition("/")[2].partition(".")[0]
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)


def _entries(named: Mapping[str, Any]) -> list[Any]:
    """Return named things as a list of sections that know their names."""
    return [{"name": name, **one} if isinstance(one, Mapping) else one for name, one in named.items()]


class DataConfig(Section):
    """Which problems are trained on."""

    path: str | None = Field(
        None,
        description="your own problems instead of a family (for SFT, demonstrations): a file, a directory of "
        "shards, or hf:OWNER/NAME[/CONFIG][@REVISION][#SPLIT]",
    )
    mixture: tuple[PartConfig, ...] = Field(
        (),
        description="several sources of problems by name, each as data.path or `{path: ..., weight: 1}`; "
        "also `data.mixture.NAME=FILE` and `data.mixture.NAME.weight=2`",
    )
    family: Literal["embedded", "mix", "sums"] = Field(
        "embedded",
        description="generated problems: countdown and word problems; mix, these with small functions and "
        "choice questions; or plain sums",
    )
    prompt_field: str = Field("prompt", description="name of the field that holds the prompt")
    answer_field: str = Field("answer", description="name of the field that holds the ground truth")
    answer_pattern: str | None = Field(
        None, description="regular expression whose first group is the ground truth in its field"
    )
    choices_field: str = Field(
        "choices", description="name of the field that lists the choices, if there is one"
    )
    verifier: Literal["auto", "number", "exact", "choice", "math", "code"] = Field(
        "auto",
        description="rule that checks final answers; auto: by each line",
    )
    skip_unreadable: bool = Field(
        False, description="leave out lines whose ground truth the verifier cannot read instead of stopping"
    )
    eval_share: float = Field(
        0.05, gt=0, lt=1, description="share of your problems held out for evaluation, by hash"
    )
    epochs: int = Field(
        0, ge=0, description="passes over your own problems, in place of rl.steps; 0: rl.steps"
    )
    pass_rates: str | None = Field(
        None, description="pass rates that `zerone data pass-rates` measured; problems at 0 or 1 are left out"
    )
    pass_rate_min: float | None = Field(
        None, ge=0, le=1, description="lowest pass rate that is trained on; unset: any above 0"
    )
    pass_rate_max: float | None = Field(
        None, ge=0, le=1, description="highest pass rate that is trained on; unset: any below 1"
    )

    @property
    def is_own(self) -> bool:
        """Whether the problems are the user's own, and not those of a family."""
        return self.path is not None or bool(self.mixture)

    @field_validator("mixture", mode="before")
    @classmethod
    def _name_mixture(cls, given: Any) -> Any:
        return _entries(named_entries(given, "path"))


class PromptConfig(Section):
    """The prompt template."""

    examples: int = Field(0, ge=0, le=3, description="worked examples shown before the problem (paper: 0)")
    style: Literal["tags", "boxed", "summary"] = Field(
        "tags",
        description="what follows the reasoning: an answer block (paper: R1-Zero), a summary with one "
        "\\boxed{} (R1), or a summary that is the final answer",
    )
    open_thought: bool = Field(
        False, description="end the prompt with <think> instead of leaving it to the model (paper: no)"
    )


class SamplingConfig(Section):
    """How completions are sampled in training and evaluation."""

    temperature: float = Field(1.0, ge=0, description="sampling temperature; 0 is greedy (paper: 1.0 in RL)")
    top_p: float = Field(1.0, gt=0, le=1, description="nucleus sampling; 1 is off (paper: not reported)")
    top_k: int = Field(0, ge=0, description="sample from the k most likely tokens; 0 is off")
    max_tokens: int = Field(
        448, ge=1, description="most tokens of a completion (paper: 32,768; 65,536 from update 8,200 on)"
    )
    stop: tuple[str, ...] = Field((), description="stop sequences, beside the end token")
    slots: int = Field(192, ge=1, description="sequences decoded at once; KV memory grows with it")


PARTS = ("accuracy", "format", "language", "repetition", "overlong", "user", "helpfulness", "safety")
"""The parts of a reward that have names of their own; those of functions come behind them."""


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


class RewardConfig(Section):
    """Weights of the reward components, and what they need to know."""

    accuracy: float = Field(
        1.0, ge=0, description="weight of the accuracy reward: 1 if correct (paper: equal to format)"
    )
    format: float = Field(
        0.1,
        ge=0,
        description="weight of the format reward: 1 if the tags are correct (paper: equal to accuracy)",
    )
    language: float = Field(
        0.0,
        ge=0,
        description="weight of the language reward: reasoning in the prompt's language (paper: R1 only)",
    )
    repetition: float = Field(
        0.0, ge=0, description="weight of the penalty for repetition, 0 to -1 (paper: none)"
    )
    overlong: float = Field(
        0.0, ge=0, description="weight of the soft over-length penalty, 0 to -1 (DAPO: 1)"
    )
    overlong_share: float = Field(
        0.2,
        gt=0,
        le=1,
        description="last share of sampling.max_tokens, in which that penalty grows (DAPO: 4096 of 20480)",
    )
    user: float = Field(0.0, ge=0, description="weight of your own function's value")
    function: str | None = Field(None, description="your own reward function, `path.py:function`")
    functions: tuple[FunctionConfig, ...] = Field(
        (),
        description="several functions by name, each `path.py:function` or `{function: ..., weight: 1}`; "
        "also `reward.functions.NAME=path.py:function` and `reward.functions.NAME.weight=0.5`",
    )
    if_function_changed: Literal["refuse", "record"] = Field(
        "refuse", description="what a resumed run does if a reward function's file has changed"
    )
    preference: float = Field(
        0.0, ge=0, description="weight of reward models' scores of general requests, instead of accuracy"
    )
    preference_share: float = Field(
        0.25,
        gt=0,
        le=1,
        description="last share of the steps, in which reward.preference counts (paper: 400 of 1,700)",
    )
    helpfulness_model: str | None = Field(
        None,
        description="reward model of helpfulness: its directory, or an LLM judge at http://HOST/v1#MODEL",
    )
    safety_model: str | None = Field(
        None, description="reward model of safety: its directory, or an LLM judge at http://HOST/v1#MODEL"
    )
    latin_languages: tuple[str, ...] = Field(
        (), description="languages in Latin script to distinguish (needs the extra `language`)"
    )

    @field_validator("functions", mode="before")
    @classmethod
    def _name_functions(cls, given: Any) -> Any:
        return _entries(named_entries(given, "function", PARTS))


class AdvantageConfig(Section):
    """Advantages within a group."""

    baseline: Literal["mean", "leave_one_out"] = Field(
        "mean",
        description="baseline of a reward: the mean of the group (paper), or of its other members (RLOO)",
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
        0.0, ge=0, description="weight of the KL term; at 0 there is no reference model (paper: 0.001)"
    )
    kl_estimator: Literal["k1", "k2", "k3", "unbiased"] = Field(
        "k3", description="estimator of the KL term (paper: k3; V3.2: unbiased, k3 weighted by the ratio)"
    )
    ratio: Literal["token", "sequence"] = Field(
        "token", description="which ratio is clipped: each token's (paper) or the whole sequence's (GSPO)"
    )
    surrogate: Literal["clip", "cispo"] = Field(
        "clip", description="clipped objective (paper), or bounded weight times log pi (CISPO)"
    )
    correction: Literal["none", "truncate", "mask", "sequence_mask", "stale_mask"] = Field(
        "none",
        description="for engine/trainer mismatch: min(rho, high), rho inside the bounds else 0 (IcePop), "
        "sequences inside the bounds, or no stale sequences of negative advantage (V3.2)",
    )
    correction_low: float = Field(0.5, ge=0, description="smallest rho = p_trainer / p_engine that is kept")
    correction_high: float = Field(
        2.0, gt=0, description="largest rho; for stale_mask, nats per token from engine to policy"
    )
    aggregation: Literal["sequence", "token", "constant"] = Field(
        "token",
        description="mean per sequence (GRPO) or per token (DAPO), or sum over max_tokens (Dr. GRPO)",
    )
    mask_truncated: bool = Field(False, description="exclude truncated completions from the loss (DAPO)")


class OptimConfig(Section):
    """AdamW; RL has a constant rate after a warm-up, SFT its own rates."""

    kind: Literal["adamw", "adamw_8bit"] = Field(
        "adamw", description="adamw_8bit keeps both moments in 8 bits (parallel trainer; extra `quantized`)"
    )
    learning_rate: float = Field(2.5e-4, gt=0, description="peak learning rate (paper: 3e-6 for 671B)")
    warmup_updates: int = Field(5, ge=0, description="updates of linear warm-up (paper: not reported)")
    beta1: float = Field(0.9, ge=0, lt=1, description="AdamW beta 1 (paper: not reported)")
    beta2: float = Field(0.95, ge=0, lt=1, description="AdamW beta 2 (paper: not reported)")
    weight_decay: float = Field(
        0.0, ge=0, description="AdamW weight decay, matrices only (paper: not reported)"
    )
    max_grad_norm: float = Field(
        1.0, gt=0, description="largest global norm of the gradient (paper: not reported)"
    )


class RLConfig(Section):
    """The shape of the loop."""

    preset: Literal[
        "none", "r1_zero", "r1", "dapo", "dr_grpo", "gspo", "cispo", "rloo", "reinforce_pp", "v3_2"
    ] = Field(
        "none", description="a paper's settings of advantage, loss and rl; options that you give override it"
    )
    algorithm: Literal["grpo", "ppo"] = Field(
        "grpo", description="grpo: baseline is the group's mean (paper); ppo: a critic of the policy's size"
    )
    gae_lambda: float = Field(
        1.0,
        ge=0,
        le=1,
        description="lambda of PPO's GAE: 0 looks one token ahead, 1 to the end (paper: 1.0; 0.95 is worse)",
    )
    steps: int = Field(30, ge=1, description="training steps, one rollout phase each (paper: 650)")
    problems_per_step: int = Field(48, ge=1, description="problems per step (paper: 512)")
    group_size: int = Field(16, ge=2, description="completions per problem, G (paper: 16)")
    minibatches: int = Field(2, ge=1, description="updates per step and epoch (paper: 16)")
    epochs: int = Field(1, ge=1, description="passes over the completions of a step (paper: 1)")
    microbatch_tokens: int = Field(
        4096, ge=0, description="tokens of one forward and backward pass; 0 is tried out (parallel trainer)"
    )
    reference_every: int = Field(
        0, ge=0, description="steps between copies of the policy into the reference; 0 never (paper: 25)"
    )
    refill: int = Field(
        0,
        ge=0,
        description="times to replace zero-variance groups by new problems (DAPO; paper: 0)",
    )
    max_mismatch_kl: float = Field(
        0.05, gt=0, description="KL between sampler and trainer, in nats per token, that stops the run"
    )


class SFTConfig(Section):
    """Supervised fine-tuning (`zerone sft`); paper: cold start and second stage of R1, B.4.2."""

    epochs: int = Field(2, ge=1, description="passes over the data (paper: 2-3)")
    batch_size: int = Field(32, ge=1, description="demonstrations per update (paper: 128; distillation 64)")
    microbatch_tokens: int = Field(
        4096, ge=0, description="tokens of one forward and backward pass; 0 is tried out (parallel trainer)"
    )
    learning_rate: float = Field(1e-3, gt=0, description="peak learning rate (paper: 5e-5 for 671B)")
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
        description="suite of each evaluation: mixed, hard, sums, a JSONL of problems, or none",
    )
    samples: int = Field(
        4, ge=1, description="completions per problem of sft.suite (paper: 64 of AIME, once at the end)"
    )


class CurateConfig(Section):
    """Data from a model's own completions: cold start and rejection sampling; paper: B.3."""

    prompts: int = Field(
        256, ge=0, description="reasoning problems to sample completions for (paper: not reported)"
    )
    general: int = Field(
        96,
        ge=0,
        description="general requests beside them, where data.path is unset; in a reward model's stage, the "
        "requests of its preferences",
    )
    samples: int = Field(4, ge=1, description="completions per problem and source (paper: several)")
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
        "rules",
        description="judge of general requests: `rules`, or the address of an OpenAI-compatible endpoint",
    )
    endpoint_model: str = Field("", description="name of the model behind those addresses")


class RewardModelConfig(Section):
    """Reward models from preferences (`zerone reward-model`); paper: 3.1.1 and 3.1.2."""

    epochs: int = Field(2, ge=1, description="passes over the preferences (paper: 1)")
    batch_size: int = Field(32, ge=1, description="pairs or safety examples per update (paper: 256)")
    learning_rate: float = Field(
        1e-3, gt=0, description="learning rate after the warm-up (paper: 6e-6 for 671B)"
    )
    min_margin: float = Field(
        0.3,
        ge=0,
        description="smallest known margin of a pair that is used (paper: 1 on its own scale)",
    )
    balance_lengths: bool = Field(
        True,
        description="keep as many pairs with a longer better response as with a shorter one (paper: yes)",
    )


class EvalConfig(Section):
    """Evaluation during training."""

    every: int = Field(10, ge=0, description="steps between evaluations; 0 only first and last")
    mixed_samples: int = Field(2, ge=1, description="completions per problem of the mixed suite")
    hard_samples: int = Field(16, ge=1, description="completions per problem of the hard suite (paper: 16)")
    during: Literal["hard", "both"] = Field("hard", description="suites evaluated between first and last")
    problems: int = Field(500, ge=1, description="most problems of each suite")


class CheckpointConfig(Section):
    """Checkpoints, from which an interrupted run resumes."""

    every: int = Field(5, ge=1, description="steps between checkpoints")
    keep: int = Field(2, ge=1, description="checkpoints that are kept")


class LogConfig(Section):
    """What is shown while training, and where its figures go beside the run directory (docs/trackers.md)."""

    sample_every: int = Field(5, ge=0, description="steps between completions shown; 0 none")
    tracker: Literal["none", "trackio", "wandb", "tensorboard", "jsonl"] = Field(
        "none", description="where metrics, evaluations and samples of completions go as well"
    )
    project: str = Field(
        "zerone",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$",
        description="of trackio and wandb: the project that the run is listed in",
    )
    name: str | None = Field(
        None,
        min_length=1,
        max_length=100,
        description="the run's name in its tracker; unset that of its directory",
    )
    online: bool = Field(
        False, description="send to the server of wandb or trackio; without it nothing leaves this machine"
    )

    @model_validator(mode="after")
    def _check_online(self) -> "LogConfig":
        if self.online and self.tracker not in ("trackio", "wandb"):
            raise ValueError(
                f"log.online=true has no effect with log.tracker={self.tracker}: only trackio and wandb send"
            )
        return self


class HabitsConfig(Section):
    """Habits of the embedded base in the template; see docs/base_model.md."""

    careful: float = Field(0.20, ge=0, le=1, description="share of completions with real work in them")
    checks: float = Field(0.4, ge=0, le=1, description="share of careful word problems with checks")
    give_up: float = Field(0.20, ge=0, le=1, description="chance to guess after each failed try")
    slip: float = Field(0.06, ge=0, le=1, description="chance of a wrong result per calculation")
    malformed: float = Field(0.18, ge=0, le=1, description="share of completions without correct tags")
    mixed_language: float = Field(
        0.06, ge=0, le=1, description="share whose reasoning is in the other language"
    )


class PretrainConfig(Section):
    """How the embedded base is made (`zerone pretrain`)."""

    steps: int = Field(3000, ge=1, description="optimizer updates")
    documents_per_step: int = Field(128, ge=1, description="documents per update, about 110 tokens each")
    learning_rate: float = Field(1e-2, gt=0, description="peak learning rate of Muon and AdamW")
    habits: HabitsConfig = HabitsConfig()
