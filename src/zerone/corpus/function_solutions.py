"""How the corpus writes small functions: part by part with a check on the examples, or by a guess.

The body grows by one operation at a time. The check calculates what the body gives for an example
that is shown; where it gives another value the body is written again.
"""

from random import Random

from zerone.corpus.countdown_solutions import Solution
from zerone.corpus.words import Words
from zerone.problems.programs import (
    Part,
    Program,
    Value,
    chain_code,
    code_of,
    from_json,
    near_misses,
    shown_value,
    value_of,
    working,
)
from zerone.types import Problem

_NUM_CHECKED = 2
"""Of the examples; they are shown with the most telling first."""


def _definition(body: str) -> str:
    return f"def f(x): return {body}"


def _draft(program: Program) -> str:
    """Return the body as it grows, one operation after the other."""
    drafts = [chain_code(program.parts[:end]) for end in range(1, len(program.parts) + 1)]
    if program.above is not None:
        drafts += [chain_code(program.otherwise), code_of(program)]
    return ", ".join(drafts)


def _check(program: Program, x: Value, wanted: Value, words: Words) -> tuple[str, bool]:
    """Calculate an example: the line, and whether it came out as shown."""
    is_right = value_of(program, x) == wanted
    steps = ", ".join(working(program, x))
    return f"{words.check} f({shown_value(x)}): {steps} {words.yes if is_right else words.no}", is_right


def _slipped(problem: Problem, program: Program, rng: Random) -> Program:
    """Return a near miss that one of the checked examples shows to be wrong, if there is any."""
    checked = problem.spec["shown"][:_NUM_CHECKED]
    wrong = [
        miss
        for miss in near_misses(program)
        if any(value_of(miss, x) != value_of(program, x) for x in checked)
    ]
    return rng.choice(wrong) if wrong else program


def derive(
    problem: Problem, words: Words, rng: Random, *, slip: float, checks: bool, give_up: float
) -> Solution:
    """Write the body part by part.

    Each part is wrong with probability `slip`. With `checks` two examples are calculated, and after
    one that fails the body is written again, or kept as it is with probability `give_up`; without,
    what was written stays.
    """
    right = from_json(problem.spec["program"])
    has_slip = rng.random() < 1 - (1 - slip) ** right.num_parts
    program = _slipped(problem, right, rng) if has_slip else right
    lines = [_draft(program)]
    position = 0
    while checks and position < _NUM_CHECKED:
        x = problem.spec["shown"][position]
        line, is_right = _check(program, x, value_of(right, x), words)
        lines.append(line)
        position += 1
        if is_right:
            continue
        if rng.random() < give_up:
            lines.append(f"{words.maybe} {code_of(program)}")
            break
        program, position = right, 0
        lines.append(f"{words.wait} {_draft(program)}")
    return Solution(thought="\n".join(lines), answer=_definition(code_of(program)))


_RIGHT_GUESSES = 0.15
_BROKEN = ("f(x)={}", "def f(x) return {}", "return {}", "{}")


def guessed_body(program: Program, rng: Random) -> str:
    """Return what a hasty reader writes: mostly the last operation alone, or a near miss."""
    if rng.random() < _RIGHT_GUESSES:
        return code_of(program)
    last = (program.otherwise or program.parts)[-1]
    if program.num_parts > 1 and rng.random() < 0.6:
        return chain_code((Part(last.name, last.n),))
    return code_of(rng.choice(near_misses(program)))


def guess(problem: Problem, words: Words, rng: Random) -> Solution:
    """Answer without a check; one in five is no function at all."""
    body = guessed_body(from_json(problem.spec["program"]), rng)
    answer = rng.choice(_BROKEN).format(body) if rng.random() < 0.2 else _definition(body)
    return Solution(thought=words.hasty(rng).format(body), answer=answer)
