"""Draws answers for curation: from a model through the engine, or from a procedure.

In: problems. Out: drafts, each a function of (seed, source, problem, number) and of nothing else, so
that pieces of work can be cut anywhere and done again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from zerone.corpus.documents import SOLUTIONS
from zerone.corpus.words import WORDS
from zerone.curation.drafts import GENERAL, Draft, domain_of, style_for
from zerone.machine import DTYPES, Precision, keep_freed_memory, known_machine
from zerone.model.loading import end_ids, load_model, quiet_transformers
from zerone.problems.mixture import FAMILIES, draw_from_split
from zerone.prompt import Example, Style, write_completion, write_prompt
from zerone.rollout.engine import Engine, Request, Sampling
from zerone.rollout.torch_engine import TorchEngine
from zerone.seeding import rng_from, seed_from
from zerone.types import Finish, Problem

ZERO, FEW_SHOT, DESIGNED, REJECTION = "r1_zero", "few_shot", "designed", "rejection"
"""Where samples come from."""

ExamplesFor = Callable[[Problem], tuple[Example, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelAtWork:
    """A model that can be sampled from, and how."""

    engine: Engine
    tokenizer: Any
    context: int
    sampling: Sampling
    sha256: str

    def count_tokens(self, text: str) -> int:
        """Return the length of a completion, its end token included."""
        return len(self.tokenizer(text, add_special_tokens=False)["input_ids"]) + 1


def open_model(
    path: str, sampling: Sampling, slots: int, precision: Precision | Literal["auto"], threads: int
) -> ModelAtWork:
    """Load a transformers directory; precision `auto` and 0 threads are what the machine is best at."""
    keep_freed_memory()
    chosen = known_machine().precision if precision == "auto" else precision
    torch.set_num_threads(threads or known_machine().threads)
    with quiet_transformers():
        model = load_model(path, torch.float32)
    context = int(model.module.config.max_position_embeddings)
    engine = TorchEngine(model.tokenizer, end_ids(model), context, slots, DTYPES[chosen])
    engine.load_weights(model.module, 0)
    return ModelAtWork(
        engine=engine, tokenizer=model.tokenizer, context=context, sampling=sampling, sha256=model.sha256
    )


def _no_examples(problem: Problem) -> tuple[Example, ...]:
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDraw:
    """Answers `num_samples` times per problem; a `Draw`.

    A prompt that leaves no room for an answer gives drafts that are cut from the beginning.
    """

    model: ModelAtWork
    source: str
    style: Style
    num_samples: int
    seed: int
    examples_for: ExamplesFor = _no_examples
    opened: str = ""

    def __call__(self, problems: Sequence[Problem]) -> list[list[Draft]]:
        """Return the drafts of each problem."""
        requests = [self._request(problem) for problem in problems]
        longest = self.model.context - self.model.sampling.max_tokens
        fitting = [request for request in requests if len(request.prompt_ids) <= longest]
        answered = self.model.engine.generate(fitting, self.model.sampling) if fitting else []
        by_problem = {request.problem.id: found for request, found in zip(fitting, answered, strict=True)}
        drafts = []
        for problem in problems:
            rollouts = by_problem.get(problem.id)
            if rollouts is None:
                drafts.append([self._draft(problem, k, "", True) for k in range(self.num_samples)])
            else:
                drafts.append(
                    [self._draft(problem, r.sample, r.text, r.finish is Finish.LENGTH) for r in rollouts]
                )
        return drafts

    def _request(self, problem: Problem) -> Request:
        text = write_prompt(problem.prompt, self.examples_for(problem), self.style) + self.opened
        seeds = tuple(seed_from(self.seed, self.source, problem.id, k) for k in range(self.num_samples))
        return Request(
            problem=problem, prompt_ids=tuple(self.model.tokenizer(text)["input_ids"]), seeds=seeds
        )

    def _draft(self, problem: Problem, number: int, text: str, is_cut: bool) -> Draft:
        for stop in self.model.sampling.stop:
            text = text.removesuffix(stop)
        return Draft(
            problem=problem,
            source=self.source,
            number=number,
            text=(self.opened + text).strip(),
            style=style_for(problem, self.style),
            is_cut=is_cut,
        )


# Worked by procedure ------------------------------------------------------------------------------


def designed_problems(count: int, seed: int) -> list[Problem]:
    """Return complex problems whose careful solution is known: the two highest levels of each family.

    The levels of general requests are kinds, so all of them are taken.
    """
    families = [family for name, family in FAMILIES.items() if name in SOLUTIONS]
    found: dict[str, Problem] = {}
    for i in range(count):
        rng = rng_from(seed, "designed problem", i)
        family = families[i % len(families)]
        problem = draw_from_split(rng, family, rng.choice(family.LEVELS[-2:]), "en", "train")
        if domain_of(problem) == GENERAL:
            problem = draw_from_split(rng, family, rng.choice(family.LEVELS), "en", "train")
        found.setdefault(problem.id, problem)
    return list(found.values())


def draw_designed(problems: Sequence[Problem], seed: int) -> list[list[Draft]]:
    """Return one draft per problem: the careful solution of the corpus."""
    return [
        [
            Draft(
                problem=problem,
                source=DESIGNED,
                number=0,
                text=_worked(problem, seed, Style.TAGS),
                style=Style.TAGS,
            )
        ]
        for problem in problems
    ]


def _worked(problem: Problem, seed: int, style: Style) -> str:
    rng = rng_from(seed, DESIGNED, problem.id)
    solution = SOLUTIONS[problem.family].careful(problem, WORDS[problem.language], rng)
    return write_completion(solution.thought, solution.answer, style)


def worked_examples(problem: Problem, count: int, seed: int) -> tuple[Example, ...]:
    """Return long worked examples of a problem's family and language, none of them the problem itself.

    Of four drawn for each place the one with the longest thought is shown. A family that nobody
    can solve by procedure has none.
    """
    if problem.family not in SOLUTIONS or problem.family not in FAMILIES:
        return ()
    family, words = FAMILIES[problem.family], WORDS[problem.language]
    examples = []
    for place in range(count):
        candidates = []
        for i in range(4):
            rng = rng_from(seed, "example", problem.family, problem.language, place, i)
            other = draw_from_split(rng, family, family.LEVELS[-1], problem.language, "train")
            if other.id != problem.id:
                solution = SOLUTIONS[problem.family].careful(other, words, rng)
                candidates.append(
                    Example(question=other.prompt, thought=solution.thought, answer=solution.answer)
                )
        if candidates:
            examples.append(max(candidates, key=lambda example: len(example.thought)))
    return tuple(examples)
