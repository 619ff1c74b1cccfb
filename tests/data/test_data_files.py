"""Files are known by their first bytes: what they are packed in is undone, or refused by name.

Every reader of rows is asked, since a second one would soon read less than the first.
"""

import gzip
import io
import json
import pickle
import sys
import tarfile
import zipfile
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from processes import call_main
from zerone.curation.settings import read_examples
from zerone.data.demonstrations import read_demonstrations
from zerone.data.files import numbered_rows
from zerone.data.jsonl import Fields, read_problems
from zerone.data.preferences import read_rows as read_pairs
from zerone.data.records import read_rows
from zerone.errors import DataError

Rows = list[dict[str, Any]]
ROWS: Rows = [{"prompt": f"{i} + \u00e9\u2028\u4e2d?", "answer": i} for i in range(3)]


def lines(rows: Rows) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


PACKINGS: dict[str, Callable[[Rows], bytes]] = {
    "JSONL": lambda rows: lines(rows).encode(),
    "CRLF": lambda rows: lines(rows).replace("\n", "\r\n").encode(),
    "no last line break": lambda rows: lines(rows).rstrip().encode(),
    "blank lines": lambda rows: ("\n \n" + lines(rows).replace("\n", "\n\n")).encode(),
    "UTF-8 with a mark": lambda rows: lines(rows).encode("utf-8-sig"),
    "UTF-16 with a mark": lambda rows: lines(rows).encode("utf-16"),
    "UTF-16 big-endian with a mark": lambda rows: b"\xfe\xff" + lines(rows).encode("utf-16-be"),
    "UTF-16 without a mark": lambda rows: lines(rows).encode("utf-16-le"),
    "UTF-16 big-endian without a mark": lambda rows: lines(rows).encode("utf-16-be"),
    "UTF-32": lambda rows: lines(rows).encode("utf-32"),
    "a list": lambda rows: json.dumps(rows).encode(),
    "an indented list": lambda rows: ("\n\n  " + json.dumps(rows, indent=4)).encode(),
    "a list in UTF-16": lambda rows: json.dumps(rows).encode("utf-16"),
    "a list with a mark": lambda rows: json.dumps(rows).encode("utf-8-sig"),
    "gzip": lambda rows: gzip.compress(lines(rows).encode()),
    "gzip in parts": lambda rows: b"".join(gzip.compress(lines([row]).encode()) for row in rows),
    "gzip twice": lambda rows: gzip.compress(gzip.compress(lines(rows).encode())),
    "a gzipped list in UTF-16": lambda rows: gzip.compress(json.dumps(rows).encode("utf-16")),
}

READERS: dict[str, tuple[dict[str, Any], Callable[[Path], Any]]] = {
    "problems": (ROWS[0], lambda path: read_problems(path, Fields()).problems),
    "demonstrations": (
        {"prompt": "a?", "completion": "b"},
        lambda path: read_demonstrations(path).demonstrations,
    ),
    "pairs": ({"prompt": "a?", "chosen": "b", "rejected": "c"}, lambda path: list(read_pairs(path))),
    "suites": ({"question": "a?", "answer": "b"}, read_rows),
    "worked examples": ({"question": "a?", "thought": "t", "answer": "b"}, read_examples),
}


# The name never says what a file is.
@pytest.mark.parametrize("name", ["data.jsonl", "data", "data.gz", "data.json"])
@pytest.mark.parametrize("packing", list(PACKINGS))
def test_a_packed_file_has_the_rows_of_a_plain_one(tmp_path: Path, packing: str, name: str) -> None:
    (tmp_path / name).write_bytes(PACKINGS[packing](ROWS))
    with (tmp_path / name).open("rb") as file:
        rows = [json.loads(line) for _, line in numbered_rows(file, name)]
    assert rows == ROWS
    assert [problem.prompt for problem in read_problems(tmp_path / name, Fields()).problems] == [
        row["prompt"] for row in ROWS
    ]


