"""How the corpus answers choice questions: by calculating and comparing with each choice, or by a guess.

Where a value is asked for, it is calculated and compared with the choices one by one. Where the
choices are calculations, each is calculated and compared: with the value that is wanted, or with the
best so far.
"""

from random import Random

from zerone.corpus.countdown_solutions import Solution
from zerone.corpus.words import Words
from zerone.data.choices import LETTERS
from zerone.types import Problem


def _shown(steps: list[str], slip: float, forbidden: set[int], rng: Random) -> tuple[str, int]:
    """Return the calculation as it is written, and its value; a slip never hits a forbidden value."""
    *before, last = steps
    text, _, result = last.rpartition("=")
    value = int(result)
    if rng.random() < slip:
        slips = [value + step for step in (-10, -2, -1, 1, 2, 10)]
        value = rng.choice([v for v in slips if v >= 0 and v not in forbidden] or [value])
    return ", ".join([*before, f"{text}={value}"]), value


def _pass_value(problem: Problem, words: Words, rng: Random, slip: float) -> tuple[list[str], str | None]:
    """Calculate the value, then go through the choices until one is equal."""
    choices = problem.spec["choices"]
    shown, value = _shown(problem.spec["steps"][0], slip, set(map(int, choices)), rng)
    lines = [shown]
    for letter, choice in zip(LETTERS, choices, strict=False):
        is_equal = int(choice) == value
        lines.append(f"{letter} {choice} {words.yes if is_equal else words.no}")
        if is_equal:
            return lines, letter
    return lines, None


def _pass_match(problem: Problem, words: Words, rng: Random, slip: float) -> tuple[list[str], str | None]:
    """Calculate one choice after the other until one has the value that is wanted.

    Only the right one may slip: elsewhere a slip would change nothing and teach a wrong sum.
    """
    lines, target = [], problem.spec["target"]
    for letter, steps in zip(LETTERS, problem.spec["steps"], strict=False):
        is_right_one = letter == problem.spec["answer"]
        shown, value = _shown(steps, slip if is_right_one else 0.0, {target}, rng)
        lines.append(f"{letter} {shown} {words.yes if value == target else words.no}")
        if value == target:
            return lines, letter
    return lines, None


def _pass_extreme(problem: Problem, words: Words, rng: Random, slip: float) -> tuple[list[str], str | None]:
    """Calculate every choice and compare it with the best so far; the last "yes" is the answer.

    The best is written again beside each value: a small model compares what stands together.
    """
    sign, sense = (1, ">") if problem.spec["kind"] == "largest" else (-1, "<")
    lines: list[str] = []
    best, answer = None, None
    for letter, steps in zip(LETTERS, problem.spec["steps"], strict=False):
        shown, value = _shown(steps, slip, set(), rng)
        is_best = best is None or sign * value > sign * best
        compared = "" if best is None else f" {sense} {best}"
        lines.append(f"{letter} {shown}{compared} {words.yes if is_best else words.no}")
        if is_best:
            best, answer = value, letter
    return lines, answer


_PASSES = {"value": _pass_value, "match": _pass_match, "largest": _pass_extreme, "smallest": _pass_extreme}


def compare(problem: Problem, words: Words, rng: Random, *, slip: float, give_up: float) -> Solution:
    """Calculate and compare.

    A calculation is wrong with probability `slip`. Where no choice fits, one is guessed with
    probability `give_up`; else all is calculated again, rightly.
    """
    one_pass = _PASSES[problem.spec["kind"]]
    lines, answer = one_pass(problem, words, rng, slip)
    if answer is None and rng.random() < give_up:
        answer = guessed_letter(problem, rng)
        lines.append(f"{words.maybe} {answer}")
    elif answer is None:
        lines[-1] += f" {words.again}"
        again, answer = one_pass(problem, words, rng, 0.0)
        again[0] = f"{words.wait} {again[0]}"
        lines += again
    if answer is None:
        raise AssertionError(f"the corpus finds no answer to {problem.id}")
    return Solution(thought="\n".join(lines), answer=answer)


def careful(problem: Problem, words: Words, rng: Random) -> Solution:
    """Answer rightly; a slip is made only where it is seen, since then nothing fits."""
    is_seen = problem.spec["kind"] in ("value", "match")
    return compare(problem, words, rng, slip=0.06 if is_seen else 0.0, give_up=0.0)


def guessed_letter(problem: Problem, rng: Random) -> str:
    """Return a letter without calculating: mostly the last."""
    letters = LETTERS[: len(problem.spec["choices"])]
    return letters[-1] if rng.random() < 0.5 else rng.choice(letters)


def guess(problem: Problem, words: Words, rng: Random) -> Solution:
    """Answer without calculating; one in five names two letters, which is no answer."""
    answer = guessed_letter(problem, rng)
    if rng.random() < 0.2:
        answer = f"{answer}, {rng.choice([letter for letter in 'ABCD' if letter != answer])}"
    return Solution(thought=words.hasty(rng).format(answer), answer=answer)
