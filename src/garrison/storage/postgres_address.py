"""The address of a PostgreSQL database: what it may say, and that it never carries a password."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from garrison.core.errors import Refused, Usage

DEFAULT_PORT = 5432
MAX_ADDRESS = 2_000  # characters
FILES = ("sslrootcert", "sslcert", "sslkey")
FORM = "postgresql://USER@HOST:PORT/NAME, or postgresql://USER@/NAME?host=/DIRECTORY for a socket"
_HOST = re.compile(r"[A-Za-z0-9._:-]{1,255}\Z")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.$-]{0,62}\Z")


@dataclass(frozen=True, slots=True)
class Address:
    """Where the database is. `host` is a directory with a Unix socket, or the name in a certificate."""

    text: str
    user: str
    host: str
    port: int
    name: str
    tls: tuple[tuple[str, str], ...] = ()

    @property
    def is_socket(self) -> bool:
        return self.host.startswith("/")

    @property
    def place(self) -> str:
        """As a sentence names it."""
        return f"{self.name} at {self.host}:{self.port}"


def parse(text: str) -> Address:
    """Raises `Usage` DB-ADDRESS, and `Refused` DB-TLS for a host that would be reached without verified TLS."""
    if len(text) > MAX_ADDRESS or not text.isprintable():
        raise _malformed("it is too long or holds characters that cannot be shown")
    try:
        parts = urlsplit(text)
        asked = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
        port = parts.port or int(asked.pop("port", DEFAULT_PORT))
        user, name = unquote(parts.username or ""), unquote(parts.path.removeprefix("/"))
    except ValueError:
        raise _malformed("it is no address") from None
    if parts.scheme not in ("postgresql", "postgres"):
        raise _malformed("it does not begin with postgresql://")
    if parts.password is not None or "password" in asked:
        raise _malformed("it holds a password; put it into a file of its own (database_passfile)")
    if not _NAME.match(user) or not _NAME.match(name):
        raise _malformed("it names no user or no database")
    host = (parts.hostname or "") or asked.pop("host", "")
    mode = asked.pop("sslmode", "")
    tls = tuple((key, asked.pop(key)) for key in FILES if key in asked)
    if asked or parts.fragment:
        raise _malformed(f"it says {', '.join(sorted(asked)) or parts.fragment}, which has no meaning here")
    found = Address(text, user, host, port, name, tls)
    if found.is_socket:
        if mode or tls:
            raise _malformed("TLS is not spoken over a socket")
        return found
    if not _HOST.match(host):
        raise _malformed("it names no host, more than one, or a socket directory that is not absolute")
    if mode not in ("", "verify-full"):
        raise Refused(
            "DB-TLS",
            f"{host} would be reached with sslmode={mode}, which anybody on the way could answer",
            fix="take sslmode away (it is verify-full) and name the authority with sslrootcert=/PATH",
            evidence={"sslmode": mode},
        )
    for key, value in tls:
        if not Path(value).is_absolute() and value != "system":
            raise _malformed(f"{key} is not an absolute path")
    return found


def _malformed(why: str) -> Usage:
    return Usage("DB-ADDRESS", f"the address of the database cannot be used: {why}", fix=f"write {FORM}")
