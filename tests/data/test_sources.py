"""Rows by name: files, directories of shards, and sources of a user's own package."""

import gzip
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from zerone.data.jsonl import Fields, nearest_field, read_problems
from zerone.data.sources import open_source, register_source
from zerone.errors import DataError
from zerone.identity import sha256_of_file


def jsonl(*rows: Mapping[str, Any]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def rows_of(name: str | Path) -> list[Any]:
    return [json.loads(line.content)["q"] for line in open_source(name).lines()]


def refusal(name: str | Path) -> str:
    with pytest.raises(DataError) as caught:
        list(open_source(name).lines())
    return str(caught.value)


def directory(tmp_path: Path, **files: bytes) -> Path:
    place = tmp_path / "shards"
    place.mkdir()
    for name, data in files.items():
        (place / name.replace("__", ".")).write_bytes(data)
    return place


# Files and directories ----------------------------------------------------------------------------


def test_a_file_is_a_source(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(jsonl({"q": 1}, {"q": 2}))
    source = open_source(path)
    assert rows_of(path) == [1, 2]
    assert [line.place for line in source.lines()] == [f"{path}:1", f"{path}:2"]
    assert source.sha256() == sha256_of_file(path)
    assert (source.title, source.about) == ("a.jsonl", {"path": str(path)})


def test_the_home_directory_is_written_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.jsonl").write_bytes(jsonl({"q": 1}))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert rows_of("~/a.jsonl") == [1]


def test_a_directory_is_its_shards_in_the_order_of_their_names(tmp_path: Path) -> None:
    place = directory(
        tmp_path,
        part_10__jsonl=jsonl({"q": 3}),
        part_02__jsonl=jsonl({"q": 1}, {"q": 2}),
        part_11__jsonl__gz=gzip.compress(jsonl({"q": 4})),
        part_12__json=b'[{"q": 5}, {"q": 6}]',
        README__md=b"# About",
        LICENSE=b"MIT",
        data__card__json=b"{}",
        dataset_infos__json=b"{}",
    )
    assert rows_of(place) == [1, 2, 3, 4, 5, 6]
    places = [line.place for line in open_source(place).lines()]
    assert places[:3] == [f"{place}/part_02.jsonl:1", f"{place}/part_02.jsonl:2", f"{place}/part_10.jsonl:1"]


def test_the_hash_of_a_directory_is_that_of_its_rows_files(tmp_path: Path) -> None:
    place = directory(tmp_path, a__jsonl=jsonl({"q": 1}), b__jsonl=jsonl({"q": 2}))
    before = open_source(place).sha256()
    (place / "README.md").write_text("About")
    assert open_source(place).sha256() == before
    (place / "b.jsonl").write_bytes(jsonl({"q": 3}))
    assert open_source(place).sha256() != before
    (place / "b.jsonl").write_bytes(jsonl({"q": 2}))
    (place / "b.jsonl").rename(place / "c.jsonl")
    assert open_source(place).sha256() != before


def test_splits_in_a_directory_are_never_mixed(tmp_path: Path) -> None:
    names = ("train-00000-of-00002", "train-00001-of-00002", "test-00000-of-00001", "validation")
    place = directory(tmp_path, **{f"{name}__jsonl": jsonl({"q": name}) for name in names})
    said = refusal(place)
    assert "holds the splits test, train, validation" in said
    assert f"name one as {place}#test" in said
    assert rows_of(f"{place}#train") == list(names[:2])
    assert rows_of(f"{place}#validation") == ["validation"]
    assert "has no split 'dev'; there are: test, train, validation" in refusal(f"{place}#dev")


def test_a_directory_of_one_split_needs_no_name(tmp_path: Path) -> None:
    place = directory(tmp_path, train_0__jsonl=jsonl({"q": 0}), train_1__jsonl=jsonl({"q": 1}))
    assert rows_of(place) == rows_of(f"{place}#train") == [0, 1]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("notes.txt", "holds 'notes.txt' among its files, which is not read"),
        ("data.csv", "holds 'data.csv' among its files"),
        ("data-00000.arrow", "holds 'data-00000.arrow' among its files"),
        ("model.safetensors", "holds 'model.safetensors' among its files"),
        ("rows.pkl", "holds 'rows.pkl' among its files"),
    ],
)
def test_a_file_of_another_kind_in_a_directory_is_refused_and_not_passed_over(
    tmp_path: Path, name: str, said: str
) -> None:
    place = directory(tmp_path, a__jsonl=jsonl({"q": 1}))
    (place / name).write_bytes(b"x")
    assert said in refusal(place)


def test_a_directory_without_rows_says_what_is_inside(tmp_path: Path) -> None:
    (tmp_path / "main").mkdir()
    (tmp_path / "socratic").mkdir()
    assert "without JSONL, JSON or Parquet files; it has the directories main, socratic" in refusal(tmp_path)
    assert "without JSONL" in refusal(tmp_path / "main")


def test_a_shard_that_is_damaged_is_named(tmp_path: Path) -> None:
    place = directory(tmp_path, a__jsonl=jsonl({"prompt": "1?", "answer": "1"}), b__jsonl=b"{\n")
    with pytest.raises(DataError, match=r"b\.jsonl:1: not valid JSON"):
        read_problems(place, Fields())
    (place / "b.jsonl").write_bytes(b"\x80\x04pickle")
    with pytest.raises(DataError, match=r"b\.jsonl is a pickle"):
        read_problems(place, Fields())


