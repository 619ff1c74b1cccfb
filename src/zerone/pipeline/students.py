"""The students: models smaller than the embedded one, in two architectures, and how each gets its base.

In: a name and the embedded base, whose tokenizer all share. Out: a base model of that size. It is cut
out of the embedded base (model/cutting.py) and pre-trained for a while on the same corpus, as small
models of real families are: from nothing it would take as long as the embedded one, and a base that
knows nothing can show neither what distillation adds nor what reinforcement learning makes of it. The six
mirror the article's set, four of Qwen and two of Llama, by growing size.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from zerone.config import Config
from zerone.errors import ConfigError
from zerone.identity import sha256_of_value
from zerone.jobs.pretraining import Kept, Step, pretrain_from, pretraining_options
from zerone.model.cutting import Cut, cut_model
from zerone.model.loading import load_model, quiet_transformers, save_model
from zerone.pipeline.estimates import pretraining_estimate
from zerone.pipeline.graph import Source, Stage, StageDisplay, StageInputs
from zerone.pipeline.rl_stage import BASE_MODEL
from zerone.processes.machine import keep_freed_memory
from zerone.processes.threads import threads_for, use_threads
from zerone.runs.lineage import Lineage, Node, lineage_of_model, model_directory

STUDENTS: Mapping[str, Cut] = {
    "qwen_xs": Cut(family="qwen3", layers=0.6, neurons=0.75),
    "qwen_s": Cut(family="qwen3", layers=0.6, neurons=0.9),
    "llama_s": Cut(family="llama", layers=0.8, neurons=0.6),
    "qwen_m": Cut(family="qwen3", layers=0.8, neurons=0.8),
    "llama_m": Cut(family="llama", layers=0.8, neurons=1.0),
    "qwen_l": Cut(family="qwen3", layers=1.0, neurons=0.8),
}
"""By name, as shares of the embedded base, which has 1.1 M parameters: from about 0.6 M to 0.9 M.

Two of its five layers, with half of the neurons, stayed at 3% right after SFT on 1,500 samples.
"""

DEFAULT_STUDENTS = ("qwen_xs", "llama_s", "qwen_m")

_BASE = "_pretrained"

OPTIONS = ("model.threads", "pretrain")
"""What shapes the base of a student, beside the model that it is cut out of."""


def base_stage(name: str) -> Stage:
    """Return the stage that makes a student's base; raises ConfigError for an unknown student."""
    if name not in STUDENTS:
        raise ConfigError(
            f"no student is named {name!r}; there are {', '.join(STUDENTS)}, or give the directory of a model"
        )

    def run(inputs: StageInputs, directory: Path, resume: bool, display: StageDisplay) -> Mapping[str, Path]:
        return {"student": _pretrain(name, inputs.config, directory / "model", resume, display)}

    def shape(config: Config) -> Lineage:
        kept = asdict(STUDENTS[name])
        return Lineage.of(Node(name=name, kind="shape", sha256=sha256_of_value(kept), about=kept))

    return Stage(
        name=f"{name}{_BASE}",
        makes=f"the base of {name}, cut out of the embedded one and pre-trained on",
        run=run,
        inputs={"base": BASE_MODEL, "shape": Source(lineage=shape)},
        outputs=("student",),
        options=OPTIONS,
        estimate=pretraining_estimate(STUDENTS[name].layers),
    )


def students_of(stages: Iterable[str]) -> tuple[str, ...]:
    """Return the students that stages are about, by the stages that make their bases."""
    return tuple(name.removesuffix(_BASE) for name in stages if name.endswith(_BASE))


def _pretrain(name: str, config: Config, path: Path, resume: bool, display: StageDisplay) -> Path:
    """Cut and pre-train a student; a killed one goes on from its last checkpoint to the same weights."""
    keep_freed_memory()
    use_threads(threads_for(config.model.threads))
    with quiet_transformers():
        base = load_model(config.model.path, torch.float32)
    module = cut_model(base.module, STUDENTS[name])
    num_steps = config.pretrain.steps
    num_parameters = sum(parameter.numel() for parameter in module.parameters())
    display.say(
        f"{STUDENTS[name].family} of {num_parameters:,} parameters: {num_steps} steps of pre-training"
    )
    kept = Kept(path, f"{name} {' '.join(pretraining_options(config))}")
    if not resume:
        kept.remove()

    def tell(steps: Sequence[Step]) -> None:
        note = f"step {len(steps)}/{num_steps}  loss {steps[-1].loss:.4f}"
        display.progress(len(steps) / num_steps, note)

    steps = pretrain_from(kept, config, module, base.tokenizer, tell)
    module.generation_config.temperature = 1.0
    module.generation_config.do_sample = True
    save_model(module, base.tokenizer, path)
    kept.remove()
    display.say(f"pre-trained on {sum(step.tokens for step in steps):,} tokens")
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
