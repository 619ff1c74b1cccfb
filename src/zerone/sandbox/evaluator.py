"""The part of an assertion that is judged outside: a small evaluator with no names but its own.

In: an expression that `check` let through and the values that the candidate's calls returned. Out:
its value. The expression is the data set's, the values are the candidate's: everything that they
could make long is bounded, in digits, lengths and colliding keys.
"""

import ast
import math
import operator
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from zerone.sandbox.values import check_keys

_MAX_LENGTH = 1_000_000
_MAX_BITS = 100_000
_MAX_PLACES = 10_000
CALL = "_call_"
"""Names with this prefix and a number stand for the values of calls."""


class NotConvertible(Exception):
    """The assertion cannot be judged outside; the message says why."""


def _keyed(build: Callable[..., Any]) -> Callable[..., Any]:
    """Make a collection only of keys that do not collide, which would make it quadratic."""

    def guarded(items: Iterable[Any] = (), **named: Any) -> Any:
        if isinstance(items, Mapping):
            return build(items, **named)
        listed = list(items)
        check_keys([next(iter(pair), None) for pair in listed] if build is dict else listed)
        return build(listed, **named)

    return guarded


def _sum(items: Iterable[Any], start: Any = 0) -> Any:
    """Add up; a sum of sequences copies what it has with each of them."""
    listed = list(items)
    length = sum(len(item) for item in listed if hasattr(item, "__len__"))
    if length * len(listed) > _MAX_LENGTH:
        raise NotConvertible("a sum of sequences is too long")
    return sum(listed, start)


def _round(number: Any, places: int | None = None) -> Any:
    if places is not None and abs(places) > _MAX_PLACES:
        raise NotConvertible("a number is rounded to too many places")
    return round(number, places)


_COMPARISONS: Mapping[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda left, right: left in right,
    ast.NotIn: lambda left, right: left not in right,
    ast.Is: lambda left, right: left is right,
    ast.IsNot: lambda left, right: left is not right,
}
_ARITHMETIC: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
_SIGNS: Mapping[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.Not: operator.not_,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}
FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "abs": abs,
    "bool": bool,
    "dict": _keyed(dict),
    "float": float,
    "frozenset": _keyed(frozenset),
    "int": int,
    "len": len,
    "list": list,
    "max": max,
    "min": min,
    "round": _round,
    "set": _keyed(set),
    "sorted": sorted,
    "str": str,
    "sum": _sum,
    "tuple": tuple,
    "collections.Counter": _keyed(Counter),
    "math.fabs": math.fabs,
    "math.isclose": math.isclose,
    "math.sqrt": math.sqrt,
}
_WHOLE = frozenset({"bool", "len", "str"})
"""Functions that take a text as it is; the others make a value of each character."""
CONSTANTS = {"math.pi": math.pi, "math.e": math.e, "math.inf": math.inf}
_MODULES = frozenset(name.split(".")[0] for name in FUNCTIONS if "." in name)


