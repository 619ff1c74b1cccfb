"""The shape of the code, enforced: one-way imports, budgets, forbidden constructs, options, the map.

The rules read source text by `ast` and import nothing but the option tree. Each rule is also run
on a small planted tree that breaks it, since a rule that finds nothing may just be blind.
"""

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import budgets
from zerone.config import Section, options

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "zerone"
OPTIONS = Path(__file__).with_name("options.txt")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def _files(source: Path) -> list[Path]:
    return sorted(source.rglob("*.py"))


def _name(path: Path, source: Path) -> str:
    return path.relative_to(source).as_posix()


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def _part(path: Path, source: Path) -> str:
    """Return the place of a file in the flow: its name, or the package that it lies in."""
    return path.relative_to(source).with_suffix("").parts[0]


# Imports ------------------------------------------------------------------------------------------


def _imports(path: Path, source: Path) -> Iterator[tuple[str, ...]]:
    """Yield what a file imports from zerone, also inside functions, as parts after `zerone`."""
    package = path.relative_to(source).parent.parts
    for node in ast.walk(_tree(path)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level:
            above = ("zerone", *package)[: len(package) + 2 - node.level]
            module = ".".join([*above, *filter(None, [node.module])])
            names = [f"{module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            root, *parts = name.split(".")
            # `from zerone import __version__` names no module.
            if root == "zerone" and parts and not parts[0].startswith("__"):
                yield tuple(parts)


def back_imports(source: Path) -> list[str]:
    """Return the imports that do not follow the flow."""
    found = []
    for path in _files(source):
        here = _part(path, source)
        if path == source / "__main__.py":
            continue  # the entry point of `python -m zerone`, above all rooms
        if path == source / "__init__.py":
            found += [
                f"__init__.py imports {there[0]}"
                for there in _imports(path, source)
                if "/".join(there[:2]) not in budgets.FIRST
            ]
            continue
        for there in {parts[0] for parts in _imports(path, source)} - {here}:
            known = there in budgets.FLOW and here in budgets.FLOW
            if not known or budgets.FLOW.index(there) >= budgets.FLOW.index(here):
                found.append(f"{_name(path, source)} imports {there}")
    return sorted(found)


def cycles_within_packages(source: Path) -> list[str]:
    """Return the modules of a package that import themselves by way of each other."""
    names = {path.relative_to(source).with_suffix("").parts: path for path in _files(source)}
    edges = {
        module: {
            parts[:length]
            for parts in _imports(path, source)
            for length in (2, 3)
            if parts[:length] in names and parts[:length] != module
        }
        for module, path in names.items()
    }

    def reached(start: tuple[str, ...]) -> set[tuple[str, ...]]:
        seen, todo = set[tuple[str, ...]](), [start]
        while todo:
            for target in edges[todo.pop()] - seen:
                seen.add(target)
                todo.append(target)
        return seen

    return sorted("/".join(module) for module in names if module in reached(module))


# Budgets ------------------------------------------------------------------------------------------


def _functions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, Function]]:
    for node in ast.iter_child_nodes(tree):
        inner = prefix
        if isinstance(node, Function):
            yield prefix + node.name, node
        if isinstance(node, Function | ast.ClassDef):
            inner = f"{prefix}{node.name}."
        yield from _functions(node, inner)


