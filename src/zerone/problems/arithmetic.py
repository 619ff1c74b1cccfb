"""Multi-step arithmetic as short word problems, in English and Chinese.

Level L takes 2L-2 or 2L-1 steps (level 1: one); from level 2 on a sentence about something else is
mixed in, at level 5 two of them, whose numbers must not be used. All intermediate values are
whole numbers from 1 to 200.
"""

from random import Random

from zerone.types import Problem

FAMILY = "arithmetic"
LEVELS: tuple[int, ...] = (1, 2, 3, 4, 5)
LARGEST_VALUE = 200
_NUM_ASIDES = {1: 0, 2: 1, 3: 1, 4: 1, 5: 2}

Step = tuple[str, int]

_NAMES = {
    "en": ("Tom", "Ann", "Ben", "Eva", "Max", "Mia", "Sam", "Zoe"),
    "zh": ("小明", "小红", "小华", "小丽"),
}
_THINGS = {
    "en": ("apples", "coins", "books", "cards", "shells", "stamps"),
    "zh": ("苹果", "硬币", "卡片", "石头"),
}
_START = {
    "en": ("{a} has {n} {x}.", "{a} starts with {n} {x}."),
    "zh": ("{a}有{n}个{x}。", "{a}一开始有{n}个{x}。"),
}
_STEPS = {
    "en": {
        "+": ("{a} buys {n} more.", "{b} gives {a} {n}.", "{a} finds {n}."),
        "-": ("{a} loses {n}.", "{a} gives {b} {n}.", "{a} sells {n}."),
        "*": ("Now {a} gets {n} times as many.", "The pile grows to {n} times its size."),
        "/": (
            "{a} keeps only one part of {n} equal parts.",
            "{a} splits them into {n} equal parts and keeps one.",
        ),
    },
    "zh": {
        "+": ("{a}又买了{n}个。", "{b}给了{a}{n}个。"),
        "-": ("{a}丢了{n}个。", "{a}给了{b}{n}个。"),
        "*": ("然后变成原来的{n}倍。",),
        "/": ("{a}平均分成{n}份，留下一份。",),
    },
}
_ASIDES = {
    "en": ("{b} is {n} years old.", "{b} lives at number {n}."),
    "zh": ("{b}今年{n}岁。", "{b}住在{n}号。"),
}
_QUESTION = {
    "en": ("How many {x} does {a} have now?", "How many {x} are there in the end?"),
    "zh": ("{a}现在有多少个{x}？", "最后有多少个{x}？"),
}


def apply(value: int, step: Step) -> int:
    """Return the value after one step; division is exact by construction."""
    operator, number = step
    match operator:
        case "+":
            return value + number
        case "-":
            return value - number
        case "*":
            return value * number
        case _:
            return value // number


def _step(rng: Random, value: int) -> Step:
    """Draw a step that keeps the value between 1 and LARGEST_VALUE."""
    choices = ["+"] if value < LARGEST_VALUE - 5 else []
    choices += ["-"] if value > 5 else []
    choices += ["*"] if value <= LARGEST_VALUE // 4 else []
    divisors = [d for d in range(2, 6) if value % d == 0 and value > d]
    choices += ["/"] if divisors else []
    operator = rng.choice(choices)
    match operator:
        case "+":
            return "+", rng.randint(2, min(50, LARGEST_VALUE - value))
        case "-":
            return "-", rng.randint(2, min(50, value - 1))
        case "*":
            return "*", rng.randint(2, min(5, LARGEST_VALUE // value))
        case _:
            return "/", rng.choice(divisors)


def _chain(rng: Random, level: int) -> tuple[int, list[Step]]:
    start = rng.randint(2, 40)
    value, steps = start, list[Step]()
    for _ in range(max(1, 2 * level - rng.randint(1, 2))):
        steps.append(_step(rng, value))
        value = apply(value, steps[-1])
    return start, steps


def draw(rng: Random, level: int, language: str) -> Problem:
    """Draw one word problem; `spec` keeps the chain so that the corpus can show its solution."""
    start, steps = _chain(rng, level)
    name, other = rng.sample(_NAMES[language], 2)
    words = {"a": name, "b": other, "x": rng.choice(_THINGS[language])}
    sentences = [rng.choice(_START[language]).format(n=start, **words)]
    for operator, number in steps:
        sentences.append(rng.choice(_STEPS[language][operator]).format(n=number, **words))
    for _ in range(_NUM_ASIDES[level]):
        aside = rng.choice(_ASIDES[language]).format(n=rng.randint(2, 40), **words)
        sentences.insert(rng.randint(1, len(sentences)), aside)
    sentences.append(rng.choice(_QUESTION[language]).format(**words))
    answer = start
    for step in steps:
        answer = apply(answer, step)
    chain = "".join(f"{operator}{number}" for operator, number in steps)
    return Problem(
        id=f"arithmetic-{start}{chain}",
        family=FAMILY,
        level=level,
        language=language,
        prompt=(" " if language == "en" else "").join(sentences),
        verifier="number",
        spec={"answer": str(answer), "start": start, "steps": [list(step) for step in steps]},
    )
