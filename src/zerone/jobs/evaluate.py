"""Measures a model on a suite outside of any run (`zerone eval`).

In: a model (a directory, or the address of an OpenAI-compatible endpoint) and what to measure it on.
Out: the record of the evaluation. Here the model is opened; what is asked and how it is judged is in
evals/.
"""

import os
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from zerone.config import Config
from zerone.config.sections import SamplingConfig
from zerone.data.records import read_rows
from zerone.engine.api import SamplingParams
from zerone.engine.opening import open_loaded_engine
from zerone.engine.remote import Endpoint, EndpointClient, key_from_environment
from zerone.errors import EndpointUnusable, ModelError, UserError
from zerone.evals.answerers import EndpointAnswerer, LocalAnswerer
from zerone.evals.asking import Form, message_of, prompt_of
from zerone.evals.ifeval.languages import require_detector
from zerone.evals.inspect_log import require_inspect
from zerone.evals.pairwise import add_references
from zerone.evals.protocol import Evaluation, Progress, files_of, run_evaluation
from zerone.evals.sources import Choice, Source, load_source
from zerone.files import refuse_overwriting
from zerone.model.chat_template import TEMPLATE_FAULTS, check_template, render_chat
from zerone.model.loading import Model, load_model
from zerone.model.tokenizer import encode_prompt, encode_written, readable
from zerone.processes.machine import keep_freed_memory, precision_for
from zerone.processes.threads import threads_for, use_threads
from zerone.prompts.r1 import THINK_OPEN, Style, shown_examples
from zerone.rewards.verifiers import prepare_verifiers
from zerone.train.loop import opened_by_prompt
from zerone.types import Message, Problem

DEFAULT_SAMPLES = 4
JUDGE_KEY_VARIABLE = "ZERONE_JUDGE_KEY"


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How many requests an endpoint gets at once, and how often each is sent if it fails."""

    concurrency: int = 8
    tries: int = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a user asked `zerone eval` for; None where the suite's or the model's own way is wanted.

    `endpoint_model`, `judge`, `judge_model`: names and addresses behind HTTP. `fits_budget`: the tokens
    of a completion may be lowered to the model's context. `turns`: how often each slot is filled before
    what was answered is kept; more of them wait less for the longest answer, and lose more to a kill.
    """

    model: str
    suite: str
    drawing: SamplingConfig
    data: str | None = None
    choice: Choice = field(default_factory=Choice)
    num_samples: int | None = None
    is_chat: bool | None = None
    out: Path | None = None
    endpoint_model: str | None = None
    patience: Patience = field(default_factory=Patience)
    judge: str | None = None
    judge_model: str | None = None
    baseline: Path | None = None
    fits_budget: bool = True
    turns: int = 1
    inspect_log: Path | None = None


def is_address(model: str) -> bool:
    """Whether a model is named by its address."""
    return model.startswith(("http://", "https://"))


def measure_model(config: Config, wanted: Wanted, progress: Progress) -> dict[str, Any]:
    """Return the record of a model on a suite; raises UserError kinds before anything is sampled."""
    return measure_on(config, wanted, _source(config, wanted), progress)


def measure_on(
    config: Config, wanted: Wanted, source: Source, progress: Progress, model: Model | None = None
) -> dict[str, Any]:
    """Return the record of a model on problems at hand, whatever suite `wanted` names.

    A model that is loaded already may be given, so that several suites load it once.
    """
    outputs = files_of(wanted.out, source.name) if wanted.out is not None else ()
    for path in (*outputs, wanted.inspect_log):
        refuse_overwriting(
            {"--inspect-log" if path is wanted.inspect_log else "--out": path},
            [wanted.data, wanted.suite, wanted.baseline],
        )
    with ExitStack() as stack:
        judge = _judge(wanted, source, stack)
        answerer: EndpointAnswerer | LocalAnswerer
        if is_address(wanted.model):
            answerer, about = _endpoint(config, wanted, source, stack)
        else:
            answerer, about = _local(config, wanted, source, model, stack)
        evaluation = Evaluation(
            suite=source.name,
            problems=source.problems,
            num_samples=_num_samples(wanted, source),
            seed=config.seed,
            form=answerer.form,
            about=about | ({"problems_left_out": dict(source.left_out)} if source.left_out else {}),
            out=wanted.out,
            judge=judge,
            inspect_log=wanted.inspect_log,
        )
        return run_evaluation(evaluation, answerer, progress)


def _num_samples(wanted: Wanted, source: Source) -> int:
    """Return k: the user's, or the suite's own."""
    if wanted.num_samples is not None:
        return wanted.num_samples
    return DEFAULT_SAMPLES if source.published is None else source.published.num_samples


