"""Reads problems from their text alone, as a person would: what tests judge problems by.

In: the question. Out: what it says (`Countdown` or `Story`), whether it can be solved or what its
value is, and the key that decides its split. Nothing here uses the code that wrote the question.
"""

import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

_COUNTS = {"two": 2, "three": 3, "两": 2, "三": 3}


@dataclass(frozen=True, slots=True, kw_only=True)
class Countdown:
    """Reach `target` with `num_used` of `numbers`."""

    numbers: tuple[int, ...]
    target: int
    num_used: int

    @property
    def key(self) -> str:
        """What makes two of these the same question: order and wording do not matter."""
        return f"countdown-{'_'.join(map(str, sorted(self.numbers)))}-{self.target}-{self.num_used}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """Somebody starts with so many things, then things happen; asides are left out."""

    start: int
    steps: tuple[tuple[str, int], ...]

    @property
    def key(self) -> str:
        """What makes two of these the same question: names and things do not matter."""
        return f"arithmetic-{self.start}" + "".join(f"{operator}{number}" for operator, number in self.steps)

    def values(self) -> list[Fraction]:
        """Return how many there are at first and after each step."""
        values = [Fraction(self.start)]
        for operator, number in self.steps:
            values.append(calculate(values[-1], operator, Fraction(number)))
        return values


def read(question: str) -> Countdown | Story:
    """Return what a question says; raise ValueError for a question of another kind."""
    count = re.search("two|three|[两三](?=个数)", question)
    return _read_countdown(question, _COUNTS[count.group()]) if count else _read_story(question)


def _read_countdown(question: str, num_used: int) -> Countdown:
    numbers = [int(digits) for digits in re.findall(r"\d+", question)]
    target = numbers.pop(0 if question.startswith("Make") else -1)
    return Countdown(numbers=tuple(numbers), target=target, num_used=num_used)


# The first pattern that is found in a sentence says what happens in it.
_EVENTS = (
    (r"years old|lives at|今年|住在", "aside"),
    (r"has (\d+)|starts with (\d+)|一开始有(\d+)|^\w+?有(\d+)个", "start"),
    (r"(\d+) times|原来的(\d+)倍", "*"),
    (r"(\d+) equal parts|平均分成(\d+)份", "/"),
    (r"buys (\d+)|finds (\d+)|又买了(\d+)", "+"),
    (r"loses (\d+)|sells (\d+)|丢了(\d+)", "-"),
    (r"gives \w+ (\d+)|给了\D+(\d+)", "give"),
)


def _read_story(question: str) -> Story:
    *sentences, asked = re.findall(r"[^.。?？]+[.。?？]", question)
    if not re.search("How many|多少", asked):
        raise ValueError(f"no question in {question!r}")
    owner, start, steps = "", 0, []
    for sentence in map(str.strip, sentences):
        event, number = _event(sentence)
        if event == "start":
            owner, start = re.split(r" |一开始有|有", sentence)[0], number
        elif event == "give":
            steps.append(("-" if sentence.startswith(owner) else "+", number))
        elif event != "aside":
            steps.append((event, number))
    return Story(start=start, steps=tuple(steps))


def _event(sentence: str) -> tuple[str, int]:
    for pattern, event in _EVENTS:
        if found := re.search(pattern, sentence):
            numbers = [group for group in found.groups() if group]
            return event, int(numbers[0]) if numbers else 0
    raise ValueError(f"cannot read {sentence!r}")


def calculate(left: Fraction, operator: str, right: Fraction) -> Fraction:
    """Return the exact result of one operation."""
    match operator:
        case "+":
            return left + right
        case "-":
            return left - right
        case "*":
            return left * right
        case "//":
            return Fraction(left // right)
        case "%":
            return left % right
    return left / right


def value_of(expression: str) -> tuple[Fraction, list[int]]:
    """Return the exact value of an expression without brackets, and the numbers in it."""
    parts = re.findall(r"\d+|[-+*/]", expression)
    if "".join(parts) != expression or not all(part.isdigit() for part in parts[::2]):
        raise ValueError(f"not an expression: {expression!r}")
    terms = [Fraction(parts[0])]
    for operator, digits in zip(parts[1::2], parts[2::2], strict=True):
        number = Fraction(digits)
        match operator:
            case "*" | "/":
                terms[-1] = calculate(terms[-1], operator, number)
            case _:
                terms.append(number if operator == "+" else -number)
    return sum(terms, Fraction(0)), [int(digits) for digits in parts[::2]]


@cache
def reachable(numbers: tuple[int | Fraction, ...]) -> frozenset[Fraction]:
    """Return every value of every expression (brackets included) that uses each number once."""
    if len(numbers) == 1:
        return frozenset([Fraction(numbers[0])])
    found = set[Fraction]()
    for size in range(1, len(numbers)):
        for chosen in itertools.combinations(range(len(numbers)), size):
            left = tuple(numbers[i] for i in chosen)
            right = tuple(numbers[i] for i in range(len(numbers)) if i not in chosen)
            found.update(_combined(reachable(left), reachable(right)))
    return frozenset(found)


def _combined(lefts: Iterable[Fraction], rights: Iterable[Fraction]) -> set[Fraction]:
    return {
        calculate(left, operator, right)
        for left, right in itertools.product(lefts, rights)
        for operator in "+-*/"
        if operator != "/" or right
    }


def is_solvable(problem: Countdown, num_used: int) -> bool:
    """Whether some choice of that many numbers reaches the target, by trying everything."""
    return any(
        problem.target in reachable(tuple(sorted(chosen)))
        for chosen in itertools.combinations(problem.numbers, num_used)
    )
