"""Private keys in places where none may be: refused when offered for signing, found when left lying.

A key in a file, a variable or a CI secret can be copied without a trace by everyone who can read the job,
its logs or its backups; a key in a token can only be used. So Garrison signs with a token or not at all.
Nothing here ever returns, logs or quotes the key: findings name the place.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NoReturn

from garrison.core.errors import Refused
from garrison.core.finding import Finding, Severity

MAX_FILE = 64 * 1024  # bytes read of a file; private key files are below 16 KiB
MAX_FILES = 20_000  # files looked at below one directory, then the scan says that it is not complete
MAX_VALUE = 256 * 1024  # characters of one variable; Linux allows no more than 128 KiB each

_PRIVATE = re.compile(rb"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY-----")
_JWK = re.compile(rb'"kty"\s*:\s*"(?:EC|OKP|RSA)"')
_JWK_PRIVATE = re.compile(rb'"d"\s*:\s*"[A-Za-z0-9_-]{40,}"')
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{64,}={0,2}")
_SIGNING_NAME = re.compile(
    r"(?:GARRISON_|COSIGN_|SIGN|SIGSTORE_|HSM_|CA_)[A-Z0-9_]*KEY|PRIVATE_KEY|SIGNING_KEY|SIGNING_PEM",
    re.IGNORECASE,
)
_WHY = "a key in a file, a variable or a CI secret can be copied by everyone who reads the job, its logs or its backups"


def holds_private_key(data: bytes) -> bool:
    """Whether `data` contains a PEM or JWK private key, plain, with escaped newlines or base64-encoded once."""
    if _PRIVATE.search(data) or (_JWK.search(data) and _JWK_PRIVATE.search(data)):
        return True
    for match in _BASE64.finditer(data.replace(b"\r", b"").replace(b"\n", b"")):
        encoded = match.group().rstrip(b"=").translate(bytes.maketrans(b"-_", b"+/"))
        try:
            decoded = base64.b64decode(encoded + b"=" * (-len(encoded) % 4))
        except (binascii.Error, ValueError):
            continue
        if _PRIVATE.search(decoded) or (_JWK.search(decoded) and _JWK_PRIVATE.search(decoded)):
            return True
    return False


def scan_environment(environment: Mapping[str, str]) -> tuple[Finding, ...]:
    """Variables that hold a private key, point to one, or are set to offer a signing key.

    CI systems hand their secrets over as variables (masked or of type file), so they are covered too.
    """
    found = []
    for name, value in sorted(environment.items()):
        data = os.fsencode(value[:MAX_VALUE])
        if holds_private_key(data):
            found.append(_finding("variable", f"the variable {name} holds a private key", f"env:{name}"))
        elif not value or not _SIGNING_NAME.search(name):
            continue
        elif _file_holds_private_key(Path(value)):
            found.append(_finding("path", f"the variable {name} points to a private key file", f"env:{name}"))
        elif name.upper().startswith("GARRISON_"):
            found.append(_finding("variable", f"the variable {name} offers a signing key", f"env:{name}"))
    return tuple(found)


def scan_dotenv(path: Path) -> tuple[Finding, ...]:
    """The same for a `.env` file; a missing one has no findings."""
    data = _read(path)
    if data is None:
        return ()
    found = []
    if holds_private_key(data):
        found.append(_finding("dotenv", f"{path} holds a private key", str(path)))
    for line in data.decode(errors="replace").splitlines():
        name, separator, value = line.strip().removeprefix("export ").partition("=")
        if separator and scan_environment({name.strip(): value.strip().strip("'\"")}) and not found:
            found.append(_finding("dotenv", f"{path} offers a signing key in {name.strip()[:64]}", str(path)))
    return tuple(found)


def scan_directory(root: Path) -> tuple[Finding, ...]:
    """Private key files below `root`, which is usually the data directory. Follows no links."""
    found = []
    for count, path in enumerate(_files(root)):
        if count >= MAX_FILES:
            found.append(
                Finding(
                    "key.stray.incomplete",
                    Severity.MEDIUM,
                    f"more than {MAX_FILES} files below {root}; the rest was not searched for private keys",
                    str(root),
                    "move what does not belong there to another place",
                )
            )
            break
        if _file_holds_private_key(path):
            found.append(
                _finding("file", f"{path.relative_to(root)} holds a private key", str(path.relative_to(root)))
            )
    return tuple(found)


def refuse_offered_keys(environment: Mapping[str, str], directory: Path) -> None:
    """Called before anything is signed. Raises `Refused` KEY-ENV when the environment or `directory/.env`
    offers a private key; the findings name the places."""
    findings = (*scan_environment(environment), *scan_dotenv(directory / ".env"))
    if findings:
        _refuse(f"{findings[0].message}, and {_WHY}", findings)


def refuse_key_file(path: str | Path) -> NoReturn:
    """For every door where people try to hand over a key file. Raises `Refused` KEY-ENV."""
    finding = _finding("path", "a private key file was offered for signing", str(path))
    _refuse(f"{path} was offered as a signing key, and {_WHY}", (finding,))


def _refuse(what: str, findings: tuple[Finding, ...]) -> NoReturn:
    raise Refused(
        "KEY-ENV",
        what,
        fix="remove it, treat that key as leaked, and sign with a key made in the token: garrison key create NAME",
        findings=findings,
    )


def _finding(kind: str, message: str, where: str) -> Finding:
    return Finding(
        f"key.stray.{kind}",
        Severity.HIGH,
        message,
        where,
        "remove it and treat that key as leaked; keys are made in the token: garrison key create",
    )


def _files(root: Path) -> Iterator[Path]:
    for parent, directories, files in os.walk(root, followlinks=False):
        directories.sort()
        for name in sorted(files):
            yield Path(parent) / name


def _file_holds_private_key(path: Path) -> bool:
    data = _read(path)
    return data is not None and holds_private_key(data)


def _read(path: Path) -> bytes | None:
    """The first `MAX_FILE` bytes of a regular file, or None. Never waits on a FIFO or a device."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as stream:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return None
            return stream.read(MAX_FILE)
    except (OSError, ValueError):  # ValueError: a value with a NUL byte is no path
        return None