def _source(config: Config, wanted: Wanted) -> Source:
    """Load the suite, and see that all is there that it will need at its end."""
    source = load_source(config, wanted.suite, wanted.data, wanted.choice)
    verifiers = {problem.verifier for problem in source.problems}
    _refuse_unused(wanted, source, is_compared="pairwise" in verifiers)
    prepare_verifiers(verifiers)
    if wanted.inspect_log is not None:
        require_inspect(wanted.inspect_log)
    if "instructions" in verifiers:
        require_detector()
    if "pairwise" not in verifiers:
        return source
    if wanted.judge is None or not is_address(wanted.judge):
        raise UserError(f"suite {source.name!r} is judged by a model: name its endpoint by --judge URL")
    if wanted.num_samples not in (None, 1):
        raise UserError(f"suite {source.name!r} compares one answer per problem; leave out --k")
    problems = source.problems
    if wanted.baseline is not None:
        problems = tuple(add_references(problems, read_rows(wanted.baseline)))
    if any("reference" not in problem.spec for problem in problems):
        raise UserError(f"suite {source.name!r} needs answers to compare with: --baseline FILE.jsonl")
    return replace(source, problems=problems)


def _refuse_unused(wanted: Wanted, source: Source, *, is_compared: bool) -> None:
    """Raise UserError for what was asked for and would do nothing."""
    if wanted.endpoint_model is not None and not is_address(wanted.model):
        raise UserError(
            f"--model {wanted.endpoint_model} names a model behind an address, and {wanted.model} is none; "
            "leave it out"
        )
    if source.published is None and (wanted.choice.since or wanted.choice.until):
        raise UserError(
            f"--since and --until choose by the date of a contest, and suite {source.name!r} has none; "
            "leave them out"
        )
    given = {"--judge": wanted.judge, "--judge-model": wanted.judge_model, "--baseline": wanted.baseline}
    unused = [option for option, value in given.items() if value is not None]
    if unused and not is_compared:
        raise UserError(
            f"{', '.join(unused)}: suite {source.name!r} is judged by rules, without comparing answers; "
            "leave it out"
        )


def _judge(wanted: Wanted, source: Source, stack: ExitStack) -> EndpointClient | None:
    if source.problems[0].verifier != "pairwise" or wanted.judge is None:
        return None
    key = key_from_environment(JUDGE_KEY_VARIABLE) or key_from_environment()
    option = "--judge-model"
    return _client(wanted.judge, (option, wanted.judge_model), key, wanted.patience, stack)


def _client(
    url: str, named: tuple[str, str | None], key: str | None, patience: Patience, stack: ExitStack
) -> EndpointClient:
    """Return a client of an endpoint; of one that serves a single model its name need not be given.

    `named` is the option for the model's name, and what was given by it.
    """
    option, model = named
    endpoint = Endpoint(
        url=url, model=model or "", api_key=key, concurrency=patience.concurrency, tries=patience.tries
    )
    client = stack.enter_context(EndpointClient(endpoint))
    if model:
        return client
    names = client.models()
    if len(names) != 1:
        listed = ", ".join(names[:10]) or "none"
        raise EndpointUnusable(f"{url} serves {len(names)} models ({listed}); choose one by {option} NAME")
    return stack.enter_context(EndpointClient(replace(endpoint, model=names[0])))


def _template(config: Config) -> Form:
    """Return the form that a run's own template gives."""
    return Form(
        is_chat=False,
        style=Style(config.prompt.style),
        examples=shown_examples(config.prompt.examples),
        opened=opened_by_prompt(config),
    )


def _endpoint(
    config: Config, wanted: Wanted, source: Source, stack: ExitStack
) -> tuple[EndpointAnswerer, dict[str, Any]]:
    """Return an endpoint as one that answers. Embedded suites go with their template unless told not to."""
    named = ("--model", wanted.endpoint_model)
    client = _client(wanted.model, named, key_from_environment(), wanted.patience, stack)
    is_chat = not source.is_embedded if wanted.is_chat is None else wanted.is_chat
    form = Form(is_chat=True) if is_chat else _template(config)
    context, fingerprint = _told(client, stack)
    context = context if wanted.fits_budget else None
    answerer = EndpointAnswerer(
        client=client,
        sampling=_within(context, _sampling(wanted.drawing)),
        form=form,
        context=context,
        fingerprint=fingerprint,
    )
    about = {"model": client.endpoint.model, "endpoint": client.endpoint.address}
    return answerer, about if fingerprint is None else about | {"fingerprint": fingerprint}


