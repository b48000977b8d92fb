"""May this device use that bundle now? Everything but the model's own bytes, which the loader judges.

Pure but for reading the bundle: the time, the memory and the keys are given. In this order: whose signature,
whole, for this site, by a right clock, fresh, not older than what was taken, not withdrawn, approved.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from garrison.core.digest import FileEntry, Manifest
from garrison.core.errors import Refused
from garrison.core.event import format_time
from garrison.runtime.edge import bundle, sealing
from garrison.runtime.edge.bundle import CLOCKS_DIFFER, Head, Opened
from garrison.runtime.edge.memory import Memory, check_clock
from garrison.trust import approvals, dsse, keyring, strict_json
from garrison.trust import statement as statements
from garrison.trust.approved import ApprovedEntry
from garrison.trust.keys.public import PublicKey
from garrison.trust.statement import ReleaseStatement
from garrison.trust.tree import Progress, Sink
from garrison.trust.tuf import entries
from garrison.trust.tuf.check import check
from garrison.trust.tuf.pins import Pins
from garrison.trust.verify import Verified, verify_release

TUF = "tuf/"


@dataclass(frozen=True, slots=True)
class Accepted:
    """A bundle that this device may use until `head.expires`, and what is remembered once it does."""

    opened: Opened
    keys: tuple[PublicKey, ...]
    memory: Memory
    statement: ReleaseStatement | None
    entry: ApprovedEntry | None

    @property
    def head(self) -> Head:
        return self.opened.head


def judge(
    stream: BinaryIO, *, root: PublicKey, memory: Memory, site_key: str, now: datetime, latest: datetime
) -> Accepted:
    """Raises `Refused` EDGE-* for what the bundle or the clock is, KEY-REVOKED, KEY-UNKNOWN, KEY-KEYRING, TUF-*,
    ART-NOT-APPROVED, APP-DIGEST or APP-COUNT for what it carries."""
    known: list[keyring.Keyring] = []
    believed: list[str] = []

    def keys_of(document: bytes) -> Sequence[PublicKey]:
        ring, text = newest_trust(document, memory, root)
        known.append(ring)
        believed.append(text)
        return ring.of_role(keyring.RELEASE)

    opened = bundle.judge(stream, keys_of)
    head, ring = opened.head, known[0]
    _check_site(head, memory, site_key)
    check_clock(now, latest)
    check_fresh(head, now)
    _check_sequence(opened, memory)
    memory = replace(memory, revoked=_revoked(opened))  # all that is withdrawn now; a newer list replaces it
    refuse_revoked(head, memory)
    bundle.check_image(stream, head)
    memory = replace(
        memory,
        sequence=head.sequence,
        head=opened.head_sha256,
        keyring=ring.version,
        trust=believed[0],
        taken=max(memory.taken, head.taken),
    )
    keys = ring.of_role(keyring.RELEASE)
    if head.ref is None:
        return Accepted(opened, keys, memory, None, None)
    stated, _ = statements.open_statement(_paper(opened, bundle.STATEMENT), keys)
    if stated.ref != head.ref or stated.manifest.digest != head.digest:
        raise sealing.damaged(f"its head is of {head.ref} and its statement of {stated.ref}")
    entry, pins = _approved(opened, stated, root, memory)
    floor = memory.floors.get(head.ref.name, 0)
    if entry.counter < floor:
        raise Refused(
            "EDGE-ROLLBACK",
            f"{head.ref} stands at place {entry.counter} of the approved list, and place {floor} served here",
            fix="use the newest bundle; to go back on purpose, approve the older version again at home",
            evidence={"counter": entry.counter, "floor": floor},
        )
    memory = replace(memory, pins=pins, floors={**memory.floors, head.ref.name: entry.counter})
    return Accepted(opened, keys, memory, stated, entry)


def newest_trust(document: bytes, memory: Memory, root: PublicKey) -> tuple[keyring.Keyring, str]:
    """The bundle's keyring, or the newer one that this device knows: a revocation is not undone by an old file."""
    ring = keyring.open_keyring(document, root)
    if memory.trust and ring.version < memory.keyring:
        return keyring.open_keyring(memory.trust.encode(), root), memory.trust
    return ring, document.decode()


