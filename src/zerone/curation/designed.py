"""Complex cases whose careful solution is known: the cold start's third source.

In: a count and a seed. Out: problems of the highest levels, and a draft of each, made by the
procedure that wrote the corpus.
"""

from collections.abc import Sequence

from zerone.corpus.documents import SOLUTIONS
from zerone.corpus.words import WORDS
from zerone.curation.drafts import GENERAL, Draft, domain_of
from zerone.problems.mixture import CHINESE_SHARE, Family, draw_from_split
from zerone.prompts.r1 import Style, style_for, write_completion
from zerone.seeding import rng_from
from zerone.types import Problem

DESIGNED = "designed"


def designed_problems(count: int, seed: int, families: Sequence[Family]) -> list[Problem]:
    """Return complex problems whose careful solution is known: the two highest levels of each family.

    The levels of general requests are kinds, so all of them are taken.
    """
    solved = [family for family in families if family.FAMILY in SOLUTIONS]
    found: dict[str, Problem] = {}
    for i in range(count if solved else 0):
        rng = rng_from(seed, "designed problem", i)
        family = solved[i % len(solved)]
        language = "zh" if rng.random() < CHINESE_SHARE else "en"
        problem = draw_from_split(rng, family, rng.choice(family.LEVELS[-2:]), language, "train")
        if domain_of(problem) == GENERAL:
            problem = draw_from_split(rng, family, rng.choice(family.LEVELS), language, "train")
        found.setdefault(problem.id, problem)
    return list(found.values())


def draw_designed(problems: Sequence[Problem], seed: int, style: Style) -> list[list[Draft]]:
    """Return one draft per problem: the careful solution of the corpus."""
    return [[_designed(problem, seed, style_for(problem, style))] for problem in problems]


def _designed(problem: Problem, seed: int, style: Style) -> Draft:
    rng = rng_from(seed, DESIGNED, problem.id)
    solution = SOLUTIONS[problem.family].careful(problem, WORDS[problem.language], rng)
    text = write_completion(solution.thought, solution.answer, style)
    return Draft(problem=problem, source=DESIGNED, number=0, text=text, style=style)
