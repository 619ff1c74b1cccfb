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
    LoraConfig,
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
    lora: LoraConfig = LoraConfig()
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

    @property
    def has_adapters(self) -> bool:
        """Whether adapters are trained in place of the whole model."""
        return bool(self.lora.rank or self.lora.path)

    @property
    def needs_parallel(self) -> list[str]:
        """What is given that only the parallel trainer does."""
        wanted = {
            "model.device=cuda": self.model.device == "cuda",
            "model.gradient_checkpointing=true": self.model.gradient_checkpointing,
            f"model.offload={self.model.offload}": self.model.offload != "none",
            f"optim.kind={self.optim.kind}": self.optim.kind != "adamw",
            "rl.microbatch_tokens=0": self.rl.microbatch_tokens == 0,
            "sft.microbatch_tokens=0": self.sft.microbatch_tokens == 0,
            "lora": self.has_adapters,
        }
        return [name for name, is_wanted in wanted.items() if is_wanted]

    def _check_trainer(self) -> None:
        """Refuse what only the parallel trainer does beside `model.trainer=local`."""
        given = self.needs_parallel
        if self.model.trainer == "local" and given:
            raise ValueError(f"{given[0]} needs model.trainer=parallel, and model.trainer is local")
        if self.model.trainer != "local" and given and self.rl.algorithm == "ppo":
            raise ValueError(f"{given[0]} needs model.trainer=parallel, which does not train PPO's critic")
        if self.rl.reference_every and self.has_adapters:
            raise ValueError(
                "rl.reference_every has no effect with lora: the reference is the base model below the "
                "adapters; set it to 0"
            )
        if self.lora.path and self.loss.kl_coef:
            raise ValueError(
                "lora.path begins elsewhere than at the base model, which would be the reference; set "
                "loss.kl_coef=0, or begin with lora.rank at the merged model"
            )
        if self.lora.rank and self.lora.path:
            raise ValueError("lora.path has a rank of its own; leave lora.rank out")

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
        self._check_trainer()
        if self.sampling.top_p < 1 or self.sampling.top_k:
            raise ValueError(
                "sampling.top_p < 1 or top_k > 0 cuts off tokens that the trainer still counts; "
                "RL needs both off"
            )
        if self.sampling.temperature == 0:
            raise ValueError("sampling.temperature=0 makes all completions of a group equal; RL needs > 0")
        self._check_data()
        r = self.reward
        own = any(one.weight for one in r.functions)
        if not any((r.accuracy, r.format, r.language, r.repetition, r.overlong, r.user, r.preference, own)):
            raise ValueError(
                "all reward weights are 0, so there is nothing to learn from; set one, as reward.accuracy=1"
            )
        if bool(r.user) != (r.function is not None):
            raise ValueError(
                "reward.function is set and reward.user is 0; give the function a weight"
                if r.function is not None
                else f"reward.user={r.user} weighs a function; set reward.function=FILE.py:NAME as well"
            )
        # The reverse is checked where a run starts, as a stage's models come from other stages.
        if (r.helpfulness_model or r.safety_model) and not r.preference:
            raise ValueError("a reward model is given and reward.preference is 0; set its weight")
        return self

    def _check_data(self) -> None:
        d = self.data
        if d.path is not None and d.mixture:
            raise ValueError("data.path and data.mixture both name problems; keep one of them")
        if not (d.path or d.mixture) and (d.epochs or d.pass_rates):
            option = "data.epochs" if d.epochs else "data.pass_rates"
            raise ValueError(
                f"{option} needs problems of your own, by data.path or data.mixture; the others are drawn "
                "anew, without end"
            )
        low, high = d.pass_rate_min, d.pass_rate_max
        if d.pass_rates is None and (low is not None or high is not None):
            raise ValueError(
                "data.pass_rate_min and data.pass_rate_max need data.pass_rates=FILE, which `zerone data "
                "pass-rates` measures"
            )
        if low is not None and high is not None and low > high:
            raise ValueError(f"data.pass_rate_min={low} is above data.pass_rate_max={high}")


def options(section: type[BaseModel] = Config, prefix: str = "") -> dict[str, str]:
    """Return every dotted option with its description, in order."""
    found: dict[str, str] = {}
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found |= options(field.annotation, f"{prefix}{name}.")
        else:
            found[prefix + name] = field.description or ""
    return found
