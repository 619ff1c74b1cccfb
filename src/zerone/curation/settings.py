"""From the configuration to the values that curation works with; models and endpoints are opened here.

In: a `Config`, and model directories. Out: a finished data set's card. Used by the commands and by
the stages of the pipeline, so that both do the same.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from zerone.config import Config
from zerone.config.sections import PromptConfig
from zerone.curation.assembly import Rules
from zerone.curation.by_endpoint import Asking, judge_by_endpoint, refine_by_endpoint
from zerone.curation.cold_start import ColdStart, build_cold_start
from zerone.curation.drafts import Refine
from zerone.curation.few_shot import ExamplesFor, worked_examples
from zerone.curation.filters import Judge
from zerone.curation.refine import refine_by_rules
from zerone.curation.rejection_sampling import sample_and_filter
from zerone.curation.sampler import (
    REJECTION,
    ZERO,
    ModelAtWork,
    ModelDraw,
    opened_model,
)
from zerone.data.jsonl import objects_of
from zerone.engine.opening import check_engine
from zerone.engine.remote import Endpoint, EndpointClient, key_from_environment
from zerone.errors import ConfigError, DataError
from zerone.identity import sha256_of_file
from zerone.jobs.data import data_at_any_time
from zerone.problems import requests
from zerone.problems.mixture import FAMILIES, MIX_FAMILIES, Family, draw_of
from zerone.prompts.r1 import THINK_OPEN, Example, Style, shown_examples
from zerone.rewards.language import Detector, lingua_detector
from zerone.runs.directory import run_of_model
from zerone.runs.settings import prompt_of_run
from zerone.seeding import rng_from
from zerone.train.loop import opened_by_prompt, sampling_of
from zerone.types import Problem

RULES = "rules"

_LEAST_ROOM = 2048
_PATIENCE_S = 900.0
_TRIES = 3

Show = Callable[[float, str], None]
"""Told how much of a data set is done, as a share, and what it is at."""


def make_cold_start(
    config: Config, path: Path, zero: str | None, examples: Path | None, show: Show
) -> dict[str, Any]:
    """Build a cold start from `zero` (an R1-Zero model) and `model.path` (a base model)."""
    curate = config.curate
    with ExitStack() as opened, _refiner(config) as refine, _judge(config) as judge:
        base = opened.enter_context(_opened(config, config.model.path))
        of_zero = None if zero is None else opened.enter_context(_opened(config, zero))
        work = ColdStart(
            problems=_problems(config),
            zero=None if zero is None or of_zero is None else draw_of_zero(config, of_zero, Path(zero)),
            base=base,
            examples_for=_examples_for(config, examples),
            num_samples=curate.samples,
            num_designed=curate.designed,
            designed_families=_families(config),
            style=Style(config.prompt.style),
            seed=config.seed,
        )
        rules = Rules(
            cap=curate.cap,
            minimum=curate.minimum,
            judge=judge,
            detector=_detector(config),
            refine=refine,
        )
        made_by = {
            **asdict(sampling_of(config)),
            "examples": config.prompt.examples if examples is None else sha256_of_file(examples),
        }
        return build_cold_start(work, path, rules, base.count_tokens, made_by | _askers(config), show)


def draw_of_zero(config: Config, model: ModelAtWork, path: Path) -> ModelDraw:
    """Return what asks R1-Zero as it was trained to be asked; its run knows, and tags are R1-Zero's way."""
    run = run_of_model(path)
    prompt = PromptConfig() if run is None else prompt_of_run(run)
    return ModelDraw(
        model=model,
        source=ZERO,
        style=Style(prompt.style),
        num_samples=config.curate.samples,
        seed=config.seed,
        opened=THINK_OPEN if prompt.open_thought else "",
        examples=shown_examples(prompt.examples),
    )


def make_rejection_samples(config: Config, path: Path, show: Show) -> dict[str, Any]:
    """Build SFT data from the answers of `model.path`."""
    with _opened(config, config.model.path) as model, _judge(config) as judge:
        draw = ModelDraw(
            model=model,
            source=REJECTION,
            style=Style(config.prompt.style),
            num_samples=config.curate.samples,
            seed=config.seed,
            opened=opened_by_prompt(config),
            examples=shown_examples(config.prompt.examples),
        )
        rules = Rules(
            cap=config.curate.cap,
            minimum=config.curate.minimum,
            ratio=config.curate.ratio,
            judge=judge,
            detector=_detector(config),
        )
        return sample_and_filter(draw, _problems(config), path, rules, _askers(config), show)


