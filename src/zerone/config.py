"""Every option of zerone, once, with unit and the paper's value; read this file second.

One frozen pydantic tree. A recipe (YAML in recipes/) sets what differs from the defaults here,
`key=value` on the command line sets what differs from the recipe. Unknown keys are refused with a
suggestion. Only loops, stages and the command line see these objects; all else takes values.
"""

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from zerone.errors import ConfigError


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

    path: str | None = Field(None, description="JSONL of your own problems instead of a family")
    family: Literal["embedded", "sums"] = Field(
        "embedded", description="procedural problems: all embedded families, or plain sums"
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

    examples: int = Field(0, ge=0, le=3, description="worked sums shown before the question (paper: 0)")
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
    latin_languages: tuple[str, ...] = Field(
        (), description="languages of Latin letters to tell apart (needs the extra `language`)"
    )


class AdvantageConfig(Section):
    """Credit within a group."""

    scale: Literal["group", "none", "batch"] = Field(
        "group",
        description="divide by the group's deviation (paper), by nothing (Dr. GRPO), by the batch's",
    )


class LossConfig(Section):
    """The GRPO objective (DeepSeekMath eq. 3)."""

    clip_low: float = Field(0.2, ge=0, description="ratio bound 1 - x (paper: 10, R1's first RL stage)")
    clip_high: float = Field(0.4, ge=0, description="ratio bound 1 + x (paper: 10; DAPO: 0.28)")
    kl_coef: float = Field(
        0.0, ge=0, description="weight of the KL term; 0 needs no reference (paper: 0.001)"
    )
    kl_estimator: Literal["k1", "k2", "k3"] = Field("k3", description="of the KL term (paper: k3)")
    aggregation: Literal["sequence", "token", "constant"] = Field(
        "token", description="mean per sequence (GRPO), per token (DAPO), by max_tokens (Dr. GRPO)"
    )
    mask_truncated: bool = Field(False, description="leave out completions that ran out of room (DAPO)")


class OptimConfig(Section):
    """AdamW, constant rate after a warm-up."""

    learning_rate: float = Field(2.5e-4, gt=0, description="peak (paper: 3e-6 for 671B)")
    warmup_updates: int = Field(5, ge=0, description="updates of linear warm-up (paper: not reported)")
    beta1: float = Field(0.9, ge=0, lt=1, description="AdamW (paper: not reported)")
    beta2: float = Field(0.95, ge=0, lt=1, description="AdamW (paper: not reported)")
    weight_decay: float = Field(0.0, ge=0, description="AdamW, matrices only (paper: not reported)")
    max_grad_norm: float = Field(1.0, gt=0, description="clipping of the global norm (paper: not reported)")


class RLConfig(Section):
    """The shape of the loop."""

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

    steps: int = Field(1700, ge=1, description="updates")
    documents_per_step: int = Field(128, ge=1, description="documents per update, about 110 tokens each")
    learning_rate: float = Field(1e-2, gt=0, description="peak of Muon and AdamW")
    habits: HabitsConfig = HabitsConfig()


class Config(Section):
    """The whole tree."""

    seed: int = Field(0, ge=0, description="of everything random")
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    prompt: PromptConfig = PromptConfig()
    sampling: SamplingConfig = SamplingConfig()
    reward: RewardConfig = RewardConfig()
    advantage: AdvantageConfig = AdvantageConfig()
    loss: LossConfig = LossConfig()
    optim: OptimConfig = OptimConfig()
    rl: RLConfig = RLConfig()
    eval: EvalConfig = EvalConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    log: LogConfig = LogConfig()
    pretrain: PretrainConfig = PretrainConfig()

    @model_validator(mode="after")
    def _check_combinations(self) -> "Config":
        rl = self.rl
        if rl.problems_per_step % rl.minibatches:
            raise ValueError(
                f"rl.problems_per_step={rl.problems_per_step} is not divisible by rl.minibatches="
                f"{rl.minibatches}; whole groups are shared out among the minibatches"
            )
        if rl.reference_every and not self.loss.kl_coef:
            raise ValueError("rl.reference_every has no effect while loss.kl_coef is 0; set one of them")
        if self.sampling.top_p < 1 or self.sampling.top_k:
            raise ValueError(
                "sampling.top_p < 1 or top_k > 0 cuts off tokens that the trainer still counts; "
                "RL needs both off"
            )
        if self.sampling.temperature == 0:
            raise ValueError("sampling.temperature=0 makes all answers of a group equal; RL needs > 0")
        r = self.reward
        if not any((r.accuracy, r.format, r.language, r.repetition, r.overlong, r.user)):
            raise ValueError("reward.accuracy and reward.format are both 0; nothing would be rewarded")
        if bool(r.user) != (r.function is not None):
            raise ValueError(
                f"reward.user={r.user} and reward.function={r.function} go together: a weight and a function"
            )
        return self


def options(section: type[BaseModel] = Config, prefix: str = "") -> dict[str, str]:
    """Return every dotted option with its description, in order."""
    found: dict[str, str] = {}
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found |= options(field.annotation, f"{prefix}{name}.")
        else:
            found[prefix + name] = field.description or ""
    return found


def _text_options(section: type[BaseModel] = Config, prefix: str = "") -> set[str]:
    """Return the options that hold free text."""
    found: set[str] = set()
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found |= _text_options(field.annotation, f"{prefix}{name}.")
        elif field.annotation in (str, str | None):
            found.add(prefix + name)
    return found


def _default_of(key: str) -> Any:
    value: Any = Config()
    for part in key.split("."):
        value = getattr(value, part)
    return value


def _refuse_unknown(key: str) -> None:
    known = options()
    if key in known:
        return
    inside = [option for option in known if option.startswith(f"{key}.")]
    if inside:
        raise ConfigError(f"{key!r} is a section, not an option; did you mean {inside[0]!r}?")
    leaf = key.rsplit(".", 1)[-1]
    by_leaf = [option for option in known if option.rsplit(".", 1)[-1] == leaf]
    close = by_leaf or difflib.get_close_matches(key, known, n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
    raise ConfigError(f"unknown option {key!r}.{hint} `zerone config show` lists all of them.")


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and name not in options():
            flat |= _flatten(value, f"{name}.")
        else:
            flat[name] = value
    return flat


def _nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for key, value in flat.items():
        *sections, leaf = key.split(".")
        node = tree
        for section in sections:
            node = node.setdefault(section, {})
        node[leaf] = value
    return tree


def parse_overrides(overrides: Iterable[str]) -> dict[str, Any]:
    """Read `a.b=value` arguments; values are YAML, but for text options, which are taken as typed.

    A regular expression may hold what YAML would read as a comment or a list.
    """
    flat: dict[str, Any] = {}
    for override in overrides:
        key, equals, value = override.removeprefix("--").partition("=")
        if not equals:
            raise ConfigError(f"{override!r} is not an override; write key=value, as in rl.steps=20")
        if key in _text_options():
            flat[key] = None if value == "null" else value
            continue
        try:
            flat[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"the value of {override!r} is not valid YAML") from error
        if isinstance(flat[key], str):
            flat[key] = _number_or_text(flat[key])
    return flat


def _number_or_text(text: str) -> float | str:
    """YAML 1.1 reads 1e-3 as text; nobody who types it means text."""
    try:
        return float(text)
    except ValueError:
        return text


def read_recipe(path: Path) -> dict[str, Any]:
    """Read a YAML file into flat dotted keys."""
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not a YAML file: {error}") from error
    if not isinstance(tree, Mapping):
        raise ConfigError(f"{path} must hold a mapping of sections, not {type(tree).__name__}")
    return {
        key: _number_or_text(value) if isinstance(value, str) and key not in _text_options() else value
        for key, value in _flatten(tree).items()
    }


def build_config(recipe: Mapping[str, Any], overrides: Iterable[str] = ()) -> Config:
    """Put defaults, recipe and overrides together; raise ConfigError for what cannot be."""
    flat = {**recipe, **parse_overrides(overrides)}
    for key, value in flat.items():
        _refuse_unknown(key)
        # pydantic would take true for 1; the one option that is a switch says so in its default.
        if isinstance(value, bool) and not isinstance(_default_of(key), bool):
            raise ConfigError(f"{key}={value}: a switch is no value here ({options()[key]})")
    try:
        return Config.model_validate(_nest(flat))
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(problem) for problem in error.errors())) from error


def _explain(problem: Any) -> str:
    key = ".".join(map(str, problem["loc"]))
    message = str(problem["msg"]).removeprefix("Value error, ")
    if not key:
        return message
    return f"{key}={problem['input']!r}: {message} ({options().get(key, '')})"


def to_yaml(config: Config, *, with_descriptions: bool = False) -> str:
    """Write the resolved tree; with descriptions each option is explained on its line."""
    # One line per option, however long, as its description goes behind it.
    plain = yaml.safe_dump(config.model_dump(), sort_keys=False, allow_unicode=True, width=10**9)
    if not with_descriptions:
        return plain
    described, path = [], list[str]()
    for line in plain.splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        path = [*path[:depth], line.strip().split(":")[0]]
        description = options().get(".".join(path))
        described.append(f"{line:<34}  # {description}" if description else line)
    return "\n".join(described) + "\n"
