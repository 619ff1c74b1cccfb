"""Files are read and written in one way each: JSON, JSON lines and YAML; whole or not at all.

In: paths and texts that anyone may have damaged or made to harm. Out: values within bounds that hold for
every reader: no number that is not finite, no nesting or aliases that cost more than the file, no key
twice in YAML. FileError names the file and the fault.
"""

import contextlib
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from zerone.errors import FileError, UserError

_DEEPEST = 100
"""Levels of nesting: more than any file here has, and less than what any reader's recursion takes."""
_LONGEST_NUMBER = 40
"""Digits of a whole number; a longer one has no place in a float, nor in any field."""
_LARGEST_YAML = 1 << 20
"""Bytes: it is read in pure Python, some seconds per megabyte."""
_MOST_YAML_NODES = 200_000
"""What a YAML file may hold with its aliases written out."""


# JSON ---------------------------------------------------------------------------------------------


class JsonObject(dict[str, Any]):
    """An object of a JSON file: asked for a field that it lacks, it raises FileError with the file's name."""

    __slots__ = ("place",)

    def __init__(self, fields: Any = (), place: str = "a JSON object") -> None:
        super().__init__(fields)
        self.place = place

    def __missing__(self, key: str) -> Any:
        """Say which field of which file is missing."""
        raise FileError(f"{self.place} has no field {key!r}: it is damaged, or of another version")


def parse_json(text: str, place: str) -> Any:
    """Return what a JSON text says, its objects as `JsonObject`; raises FileError with `place`."""

    def refuse(name: str) -> Any:
        raise ValueError(f"{name} is not a JSON value")

    def finite(number: str) -> float:
        value = float(number)
        return value if math.isfinite(value) else refuse(number[:40])

    def bounded(number: str) -> int:
        return int(number) if len(number) <= _LONGEST_NUMBER else refuse(f"{number[:40]}...")

    try:
        value = json.loads(
            text,
            object_hook=lambda fields: JsonObject(fields, place),
            parse_constant=refuse,
            parse_int=bounded,
            parse_float=finite,
        )
        if text.count("[") + text.count("{") > _DEEPEST:
            _refuse_depth(value)
    except RecursionError as error:
        raise FileError(f"cannot read {place}: it is nested too deep") from error
    except ValueError as error:
        raise FileError(f"cannot read {place}: not JSON, the file is damaged: {error}") from error
    return value


def _refuse_depth(value: Any) -> None:
    level, depth = [value], 0
    while level:
        if depth > _DEEPEST:
            raise ValueError(f"nested deeper than {_DEEPEST} levels")
        inner: list[Any] = []
        for node in level:
            if isinstance(node, dict):
                inner += node.values()
            elif isinstance(node, list):
                inner += node
        level, depth = inner, depth + 1


def read_text(path: Path) -> str:
    """Return the text of a file; raises FileError where there is none or it is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise FileError(f"cannot read {path}: not UTF-8 (byte {error.start + 1})") from error
    except ValueError as error:  # a name with a null byte
        raise FileError(f"cannot read {str(path)!r}: {error}") from error


def read_json(path: Path) -> JsonObject:
    """Return the JSON object that a file holds; raises FileError for anything else."""
    return _object(read_text(path), str(path))


def _object(text: str, place: str) -> JsonObject:
    value = parse_json(text, place)
    if not isinstance(value, JsonObject):
        raise FileError(f"cannot read {place}: it does not hold a JSON object (but {type(value).__name__})")
    if "\\ud" in text.lower():
        try:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError as error:
            raise FileError(f"cannot read {place}: it holds half of a surrogate pair") from error
    return value


def read_json_lines(path: Path) -> Iterator[tuple[str, JsonObject]]:
    """Yield each complete line of a file as text and as object; a last one without an end was cut by a crash.

    Raises FileError with the number of the first line that holds no object.
    """
    whole = (line for line in read_text(path).split("\n")[:-1])
    for number, line in enumerate(whole, start=1):
        yield f"{line}\n", _object(line, f"{path}:{number}")


def write_json(value: Any, *, indent: int | None = None) -> str:
    """Return a value as JSON that every reader takes: a number that is not finite becomes null."""
    ensure_ascii = indent is None
    try:
        return json.dumps(value, indent=indent, ensure_ascii=ensure_ascii, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value), indent=indent, ensure_ascii=ensure_ascii, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    return [_finite(inner) for inner in value] if isinstance(value, list | tuple) else value


# YAML ---------------------------------------------------------------------------------------------

_NUMBERS = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float", "tag:yaml.org,2002:timestamp"
_WHOLE = re.compile("[-+]?[0-9][0-9_]*")
_FRACTION = re.compile(
    r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)


class _Loader(yaml.SafeLoader):
    """YAML as people mean it: 010 is ten, 1:30 and dates are text, 1e-3 is a number, no key comes twice."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML's name for it
        first: [(tag, pattern) for tag, pattern in resolvers if tag not in _NUMBERS]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """Refuse a key that is there already: one of the two would be dropped."""
        seen = set[Any]()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str | int | float | bool | None):
                raise yaml.constructor.ConstructorError(None, None, "a key must be text", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is there twice", key_node.start_mark
                )
            seen.add(key)
        found: dict[Any, Any] = super().construct_mapping(node, deep)
        return found

    def construct_number(self, node: Any) -> int | float:
        """Return a decimal number."""
        text = str(self.construct_scalar(node)).replace("_", "")
        if _WHOLE.fullmatch(text):
            return int(text)
        return float(text.replace(".inf", "inf").replace(".nan", "nan") if text[-1].isalpha() else text)


