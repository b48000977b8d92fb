"""The approved list of this data directory: read and judged at every decision, replaced in one step.

    tuf/metadata/   root.json, timestamp.json, N.root.json, N.snapshot.json, N.targets.json, N.production-2.json
    tuf/targets/    the signed release statements, which any TUF client fetches by the list

The files are signed and lie outside the database. What a change is, the ledger tells in the same transaction:
the new files are written before it, `timestamp.json` is replaced after it, and a start completes what a kill
cut short in between. The numbers and digests seen last are in the ledger and in the token, so that no old copy
of the files, of the database or of both is taken for the list.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

from garrison.core.actions import Action
from garrison.core.errors import GarrisonError, Refused, Undecided
from garrison.core.event import Event, Outcome
from garrison.evidence import store as events
from garrison.evidence.ledger import Ledger, Transaction
from garrison.evidence.told import told_last
from garrison.storage.local import full_disk_explained, sync_directory, write_atomically
from garrison.trust.keys.base import Signer
from garrison.trust.keys.public import PublicKey, public_from_pem
from garrison.trust.tuf import pins as pinning
from garrison.trust.tuf import shape
from garrison.trust.tuf.build import Built, Draft, ServerKeys, build, empty, is_refresh_due
from garrison.trust.tuf.check import RESTORE, ApprovedList, check
from garrison.trust.tuf.pins import Pins

TOKEN_LABEL = "garrison-approved-list"
ACTOR = "service:garrison"
KEPT_VERSIONS = 8  # a client that began with an older timestamp still finds its snapshot


class PinStore(Protocol):
    """The token's place for small data objects."""

    def put_data(self, label: str, data: bytes, /) -> None: ...
    def get_data(self, label: str, /) -> bytes | None: ...


@dataclass(slots=True)
class Change:
    """One change while it is made: `write` inside the ledger's transaction, once."""

    versions: ApprovedVersions
    built: Built | None = None

    def write(
        self, transaction: Transaction, draft: Draft, why: str, targets: Mapping[str, bytes] | None = None
    ) -> str:
        """Sign and lay down the next list and tell the ledger of it; returns that event's audit id."""
        self.built = self.versions.lay_down(draft, targets or {})
        event = Event(
            time=self.versions.now(),
            action=Action.APPROVALS_PUBLISH,
            actor=ACTOR,
            resource="approvals",
            outcome=Outcome.ALLOWED,
            data={"why": why, "list": self.built.pins.as_json()},
        )
        return transaction.append(event)


