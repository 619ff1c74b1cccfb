"""Few-shot prompting of a base model with long worked examples: the cold start's second source.

In: problems and worked examples. Out: drafts. The prompt is plain text, example after example as in a
book of exercises, and no template: what a base can do it shows in the kind of text that it was
trained on (the embedded base works carefully there and guesses in the template).

How many examples help depends on the base. The embedded one has seen one problem per document only,
and takes the numbers of the first: of 48 answers 47 are right without an example, 2 with one, none
with two. A base trained on ordinary text needs them, to know how long to think.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from zerone.corpus.documents import SOLUTIONS
from zerone.corpus.words import WORDS, Words
from zerone.curation.drafts import Draft
from zerone.curation.sampler import ModelAtWork, no_drafts
from zerone.engine.api import Request
from zerone.problems.mixture import CORPUS_SHARES, draw_from_split
from zerone.prompts.r1 import Example, Style, style_for, write_completion
from zerone.seeding import rng_from
from zerone.types import Finish, Problem, Rollout

FEW_SHOT = "few_shot"

ExamplesFor = Callable[[Problem], tuple[Example, ...]]

_CANDIDATES = 4
_FAMILIES = {family.FAMILY: family for family, _ in CORPUS_SHARES}

# The next exercise, which a base model goes on with.
_STOPS = tuple(f"\n{words.problem}: " for words in WORDS.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class FewShotDraw:
    """Answers `num_samples` times per problem after worked examples; a `Draw`."""

    model: ModelAtWork
    examples_for: ExamplesFor
    num_samples: int
    seed: int

    def __call__(self, problems: Sequence[Problem]) -> list[list[Draft]]:
        """Return the drafts of each problem."""
        requests = [self.request(problem) for problem in problems]
        return [
            no_drafts(problem, FEW_SHOT, self.num_samples)
            if rollouts is None
            else [_draft(rollout) for rollout in rollouts]
            for problem, rollouts in zip(problems, self.model.answer(requests, _STOPS), strict=True)
        ]

    def request(self, problem: Problem) -> Request:
        """Write the prompt; while an answer has no room, the longest example goes."""
        examples = self.examples_for(problem)
        while True:
            text = few_shot_prompt(problem, examples)
            request = self.model.request(problem, text, self.seed, FEW_SHOT, self.num_samples)
            room = self.model.context - len(request.prompt_ids)
            if room >= self.model.sampling.max_tokens or not examples:
                return request
            longest = max(examples, key=lambda example: len(example.thought))
            examples = tuple(example for example in examples if example is not longest)


def few_shot_prompt(problem: Problem, examples: Sequence[Example]) -> str:
    """Return worked examples and the problem, as plain text that asks to be continued."""
    words = WORDS[problem.language]
    worked = [f"{words.problem}: {e.question}\n{e.thought}\n{words.result}: {e.answer}\n\n" for e in examples]
    return f"{''.join(worked)}{words.problem}: {problem.prompt}\n"


def _draft(rollout: Rollout) -> Draft:
    problem = rollout.problem
    is_text = style_for(problem, Style.BOXED) is Style.SUMMARY
    solution = read_plain(rollout.text, WORDS[problem.language], of_lines=is_text)
    return Draft(
        problem=problem,
        source=FEW_SHOT,
        number=rollout.sample,
        # Without an answer the text stays as it is, which no form fits.
        text=rollout.text if solution is None else write_completion(*solution),
        style=Style.TAGS,
        # What comes after the answer, the next exercise, may run out of room.
        is_cut=solution is None and rollout.finish is Finish.LENGTH,
    )


def read_plain(text: str, words: Words, *, of_lines: bool = False) -> tuple[str, str] | None:
    """Return thought and answer of a plain solution, up to where a next problem begins; None without.

    An answer is the rest of its line, or with `of_lines` (a program, a letter) of the solution.
    """
    solution = text.partition(f"\n{words.problem}: ")[0]
    thought, found, rest = solution.partition(f"\n{words.result}: ")
    answer = rest.strip() if of_lines else rest.strip().partition("\n")[0].strip()
    return (thought.strip(), answer) if found and answer else None


def worked_examples(problem: Problem, count: int, seed: int) -> tuple[Example, ...]:
    """Return long worked examples of a problem's family and language, none of them the problem itself.

    Of a few drawn for each place the one with the longest thought is taken. A family that no
    procedure can solve has none.
    """
    if problem.family not in SOLUTIONS or problem.family not in _FAMILIES:
        return ()
    family, words = _FAMILIES[problem.family], WORDS[problem.language]
    examples = []
    for place in range(count):
        candidates = []
        for i in range(_CANDIDATES):
            rng = rng_from(seed, "example", problem.family, problem.language, place, i)
            other = draw_from_split(rng, family, family.LEVELS[-1], problem.language, "train")
            solution = SOLUTIONS[problem.family].careful(other, words, rng)
            candidates.append((other, solution))
        other, solution = max(
            candidates, key=lambda found: (found[0].id != problem.id, len(found[1].thought))
        )
        examples.append(Example(question=other.prompt, thought=solution.thought, answer=solution.answer))
    return tuple(examples)
