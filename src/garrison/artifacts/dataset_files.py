"""The files of a data set as tables: rows counted, and each row that is text told by a key and a label.

CSV, TSV, JSON lines and plain text are read row by row; Parquet and Arrow by their frame alone (row counts,
no values). A file that is none of these has to satisfy the model scanner. Nothing is loaded or run.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from garrison.artifacts.parquet_footer import parquet_rows
from garrison.trust import strict_json

MAX_LINE = 8 * 1024 * 1024  # bytes of one row; a row is an example, not a file
MAX_COLUMNS = 4_096
TEXT_FORMATS = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".txt": "text"}
LABELS = ("label", "labels", "target", "class", "category", "sentiment", "y", "is_fraud", "fraud")
_ARROW = b"ARROW1"


@dataclass(frozen=True, slots=True)
class Row:
    """One row: its number from 1, 64 bits that stand for its text, its label, and the text itself."""

    number: int
    key: int
    label: str
    text: str


class BadTable(ValueError):
    """A file that is not what its name says; the message names the line."""


def format_of(path: Path) -> str:
    """`csv`, `tsv`, `jsonl`, `text`, `parquet`, `arrow`, or empty for a file that is none of these."""
    suffix = path.suffix.lower()
    if suffix in TEXT_FORMATS:
        return TEXT_FORMATS[suffix]
    return {".parquet": "parquet", ".arrow": "arrow", ".feather": "arrow"}.get(suffix, "")


def frame_rows(path: Path) -> int | None:
    """The rows of a Parquet file by its footer; None for Arrow, whose frame holds. Raises `BadTable`."""
    with path.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        try:
            if format_of(path) == "parquet":
                return parquet_rows(stream, size)
            _check_arrow(stream, size)
        except (ValueError, struct.error, IndexError, EOFError) as error:
            raise BadTable(f"not a whole {format_of(path)} file: {error}") from error
    return None


def rows(path: Path) -> Iterator[Row]:
    """The rows of a text table, one at a time. Raises `BadTable` and OSError."""
    with path.open("rb") as stream:
        form = format_of(path)
        if form in ("csv", "tsv"):
            yield from _separated(stream, "," if form == "csv" else "\t")
        elif form == "jsonl":
            yield from _json_lines(stream)
        else:
            for number, line in _lines(stream):
                yield _row(number, line, "")


def _separated(stream: BinaryIO, delimiter: str) -> Iterator[Row]:
    text = (line + "\n" for _, line in _lines(stream))
    reader = csv.reader(text, delimiter=delimiter, strict=True)
    try:
        header = next(reader, [])
        if len(header) > MAX_COLUMNS:
            raise BadTable(f"more than {MAX_COLUMNS:,} columns")
        place = label_column(header)
        for number, cells in enumerate(reader, 1):
            if not cells:
                continue
            if len(cells) != len(header):
                raise BadTable(
                    f"line {reader.line_num}: {len(cells)} cells, and the header has {len(header)}"
                )
            label = cells[place] if place is not None else ""
            yield _row(number, "\x1f".join(cell for at, cell in enumerate(cells) if at != place), label)
    except csv.Error as error:
        raise BadTable(f"line {reader.line_num}: {error}") from error


def _json_lines(stream: BinaryIO) -> Iterator[Row]:
    for number, line in _lines(stream):
        if not line.strip():
            continue
        try:
            value = strict_json.loads(line.encode(), MAX_LINE)
        except ValueError as error:
            raise BadTable(f"line {number}: {error}") from error
        label = ""
        if isinstance(value, dict):
            name = next((name for name in value if str(name).lower() in LABELS), None)
            label = str(value.pop(name)) if name is not None else ""
        yield _row(number, "\x1f".join(_texts(value)), label)


def label_column(header: list[str]) -> int | None:
    return next((at for at, name in enumerate(header) if name.strip().lower() in LABELS), None)


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in sorted(value.items()):
            yield str(name)
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
    else:
        yield str(value)


def _row(number: int, text: str, label: str) -> Row:
    key = int.from_bytes(
        hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big"
    )
    return Row(number, key, label, text)


def _lines(stream: BinaryIO) -> Iterator[tuple[int, str]]:
    """Lines of strict UTF-8 without their ends. Raises `BadTable`."""
    buffered = io.BufferedReader(stream) if isinstance(stream, io.RawIOBase) else stream
    number = 0
    while line := buffered.readline(MAX_LINE + 1):
        number += 1
        if len(line) > MAX_LINE:
            raise BadTable(f"line {number}: longer than {MAX_LINE:,} bytes")
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError:
            raise BadTable(f"line {number}: not UTF-8") from None
        if "\x00" in text:
            raise BadTable(f"line {number}: a zero byte, so this is not text")
        yield number, text.rstrip("\r\n")


def _check_arrow(stream: BinaryIO, size: int) -> None:
    stream.seek(max(0, size - 10))
    tail = stream.read(10)
    stream.seek(0)
    if stream.read(6) != _ARROW or tail[4:] != _ARROW:
        raise ValueError("it does not begin and end with ARROW1")
    (length,) = struct.unpack("<i", tail[:4])
    if not 0 < length <= size - 18:
        raise ValueError("its footer claims more bytes than there are")
