"""Choice questions about short calculations: which of four is equal, the largest, the smallest?

Level 1 asks for the value of one operation, level 2 for that of two, or for the one of four
calculations that has a given value, level 3 for the largest or smallest of four. What is wrong is
near: a digit off, two digits swapped, the other operation. The right letter is uniform.
"""

from dataclasses import dataclass
from random import Random

from zerone.data.choices import LETTERS
from zerone.types import Problem

FAMILY = "choice"
LEVELS: tuple[int, ...] = (1, 2, 3)
NUM_CHOICES = 4

_VALUE = {
    "en": ("What is {e}?", "Which is equal to {e}?"),
    "zh": ("{e}等于哪个？", "{e}是多少？"),
}
_MATCH = {"en": ("Which is equal to {e}?", "Which one gives {e}?"), "zh": ("哪个等于{e}？",)}
_EXTREME = {
    "largest": {"en": ("Which is largest?",), "zh": ("哪个最大？",)},
    "smallest": {"en": ("Which is smallest?",), "zh": ("哪个最小？",)},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Calculation:
    """A calculation, its steps (`3*4=12`), its value, what haste makes of it, and its key."""

    text: str
    steps: tuple[str, ...]
    value: int
    misses: tuple[int, ...]
    key: str


def _single(rng: Random) -> Calculation:
    """Draw a sum, a difference or a product."""
    operator = rng.choice("+-*")
    if operator == "*":
        a, b = rng.randint(2, 19), rng.randint(2, 9)
        value, other = a * b, a * (b - 1)
    else:
        a, b = rng.randint(2, 99), rng.randint(2, 99)
        a, b = (max(a, b) + 1, min(a, b)) if operator == "-" else (a, b)
        value, other = (a + b, abs(a - b)) if operator == "+" else (a - b, a + b)
    text = f"{a}{operator}{b}"
    low, high = (b, a) if operator == "-" else (min(a, b), max(a, b))
    return Calculation(
        text=text,
        steps=(f"{text}={value}",),
        value=value,
        misses=(other, *_near(value)),
        key=f"{high}{operator}{low}",
    )


def _double(rng: Random) -> Calculation:
    """Draw a product with a sum or difference; the trap is to go from left to right."""
    a, b, c = rng.randint(2, 12), rng.randint(2, 9), rng.randint(2, 30)
    product = a * b
    form = rng.choice(("after", "before", "less")) if product > c else rng.choice(("after", "before"))
    if form == "less":
        text, last, trap = f"{a}*{b}-{c}", f"{product}-{c}", a * abs(b - c)
    elif form == "after":
        text, last, trap = f"{a}*{b}+{c}", f"{product}+{c}", a * (b + c)
    else:
        text, last, trap = f"{c}+{a}*{b}", f"{c}+{product}", (c + a) * b
    value = product - c if form == "less" else product + c
    return Calculation(
        text=text,
        steps=(f"{a}*{b}={product}", f"{last}={value}"),
        value=value,
        misses=(trap, *_near(value)),
        key=f"{max(a, b)}*{min(a, b)}{'-' if form == 'less' else '+'}{c}",
    )


def _near(value: int) -> tuple[int, ...]:
    swapped = int(str(value)[::-1])
    return (value - 10, value - 2, value - 1, value + 1, value + 2, value + 10, swapped)


def near_values(rng: Random, calculation: Calculation) -> list[int]:
    """Return the values that one could come to in haste, in random order."""
    misses = sorted({miss for miss in calculation.misses if miss >= 0 and miss != calculation.value})
    return rng.sample(misses, len(misses))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Question:
    """A question whose first choice is the right one; `steps` belong to the question or to each choice."""

    text: str
    kind: str
    key: str
    target: int
    choices: tuple[str, ...]
    steps: tuple[tuple[str, ...], ...]


def _ask_value(rng: Random, language: str, calculation: Calculation) -> _Question:
    values = [calculation.value, *near_values(rng, calculation)[: NUM_CHOICES - 1]]
    return _Question(
        text=rng.choice(_VALUE[language]).format(e=calculation.text),
        kind="value",
        key=calculation.key,
        target=calculation.value,
        choices=tuple(map(str, values)),
        steps=(calculation.steps,),
    )


def _four(rng: Random) -> list[Calculation]:
    """Draw four calculations whose values differ but lie close together."""
    while True:
        middle = _single(rng)
        found = [middle]
        for _ in range(200):
            other = _single(rng)
            if abs(other.value - middle.value) <= 12 and other.value not in {c.value for c in found}:
                found.append(other)
            if len(found) == NUM_CHOICES:
                break
        if len(found) == NUM_CHOICES:
            return found


def _ask_match(rng: Random, language: str) -> _Question:
    found = _four(rng)
    return _Question(
        text=rng.choice(_MATCH[language]).format(e=found[0].value),
        kind="match",
        key=found[0].key,
        target=found[0].value,
        choices=tuple(calculation.text for calculation in found),
        steps=tuple(calculation.steps for calculation in found),
    )


def _ask_extreme(rng: Random, language: str) -> _Question:
    kind = rng.choice(("largest", "smallest"))
    found = sorted(_four(rng), key=lambda c: c.value, reverse=kind == "largest")
    return _Question(
        text=rng.choice(_EXTREME[kind][language]),
        kind=kind,
        key=f"{kind}-{'_'.join(sorted(calculation.key for calculation in found))}",
        target=found[0].value,
        choices=tuple(calculation.text for calculation in found),
        steps=tuple(calculation.steps for calculation in found),
    )


def _question(rng: Random, level: int, language: str) -> _Question:
    if level == 1:
        return _ask_value(rng, language, _single(rng))
    if level == 3:
        return _ask_extreme(rng, language)
    return _ask_value(rng, language, _double(rng)) if rng.random() < 0.5 else _ask_match(rng, language)


def draw(rng: Random, level: int, language: str) -> Problem:
    """Draw one question; `spec` keeps the calculations so that the corpus can show them."""
    question = _question(rng, level, language)
    order = rng.sample(range(NUM_CHOICES), NUM_CHOICES)
    choices = [question.choices[i] for i in order]
    listed = " ".join(f"{letter}. {choice}" for letter, choice in zip(LETTERS, choices, strict=False))
    by_choice = len(question.steps) > 1
    return Problem(
        id=f"{FAMILY}-{question.key}",
        family=FAMILY,
        level=level,
        language=language,
        prompt=f"{question.text} {listed}",
        verifier="choice",
        spec={
            "answer": LETTERS[order.index(0)],
            "choices": choices,
            "kind": question.kind,
            "target": question.target,
            "steps": [list(question.steps[i]) for i in (order if by_choice else [0])],
        },
    )
