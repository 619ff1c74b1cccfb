"""What a candidate returned, read and compared outside, where it cannot reach.

In: JSON text from the sandbox, untrusted. Out: plain Python values, or `Malformed`. Reading is
bounded: in size by the stream's limit, in the number of values, in the digits of a number, in depth,
and in keys made to collide, so no result can stall the judge.
"""

import itertools
import json
import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any, NoReturn

MAX_WEIGHT = 400_000
"""What all results together may weigh: a fifth of a second of the judge's time at most."""
_LIST_WEIGHT, _TEXT_WEIGHT = 5, 2
_MAX_BRACKETS_DEEP = 310
"""A hundred levels of values, the most that the driver writes: three brackets each at most."""
_MAX_HEX_DIGITS = 20_000
_MAX_COLLISIONS = 100
_MAX_UNSALTED = 50_000
_RELATIVE, _ABSOLUTE = 1e-9, 1e-12
_HALF = Fraction(1, 2)


class Malformed(Exception):
    """The text is nothing that the driver writes; whoever wrote it is not judged right."""


class Opaque:
    """A value of a type that does not cross the border; equal to nothing, itself included."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __eq__(self, other: object) -> bool:
        return False

    def __hash__(self) -> int:
        return 0


def _refuse(constant: str) -> NoReturn:
    raise Malformed(f"{constant} is not JSON")


_TEXT = re.compile(r'"[^"\\\n]*+(?:\\.[^"\\\n]*+)*+"?')
"""One that is never closed goes on to the end of its line, or each quote in it would be tried anew."""
_BRACKET = re.compile(r"[][{}]")
_STEPS = {"[": 1, "{": 1, "]": -1, "}": -1}


def _rough_weight(text: str) -> int:
    texts = text.count('"') // 2
    return text.count(",") + _TEXT_WEIGHT * texts + _LIST_WEIGHT * (text.count("[") + text.count("{"))


def weigh(text: str) -> int:
    """Return what it costs to read and compare JSON, in numbers: a text weighs two, a list or object five.

    What texts contain does not count, or counts as if it were outside where they are too many.
    """
    rough = _rough_weight(text)
    if rough <= MAX_WEIGHT:
        return rough
    bare, num_texts = _TEXT.subn("", text, count=MAX_WEIGHT // _TEXT_WEIGHT)
    return _rough_weight(bare) + _TEXT_WEIGHT * num_texts


def is_too_deep(text: str) -> bool:
    """Tell whether JSON is nested deeper than the driver writes it."""
    if text.count("[") + text.count("{") <= _MAX_BRACKETS_DEEP:
        return False
    steps = map(_STEPS.__getitem__, _BRACKET.findall(_TEXT.sub("", text)))
    return max(itertools.accumulate(steps), default=0) > _MAX_BRACKETS_DEEP


def parse_line(line: str) -> list[Any]:
    """Read one line of results: a list that begins with a test's number or a word."""
    if is_too_deep(line):
        raise Malformed("it is nested too deeply")
    try:
        parsed = json.loads(line, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise Malformed(str(error)) from error
    if not isinstance(parsed, list) or not parsed:
        raise Malformed("a line of results is not a list")
    return parsed


def decode(encoded: Any) -> Any:
    """Return the value that a driver's JSON stands for."""
    try:
        return _decode(encoded)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError, OverflowError) as error:
        raise Malformed(str(error)) from error


def _decode(encoded: Any) -> Any:
    if encoded is None or isinstance(encoded, bool | int | float | str):
        return encoded
    if isinstance(encoded, list):
        return encoded if _PLAIN.issuperset(map(type, encoded)) else [_decode(item) for item in encoded]
    ((tag, inner),) = encoded.items()
    return _READERS[tag](inner)


def _dictionary(pairs: Any) -> dict[Any, Any]:
    keys = _keys(key for key, _ in pairs)
    return dict(zip(keys, (_decode(item) for _, item in pairs), strict=True))


def _complex(parts: Any) -> complex:
    real, imaginary = parts
    return complex(float(_decode(real)), float(_decode(imaginary)))


def _integer(text: str) -> int:
    if len(text) > _MAX_HEX_DIGITS:
        raise Malformed(f"an integer of more than {_MAX_HEX_DIGITS} hexadecimal digits")
    return int(text, 16)


