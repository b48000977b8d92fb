"""The PIN of a token: read from a private file, tried once, and never tried again once refused.

It never stands in an argument, a variable of the environment, a log or an exception. A refused PIN is
remembered beside the file, so that a service that restarts in a loop cannot lock the token.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from garrison.core.errors import Undecided

MAX_PIN = 255  # bytes; PKCS#11 tokens allow far less


def read_pin(path: Path) -> str:
    """Raises `Undecided` KEY-PIN when the file is missing, open to others, empty, or was refused before."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as stream:
            status = os.fstat(descriptor)
            pin = stream.read(MAX_PIN + 1)
    except OSError as error:
        raise pin_refusal(f"the PIN file {path} cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(status.st_mode) or status.st_mode & 0o077 or status.st_uid != os.geteuid():
        raise pin_refusal(f"the PIN file {path} is not a private file of this user", fix=f"chmod 600 {path}")
    if _mark(path).exists() and _mark(path).read_text() == _fingerprint(status):
        raise pin_refusal(f"the token refused the PIN in {path} before; it is not tried again")
    try:
        text = pin.decode().strip()
    except UnicodeDecodeError:
        text = ""
    if not text or len(pin) > MAX_PIN:
        raise pin_refusal(f"the PIN file {path} does not hold a PIN")
    return text


def remember_refusal(path: Path) -> None:
    """Note that the token refused this very file, so that no restart tries it again."""
    with contextlib.suppress(OSError):  # a read-only directory: the refusal still stands in this process
        _mark(path).write_text(_fingerprint(path.stat()))


def pin_refusal(what: str, *, fix: str = "") -> Undecided:
    return Undecided(
        "KEY-PIN",
        what,
        fix=fix
        or "put the right PIN into that file (mode 0600) and start again; one try is made for each change",
    )


def _mark(path: Path) -> Path:
    return path.with_name(path.name + ".refused")


def _fingerprint(status: os.stat_result) -> str:
    """Names this content of the file without saying anything about the PIN."""
    return f"{status.st_ino} {status.st_mtime_ns}"
