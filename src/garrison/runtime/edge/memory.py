"""What a device remembers of the bundles it took, so that nothing older comes back.

The memory is a file; its digest is in the token, with the latest time that was ever seen. Whoever changes or
removes the file, or brings an old one back, disagrees with the token. A whole disk put back, token included,
is found by nobody: that needs a hardware token.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from garrison.core.digest import canonical_json
from garrison.core.errors import Refused
from garrison.core.event import format_time, parse_time
from garrison.runtime.edge.bundle import CLOCKS_DIFFER
from garrison.storage.local import write_atomically
from garrison.trust import strict_json
from garrison.trust.tuf import pins as pinning
from garrison.trust.tuf.pins import Pins

TOKEN_LABEL = "garrison-edge"
CLOCK_LABEL = "garrison-edge-clock"
MAX_BYTES = 32 << 20  # a keyring and a hundred thousand withdrawn digests


class DataStore(Protocol):
    """The token's place for small data objects."""

    def put_data(self, label: str, data: bytes, /) -> None: ...
    def get_data(self, label: str, /) -> bytes | None: ...


@dataclass(frozen=True, slots=True)
class Memory:
    """`head` is the SHA-256 of the newest accepted head, `keyring` the number of the newest `trust`, a signed keyring.
    `floors` are the places in the approved list that served, by name."""

    site: str
    sequence: int = 0
    head: str = ""
    keyring: int = 0
    trust: str = ""
    pins: Pins = field(default_factory=Pins)
    revoked: frozenset[str] = frozenset()
    floors: Mapping[str, int] = field(default_factory=dict)
    taken: int = 0

    def as_bytes(self) -> bytes:
        return canonical_json(
            {
                "site": self.site,
                "sequence": self.sequence,
                "head": self.head,
                "keyring": self.keyring,
                "trust": self.trust,
                "pins": self.pins.as_json(),
                "revoked": sorted(self.revoked),
                "floors": dict(self.floors),
                "taken": self.taken,
            }
        )


@dataclass(slots=True)
class MemoryFile:
    """`directory/memory.json`, beside the key of the site."""

    directory: Path
    token: DataStore

    def read(self, site: str) -> Memory:
        """Raises `Refused` EDGE-MEMORY when file and token disagree."""
        known = self.token.get_data(TOKEN_LABEL)
        if known is None:
            return Memory(site)
        for name in ("memory.json", "memory.next"):
            path = self.directory / name
            data = _read(path)
            if hashlib.sha256(data).hexdigest().encode() == known:
                if name == "memory.next":  # a kill came between the token and the last rename
                    path.replace(self.directory / "memory.json")
                return _parsed(data, site)
        raise _disagree("the file is not the one that the token knows of")

    def write(self, memory: Memory) -> None:
        """Durable when this returns; a kill leaves what was known before, or this."""
        data = memory.as_bytes()
        write_atomically(self.directory / "memory.next", data)
        self.token.put_data(TOKEN_LABEL, hashlib.sha256(data).hexdigest().encode())
        (self.directory / "memory.next").replace(self.directory / "memory.json")

    def latest(self) -> datetime:
        """The latest time that this device ever saw."""
        noted = self.token.get_data(CLOCK_LABEL)
        try:
            return parse_time(noted.decode()) if noted else datetime.fromtimestamp(0, UTC)
        except ValueError as error:
            raise _disagree("the time that was seen last cannot be read") from error

    def see(self, now: datetime, every: timedelta = timedelta(0)) -> None:
        """Note that it is at least this late, unless that was noted less than `every` ago: tokens wear out.

        Raises `Refused` EDGE-CLOCK when it was later already.
        """
        latest = self.latest()
        check_clock(now, latest)
        if now > latest + every:
            self.token.put_data(CLOCK_LABEL, format_time(now).encode())


def check_clock(now: datetime, latest: datetime) -> None:
    """Time only goes on: a clock that was set back would make an old bundle fresh again."""
    if now < latest - CLOCKS_DIFFER:
        raise Refused(
            "EDGE-CLOCK",
            f"the clock says {format_time(now)}, and this device has seen {format_time(latest)} already",
            fix="set the clock of this device right",
            evidence={"now": format_time(now), "seen": format_time(latest)},
        )


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except OSError:
        return b""


def _parsed(data: bytes, site: str) -> Memory:
    try:
        names = ("site", "sequence", "head", "keyring", "trust", "pins", "revoked", "floors", "taken")
        fields: dict[str, Any] = strict_json.exactly(strict_json.loads(data, MAX_BYTES), *names)
    except ValueError as error:
        raise _disagree("it cannot be read") from error
    if fields["site"] != site:
        raise _disagree(f"it is of the site {str(fields['site'])[:40]!a}")
    return Memory(
        fields["site"],
        fields["sequence"],
        fields["head"],
        fields["keyring"],
        fields["trust"],
        pinning.from_json(fields["pins"]),
        frozenset(fields["revoked"]),
        fields["floors"],
        fields["taken"],
    )


def _disagree(why: str) -> Refused:
    return Refused(
        "EDGE-MEMORY",
        f"what this device remembers of its bundles does not hold: {why}",
        fix="put the directory edge/ back from the newest backup, or enrol the device anew in another data "
        "directory: garrison edge enrol",
    )
