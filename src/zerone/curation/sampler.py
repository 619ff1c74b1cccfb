"""Draws answers for curation from a model, through the engine.

In: problems. Out: drafts, each a function of (seed, source, problem, number) and of nothing else, so
that pieces of work can be cut anywhere and done again.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from zerone.config.sections import EngineConfig, ModelConfig
from zerone.curation.drafts import Draft
from zerone.engine.api import Engine, Request, SamplingParams
from zerone.engine.opening import open_loaded_engine
from zerone.engine.serving import VLLM
from zerone.identity import sha256_of_value
from zerone.model.loading import context_of, load_model, quiet_transformers
from zerone.model.tokenizer import encode, encode_prompt
from zerone.processes.machine import keep_freed_memory
from zerone.processes.threads import threads_for, use_threads
from zerone.prompts.r1 import Example, Style, style_for, write_prompt
from zerone.seeding import seed_from
from zerone.types import Finish, Problem, Rollout

ZERO, REJECTION = "r1_zero", "rejection"
"""Where samples come from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelAtWork:
    """A model that can be sampled from, and how."""

    engine: Engine
    tokenizer: Any
    context: int
    sampling: SamplingParams
    sha256: str

    def answer(self, requests: Sequence[Request], stops: tuple[str, ...] = ()) -> list[list[Rollout] | None]:
        """Return the rollouts of each request; None for a prompt that leaves no room for an answer."""
        sampling = replace(self.sampling, stop=(*self.sampling.stop, *stops))
        longest = self.context - self.sampling.max_tokens
        fitting = [request for request in requests if len(request.prompt_ids) <= longest]
        answered = iter(self.engine.generate(fitting, sampling) if fitting else [])
        return [next(answered) if len(r.prompt_ids) <= longest else None for r in requests]

    def request(self, problem: Problem, text: str, seed: int, source: str, num_samples: int) -> Request:
        """Return what asks for `num_samples` continuations of a text."""
        return Request(
            problem=problem,
            prompt_ids=encode_prompt(self.tokenizer, text),
            seeds=tuple(seed_from(seed, source, problem.id, k) for k in range(num_samples)),
        )

    def count_tokens(self, text: str) -> int:
        """Return the length of a completion, its end token included."""
        return len(encode(self.tokenizer, text)) + 1


@contextmanager
def opened_model(
    path: str,
    sampling: SamplingParams,
    slots: int,
    computed: ModelConfig,
    settings: EngineConfig | None = None,
) -> Iterator[ModelAtWork]:
    """Load a transformers directory into the engine of `engine.kind`, and close that at the end."""
    settings = settings or EngineConfig()
    keep_freed_memory()
    use_threads(threads_for(computed.threads))
    with quiet_transformers():
        model = load_model(path, torch.float32, any_architecture=settings.kind == VLLM)
    opened = open_loaded_engine(model, slots, computed.precision, settings, threads=computed.threads)
    with closing(opened) as engine:
        yield ModelAtWork(
            engine=engine,
            tokenizer=model.tokenizer,
            context=context_of(model),
            sampling=sampling,
            sha256=model.sha256,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDraw:
    """Answers `num_samples` times per problem, in the template of a style; a `Draw`.

    `examples` are shown first, and `opened` is what the prompt writes of the answer.
    """

    model: ModelAtWork
    source: str
    style: Style
    num_samples: int
    seed: int
    opened: str = ""
    examples: tuple[Example, ...] = ()

    def identity(self) -> dict[str, Any]:
        """Return all that decides the answers to a problem, as JSON values."""
        return {
            "model_sha256": self.model.sha256,
            "samples_per_problem": self.num_samples,
            **asdict(self.model.sampling),
            "style": self.style.value,
            "opened": self.opened,
            "prompt_examples": sha256_of_value([asdict(example) for example in self.examples]),
            "seed": self.seed,
        }

    def __call__(self, problems: Sequence[Problem]) -> list[list[Draft]]:
        """Return the drafts of each problem."""
        requests = [
            self.model.request(
                problem,
                write_prompt(problem.prompt, self.examples, self.style) + self.opened,
                self.seed,
                self.source,
                self.num_samples,
            )
            for problem in problems
        ]
        return [
            no_drafts(problem, self.source, self.num_samples)
            if rollouts is None
            else [self._draft(rollout) for rollout in rollouts]
            for problem, rollouts in zip(problems, self.model.answer(requests), strict=True)
        ]

    def _draft(self, rollout: Rollout) -> Draft:
        text = rollout.text
        for stop in self.model.sampling.stop:
            text = text.removesuffix(stop)
        return Draft(
            problem=rollout.problem,
            source=self.source,
            number=rollout.sample,
            text=(self.opened + text).strip(),
            style=style_for(rollout.problem, self.style),
            is_cut=rollout.finish is Finish.LENGTH,
        )


def no_drafts(problem: Problem, source: str, num_samples: int) -> list[Draft]:
    """Return what stands for answers that a prompt left no room for."""
    return [
        Draft(problem=problem, source=source, number=k, text="", style=Style.TAGS, is_cut=True)
        for k in range(num_samples)
    ]
