"""Tests of programming problems as data sets have them, made into the tests that the sandbox reads.

In: a row of APPS, TACO, LiveCodeBench, CodeContests, MBPP, PrimeIntellect's or verl's code data, or any
other with inputs and outputs under such names. Out: `mode`, `entry` and `tests` as docs/sandbox.md has them.
What is there and cannot be read is a ValueError that names test and reason. Tests that were pickled
(LiveCodeBench's private ones) are one text, which is read out without unpickling anything.
"""

import base64
import binascii
import json
import pickletools
import re
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

_COLUMNS = (
    ("input_output",),
    ("public_test_cases", "private_test_cases"),
    ("public_tests", "private_tests", "generated_tests"),
    ("test_cases",),
    ("test_list",),
    ("unit_tests",),
    ("tests",),
    ("examples", "official_tests"),
)
"""Where data sets keep tests; the columns of a line belong together, the first of them must be there."""

_WRAPPED = (("verification_info",), ("reward_model", "ground_truth"), ("ground_truth",))
"""Where tests stand inside of an object or a text, beside what is judged otherwise."""

_PAIRED = (("inputs", "outputs"), ("input", "output"))
_INPUT = ("input", "stdin", "inputs", "args")
_OUTPUT = ("output", "stdout", "expected_output", "outputs", "expected")
_TYPE = ("testtype", "type")
_FUNCTION = ("fn_name", "func_name", "entry_point", "function_name")
_CALLED = ("functional", "function_call", "function", "call")
_INSIDE = ("test_cases", "tests", "input_output")
_OWN = (frozenset(("args", "expected")), frozenset(("stdin", "stdout")))
_KEPT = ("setup", "wall_s", "memory_mib", "test_s", "tolerance", "harness")
"""What a row may say in the sandbox's own words beside its tests."""

_METHOD = re.compile(r"class\s+Solution\b.*?def\s+(\w+)\s*\(\s*self", re.DOTALL)
_DEFINED = re.compile(r"^def\s+(\w+)\s*\(", re.MULTILINE)
_HARNESS = "livecodebench"
"""The conventions of contest problems: what is imported before the program, and `Solution` or a function."""

_SECONDS_PER_TEST = 6.0
_MOST_SECONDS = 600.0
_MEMORY_MIB = 1024
_LONGEST_TESTS = 1 << 28
"""Bytes of decompressed tests; a file must not fill the memory."""


