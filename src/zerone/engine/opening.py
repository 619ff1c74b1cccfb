"""The one place where an engine for rollouts and evaluation is made.

In: the options `engine.*`, a loaded model and how many completions are decoded at once. Out: an engine
that holds no weights yet, except the base model's in the owners that load it by themselves; the caller that
samples calls `update_weights` first.
"""

from importlib import util
from typing import Literal

from zerone.config.sections import EngineConfig
from zerone.engine.api import Engine
from zerone.engine.child import ChildEngine
from zerone.engine.process import Patience
from zerone.engine.serving import TORCH, VLLM, EngineSpec
from zerone.engine.torch.engine import TorchEngine
from zerone.engine.vllm import vllm_engine
from zerone.engine.weights import ModuleWeights
from zerone.errors import ConfigError
from zerone.model.loading import Model, context_of, end_ids, find_directory
from zerone.processes.machine import DTYPES, Precision, precision_for


def check_engine(settings: EngineConfig) -> None:
    """Raise ConfigError where the engine that `engine.kind` names cannot be had here."""
    if settings.kind == VLLM and util.find_spec("vllm") is None:
        raise ConfigError(
            "engine.kind=vllm, and vLLM is not installed here: pip install 'zerone[vllm]', or set "
            "engine.kind=torch"
        )


def open_engine(
    model: Model,
    slots: int,
    precision: Precision | Literal["auto"],
    settings: EngineConfig | None = None,
    *,
    threads: int = 0,
) -> Engine:
    """Return the engine that `engine.kind` names for a model; precision `auto` is what suits its width.

    `threads` are those of a child process; 0 is what is best there.
    """
    settings = settings or EngineConfig()
    check_engine(settings)
    chosen = precision_for(model.module.config.hidden_size, precision)
    context = context_of(model)
    if settings.kind == TORCH:
        ends, of_model = end_ids(model), model.module.config
        return TorchEngine(model.tokenizer, ends, context, slots, DTYPES[chosen], config=of_model)
    spec = EngineSpec(
        directory=str(find_directory(model.path)),  # a model of the Hub in the commit that is in use here
        context=context,
        max_rows=slots,
        max_waiting=_ANY_NUMBER,
        kv_bytes=_VLLM_CPU_CACHE,
        is_for_rollouts=True,
        precision=chosen,
        threads=threads,
        gpu_share=settings.gpu_share,
    )
    if settings.kind == VLLM:
        return vllm_engine(spec)
    return ChildEngine(spec, Patience(lost=settings.timeout, step=settings.timeout))


def open_loaded_engine(
    model: Model,
    slots: int,
    precision: Precision | Literal["auto"],
    settings: EngineConfig | None = None,
    *,
    threads: int = 0,
) -> Engine:
    """Return an engine that holds the weights of a model, as version 0."""
    engine = open_engine(model, slots, precision, settings, threads=threads)
    engine.update_weights(ModuleWeights(model.module), 0)
    return engine


_ANY_NUMBER = 1 << 40
"""Rollouts may wait in any number: the caller waits for all of them."""
_VLLM_CPU_CACHE = 1 << 30
"""Bytes of vLLM's cache where there is no GPU."""