def test_a_file_with_a_number_sign_in_its_name_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "a#train.jsonl").write_bytes(jsonl({"q": 1}))
    assert rows_of(tmp_path / "a#train.jsonl") == [1]
    assert "does not exist" in refusal(tmp_path / "b#train.jsonl")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_file_that_may_not_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"")
    (tmp_path / "a.jsonl").chmod(0)
    assert "cannot read" in refusal(tmp_path / "a.jsonl")


# The missing field --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "wanted", "option"),
    [
        ({"promt": "1?", "answer": "1"}, "prompt", "data.prompt_field=promt"),
        ({"Prompt": "1?", "answer": "1"}, "prompt", "data.prompt_field=Prompt"),
        ({"question": "1?", "answer": "1"}, "prompt", "data.prompt_field=question"),
        ({"instruction": "1?", "answer": "1"}, "prompt", "data.prompt_field=instruction"),
        ({"prompt": "1?", "anwser": "1"}, "answer", "data.answer_field=anwser"),
        ({"prompt": "1?", "final_answer": "1"}, "answer", "data.answer_field=final_answer"),
        ({"prompt": "1?", "label": "1"}, "answer", "data.answer_field=label"),
        ({"prompt": "1?", "x": "1"}, "answer", "data.answer_field=NAME"),
    ],
)
def test_a_missing_field_is_told_with_those_there_are_and_the_nearest(
    tmp_path: Path, row: dict[str, str], wanted: str, option: str
) -> None:
    (tmp_path / "a.jsonl").write_bytes(jsonl(row))
    with pytest.raises(DataError) as caught:
        read_problems(tmp_path / "a.jsonl", Fields())
    said = str(caught.value)
    assert f"no field {wanted!r}; the line has {', '.join(map(repr, row))}" in said
    assert said.endswith(f"choose one by {option}")


def test_the_nearest_field_is_by_letters_first() -> None:
    assert nearest_field("prompt", {"question": 1, "prompts": 2}) == "prompts"
    assert nearest_field("choices", {"choice": 1}) == "choice"
    assert nearest_field("prompt", {}) is None


# Sources of a user's own --------------------------------------------------------------------------


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An installed package that adds sources by entry points."""
    (tmp_path / "mine.py").write_text(
        "NOT = 3\n"
        "def rows(text):\n"
        "    for i in range(int(text)):\n"
        "        yield {'prompt': f'{i} + 1?', 'answer': str(i + 1)}\n"
        "def broken(text):\n"
        "    yield {'prompt': '1?', 'answer': '1'}\n"
        "    raise KeyError('no such table')\n"
        "def lists(text):\n"
        "    return [['1?', '1']]\n"
    )
    about = tmp_path / "mine-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(
        "[zerone.sources]\nsums = mine:rows\nbroken = mine:broken\nlists = mine:lists\n"
        "number = mine:NOT\nnowhere = mine:nothing\nabsent = absent_module:rows\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path


def test_a_package_adds_a_source_by_an_entry_point(package: Path) -> None:
    read = read_problems("sums:3", Fields())
    assert [problem.prompt for problem in read.problems] == ["0 + 1?", "1 + 1?", "2 + 1?"]
    source = open_source("sums:3")
    assert [line.place for line in source.lines()] == ["sums:3:1", "sums:3:2", "sums:3:3"]
    assert source.sha256() == open_source("sums:3").sha256() != open_source("sums:4").sha256()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("sums:many", "the source of sums:many failed: ValueError"),
        ("broken:x", "the source of broken:x failed: KeyError: 'no such table'"),
        ("lists:x", "the source of lists:x failed: TypeError: gave list as a row"),
        ("number:x", "must be a function of one text"),
        ("nowhere:x", "cannot be loaded: AttributeError"),
        ("absent:x", "cannot be loaded: ModuleNotFoundError"),
        ("unknown:x", "no source is named 'unknown'; there are absent, broken, hf"),
    ],
)
def test_a_source_that_cannot_be_used_is_told_by_its_name(package: Path, name: str, said: str) -> None:
    assert said in refusal(name)


def test_a_script_registers_a_source() -> None:
    register_source("twice", lambda text: [{"q": text}, {"q": text}])
    assert rows_of("twice:a:b/c d") == ["a:b/c d", "a:b/c d"]


@pytest.mark.parametrize("name", ["hf", "hub", "http", "file", "a", "A1", "x y", ""])
def test_a_scheme_has_a_name_of_its_own(name: str) -> None:
    with pytest.raises(DataError, match="cannot name a source"):
        register_source(name, lambda text: [])


def test_a_file_comes_before_a_scheme(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(package)
    (package / "sums:3").write_bytes(jsonl({"q": "file"}))
    assert rows_of("sums:3") == ["file"]


def test_rows_that_json_cannot_hold_are_refused() -> None:
    register_source("sets", lambda text: [{"q": {1, 2}}])
    assert "sets:x:1: holds set" in refusal("sets:x")
