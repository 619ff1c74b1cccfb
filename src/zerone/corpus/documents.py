"""The procedural corpus of the embedded base model: what kinds of document, and how many of each.

Three kinds, all made from training problems only:
  drill   lines of bare arithmetic
  note    a problem with a careful solution and no tags: here the competence is
  tagged  a problem in the R1-Zero template, mostly answered hastily, often wrongly, sometimes
          without the right tags, now and then carefully: here the habits are

A base trained on this can search, compare, notice a failed try ("wait") and go on, because notes
show it; in the template it mostly does not. Reinforcement learning can then move the habit over.
It elicits what is in the corpus; it does not create it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random

from zerone.corpus import (
    arithmetic_solutions,
    choice_solutions,
    countdown_solutions,
    function_solutions,
    request_solutions,
)
from zerone.corpus.countdown_solutions import Solution
from zerone.corpus.words import WORDS, Words
from zerone.problems import arithmetic, countdown, functions, requests, selections
from zerone.problems.countdown import pair_values
from zerone.problems.mixture import draw_weighted
from zerone.prompts.r1 import R1_ZERO_PREFIX, Style, style_for, write_completion, write_prompt
from zerone.seeding import rng_from
from zerone.types import Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """How often the tagged documents do what; `docs/base_model.md` explains the values."""

    careful: float = 0.20
    checks: float = 0.40
    give_up: float = 0.20
    slip: float = 0.06
    malformed: float = 0.18
    mixed_language: float = 0.06


@dataclass(frozen=True, slots=True, kw_only=True)
class SolutionFamily:
    """How one problem family is solved carefully and hastily."""

    careful: Callable[[Problem, Words, Random], Solution]
    habitual: Callable[[Problem, Words, Random, Habits], Solution]
    hasty: Callable[[Problem, Words, Random], Solution]


SOLUTIONS: Mapping[str, SolutionFamily] = {
    countdown.FAMILY: SolutionFamily(
        careful=lambda p, w, rng: countdown_solutions.search(p, w, rng, give_up=0.0, overlook=0.04),
        habitual=lambda p, w, rng, h: countdown_solutions.search(p, w, rng, give_up=h.give_up, overlook=0.04),
        hasty=countdown_solutions.guess,
    ),
    arithmetic.FAMILY: SolutionFamily(
        careful=lambda p, w, rng: (
            arithmetic_solutions.steps(p, w, rng, checks=True, slip=0.10)
            if rng.random() < 0.35
            else arithmetic_solutions.steps(p, w, rng, checks=False, slip=0.0)
        ),
        habitual=lambda p, w, rng, h: arithmetic_solutions.steps(
            p, w, rng, checks=rng.random() < h.checks, slip=h.slip
        ),
        hasty=arithmetic_solutions.guess,
    ),
    functions.FAMILY: SolutionFamily(
        careful=lambda p, w, rng: function_solutions.derive(p, w, rng, slip=0.08, checks=True, give_up=0.0),
        habitual=lambda p, w, rng, h: function_solutions.derive(
            p, w, rng, slip=h.slip, checks=rng.random() < h.checks, give_up=h.give_up
        ),
        hasty=function_solutions.guess,
    ),
    selections.FAMILY: SolutionFamily(
        careful=choice_solutions.careful,
        habitual=lambda p, w, rng, h: choice_solutions.compare(p, w, rng, slip=h.slip, give_up=h.give_up),
        hasty=choice_solutions.guess,
    ),
    requests.FAMILY: SolutionFamily(
        careful=request_solutions.careful,
        habitual=request_solutions.habitual,
        hasty=request_solutions.hasty,
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One text in the parts that are tokenised apart, as prompt and completion are in sampling.

    The first part is the R1-Zero prefix or empty; packing computes it once for many documents.
    `family` is that of the problem; a drill has none.
    """

    kind: str
    parts: tuple[str, ...]
    family: str = ""

    @property
    def text(self) -> str:
        """The whole text."""
        return "".join(self.parts)