def _opened(config: Config, path: str) -> AbstractContextManager[ModelAtWork]:
    check_engine(config.engine)
    return opened_model(path, sampling_of(config), config.sampling.slots, config.model, config.engine)


def _problems(config: Config) -> list[Problem]:
    """Return training problems, those that are alike once: of reasoning, and general ones.

    In a JSONL of yours general problems are lines like others, so none are added.
    """
    curate, drawn = config.curate, list[Problem]()
    if curate.prompts:
        drawn += data_at_any_time(config).mixture.draw(0, curate.prompts)
    if not config.data.is_own:
        drawn += [
            draw_of(rng_from(config.seed, "general", i), requests, "train") for i in range(curate.general)
        ]
    return list({problem.id: problem for problem in drawn}.values())


def _families(config: Config) -> list[Family]:
    """Return the families that designed cases come from."""
    reasoning = MIX_FAMILIES if config.data.family == "mix" else FAMILIES.values()
    return [*reasoning, *([requests] if config.curate.general else [])]


def _detector(config: Config) -> Detector | None:
    languages = tuple(config.reward.latin_languages)
    return lingua_detector(languages) if languages else None


def _askers(config: Config) -> dict[str, Any]:
    """Return who refines and judges; the address is no part of it, as servers move."""
    curate = config.curate
    askers = {
        name: RULES if where == RULES else f"endpoint {curate.endpoint_model}"
        for name, where in (("refiner", curate.refiner), ("judge", curate.judge))
    }
    return {**askers, "latin_languages": list(config.reward.latin_languages)}


# Endpoints ----------------------------------------------------------------------------------------


def endpoint_of(config: Config, option: str, url: str) -> Endpoint:
    """Return the endpoint that an option names: one that stays silent is given up after 15 minutes."""
    if not config.curate.endpoint_model:
        raise ConfigError(f"curate.{option}={url} needs curate.endpoint_model=NAME, the model to ask for")
    return Endpoint(
        url=url,
        model=config.curate.endpoint_model,
        api_key=key_from_environment(),
        timeout_s=_PATIENCE_S / _TRIES,
        tries=_TRIES,
        first_pause_s=5.0,  # few tries, so that each leaves a busy server some time
    )


def room_for_answer(config: Config) -> int:
    """Return the tokens that an endpoint may answer with.

    What it reads is no longer than `sampling.max_tokens`; twice that lets it think first. A server
    refuses more than its context holds, so this is not simply much.
    """
    return max(_LEAST_ROOM, 2 * config.sampling.max_tokens)


@contextmanager
def _client(config: Config, option: str, url: str) -> Iterator[EndpointClient]:
    with EndpointClient(endpoint_of(config, option, url)) as client:
        yield client


@contextmanager
def _refiner(config: Config) -> Iterator[Refine]:
    style = Style(config.prompt.style)
    if config.curate.refiner == RULES:
        yield partial(refine_by_rules, style=style)
        return
    with _client(config, "refiner", config.curate.refiner) as client:
        asking = Asking(seed=config.seed, max_tokens=room_for_answer(config))
        yield lambda drafts: refine_by_endpoint(client, drafts, style, asking)


@contextmanager
def _judge(config: Config) -> Iterator[Judge | None]:
    if config.curate.judge == RULES:
        yield None
        return
    with _client(config, "judge", config.curate.judge) as client:
        asking = Asking(seed=config.seed, temperature=0.0, max_tokens=room_for_answer(config))
        yield lambda problem, answer: judge_by_endpoint(client, problem, answer, asking)


# Worked examples ----------------------------------------------------------------------------------


def _examples_for(config: Config, path: Path | None) -> ExamplesFor:
    if path is not None:
        own = read_examples(path)
        return lambda problem: own
    return lambda problem: worked_examples(problem, config.prompt.examples, config.seed)


_EXAMPLE_LINE = '{"question": ..., "thought": ..., "answer": ...}'


def read_examples(path: Path) -> tuple[Example, ...]:
    """Read worked examples for few-shot prompts, lines of `question`, `thought` and `answer`."""
    examples = []
    for place, record in objects_of(path, "--examples", _EXAMPLE_LINE):
        fields: dict[str, Any] = {name: record.get(name) for name in ("question", "thought", "answer")}
        if not all(isinstance(value, str) and value.strip() for value in fields.values()):
            raise DataError(f"{place}: {_EXAMPLE_LINE} is needed, all of them text that is not blank")
        examples.append(Example(**fields))
    if not examples:
        raise DataError(f"{path} is empty; it needs one worked example per line")
    return tuple(examples)