def code_spec(record: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what the verifier `code` needs, from a row whose tests are in a data set's form.

    None where the row has no tests, or has them in the sandbox's own form. Raises ValueError.
    """
    if "mode" in record:
        return None
    found = _found(record)
    if found is None:
        return None
    name, tests, functions, is_paired = found
    kept = {key: record[key] for key in _KEPT if record.get(key) is not None}
    try:
        if all(isinstance(test, str) for test in tests):
            return {"mode": "assert", "tests": tests, **_setup(record), **kept}
        spec = _contest(record, tests, functions, is_paired=is_paired) | kept
    except ValueError as error:
        raise ValueError(f"field {name!r}: {error}") from error
    if "tolerance" in record and "harness" not in record:
        spec.pop("harness", None)  # it compares exactly
    return spec


def question_with_code(record: Mapping[str, Any], question: str, entry: str) -> str:
    """Return a question with the code to start from, and the function's name, where it lacks them."""
    starter = record.get("starter_code")
    if isinstance(starter, str) and starter.strip() and starter.strip() not in question:
        question = (
            f"{question}\n\nStart from this code and keep its names:\n\n```python\n{starter.strip()}\n```"
        )
    name = entry.rpartition(".")[2]
    return question if name in question else f"{question}\n\nName the function `{name}`."


# Finding ------------------------------------------------------------------------------------------

_Found = tuple[str, list[Any], list[str], bool]
"""The column, its tests, the functions that it names, and whether inputs and outputs are two lists."""


def _found(record: Mapping[str, Any]) -> _Found | None:
    for columns in _COLUMNS:
        given = [name for name in columns if not _is_empty(record.get(name))]
        if columns[0] not in record or not given:
            continue
        if columns[0] == "tests" and _is_own(record["tests"]):
            return None
        tests, functions, is_paired = list[Any](), list[str](), False
        for name in given:
            try:
                is_paired |= _collect(_decoded(record[name]), tests, functions)
            except ValueError as error:
                raise ValueError(f"field {name!r}: {error}") from error
        return columns[0], tests, functions, is_paired
    return _wrapped(record)


def _is_empty(value: Any) -> bool:
    return (
        value is None
        or value in ("", [], {})
        or (isinstance(value, str) and value.strip() in ("", "[]", "{}"))
    )


def _is_own(tests: Any) -> bool:
    """Whether tests are in the sandbox's own form, or none at all, of which the sandbox complains itself."""
    if not isinstance(tests, list):
        return False
    return all(isinstance(test, Mapping) and any(own <= test.keys() for own in _OWN) for test in tests)


def _wrapped(record: Mapping[str, Any]) -> _Found | None:
    """Return tests that stand in a ground truth; None where that is not tests but an answer."""
    is_code = str(record.get("ability", record.get("task_type", ""))).lower() in _CODE
    for path in _WRAPPED:
        value: Any = record
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        if value is None:
            continue
        name = ".".join(path)
        tests, functions = list[Any](), list[str]()
        try:
            is_paired = _collect(_decoded(value), tests, functions)
        except ValueError as error:
            if is_code:
                raise ValueError(f"field {name!r}: {error}") from error
            continue
        if tests and (is_code or not all(isinstance(test, str) and "assert" not in test for test in tests)):
            return name, tests, functions, is_paired
    return None


_CODE = ("code", "coding", "verifiable_code", "programming")


def _decoded(value: Any) -> Any:
    """Return a value whose text is JSON, or tests that were packed."""
    if not isinstance(value, str):
        return value
    if value.lstrip()[:1] not in ("[", "{"):
        return packed_tests(value, _LONGEST_TESTS)
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is not valid JSON: {error}") from error


def _collect(value: Any, tests: list[Any], functions: list[str]) -> bool:
    """Add the tests in a value and the functions that it names; tell whether they were in two lists."""
    if isinstance(value, list):
        kinds = {
            str if isinstance(one, str) else Mapping if isinstance(one, Mapping) else None for one in value
        }
        if len(kinds) > 1 or None in kinds:
            raise ValueError("must hold a list of tests, each an object, or each the text of an assertion")
        tests.extend(value)
        return False
    if not isinstance(value, Mapping):
        raise ValueError(f"must hold a list of tests or an object, not {type(value).__name__}")
    if str(language := value.get("language") or "python").lower() not in ("python", "python3", "py"):
        raise ValueError(f"the tests are for {language}; only Python can be graded")
    functions.extend(str(value[key]) for key in _FUNCTION if value.get(key))
    for inputs, outputs in _PAIRED:
        if inputs in value and outputs in value:
            return _collect_pairs(value[inputs], value[outputs], tests)
    for key in _INSIDE:
        if not _is_empty(value.get(key)):
            return _collect(_decoded(value[key]), tests, functions)
    keys = ", ".join(map(repr, value)) or "nothing"
    raise ValueError(f"holds no tests that can be read: it has {keys}; inputs and outputs are needed")


def _collect_pairs(inputs: Any, outputs: Any, tests: list[Any]) -> bool:
    if isinstance(inputs, str) and isinstance(outputs, str):
        inputs, outputs = [inputs], [outputs]
    if not isinstance(inputs, list) or not isinstance(outputs, list):
        raise ValueError("inputs and outputs must be lists")
    if len(inputs) != len(outputs):
        raise ValueError(f"there are {len(inputs)} inputs and {len(outputs)} outputs")
    tests.extend({"input": given, "output": wanted} for given, wanted in zip(inputs, outputs, strict=True))
    return True


# Making -------------------------------------------------------------------------------------------


def _contest(
    record: Mapping[str, Any], tests: Sequence[Any], functions: Sequence[str], *, is_paired: bool
) -> dict[str, Any]:
    if not tests:
        raise ValueError("holds no test")
    given = [_one(number, test) for number, test in enumerate(tests, 1)]
    types = {kind for _, _, kind, _ in given if kind}
    named = [*functions, *(name for *_, name in given if name)]
    limits = {"wall_s": min(_MOST_SECONDS, _SECONDS_PER_TEST * len(tests)), "memory_mib": _MEMORY_MIB}
    is_called = any(kind in _CALLED for kind in types) or (not types and bool(named or _names_in(record)))
    if not is_called:
        pairs = [
            {"stdin": _text(number, "input", one), "stdout": _text(number, "output", other)}
            for number, (one, other, *_) in enumerate(given, 1)
        ]
        # Their harness belongs to tests that say what kind they are, as LiveCodeBench's do.
        harness = {"harness": _HARNESS} if any("testtype" in test for test in tests) else {}
        return {"mode": "stdin", "tests": pairs, **harness, **limits}
    calls = [_call(one, other) for one, other, *_ in given]
    if is_paired and all(isinstance(other, list) and len(other) == 1 for _, other, *_ in given):
        # APPS has the value of a call in a list of its own.
        calls = [{**call, "expected": call["expected"][0]} for call in calls]
    return {"mode": "call", "entry": _entry(record, named), "tests": calls, "harness": _HARNESS, **limits}


def _one(number: int, test: Mapping[str, Any]) -> tuple[Any, Any, str, str]:
    """Return input, output, kind and function of a test."""
    given = [test[key] for key in _INPUT if key in test]
    wanted = [test[key] for key in _OUTPUT if key in test]
    if not given or not wanted:
        keys = ", ".join(map(repr, test)) or "nothing"
        raise ValueError(f"test {number} has {keys}; an input and an output are needed")
    kind = next((str(test[key]).lower() for key in _TYPE if test.get(key)), "")
    named = [test, _object(test.get("metadata"))]
    name = next((str(one[key]) for one in named for key in _FUNCTION if one.get(key)), "")
    return given[0], wanted[0], kind, name


def _object(value: Any) -> Mapping[str, Any]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return {}
    return value if isinstance(value, Mapping) else {}


def _names_in(record: Mapping[str, Any]) -> list[str]:
    """Return the functions that a row names beside its tests."""
    places = (record, _object(record.get("metadata")), _object(record.get("extra_info")))
    return [str(place[key]) for place in places for key in _FUNCTION if place.get(key)]


def _entry(record: Mapping[str, Any], named: Sequence[str]) -> str:
    """Return the function or method that is called; the starter code says whether it is in a class."""
    starter = record.get("starter_code")
    starter = starter if isinstance(starter, str) else ""
    method, function = _METHOD.search(starter), _DEFINED.search(starter)
    names = list(dict.fromkeys([*named, *_names_in(record)]))
    if not names and (found := method or function):
        names = [found[1]]
    if len(names) != 1:
        what = f"name several functions: {', '.join(names)}" if names else "name no function (`fn_name`)"
        raise ValueError(f"the tests are calls and {what}")
    return f"Solution.{names[0]}" if method and "." not in names[0] else names[0]


def _call(given: Any, wanted: Any) -> dict[str, Any]:
    """Return a call; text holds one argument a line, as JSON."""
    if isinstance(given, str):
        lines = [line for line in given.split("\n") if line.strip()]
        try:
            return {"args": [json.loads(line) for line in lines], "expected": _json_or_text(wanted)}
        except (ValueError, RecursionError):
            return {"args": [given], "expected": wanted}
    if isinstance(given, Mapping):
        raise ValueError("inputs by name cannot be read; a list of arguments is needed")
    return {"args": given if isinstance(given, list) else [given], "expected": wanted}


def _json_or_text(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _text(number: int, what: str, value: Any) -> str:
    """Return standard input or output; a list holds its lines."""
    if isinstance(value, list) and all(isinstance(one, str | int | float) for one in value):
        return "\n".join(map(str, value))
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        return str(value)
    raise ValueError(f"test {number}: the {what} must be text, not {json.dumps(value, default=str)[:60]}")


def _setup(record: Mapping[str, Any]) -> dict[str, str]:
    """Return the code that assertions need beside the program, as MBPP has it."""
    imports = record.get("test_imports")
    lines = [str(one) for one in imports] if isinstance(imports, list) else []
    setup = record.get("test_setup_code")
    lines += [setup] if isinstance(setup, str) and setup.strip() else []
    return {"setup": "\n".join(lines)} if lines else {}


# Packed tests -------------------------------------------------------------------------------------


def packed_tests(text: str, longest: int) -> Any:
    """Return tests that are JSON, pickled as one text, deflated and written in base64; raises ValueError."""
    try:
        inflater = zlib.decompressobj()
        data = inflater.decompress(base64.b64decode(text, validate=True), longest)
        if inflater.unconsumed_tail:
            raise ValueError(f"more than {longest} bytes")
        return json.loads(_pickled_text(data))
    except (ValueError, binascii.Error, zlib.error, RecursionError) as error:
        raise ValueError(f"is neither JSON nor packed tests: {error}") from error


_HARMLESS = frozenset(("PROTO", "FRAME", "MEMOIZE", "BINPUT", "PUT", "LONG_BINPUT", "STOP"))
_TEXTS = frozenset(("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "UNICODE"))


def _pickled_text(data: bytes) -> str:
    """Return the text of a pickle that holds one text and nothing else; raises ValueError for others.

    The pickle is only disassembled. One that would call anything has other instructions and is refused.
    """
    texts = []
    for code, argument, _ in pickletools.genops(data):
        if code.name in _TEXTS:
            texts.append(argument)
        elif code.name not in _HARMLESS:
            raise ValueError(f"a pickle with the instruction {code.name}, where only a text is expected")
    if len(texts) != 1:
        raise ValueError("a pickle that is not one text")
    return str(texts[0])