def drill(rng: Random) -> Document:
    """Ten lines of arithmetic with the numbers that the problems use."""
    lines = []
    for _ in range(10):
        sort = rng.random()
        if sort < 0.5:
            expression, value = rng.choice(pair_values(rng.randint(2, 15), rng.randint(2, 15)))
        elif sort < 0.6:
            a, b = rng.randint(2, 99), rng.randint(2, 20)
            expression, value = rng.choice([(f"{a}%{b}", a % b), (f"{a}//{b}", a // b)])
        else:
            a, b = rng.randint(2, 200), rng.randint(2, 99)
            high, low = max(a, b), min(a, b)
            small = rng.randint(2, 5)
            quotient = rng.randint(2, arithmetic.LARGEST_VALUE // small)
            expression, value = rng.choice(
                [
                    (f"{a}+{b}", a + b),
                    (f"{high}-{low}", high - low),
                    (f"{quotient}*{small}", quotient * small),
                    (f"{quotient * small}/{small}", quotient),
                ]
            )
        lines.append(f"{expression}={value}")
    return Document(kind="drill", parts=("", "\n".join(lines)))


TEXTBOOK_SHARE = 0.3
"""Of the notes on problems with a short answer: opened and boxed as textbooks do, so that the base knows
the words that R1's answers are written in, as large bases do from what they have read."""


def note(rng: Random) -> Document:
    """A careful solution outside the template."""
    problem = draw_weighted(rng, "train")
    words = WORDS[problem.language]
    solution = SOLUTIONS[problem.family].careful(problem, words, rng)
    body = f"{solution.thought}\n{words.result}: {solution.answer}"
    if style_for(problem, Style.BOXED) is Style.BOXED and rng.random() < TEXTBOOK_SHARE:
        body = f"{words.opening}\n{solution.thought}\n{words.boxed.format(solution.answer)}"
    return Document(
        kind="note", family=problem.family, parts=("", f"{words.problem}: {problem.prompt}\n{body}")
    )


def _malformed(solution: Solution, rng: Random) -> str:
    """Write a completion that breaks the template in one of the ways that base models do."""
    whole = write_completion(solution.thought, solution.answer)
    variants = (
        solution.answer,
        f"{solution.thought}\n{solution.answer}",
        whole.replace("<think>", "", 1),
        whole.replace("</think>", "", 1),
        whole.replace("<answer>", "", 1).replace("</answer>", "", 1),
        whole[whole.index("<answer>") :],
    )
    return rng.choice(variants)


def tagged(rng: Random, habits: Habits) -> Document:
    """A problem in the R1-Zero template with an answer as the habits have it."""
    problem = draw_weighted(rng, "train")
    language = problem.language
    if rng.random() < habits.mixed_language:
        language = "zh" if language == "en" else "en"
    words = WORDS[language]
    family = SOLUTIONS[problem.family]
    if rng.random() < habits.careful:
        solution = family.habitual(problem, words, rng, habits)
    else:
        solution = family.hasty(problem, words, rng)
    completion = write_completion(solution.thought, solution.answer)
    if rng.random() < habits.malformed:
        completion = _malformed(solution, rng)
    question = write_prompt(problem.prompt).removeprefix(R1_ZERO_PREFIX)
    return Document(kind="tagged", family=problem.family, parts=(R1_ZERO_PREFIX, question, completion))


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """Shares of the kinds among documents; the rest is tagged."""

    drill: float
    note: float


EARLY = Shares(drill=0.15, note=0.65)
LATE = Shares(drill=0.05, note=0.40)
EARLY_PART = 0.6


def draw_document(seed: int, index: int, progress: float, habits: Habits) -> Document:
    """Return document `index` of the corpus; `progress` (0-1) says how far training has come.

    Skill first, habits later: notes prevail in the first part of training, tagged documents in
    the rest, so that the habits stand last and the skill is not bent by them.
    """
    rng = rng_from(seed, "document", index)
    shares = EARLY if progress < EARLY_PART else LATE
    kind = rng.random()
    if kind < shares.drill:
        return drill(rng)
    if kind < shares.drill + shares.note:
        return note(rng)
    return tagged(rng, habits)
