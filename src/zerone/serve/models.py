"""A model that is served: weights and scheduler, prompts, and the sampling it is used with.

In: the name that a user gives (a transformers directory, a run directory, `embedded`). What the
model was trained with decides how it is asked: a run's prompt, the temperature in
generation_config.json.
"""

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from zerone.config.reading import resolve_reference
from zerone.config.sections import PromptConfig
from zerone.data.demonstrations import read_demonstrations
from zerone.engine.process import EngineProcess
from zerone.engine.serving import TORCH, EngineHost, EngineSpec, load_engine
from zerone.errors import ConfigError, ModelError, UserError, ZeroneError
from zerone.model.chat_template import check_template
from zerone.model.loading import EMBEDDED, ModelFiles, generation_settings, read_model_files
from zerone.prompts.r1 import Style, shown_examples
from zerone.runs.directory import RunDir
from zerone.runs.settings import locate_model, prompt_of_run, sampling_of_run
from zerone.serve.bounded_template import bound_template
from zerone.serve.chat_prompt import Prompter

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
    directory: str
    fingerprint: str
    context: int
    tokenizer: Any
    prompter: Prompter
    scheduler: EngineHost
    temperature: float
    top_p: float
    top_k: int
    trained_stop: tuple[str, ...] = ()
    """Strings that ended the answers of the run it comes from: what follows them it never learnt."""
    suggestions: tuple[str, ...] = ()
    """Problems of the kind that it was trained on."""


def open_model(given: str, limits: Limits) -> Served:
    """Load a model into this process; its engine is not started yet."""
    return _opened(given, limits, load_engine)


def open_models(given: Sequence[str], limits: Limits, engine_kind: str = TORCH) -> list[Served]:
    """Load models, each in a process of its own; they are ready, and not started yet."""
    engines: list[EngineProcess] = []

    def start(spec: EngineSpec) -> EngineProcess:
        engines.append(EngineProcess(replace(spec, kind=engine_kind)))
        return engines[-1]

    try:
        models = [_opened(each, limits, start) for each in given]
        if len({served.name for served in models}) < len(models):
            raise ConfigError(f"both models are called {models[0].name}; rename one directory")
        for engine in engines:
            engine.wait_until_ready()
    except ZeroneError:
        for engine in engines:
            engine.kill()
        raise
    return models


def _opened(given: str, limits: Limits, start: Callable[[EngineSpec], EngineHost]) -> Served:
    run, directory = locate_model(given)
    files = read_model_files(directory)
    context = min(int(files.config.max_position_embeddings), MAX_POSITIONS)
    prompter = _prompter(files, context, run)
    temperature, top_p, top_k = _own_sampling(files)
    trained_stop = () if run is None else sampling_of_run(run).stop
    spec = EngineSpec(
        directory=str(files.directory),
        context=context,
        max_rows=limits.max_rows,
        max_waiting=limits.max_waiting,
        kv_bytes=limits.kv_bytes,
    )
    return Served(
        name=_name(given),
        directory=spec.directory,
        fingerprint=f"zerone-{files.sha256[:12]}",
        context=context,
        tokenizer=files.tokenizer,
        prompter=prompter,
        scheduler=start(spec),
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        trained_stop=trained_stop,
        suggestions=_suggestions(given, run),
    )


_OF_THE_EMBEDDED = ("Use the numbers 3, 5, 7 to make 22.", "What is 12 * 3 - 4?")
_NUM_SUGGESTIONS = 3
_LONGEST_SUGGESTION = 300
_LARGEST_FILE = 16 << 20
"""Bytes of demonstrations that are read for suggestions: serving must not wait for more."""
_TRAINED_ON = (
    "SELECT prompt, MIN(step) AS first, MIN(position) FROM groups WHERE length(prompt) <= ? "
    "GROUP BY family, level, language ORDER BY first, MIN(position) LIMIT ?"
)


def _suggestions(given: str, run: RunDir | None) -> tuple[str, ...]:
    """Return problems that a model's run trained on, of different kinds; none where that is not known."""
    if given == EMBEDDED:
        return _OF_THE_EMBEDDED
    if run is None:
        return ()
    if run.rollouts_path.exists():
        rows = run.query(_TRAINED_ON, (_LONGEST_SUGGESTION, _NUM_SUGGESTIONS))
        return tuple(dict.fromkeys(str(row["prompt"]) for row in rows))
    return _demonstrated(run)


def _demonstrated(run: RunDir) -> tuple[str, ...]:
    """Return the first questions of what a run of SFT learned from, where that file is still there."""
    data = run.read_config().get("data") or {}
    path = Path(resolve_reference(str(data.get("path")), run.path)).expanduser()
    try:
        if not path.is_file() or path.stat().st_size > _LARGEST_FILE:
            return ()
        read = read_demonstrations(path).demonstrations
    except (OSError, UserError):
        return ()
    asked = (message.content for one in read for message in one.messages if message.role == "user")
    short = (text for text in asked if 0 < len(text) <= _LONGEST_SUGGESTION)
    return tuple(islice(dict.fromkeys(short), _NUM_SUGGESTIONS))


def _name(given: str) -> str:
    """Return what clients call a model: the name of its directory, or of the run that made it."""
    path = Path(given).expanduser().absolute()
    if not path.is_dir():
        return given
    return path.parent.name if path.name == "model" else path.name


def _prompter(files: ModelFiles, context: int, run: RunDir | None) -> Prompter:
    longest = max(map(len, files.tokenizer.get_vocab()))
    prompt = PromptConfig() if run is None else prompt_of_run(run)
    prompter = Prompter(
        tokenizer=files.tokenizer,
        uses_template=run is None and files.tokenizer.chat_template is not None,
        style=Style(prompt.style),
        opens_thought=prompt.open_thought,
        examples=shown_examples(prompt.examples),
        context=context,
        max_characters=context * longest,
    )
    if prompter.uses_template:
        bound_template(files.tokenizer)
        check_template(files.tokenizer, files.directory)
    return prompter


def _own_sampling(files: ModelFiles) -> tuple[float, float, int]:
    """Return the model's own temperature, top_p and top_k; raises ModelError where they cannot be used.

    None there means that it says nothing, and -1 that top_k is off, as in vLLM.
    """
    settings = generation_settings(files)

    def read(name: str, default: float, is_usable: Callable[[float], bool]) -> float:
        value = getattr(settings, name, None)
        if value is None:
            return default
        if not isinstance(value, int | float) or not is_usable(value):
            raise ModelError(
                f"generation_config.json in {files.directory} has {value!r} as {name}, by which nothing can "
                "be sampled; correct it there, or remove it"
            )
        return value

    return (
        float(read("temperature", 1.0, lambda value: 0 <= value < math.inf)),
        float(read("top_p", 1.0, lambda value: 0 < value <= 1)),
        max(0, int(read("top_k", 0, lambda value: -1 <= value < math.inf))),
    )
