"""Assertions turned into calls: what the candidate computes inside, the comparison outside.

In: `assert f(2) == 4` as text. Out: an `Assertion` that names the calls to be made in the sandbox
(`f(2)`) and judges their values by a small evaluator of its own. Expected values never enter. What
cannot be taken apart so, a loop or a checking function that would have to run beside the
candidate, is reported with the reason and never run.

The text is the data set's, not the candidate's; it is parsed here, never executed here.
"""

import ast
import builtins
import math
import operator
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_MAX_TEXT = 100_000
_MAX_LENGTH = 1_000_000
_MAX_BITS = 100_000
_MAX_ROUNDS = 1000
_CALL = "_call_"

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
_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "abs": abs,
    "bool": bool,
    "dict": dict,
    "float": float,
    "frozenset": frozenset,
    "int": int,
    "len": len,
    "list": list,
    "max": max,
    "min": min,
    "round": round,
    "set": set,
    "sorted": sorted,
    "str": str,
    "sum": sum,
    "tuple": tuple,
    "math.fabs": math.fabs,
    "math.isclose": math.isclose,
    "math.sqrt": math.sqrt,
}
_CONSTANTS = {"math.pi": math.pi, "math.e": math.e, "math.inf": math.inf}
_BUILTINS = frozenset(dir(builtins))


class NotConvertible(Exception):
    """The assertion cannot be judged outside; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assertion:
    """An assertion taken apart: `calls` are evaluated inside, `test` outside on their values."""

    text: str
    calls: tuple[str, ...]
    test: ast.expr

    def holds(self, values: Sequence[Any]) -> bool:
        """Judge the values that the calls returned; an error of the comparison is no success."""
        try:
            return bool(_Evaluator(values).visit(self.test))
        except (ArithmeticError, LookupError, RecursionError, TypeError, ValueError, NotConvertible):
            return False


def parse_assert(text: str, setup: str = "") -> Assertion:
    """Take an assertion apart, or raise `NotConvertible`."""
    try:
        statements = ast.parse(text[:_MAX_TEXT].strip()).body
        checkers = _definitions(setup)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise NotConvertible(f"it does not parse: {error}") from error
    if len(statements) != 1 or not isinstance(statements[0], ast.Assert):
        raise NotConvertible("it is not one assert statement")
    splitter = _Splitter(checkers)
    test = splitter.visit(statements[0].test)
    if not splitter.calls:
        raise NotConvertible("it calls nothing that the program could define")
    _check(test)
    return Assertion(text=text, calls=tuple(splitter.calls), test=test)


def _definitions(source: str) -> frozenset[str]:
    """Return the functions and classes that the set-up defines: a call of them would be a checker."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return frozenset(node.name for node in ast.walk(ast.parse(source)) if isinstance(node, kinds))


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def _owner(node: ast.expr) -> str:
    """Return the name at the root of `f(...)`, `Class(...).method(...)` or `f(...).attribute`.

    A method with arguments counts only on a class: in `f(x).issubset({1, 2})` the argument is the
    expected value, in `Stack(3).push(4)` it is an input.
    """
    while True:
        if isinstance(node, ast.Call):
            is_method = isinstance(node.func, ast.Attribute)
            if is_method and (node.args or node.keywords) and not _root(node)[:1].isupper():
                return ""
            node = node.func
        elif isinstance(node, ast.Attribute):
            node = node.value
        else:
            return node.id if isinstance(node, ast.Name) else ""


def _root(node: ast.expr) -> str:
    while isinstance(node, ast.Call | ast.Attribute):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


class _Splitter(ast.NodeTransformer):
    """Replaces the outermost calls of the candidate's functions by names of their values."""

    def __init__(self, checkers: Collection[str]) -> None:
        self.calls: list[str] = []
        self._checkers = checkers

    def _is_the_candidates(self, node: ast.expr) -> bool:
        owner = _owner(node)
        if owner in self._checkers:
            raise NotConvertible(f"{owner} is defined by the tests and would run beside the program")
        return bool(owner) and owner not in _BUILTINS and owner != "math"

    def _take(self, node: ast.expr) -> ast.expr:
        self.calls.append(ast.unparse(node))
        return ast.Name(id=f"{_CALL}{len(self.calls) - 1}", ctx=ast.Load())

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """Take a call of the candidate's whole, look into the arguments of any other."""
        return self._take(node) if self._is_the_candidates(node) else self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        """Take an attribute of what the candidate returned."""
        is_of_call = any(isinstance(inner, ast.Call) for inner in ast.walk(node))
        return self._take(node) if is_of_call and self._is_the_candidates(node) else node

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        """Refuse: what it calls depends on its arguments."""
        raise NotConvertible("it has a lambda outside of a call")

    def visit_ListComp(self, node: ast.ListComp) -> ast.AST:
        """Refuse: what it calls depends on its variable."""
        raise NotConvertible("it has a comprehension outside of a call")

    visit_SetComp = visit_DictComp = visit_GeneratorExp = visit_ListComp  # type: ignore[assignment]


