"""A model that is served: weights and scheduler, prompts, and the sampling it is used with.

In: the name that a user gives (a transformers directory, a run directory, `embedded`). What the
model was trained with decides how it is asked: a run's prompt, the temperature in
generation_config.json.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from pydantic import ValidationError

from zerone.config import Config
from zerone.errors import ModelError
from zerone.evals.as_trained import locate_model
from zerone.machine import DTYPES, NARROW, keep_freed_memory, known_machine, precision_for
from zerone.model.decoder import Decoder
from zerone.model.loading import Model, end_ids, load_model, width_of
from zerone.prompt import Style, shown_examples
from zerone.serve.chat_prompt import Prompter
from zerone.serve.scheduler import Scheduler

MAX_POSITIONS = 32768
"""As far as the forward pass computes rotary angles."""


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a model may take of the machine: keys and values get a quarter of its memory."""

    max_rows: int = 64
    max_waiting: int = 256
    kv_bytes: int = field(default_factory=lambda: _memory_bytes() // 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A model under the name that clients ask for."""

    name: str
    fingerprint: str
    context: int
    tokenizer: Any
    prompter: Prompter
    scheduler: Scheduler
    temperature: float
    top_p: float
    top_k: int
    trained_stop: tuple[str, ...] = ()
    """Strings that ended the answers of the run it comes from: what follows them it never learnt."""


def open_model(given: str, limits: Limits) -> Served:
    """Load a model; its scheduler is not started yet."""
    directory, config = _find(given)
    model = load_model(directory, torch.float32)
    if not getattr(model.tokenizer, "is_fast", False):
        raise ModelError(f"the model in {directory} has no tokenizer.json, which serving needs; convert it")
    context = min(int(model.module.config.max_position_embeddings), MAX_POSITIONS)
    scheduler = Scheduler(
        Decoder.for_sampling(model.module, DTYPES[precision_for(model.module.config.hidden_size)]),
        model.tokenizer,
        end_ids(model),
        context=context,
        max_rows=limits.max_rows,
        max_waiting=limits.max_waiting,
        kv_bytes=limits.kv_bytes,
    )
    setting = _generation_setting(model)
    return Served(
        name=_name(given),
        fingerprint=f"zerone-{model.sha256[:12]}",
        context=context,
        tokenizer=model.tokenizer,
        prompter=_prompter(model, context, config),
        scheduler=scheduler,
        temperature=setting("temperature", 1.0),
        top_p=setting("top_p", 1.0),
        top_k=int(setting("top_k", 0)),
        trained_stop=() if config is None else tuple(config.sampling.stop),
    )


def use_this_machine(*given: str) -> None:
    """Take the threads and the memory settings that are best here for these models.

    The products of narrow models are too small to share, and whoever receives tokens needs a core as
    well: on two cores one thread served the embedded model 1.2 to 1.9 times as fast as two.
    """
    is_wide = any(width_of(_find(each)[0]) >= NARROW for each in given)
    torch.set_num_threads(known_machine().threads if is_wide else 1)
    keep_freed_memory()


def _find(given: str) -> tuple[str, Config | None]:
    """Return the model's directory, and the configuration of the run that it comes from."""
    run, given = locate_model(given)
    if run is None:
        return given, None
    try:
        written = yaml.safe_load(run.config_path.read_text(encoding="utf-8"))
        return given, Config.model_validate(written)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValidationError):
        return given, None


def _name(given: str) -> str:
    """Return what clients call a model: the name of its directory, or of the run that made it."""
    path = Path(given).expanduser().absolute()
    if not path.is_dir():
        return given
    return path.parent.name if path.name == "model" else path.name


def _prompter(model: Model, context: int, config: Config | None) -> Prompter:
    longest = max(map(len, model.tokenizer.get_vocab()))
    return Prompter(
        tokenizer=model.tokenizer,
        uses_template=config is None and model.tokenizer.chat_template is not None,
        style=Style.TAGS if config is None else Style(config.prompt.style),
        opens_thought=config is not None and config.prompt.open_thought,
        examples=shown_examples(0 if config is None else config.prompt.examples),
        context=context,
        max_characters=context * longest,
    )


def _generation_setting(model: Model) -> Callable[[str, float], float]:
    """Return how to read the model's own sampling; None there means that it says nothing."""
    settings = model.module.generation_config

    def read(name: str, default: float) -> float:
        value = getattr(settings, name, None)
        return default if value is None else float(value)

    return read
