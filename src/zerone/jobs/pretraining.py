"""Pre-training that can go on after a kill, and the embedded base model with its provenance.

In: a configuration, and a directory that does not exist yet. Out: `zerone pretrain`'s model with its
provenance; for the students (students.py) the training alone. What a cut training goes on from lies
beside its model until that is done.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

from zerone import __version__
from zerone.config import Config
from zerone.corpus.documents import Habits
from zerone.errors import RunDirError
from zerone.files import read_json
from zerone.model.loading import PROVENANCE_NAME, check_replaceable, save_model
from zerone.pretrain import Architecture, Course, build_tokenizer, new_model, new_optimizers, pretrain
from zerone.processes.machine import (
    available_cores,
    commit_of_source,
    cpu_name,
    keep_freed_memory,
)
from zerone.processes.threads import threads_for, use_threads
from zerone.runs.checkpoint import ModelPart, Progress, State, restore_newest, save_checkpoint
from zerone.runs.directory import write_atomically

STEPS_PER_CHECKPOINT = 50
"""About a minute of work on two cores."""

STEPS_PER_LINE = 10


def pretraining_options(config: Config) -> list[str]:
    """Return the seed and every pre-training option, so that defaults may change later."""
    values = config.pretrain.model_dump()
    habits = values.pop("habits")
    return [
        f"seed={config.seed}",
        *(f"pretrain.{key}={value}" for key, value in values.items()),
        *(f"pretrain.habits.{key}={value}" for key, value in habits.items()),
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What a step took and came to."""

    tokens: int
    seconds: float
    loss: float


@dataclass(frozen=True, slots=True)
class Kept:
    """What a training that was cut off leaves beside its model: a checkpoint, and what steps took."""

    out: Path
    command: str
    """What is trained: whoever goes on must mean the same."""

    @property
    def _path(self) -> Path:
        return self.out.with_name(f"{self.out.name}.partial")

    @property
    def checkpoints(self) -> Path:
        """Where they are until the model is done."""
        return self._path / "checkpoints"

    @property
    def _steps_path(self) -> Path:
        return self._path / "steps.json"

    def write(self, steps: Sequence[Step]) -> None:
        """Write what every step so far took; before the checkpoint that goes with them."""
        self._path.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"command": self.command, "steps": [asdict(step) for step in steps]})
        write_atomically(self._steps_path, text + "\n")

    def read(self) -> list[Step]:
        """Return what every step took; raises RunDirError where nothing can go on.

        Steps after the last checkpoint are among them.
        """
        try:
            kept = read_json(self._steps_path)
            found, steps = kept["command"], [Step(**step) for step in kept["steps"]]
        except (OSError, ValueError, TypeError, LookupError) as error:
            raise RunDirError(
                f"nothing in {self._path} to go on with ({error}); leave out --resume"
            ) from error
        if found != self.command:
            raise RunDirError(f"{self._path} was started by `{found}`; go on with the same options")
        return steps

    def remove(self) -> None:
        """Remove what is of use only while the training is not done."""
        shutil.rmtree(self._path, ignore_errors=True)


def _habits(config: Config) -> Habits:
    return Habits(**config.pretrain.habits.model_dump())


