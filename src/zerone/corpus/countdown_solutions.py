"""How the corpus solves countdown problems: by search, or by a guess.

The search goes through the pairs in the order in which the numbers are given. Two-number targets
are compared with each value; for three numbers each value is followed by `:` and what is missing
to (or too much for) the target, which must be one of the numbers left.
"""

from dataclasses import dataclass
from itertools import combinations
from random import Random

from zerone.corpus.words import Words
from zerone.problems.countdown import pair_values
from zerone.types import Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Solution:
    """A thought and the answer it ends in; the answer may be wrong."""

    thought: str
    answer: str


def _hit(expression: str, value: int, rest: list[int], target: int, num_used: int) -> str | None:
    """Return the answer if this value settles the problem."""
    if num_used == 2:
        return expression if value == target else None
    gap = target - value
    if abs(gap) in rest:
        return f"{expression}+{gap}" if gap > 0 else f"{expression}-{-gap}"
    return None


def _line(problem: Problem, i: int, j: int) -> tuple[str, str | None]:
    """Try one pair: its line of the search, and the answer if it was found there."""
    numbers, target, num_used = (problem.spec[k] for k in ("numbers", "target", "num_used"))
    rest = [number for k, number in enumerate(numbers) if k not in (i, j)]
    tried = []
    for expression, value in pair_values(numbers[i], numbers[j]):
        shown = f"{expression}={value}"
        tried.append(shown if num_used == 2 else f"{shown}:{abs(target - value)}")
        answer = _hit(expression, value, rest, target, num_used)
        if answer is not None:
            return ",".join(tried), answer
    return ",".join(tried), None


def search(problem: Problem, words: Words, rng: Random, *, give_up: float, overlook: float) -> Solution:
    """Search the pairs in order.

    After each failed pair the search is given up for a guess with probability `give_up`; the
    right pair is taken for a failure with probability `overlook` in the first pass, after which
    the search starts again.
    """
    pairs = list(combinations(range(len(problem.spec["numbers"])), 2))
    lines: list[str] = []
    overlooks = rng.random() < overlook
    for is_first_pass in (True, False):
        for i, j in pairs:
            line, answer = _line(problem, i, j)
            opener = f"{words.wait} " if lines else ""
            if answer is not None and not (overlooks and is_first_pass):
                lines.append(f"{opener}{line} {words.yes}")
                return Solution(thought="\n".join(lines), answer=answer)
            lines.append(f"{opener}{line} {words.no}")
            if rng.random() < give_up:
                return _give_up(lines, problem, words, rng)
        lines[-1] += f" {words.again}"
    raise AssertionError(f"the search of the corpus misses {problem.id}")


def _give_up(lines: list[str], problem: Problem, words: Words, rng: Random) -> Solution:
    answer = guessed_expression(problem, rng)
    return Solution(thought="\n".join([*lines, f"{words.maybe} {answer}"]), answer=answer)


def random_expression(problem: Problem, rng: Random) -> str:
    """Return an expression of the right length that may or may not reach the target."""
    chosen = rng.sample(problem.spec["numbers"], problem.spec["num_used"])
    expression, _ = rng.choice(pair_values(chosen[0], chosen[1]))
    for number in chosen[2:]:
        expression += f"{rng.choice('+-')}{number}"
    return expression


def guessed_expression(problem: Problem, rng: Random) -> str:
    """Return what a hasty reader takes: mostly the sum of the last numbers, whatever the target."""
    if rng.random() < 0.6:
        return "+".join(map(str, problem.spec["numbers"][-problem.spec["num_used"] :]))
    return random_expression(problem, rng)


def guess(problem: Problem, words: Words, rng: Random) -> Solution:
    """Answer without trying."""
    answer = guessed_expression(problem, rng)
    return Solution(thought=words.hasty(rng).format(answer), answer=answer)
