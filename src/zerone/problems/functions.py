"""Small Python functions: a description of one line and three examples, graded in the sandbox.

Level 1 is one operation on a number; level 2 two of them, or one or two on a list or a text; level 3
three, or a condition. The answer is one line, `def f(x): return ...`. The tests that grade it are
not those that are shown, and together they tell the function from everything that one slip makes of
it. What makes two problems the same question is what their functions return.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from random import Random

from zerone.problems.programs import (
    Kind,
    Part,
    Parts,
    Program,
    Value,
    fits,
    near_misses,
    shown_value,
    to_json,
    value_of,
    values_of,
)
from zerone.seeding import rng_from
from zerone.types import Problem

FAMILY = "functions"
LEVELS: tuple[int, ...] = (1, 2, 3)
ENTRY = "f"
NUM_SHOWN = 3
_NUM_HIDDEN = 6
_WALL_S = 2.0
_LARGEST_SHOWN = 200

_PROMPTS = {
    "en": ("Write f(x): {steps}. {examples}", "f(x) must {steps}. {examples}"),
    "zh": ("写f(x)：{steps}。{examples}", "f(x)要{steps}。{examples}"),
}
_THEN = {"en": ", then ", "zh": "，然后"}
_IF = {"en": "if x is above {n}, {a}, else {b}", "zh": "如果x大于{n}就{a}，否则{b}"}
_PHRASES: dict[str, dict[str, tuple[str, ...]]] = {
    "en": {
        "add": ("add {n}",),
        "subtract": ("subtract {n}", "take away {n}"),
        "take_from": ("subtract it from {n}",),
        "multiply": ("multiply by {n}",),
        "remainder": ("take the remainder by {n}",),
        "divide": ("divide by {n} rounded down",),
        "sum": ("sum the list", "add up the list"),
        "largest": ("take the largest",),
        "smallest": ("take the smallest",),
        "count": ("count the items",),
        "first": ("take the first",),
        "last": ("take the last",),
        "reverse": ("reverse the list",),
        "sort": ("sort the list",),
        "drop_first": ("drop the first",),
        "add_each": ("add {n} to each",),
        "multiply_each": ("multiply each by {n}",),
        "keep_above": ("keep those above {n}",),
        "keep_even": ("keep the even ones",),
        "flip": ("reverse the text",),
        "upper": ("make it upper case",),
        "repeat": ("repeat it {n} times",),
        "head": ("keep the first {n} letters",),
        "tail": ("drop the first {n} letters",),
        "behind": ("put {n} at the end",),
        "front": ("put {n} in front",),
        "length": ("count the letters",),
    },
    "zh": {
        "add": ("加{n}",),
        "subtract": ("减{n}",),
        "take_from": ("用{n}减去它",),
        "multiply": ("乘以{n}",),
        "remainder": ("取除以{n}的余数",),
        "divide": ("除以{n}取整",),
        "sum": ("求和",),
        "largest": ("取最大",),
        "smallest": ("取最小",),
        "count": ("数个数",),
        "first": ("取第一个",),
        "last": ("取最后一个",),
        "reverse": ("倒过来",),
        "sort": ("排序",),
        "drop_first": ("去掉第一个",),
        "add_each": ("每个加{n}",),
        "multiply_each": ("每个乘以{n}",),
        "keep_above": ("留下大于{n}的",),
        "keep_even": ("留下偶数",),
        "flip": ("倒过来",),
        "upper": ("变大写",),
        "repeat": ("重复{n}次",),
        "head": ("留下前{n}个字母",),
        "tail": ("去掉前{n}个字母",),
        "behind": ("后面加{n}",),
        "front": ("前面加{n}",),
        "length": ("数字母",),
    },
}

# What is drawn ------------------------------------------------------------------------------------

_SUMS = ("add", "subtract", "take_from")
_PRODUCTS = ("multiply", "remainder", "divide")
_TO_NUMBER = ("sum", "largest", "smallest", "count", "first", "last")
_TO_LIST = ("reverse", "sort", "drop_first", "add_each", "multiply_each", "keep_above", "keep_even")
_ON_TEXT = ("flip", "upper", "repeat", "head", "tail", "behind", "front")
_ENDS = ("ab", "ly", "on", "er", "no", "in", "st", "ka")
_RANGES = {
    "add": (1, 20),
    "subtract": (1, 20),
    "take_from": (10, 50),
    "multiply": (2, 9),
    "remainder": (2, 9),
    "divide": (2, 9),
    "add_each": (1, 9),
    "multiply_each": (2, 5),
    "keep_above": (1, 6),
    "repeat": (2, 3),
    "head": (2, 3),
    "tail": (2, 3),
}
_LEVEL_1_RANGES = {
    "add": (1, 99),
    "subtract": (1, 99),
    "take_from": (5, 99),
    "multiply": (2, 30),
    "remainder": (2, 30),
    "divide": (2, 20),
}


def _part(rng: Random, name: str, level: int) -> Part:
    if name in ("behind", "front"):
        return Part(name, rng.choice(_ENDS))
    ranges = _LEVEL_1_RANGES if level == 1 else _RANGES
    return Part(name, rng.randint(*ranges[name]) if name in ranges else None)


def _numeric(rng: Random, num_parts: int, level: int) -> Parts:
    """Draw sums and products in turn; two sums in a row were one in disguise."""
    groups = [_SUMS, _PRODUCTS] if rng.random() < 0.5 else [_PRODUCTS, _SUMS]
    return tuple(_part(rng, rng.choice(groups[i % 2]), level) for i in range(num_parts))


def _chain(rng: Random, kind: Kind, level: int) -> Parts:
    """Draw a chain of the length that a level asks for."""
    if kind is Kind.NUMBER:
        return _numeric(rng, level, level)
    if kind is Kind.TEXT:
        names = rng.sample(_ON_TEXT, level - rng.randint(0, 1))
        return tuple(_part(rng, name, level) for name in names)
    num_on_lists = rng.randint(level - 2, level - 1)
    on_lists = tuple(_part(rng, name, level) for name in rng.sample(_TO_LIST, num_on_lists))
    rest = level - num_on_lists - 1
    return (*on_lists, Part(rng.choice(_TO_NUMBER)), *_numeric(rng, rest, level))


def _program(rng: Random, level: int) -> Program:
    if level == 1:
        return Program(kind=Kind.NUMBER, parts=_chain(rng, Kind.NUMBER, 1))
    if level == 3 and rng.random() < 0.3:
        then, otherwise = _numeric(rng, 1, level), _numeric(rng, 1, level)
        return Program(kind=Kind.NUMBER, parts=then, above=rng.randint(2, 12), otherwise=otherwise)
    kind = rng.choices([Kind.NUMBER, Kind.LIST, Kind.TEXT], [0.45, 0.4, 0.15])[0]
    return Program(kind=kind, parts=_chain(rng, kind, level))


# Inputs -------------------------------------------------------------------------------------------

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_NUM_CANDIDATES = 14
_NUM_INPUTS_FOR_IDLE = 24
_SMALL = 12
_WANT_MORE = frozenset(("subtract", "remainder", "divide"))
"""What does too little to small numbers to be seen."""
_NUM_PROBES = 40


def _input(rng: Random, kind: Kind, largest: int) -> Value:
    match kind:
        case Kind.NUMBER:
            return rng.randint(0, largest)
        case Kind.LIST:
            return [rng.randint(0, 9) for _ in range(rng.randint(2, 4))]
        case _:
            return "".join(rng.choice(_LETTERS) for _ in range(rng.randint(3, 4)))


def _probes(kind: Kind) -> tuple[Value, ...]:
    """Return the inputs on which two programs that differ are told apart, whatever the problem."""
    if kind is Kind.NUMBER:
        return tuple(range(-12, 150))
    rng = rng_from("probes", kind.value)
    edges = ([7], [4], [0, 0], [9, 1]) if kind is Kind.LIST else ("a", "no", "aba", "level", "Zx")
    return (*edges, *(_input(rng, kind, 0) for _ in range(_NUM_PROBES)))


PROBES = {kind: _probes(kind) for kind in Kind}
"""By kind of input. Changing them changes every key, and so which side of the split a function is on."""


def canonical(program: Program) -> str:
    """Return one key for all programs that return the same, however they are described."""
    return key_of(program.kind, [value_of(program, x) for x in PROBES[program.kind]])


def key_of(kind: Kind, values: Sequence[Value]) -> str:
    """Return the key of a function that returns these values for the probes."""
    digest = hashlib.blake2b(json.dumps(values).encode(), digest_size=8).hexdigest()
    return f"{FAMILY}-{kind.value}-{digest}"


def _is_easy(program: Program, x: Value) -> bool:
    """Whether an example can be followed by one who calculates with small whole numbers."""
    values = values_of(program, x)
    numbers = [n for value in values for n in (value if isinstance(value, list) else [value])]
    return all(not isinstance(n, int) or 0 <= n <= _LARGEST_SHOWN for n in numbers) and values[-1] not in (
        [],
        "",
    )


def _telling(program: Program, inputs: Sequence[Value], rivals: Sequence[Program]) -> list[int]:
    """Return positions of inputs, the most telling first: each adds as many new rivals as any could."""
    right = [value_of(program, x) for x in inputs]
    alive = [[value_of(rival, x) for x in inputs] for rival in rivals]
    order: list[int] = []
    while len(order) < len(inputs):
        left = [i for i in range(len(inputs)) if i not in order]
        best = max(left, key=lambda i: sum(values[i] != right[i] for values in alive))
        killed = sum(values[best] != right[best] for values in alive)
        if not killed:
            return order
        alive = [values for values in alive if values[best] == right[best]]
        order.append(best)
    return order


def _edges(program: Program) -> tuple[int, ...]:
    """Return the inputs that alone tell a condition from its neighbours; they are kept for the tests."""
    return () if program.above is None else (program.above, program.above + 1)


def _examples(rng: Random, program: Program, rivals: Sequence[Program]) -> list[Value] | None:
    """Draw three inputs to show, the most telling first; None if the program has too few easy ones."""
    found: list[Value] = []
    wanting = [part.n for part in program.parts if part.name in _WANT_MORE]
    largest = max([_SMALL, *(_SMALL + 2 * n for n in wanting)])
    for _ in range(4 * _NUM_CANDIDATES):
        x = _input(rng, program.kind, largest)
        if x not in found and x not in _edges(program) and _is_easy(program, x):
            found.append(x)
        if len(found) == _NUM_CANDIDATES:
            break
    if len(found) < NUM_SHOWN:
        return None
    telling = [found[i] for i in _telling(program, found, rivals)][:NUM_SHOWN]
    return telling + [x for x in found if x not in telling][: NUM_SHOWN - len(telling)]


def _hidden(rng: Random, program: Program, rivals: Sequence[Program], shown: list[Value]) -> list[Value]:
    """Draw the inputs of the tests: what tells all rivals apart that any probe does, and some more."""
    probes = [x for x in PROBES[program.kind] if x not in (*shown, *_edges(program))]
    probes = [*_edges(program), *rng.sample(probes, min(len(probes), _NUM_PROBES))]
    order = _telling(program, probes, rivals)
    rest = [i for i in range(len(probes)) if i not in order]
    return [probes[i] for i in [*order, *rest][: max(_NUM_HIDDEN, len(order))]]


# Problems -----------------------------------------------------------------------------------------


def _steps(rng: Random, parts: Parts, language: str) -> str:
    phrases = _PHRASES[language]
    return _THEN[language].join(rng.choice(phrases[part.name]).format(n=part.n) for part in parts)


def describe(rng: Random, program: Program, language: str) -> str:
    """Return what the function does, in words."""
    steps = _steps(rng, program.parts, language)
    if program.above is None:
        return steps
    return _IF[language].format(n=program.above, a=steps, b=_steps(rng, program.otherwise, language))


def _has_idle_part(program: Program) -> bool:
    """Whether a shorter chain does the same, as where a list is sorted before it is counted."""
    inputs = PROBES[program.kind][:_NUM_INPUTS_FOR_IDLE]
    values = [value_of(program, x) for x in inputs]
    shorter = (
        replace(program, parts=program.parts[:i] + program.parts[i + 1 :]) for i in range(len(program.parts))
    )
    return any(
        [value_of(less, x) for x in inputs] == values
        for less in shorter
        if less.parts and fits(less.kind, less.parts)
    )


def _draw_program(rng: Random, level: int) -> Program:
    """Draw a program in which every part counts."""
    while True:
        program = _program(rng, level)
        if fits(program.kind, program.parts) and not _has_idle_part(program):
            return program


def problem_of(rng: Random, program: Program, level: int, language: str) -> Problem | None:
    """Return a problem that asks for a program; None where three easy examples do not show it.

    `spec` keeps the program, so that the corpus can show how it is written.
    """
    rivals = near_misses(program)
    shown = _examples(rng, program, rivals)
    if shown is None or len({str(value_of(program, x)) for x in shown}) == 1:
        return None
    hidden = _hidden(rng, program, rivals, shown)
    return Problem(
        id=canonical(program),
        family=FAMILY,
        level=level,
        language=language,
        prompt=rng.choice(_PROMPTS[language]).format(
            steps=describe(rng, program, language),
            examples=", ".join(f"f({shown_value(x)})={shown_value(value_of(program, x))}" for x in shown),
        ),
        verifier="code",
        spec={
            "mode": "call",
            "entry": ENTRY,
            "tests": [{"args": [x], "expected": value_of(program, x)} for x in hidden],
            "wall_s": _WALL_S,
            "program": to_json(program),
            "shown": shown,
        },
    )


def draw(rng: Random, level: int, language: str) -> Problem:
    """Draw one problem; its key is that of the function."""
    while True:
        problem = problem_of(rng, _draw_program(rng, level), level, language)
        if problem is not None:
            return problem
