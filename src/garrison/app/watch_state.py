"""The detector of unusual use, how far it has read the ledger, and the file that a restart begins from.

The file is only a short cut: without it, or when it is damaged, the last days of the ledger are read again.
"""

from __future__ import annotations

import gzip
import io
import json
import threading
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from garrison.detect.anomaly.limits import Limits
from garrison.detect.anomaly.state import dump, load
from garrison.detect.anomaly.watch import Watch
from garrison.storage.local import write_atomically

FILE = "watch.jsonl.gz"
MAX_BYTES = 1 << 30  # unpacked; a hundred thousand identities are a fifth of it
MAX_LINE = 64 << 20  # the head has the groups, models and networks


@dataclass(slots=True)
class Watching:
    """`cursor` is the number of the last record that was looked at. `lock` guards all of it."""

    watch: Watch = field(default_factory=lambda: Watch(Limits()))
    cursor: int = -1  # nothing was read yet
    problem: str = ""
    policy: Mapping[str, Any] | None = None  # the responses that the limits were made of
    lock: threading.Lock = field(default_factory=threading.Lock)
    saved: int = -1


def save(watching: Watching, folder: Path) -> None:
    """Cursor and state in one file, whole or not at all."""
    folder.mkdir(mode=0o700, exist_ok=True)
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=1, mtime=0) as file:
        for value in chain([{"cursor": watching.cursor}], dump(watching.watch)):
            file.write(json.dumps(value, separators=(",", ":")).encode() + b"\n")
    write_atomically(folder / FILE, packed.getvalue())
    watching.saved = watching.cursor


def restore(watching: Watching, folder: Path) -> bool:
    """Go on from the file; False, and nothing changed, when there is none that can be used."""
    try:
        with gzip.open(folder / FILE) as file:
            values = _values(file)
            cursor = next(values)["cursor"]
            if type(cursor) is not int:
                return False
            watch = load(values, watching.watch.limits)
    except (OSError, EOFError, ValueError, TypeError, KeyError, AttributeError, StopIteration, zlib.error):
        return False
    watching.watch, watching.cursor, watching.saved = watch, cursor, cursor
    return True


def _values(file: gzip.GzipFile) -> Iterator[Any]:
    """The values of a file, a line each. Raises ValueError for one that is out of bounds."""
    left = MAX_BYTES
    while line := file.readline(MAX_LINE + 1):
        left -= len(line)
        if len(line) > MAX_LINE or left < 0:
            raise ValueError("too large")
        yield json.loads(line)