@pytest.mark.parametrize("reader", list(READERS))
@pytest.mark.parametrize("packing", ["UTF-8 with a mark", "UTF-16 with a mark", "a list", "gzip"])
def test_every_reader_unpacks(tmp_path: Path, packing: str, reader: str) -> None:
    row, read = READERS[reader]
    (tmp_path / "d.jsonl").write_bytes(PACKINGS[packing]([row]))
    assert len(read(tmp_path / "d.jsonl")) == 1


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("d.jsonl", lines(ROWS))
    return buffer.getvalue()


def tarred() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("d.jsonl"), io.BytesIO())
    return buffer.getvalue()


REFUSED = {
    "a zip archive": zipped(),
    "an empty zip archive": b"PK\x05\x06" + bytes(18),
    "compressed by xz": b"\xfd7zXZ\x00\x00\x04",
    "compressed by zstd": b"\x28\xb5\x2f\xfd\x04\x00",
    "compressed by bzip2": b"BZh91AY&SY",
    "compressed by lz4": b"\x04\x22\x4d\x18",
    "a 7z archive": b"7z\xbc\xaf\x27\x1c\x00",
    "a tar archive": tarred(),
    "a pickle": pickle.dumps(ROWS),
    "a NumPy array": b"\x93NUMPY\x01\x00",
    "an HDF5 file": b"\x89HDF\r\n\x1a\n",
    "an SQLite database": b"SQLite format 3\x00",
    "an Arrow file": b"ARROW1\x00\x00",
    "an Arrow stream": b"\xff\xff\xff\xff\x10\x01",
    "a PDF": b"%PDF-1.7\n",
    "a pointer of Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
    "is HTML or XML": b"<!DOCTYPE html>\n<html>\n",
}


@pytest.mark.parametrize("is_gzipped", [False, True])
@pytest.mark.parametrize("kind", list(REFUSED))
def test_what_is_not_read_is_refused_by_what_it_is(tmp_path: Path, kind: str, is_gzipped: bool) -> None:
    data = REFUSED[kind]
    (tmp_path / "d.jsonl").write_bytes(gzip.compress(data, mtime=0) if is_gzipped else data)
    for _, read in READERS.values():
        with pytest.raises(DataError, match=kind):
            read(tmp_path / "d.jsonl")


@pytest.mark.parametrize("indent", ["", "\n\n  "])
@pytest.mark.parametrize("page", ["<html><body>404", "<HTML>", '<?xml version="1.0"?>', "<p>Sign in"])
def test_a_page_in_place_of_a_download_is_told(tmp_path: Path, page: str, indent: str) -> None:
    (tmp_path / "d.jsonl").write_text(indent + page, encoding="utf-8")
    with pytest.raises(DataError, match="HTML or XML"):
        read_demonstrations(tmp_path / "d.jsonl")


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b'[{"prompt": "a", "answer": 1}, {"prompt": "b", "answer"', r"d\.json:1: not valid JSON"),
        (b'[{"prompt": "a", "answer": 1}\n\n{"prompt": "b", "answer": 2}]', r"d\.json:3: .*Expecting ','"),
        (b'[{"prompt": "a", "answer": 1},]', "not valid JSON"),
        (b'[{"prompt": "a", "answer": 1}]\n[]', "more follows the JSON list"),
        (b'[{"prompt": "a", "answer": 1}, 7]', r"d\.json:2: a JSON object is needed"),
        (b"[]", r"d\.json:1: the JSON list is empty"),
        (b"[", "not valid JSON"),
        (b"[" * 100_000, "not usable JSON"),
        (b'[{"prompt": "\xff"}]', r"d\.json:1: not UTF-8"),
        (gzip.compress(lines(ROWS).encode(), mtime=0)[:-12], "cannot read"),
        (gzip.compress(lines(ROWS).encode(), mtime=0) + b"trailing", "cannot read"),
        (b"\xff\xfe{\x00\x00\xd8", "not UTF-16"),
        (b"\x00\x01\x02\x03", "not valid JSON"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, data: bytes, complaint: str) -> None:
    (tmp_path / "d.json").write_bytes(data)
    with pytest.raises(DataError, match=complaint):
        read_problems(tmp_path / "d.json", Fields())


