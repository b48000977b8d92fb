"""The detector of unusual use, how far it has read the ledger, and the file that a restart begins from.

The file is only a short cut: without it, or when it is damaged, the last days of the ledger are read again.
"""

from __future__ import annotations

import json
import threading
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from garrison.detect.anomaly.limits import Limits
from garrison.detect.anomaly.state import dump, load
from garrison.detect.anomaly.watch import Watch
from garrison.storage.local import write_atomically

FILE = "watch.json.z"
MAX_BYTES = 1 << 30  # unpacked; a hundred thousand identities are a fifth of it


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
    facts = {"cursor": watching.cursor, "state": dump(watching.watch)}
    folder.mkdir(mode=0o700, exist_ok=True)
    packed = zlib.compress(json.dumps(facts, separators=(",", ":")).encode(), 1)
    write_atomically(folder / FILE, packed)
    watching.saved = watching.cursor


def restore(watching: Watching, folder: Path) -> bool:
    """Go on from the file; False, and nothing changed, when there is none that can be used."""
    try:
        unpacking = zlib.decompressobj()
        data = unpacking.decompress((folder / FILE).read_bytes(), MAX_BYTES)
        if not unpacking.eof:
            return False
        facts = json.loads(data)
        cursor = facts["cursor"]
        if type(cursor) is not int:
            return False
        watching.watch = load(facts["state"], watching.watch.limits)
        watching.cursor = watching.saved = cursor
    except (OSError, ValueError, TypeError, KeyError, AttributeError, zlib.error):
        return False
    return True
