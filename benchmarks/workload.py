"""What the benchmarks have in common: the model, its prompts, and the settings of `zerone zero`.

In: command-line arguments. Out: a `Workload`, built as jobs/rl.py builds a run, and what a
table needs. The embedded mixture is for the embedded model (and others of its making), the sums
with three worked examples for pretrained ones, which the template alone does not reach.
"""

import zerone  # noqa: F401 - before torch, which reads once how threads wait

# isort: split
import argparse
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging

from zerone.config import Config, build_config
from zerone.data.mixture import Mixture
from zerone.engine.torch.engine import TorchEngine
from zerone.engine.weights import ModuleWeights
from zerone.errors import UserError
from zerone.jobs.data import data_of
from zerone.jobs.rl import prompt_encoder
from zerone.model.loading import Model, end_ids, load_model
from zerone.processes.machine import (
    DTYPES,
    Precision,
    available_cores,
    cpu_name,
    keep_freed_memory,
    known_machine,
)
from zerone.processes.threads import threads_for, use_threads
from zerone.runs.checkpoint import Progress
from zerone.train.algorithm import TrainState
from zerone.train.local import LocalTrainer
from zerone.train.optim import adamw
from zerone.types import Group, Problem

SETTINGS_OF_FAMILY = {
    "embedded": {},
    "sums": {
        "data.family": "sums",
        "prompt.examples": 3,
        "sampling.max_tokens": 64,
        "sampling.stop": ["</answer>"],
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A model with the problems that it is asked and the settings of the run."""

    config: Config
    model: Model
    mixture: Mixture
    to_prompt: Callable[[Problem], tuple[int, ...]]
    end_ids: tuple[int, ...]
    dtype: torch.dtype
    threads: int

    def engine(self, *, never_ends: bool = False) -> TorchEngine:
        """Return our engine with the model's weights; one that never ends fills `max_tokens`."""
        context = int(self.model.module.config.max_position_embeddings)
        stops = () if never_ends else self.end_ids
        engine = TorchEngine(self.model.tokenizer, stops, context, self.config.sampling.slots, self.dtype)
        engine.update_weights(ModuleWeights(self.model.module), 0)
        return engine


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that every benchmark takes."""
    parser.add_argument("--model", default="embedded", help="`embedded` or a transformers directory")
    parser.add_argument(
        "--family",
        choices=list(SETTINGS_OF_FAMILY),
        help="problems to ask (default: embedded for the embedded model, else sums)",
    )
    parser.add_argument("--problems", type=int, default=48, help="prompts of a rollout phase")
    parser.add_argument("--group", type=int, default=12, help="completions per prompt")
    parser.add_argument("--max-tokens", type=int, help="longest completion (default: that of the recipe)")
    parser.add_argument("--repeats", type=int, default=3, help="timed runs of each system; the median counts")
    parser.add_argument("--threads", type=int, default=0, help="0: as measured by zerone doctor")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all raw figures there")
    parser.add_argument(
        "--default-allocator",
        action="store_true",
        help="leave out zerone's malloc settings, which otherwise speed up both systems",
    )


def open_workload(
    arguments: argparse.Namespace, precision: Precision | None = None, extra: Sequence[str] = ()
) -> Workload:
    """Load the model and prepare the process; `extra` are further `key=value` settings.

    The precision is the one that was measured to be best (zerone doctor) unless one is given.
    """
    if not arguments.default_allocator:
        keep_freed_memory()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    machine = known_machine()
    threads = threads_for(arguments.threads)
    use_threads(threads)
    config = config_of(arguments, extra)
    try:
        model = load_model(config.model.path, torch.float32)
        ends = end_ids(model)
    except UserError as error:
        raise SystemExit(f"error: {error}") from error
    return Workload(
        config=config,
        model=model,
        mixture=data_of(config).mixture,
        to_prompt=prompt_encoder(config, model),
        end_ids=ends,
        dtype=DTYPES[precision or machine.precision],
        threads=threads,
    )


def config_of(arguments: argparse.Namespace, extra: Sequence[str]) -> Config:
    """Return the run's settings: those of its family, then the arguments, then `extra`."""
    family = arguments.family or ("embedded" if arguments.model == "embedded" else "sums")
    overrides = [
        f"model.path={arguments.model}",
        f"rl.problems_per_step={arguments.problems}",
        f"rl.group_size={arguments.group}",
    ]
    if arguments.max_tokens:
        overrides.append(f"sampling.max_tokens={arguments.max_tokens}")
    try:
        return build_config(SETTINGS_OF_FAMILY[family], [*overrides, *extra])
    except UserError as error:
        raise SystemExit(f"error: {error}") from error


def new_state(work: Workload) -> TrainState:
    """Return the model in training as jobs/rl.py makes it."""
    o, module = work.config.optim, work.model.module
    optimizer = adamw(module.parameters(), o.learning_rate, (o.beta1, o.beta2), o.weight_decay)
    trainer = LocalTrainer(module, [optimizer], dtype=work.dtype, max_grad_norm=o.max_grad_norm)
    return TrainState(trainer=trainer, progress=Progress(step=0, updates=0))


def with_signal(groups: Sequence[Group]) -> list[Group]:
    """Make the members of every group differ in reward."""
    return [
        Group(
            problem=group.problem,
            members=tuple(
                replace(member, reward=member.reward + 2 * (index % 2))
                for index, member in enumerate(group.members)
            ),
        )
        for group in groups
    ]


def conditions(work: Workload, peak: float) -> dict[str, Any]:
    """Return what the figures were measured on."""
    return {
        "cpu": cpu_name(),
        "cores": available_cores(),
        "threads": work.threads,
        "precision": str(work.dtype).removeprefix("torch."),
        "matmul_peak_gflops": round(peak / 1e9, 1),
        "load_average_1min": round(os.getloadavg()[0], 2),
        "torch": torch.__version__,
        "model": work.model.path,
        "model_sha256": work.model.sha256,
    }


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; the first column is text, the others are numbers."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    for row in [header, ["-" * width for width in widths], *rows]:
        first, *others = row
        cells = [first.ljust(widths[0]), *(c.rjust(w) for c, w in zip(others, widths[1:], strict=True))]
        print("  ".join(cells))


def write_json(path: Path | None, figures: dict[str, Any]) -> None:
    """Write the raw figures where a file is wanted."""
    if path is not None:
        path.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
        print(f"raw figures: {path}")