def test_numbers_of_a_list_stay_as_they_are_written(tmp_path: Path) -> None:
    (tmp_path / "d.json").write_text('[{"prompt": "a", "answer": 0.10}, {"prompt": "b", "answer": 1e2}]')
    answers = [problem.spec["answer"] for problem in read_problems(tmp_path / "d.json", Fields()).problems]
    assert answers == ["0.10", "100"]


@pytest.mark.parametrize("packing", ["JSONL", "UTF-16 with a mark", "a list", "gzip", "UTF-8 with a mark"])
def test_rewards_are_scored_and_checked_from_any_packing(tmp_path: Path, packing: str) -> None:
    (tmp_path / "d.jsonl").write_bytes(PACKINGS[packing](ROWS))
    code, out, err = call_main(tmp_path, "reward", "check", str(tmp_path / "d.jsonl"))
    assert (code, "3 lines" in out) == (0, True), err
    rows = [{"completion": "<think>x</think><answer>4</answer>", "answer": 4, "verifier": "number"}]
    (tmp_path / "s.jsonl").write_bytes(PACKINGS[packing](rows))
    code, out, err = call_main(tmp_path, "reward", "score", str(tmp_path / "s.jsonl"))
    assert code == 0, err
    assert json.loads(out)["outcome"] == "correct"


# Parquet ------------------------------------------------------------------------------------------


def test_parquet_without_its_library_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "d.jsonl").write_bytes(b"PAR1" + bytes(32) + b"PAR1")
    with pytest.raises(DataError, match=r"pip install 'zerone\[parquet\]'"):
        read_demonstrations(tmp_path / "d.jsonl")


def parquet_file(path: Path, rows: list[dict[str, Any]]) -> Path:
    pyarrow = pytest.importorskip("pyarrow", reason="the extra `parquet` is not installed")
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


@pytest.mark.parametrize("is_gzipped", [False, True])
def test_parquet_has_the_rows_of_jsonl(tmp_path: Path, is_gzipped: bool) -> None:
    path = parquet_file(tmp_path / "d.bin", ROWS)
    if is_gzipped:
        path.write_bytes(gzip.compress(path.read_bytes(), mtime=0))
    with path.open("rb") as file:
        assert [json.loads(line) for _, line in numbered_rows(file, "d")] == ROWS
    assert len(read_rows(path)) == len(read_problems(path, Fields()).problems) == len(ROWS)


def test_messages_in_parquet_have_empty_fields_that_are_absent(tmp_path: Path) -> None:
    """A column of messages has every field in every message: null where a message lacks it."""
    said = [{"role": "user", "content": "a?"}, {"role": "assistant", "content": "A", "thinking": "t"}]
    called = [{**message, "tool_calls": None, "weight": None} for message in said]
    path = parquet_file(tmp_path / "d.parquet", [{"messages": called, "prompt": None}] * 2)
    read = read_demonstrations(path)
    assert read.num_duplicates == 1
    assert (read.demonstrations[0].messages[1].thought, read.demonstrations[0].messages[0].content) == (
        "t",
        "a?",
    )


def test_values_of_a_table_are_written_as_json_has_them(tmp_path: Path) -> None:
    rows = [{"prompt": "a", "answer": Decimal("0.10"), "day": date(2024, 5, 6)}]
    path = parquet_file(tmp_path / "d.parquet", rows)
    (row,) = read_rows(path)
    assert (row.text("answer"), row.text("day")) == ("0.10", "2024-05-06")


@pytest.mark.parametrize("value", [b"\x89PNG", {"bytes": b"x", "path": None}])
def test_bytes_in_a_table_are_refused_with_their_row(tmp_path: Path, value: Any) -> None:
    path = parquet_file(tmp_path / "d.parquet", [{"prompt": "a", "answer": "1", "image": value}])
    with pytest.raises(DataError, match=r"d\.parquet:1: holds bytes"):
        read_problems(path, Fields())


def test_a_damaged_table_is_refused(tmp_path: Path) -> None:
    path = parquet_file(tmp_path / "d.parquet", ROWS)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match="Parquet file that cannot be read"):
        read_rows(path)
