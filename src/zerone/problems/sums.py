"""Plain sums: one to three additions and subtractions of small whole numbers.

Level L has L operations. No value on the way is negative, so the answer is a whole number >= 0.
The family is for pretrained models that read ordinary text (recipe smollm2_sums); it is not part
of the embedded mixture. EXAMPLES shows the template to models that its words do not reach.
"""

from random import Random

from zerone.types import Problem

FAMILY = "sums"
LEVELS: tuple[int, ...] = (1, 2, 3)

_LARGEST_START = {1: 30, 2: 9, 3: 9}
_LARGEST_OPERAND = {1: 9, 2: 6, 3: 6}

_TURNS: tuple[tuple[int, tuple[int, ...]], ...] = (
    (0, (2, 2, 3)),
    (12, (1, 2, 3, 3)),
    (24, (1, 2, 3)),
)
"""From which step on (the first is 0) training takes the levels in which turns.

Sums of one step are right most often at first and, shown from the start, teach to stop after one
equation whatever is asked. So the habit of working step by step comes first, at two and three
steps; single ones join once it is there, few at first.
"""

_PROMPTS = {
    "en": ("What is {e}?", "Calculate {e}.", "How much is {e}?"),
    "zh": ("{e}等于多少？", "计算{e}。"),
}
_WORDS = {
    "en": {"+": "plus", "-": "minus"},
    "zh": {"+": "加", "-": "减"},
}

Term = tuple[str, int]


def _draw_terms(rng: Random, level: int) -> list[Term]:
    """Draw the operations after the first number; a difference never goes below zero."""
    value = rng.randint(2, _LARGEST_START[level])
    terms: list[Term] = [("+", value)]
    for _ in range(level):
        operator = rng.choice("+-") if value >= 1 else "+"
        largest = _LARGEST_OPERAND[level] if operator == "+" else min(_LARGEST_OPERAND[level], value)
        number = rng.randint(1, largest)
        value += number if operator == "+" else -number
        terms.append((operator, number))
    return terms


def level_at(step: int, position: int) -> int:
    """Return the level of a training step's problem at a position, both counted from 0."""
    turns = next(turns for first, turns in reversed(_TURNS) if step >= first)
    return turns[(step + position) % len(turns)]


def canonical(terms: list[Term]) -> str:
    """Return one text for all orders of the same sum, so that 45+23 is no new problem after 23+45."""
    ordered = sorted(terms, key=lambda term: (term[0] == "-", -term[1]))
    return "".join(f"{operator}{number}" for operator, number in ordered).removeprefix("+")


def draw(rng: Random, level: int, language: str) -> Problem:
    """Draw one sum, written in symbols or in words."""
    terms = _draw_terms(rng, level)
    in_words = rng.random() < 0.5
    written = [str(terms[0][1])]
    for operator, number in terms[1:]:
        written += [_WORDS[language][operator] if in_words else operator, str(number)]
    answer = sum(number if operator == "+" else -number for operator, number in terms)
    return Problem(
        id=f"{FAMILY}-{canonical(terms)}",
        family=FAMILY,
        level=level,
        language=language,
        prompt=rng.choice(_PROMPTS[language]).format(e=" ".join(written)),
        verifier="number",
        spec={"answer": str(answer)},
    )