def _check(node: ast.expr) -> None:
    """Raise `NotConvertible` unless `_evaluate` knows every part."""
    known = (ast.Constant, ast.Tuple, ast.List, ast.Set, ast.Dict, ast.Name, ast.BoolOp, ast.Compare)
    known += (ast.BinOp, ast.UnaryOp, ast.Subscript, ast.Slice, ast.Call, ast.Attribute, ast.keyword)  # type: ignore[assignment]
    for part in ast.walk(node):
        if isinstance(part, ast.operator | ast.unaryop | ast.cmpop | ast.boolop | ast.expr_context):
            if isinstance(part, ast.operator) and type(part) not in _ARITHMETIC:
                raise NotConvertible(f"{type(part).__name__} is not evaluated outside")
            if isinstance(part, ast.unaryop) and type(part) not in _SIGNS:
                raise NotConvertible(f"{type(part).__name__} is not evaluated outside")
            continue
        if isinstance(part, ast.Call) and _dotted(part.func) not in _FUNCTIONS:
            raise NotConvertible(f"a call of {ast.unparse(part.func)} is not evaluated outside")
        name = _dotted(part) if isinstance(part, ast.Name | ast.Attribute) else ""
        is_known_name = name in _FUNCTIONS or name in _CONSTANTS or name.startswith(_CALL) or name == "math"
        if not isinstance(part, known) or (name and not is_known_name):
            shown = name or type(part).__name__
            raise NotConvertible(f"{shown} is not evaluated outside")


class _Evaluator(ast.NodeVisitor):
    """Evaluates what `_check` let through, with the values of the calls."""

    def __init__(self, values: Sequence[Any]) -> None:
        self._values = values

    def generic_visit(self, node: ast.AST) -> Any:
        """Refuse: every node that is known has a method of its own."""
        raise NotConvertible(f"{type(node).__name__} is not evaluated outside")

    def visit_Constant(self, node: ast.Constant) -> Any:
        """Return the constant."""
        return node.value

    def visit_Name(self, node: ast.Name) -> Any:
        """Return what a call returned."""
        return self._values[int(node.id.removeprefix(_CALL))]

    def visit_Attribute(self, node: ast.Attribute) -> Any:
        """Return a constant of `math`."""
        return _CONSTANTS[_dotted(node)]

    def visit_Tuple(self, node: ast.Tuple) -> Any:
        """Return the tuple."""
        return tuple(map(self.visit, node.elts))

    def visit_List(self, node: ast.List) -> Any:
        """Return the list."""
        return list(map(self.visit, node.elts))

    def visit_Set(self, node: ast.Set) -> Any:
        """Return the set."""
        return set(map(self.visit, node.elts))

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
        return _bounded(_FUNCTIONS[_dotted(node.func)](*given, **named))


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


# HumanEval's form -----------------------------------------------------------------------------------


def asserts_of_check(source: str) -> list[str]:
    """Return the statements of HumanEval's `check(candidate)`, loops over constants unrolled.

    An assertion comes as text for `parse_assert`; any other statement that matters comes as its
    own text too, which `parse_assert` refuses with the reason.
    """
    module = ast.parse(source)
    checks = [node for node in module.body if isinstance(node, ast.FunctionDef) and node.name == "check"]
    if len(checks) != 1:
        raise NotConvertible("there is no single function `check`")
    found: list[str] = []
    _collect(checks[0].body, {}, found)
    return found


class _Substitute(ast.NodeTransformer):
    """Puts constants in the place of names."""

    def __init__(self, constants: Mapping[str, Any]) -> None:
        self._constants = constants

    def visit_Name(self, node: ast.Name) -> ast.AST:
        """Replace a known name."""
        return ast.Constant(self._constants[node.id]) if node.id in self._constants else node


def _loop_values(loop: ast.For) -> range | None:
    """Return the values of a loop over a constant range that holds nothing but assertions."""
    match loop.iter:
        case ast.Call(func=ast.Name(id="range"), args=[*bounds], keywords=[]):
            numbers = [bound.value for bound in bounds if isinstance(bound, ast.Constant)]
            whole = [number for number in numbers if isinstance(number, int)]
            is_plain = all(isinstance(statement, ast.Assert) for statement in loop.body)
            if is_plain and len(whole) == len(bounds) and max(map(abs, whole), default=0) <= _MAX_ROUNDS:
                return range(*whole)
    return None


def _collect(body: Sequence[ast.stmt], constants: Mapping[str, Any], found: list[str]) -> None:
    for statement in body:
        match statement:
            case ast.For(target=ast.Name(id=name), orelse=[]) if values := _loop_values(statement):
                for value in values:
                    _collect(statement.body, {**constants, name: value}, found)
            case ast.Assert(test=ast.Constant(value=True)):
                pass
            case ast.Expr(value=ast.Name() | ast.Constant()):
                pass
            case ast.Import() | ast.ImportFrom():
                pass
            case _:
                copied = ast.parse(ast.unparse(statement)).body[0]
                found.append(ast.unparse(_Substitute(constants).visit(copied)))