def _told(client: EndpointClient, stack: ExitStack) -> tuple[int | None, str | None]:
    """Return context and fingerprint of an endpoint's model, where it tells them.

    One that is down is not waited for twice.
    """
    endpoint = replace(client.endpoint, tries=min(2, client.endpoint.tries))
    told = stack.enter_context(EndpointClient(endpoint)).about_model()
    context, fingerprint = told.get("max_model_len"), told.get("fingerprint")
    return (
        context if isinstance(context, int) and context > 1 else None,
        fingerprint if isinstance(fingerprint, str) else None,
    )


def _local(
    config: Config, wanted: Wanted, source: Source, loaded: Model | None, stack: ExitStack
) -> tuple[LocalAnswerer, dict[str, Any]]:
    """Open a model directory. A chat template is used where there is one, except for embedded suites."""
    keep_freed_memory()
    use_threads(threads_for(config.model.threads))
    model = loaded or load_model(wanted.model, torch.float32)
    has_template = bool(getattr(model.tokenizer, "chat_template", None))
    if wanted.is_chat and not has_template:
        raise ModelError(f"{model.path} has no chat template; leave out --chat")
    is_chat = has_template and not source.is_embedded if wanted.is_chat is None else wanted.is_chat
    form, render = _chat(model, source) if is_chat else _raw(config)
    encode = _encoder(model, is_chat)
    context = int(model.module.config.max_position_embeddings)
    sampling = _within(context if wanted.fits_budget else None, _sampling(wanted.drawing))
    precision = precision_for(model.module.config.hidden_size, config.model.precision)
    slots = _slots(config, model, sampling)
    opened = open_loaded_engine(model, slots, precision, config.engine, threads=config.model.threads)
    engine = stack.enter_context(closing(opened))
    answerer = LocalAnswerer(
        identity=f"sha256:{model.sha256} {precision}",
        engine=engine,
        sampling=sampling,
        form=form,
        render=render,
        encode=encode,
        readable=partial(readable, model.tokenizer),
        context=context,
        problems_at_once=_at_once(wanted, source, slots),
        fits_budget=wanted.fits_budget,
    )
    return answerer, {"model": wanted.model, "model_sha256": model.sha256}


def _at_once(wanted: Wanted, source: Source, slots: int) -> int:
    """Return how many problems are asked together: all, where nothing is kept of a part of them."""
    if wanted.out is None:
        return len(source.problems)
    return max(1, wanted.turns * slots // _num_samples(wanted, source))


Render = Callable[[Problem], str]


def _raw(config: Config) -> tuple[Form, Render]:
    form = _template(config)
    return form, lambda problem: prompt_of(problem, form)


def _chat(model: Model, source: Source) -> tuple[Form, Render]:
    """Return the form of a chat; a template may open the thought itself."""
    check_template(model.tokenizer, Path(model.path))

    def render(problem: Problem) -> str:
        try:
            asked = Message(role="user", content=message_of(problem))
            return render_chat(model.tokenizer, [asked], thinks=True)
        except TEMPLATE_FAULTS as error:
            raise ModelError(
                f"the chat template of {model.path} fails: {error}; use --no-chat for the R1-Zero template"
            ) from error

    is_opened = render(source.problems[0]).rstrip().endswith(THINK_OPEN)
    return Form(is_chat=True, opened=THINK_OPEN if is_opened else ""), render


def _encoder(model: Model, is_chat: bool) -> Callable[[str], tuple[int, ...]]:
    """Return the tokenizer as a function; a chat template writes its control tokens itself."""
    return partial(encode_written if is_chat else encode_prompt, model.tokenizer)


def _sampling(drawing: SamplingConfig) -> SamplingParams:
    return SamplingParams(
        temperature=drawing.temperature,
        top_p=drawing.top_p,
        top_k=drawing.top_k,
        max_tokens=drawing.max_tokens,
        stop=drawing.stop,
    )


def _within(context: int | None, sampling: SamplingParams) -> SamplingParams:
    """Return how to draw, with no more tokens than a context has."""
    return sampling if context is None else replace(sampling, max_tokens=min(sampling.max_tokens, context))


def _slots(config: Config, model: Model, sampling: SamplingParams) -> int:
    """Return how many answers are written at once: their keys and values get a quarter of the memory."""
    c = model.module.config
    heads = getattr(c, "num_key_value_heads", None) or c.num_attention_heads
    size = getattr(c, "head_dim", None) or c.hidden_size // c.num_attention_heads
    per_token: int = 2 * c.num_hidden_layers * heads * size * 4
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4
    return max(1, min(config.sampling.slots, int(memory) // (per_token * sampling.max_tokens)))
