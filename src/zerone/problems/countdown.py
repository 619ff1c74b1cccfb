"""Countdown: reach a target from some of the given numbers with + - * /.

Levels 1 and 2 are solved by two of 3 or 5 numbers; levels 3 to 5 need three of 3, 4 or 5. Each
number may be used at most once (rewards/accuracy.py judges by that rule, so any other correct
expression counts as well).
"""

from random import Random

from zerone.types import Problem

FAMILY = "countdown"
LEVELS: tuple[int, ...] = (1, 2, 3, 4, 5)
NUM_GIVEN = {1: 3, 2: 5, 3: 3, 4: 4, 5: 5}
NUM_USED = {1: 2, 2: 2, 3: 3, 4: 3, 5: 3}
_LARGEST_TARGET = 150

_PROMPTS = {
    "en": (
        "Use {k} of the numbers {n} to make {t}.",
        "Make {t} out of {k} of these numbers: {n}.",
        "Which {k} of the numbers {n} give {t}?",
    ),
    "zh": (
        "用{n}中的{k}个数得到{t}。",
        "从{n}里选{k}个数，算出{t}。",
    ),
}
_COUNT = {"en": {2: "two", 3: "three"}, "zh": {2: "两", 3: "三"}}


def pair_values(a: int, b: int) -> list[tuple[str, int]]:
    """Return the expressions of two numbers in the order in which a search tries them.

    Differences are taken from the larger number, products are skipped once they pass what any
    target can use, and quotients are left out (no problem needs them).
    """
    high, low = max(a, b), min(a, b)
    values = [(f"{a}+{b}", a + b), (f"{high}-{low}", high - low)]
    if a * b <= _LARGEST_TARGET:
        values.append((f"{a}*{b}", a * b))
    return values


def _target(rng: Random, chosen: list[int]) -> int:
    """Combine the chosen numbers by random operations that the search of the corpus covers."""
    _, value = rng.choice(pair_values(chosen[0], chosen[1]))
    for number in chosen[2:]:
        value = value - number if value > number and rng.random() < 0.5 else value + number
    return value


def is_pair_enough(numbers: list[int], target: int) -> bool:
    """Whether two of the numbers already reach the target."""
    return any(
        value == target
        for i, a in enumerate(numbers)
        for b in numbers[i + 1 :]
        for _, value in pair_values(a, b)
    )


def draw(rng: Random, level: int, language: str) -> Problem:
    """Draw one problem; levels 3 to 5 never end at a sum, difference or product of two."""
    largest = 15 if NUM_USED[level] == 2 else 12
    while True:
        numbers = rng.sample(range(2, largest + 1), NUM_GIVEN[level])
        target = _target(rng, rng.sample(numbers, NUM_USED[level]))
        too_easy = NUM_USED[level] > 2 and is_pair_enough(numbers, target)
        if 1 <= target <= _LARGEST_TARGET and target not in numbers and not too_easy:
            break
    return Problem(
        id=f"countdown-{'_'.join(map(str, sorted(numbers)))}-{target}-{NUM_USED[level]}",
        family=FAMILY,
        level=level,
        language=language,
        prompt=rng.choice(_PROMPTS[language]).format(
            k=_COUNT[language][NUM_USED[level]],
            n=", ".join(map(str, numbers)),
            t=target,
        ),
        verifier="countdown",
        spec={"numbers": numbers, "target": target, "num_used": NUM_USED[level]},
    )