def _num_parameters(function: Function) -> int:
    arguments = function.args
    plain = [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    return len([name for name in plain if name not in ("self", "cls")])


def over_budget(source: Path) -> dict[str, str]:
    """Return what exceeds a budget: its key in `budgets.EXCEPTIONS` -> by how much."""
    found = {}
    for path in _files(source):
        name = _name(path, source)
        num_lines = len(path.read_text(encoding="utf-8").splitlines())
        if num_lines > budgets.MAX_FILE_LINES:
            found[f"{name}: lines"] = f"{num_lines} > {budgets.MAX_FILE_LINES}"
        most = budgets.MAX_LOOP_LINES if name.startswith(budgets.LOOPS) else budgets.MAX_FUNCTION_LINES
        for function_name, function in _functions(_tree(path)):
            num_lines = (function.end_lineno or 0) - function.lineno + 1
            if num_lines > most:
                found[f"{name}:{function_name}: lines"] = f"{num_lines} > {most}"
            if _num_parameters(function) > budgets.MAX_PARAMETERS:
                found[f"{name}:{function_name}: parameters"] = (
                    f"{_num_parameters(function)} > {budgets.MAX_PARAMETERS}"
                )
    return found


# Constructs ---------------------------------------------------------------------------------------

_PICKLING = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
_RUNNING_TEXT = {"eval", "exec", "compile", "__import__", "import_module"}


_ALLOWED_INSIDE = {"catches everything", *(f"calls {name}" for name in ("eval", "exec", "compile"))}


def _is_true(node: ast.expr) -> bool:
    return not (isinstance(node, ast.Constant) and node.value is False)


def _complaint_of_call(call: ast.Call) -> str | None:
    keywords = {keyword.arg: keyword.value for keyword in call.keywords}
    if isinstance(call.func, ast.Name) and call.func.id in _RUNNING_TEXT:
        return f"calls {call.func.id}"
    if isinstance(call.func, ast.Attribute) and call.func.attr == "import_module":
        return "calls import_module, which hides an import"
    if ast.unparse(call.func) == "torch.load":
        only = keywords.get("weights_only")
        if not (isinstance(only, ast.Constant) and only.value is True):
            return "calls torch.load without weights_only=True, which unpickles"
    if "trust_remote_code" in keywords and _is_true(keywords["trust_remote_code"]):
        return "trusts remote code"
    return None


def _complaint(node: ast.AST) -> str | None:
    if isinstance(node, ast.ExceptHandler):
        caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
        if any(c is None or ast.unparse(c) in ("Exception", "BaseException") for c in caught):
            return "catches everything"
    if isinstance(node, ast.Import | ast.ImportFrom):
        modules = (
            [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
        )
        if {module.split(".")[0] for module in modules} & _PICKLING:
            return "pickles"
    if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names):
        return "imports *"
    return _complaint_of_call(node) if isinstance(node, ast.Call) else None


def forbidden(source: Path) -> list[str]:
    """Return names and constructs that this project does without."""
    found = []
    for path in _files(source):
        tree, name = _tree(path), _name(path, source)
        for part in path.relative_to(source).with_suffix("").parts:
            if part.strip("_") in budgets.FORBIDDEN_NAMES:
                found.append(f"{name}: {part} says nothing about what is inside")
        if tree.body and not ast.get_docstring(tree):
            found.append(f"{name}: has no docstring")
        for node in ast.walk(tree):
            if name in budgets.RUNS_INSIDE and _complaint(node) in _ALLOWED_INSIDE:
                continue
            if complaint := _complaint(node):
                found.append(f"{name}:{getattr(node, 'lineno', 0)}: {complaint}")
    return found


# The code as it is --------------------------------------------------------------------------------


def test_imports_flow_one_way() -> None:
    assert back_imports(SOURCE) == []


def test_modules_of_a_package_do_not_import_each_other_in_circles() -> None:
    assert cycles_within_packages(SOURCE) == []


def test_flow_names_every_module_and_nothing_else() -> None:
    assert {_part(path, SOURCE) for path in _files(SOURCE)} - {"__init__", "__main__"} == set(budgets.FLOW)


def test_files_functions_and_parameters_stay_within_budget() -> None:
    excess = {key: by for key, by in over_budget(SOURCE).items() if key not in budgets.EXCEPTIONS}
    assert excess == {}, "make it smaller, or give a reason in tests/budgets.py"


def test_exceptions_are_needed_and_have_a_reason() -> None:
    assert set(budgets.EXCEPTIONS) - set(over_budget(SOURCE)) == set(), "remove stale exceptions"
    assert all(len(reason.split()) >= 4 for reason in budgets.EXCEPTIONS.values())


def test_nothing_forbidden_is_used() -> None:
    assert forbidden(SOURCE) == []


def test_what_runs_inside_the_sandbox_is_imported_by_nothing() -> None:
    inside = {tuple(name.removesuffix(".py").split("/")) for name in budgets.RUNS_INSIDE}
    assert all((SOURCE / name).exists() for name in budgets.RUNS_INSIDE)
    imported = {parts[:2] for path in _files(SOURCE) for parts in _imports(path, SOURCE)}
    assert not inside & imported


# The rules see what they are for ------------------------------------------------------------------


def _plant(tmp_path: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("types.py", "from zerone.train import x", ["types.py imports train"]),
        ("types.py", "import zerone.cli", ["types.py imports cli"]),
        ("types.py", "from zerone import train", ["types.py imports train"]),
        ("types.py", "from . import train", ["types.py imports train"]),
        ("types.py", "def f():\n    from .train import x", ["types.py imports train"]),
        ("model/packed.py", "from ..train import x", ["model/packed.py imports train"]),
        ("model/packed.py", "from zerone.model.decoder import x", []),
        ("model/packed.py", "from .decoder import x\nfrom ..errors import y", []),
        ("loss.py", "from zerone.nowhere import x", ["loss.py imports nowhere"]),
        ("nowhere.py", "from zerone.errors import x", ["nowhere.py imports errors"]),
        ("__init__.py", "from zerone.errors import x", ["__init__.py imports errors"]),
        ("intervals.py", "from zerone.types import x\nfrom zerone import __version__\nimport torch", []),
    ],
)
def test_planted_back_import_is_found(tmp_path: Path, name: str, text: str, expected: list[str]) -> None:
    assert back_imports(_plant(tmp_path, {name: text})) == expected


