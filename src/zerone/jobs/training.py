"""The model and the trainer of a run: which one computes it, where, and how; for every job that trains.

In: a configuration and the environment that the run keeps. Out: the opened model and a `Trainer`. What
cannot be trained or sampled is refused before long work.
"""

import copy
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import nn
from transformers import AutoModelForCausalLM

from zerone.config import Config
from zerone.device import Device, device_kind
from zerone.engine.api import Engine
from zerone.engine.opening import open_engine
from zerone.engine.serving import VLLM
from zerone.errors import ConfigError, ModelError
from zerone.identity import sha256_of_path
from zerone.model.decoder import check_supported
from zerone.model.loading import Model, decoder_fault, load_model, load_weights, read_model_files
from zerone.model.lora import Adapters, Base, adapters_at, with_adapters
from zerone.model.packed import pack
from zerone.processes.machine import DTYPES
from zerone.processes.orders import Message
from zerone.processes.ranks import ALONE, Ranks, started_ranks
from zerone.runs.directory import RunDir
from zerone.runs.start import Input
from zerone.train.local import LocalTrainer
from zerone.train.memory import MOST_TOKENS, fitting_tokens, free_memory, gigabytes, peak_of
from zerone.train.optim import adamw, adamw_8bit
from zerone.train.parallel import MakeOptimizer, ParallelSettings, ParallelTrainer
from zerone.train.ranked import RankedTrainer
from zerone.train.sft import CrossEntropy, MicroBatch
from zerone.train.shared_forward import SharedForward
from zerone.train.trainer import ModelPass, Trainer