def _keys(encoded: Iterable[Any]) -> list[Any]:
    keys = [_decode(key) for key in encoded]
    check_keys(keys)
    return keys


def check_keys(keys: Sequence[Any]) -> None:
    """Refuse keys that are made to collide: a dictionary or set of them is quadratic.

    Numbers can also be chosen for the places that they are looked for in, with hashes all different,
    so there may not be many. The hash of a text is salted.
    """
    if sum(not isinstance(key, str) for key in keys) > _MAX_UNSALTED:
        raise Malformed(f"more than {_MAX_UNSALTED} keys that are not text")
    hashes = sorted(map(hash, keys))
    # Of a sorted list, equal ones lie side by side.
    if any(map(operator.eq, hashes, hashes[_MAX_COLLISIONS:])):
        raise Malformed("keys that collide")


_PLAIN = frozenset({type(None), bool, int, float, str})
_NAMED = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}
_READERS: Mapping[str, Callable[[Any], Any]] = {
    "int": _integer,
    "float": lambda name: _NAMED[name],
    "complex": _complex,
    "bytes": bytes.fromhex,
    "tuple": lambda items: tuple(map(_decode, items)),
    "set": lambda items: set(_keys(items)),
    "frozenset": lambda items: frozenset(_keys(items)),
    "dict": _dictionary,
    "other": lambda name: Opaque(str(name)[:100]),
}


def is_equal(value: Any, expected: Any, tolerance: float | None = None) -> bool:
    """Compare a returned value with one from a file of tests as Python does, exactly.

    A tuple counts as a list, but only as the whole value. This is LiveCodeBench's rule.
    """
    try:
        return bool((list(value) if isinstance(value, tuple) else value) == expected)
    except RecursionError:
        return False


def is_same_json(value: Any, expected: Any, tolerance: float | None = None) -> bool:
    """Compare a returned value with one from a file of tests, as JSON values.

    The value counts as `json.dumps` would write it: a tuple is a list, and keys that are numbers
    are their text. Truth values are no numbers; numbers are equal by value, and where one of them
    is a float, within the problem's tolerance of each other, by default 1e-9. NaN equals nothing, an
    infinity itself only.
    """
    try:
        return _is_same(value, expected, tolerance)
    except (RecursionError, OverflowError):
        return False


def _is_same(value: Any, expected: Any, tolerance: float | None) -> bool:
    if isinstance(expected, bool) or expected is None or isinstance(value, bool):
        return value is expected
    if isinstance(expected, int | float):
        return isinstance(value, int | float) and is_close(value, expected, tolerance)
    if isinstance(expected, str):
        return isinstance(value, str) and value == expected
    if isinstance(expected, list):
        return (
            isinstance(value, list | tuple)
            and len(value) == len(expected)
            and all(_is_same(mine, theirs, tolerance) for mine, theirs in zip(value, expected, strict=True))
        )
    if not isinstance(value, dict) or not isinstance(expected, Mapping):
        return False
    named = {_key(key): item for key, item in value.items()}
    return (
        len(named) == len(value)
        and named.keys() == expected.keys()
        and all(_is_same(named[key], item, tolerance) for key, item in expected.items())
    )


def is_close(value: int | float, expected: int | float, tolerance: float | None = None) -> bool:
    """Compare two numbers: integers exactly, others within the tolerance, if both are finite.

    A problem's own tolerance is relative or absolute; without one it is a relative 1e-9, and where an
    integer is expected, a float must also be nearer to it than to any other integer: 1e18 is not
    10**18 + 1, which no float is. An expected float is itself a rounded number.
    """
    if value == expected:
        return True
    if isinstance(value, int) and isinstance(expected, int):
        return False
    if not (math.isfinite(value) and math.isfinite(expected)):
        return False
    if tolerance is None and isinstance(expected, int) and abs(Fraction(value) - expected) >= _HALF:
        return False
    relative, absolute = (_RELATIVE, _ABSOLUTE) if tolerance is None else (tolerance, tolerance)
    return math.isclose(value, expected, rel_tol=relative, abs_tol=absolute)


def _key(key: Any) -> Any:
    if key is None or isinstance(key, bool):
        return {None: "null", True: "true", False: "false"}[key]
    if isinstance(key, int):
        return str(key) if key.bit_length() < 1000 else key
    return repr(key) if isinstance(key, float) else key
