"""`--dry-run`: what a run would check before long work, checked, and what it would take, estimated.

In: a configuration. Out: a line for the user; whatever a run would refuse is refused in the same words, as
the run's own opening is what checks it, in a folder that is removed. The weights alone stay unread.
"""

import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from zerone.config import Config
from zerone.data.preferences import Pair
from zerone.device import device_kind
from zerone.engine.opening import check_engine
from zerone.jobs import rl, sft
from zerone.jobs.training import open_without_weights
from zerone.model.loading import read_model_files
from zerone.planning.hardware import Cluster, gpu_named
from zerone.planning.memory import memory_of
from zerone.planning.plan import Plan, place_of, plan_here, plan_on_gpus, size, span
from zerone.planning.shapes import shape_of_model
from zerone.planning.work import Work, rl_work, sft_work
from zerone.reward_model.run import read_data
from zerone.runs.directory import RunDir
from zerone.runs.start import prepare_run
from zerone.trackers.tracking import check_tracker

_PROMPTS = 200
"""Prompts whose length is taken for that of all."""


def try_zero(config: Config) -> str:
    """Check a run of reinforcement learning; return what it would take, in a line."""
    with _opened(config, rl.open_session) as session:
        problems = [*session.data.listed, *session.data.mixed.problems][:_PROMPTS]
        prompt = fmean(len(session.to_prompt(problem)) for problem in problems)
    return _told(config, rl_work(config, prompt=prompt))


def try_sft(config: Config) -> str:
    """Check a run of supervised fine-tuning; return what it would take, in a line."""
    sft.require_data(config)
    with _opened(config, sft.open_session) as session:
        examples, suite = session.examples.trained, session.suite
    completion = fmean(len(example.completion_ids) for example in examples)
    prompt = fmean(len(example.prompt_ids) for example in examples)
    num_problems = 0 if suite is None else len(suite.problems)
    return _told(config, sft_work(config, len(examples), completion, prompt, num_problems))


@contextmanager
def _opened(config: Config, open_session: Callable[..., Any]) -> Iterator[Any]:
    """Open a run as it would be opened, without its weights, in a folder that is removed."""
    check_tracker(config)
    check_engine(config.engine)
    with tempfile.TemporaryDirectory() as folder:
        run = RunDir(Path(folder) / "trial")
        run.lock()
        try:
            environment = prepare_run(config, run, resume=False, kind=device_kind(config.model.device))
            yield open_session(config, run, environment, open_model=open_without_weights)
        finally:
            if run.log_path.is_file():  # tracebacks of reward functions, which messages point to
                print(run.log_path.read_text(encoding="utf-8", errors="replace"), end="", file=sys.stderr)
            run.unlock()


def try_reward_model(config: Config) -> str:
    """Check a training of a reward model; return what it would take, in a line."""
    check_tracker(config)
    data = read_data(config)
    tokenizer = read_model_files(config.model.path).tokenizer
    r, shown = config.reward_model, data.trained[:_PROMPTS]
    responses = [
        text
        for example in shown
        for text in ((example.chosen, example.rejected) if isinstance(example, Pair) else (example.response,))
    ]
    of_example = len(responses) // len(shown)
    work = sft_work(
        config,
        len(data.trained) * of_example,
        completion=fmean(len(tokenizer(text)["input_ids"]) for text in responses),
        prompt=fmean(len(tokenizer(example.prompt)["input_ids"]) for example in shown),
    )
    steps = r.epochs * -(-len(data.trained) // r.batch_size)
    return _told(config, replace(work, steps=steps, sequences=r.batch_size * of_example, evaluated=0))


def told_estimate(seconds: float, num_bytes: float) -> str:
    """Return what a work without a plan of its own would take, in a line."""
    return f"about {span(seconds)} and {size(num_bytes)} on disk"


def _told(config: Config, work: Work) -> str:
    shape = shape_of_model(config.model.path, config.lora.targets)
    found: Plan | None
    if device_kind(config.model.device) == "cpu":
        found = plan_here("run", config, shape, work)
    else:
        gpu = gpu_named(torch.cuda.get_device_name())
        cluster = None if gpu is None else Cluster(gpu=gpu, number=1)
        found = None if cluster is None else plan_on_gpus("run", config, shape, work, cluster)
    checked = "checked as a run would be: model, data, rewards, lengths"
    if found is None:
        memory = memory_of(shape, work, place_of(config)).peak
        return f"{checked}; about {size(memory)} of memory on this GPU, whose speed is not known"
    return (
        f"{checked}; about {span(found.duration.whole)}, {size(found.memory.peak)} of memory and "
        f"{size(found.disk)} on disk (zerone plan shows how)"
    )