Kind = Literal["local", "parallel"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Which trainer computes a model, and where."""

    trainer: Kind
    device: Device
    ranks: Ranks = ALONE


def place(config: Config, environment: Mapping[str, Any]) -> Placement:
    """Return where a run trains; raises ModelError or ConfigError for what cannot be."""
    ranks = started_ranks()
    kind = device_kind(config.model.device)
    device = Device(
        kind=kind,
        index=ranks.local_rank if kind == "cuda" else 0,
        dtype=DTYPES[environment["precision"]],
        threads=environment["threads"],
    )
    if ranks.size > 1:
        _refuse_on_ranks(config, ranks)
        return Placement(trainer="parallel", device=device, ranks=ranks)
    fault = decoder_fault(config.model.path)
    m = config.model
    needs_parallel = kind == "cuda" or bool(config.needs_parallel)
    if m.trainer == "local" and fault is not None:
        raise ModelError(f"{fault}; set model.trainer=parallel to train it")
    if m.trainer == "local" and kind == "cuda":
        raise ConfigError("model.trainer=local computes on the CPU; set model.device=cpu or leave it out")
    is_local = m.trainer == "local" or (m.trainer == "auto" and fault is None and not needs_parallel)
    if not is_local and config.rl.algorithm == "ppo":
        raise ConfigError("rl.algorithm=ppo needs model.trainer=local, whose pass its critic is computed by")
    return Placement(trainer="local" if is_local else "parallel", device=device)


def _refuse_on_ranks(config: Config, ranks: Ranks) -> None:
    """Raise ConfigError for what is computed in one process alone."""
    reasons = {
        "model.trainer=local": config.model.trainer == "local",
        "rl.algorithm=ppo": config.rl.algorithm == "ppo",
        "optim.kind=adamw_8bit": config.optim.kind == "adamw_8bit",
        f"engine.kind={VLLM}": config.engine.kind == VLLM,
    }
    for option, is_set in reasons.items():
        if is_set:
            raise ConfigError(f"{option} works in one process only; leave it out, or start without torchrun")
    if not dist.is_initialized() or dist.get_world_size() != ranks.size:
        raise ConfigError(
            "a program of your own trains in one process; start `torchrun -m zerone` for several"
        )


def require_enough(placement: Placement, option: str, number: int) -> None:
    """Raise ConfigError where a step has fewer problems or examples than there are ranks."""
    if placement.ranks.size > number:
        raise ConfigError(
            f"{option}={number} leaves some of {placement.ranks.size} ranks without work; raise it, or start "
            "torchrun with a smaller --nproc-per-node"
        )


def open_policy(config: Config, placement: Placement) -> Model:
    """Load the model to train: fp32, but below adapters in what is computed in."""
    is_parallel = placement.trainer == "parallel"
    dtype = placement.device.dtype if config.has_adapters else torch.float32
    return load_model(config.model.path, dtype, any_architecture=is_parallel)


def open_without_weights(config: Config, placement: Placement) -> Model:
    """Check the model to train, its adapters and optimizer; return it without memory for weights."""
    files = read_model_files(config.model.path, any_architecture=placement.trainer == "parallel")
    with torch.device("meta"):
        module = AutoModelForCausalLM.from_config(files.config)
        trained = module
        if config.has_adapters:
            adapters = replace(_adapters(config), path=None)  # whose tensors belong to weights
            trained = with_adapters(module, adapters, Base(config.model.path, sha256=""), config.seed)
    _optimizer_maker(config, config.optim.learning_rate)(trained.parameters())
    return Model(module=module, tokenizer=files.tokenizer, path=config.model.path, sha256="")


OpenModel = Callable[[Config, Placement], Model]


def open_teacher(path: str, dtype: torch.dtype) -> ModelPass:
    """Load the teacher of on-policy distillation, computed in `dtype`."""
    teacher = load_weights(read_model_files(path), torch.float32).requires_grad_(False)
    with torch.no_grad():
        return SharedForward(teacher, dtype)


def check_can_sample(config: Config, model: Model) -> None:
    """Raise ModelError for a model that the engine of `engine.kind` cannot sample from."""
    if config.engine.kind == VLLM:
        return
    try:
        check_supported(model.module.config)
    except ModelError as error:
        raise ModelError(
            f"{model.path}: the built-in engine cannot sample this model ({error}), so it can be "
            "fine-tuned by `zerone sft` with sft.suite=none, but neither evaluated nor trained by "
            "reinforcement learning; engine.kind=vllm samples it"
        ) from error


def engine_of(config: Config, model: Model, environment: Mapping[str, Any]) -> Engine:
    """Return the engine that samples from the policy; the caller gives it the weights first."""
    return open_engine(
        model,
        config.sampling.slots,
        environment["precision"],
        config.engine,
        threads=environment["threads"],
    )


def new_trainer(
    config: Config,
    model: Model,
    placement: Placement,
    *,
    learning_rate: float,
    rate_option: str = "optim.learning_rate",
    has_reference: bool = False,
) -> Trainer:
    """Return the model as it is, about to be trained, with its optimizer and reference."""
    make_optimizer = _optimizer_maker(config, learning_rate)
    if placement.trainer == "local":
        return LocalTrainer(
            model.module,
            [make_optimizer(model.module.parameters())],
            dtype=placement.device.dtype,
            max_grad_norm=config.optim.max_grad_norm,
            reference=copy.deepcopy(model.module).requires_grad_(False) if has_reference else None,
            rate_option=rate_option,
        )
    settings = ParallelSettings(
        make_optimizer=_optimizer_maker(config, learning_rate),
        max_grad_norm=config.optim.max_grad_norm,
        rate_option=rate_option,
        recompute=config.model.gradient_checkpointing,
        offload=config.model.offload,
    )
    return _parallel_trainer(config, model, placement, settings, has_reference=has_reference)


def _optimizer_maker(config: Config, learning_rate: float) -> MakeOptimizer:
    o = config.optim

    def make(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        kind = adamw if o.kind == "adamw" else adamw_8bit
        return kind(parameters, learning_rate, (o.beta1, o.beta2), o.weight_decay)

    return make


def _parallel_trainer(
    config: Config, model: Model, placement: Placement, settings: ParallelSettings, *, has_reference: bool
) -> ParallelTrainer:
    module, base = model.module, None
    if config.has_adapters:
        base = Base(model.path, model.sha256)
        module = with_adapters(module, _adapters(config), base, config.seed)
    reference = None
    if has_reference:  # below adapters the base is there already
        reference = copy.deepcopy(module) if base is None else module
    trainer = ParallelTrainer(
        module, placement.device, settings, ranks=placement.ranks, reference=reference, base=base
    )
    if trainer.attention == "unpacked" and placement.ranks.is_first:
        print(
            f"warning: {type(model.module).__name__} does not compute packed batches, so each sequence is "
            "computed by itself: prompts are not shared, and padding is computed too",
            file=sys.stderr,
        )
    return trainer


def adapter_inputs(config: Config) -> dict[str, Input]:
    """Return the adapters that a run begins from, if any; raises ModelError for what is not plain LoRA."""
    if config.lora.path is None:
        return {}
    path = Path(config.lora.path).expanduser()
    adapters_at(path)
    return {"adapter_sha256": Input(name=config.lora.path, sha256=sha256_of_path(path))}


def _adapters(config: Config) -> Adapters:
    lora = config.lora
    if lora.path is not None:
        return adapters_at(Path(lora.path).expanduser())
    return Adapters(rank=lora.rank, alpha=lora.alpha, targets=lora.targets)


# The size of micro-batches ------------------------------------------------------------------------

_TRIED = (128, 384, 768)
"""Tokens of the passes by which the memory of longer ones is told."""


def with_microbatches(config: Config, run: RunDir, trainer: Trainer, section: str, longest: int) -> Config:
    """Return the configuration with a size of micro-batches, tried out where it says 0.

    The run keeps what was found, since the size decides on the last bits of sums. `section` is `rl` or `sft`,
    `longest` the tokens of the longest sequence.
    """
    settings = getattr(config, section)
    if settings.microbatch_tokens:
        return config
    known = run.read_environment()
    found = known.get("microbatch_tokens")
    if found is None:
        if isinstance(trainer, RankedTrainer):
            replies = trainer.orders("try", Message({"longest": longest}))
            found = min(reply.values["tokens"] for reply in replies)
        elif isinstance(trainer, ParallelTrainer):
            found = tried_tokens(trainer, longest)
        else:
            raise AssertionError("place() gives the parallel trainer where micro-batches are tried out")
        run.write_environment({**known, "microbatch_tokens": found})
    return config.model_copy(update={section: settings.model_copy(update={"microbatch_tokens": found})})


def tried_tokens(trainer: ParallelTrainer, longest: int) -> int:
    """Return the most tokens of a micro-batch that the device has memory for; weights stay as they are."""
    vocab_size = trainer.module.config.get_text_config().vocab_size
    peaks = []
    for size in _TRIED:
        batch = _sequences_of(size, vocab_size)

        def work(batch: MicroBatch = batch) -> None:
            trainer.forward_backward([batch], CrossEntropy(len(batch.targets_C)))
            trainer.module.zero_grad(set_to_none=True)

        work()  # what is made once, as the tables of a kernel, is not part of a pass
        peaks.append((size, peak_of(trainer.device, work)))
    trainer.forget()
    held = trainer.resident()
    neighbours = trainer.ranks.local_size if trainer.device.kind == "cpu" else 1
    budget = free_memory(trainer.device) // neighbours - held.optimizer
    tokens = fitting_tokens(peaks, budget, longest=longest, largest=MOST_TOKENS[trainer.attention])
    if trainer.ranks.is_first:
        print(
            f"micro-batches of {tokens:,} tokens: {gigabytes(budget)} free, a pass of {_TRIED[-1]} tokens "
            f"took {gigabytes(peaks[-1][1])}",
            file=sys.stderr,
        )
    return tokens


def _sequences_of(num_tokens: int, vocab_size: int) -> MicroBatch:
    """Return rows of 128 tokens, all of which but the first of each carry loss."""
    rows = [[(7 * row + place) % vocab_size for place in range(128)] for row in range(num_tokens // 128)]
    sources = torch.arange(num_tokens).view(-1, 128)
    targets = torch.tensor(rows)
    return MicroBatch(
        packed=pack([((), rows)]),
        sources_C=sources[:, :-1].flatten(),
        targets_C=targets[:, 1:].flatten(),
    )
