"""Directories for the moment, below the system's temporary one, that a kill does not leave there for ever.

Whoever has one holds a lock on it (flock), which ends with the process. Making the next one removes those
of the same purpose that nobody holds any more.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

YOUNG_SECONDS = 60.0  # one this new may have been made by somebody who is about to lock it


@contextmanager
def scratch(purpose: str) -> Iterator[Path]:
    """An empty directory of this user alone, `garrison-PURPOSE-...`, removed with all that is in it."""
    prefix = f"garrison-{purpose}-"
    for left in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        _remove_left(left)
    place = Path(tempfile.mkdtemp(prefix=prefix))
    held = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(held, fcntl.LOCK_SH)
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
        os.close(held)


def _remove_left(place: Path) -> None:
    """Only one of ours, and only when nobody holds it."""
    with contextlib.suppress(OSError):
        seen = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            status = os.fstat(seen)
            if status.st_uid == os.geteuid() and time.time() - status.st_mtime > YOUNG_SECONDS:
                fcntl.flock(seen, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(place, ignore_errors=True)
        finally:
            os.close(seen)