for _tag, _pattern in zip(_NUMBERS, (_WHOLE, _FRACTION), strict=False):
    _Loader.add_implicit_resolver(_tag, re.compile(f"(?:{_pattern.pattern})$"), list("-+.0123456789"))
    _Loader.add_constructor(_tag, _Loader.construct_number)


class _Dumper(yaml.SafeDumper):
    """Quotes whatever text the loader above, or another one, would take for a number."""


for _tag, _pattern in zip(_NUMBERS, (_WHOLE, _FRACTION), strict=False):
    _Dumper.add_implicit_resolver(_tag, re.compile(f"(?:{_pattern.pattern})$"), list("-+.0123456789"))


def parse_yaml(text: str) -> Any:
    """Return what a YAML text says; raises ValueError with what is wrong with it."""
    if len(text) > _LARGEST_YAML:
        raise ValueError(f"larger than {_LARGEST_YAML} characters")
    try:
        loader = _Loader(text)
    except yaml.YAMLError as error:  # characters that no YAML may hold
        raise ValueError(str(error)) from error
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _refuse_bomb(node)
        return loader.construct_document(node)
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
    finally:
        loader.dispose()


def _refuse_bomb(root: Any) -> None:
    """Raise ValueError for a tree that is too deep, or too large once its aliases are written out."""
    sizes: dict[int, int] = {}

    def size_of(node: Any, above: tuple[int, ...]) -> int:
        if id(node) in above or len(above) > _DEEPEST:
            raise ValueError(f"nested deeper than {_DEEPEST} levels, or into itself")
        if id(node) not in sizes:
            inner = node.value if isinstance(node, yaml.CollectionNode) else ()
            parts: Iterable[Any] = (
                (part for pair in inner for part in pair) if isinstance(node, yaml.MappingNode) else inner
            )
            sizes[id(node)] = 1 + sum(size_of(part, (*above, id(node))) for part in parts)
        return sizes[id(node)]

    if size_of(root, ()) > _MOST_YAML_NODES:
        raise ValueError(f"more than {_MOST_YAML_NODES} values with its aliases written out")


def read_yaml(path: Path) -> Any:
    """Return what a YAML file says; raises FileError."""
    try:
        return parse_yaml(read_text(path))
    except FileError as error:
        if not isinstance(error.__cause__, UnicodeDecodeError):
            raise
        raise FileError(f"{path} is not a YAML file: it is not UTF-8") from error
    except ValueError as error:
        raise FileError(f"{path} is not a YAML file: {error}") from error


def write_yaml(value: Any) -> str:
    """Return a value as YAML, one line per leaf, however long."""
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10**9)
    return text


# Writing ------------------------------------------------------------------------------------------


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Any]:
    """Give a text file to write, which takes its name only when it is complete and on the disk.

    A reader (or a crash) sees the old file or the new one. A link stays a link: what it names is replaced.
    What is no file (a pipe, /dev/null) is written as it is. Raises FileError.
    """
    if not path.name:
        raise FileError(f"cannot write {path}: it is a directory; name a file")
    try:
        target = path.resolve() if path.is_symlink() else path
        if target.exists() and not target.is_file() and not target.is_dir():
            with target.open("w", encoding="utf-8") as file:
                yield file
            return
        temporary = target.with_name(f".{target.name}.tmp")
        is_ours = False
        try:
            with temporary.open("w", encoding="utf-8") as file:
                is_ours = True
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
            is_ours = False
        finally:
            if is_ours:
                with contextlib.suppress(OSError):
                    temporary.unlink()
    except OSError as error:
        if isinstance(error, UserError):
            raise
        raise FileError(
            f"cannot write {path}: {error.strerror or error}; nothing already written is lost"
        ) from error


def refuse_overwriting(outputs: Mapping[str, Path | None], inputs: Iterable[Path | str | None]) -> None:
    """Raise FileError where an output is one of the inputs, by whatever name or link.

    `outputs` are by what names them (`--out`).
    """
    for name, out in outputs.items():
        for given in inputs:
            if out is not None and given is not None and _is_same(out, Path(given).expanduser()):
                raise FileError(
                    f"{name} {out} is what is read ({given}), and would be lost; choose another {name}"
                )


def _is_same(out: Path, given: Path) -> bool:
    with contextlib.suppress(OSError, ValueError):
        if out.resolve() == given.resolve():
            return True
        return out.exists() and given.exists() and out.samefile(given)
    return False
