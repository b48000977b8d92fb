"""What was seen last, kept where an old copy of the files cannot reach: in the token and in the ledger."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from garrison.core.digest import canonical_json
from garrison.core.errors import Refused
from garrison.trust import strict_json

MAX_BYTES = 4096  # a data object of the token


@dataclass(frozen=True, slots=True)
class Pins:
    """The highest versions that were accepted, and the SHA-256 of the two files that name all others."""

    root: int = 0
    timestamp: int = 0
    timestamp_sha256: str = ""
    snapshot: int = 0
    files: dict[str, int] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {
            "root": self.root,
            "timestamp": self.timestamp,
            "timestamp_sha256": self.timestamp_sha256,
            "snapshot": self.snapshot,
            "files": self.files,
        }

    def as_bytes(self) -> bytes:
        return canonical_json(self.as_json())


def parse(data: bytes) -> Pins:
    """Raises `Refused` TUF-PINS for anything but what `as_bytes` wrote."""
    try:
        return from_json(strict_json.loads(data, MAX_BYTES))
    except (ValueError, TypeError, KeyError, json.JSONDecodeError) as error:
        raise Refused(
            "TUF-PINS",
            "the token's note about the approved list cannot be read",
            fix="put keys/token back from the newest backup, together with the rest of the data directory",
        ) from error


def from_json(value: Any) -> Pins:
    """Raises ValueError, TypeError or KeyError."""
    fields = strict_json.exactly(value, "root", "timestamp", "timestamp_sha256", "snapshot", "files")
    numbers = [fields["root"], fields["timestamp"], fields["snapshot"], *fields["files"].values()]
    if any(type(number) is not int or number < 0 for number in numbers):
        raise ValueError("a version is not a whole number")
    return Pins(
        fields["root"],
        fields["timestamp"],
        strict_json.text(fields["timestamp_sha256"], 64),
        fields["snapshot"],
        dict(fields["files"]),
    )


def highest(one: Pins, other: Pins) -> Pins:
    """The later of two notes about one list."""
    return max(one, other, key=lambda pins: pins.timestamp)
