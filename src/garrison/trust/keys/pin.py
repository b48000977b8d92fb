"""The PIN of a token: read from a private file or a systemd credential, tried once, never again once refused.

It never stands in an argument, a variable of the environment, a log or an exception. A refused PIN is
remembered, so that a service that restarts in a loop cannot lock the token.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path

from garrison.core.errors import Undecided, Usage

MAX_PIN = 255  # bytes; PKCS#11 tokens allow far less
CREDENTIALS = "CREDENTIALS_DIRECTORY"  # systemd.exec(5): where a service finds its credentials

_SCRYPT = {"n": 2**14, "r": 8, "p": 1}  # 16 MiB and 50 ms: paid once a start, and by whoever guesses


@dataclass(frozen=True, slots=True)
class Pin:
    """Where a PIN lies, and where its refusal is noted.

    A credential is laid out anew at each start of its service, so it is known again by a slow hash of its
    content; a file by its inode and time, which say nothing about the PIN at all.
    """

    path: Path
    mark: Path
    is_credential: bool = False


def pin_file(path: Path, mark: Path | None = None) -> Pin:
    """A private file; its refusal is noted beside it unless another place is given."""
    return Pin(path, mark or path.with_name(path.name + ".refused"))


def pin_credential(name: str, mark: Path) -> Pin:
    """A systemd credential of this service. Raises `Undecided` KEY-PIN when there are none."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", name):
        raise Usage(
            "KEY-PIN", "that is not the name of a credential", fix="LoadCredential=NAME:PATH names it"
        )
    directory = os.environ.get(CREDENTIALS)
    if not directory:
        raise pin_refusal(
            f"the PIN is the systemd credential {name}, and this process was given none",
            fix=f"start the service with LoadCredential={name}:PATH or LoadCredentialEncrypted={name}:PATH",
        )
    return Pin(Path(directory) / name, mark, is_credential=True)


def read_pin(pin: Pin) -> str:
    """Raises `Undecided` KEY-PIN when the file is missing, open to others, empty, or was refused before."""
    content, status = _read(pin)
    if not _is_private(pin, status):
        raise pin_refusal(
            f"the PIN file {pin.path} is not a private file of this user", fix=f"chmod 600 {pin.path}"
        )
    if _was_refused(pin, status, content):
        raise pin_refusal(
            f"the token refused the PIN in {pin.path} before; it is not tried again",
            fix=f"put the right PIN there, or remove {pin.mark} if the token's own PIN was set to this one",
        )
    return _text(content, str(pin.path))


def parse_pin(content: bytes) -> str:
    """A PIN that came through a file descriptor or a prompt. Raises `Undecided` KEY-PIN when it is none."""
    return _text(content, "what was given")


def remember_refusal(pin: Pin) -> None:
    """Note that the token refused this very PIN, so that no restart tries it again."""
    with contextlib.suppress(OSError, Undecided):  # a full disk: the refusal still stands in this process
        content, status = _read(pin)
        text = _fingerprint(pin, status, content, secrets.token_hex(16))
        descriptor = os.open(pin.mark, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(descriptor)


def pin_refusal(what: str, *, fix: str = "") -> Undecided:
    return Undecided(
        "KEY-PIN",
        what,
        fix=fix
        or "put the right PIN into that file (mode 0600) and start again; one try is made for each change",
    )


def _read(pin: Pin) -> tuple[bytes, os.stat_result]:
    try:
        descriptor = os.open(pin.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as stream:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise pin_refusal(f"the PIN file {pin.path} is not a file")
            return stream.read(MAX_PIN + 1), status
    except OSError as error:
        raise pin_refusal(f"the PIN file {pin.path} cannot be read: {error.strerror}") from error


def _is_private(pin: Pin, status: os.stat_result) -> bool:
    if pin.is_credential:  # systemd gives access by an ACL, which shows as bits of the group
        return not status.st_mode & 0o027 and status.st_uid in (0, os.geteuid())
    return not status.st_mode & 0o077 and status.st_uid == os.geteuid()


def _was_refused(pin: Pin, status: os.stat_result, content: bytes) -> bool:
    try:
        noted = pin.mark.read_text()
    except OSError:
        return False
    return noted == _fingerprint(pin, status, content, noted.partition(" ")[0])


def _fingerprint(pin: Pin, status: os.stat_result, content: bytes, salt: str) -> str:
    if not pin.is_credential:
        return f"{status.st_ino} {status.st_mtime_ns}"
    return f"{salt} {hashlib.scrypt(content, salt=salt.encode(), **_SCRYPT).hex()}"


def _text(content: bytes, where: str) -> str:
    try:
        text = content.decode().strip()
    except UnicodeDecodeError:
        text = ""
    if not text or len(content) > MAX_PIN or not text.isprintable():
        raise pin_refusal(f"{where} does not hold a PIN")
    return text
