"""A secret that lies in a file which only this user reads: read when it is needed, never passed on by argument."""

from __future__ import annotations

import os
import stat

MAX_SECRET = 8_192  # bytes: the longest is a session token of a cloud


def read_secret(path: str) -> str:
    """The one line in the file. Raises ValueError, which says what is wrong with the file and not what is in it."""
    try:
        with open(path, "rb", opener=_no_link) as file:
            check_private(os.fstat(file.fileno()))
            text = file.read(MAX_SECRET + 1).strip()
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    if not text or len(text) > MAX_SECRET or not text.isascii() or b"\n" in text:
        raise ValueError("does not hold one line of text")
    return text.decode("ascii")


def read_secret_pem(path: str, most: int) -> str:
    """A private key in PEM with its certificates. Raises ValueError as `read_secret` does."""
    try:
        with open(path, "rb", opener=_no_link) as file:
            check_private(os.fstat(file.fileno()))
            text = file.read(most + 1)
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    if len(text) > most or not text.isascii():
        raise ValueError(f"does not hold PEM of at most {most} bytes")
    return text.decode("ascii")


def check_private(found: os.stat_result) -> None:
    """Raises ValueError when somebody else could read or change the file."""
    if not stat.S_ISREG(found.st_mode) or found.st_mode & 0o077 or found.st_uid not in (0, os.getuid()):
        raise ValueError("is not a file that only this user reads")


def _no_link(path: str, flags: int) -> int:
    # Not waiting for the other end of a pipe: what is no plain file is refused.
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
