"""The administrator's file `sources.toml`: which servers ask for a credential, and whose certificate they have.

    [[mlflow]]
    url = "https://mlflow.example.org"
    auth = "bearer"                             # or "basic": the file holds user:password
    token_file = "/etc/garrison/mlflow.token"   # readable by its owner alone
    ca_file = "/etc/garrison/mlflow-ca.pem"     # instead of the system's authorities

A credential is bound to one origin here, so nobody who may import can have it sent to another.
"""

from __future__ import annotations

import os
import stat
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from garrison.core.errors import Refused, Usage

NAME = "sources.toml"
MAX_FILE_BYTES = 256 * 1024  # a few servers
MAX_SECRET_BYTES = 16 * 1024  # the longest access tokens have a few kilobytes
_KEYS = frozenset({"url", "auth", "token_file", "ca_file"})
_TABLES = frozenset({"azure", "mlflow"})
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host and port of a server, and the path below which it answers."""

    scheme: str
    host: str
    port: int
    prefix: str = ""

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == _PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}{self.prefix}"

    @staticmethod
    def parse(url: str) -> Origin:
        """Raises `Usage` LIN-SOURCE for anything but http(s)://HOST[:PORT][/PREFIX]."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        host = parts.hostname or ""
        is_plain = url.isascii() and url.isprintable() and " " not in url and len(url) < 2048
        if not is_plain or parts.scheme not in _PORTS or not host or parts.query or parts.fragment:
            raise Usage(
                "LIN-SOURCE",
                f"{url[:200]!a} is not the address of a tracking server",
                fix="use --tracking-uri http(s)://HOST:PORT",
            )
        if parts.username is not None:
            raise Usage(
                "LIN-SOURCE",
                "the address of the tracking server holds a credential, and addresses are recorded",
                fix=f"put it in a file and name that in {NAME}, as docs/lineage.md shows",
            )
        return Origin(parts.scheme, host.lower(), port or _PORTS[parts.scheme], parts.path.rstrip("/"))


@dataclass(frozen=True, slots=True)
class Access:
    """How one origin is reached: its own certificate authority and the kind and file of its credential."""

    auth: str = ""
    token_file: Path | None = None
    ca_file: Path | None = None

    def secret(self) -> str:
        """The credential, read anew each time so that it can be changed. Raises `Refused` LIN-TOKEN."""
        if self.token_file is None:
            return ""
        return read_secret(self.token_file)


def read_secret(path: Path) -> str:
    """The one line of a file that its owner alone can read. Raises `Refused` LIN-TOKEN."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(descriptor, "rb") as stream:
            status = os.fstat(descriptor)
            text = stream.read(MAX_SECRET_BYTES + 1) if stat.S_ISREG(status.st_mode) else b""
    except OSError as error:
        raise _token(path, f"can't be read: {error.strerror}") from error
    if not stat.S_ISREG(status.st_mode) or status.st_mode & 0o077:
        raise _token(path, "is not a file that its owner alone may read")
    secret = text.strip()
    if (
        not secret
        or len(text) > MAX_SECRET_BYTES
        or not secret.isascii()
        or not secret.decode().isprintable()
    ):
        raise _token(path, "does not hold one line of text")
    return secret.decode()


def access_to(origin: Origin, data: Path) -> Access:
    """What `sources.toml` of the data directory says about an origin. Raises `Refused` LIN-TOKEN."""
    path = data / NAME
    try:
        with path.open("rb") as stream:
            text = stream.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        return Access()
    except OSError as error:
        raise _token(path, f"can't be read: {error.strerror}") from error
    try:
        if len(text) > MAX_FILE_BYTES:
            raise ValueError(f"more than {MAX_FILE_BYTES} bytes")
        document = tomllib.loads(text.decode())
        if unknown := sorted(set(document) - _TABLES):
            raise ValueError(f"only {', '.join(sorted(_TABLES))} are known, not {unknown[0]}")
        for row in [row for table in sorted(_TABLES) for row in document.get(table, [])]:
            if Origin.parse(_text(row, "url")) == origin:
                return _access(row)
    except (ValueError, Usage) as error:
        what = error.what if isinstance(error, Usage) else str(error)
        raise _token(path, f"is not understood: {what}") from error
    return Access()


def _access(row: dict[str, Any]) -> Access:
    if unknown := sorted(row.keys() - _KEYS):
        raise ValueError(f"{unknown[0]} is not one of {', '.join(sorted(_KEYS))}")
    auth = row.get("auth", "bearer")
    if auth not in ("bearer", "basic"):
        raise ValueError("auth is bearer or basic")
    files = [Path(_text(row, key)) if key in row else None for key in ("token_file", "ca_file")]
    return Access(auth, *files)


def _text(row: dict[str, Any], key: str) -> str:
    value = row.get(key)
    if not isinstance(value, str) or not value:
        raise ValueError(f"{key} is missing or no text")
    return value


def _token(path: Path, why: str) -> Refused:
    return Refused("LIN-TOKEN", f"{path} {why}", fix=f"put one line in the file, then: chmod 600 {path}")