def test_planted_cycle_is_found(tmp_path: Path) -> None:
    files = {
        "model/a.py": "from zerone.model.b import x",
        "model/b.py": "from zerone.model import a",
        "model/c.py": "from zerone.model.a import x",
    }
    assert cycles_within_packages(_plant(tmp_path, files)) == ["model/a", "model/b"]


def test_planted_excess_is_found(tmp_path: Path) -> None:
    long = "    pass\n"
    source = _plant(
        tmp_path,
        {
            "optim.py": f"class A:\n    def f(self):\n{'    ' + long:}" + f"{'    ' + long}" * 49,
            "train/loop.py": f"def loop():\n{long * 99}",
            "jobs/rl.py": f"def loop():\n{long * 100}",
            "loss.py": "def f(a, b, c, d, *, e, g, h, i, j): ...\ndef g(a, b, c, d, e, f, g, h): ...\n",
            "config.py": "\n" * 601,
        },
    )
    assert set(over_budget(source)) == {
        "optim.py:A.f: lines",
        "jobs/rl.py:loop: lines",
        "loss.py:f: parameters",
        "config.py: lines",
    }


@pytest.mark.parametrize(
    "text",
    [
        "try:\n    pass\nexcept:\n    pass",
        "try:\n    pass\nexcept Exception:\n    pass",
        "try:\n    pass\nexcept (OSError, BaseException) as e:\n    pass",
        "import pickle",
        "def f():\n    from cloudpickle import dumps",
        "eval('1')",
        "exec('1')",
        "import importlib\nimportlib.import_module('zerone.cli')",
        "from transformers import *",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "load(path, trust_remote_code=True)",
        "load(path, trust_remote_code=flag)",
    ],
)
def test_planted_construct_is_found(tmp_path: Path, text: str) -> None:
    assert len(forbidden(_plant(tmp_path, {"loss.py": f'"""Doc."""\n{text}\n'}))) == 1


@pytest.mark.parametrize(
    "text",
    [
        "try:\n    pass\nexcept (OSError, ValueError):\n    pass",
        "model.eval()",
        "re.compile('a')",
        "torch.load(path, weights_only=True)",
        "load(path, trust_remote_code=False)",
    ],
)
def test_innocent_construct_is_left_alone(tmp_path: Path, text: str) -> None:
    assert forbidden(_plant(tmp_path, {"loss.py": f'"""Doc."""\n{text}\n'})) == []


def test_planted_names_and_missing_docstrings_are_found(tmp_path: Path) -> None:
    source = _plant(
        tmp_path, {"utils.py": "", "rewards/_common.py": '"""Doc."""', "loss.py": "x = 1", "rl.py": ""}
    )
    assert sorted(complaint.split(":")[0] for complaint in forbidden(source)) == [
        "loss.py",
        "rewards/_common.py",
        "utils.py",
    ]


# Options and README -------------------------------------------------------------------------------


def test_options_are_few_and_pinned() -> None:
    """An option is a promise; this list makes a new or a lost one visible in review.

    To accept a change, write the list anew:
    PYTHONPATH=src python -c "from zerone.config import *; print(*options(), sep=chr(10))" > tests/options.txt
    """
    now = list(options())
    assert len(now) <= budgets.MAX_OPTIONS
    pinned = OPTIONS.read_text(encoding="utf-8").split()
    assert now == pinned, f"options changed; if that is meant: {test_options_are_few_and_pinned.__doc__}"


def test_every_section_says_what_it_is_for() -> None:
    assert [section.__name__ for section in Section.__subclasses__() if not section.__doc__] == []


def _modules_in_map(page: str) -> list[str]:
    """Return the modules of the first fenced block whose lines start with module paths."""
    for block in re.findall(r"^```[^\n]*\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        modules = re.findall(r"^\s*([a-z_]+)(?:\.py|/)(?=\s|$)", block, re.MULTILINE)
        if budgets.FLOW[0] in modules:
            return [module for module in modules if module not in ("src", "zerone", "tests")]
    return []


def test_map_shows_the_flow() -> None:
    page = ROOT / "docs" / "architecture.md"
    assert _modules_in_map(page.read_text(encoding="utf-8")) == list(budgets.FLOW)


@pytest.mark.parametrize("edit", [lambda t: t, lambda t: t.replace("types.py ", "tpyes.py ")])
def test_map_is_read_from_the_right_block(edit: Callable[[str], str]) -> None:
    readme = edit("```sh\nmake zero\n```\n```\nerrors.py   all errors\ntypes.py  nouns\nproblems/\n```\n")
    assert _modules_in_map(readme) == ["errors", "types" if "types" in readme else "tpyes", "problems"]
