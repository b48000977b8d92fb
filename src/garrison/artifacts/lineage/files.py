"""Where an importer puts the files that it reads, hashed on the way: into a directory, or nowhere."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from garrison.artifacts.lineage.remote import Write, too_much
from garrison.core.errors import Refused
from garrison.trust.paths import check_path

MAX_FILES = 10_000  # of one model in another system; the largest sharded releases have a few thousand
MAX_MODEL_BYTES = 2 << 40  # more than any disk that a model is served from
_BLOCK = 1 << 20

Save = Callable[[str], AbstractContextManager[Write]]  # a path inside the model -> where its bytes go


@contextlib.contextmanager
def nowhere(_path: str) -> Iterator[Write]:
    """For a comparison: the bytes are hashed and let go."""
    yield lambda _chunk: None


def into(directory: Path) -> Save:
    """Write below an empty directory of ours. Names are judged first, so none points out of it."""

    @contextlib.contextmanager
    def save(path: str) -> Iterator[Write]:
        target = directory / check_path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as stream:
            yield stream.write

    return save


class Tally:
    """Hashes what passes, counts it, and refuses what is more than any model has."""

    def __init__(self, save: Save) -> None:
        self._save = save
        self._bytes = 0
        self.files: dict[str, str] = {}

    @property
    def room(self) -> int:
        return MAX_MODEL_BYTES - self._bytes

    @contextlib.contextmanager
    def file(self, path: str, also: Callable[[bytes], object] = lambda _chunk: None) -> Iterator[Write]:
        """One file; `also` sees the bytes too (another digest). Raises `Refused` LIN-PLACE, `Undecided` LIN-LIMIT."""
        check_path(path)
        if path in self.files:
            raise Refused("LIN-PLACE", f"{path} is listed twice by the source", fix="mend the source")
        if len(self.files) >= MAX_FILES:
            raise too_much(f"more than {MAX_FILES:,} files")
        digest = hashlib.sha256()
        with self._save(path) as write:

            def passed(chunk: bytes) -> None:
                self._bytes += len(chunk)
                if self._bytes > MAX_MODEL_BYTES:
                    raise too_much(f"more than {MAX_MODEL_BYTES:,} bytes")
                digest.update(chunk)
                also(chunk)
                write(chunk)

            yield passed
        self.files[path] = f"sha256:{digest.hexdigest()}"


def pour(descriptor: int, write: Write) -> int:
    """Everything that is left behind a descriptor; returns how much that was."""
    done = 0
    while chunk := os.read(descriptor, _BLOCK):
        write(chunk)
        done += len(chunk)
    return done
