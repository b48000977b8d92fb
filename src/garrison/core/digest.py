"""Digests, the manifest of a directory, and the name of a version.

A manifest lists every regular file below a directory with its size, mode and SHA-256. Its digest is
what travels: the same value stands in the release statement, in the approval, at load, in every
request's event and in the auditor's evidence.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from garrison.core.errors import Usage

_SHA256 = re.compile(r"sha256:[0-9a-f]{64}\Z")
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?\Z")
_VERSION = re.compile(r"[0-9]{1,9}\Z")


def canonical_json(value: Any) -> bytes:
    """Bytes that are the same for equal values: sorted keys, no spaces, UTF-8, no NaN (RFC 8785 subset)."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def sha256_bytes(data: bytes) -> str:
    """`sha256:<64 hex>` of bytes already in memory."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def is_digest(text: str) -> bool:
    return _SHA256.match(text) is not None


def short(digest: str) -> str:
    """A digest as people read it: the first and last four hex digits. Never compare by it."""
    hexadecimal = digest.removeprefix("sha256:")
    return f"sha256:{hexadecimal[:4]}…{hexadecimal[-4:]}"


@dataclass(frozen=True, slots=True, order=True)
class FileEntry:
    """One regular file: POSIX path relative to the directory, bytes, permission bits, `sha256:` digest."""

    path: str
    size: int
    mode: int
    digest: str

    def as_json(self) -> dict[str, Any]:
        return {"path": self.path, "size": self.size, "mode": f"{self.mode:04o}", "digest": self.digest}


@dataclass(frozen=True, slots=True)
class Manifest:
    """Every regular file of an artifact, sorted by path."""

    files: tuple[FileEntry, ...]

    @staticmethod
    def of(entries: Iterable[FileEntry]) -> Manifest:
        return Manifest(tuple(sorted(entries)))

    @property
    def digest(self) -> str:
        """SHA-256 over the canonical JSON of the entries: the one digest that travels."""
        return sha256_bytes(canonical_json([entry.as_json() for entry in self.files]))

    @property
    def size(self) -> int:
        return sum(entry.size for entry in self.files)

    def __iter__(self) -> Iterator[FileEntry]:
        return iter(self.files)

    def as_json(self) -> list[dict[str, Any]]:
        return [entry.as_json() for entry in self.files]

    @staticmethod
    def from_json(rows: Iterable[dict[str, Any]]) -> Manifest:
        """Parse `as_json()`. Raises KeyError, TypeError or ValueError on any other shape."""
        entries = []
        for row in rows:
            if set(row) != {"path", "size", "mode", "digest"}:
                raise ValueError(
                    f"a manifest entry has exactly path, size, mode and digest, not {sorted(row)}"
                )
            if not isinstance(row["path"], str) or not isinstance(row["size"], int) or row["size"] < 0:
                raise ValueError("a manifest entry has a string path and a size of at least 0")
            if not isinstance(row["digest"], str) or not is_digest(row["digest"]):
                raise ValueError(f"{row['path']}: not a sha256 digest")
            entries.append(FileEntry(row["path"], row["size"], int(row["mode"], 8), row["digest"]))
        manifest = Manifest.of(entries)
        if len({entry.path for entry in manifest.files}) != len(manifest.files):
            raise ValueError("a manifest lists one path twice")
        return manifest


@dataclass(frozen=True, slots=True)
class Ref:
    """`name@version`: a lower-case name of at most 63 characters and a version that counts up from 1."""

    name: str
    version: int

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"

    @staticmethod
    def parse(text: str) -> Ref:
        """Raises `Usage` REF-SYNTAX when the text is not a name@version."""
        name, at, version = text.partition("@")
        if not at or not _NAME.match(name) or not _VERSION.match(version) or int(version) < 1:
            raise Usage(
                "REF-SYNTAX",
                f"{text!r} is not a NAME@VERSION",
                fix="use a lower-case name (letters, digits, . _ -) and a whole number from 1, such as fraud@3",
            )
        return Ref(name, int(version))


def check_name(name: str) -> str:
    """The name alone, checked. Raises `Usage` REF-SYNTAX."""
    return Ref.parse(f"{name}@1").name