def make_base(config: Config, out: Path, say: Callable[[str], None], resume: bool = False) -> None:
    """Train tokenizer and model from nothing and write them with provenance.json.

    With `resume`, go on from the last checkpoint beside `out`; the weights are those of a training that
    was not cut off. Raises RunDirError where there is nothing to go on with.
    """
    check_replaceable(out)
    keep_freed_memory()
    threads = threads_for(config.model.threads)
    use_threads(threads)
    architecture = Architecture()
    tokenizer = build_tokenizer(config.seed, architecture.vocabulary, _habits(config))
    model = new_model(architecture, config.seed, tokenizer.eos_token_id)
    kept = Kept(out, f"zerone pretrain --out DIR {' '.join(pretraining_options(config))}")
    if resume:
        kept.read()  # there must be something to go on with
    else:
        kept.remove()
    steps = pretrain_from(kept, config, model, tokenizer, lambda steps: _say_speed(config, steps, say))
    provenance = _provenance(config, kept.command, steps) | {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "hardware": f"{cpu_name()}, {available_cores()} cores, {threads} threads, fp32",
    }
    model.generation_config.temperature = 1.0
    model.generation_config.do_sample = True
    save_model(model, tokenizer, out, provenance)
    provenance["sha256"] = {
        name: hashlib.sha256((out / name).read_bytes()).hexdigest()
        for name in ("model.safetensors", "tokenizer.json")
    }
    write_atomically(out / PROVENANCE_NAME, json.dumps(provenance, indent=2) + "\n")
    kept.remove()
    say(f"wrote {out}")


def _say_speed(config: Config, steps: Sequence[Step], say: Callable[[str], None]) -> None:
    """Say now and then how far and how fast it goes."""
    if len(steps) % STEPS_PER_LINE == 0 or len(steps) == config.pretrain.steps:
        num_tokens = sum(done.tokens for done in steps)
        speed = num_tokens / sum(done.seconds for done in steps)
        say(
            f"step {len(steps)}/{config.pretrain.steps}  loss {steps[-1].loss:.4f}  "
            f"{num_tokens:,} tokens  {speed:,.0f}/s"
        )


def pretrain_from(
    kept: Kept, config: Config, model: Any, tokenizer: Any, tell: Callable[[Sequence[Step]], None]
) -> list[Step]:
    """Train in place, with a checkpoint now and then, and return what every step took.

    It goes on from the last checkpoint where one is kept, and ends with the weights of a training that was
    not cut off. `tell` is given all steps so far, after each. Raises RunDirError where another training is
    kept.
    """
    optimizers = new_optimizers(model, config.pretrain.learning_rate)
    state: State = {
        "model": ModelPart(model, tokenizer),
        "optimizer": optimizers[0],
        "optimizer_of_the_rest": optimizers[1],
    }
    steps: list[Step] = []
    if found := restore_newest(kept.checkpoints, state):
        steps = kept.read()[: found.step]
    course = Course(
        seed=config.seed,
        num_steps=config.pretrain.steps,
        documents_per_step=config.pretrain.documents_per_step,
        learning_rate=config.pretrain.learning_rate,
        habits=_habits(config),
    )
    clock = time.perf_counter()

    def on_step(step: int, loss: float, tokens: int) -> None:
        nonlocal clock
        now = time.perf_counter()
        steps.append(Step(tokens=tokens, seconds=round(now - clock, 4), loss=loss))
        clock = now
        tell(steps)
        if (step + 1) % STEPS_PER_CHECKPOINT == 0:
            kept.write(steps)
            at = Progress(step=step + 1, updates=step + 1)
            save_checkpoint(kept.checkpoints, at, state, 1)

    pretrain(model, tokenizer, course, on_step, optimizers, start=len(steps))
    return steps


def _provenance(config: Config, command: str, steps: Sequence[Step]) -> dict[str, Any]:
    """Return what the model was made from and by what; parameters and hardware take their place later."""
    return {
        "what": "base model of zerone, made from nothing by `zerone pretrain`",
        "command": command,
        "licence": "MIT",
        "corpus": "procedural, src/zerone/corpus; training problems only; see docs/base_model.md",
        "habits": config.pretrain.habits.model_dump(),
        "parameters": 0,
        "seed": config.seed,
        "steps": config.pretrain.steps,
        "documents_per_step": config.pretrain.documents_per_step,
        "tokens": sum(step.tokens for step in steps),
        "last_loss": steps[-1].loss,
        "hardware": "",
        "seconds": round(sum(step.seconds for step in steps)),
        "versions": {
            "zerone": __version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        "commit": commit_of_source(),
    }
