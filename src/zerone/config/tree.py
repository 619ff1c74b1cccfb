"""The whole option tree, what cannot go together in it, and the list of its options.

In: values that reading.py has put in place. Out: one frozen `Config`. Only loops, stages and the
command line see it; all else takes values.
"""

from pydantic import BaseModel, Field, model_validator

from zerone.config.sections import (
    AdvantageConfig,
    CheckpointConfig,
    CurateConfig,
    DataConfig,
    EngineConfig,
    EvalConfig,
    LogConfig,
    LossConfig,
    ModelConfig,
    OptimConfig,
    PretrainConfig,
    PromptConfig,
    RewardConfig,
    RewardModelConfig,
    RLConfig,
    SamplingConfig,
    Section,
    SFTConfig,
)


class Config(Section):
    """The whole tree."""

    seed: int = Field(0, ge=0, description="of everything random")
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    prompt: PromptConfig = PromptConfig()
    sampling: SamplingConfig = SamplingConfig()
    engine: EngineConfig = EngineConfig()
    reward: RewardConfig = RewardConfig()
    advantage: AdvantageConfig = AdvantageConfig()
    loss: LossConfig = LossConfig()
    optim: OptimConfig = OptimConfig()
    rl: RLConfig = RLConfig()
    sft: SFTConfig = SFTConfig()
    curate: CurateConfig = CurateConfig()
    reward_model: RewardModelConfig = RewardModelConfig()
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
        own = any(one.weight for one in r.functions)
        if not any((r.accuracy, r.format, r.language, r.repetition, r.overlong, r.user, r.preference, own)):
            raise ValueError("reward.accuracy and reward.format are both 0; nothing would be rewarded")
        if bool(r.user) != (r.function is not None):
            raise ValueError(
                f"reward.user={r.user} and reward.function={r.function} go together: a weight and a function"
            )
        # The reverse is checked where a run starts, as a stage's models come from other stages.
        if (r.helpfulness_model or r.safety_model) and not r.preference:
            raise ValueError("a reward model is given and reward.preference is 0; set its weight")
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
