"""Small Python functions as data: their code, their values, the working on the way, near misses.

In: a `Program`, a chain of operations on a number, a list of numbers or a text, or two chains and a
condition. Out: what the function's body looks like and what it returns, without running any code;
and the programs that one slip of a writer makes of it, which tests and examples must tell apart.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

Value = Any
"""A JSON value that a program takes or returns: a whole number, a list of them, or a text."""


class Kind(StrEnum):
    """What a value is."""

    NUMBER = "number"
    LIST = "list"
    TEXT = "text"


_SUM, _PRODUCT, _ATOM = range(3)
"""How tightly code binds: what stands in a product must be a product, or gets brackets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What an operation takes and gives, how it is written, and what it does.

    `code` and `working` have places for the value (x) and the argument (n); `needs` says how tightly
    the code at x must bind, `binds` how tightly the whole does. `sibling` is what it is mistaken for.
    """

    takes: Kind
    gives: Kind
    code: str
    needs: int
    binds: int
    apply: Callable[[Value, Any], Value]
    working: str
    sibling: str


def _on_numbers(code: str, binds: int, apply: Callable[[int, int], int], sibling: str) -> Operation:
    needs = _PRODUCT if binds == _PRODUCT or code.endswith("{x}") else _SUM
    return Operation(
        takes=Kind.NUMBER,
        gives=Kind.NUMBER,
        code=code,
        needs=needs,
        binds=binds,
        apply=apply,
        working=code,
        sibling=sibling,
    )


def _on(
    takes: Kind,
    gives: Kind,
    code: str,
    apply: Callable[[Value, Any], Value],
    sibling: str,
    working: str | None = None,
    binds: int = _ATOM,
) -> Operation:
    """Return an operation on a list or a text; its working names it and shows only the result."""
    needs = _SUM if "({x})" in code or " in {x}" in code else binds
    shown = code.replace("({x})", "").replace("{x}", "") if working is None else working
    return Operation(
        takes=takes,
        gives=gives,
        code=code,
        needs=needs,
        binds=binds,
        apply=apply,
        working=shown,
        sibling=sibling,
    )


_N, _L, _T = Kind.NUMBER, Kind.LIST, Kind.TEXT

OPERATIONS: Mapping[str, Operation] = {
    "add": _on_numbers("{x}+{n}", _SUM, lambda x, n: x + n, "subtract"),
    "subtract": _on_numbers("{x}-{n}", _SUM, lambda x, n: x - n, "add"),
    "take_from": _on_numbers("{n}-{x}", _SUM, lambda x, n: n - x, "subtract"),
    "multiply": _on_numbers("{x}*{n}", _PRODUCT, lambda x, n: x * n, "add"),
    "remainder": _on_numbers("{x}%{n}", _PRODUCT, lambda x, n: x % n, "divide"),
    "divide": _on_numbers("{x}//{n}", _PRODUCT, lambda x, n: x // n, "remainder"),
    "sum": _on(_L, _N, "sum({x})", lambda x, n: sum(x), "largest", "{x}"),
    "largest": _on(_L, _N, "max({x})", lambda x, n: max(x), "smallest"),
    "smallest": _on(_L, _N, "min({x})", lambda x, n: min(x), "largest"),
    "count": _on(_L, _N, "len({x})", lambda x, n: len(x), "sum"),
    "first": _on(_L, _N, "{x}[0]", lambda x, n: x[0], "last"),
    "last": _on(_L, _N, "{x}[-1]", lambda x, n: x[-1], "first"),
    "reverse": _on(_L, _L, "{x}[::-1]", lambda x, n: x[::-1], "sort"),
    "sort": _on(_L, _L, "sorted({x})", lambda x, n: sorted(x), "reverse"),
    "drop_first": _on(_L, _L, "{x}[1:]", lambda x, n: x[1:], "reverse"),
    "add_each": _on(_L, _L, "[i+{n} for i in {x}]", lambda x, n: [i + n for i in x], "multiply_each", "+{n}"),
    "multiply_each": _on(_L, _L, "[i*{n} for i in {x}]", lambda x, n: [i * n for i in x], "add_each", "*{n}"),
    "keep_above": _on(
        _L, _L, "[i for i in {x} if i>{n}]", lambda x, n: [i for i in x if i > n], "add_each", ">{n}"
    ),
    "keep_even": _on(
        _L, _L, "[i for i in {x} if i%2==0]", lambda x, n: [i for i in x if i % 2 == 0], "sort", "%2"
    ),
    "flip": _on(_T, _T, "{x}[::-1]", lambda x, n: x[::-1], "upper"),
    "upper": _on(_T, _T, "{x}.upper()", lambda x, n: x.upper(), "flip"),
    "repeat": _on(_T, _T, "{x}*{n}", lambda x, n: x * n, "head", binds=_PRODUCT),
    "head": _on(_T, _T, "{x}[:{n}]", lambda x, n: x[:n], "tail"),
    "tail": _on(_T, _T, "{x}[{n}:]", lambda x, n: x[n:], "head"),
    "behind": _on(_T, _T, "{x}+'{n}'", lambda x, n: x + n, "front", binds=_SUM),
    "front": _on(_T, _T, "'{n}'+{x}", lambda x, n: n + x, "behind", binds=_SUM),
    "length": _on(_T, _N, "len({x})", lambda x, n: len(x), "length"),
}
MAY_EMPTY = frozenset(("drop_first", "keep_above", "keep_even"))
"""Operations after which a list may hold nothing, so that it has no largest or first item."""
NEEDS_ITEMS = frozenset(("largest", "smallest", "first", "last"))


@dataclass(frozen=True, slots=True)
class Part:
    """One operation and its argument (None: it takes none); `written` is code that stands for it."""

    name: str
    n: Any = None
    written: str | None = None


Parts = tuple[Part, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """The body of a function of x: a chain of parts, or one of two chains by a condition on x."""

    kind: Kind
    parts: Parts
    above: int | None = None
    otherwise: Parts = ()

    @property
    def num_parts(self) -> int:
        """How many operations the body has, the condition included."""
        return len(self.parts) + len(self.otherwise) + (self.above is not None)


def code_of(program: Program) -> str:
    """Return the body as Python writes it."""
    body = chain_code(program.parts)
    if program.above is None:
        return body
    return f"{body} if x>{program.above} else {chain_code(program.otherwise)}"


def chain_code(parts: Parts) -> str:
    """Return the code of a chain of operations on x, with no bracket that is not needed."""
    code, binds = "x", _ATOM
    for part in parts:
        operation = OPERATIONS[part.name]
        inner = code if binds >= operation.needs else f"({code})"
        code = operation.code.format(x=inner, n=part.n if part.written is None else part.written)
        binds = operation.binds
    return code


def value_of(program: Program, x: Value) -> Value:
    """Return what the function gives for x."""
    for part in _taken(program, x):
        x = OPERATIONS[part.name].apply(x, part.n)
    return x


def values_of(program: Program, x: Value) -> list[Value]:
    """Return every value on the way from x to the result, both included."""
    values = [x]
    for part in _taken(program, x):
        values.append(OPERATIONS[part.name].apply(values[-1], part.n))
    return values


def _taken(program: Program, x: Value) -> Parts:
    """Return the chain that x goes through."""
    return program.parts if program.above is None or x > program.above else program.otherwise


def working(program: Program, x: Value) -> list[str]:
    """Return the calculation for x, one step after the other, as `4+3=7`."""
    lines = []
    if program.above is not None:
        lines.append(f"{x}>{program.above} {x > program.above}")
    for part in _taken(program, x):
        operation = OPERATIONS[part.name]
        if part.written is not None:
            lines.append(f"{part.written}={part.n}")
        before = x
        x = operation.apply(x, part.n)
        shown = "+".join(map(str, before)) if part.name == "sum" else shown_value(before)
        lines.append(f"{operation.working.format(x=shown or 0, n=part.n)}={shown_value(x)}")
    return lines


def shown_value(value: Value) -> str:
    """Return a value as code, in few characters."""
    return repr(value).replace(" ", "")


# Near misses --------------------------------------------------------------------------------------


def near_misses(program: Program) -> list[Program]:
    """Return what one slip makes of a program; some may be the same function all the same."""
    found = [replace(program, parts=parts) for parts in _slips(program.parts)]
    if program.above is not None:
        found += [replace(program, otherwise=parts) for parts in _slips(program.otherwise)]
        found += [replace(program, above=program.above + step) for step in (-1, 1)]
        found.append(replace(program, parts=program.otherwise, otherwise=program.parts))
    return [miss for miss in found if fits(miss.kind, miss.parts) and miss != program]


def _slips(parts: Parts) -> list[Parts]:
    found = []
    for i, part in enumerate(parts):
        before, after = parts[:i], parts[i + 1 :]
        if isinstance(part.n, int):
            found += [(*before, replace(part, n=part.n + step), *after) for step in (-1, 1) if part.n + step]
        sibling = Part(OPERATIONS[part.name].sibling, part.n)
        if (sibling.n is None) == ("{n}" not in OPERATIONS[sibling.name].code):
            found.append((*before, sibling, *after))
        if len(parts) > 1:
            found.append((*before, *after))
        if after:
            found.append((*before, after[0], part, *after[1:]))
            if isinstance(part.n, int) and isinstance(after[0].n, int):
                swapped = replace(part, n=after[0].n), replace(after[0], n=part.n)
                found.append((*before, *swapped, *after[1:]))
            found += _without_brackets(before, part, after)
    return found


def _without_brackets(before: Parts, part: Part, after: Parts) -> list[Parts]:
    """Return x+3*2 for (x+3)*2: the product is formed from the number before the sum is."""
    following = OPERATIONS[after[0].name]
    if part.name not in ("add", "subtract") or following.binds != _PRODUCT:
        return []
    merged = Part(
        part.name,
        following.apply(part.n, after[0].n),
        following.code.format(x=part.n, n=after[0].n),
    )
    return [(*before, merged, *after[1:])]


def fits(kind: Kind, parts: Parts) -> bool:
    """Whether each part takes what the one before it gives, and no empty list meets what needs items."""
    may_be_empty = False
    for part in parts:
        operation = OPERATIONS[part.name]
        if operation.takes is not kind or (may_be_empty and part.name in NEEDS_ITEMS):
            return False
        may_be_empty = may_be_empty or part.name in MAY_EMPTY
        kind = operation.gives
    return True


# As JSON ------------------------------------------------------------------------------------------


def to_json(program: Program) -> dict[str, Any]:
    """Return a program as JSON values."""
    return {
        "kind": program.kind.value,
        "parts": [[part.name, part.n] for part in program.parts],
        "above": program.above,
        "otherwise": [[part.name, part.n] for part in program.otherwise],
    }


def from_json(fields: Mapping[str, Any]) -> Program:
    """Return the program that `to_json` wrote."""
    return Program(
        kind=Kind(fields["kind"]),
        parts=tuple(Part(name, n) for name, n in fields["parts"]),
        above=fields["above"],
        otherwise=tuple(Part(name, n) for name, n in fields["otherwise"]),
    )
