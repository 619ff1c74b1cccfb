"""Assertions turned into calls: what the candidate computes inside, the comparison outside.

In: `assert f(2) == 4` as text. Out: an `Assertion` that names the calls to be made in the sandbox
(`f(2)`) and judges their values by the evaluator next door. Expected values never enter. What
cannot be taken apart so, a loop or a checking function that would have to run beside the
candidate, is reported with the reason and never run.

The text is the data set's, not the candidate's; it is parsed here, never executed here.
"""

import ast
import builtins
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zerone.sandbox.evaluator import CALL, FUNCTIONS, Evaluator, NotConvertible, check, dotted
from zerone.sandbox.values import Malformed

__all__ = ["Assertion", "NotConvertible", "asserts_of_check", "parse_assert"]

_MAX_TEXT = 100_000
_MAX_ROUNDS = 1000
_BUILTINS = frozenset(dir(builtins))
_WELL_KNOWN: Mapping[str, str] = {
    "Counter": "collections.Counter",
    "Decimal": "decimal.Decimal",
    "Fraction": "fractions.Fraction",
    "isclose": "math.isclose",
}
"""Names that mean the library's also where the tests do not import them, since many forget to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assertion:
    """An assertion taken apart: `calls` are evaluated inside, `test` outside on their values."""

    text: str
    calls: tuple[str, ...]
    test: ast.expr

    def holds(self, values: Sequence[Any]) -> bool:
        """Judge the values that the calls returned; an error of the comparison is no success."""
        try:
            return bool(Evaluator(values).visit(self.test))
        except (ArithmeticError, LookupError, RecursionError, TypeError, ValueError):
            return False
        except (Malformed, NotConvertible):
            return False


def parse_assert(text: str, setup: str = "", entry: str = "") -> Assertion:
    """Take an assertion apart, or raise `NotConvertible`; `entry` is the function asked for, if known."""
    try:
        statements = ast.parse(text[:_MAX_TEXT].strip()).body
        names = _names_of(setup, entry)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise NotConvertible(f"it does not parse: {error}") from error
    if len(statements) != 1 or not isinstance(statements[0], ast.Assert):
        raise NotConvertible("it is not one assert statement")
    splitter = _Splitter(names)
    test = splitter.visit(statements[0].test)
    if not splitter.calls:
        raise NotConvertible("it calls nothing that the program could define")
    check(test)
    return Assertion(text=text, calls=tuple(splitter.calls), test=test)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Names:
    """What names stand for: `entries` are asked for, `origins` imported or well known, `own` the tests'.

    `defined` are those of their own that are functions or classes; the others may hold an object of
    the program, whose methods are the program's.
    """

    own: frozenset[str]
    defined: frozenset[str]
    origins: Mapping[str, str]
    entries: frozenset[str]


def _names_of(setup: str, entry: str) -> _Names:
    """Sort the names of the set-up. One that only renames a function of the program is none of its own."""
    defined: set[str] = set()
    own: set[str] = set()
    renamed: dict[str, str] = {}
    origins = dict(_WELL_KNOWN)
    for node in ast.walk(ast.parse(setup)):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                defined.add(name)
            case ast.Import() | ast.ImportFrom():
                origins |= _imported(node)
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Name(id=value)):
                renamed[name] = value
            case _:
                pass
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            own.add(node.id)
    own |= defined
    known = own | origins.keys() | _BUILTINS
    renamed = {name: value for name, value in renamed.items() if value == entry or value not in known}
    entries = {entry, *(name for name, value in renamed.items() if value == entry)} - {""}
    origins = {name: origin for name, origin in origins.items() if name not in entries}
    return _Names(
        own=frozenset(own - renamed.keys() - entries),
        defined=frozenset(defined - entries),
        origins=origins,
        entries=frozenset(entries),
    )


def _imported(node: ast.Import | ast.ImportFrom) -> dict[str, str]:
    """Return names -> where they come from. Inside, the program itself is the module `solution`."""
    if isinstance(node, ast.Import):
        names = {alias.asname or alias.name.split(".")[0]: alias.name for alias in node.names}
        roots = {name: origin if name != origin.split(".")[0] else name for name, origin in names.items()}
        return {name: origin for name, origin in roots.items() if origin != "solution"}
    if node.module == "solution":
        return {}
    return {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}


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

    def __init__(self, names: _Names) -> None:
        self.calls: list[str] = []
        self._names = names

    def _is_the_candidates(self, node: ast.expr) -> bool:
        owner = _owner(node)
        if owner in self._names.entries:
            return True
        is_called = any(isinstance(part, ast.Call) and dotted(part.func) == owner for part in ast.walk(node))
        if owner in self._names.defined or (owner in self._names.own and is_called):
            raise NotConvertible(f"{owner} is defined by the tests and would run beside the program")
        return bool(owner) and owner not in _BUILTINS and owner != "math" and owner not in self._names.origins

    def _calls_the_candidate(self, node: ast.AST) -> bool:
        """Whether a result of the program is in there. `Pair(1, 2)` is an input; `Pair(1).first()` is not."""
        bound = {part.arg for part in ast.walk(node) if isinstance(part, ast.arg)}
        bound |= {
            part.id
            for part in ast.walk(node)
            if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)
        }
        others = _BUILTINS | self._names.origins.keys() | self._names.own | bound | {""}
        for part in ast.walk(node):
            if isinstance(part, ast.Name) and part.id in self._names.entries:
                return True
            if isinstance(part, ast.Call):
                name, root = dotted(part.func), _root(part)
                is_input = isinstance(part.func, ast.Name) and name[:1].isupper()
                is_input = is_input or ("." in name and root in sys.stdlib_module_names)
                if not is_input and root not in others:
                    return True
        return False

    def _refuse_checkers(self, node: ast.expr) -> None:
        """Refuse a call that is given a result beside what it should be: it may be the candidate's.

        `almost_equal(f(2), 4)` lets the program define `almost_equal`; `g(f(2))` shows it nothing.
        """
        for call in ast.walk(node):
            if not isinstance(call, ast.Call) or dotted(call.func) in self._names.entries:
                continue
            given = [*call.args, *(word.value for word in call.keywords)]
            if not any(map(self._calls_the_candidate, given)):
                continue
            is_class = isinstance(call.func, ast.Name) and call.func.id[:1].isupper()
            if len(given) > 1 or not isinstance(given[0], ast.Call) or is_class:
                name = ast.unparse(call.func)
                raise NotConvertible(f"{name} is given a result and could be the program's own check")

    def _take(self, node: ast.expr) -> ast.expr:
        self._refuse_checkers(node)
        self.calls.append(ast.unparse(node))
        return ast.Name(id=f"{CALL}{len(self.calls) - 1}", ctx=ast.Load())

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """Take a call of the candidate's whole, look into the arguments of any other."""
        return self._take(node) if self._is_the_candidates(node) else self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        """Take an attribute of what the candidate returned."""
        is_of_call = any(isinstance(inner, ast.Call) for inner in ast.walk(node))
        if is_of_call and self._is_the_candidates(node):
            return self._take(node)
        return self.generic_visit(node) if isinstance(node.value, ast.Name) else node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        """Write a name that was imported as what it is; a name of the tests' own is known to nobody."""
        if node.id in self._names.own and node.id in FUNCTIONS.keys() | self._names.origins.keys():
            raise NotConvertible(f"{node.id} is defined by the tests")
        origin = self._names.origins.get(node.id)
        return ast.parse(origin, mode="eval").body if origin else node

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        """Refuse: what it calls depends on its arguments."""
        raise NotConvertible("it has a lambda outside of a call")

    def visit_ListComp(self, node: ast.ListComp) -> ast.AST:
        """Refuse: what it calls depends on its variable."""
        raise NotConvertible("it has a comprehension outside of a call")

    visit_SetComp = visit_DictComp = visit_GeneratorExp = visit_ListComp  # type: ignore[assignment]


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