@dataclass(slots=True)
class ApprovedVersions:
    """Made once by the wiring; safe to use from several threads."""

    directory: Path
    ledger: Ledger
    pin_store: PinStore
    keys: ServerKeys
    environment: str
    now: Callable[[], datetime]
    former: Sequence[PublicKey] = ()
    repaired: list[str] = field(default_factory=list)
    _writing: threading.RLock = field(default_factory=threading.RLock)
    _pins: Pins = field(default_factory=Pins)
    _known: ApprovedList | None = None

    def open(self) -> None:
        """Learn what was in force, complete a change that a kill cut short. Judges nothing yet."""
        with self._writing:
            (self.directory / "metadata").mkdir(mode=0o755, parents=True, exist_ok=True)
            told = self._told()
            noted = self.pin_store.get_data(TOKEN_LABEL)
            self._pins = told if noted is None else pinning.highest(pinning.parse(noted), told)
            if told == self._pins and self._complete(told):
                self.repaired.append(
                    "completed the approved list, whose newest change was cut short or undone"
                )
            if told == self._pins and noted != told.as_bytes() and told.timestamp:
                self.pin_store.put_data(TOKEN_LABEL, told.as_bytes())

    def is_new(self) -> bool:
        """Whether there never was a list: neither ledger nor token knows of one."""
        return self._pins.timestamp == 0

    def current(self) -> ApprovedList:
        """The list in force, verified. Raises `Refused` TUF-* when it is not what was in force."""
        with self._writing:
            if self.is_new():
                return empty(self._pins, (self.environment,), self.now())
            data = self._read("timestamp.json", shape.MAX_TIMESTAMP)
            if self._known is None or hashlib.sha256(data).hexdigest() != self._known.pins.timestamp_sha256:
                self._known = None
                self._known = check(self._read, self._anchors(), self._pins)
            return self._known

    @contextmanager
    def changing(self) -> Iterator[Change]:
        """Hold the list for a change; what was written in it is in force when this returns."""
        with self._writing:
            change = Change(self)
            yield change
            if change.built is not None:
                self._put_in_force(change.built.pins)

    def refresh(self, *, only_if_due: bool = True) -> bool:
        """Sign the list's age anew; nothing in it changes. Not while the ledger has a problem."""
        with self._writing:
            if self.is_new() or self.ledger.state().problem:
                return False
            if only_if_due and self._known is not None and not is_refresh_due(self._known, self.now()):
                return False
            if only_if_due and not is_refresh_due(self.current(), self.now()):
                return False
            with self.changing() as change, self.ledger.transaction() as transaction:
                change.write(transaction, Draft(), "refreshed")
            return True

    def sign_with(self, timestamp: Signer) -> bool:
        """Let another key vouch for the list's age, and sign it anew when that is not the one in force.

        A list that is not the one in force is refused by every decision already: then the next one is by this key.
        """
        with self._writing:
            self.keys = replace(self.keys, timestamp=timestamp)
            try:
                if self.is_new() or timestamp.key_id in self.current().timestamp_keys:
                    return False
            except Refused:
                return False
            return self.refresh(only_if_due=False)

    def reset(self, transaction: Transaction, change: Change, why: str) -> str:
        """Begin anew with nothing approved, above every number that was seen."""
        self._known = empty(self._pins, self._environments(), self.now())
        return change.write(transaction, Draft(environments=self._known.environments), why)

    def lay_down(self, draft: Draft, targets: Mapping[str, bytes]) -> Built:
        """Write the files of the next list beside those in force, which nothing refers to yet."""
        before = self._known if self._known is not None and not self._known.meta else self.current()
        built = build(before, draft, self.keys, self.now())
        metadata = self.directory / "metadata"
        with full_disk_explained():
            for path, data in targets.items():
                place = self.directory / "targets" / path
                place.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
                name = f"{hashlib.sha256(data).hexdigest()}.{place.name}"
                write_atomically(place.with_name(name), data, mode=0o644)
            for name, data in built.files.items():
                if name == "timestamp.json":
                    name = f"{built.pins.timestamp}.timestamp.json"
                if name != "root.json":
                    write_atomically(metadata / name, data, mode=0o644)
            sync_directory(metadata)
        return built

    def expires_in(self) -> timedelta:
        return self.current().fresh_until - self.now()

    def _put_in_force(self, pins: Pins) -> None:
        self._pins, self._known = pins, None
        self._complete(pins)
        with contextlib.suppress(
            Undecided
        ):  # the token is away: the ledger has it, the next change writes it
            self.pin_store.put_data(TOKEN_LABEL, pins.as_bytes())
        self._prune(pins)

    def _complete(self, pins: Pins) -> bool:
        """Make the list that the ledger tells of the one that clients see; True when it was not yet."""
        metadata = self.directory / "metadata"
        waiting = metadata / f"{pins.timestamp}.timestamp.json"
        if not pins.timestamp or not waiting.is_file():
            return False
        data = self._read(waiting.name, shape.MAX_TIMESTAMP)
        if hashlib.sha256(data).hexdigest() != pins.timestamp_sha256:
            return False
        with full_disk_explained():
            root = self._read(f"{pins.root}.root.json", shape.MAX_ROOT)
            is_root_behind = (
                not (metadata / "root.json").is_file() or (metadata / "root.json").read_bytes() != root
            )
            if is_root_behind:
                write_atomically(metadata / "root.json", root, mode=0o644)
            is_behind = (
                not (metadata / "timestamp.json").is_file()
                or (metadata / "timestamp.json").read_bytes() != data
            )
            if is_behind:
                write_atomically(metadata / "timestamp.json", data, mode=0o644)
                sync_directory(metadata)
        return is_behind or is_root_behind

    def _prune(self, pins: Pins) -> None:
        """Forget versions that no client is in the middle of; every root stays, to be followed."""
        latest = {**pins.files, "snapshot": pins.snapshot, "timestamp": pins.timestamp}
        for path in (self.directory / "metadata").iterdir():
            version, _, rest = path.name.partition(".")
            name = rest.removesuffix(".json")
            if version.isdecimal() and name in latest and int(version) <= latest[name] - KEPT_VERSIONS:
                path.unlink(missing_ok=True)

    def _anchors(self) -> list[PublicKey]:
        return [public_from_pem(self.keys.root.public_pem(), "root"), *self.former]

    def _environments(self) -> tuple[str, ...]:
        try:
            return self.current().environments
        except GarrisonError:
            return (self.environment,)

    def _told(self) -> Pins:
        wanted = events.Filter(action=Action.APPROVALS_PUBLISH.value, outcome=Outcome.ALLOWED.value, limit=1)
        with self.ledger.read() as connection:
            found = told_last(connection, wanted)
        return pinning.from_json(found[0].event.data["list"]) if found else Pins()

    def _read(self, name: str, limit: int) -> bytes:
        path = self.directory / "metadata" / name
        try:
            with path.open("rb") as file:
                data = file.read(limit + 1)
        except OSError as error:
            raise Refused(
                "TUF-MISSING",
                f"{path} of the approved list is not there: {error.strerror}",
                fix=RESTORE,
                evidence={"file": name},
            ) from error
        if len(data) > limit:
            raise Refused(
                "TUF-LENGTH",
                f"{path} is longer than the {limit:,} bytes that it may have",
                fix=RESTORE,
                evidence={"file": name, "limit": limit},
            )
        return data
