"""Where the last checkpoint lives outside the database: a file beside it, and optionally the token.

A witness keeps one signed note and gives it back. Whoever cuts the tail of the database, or puts an old
copy back, must change every witness too; the token one needs the token's PIN.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from garrison.core.errors import Undecided, Usage
from garrison.evidence.checkpoint import MAX_NOTE_BYTES

TOKEN_LABEL = "garrison-ledger-checkpoint"
MAX_REASON = 1_000  # characters of an acceptance: a sentence or two for the audit row


class Witness(Protocol):
    """Keeps the newest checkpoint. Both may raise `Undecided` when the place cannot be reached."""

    def read(self) -> Sequence[bytes]:
        """Every note kept, none of them believed yet; empty when there never was one."""
        ...

    def write(self, note: bytes) -> None:
        """Keep this note instead; it is durable when this returns."""
        ...


class TokenStore(Protocol):
    """A place in the token for small private data objects."""

    def put_data(self, label: str, data: bytes, /) -> None: ...
    def get_data(self, label: str, /) -> bytes | None: ...


class FileWitness:
    """One file, replaced atomically: a kill leaves the old note or the new one, never half of one."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> Sequence[bytes]:
        try:
            with self._path.open("rb") as file:
                return (file.read(MAX_NOTE_BYTES + 1),)
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise _unreachable(self._path, error) from error

    def write(self, note: bytes) -> None:
        # No fsync of the directory: after a power cut the older note may be back, and the database
        # is then ahead of it, which the next start puts right. Half a note can not be there.
        temporary = self._path.with_name(f".{self._path.name}.tmp")
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(note)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._path)
        except OSError as error:
            raise _unreachable(self._path, error) from error


class TokenWitness:
    """A private data object in the PKCS#11 token. An empty object is one whose write was cut short."""

    def __init__(self, token: TokenStore, label: str = TOKEN_LABEL) -> None:
        self._token = token
        self._label = label

    def read(self) -> Sequence[bytes]:
        note = self._token.get_data(self._label)
        return (note,) if note else ()

    def write(self, note: bytes) -> None:
        self._token.put_data(self._label, note)


class Witnesses:
    """Several witnesses as one: all are written, all are read."""

    def __init__(self, *parts: Witness) -> None:
        self._parts = parts

    def read(self) -> Sequence[bytes]:
        return tuple(note for part in self._parts for note in part.read())

    def write(self, note: bytes) -> None:
        """Write to each, also after one failed; then raise the first failure."""
        failures = []
        for part in self._parts:
            try:
                part.write(note)
            except Undecided as error:
                failures.append(error)
        if failures:
            raise failures[0]


def _unreachable(path: Path, error: OSError) -> Undecided:
    return Undecided(
        "AUD-WITNESS",
        f"the checkpoint outside the database, {path}, cannot be used: {error.strerror or error}",
        fix="make the directory of that file readable and writable for this user, then try again",
    )


def accept_loss(directory: Path, reason: str) -> None:
    """Note for the next start that the owner of the machine accepts a ledger that lost records, and why.

    Raises `Usage` AUD-REASON without a reason.
    """
    text = " ".join(reason.split())[:MAX_REASON]
    if not text:
        raise Usage("AUD-REASON", "an acceptance needs a reason", fix="say in a sentence what happened")
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        (directory / "accepted-loss").write_text(text + "\n")
    except OSError as error:
        raise _unreachable(directory, error) from error


def accepted_loss(directory: Path) -> str:
    """The reason left by `accept_loss`, or the empty text."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return (directory / "accepted-loss").read_text()[:MAX_REASON].strip()
    return ""


def clear_accepted_loss(directory: Path) -> None:
    """Used once: the ledger has recorded the reason."""
    (directory / "accepted-loss").unlink(missing_ok=True)