def dotted(node: ast.expr) -> str:
    """Return `a.b.c` for such an expression, for any other an empty text or an empty root."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def check(node: ast.expr) -> None:
    """Raise `NotConvertible` unless `Evaluator` knows every part."""
    known = (ast.Constant, ast.Tuple, ast.List, ast.Set, ast.Dict, ast.Name, ast.BoolOp, ast.Compare)
    known += (ast.BinOp, ast.UnaryOp, ast.Subscript, ast.Slice, ast.Call, ast.Attribute, ast.keyword)  # type: ignore[assignment]
    for part in ast.walk(node):
        if isinstance(part, ast.operator | ast.unaryop | ast.cmpop | ast.boolop | ast.expr_context):
            if isinstance(part, ast.operator) and type(part) not in _ARITHMETIC:
                raise NotConvertible(f"{type(part).__name__} is not evaluated outside")
            if isinstance(part, ast.unaryop) and type(part) not in _SIGNS:
                raise NotConvertible(f"{type(part).__name__} is not evaluated outside")
            continue
        if isinstance(part, ast.Call) and dotted(part.func) not in FUNCTIONS:
            raise NotConvertible(f"a call of {ast.unparse(part.func)} is not evaluated outside")
        name = dotted(part) if isinstance(part, ast.Name | ast.Attribute) else ""
        is_known_name = name in FUNCTIONS or name in CONSTANTS or name.startswith(CALL) or name in _MODULES
        if not isinstance(part, known) or (name and not is_known_name):
            shown = name or type(part).__name__
            raise NotConvertible(f"{shown} is not evaluated outside")


class Evaluator(ast.NodeVisitor):
    """Evaluates what `check` let through, with the values of the calls."""

    def __init__(self, values: Sequence[Any]) -> None:
        self._values = values

    def generic_visit(self, node: ast.AST) -> Any:
        """Refuse: every node that is known has a method of its own."""
        raise NotConvertible(f"{type(node).__name__} is not evaluated outside")

    def visit_Constant(self, node: ast.Constant) -> Any:
        """Return the constant."""
        return node.value

    def visit_Name(self, node: ast.Name) -> Any:
        """Return what a call returned, or a known function, as in `sorted(f(x), key=len)`."""
        if node.id in FUNCTIONS:
            return FUNCTIONS[node.id]
        return self._values[int(node.id.removeprefix(CALL))]

    def visit_Attribute(self, node: ast.Attribute) -> Any:
        """Return a constant or a function of a known module."""
        name = dotted(node)
        return CONSTANTS[name] if name in CONSTANTS else FUNCTIONS[name]

    def visit_Tuple(self, node: ast.Tuple) -> Any:
        """Return the tuple."""
        return tuple(map(self.visit, node.elts))

    def visit_List(self, node: ast.List) -> Any:
        """Return the list."""
        return list(map(self.visit, node.elts))

    def visit_Set(self, node: ast.Set) -> Any:
        """Return the set."""
        return FUNCTIONS["set"](map(self.visit, node.elts))

    def visit_Dict(self, node: ast.Dict) -> Any:
        """Return the dictionary."""
        pairs = zip(node.keys, node.values, strict=True)
        return {self.visit(key): self.visit(value) for key, value in pairs if key}

    def visit_UnaryOp(self, node: ast.UnaryOp) -> Any:
        """Return a sign or a negation applied."""
        return _SIGNS[type(node.op)](self.visit(node.operand))

    def visit_BinOp(self, node: ast.BinOp) -> Any:
        """Return the result of arithmetic, within bounds."""
        return _arithmetic(node.op, self.visit(node.left), self.visit(node.right))

    def visit_BoolOp(self, node: ast.BoolOp) -> Any:
        """Return whether all or any hold."""
        return (all if isinstance(node.op, ast.And) else any)(map(self.visit, node.values))

    def visit_Compare(self, node: ast.Compare) -> Any:
        """Return whether a chain of comparisons holds."""
        operands = [self.visit(node.left), *map(self.visit, node.comparators)]
        pairs = zip(node.ops, operands, operands[1:], strict=False)
        return all(_COMPARISONS[type(op)](first, second) for op, first, second in pairs)

    def visit_Subscript(self, node: ast.Subscript) -> Any:
        """Return an element or a slice."""
        return self.visit(node.value)[self.visit(node.slice)]

    def visit_Slice(self, node: ast.Slice) -> Any:
        """Return the slice."""
        return slice(*(self.visit(part) if part else None for part in (node.lower, node.upper, node.step)))

    def visit_Call(self, node: ast.Call) -> Any:
        """Return the value of a known function."""
        named = {word.arg: self.visit(word.value) for word in node.keywords if word.arg}
        given = [_bounded(self.visit(argument)) for argument in node.args]
        name = dotted(node.func)
        if name not in _WHOLE and any(isinstance(v, str | bytes) and len(v) > _MAX_LENGTH for v in given):
            raise NotConvertible("a text is too long to be taken apart")
        return _bounded(FUNCTIONS[name](*given, **named))


def _bounded(value: Any) -> Any:
    """Refuse numbers whose arithmetic or text would take long."""
    if isinstance(value, int) and value.bit_length() > _MAX_BITS:
        raise NotConvertible("a number is too large")
    return value


def _arithmetic(op: ast.operator, left: Any, right: Any) -> Any:
    if isinstance(op, ast.Mod) and isinstance(left, str | bytes):
        raise NotConvertible("a text is formatted")
    if isinstance(op, ast.Mult):
        for text, number in ((left, right), (right, left)):
            if hasattr(text, "__len__") and isinstance(number, int) and len(text) * number > _MAX_LENGTH:
                raise NotConvertible("a sequence is too long")
    if isinstance(op, ast.Pow) and not (abs(right) <= 1000 and abs(left) < 1 << 64):
        raise NotConvertible("a power is too large")
    return _ARITHMETIC[type(op)](_bounded(left), _bounded(right))