def check_fresh(head: Head, now: datetime) -> None:
    """Raises `Refused` EDGE-STALE, and EDGE-CLOCK for a bundle out of the future."""
    if now < head.created - CLOCKS_DIFFER:
        raise Refused(
            "EDGE-CLOCK",
            f"the bundle was built at {format_time(head.created)}, which is later than now, {format_time(now)}",
            fix="set the clock of this device right",
            evidence={"created": format_time(head.created), "now": format_time(now)},
        )
    until = min(head.expires, head.created + bundle.MAX_LIFETIME)
    if now >= until:
        raise Refused(
            "EDGE-STALE",
            f"the bundle was good until {format_time(until)}, and it is {format_time(now)}",
            fix="bring a newer one: garrison edge build NAME@VERSION --site SITE",
            evidence={"until": format_time(until), "now": format_time(now)},
        )


def refuse_revoked(head: Head, memory: Memory) -> None:
    if head.digest and head.digest in memory.revoked:
        raise Refused(
            "EDGE-REVOKED",
            f"{head.ref} was withdrawn, as a newer bundle said",
            fix="use a version that is approved: garrison edge build NAME@VERSION --site SITE",
            evidence={"digest": head.digest},
        )


def refuse_signer(accepted: Accepted, memory: Memory, root: PublicKey) -> None:
    """Whether the newest keyring still lets its signature count. Raises `Refused` KEY-REVOKED, KEY-UNKNOWN."""
    if memory.keyring > accepted.memory.keyring:
        ring = keyring.open_keyring(memory.trust.encode(), root)
        dsse.open_envelope(
            accepted.opened.envelope, ring.of_role(keyring.RELEASE), payload_type=bundle.PAYLOAD_TYPE
        )


def _check_site(head: Head, memory: Memory, site_key: str) -> None:
    if head.site != memory.site or head.site_key != site_key:
        raise Refused(
            "EDGE-SITE",
            f"the bundle is for the site {head.site}, key {head.site_key[:16]}…, and this is {memory.site}, key "
            f"{site_key[:16]}…",
            fix=f"ask for one of your own: garrison edge build NAME@VERSION --site {memory.site}",
            evidence={"bundle": head.site, "device": memory.site},
        )


def _check_sequence(opened: Opened, memory: Memory) -> None:
    head = opened.head
    is_same = head.sequence == memory.sequence and opened.head_sha256 == memory.head
    if head.sequence > memory.sequence or is_same:
        return
    raise Refused(
        "EDGE-ROLLBACK",
        f"the bundle is number {head.sequence} for {head.site}, and number {memory.sequence} was taken already",
        fix="use the newest bundle that came for this site",
        evidence={"found": head.sequence, "taken": memory.sequence},
    )


def _revoked(opened: Opened) -> frozenset[str]:
    try:
        fields = strict_json.exactly(
            strict_json.loads(_paper(opened, bundle.REVOKED), bundle.MAX_PAPERS_BYTES), "digests"
        )
        return frozenset(strict_json.text(digest, 80) for digest in fields["digests"])
    except (ValueError, TypeError) as error:
        raise sealing.damaged("its list of withdrawn versions does not hold") from error


