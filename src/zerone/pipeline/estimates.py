"""What a stage will roughly take, from its configuration and this machine's measured speed.

In: a configuration. Out: seconds and bytes, for `--dry-run`. A guess within a factor of two or so: how
long answers will be is what a run finds out.
"""

from collections.abc import Callable

from zerone.config import Config
from zerone.model.loading import find_directory, width_of
from zerone.pipeline.graph import Estimate
from zerone.processes.machine import known_machine, precision_for

_SHARE_OF_PEAK = 0.6
"""Of the measured matrix product, which the products of sampling and training reach."""

_SECONDS_A_SAMPLED_TOKEN = 80e-6
_SECONDS_A_TRAINED_TOKEN = 40e-6
"""What a token takes beside the products: keys and values read, norms, kernels started. With a model of a
million parameters it is most of the time: 9 to 12 thousand tokens a second on two cores, whatever their peak.
"""

_SHARE_OF_ROOM = 0.15
"""Of `sampling.max_tokens` that an answer fills on average in 30 steps of `zerone zero`."""

_TOKENS_OF_A_PROMPT = 80
"""Read in training beside the answer; sampling reads it once for a group."""

_SECONDS_TO_START = 5.0

_TOKENS_OF_A_DOCUMENT = 110
"""Of the corpus, on average."""

_TRAINING_FLOPS = 6
"""For each parameter and token: two forward, four backward."""

_SAMPLING_FLOPS = 2

_SHARE_OF_A_REFERENCE = _SAMPLING_FLOPS / _TRAINING_FLOPS
"""The reference of a KL term reads what the policy trains on, and learns nothing."""


def rl_estimate(config: Config) -> Estimate:
    """Return what a run of reinforcement learning takes, with its two evaluations."""
    num_answers = config.rl.steps * config.rl.problems_per_step * config.rl.group_size
    num_evaluated = 2 * config.eval.problems * (config.eval.mixed_samples + config.eval.hard_samples)
    length = config.sampling.max_tokens * _SHARE_OF_ROOM
    models = 2.0 if config.rl.algorithm == "ppo" else 1.0  # its critic is a second model of the same size
    if config.loss.kl_coef:
        models += _SHARE_OF_A_REFERENCE
    return Estimate(
        seconds=_seconds(
            config,
            num_sampled=length * (num_answers + num_evaluated),
            num_trained=models * (_TOKENS_OF_A_PROMPT + length) * num_answers * config.rl.epochs,
        ),
        num_bytes=_saved_bytes(config, bool(config.loss.kl_coef)) + int(num_answers * (12 * length + 200)),
    )


def sft_estimate(num_tokens: int) -> Callable[[Config], Estimate]:
    """Return the estimate for about `num_tokens` of data, which an earlier stage has still to make.

    With its evaluations on `sft.suite`: one before, one after and one every `eval.every` updates.
    """
    return lambda config: Estimate(
        seconds=_seconds(
            config,
            num_sampled=_tokens_of_sft_evaluations(config, num_tokens),
            num_trained=num_tokens * config.sft.epochs,
        ),
        num_bytes=_saved_bytes(config, has_reference=False),
    )


_TOKENS_OF_AN_EXAMPLE = 150
_PROBLEMS_OF_A_SUITE = {"hard": 32, "mini-aime": 32, "sums": 75}


def _tokens_of_sft_evaluations(config: Config, num_tokens: int) -> float:
    """Return how many tokens the evaluations of SFT sample; a file has as many problems as there may be."""
    if config.sft.suite == "none":
        return 0.0
    num_updates = num_tokens / _TOKENS_OF_AN_EXAMPLE * config.sft.epochs / config.sft.batch_size
    num_evaluations = 2 + (num_updates // config.eval.every if config.eval.every else 0)
    num_problems = min(config.eval.problems, _PROBLEMS_OF_A_SUITE.get(config.sft.suite, 10**9))
    length = config.sampling.max_tokens * _SHARE_OF_ROOM
    return num_evaluations * num_problems * config.sft.samples * length


_TOKENS_PER_ROW = 120
"""Of a preference: the prompt with two final answers, or with one response and its thought."""


def reward_model_estimate(config: Config) -> Estimate:
    """Return what training a reward model on the preferences of the embedded world takes."""
    num_tokens = 2 * config.curate.general * _TOKENS_PER_ROW
    return Estimate(
        seconds=_seconds(config, num_trained=num_tokens * config.reward_model.epochs),
        num_bytes=_saved_bytes(config, has_reference=False),
    )


def pretraining_estimate(share: float) -> Callable[[Config], Estimate]:
    """Return the estimate for a model that has this share of the base's layers."""

    def estimate(config: Config) -> Estimate:
        num_tokens = config.pretrain.steps * config.pretrain.documents_per_step * _TOKENS_OF_A_DOCUMENT
        return Estimate(
            seconds=_seconds(config, num_trained=num_tokens * share), num_bytes=_weight_bytes(config)
        )

    return estimate


def sampling_estimate(config: Config, num_answers: int) -> Estimate:
    """Return what it takes to sample answers and write them down."""
    length = config.sampling.max_tokens * _SHARE_OF_ROOM
    return Estimate(seconds=_seconds(config, num_sampled=length * num_answers), num_bytes=num_answers * 1000)


def _seconds(config: Config, num_sampled: float = 0, num_trained: float = 0) -> float:
    machine = known_machine()
    precision = precision_for(width_of(config.model.path), config.model.precision)
    peak = machine.gflops.get(f"{precision} x{machine.threads}", 50.0) * 1e9
    parameters = _weight_bytes(config) / 4
    flops = parameters * (_SAMPLING_FLOPS * num_sampled + _TRAINING_FLOPS * num_trained)
    fixed = _SECONDS_A_SAMPLED_TOKEN * num_sampled + _SECONDS_A_TRAINED_TOKEN * num_trained
    return flops / (peak * _SHARE_OF_PEAK) + fixed + _SECONDS_TO_START


def _saved_bytes(config: Config, has_reference: bool) -> int:
    """Return what models and checkpoints take; AdamW keeps two numbers for each weight."""
    checkpoint = 4 if has_reference else 3
    return _weight_bytes(config) * (1 + checkpoint * (config.checkpoint.keep + 1))


def _weight_bytes(config: Config) -> int:
    return sum(file.stat().st_size for file in find_directory(config.model.path).glob("*.safetensors"))
