"""Where a version lies in an OCI registry, and the credentials for it, which come from a file alone."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from garrison.artifacts.oci.descriptor import is_digest
from garrison.core.errors import Usage

MAX_FILE = 1 << 20  # bytes of a credentials file
_REPOSITORY = re.compile(r"[a-z0-9]+(?:[._/-]{1,2}[a-z0-9]+)*\Z")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}\Z")


@dataclass(frozen=True, slots=True)
class Address:
    """`oci://host[:port]/repository[:tag][@sha256:…]`."""

    host: str
    port: int
    repository: str
    tag: str
    digest: str

    @property
    def origin(self) -> str:
        return f"{self.host}:{self.port}" if self.port else self.host

    def __str__(self) -> str:
        ending = f"@{self.digest}" if self.digest else f":{self.tag}" if self.tag else ""
        return f"oci://{self.origin}/{self.repository}{ending}"


@dataclass(frozen=True, slots=True)
class Access:
    """How to reach a registry. `credentials` is user:password or a bearer token, never shown."""

    plain_http: bool = False
    ca: Path | None = None
    basic: str = ""
    bearer: str = ""

    def __repr__(self) -> str:
        return f"Access(plain_http={self.plain_http})"


def parse_address(text: str) -> Address:
    """Raises `Usage` IMG-ADDRESS."""
    rest = text.removeprefix("oci://")
    origin, slash, path = rest.partition("/")
    path, _, digest = path.partition("@")
    repository, colon, tag = path.rpartition(":")
    if not colon:
        repository, tag = path, ""
    split = urlsplit(f"//{origin}")
    try:
        host, port = split.hostname or "", split.port or 0
    except ValueError:
        host, port = "", 0
    is_whole = text.startswith("oci://") and slash and host and "@" not in origin and len(text) < 512
    if not is_whole or not _REPOSITORY.match(repository) or (tag and not _TAG.match(tag)):
        raise Usage(
            "IMG-ADDRESS",
            f"{text[:100]!a} is not an address in a registry",
            fix="give oci://HOST[:PORT]/REPOSITORY[:TAG] or …@sha256:DIGEST, without a password in it",
        )
    if digest and not is_digest(digest):
        raise Usage("IMG-ADDRESS", f"{digest[:80]!a} is not a digest", fix="give all of sha256:<64 hex>")
    return Address(host, port, repository, tag, digest)


def credentials(path: Path | None, origin: str) -> tuple[str, str]:
    """(basic, bearer) for a registry, from docker's config.json or a file with a token alone.

    Raises `Usage` IMG-AUTH.
    """
    if path is None:
        return "", ""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE)
    except OSError as error:
        raise Usage(
            "IMG-AUTH",
            f"cannot read {path}: {error.strerror}",
            fix="name docker's config.json or a token file",
        ) from error
    try:
        entry = json.loads(data)["auths"].get(origin, {})
        pair = base64.b64decode(entry.get("auth", ""), validate=True).decode()
        return (pair if ":" in pair else ""), str(entry.get("registrytoken", ""))
    except (ValueError, KeyError, TypeError, AttributeError):
        token = data.decode("ascii", "replace").strip()
        if not token or not token.isprintable() or " " in token:
            raise Usage(
                "IMG-AUTH",
                f"{path} holds neither credentials for {origin} nor a token",
                fix=f"docker login {origin} writes it; a password is never an argument",
            ) from None
        return "", token
