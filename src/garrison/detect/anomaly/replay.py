"""Request events from a file of JSON lines, bounded: what the ledger exports, or the simulation writes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from garrison.core.errors import Usage
from garrison.detect.anomaly.seen import Seen, read

MAX_LINE = 1 << 20  # bytes; a record of the ledger has 64 kB at most


def read_file(name: str, standard: BinaryIO) -> Iterator[Seen]:
    """The requests of a file, `-` for standard input. Other events are passed over. Raises `Usage` ANO-FILE."""
    if name == "-":
        yield from read_lines(standard)
        return
    try:
        with Path(name).open("rb") as file:
            yield from read_lines(file)
    except OSError as error:
        raise _wrong(f"the file cannot be read: {error.strerror}") from error


def read_lines(file: BinaryIO) -> Iterator[Seen]:
    number = 0
    while line := file.readline(MAX_LINE + 1):
        number += 1
        if len(line) > MAX_LINE:
            raise _wrong(f"line {number} is longer than any event")
        if not line.strip():
            continue
        try:
            event = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise _wrong(f"line {number} is not JSON") from error
        if not isinstance(event, dict) or "action" not in event:
            raise _wrong(f"line {number} is not an event")
        seen = read(event)
        if seen is not None:
            yield seen


def _wrong(what: str) -> Usage:
    return Usage("ANO-FILE", what, fix="garrison audit export --format jsonl writes such a file")