def _approved(
    opened: Opened, stated: ReleaseStatement, root: PublicKey, memory: Memory
) -> tuple[ApprovedEntry, Pins]:
    def read(name: str, limit: int) -> bytes:
        data = _paper(opened, TUF + name)
        if len(data) > limit:
            raise sealing.damaged(f"{name} is longer than it may be")
        return data

    # Its age is not asked: how long the list counts here is what the head says, signed by the release key.
    known = check(read, [root], memory.pins)
    found = entries.find(known, opened.head.environment, stated.ref)
    if found is None:
        raise Refused(
            "ART-NOT-APPROVED",
            f"{stated.ref} is not on the approved list that the bundle carries",
            fix=f"approve it, then build the bundle again: garrison approve {stated.ref}",
            evidence={"digest": stated.manifest.digest},
        )
    is_statement = found.statement == hashlib.sha256(_paper(opened, bundle.STATEMENT)).hexdigest()
    if not is_statement or found.entry.digest != stated.manifest.digest:
        raise Refused(
            "APP-DIGEST",
            f"the approval in the bundle is for other bytes than its {stated.ref}",
            fix=f"approve the version itself: garrison approve {stated.ref}",
            evidence={"digest": stated.manifest.digest, "approved": found.entry.digest},
        )
    if found.threshold < approvals.required(stated.tier):
        raise Refused(
            "APP-COUNT",
            f"{stated.ref} needs {approvals.required(stated.tier)} approvers (tier: {stated.tier.value})",
            fix=f"another person approves it: garrison approve {stated.ref}",
            evidence={"digest": stated.manifest.digest},
        )
    return found.entry, known.pins


def _paper(opened: Opened, name: str) -> bytes:
    try:
        return opened.papers[name]
    except KeyError:
        raise sealing.damaged(f"it carries no {name}") from None


@dataclass(frozen=True, slots=True)
class BundleFiles:
    """The files of a bundle's image as the loader reads them: decrypted into what it holds, never onto a disk."""

    path: Path
    accepted: Accepted
    private: X25519PrivateKey

    @property
    def size(self) -> int:
        return self.accepted.head.image.plain

    def read(self, sink: Sink | None = None, progress: Progress | None = None) -> Manifest:
        """As `trust.tree.read_tree`. Raises `Refused` EDGE-TAMPER, EDGE-TRUNCATED or EDGE-SITE."""
        head, stated = self.accepted.head, self.accepted.statement
        assert stated is not None  # a notice has no files, and nobody loads one
        content_key = sealing.open_key(head.sealed, self.private, head.context)
        with bundle.opened(self.path) as stream:
            if bundle.read_envelope(stream) != self.accepted.opened.envelope:
                raise sealing.damaged("it is another file than the one that was judged")
            stream.seek(bundle.image_at(head))
            chunks = _Pieces(sealing.read_image(stream, content_key, head.image.size, head.image.sha256))
            found = [_read_file(entry, chunks, sink) for entry in stated.manifest]
            chunks.refuse_rest()
        if progress is not None:
            progress(self.size, self.size)
        return Manifest.of(found)


def verifier(accepted: Accepted) -> Callable[[Manifest], Verified]:
    """Judges decrypted files by both signatures and the approval that came along."""

    def verify(found: Manifest) -> Verified:
        return verify_release(
            manifest=found,
            bundle=_paper(accepted.opened, bundle.SIGNATURE),
            statement=_paper(accepted.opened, bundle.STATEMENT),
            keys=accepted.keys,
            expect=accepted.head.ref,
            approved=accepted.entry,
        )

    return verify


class _Pieces:
    """A stream of chunks, read in other lengths."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._left = memoryview(b"")

    def take(self, size: int) -> Iterator[memoryview]:
        while size:
            if not self._left:
                self._left = memoryview(next(self._chunks, b""))
                if not self._left:
                    raise sealing.damaged("its image holds less than the files that were signed")
            piece = self._left[:size]
            self._left = self._left[len(piece) :]
            size -= len(piece)
            yield piece

    def refuse_rest(self) -> None:
        if self._left or any(self._chunks):
            raise sealing.damaged("its image holds more than the files that were signed")


def _read_file(entry: FileEntry, chunks: _Pieces, sink: Sink | None) -> FileEntry:
    writer = sink(entry.path) if sink is not None else None
    hasher = hashlib.sha256()
    try:
        for piece in chunks.take(entry.size):
            hasher.update(piece)
            if writer is not None:
                writer.write(piece)
        digest = f"sha256:{hasher.hexdigest()}"
        if writer is not None:
            writer.commit(digest)
    except BaseException:
        if writer is not None:
            writer.abort()
        raise
    return replace(entry, digest=digest)
