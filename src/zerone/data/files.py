"""Rows of a data file, whatever it is packed in: JSONL, a JSON list or Parquet, also gzipped or UTF-16.

In: an open file. Out: its rows in order, numbered from 1, each as the bytes of one JSON value. What a
file is, its first bytes say, never its name; what cannot be read is refused by what it is, with the way
to convert it. Every reader of JSONL reads through here.
"""

import gzip
import io
import json
import zlib
from collections.abc import Iterator, Mapping
from datetime import date, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO

from zerone.errors import DataError

_GZIP = b"\x1f\x8b"
_PARQUET = b"PAR1"
_HEAD = 512
"""Bytes that are looked at; the mark of a tar archive ends at byte 262."""

_KINDS = (
    (b"PK\x03\x04", "a zip archive", "unzip it"),
    (b"PK\x05\x06", "an empty zip archive", "give the data itself"),
    (b"\xfd7zXZ\x00", "compressed by xz", "unpack it by `xz -dk FILE`"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd", "unpack it by `zstd -dk FILE`"),
    (b"BZh", "compressed by bzip2", "unpack it by `bzip2 -dk FILE`"),
    (b"\x04\x22\x4d\x18", "compressed by lz4", "unpack it by `lz4 -dk FILE`"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it"),
    (b"Rar!\x1a\x07", "a rar archive", "unpack it"),
    (b"\x93NUMPY", "a NumPy array", "write its rows as JSONL"),
    (b"\x89HDF\r\n", "an HDF5 file", "write its rows as JSONL"),
    (b"SQLite format 3\x00", "an SQLite database", "export its rows as JSONL"),
    (b"ARROW1", "an Arrow file", "write it as Parquet or JSONL"),
    (b"\xff\xff\xff\xff", "an Arrow stream", "write it by `Dataset.to_json`, or as Parquet"),
    (b"ORC", "an ORC file", "write it as Parquet or JSONL"),
    (b"Obj\x01", "an Avro file", "write it as Parquet or JSONL"),
    (b"%PDF-", "a PDF", "give its data as JSONL"),
    (b"GGUF", "a GGUF model", "give data, not a model"),
    (b"version https://git-lfs", "a pointer of Git LFS, not the data", "fetch them by `git lfs pull`"),
)
"""First bytes -> what the file is, and what to do with it."""


def numbered_rows(file: BinaryIO, name: str) -> Iterator[tuple[int, bytes]]:
    """Yield number and content of each row; lines that are blank are skipped.

    The number is that of the line, or of the place in a list or table. Raises DataError where the file
    as a whole cannot be read; what a row holds is not looked at.
    """
    try:
        source, head = _unpacked(file, name)
        if head.startswith(_PARQUET):
            yield from _parquet_rows(source, name)
        elif head.lstrip().startswith(b"["):
            yield from _listed_rows(source.read(), name)
        else:
            # As bytes, since in text mode lines would also end at characters that JSON strings may hold.
            yield from ((number, line) for number, line in enumerate(source, start=1) if line.strip())
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"cannot read {name}, a damaged gzip file: {error}; fetch it again") from error


def text_of(path: Path) -> str:
    """Return all of a text file, as of a CSV; raises DataError for one that is no text."""
    try:
        with path.open("rb") as file:
            source, head = _unpacked(file, str(path))
            if head.startswith(_PARQUET):
                raise DataError(f"{path} is a Parquet file; name it *.parquet, and it is read as one")
            data = source.read()
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist; give a file of rows, one per problem") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"cannot read {path}: {error}") from error
    return _decoded(data, "utf-8", str(path))


def _unpacked(file: BinaryIO, name: str) -> tuple[BinaryIO, bytes]:
    """Return a file as it is without gzip and as UTF-8 without a byte order mark, and its first bytes."""
    source, head = _peeked(file)
    while head.startswith(_GZIP):
        source, head = _peeked(gzip.GzipFile(fileobj=source, mode="rb"))
    _refuse(head, name)
    encoding = _encoding_of(head)
    if encoding == "utf-8-sig":
        source.read(3)
        source, head = _peeked(source)
    elif encoding != "utf-8":
        text = _decoded(source.read(), encoding, name)
        source, head = _peeked(io.BytesIO(text.removeprefix("\ufeff").encode("utf-8")))
    if head.lstrip()[:1] == b"<":
        raise DataError(
            f"{name} is HTML or XML and no data, perhaps the page that came in place of a download; "
            "fetch the file itself"
        )
    return source, head


def _peeked(file: Any) -> tuple[BinaryIO, bytes]:
    """Return a file and its first bytes, which stay unread."""
    reader = file if hasattr(file, "peek") else io.BufferedReader(file)
    return reader, reader.peek(_HEAD)[:_HEAD]


def _refuse(head: bytes, name: str) -> None:
    """Raise DataError for a file of a known kind that is not read."""
    found = next(((kind, remedy) for mark, kind, remedy in _KINDS if head.startswith(mark)), None)
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        found = "a pickle", "which could run code and is never opened; write its rows as JSONL"
    if head[257:262] == b"ustar":
        found = "a tar archive", "unpack it by `tar -xf FILE`"
    if found is not None:
        raise DataError(
            f"{name} is {found[0]}; {found[1]}. Data are read as JSONL, a JSON list or Parquet, also gzipped"
        )


def _encoding_of(head: bytes) -> str:
    """Return how a JSON text is encoded; other texts and bytes are taken for UTF-8, to be judged later."""
    encoding = json.detect_encoding(head[: len(head) // 4 * 4] or head)
    if encoding in ("utf-8", "utf-8-sig"):
        return encoding
    start = head[: len(head) // 4 * 4].decode(encoding, "replace").lstrip("\ufeff \t\r\n")
    return encoding if head[:2] in (b"\xff\xfe", b"\xfe\xff") or start[:1] in ("{", "[") else "utf-8"


def _decoded(data: bytes, encoding: str, name: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise DataError(f"{name}:{line}: not {encoding.upper()}; convert the file to UTF-8") from error


# A list and a table -------------------------------------------------------------------------------


def _listed_rows(data: bytes, name: str) -> Iterator[tuple[int, bytes]]:
    """Yield the items of a JSON list, each as it is written; raises DataError where it is none."""
    text = _decoded(data, "utf-8", name)
    decoder = json.JSONDecoder()
    number, position = 0, _next(text, _next(text, 0) + 1)
    if text[position : position + 1] == "]":
        raise DataError(f"{name}:1: the JSON list is empty; it needs one object per row")
    try:
        while True:
            _, end = decoder.raw_decode(text, position)
            number += 1
            yield number, text[position:end].encode("utf-8")
            position = _next(text, end)
            if text[position : position + 1] == "]":
                break
            if text[position : position + 1] != ",":
                raise json.JSONDecodeError("Expecting ',' or ']'", text, position)
            position = _next(text, position + 1)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{name}:{error.lineno}: not valid JSON: {error.msg} at character {error.colno}; the file "
            "begins as a list, and must be one JSON list as a whole, or one JSON object per line"
        ) from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name}: item {number + 1} of the list is not usable JSON: {error}") from error
    if text[position + 1 :].strip():
        raise DataError(f"{name}: more follows the JSON list; give one list, or one JSON object per line")


def _next(text: str, position: int) -> int:
    """Return where the next character is that is no white space of JSON."""
    while position < len(text) and text[position] in " \t\r\n":
        position += 1
    return position


def _parquet_rows(file: BinaryIO, name: str) -> Iterator[tuple[int, bytes]]:
    """Yield the rows of a table with the library pyarrow; dates become texts as in ISO 8601."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise DataError(
            f"{name} is a Parquet file, which needs the library pyarrow; install it by "
            "`pip install 'zerone[parquet]'`, or write the file as JSONL"
        ) from error
    is_plain = isinstance(file, io.BufferedReader) and file.seekable()
    number = 0
    try:
        for batch in parquet.ParquetFile(file if is_plain else io.BytesIO(file.read())).iter_batches(256):
            for row in batch.to_pylist():
                number += 1
                yield number, as_json(row, f"{name}:{number}")
    except pyarrow.ArrowException as error:
        raise DataError(f"{name} is a Parquet file that cannot be read: {error}") from error


def as_json(row: Mapping[str, Any], place: str) -> bytes:
    """Return a row of a table as JSON; raises DataError for what cannot be written, with its place."""
    try:
        return json.dumps(row, default=_written).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise DataError(f"{place}: {error}") from error


def _written(value: object) -> str:
    match value:
        case date() | time():
            return value.isoformat()
        case Decimal() | timedelta():
            return str(value)
        case _:
            raise TypeError(f"holds {type(value).__name__}, as of an image; only texts and numbers are read")
