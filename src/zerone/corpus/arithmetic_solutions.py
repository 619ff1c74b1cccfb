"""How the corpus solves word problems: step by step, with or without checks, or by a guess."""

from random import Random

from zerone.corpus.countdown_solutions import Solution
from zerone.corpus.words import Words
from zerone.problems.arithmetic import apply
from zerone.types import Problem

_INVERSE = {"+": "-", "-": "+", "*": "/", "/": "*"}


def _slip(value: int, rng: Random) -> int:
    """Return a wrong value of the kind that careless arithmetic gives."""
    return max(1, value + rng.choice((-10, -2, -1, 1, 2, 10)))


def _check(before: int, operator: str, number: int, result: int, words: Words) -> str:
    """Undo the step; a result that cannot be undone exactly is shown without a value."""
    if operator == "*" and result % number:
        return f"{words.check} {result}/{number} {words.wrong}"
    undone = apply(result, (_INVERSE[operator], number))
    verdict = "" if undone == before else f" {words.wrong}"
    return f"{words.check} {result}{_INVERSE[operator]}{number}={undone}{verdict}"


def steps(problem: Problem, words: Words, rng: Random, *, checks: bool, slip: float) -> Solution:
    """Calculate step by step.

    Each result is wrong with probability `slip`. With `checks` every step is undone to test it,
    and a wrong one is found and done again; without, the error is carried on.
    """
    value = problem.spec["start"]
    lines = []
    for operator, number in problem.spec["steps"]:
        right = apply(value, (operator, number))
        shown = f"{value}{operator}{number}="
        result = _slip(right, rng) if rng.random() < slip else right
        if not checks:
            lines.append(f"{shown}{result}")
        else:
            if result != right:
                lines.append(f"{shown}{result} {_check(value, operator, number, result, words)}")
                shown = f"{words.wait} {shown}"
                result = right
            lines.append(f"{shown}{result} {_check(value, operator, number, result, words)}")
        value = max(1, result)
    return Solution(thought="\n".join(lines), answer=str(value))


def guessed_answer(problem: Problem, rng: Random) -> str:
    """Return what a hasty reader takes: mostly the last number of the story, or a chain cut short."""
    steps = problem.spec["steps"]
    if rng.random() < 0.6:
        return str(steps[-1][1])
    value = problem.spec["start"]
    for operator, number in steps[: rng.randrange(len(steps))]:
        value = apply(value, (operator, number))
    return str(value)


def guess(problem: Problem, words: Words, rng: Random) -> Solution:
    """Answer without calculating; right by luck one time in sixteen."""
    answer = problem.spec["answer"] if rng.random() < 1 / 16 else guessed_answer(problem, rng)
    return Solution(thought=words.hasty(rng).format(answer), answer=answer)
