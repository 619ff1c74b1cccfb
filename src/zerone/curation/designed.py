"""Complex cases whose careful solution is known: the cold start's third source.

In: a count and a seed. Out: problems of the highest levels, and a draft of each, made by the
procedure that wrote the corpus.
"""

from collections.abc import Sequence

from zerone.corpus.documents import SOLUTIONS
from zerone.corpus.words import WORDS
from zerone.curation.drafts import GENERAL, Draft, domain_of
from zerone.problems.mixture import CHINESE_SHARE, FAMILIES, draw_from_split
from zerone.prompt import Style, write_completion
from zerone.seeding import rng_from
from zerone.types import Problem

DESIGNED = "designed"


def designed_problems(count: int, seed: int) -> list[Problem]:
    """Return complex problems whose careful solution is known: the two highest levels of each family.

    The levels of general requests are kinds, so all of them are taken.
    """
    families = [family for name, family in FAMILIES.items() if name in SOLUTIONS]
    found: dict[str, Problem] = {}
    for i in range(count):
        rng = rng_from(seed, "designed problem", i)
        family = families[i % len(families)]
        language = "zh" if rng.random() < CHINESE_SHARE else "en"
        problem = draw_from_split(rng, family, rng.choice(family.LEVELS[-2:]), language, "train")
        if domain_of(problem) == GENERAL:
            problem = draw_from_split(rng, family, rng.choice(family.LEVELS), language, "train")
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
                text=_worked(problem, seed),
                style=Style.TAGS,
            )
        ]
        for problem in problems
    ]


def _worked(problem: Problem, seed: int) -> str:
    rng = rng_from(seed, DESIGNED, problem.id)
    solution = SOLUTIONS[problem.family].careful(problem, WORDS[problem.language], rng)
    return write_completion(solution.thought, solution.answer)
