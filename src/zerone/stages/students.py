"""The students: models smaller than the embedded one, in two architectures, and how each gets its base.

In: a name and the embedded base, whose tokenizer all share. Out: a base model that was pre-trained for a
short while on the package's corpus: a student that knows nothing could not show what distillation adds
to a base, and what reinforcement learning makes of the same one. The six mirror the article's set, four
of Qwen and two of Llama, by growing size.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import torch

from zerone.config import Config
from zerone.corpus.documents import Habits
from zerone.errors import ConfigError
from zerone.identity import sha256_of_value
from zerone.lineage import Lineage, Node, lineage_of_model, model_directory
from zerone.machine import keep_freed_memory, known_machine
from zerone.model.loading import load_model, quiet_transformers, save_model
from zerone.pretrain import Architecture, new_model, pretrain
from zerone.stages.estimates import pretraining_estimate
from zerone.stages.graph import Source, Stage, StageDisplay, StageInputs
from zerone.stages.rl_stage import BASE_MODEL

STUDENTS: Mapping[str, Architecture] = {
    "qwen_xs": Architecture(family="qwen3", width=64, layers=3, heads=2, kv_heads=1, mlp_width=192),
    "qwen_s": Architecture(family="qwen3", width=96, layers=4, heads=3, kv_heads=1, mlp_width=256),
    "llama_s": Architecture(family="llama", width=96, layers=4, heads=3, kv_heads=1, mlp_width=256),
    "qwen_m": Architecture(family="qwen3", width=128, layers=4, heads=4, kv_heads=2, mlp_width=320),
    "llama_m": Architecture(family="llama", width=128, layers=4, heads=4, kv_heads=2, mlp_width=320),
    "qwen_l": Architecture(family="qwen3", width=128, layers=5, heads=4, kv_heads=2, mlp_width=384),
}
"""By name; `qwen_l` is of the embedded base's own shape."""

DEFAULT_STUDENTS = ("qwen_xs", "llama_s", "qwen_m")

OPTIONS = ("model.threads", "pretrain")
"""What shapes the base of a student, beside its architecture."""


def base_stage(name: str) -> Stage:
    """Return the stage that makes a student's base; raises ConfigError for an unknown student."""
    if name not in STUDENTS:
        raise ConfigError(
            f"no student is named {name!r}; there are {', '.join(STUDENTS)}, or give the directory of a model"
        )
    shape = asdict(STUDENTS[name])

    def run(
        inputs: StageInputs, directory: Path, resume: bool, display: StageDisplay
    ) -> Mapping[str, Path]:
        return {"student": _pretrain(name, inputs.config, directory / "model", display)}

    def architecture(config: Config) -> Lineage:
        return Lineage.of(
            Node(name=name, kind="architecture", sha256=sha256_of_value(shape), about={"shape": shape})
        )

    return Stage(
        name=f"{name}_base",
        makes=f"the base of student {name}, by a short pre-training",
        run=run,
        inputs={"tokenizer": BASE_MODEL, "architecture": Source(lineage=architecture)},
        outputs=("student",),
        options=OPTIONS,
        estimate=pretraining_estimate(_num_parameters(STUDENTS[name])),
    )


def _num_parameters(a: Architecture) -> int:
    """Return about how many there are; norms are left out."""
    attention = a.width * a.head_size * (2 * a.heads + 2 * a.kv_heads)
    return a.vocabulary * a.width + a.layers * (attention + 3 * a.width * a.mlp_width)


def _pretrain(name: str, config: Config, path: Path, display: StageDisplay) -> Path:
    """Pre-train a student; it takes a minute or two, so a killed one begins anew."""
    keep_freed_memory()
    torch.set_num_threads(config.model.threads or known_machine().threads)
    with quiet_transformers():
        base = load_model(config.model.path, torch.float32)
    # Outputs of the base's number, so that teacher and student can be compared token by token.
    architecture = replace(STUDENTS[name], vocabulary=base.module.config.vocab_size)
    module = new_model(architecture, config.seed, base.tokenizer.eos_token_id)
    p = config.pretrain
    num_parameters = sum(parameter.numel() for parameter in module.parameters())
    display.say(f"{architecture.family} of {num_parameters:,} parameters: {p.steps} steps of pre-training")
    num_tokens = 0

    def on_step(step: int, loss: float, tokens: int) -> None:
        nonlocal num_tokens
        num_tokens += tokens
        display.progress((step + 1) / p.steps, f"step {step + 1}/{p.steps}  loss {loss:.4f}")

    pretrain(
        module,
        base.tokenizer,
        seed=config.seed,
        num_steps=p.steps,
        documents_per_step=p.documents_per_step,
        learning_rate=p.learning_rate,
        habits=Habits(**p.habits.model_dump()),
        on_step=on_step,
    )
    module.generation_config.temperature = 1.0
    module.generation_config.do_sample = True
    save_model(module, base.tokenizer, path)
    display.say(f"pre-trained on {num_tokens:,} tokens")
    return path


# Models that are there already --------------------------------------------------------------------


def model_source(path: str, name: str) -> Source:
    """Return a model from outside as an input; raises ModelError if there is none."""
    directory = model_directory(path).resolve()
    return Source(lineage=lambda config: lineage_of_model(str(directory), name), path=directory)


def name_of_directory(path: str) -> str:
    """Return a student's name for a model directory; a run's `model` goes by the run."""
    parts = [part for part in Path(path).expanduser().resolve().parts if part not in ("model", "best")]
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", parts[-1]).strip("_") if parts else ""
    return name or "student"
