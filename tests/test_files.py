"""JSON, JSON lines and YAML from anyone: read as they were meant, or refused in a sentence; written whole."""

import json
import os
import threading
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from zerone.errors import FileError, RunDirError, UserError
from zerone.files import (
    parse_json,
    parse_yaml,
    read_json,
    read_json_lines,
    read_yaml,
    refuse_overwriting,
    write_json,
    write_yaml,
    written_whole,
)

# YAML ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("010", 10),
        ("-007", -7),
        ("08", 8),
        ("0", 0),
        ("+3", 3),
        ("1_000", 1000),
        ("1e3", 1000.0),
        ("1e-3", 0.001),
        ("2.5E+2", 250.0),
        (".5", 0.5),
        ("1.", 1.0),
        ("1:30", "1:30"),
        ("12:30:45", "12:30:45"),
        ("1:30.5", "1:30.5"),
        ("2024-01-01", "2024-01-01"),
        ("0x10", "0x10"),
        ("0b11", "0b11"),
        ("1.2.3", "1.2.3"),
        ("true", True),
        ("null", None),
        ("[010, 1e1]", [10, 10.0]),
    ],
)
def test_numbers_are_what_people_mean(text: str, value: object) -> None:
    found = parse_yaml(f"a: {text}")["a"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2", "the key 'a' is there twice"),
        ("a: {b: 1, c: 2, b: 3}", "the key 'b' is there twice"),
        ("1: a\n1: b", "the key 1 is there twice"),
        ("a: &x [*x]", "into itself"),
        ("a: " + "[" * 300 + "]" * 300, "nested"),
        ("a: " + "[" * 20_000, "nested"),
        ("a: " + "{b: " * 20_000, "nested"),
        ("? [a, b]\n: 1", "a key must be text"),
        ("a: !!python/object/apply:os.getpid []", "could not determine a constructor"),
        ("a: [1", "expected"),
        ("a: b: c", "not allowed"),
        ("\x00\x00", "special characters are not allowed"),
        ("a: 1\n\x07", "special characters are not allowed"),
        ("a: " + "x" * (1 << 21), "larger than"),
    ],
)
def test_what_cannot_be_meant_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_yaml(text)


def test_an_alias_bomb_is_refused_and_an_honest_alias_is_taken() -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9)
    )
    with pytest.raises(ValueError, match="with its aliases written out"):
        parse_yaml(bomb)
    assert parse_yaml("a: &x {b: 1}\nc: *x\nd: {<<: *x, e: 2}") == {
        "a": {"b": 1},
        "c": {"b": 1},
        "d": {"b": 1, "e": 2},
    }


_LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(10**12), 10**12)
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]))
)


@given(st.dictionaries(st.text("abc01:_.e-", min_size=1), _LEAVES | st.lists(_LEAVES), max_size=5))
def test_what_is_written_is_read_back(tree: dict[str, object]) -> None:
    text = write_yaml(tree)
    assert parse_yaml(text) == tree
    assert yaml.safe_load(text) == tree, "other readers of YAML take it for the same"


@pytest.mark.parametrize("data", [b"\xff\xfe", b"a: [", b"a: 1\na: 2"])
def test_a_file_that_is_no_yaml_is_named(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(data)
    with pytest.raises(FileError, match=r"recipe\.yaml is not a YAML file"):
        read_yaml(path)


# JSON ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "nul", "NaN", "Infinity", "-Infinity", "1e999", "[1,]", "{'a': 1}", '{"a": 1e400}'),
        *("9" * 100, "9" * 5000, "[" * 200 + "]" * 200, "[" * 100_000, '{"a":' * 100_000, "\x00"),
    ],
    ids=lambda text: text[:12],
)
def test_a_text_that_is_no_json_is_one_error(text: str) -> None:
    with pytest.raises(FileError, match="cannot read here"):
        parse_json(text, "here")


def test_a_missing_field_names_file_and_field(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"suites": {"hard": {"n": 1}}}', encoding="utf-8")
    value = read_json(path)
    assert value.get("other") is None
    assert "other" not in value
    with pytest.raises(FileError, match=r"a\.json has no field 'other'"):
        value["other"]
    with pytest.raises(FileError, match=r"a\.json has no field 'pass_at_1'"):
        value["suites"]["hard"]["pass_at_1"]


@pytest.mark.parametrize("data", [b"[]", b"3", b"\xff", b"", b'{"a": "\\ud800"}'])
def test_a_file_that_holds_no_object_is_one_error(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(data)
    with pytest.raises(FileError, match=r"cannot read .*a\.json"):
        read_json(path)


def test_the_error_is_what_callers_have_caught_so_far() -> None:
    assert issubclass(FileError, RunDirError | ValueError)
    assert issubclass(FileError, UserError)
    assert issubclass(FileError, OSError)


def test_a_last_line_without_an_end_is_no_line_and_a_bad_one_has_its_number(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": "\u2028"}\n{"a": 2}\n{"a"', encoding="utf-8")
    assert [value for _, value in read_json_lines(path)] == [{"a": "\u2028"}, {"a": 2}]
    path.write_text('{"a": 1}\n[]\n', encoding="utf-8")
    with pytest.raises(FileError, match=r"a\.jsonl:2"):
        list(read_json_lines(path))


def test_what_is_not_finite_is_written_as_null_at_any_depth() -> None:
    nan, infinite = float("nan"), float("inf")
    text = write_json({"a": nan, "b": [1.5, infinite], "c": {"d": (-infinite,)}})
    assert json.loads(text) == {"a": None, "b": [1.5, None], "c": {"d": [None]}}


# Writing ------------------------------------------------------------------------------------------


def test_a_failure_while_writing_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("old", encoding="utf-8")
    with pytest.raises(KeyboardInterrupt), written_whole(path) as file:
        file.write("new")
        raise KeyboardInterrupt
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_stays_a_link_to_what_was_written(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("old", encoding="utf-8")
    link.symlink_to(target)
    with written_whole(link) as file:
        file.write("new")
    assert link.is_symlink()
    assert target.read_text(encoding="utf-8") == "new"


def test_a_pipe_is_written_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text(encoding="utf-8")))
    reader.start()
    with written_whole(pipe) as file:
        file.write("through")
    reader.join(5)
    assert read == ["through"]
    assert pipe.is_fifo()


@pytest.mark.parametrize(
    "spelling", ["itself", "another spelling", "a link", "a hard link", "through a link"]
)
def test_an_output_that_is_an_input_is_refused_however_it_is_named(spelling: str, tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text("precious", encoding="utf-8")
    out = {
        "itself": data,
        "another spelling": tmp_path / "x" / ".." / "data.jsonl",
        "a link": tmp_path / "link",
        "a hard link": tmp_path / "hard",
        "through a link": tmp_path / "folder" / "data.jsonl",
    }[spelling]
    (tmp_path / "x").mkdir()
    (tmp_path / "link").symlink_to(data)
    (tmp_path / "hard").hardlink_to(data)
    (tmp_path / "folder").symlink_to(tmp_path)
    with pytest.raises(FileError, match=r"--out .* is what is read"):
        refuse_overwriting({"--out": out}, [None, data])


def test_another_output_is_taken(tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text("x", encoding="utf-8")
    refuse_overwriting({"--out": tmp_path / "other.jsonl", "--log": None}, [data, "mixed", None])
