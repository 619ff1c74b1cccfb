"""Damages of files, for tests of what every command does with a damaged run."""

import json
import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from itertools import cycle
from pathlib import Path
from typing import Any

import yaml

Damage = Callable[[Path], None]


def _cut(share: float) -> Damage:
    def damage(path: Path) -> None:
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * share)])

    return damage


def _flipped(share: float, bit: int) -> Damage:
    def damage(path: Path) -> None:
        data = bytearray(path.read_bytes())
        if data:
            data[min(len(data) - 1, int(len(data) * share))] ^= 1 << bit
        path.write_bytes(data)

    return damage


def _text(text: str | bytes) -> Damage:
    data = text.encode() if isinstance(text, str) else text
    return lambda path: (path.write_bytes(data), None)[1]


def _zeroed(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def _as_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


ANY: Mapping[str, Damage] = {
    "cut to nothing": _text(""),
    "cut to half": _cut(0.5),
    "cut at its end": _cut(0.97),
    "a low bit flipped": _flipped(0.3, 0),
    "a high bit flipped": _flipped(0.6, 7),
    "its first byte flipped": _flipped(0.0, 6),
    "zeroed": _zeroed,
    "missing": Path.unlink,
    "a directory": _as_directory,
    "no text": _text(b"\xff\xfe\x00\x80"),
}
"""What any file can suffer."""

_BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
YAML: Mapping[str, Damage] = {
    "nested": _text("seed: " + "[" * 5000),
    "nested and closed": _text("seed: " + "[" * 400 + "]" * 400),
    "an alias bomb": _text(_BOMB),
    "an alias of itself": _text("seed: &a [*a]\n"),
    "a list": _text("- 1\n- 2\n"),
    "a number": _text("7\n"),
    "a key twice": _text("seed: 1\nseed: 2\n"),
    "code": _text("seed: !!python/object/apply:os.getpid []\n"),
}

VALUES: Mapping[str, Any] = {
    "text": "no number",
    "nothing": None,
    "a list": [1, "two"],
    "an object": {"a": {"b": "c"}},
    "a huge number": 10**400,
    "below zero": -1e300,
    "true": True,
}


def _json_damages(path: Path) -> Iterator[tuple[str, Damage]]:
    """Yield each field of each kind of place left out and replaced."""
    is_lines = path.suffix == ".jsonl"
    first = path.read_text(encoding="utf-8").splitlines()[0] if is_lines else path.read_text(encoding="utf-8")
    tree = json.loads(first)
    deep = "[" * 100_000
    yield "nested", _text(deep if not is_lines else deep + "\n")
    yield "nested and closed", _text('{"step": ' + "[" * 500 + "]" * 500 + "}\n")
    for constant in ("NaN", "-Infinity", "1e999"):
        yield f"{constant} as a number", _number_as(constant)
    kinds = cycle(VALUES.items())
    for keys in _places(tree):
        name = ".".join(map(str, keys))
        yield f"{name} left out", _edited(keys, None, is_lines=is_lines, is_gone=True)
        kind, value = next(kinds)
        yield f"{name} is {kind}", _edited(keys, value, is_lines=is_lines)


def _number_as(constant: str) -> Damage:
    """Write a constant in the place of the first number with a fraction, or of any."""

    def damage(path: Path) -> None:
        text = path.read_text(encoding="utf-8")
        pattern = (
            r": -?[0-9]+\.[0-9]+(?=[,}\s])" if re.search(r": -?[0-9]+\.[0-9]+[,}\s]", text) else r": [0-9]+"
        )
        path.write_text(re.sub(pattern, f": {constant}", text, count=1), encoding="utf-8")

    return damage


_LARGEST = 60
"""Fields of an object that are all tried; what holds more (a vocabulary) is tried as a whole."""


def _places(tree: Any, depth: int = 0) -> Iterator[tuple[str, ...]]:
    if isinstance(tree, dict) and depth < 4 and len(tree) <= _LARGEST:
        for key, value in tree.items():
            yield (key,)
            yield from ((key, *rest) for rest in _places(value, depth + 1))


def _edited(keys: tuple[str, ...], value: Any, *, is_lines: bool, is_gone: bool = False) -> Damage:
    def edit(text: str) -> str:
        tree = json.loads(text)
        node = tree
        for key in keys[:-1]:
            node = node[key]
        if is_gone:
            del node[keys[-1]]
        else:
            node[keys[-1]] = value
        return json.dumps(tree)

    def damage(path: Path) -> None:
        text = path.read_text(encoding="utf-8")
        if is_lines:
            lines = text.splitlines()
            text = "".join(f"{line}\n" for line in [edit(lines[0]), *lines[1:]])
        else:
            text = edit(text)
        path.write_text(text, encoding="utf-8")

    return damage


def _yaml_damages(path: Path) -> Iterator[tuple[str, Damage]]:
    yield from YAML.items()
    tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    kinds = cycle(("text", "a list", "an object"))
    for keys in _places(tree):
        kind = next(kinds)
        yield f"{'.'.join(keys)} is {kind}", _yaml_edited(keys, VALUES[kind])


def _yaml_edited(keys: tuple[str, ...], value: Any) -> Damage:
    def damage(path: Path) -> None:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
        node = tree
        for key in keys[:-1]:
            node = node[key]
        node[keys[-1]] = value
        path.write_text(yaml.safe_dump(tree), encoding="utf-8")

    return damage


_STATEMENTS = {
    "a reward is text": "UPDATE rollouts SET reward = 'much'",
    "a text is a blob": "UPDATE rollouts SET text = x'ff00'",
    "a text is no UTF-8": "UPDATE rollouts SET text = CAST(x'ff80' AS TEXT)",
    "parts are no JSON": "UPDATE rollouts SET parts = '{'",
    "parts are a list": "UPDATE rollouts SET parts = '[1]'",
    "parts hold text": """UPDATE rollouts SET parts = '{"accuracy": "much"}'""",
    "parts hold NaN": """UPDATE rollouts SET parts = '{"accuracy": NaN}'""",
    "a spec is no JSON": "UPDATE groups SET spec = 'spec'",
    "a spec is nested": f"UPDATE groups SET spec = '{'[' * 50_000}'",
    "a step is text": "UPDATE OR REPLACE groups SET step = 'one'",
    "a step is nothing": "UPDATE rollouts SET num_tokens = NULL",
    "tokens are cut": "UPDATE rollouts SET completion_ids = x'0102030405'",
    "log-probabilities are cut": "UPDATE rollouts SET logprobs = x'010203'",
    "an unknown outcome": "UPDATE rollouts SET outcome = 'splendid'",
    "an unknown end": "UPDATE rollouts SET finish = 'splendid'",
    "no rollouts": "DELETE FROM rollouts",
    "no groups": "DELETE FROM groups",
    "a table is gone": "DROP TABLE groups",
    "a column is gone": "ALTER TABLE rollouts RENAME COLUMN parts TO pieces",
}


def _statement(sql: str) -> Damage:
    def damage(path: Path) -> None:
        with sqlite3.connect(path) as database:
            database.execute("PRAGMA foreign_keys = OFF")
            database.execute(sql)
        database.close()

    return damage


def damages_of(path: Path) -> Iterator[tuple[str, Damage]]:
    """Yield every damage of a file by name."""
    yield from ANY.items()
    if path.suffix in (".json", ".jsonl") and path.stat().st_size < 200_000:
        yield from _json_damages(path)
    if path.suffix == ".yaml":
        yield from _yaml_damages(path)
    if path.suffix == ".sqlite":
        yield from ((name, _statement(sql)) for name, sql in _STATEMENTS.items())
