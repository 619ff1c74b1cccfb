"""What a stage will roughly take, from its configuration and this machine's measured speed.

In: a configuration. Out: seconds and bytes, for `--dry-run`. A guess within a factor of two or so: how
long completions will be is what a run finds out. The arithmetic is that of `zerone plan` (planning/).
"""

from collections.abc import Callable
from dataclasses import replace

from zerone.config import Config
from zerone.model.loading import find_directory, width_of
from zerone.pipeline.graph import Estimate
from zerone.planning.hardware import this_machine
from zerone.planning.memory import disk_bytes
from zerone.planning.work import SHARE_OF_ROOM, Work, model_passes, rl_work, sft_work

_TOKENS_OF_A_DOCUMENT = 110
"""Of the corpus, on average."""

_TOKENS_OF_AN_EXAMPLE = 150
"""Of SFT's data."""

_TOKENS_PER_ROW = 120
"""Of a preference: the prompt with two final answers, or with one response and its reasoning."""


def rl_estimate(config: Config) -> Estimate:
    """Return what a run of reinforcement learning takes, with its two evaluations."""
    work = rl_work(config)
    return Estimate(
        seconds=_seconds(
            config,
            num_sampled=work.steps * work.sampled_tokens + work.completion * work.evaluated,
            num_trained=work.steps * work.trained_tokens * model_passes(work),
        ),
        num_bytes=round(disk_bytes(_weight_bytes(config), work, config.checkpoint.keep)),
    )


def sft_estimate(num_tokens: int) -> Callable[[Config], Estimate]:
    """Return the estimate for about `num_tokens` of data, which an earlier stage has still to make."""

    def estimate(config: Config) -> Estimate:
        rows = -(-num_tokens // _TOKENS_OF_AN_EXAMPLE)
        work = sft_work(config, rows, completion=_TOKENS_OF_AN_EXAMPLE, prompt=0)
        return _fine_tuning(config, num_tokens * config.sft.epochs, work)

    return estimate


def reward_model_estimate(config: Config) -> Estimate:
    """Return what training a reward model on the preferences of the embedded world takes."""
    rows = 2 * config.curate.general
    work = replace(sft_work(config, rows, completion=_TOKENS_PER_ROW, prompt=0), evaluated=0)
    return _fine_tuning(config, rows * _TOKENS_PER_ROW * config.reward_model.epochs, work)


def _fine_tuning(config: Config, num_trained: int, work: Work) -> Estimate:
    return Estimate(
        seconds=_seconds(config, num_sampled=work.evaluated * work.completion, num_trained=num_trained),
        num_bytes=round(disk_bytes(_weight_bytes(config), work, config.checkpoint.keep)),
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
    """Return what it takes to sample completions and write them down."""
    length = config.sampling.max_tokens * SHARE_OF_ROOM
    return Estimate(seconds=_seconds(config, num_sampled=length * num_answers), num_bytes=num_answers * 1000)


def _seconds(config: Config, num_sampled: float = 0, num_trained: float = 0) -> float:
    here = this_machine(width_of(config.model.path), config.model.precision)
    return here.seconds(_weight_bytes(config) / 4, sampled=num_sampled, trained=num_trained)


def _weight_bytes(config: Config) -> int:
    return sum(file.stat().st_size for file in find_directory(config.model.path).glob("*.safetensors"))
