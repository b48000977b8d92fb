"""A data directory that is a device: enrol it, judge a bundle on it, serve from it, write its ledger for home.

The device runs the same server as home does, with one model whose files come out of the bundle. It contacts
nobody. What it accepted last is remembered before a byte is served, and asked again every few seconds: a
bundle that gets stale, or is withdrawn by a notice, ends while it serves.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from garrison.app.house import House
from garrison.core.actions import Action
from garrison.core.decision import Endpoint
from garrison.core.digest import Manifest
from garrison.core.errors import GarrisonError, Refused, Undecided, Usage
from garrison.core.event import Event, Outcome, format_time
from garrison.evidence import carried
from garrison.evidence.checkpoint import read_checkpoint
from garrison.runtime.edge import bundle, device, enrolment
from garrison.runtime.edge.device import Accepted, BundleFiles
from garrison.runtime.edge.enrolment import Device
from garrison.runtime.edge.memory import Memory, MemoryFile
from garrison.runtime.supervisor import ServeSpec
from garrison.storage.local import explained
from garrison.trust.keyring import trusted_root
from garrison.trust.keys.public import public_from_pem
from garrison.trust.verify import Verified

ROOM = "edge"  # in the data directory
WATCH_SECONDS = 2.0
NOTED_EVERY = timedelta(minutes=1)
MAX_TRUST_BYTES = 32 << 20


def origin_of(house: House) -> tuple[str, bytes]:
    """The name of this ledger's tree, and its newest signed head."""
    house.ledger.sign_head()
    try:
        note = (house.settings.data / "witness" / "checkpoint").read_bytes()
    except OSError as error:
        raise explained(error) from error
    return note.split(b"\n", 1)[0].decode(), note


def enrol(house: House, site: str, trust: Path, unlock: Path) -> tuple[Device, dict[str, Any]]:
    """Make this installation a device that believes the root in `trust`. The caller records it.

    Raises `Usage` KEY-PUBLIC, `Refused` EDGE-ENROL for another site than it is, `Undecided` EDGE-UNLOCK.
    """
    room = house.settings.data / ROOM
    with contextlib.suppress(Refused):
        known = enrolment.read_device(room)
        if known.card.site != site:
            raise Usage(
                "EDGE-ENROL",
                f"this data directory is the device {known.card.site} already",
                fix="use another data directory for another site: --data DIR",
            )
    with trust.open("rb") as file:
        root, _ = trusted_root(file.read(MAX_TRUST_BYTES))
    room.mkdir(mode=0o700, exist_ok=True)
    is_new = enrolment.make_secret(unlock)
    origin, _ = origin_of(house)
    ledger = public_from_pem(house.token.signer("ledger").public_pem(), "ledger")
    made = enrolment.enrol(room, site, root, ledger, origin, unlock, house.now())
    facts = {
        "key_id": made.card.key_id,
        "root": root.key_id,
        "unlock": "made" if is_new else "given",
        "unlock_on_same_disk": enrolment.is_on_same_disk(unlock, room),
    }
    return made, facts


@dataclass(frozen=True, slots=True)
class Judged:
    accepted: Accepted
    device: Device
    memory: MemoryFile


def judge(house: House, path: Path) -> Judged:
    """Raises as `runtime.edge.device.judge`, and EDGE-ENROL or EDGE-MEMORY for what the device itself lacks."""
    room = house.settings.data / ROOM
    known = enrolment.read_device(room)
    memory = MemoryFile(room, house.token)
    remembered: Memory = memory.read(known.card.site)
    with bundle.opened(path) as stream:
        accepted = device.judge(
            stream,
            root=known.root,
            memory=remembered,
            site_key=known.card.key_id,
            now=house.now(),
            latest=memory.latest(),
        )
    return Judged(accepted, known, memory)


def remember(house: House, judged: Judged) -> None:
    """From now on nothing older than this bundle, and no earlier time, counts here."""
    judged.memory.see(house.now())
    judged.memory.write(judged.accepted.memory)


def forward(house: House, destination: Path, after: int | None) -> dict[str, Any]:
    """Write the ledger from where home has it, or after a number, up to its newest signed head."""
    known = enrolment.read_device(house.settings.data / ROOM)
    if after is None:
        after = MemoryFile(house.settings.data / ROOM, house.token).read(known.card.site).taken
    _, note = origin_of(house)
    checkpoint = read_checkpoint(note, [known.card.ledger], known.card.origin)
    if after > checkpoint.size:
        raise Usage(
            "EDGE-GAP",
            f"the ledger of this device ends at {checkpoint.size}, before {after}",
            fix="garrison edge forward --out FILE, without --after",
        )
    part = destination.with_name(f".{destination.name}.part")
    try:
        with part.open("xb") as out, house.ledger.read() as connection:
            count = carried.write_carried(
                out.write,
                connection,
                site=known.card.site,
                note=note,
                checkpoint=checkpoint,
                first=after + 1,
            )
            out.flush()
            os.fsync(out.fileno())
        part.replace(destination)
    finally:
        part.unlink(missing_ok=True)
    return {
        "site": known.card.site,
        "path": str(destination),
        "first": after + 1,
        "last": checkpoint.size,
        "events": count,
    }


@dataclass(slots=True)
class EdgeRun:
    """One bundle served by this server (`app/up.py`)."""

    path: Path
    unlock: Path
    judged: Judged | None = None
    endpoint: Endpoint | None = None

    def begin(self, house: House) -> list[str]:
        """Judge, load, remember, serve. Raises what refuses it; then nothing serves and nothing is remembered."""
        raise_loopback()
        try:
            private = enrolment.read_device(house.settings.data / ROOM).open(self.unlock)
            self.judged = judged = judge(house, self.path)
            head = judged.accepted.head
            if head.ref is None:
                raise Usage(
                    "EDGE-NOTICE",
                    "the file is a notice: it withdraws versions and carries none",
                    fix=f"take it in while the device runs: garrison edge accept {self.path}",
                )
            self.endpoint = house.run(house.supervisor.start(self._spec(house, judged, private)))
            remember(house, judged)
        except GarrisonError as error:
            outcome = Outcome.DENIED if isinstance(error, Refused) else Outcome.UNKNOWN
            error.audit_id = house.record(self._event(house, outcome, error.code, error.what[:500]))
            raise
        house.record(self._event(house, Outcome.ALLOWED))
        house.routed[head.ref.name] = {
            "name": head.ref.name,
            "version": head.ref.version,
            "digest": self.endpoint.digest,
            "tier": self.endpoint.tier.value,
            "address": self.endpoint.address,
            "tasks": sorted(self.endpoint.tasks),
        }
        house.endpoints[head.ref] = self.endpoint
        house.publish_snapshot()
        return [
            f"{head.ref} from bundle {head.sequence} of {head.site}, good until {format_time(head.expires)}"
        ]

    async def watch(self, house: House, stop: asyncio.Event, say: Callable[[str], None]) -> None:
        """Ask again and again whether the bundle may still serve; when not, end it and go on without a model.

        It stays ended: only `garrison edge run` judges a bundle again, and no clock that was set back helps there.
        """
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), WATCH_SECONDS)
            if self.endpoint is None:
                continue
            try:
                await asyncio.to_thread(self._still, house)
            except Refused as error:
                await self._end(house, error)
                say(f"  NOT serving any more: {error.code} {error.what}; {error.fix}")
            except (Undecided, OSError):
                continue  # the token is away for a moment: the memory is as it was, the time is asked again

    def _still(self, house: House) -> None:
        assert self.judged is not None  # it serves, so it was judged
        self.judged.memory.see(house.now(), NOTED_EVERY)
        device.check_fresh(self.judged.accepted.head, house.now())
        memory = self.judged.memory.read(self.judged.device.card.site)
        device.refuse_revoked(self.judged.accepted.head, memory)
        device.refuse_signer(self.judged.accepted, memory, self.judged.device.root)

    async def _end(self, house: House, error: Refused) -> None:
        assert self.judged is not None  # it serves, so it was judged
        ref = self.judged.accepted.head.ref
        assert ref is not None  # a notice never serves
        self.endpoint = None
        house.routed.pop(ref.name, None)
        with contextlib.suppress(GarrisonError):  # the server ends whether or not the ledger can be told
            await asyncio.to_thread(house.record, self._event(house, Outcome.DENIED, error.code, error.what))
        try:
            await asyncio.to_thread(house.publish_snapshot)
        finally:
            await house.supervisor.stop(ref)

    def _spec(self, house: House, judged: Judged, private: X25519PrivateKey) -> ServeSpec:
        accepted, settings = judged.accepted, house.settings
        head, stated = accepted.head, accepted.statement
        assert head.ref is not None  # asked before
        assert stated is not None  # as there is a model
        return ServeSpec(
            ref=head.ref,
            tier=stated.tier,
            directory=BundleFiles(self.path, accepted, private),
            verify=self._verifier(house, judged),
            run_directory=settings.run / "models",
            isolation=settings.isolation,
            threads=settings.model_threads,
            memory_share=settings.memory_share,
            scratch=None,  # nothing plain on a disk that can be stolen
        )

    def _verifier(self, house: House, judged: Judged) -> Callable[[Manifest], Verified]:
        verify = device.verifier(judged.accepted)

        def again(found: Manifest) -> Verified:
            """At every start of the server: what was fresh then may be stale now."""
            device.check_fresh(judged.accepted.head, house.now())
            verified = verify(found)
            house.record(
                house.event(
                    Action.ARTIFACT_VERIFY,
                    str(verified.ref),
                    digest=verified.digest,
                    stage="edge",
                    key=verified.key_id,
                )
            )
            return verified

        return again

    def _event(self, house: House, outcome: Outcome, code: str = "", reason: str = "") -> Event:
        head = None if self.judged is None else self.judged.accepted.head
        return house.event(
            Action.EDGE_RUN,
            "bundle" if head is None or head.ref is None else str(head.ref),
            outcome=outcome,
            code=code,
            digest="" if head is None else head.digest,
            sequence=0 if head is None else head.sequence,
            site="" if head is None else head.site,
            expires="" if head is None else format_time(head.expires),
            **({"reason": reason} if reason else {}),
        )


def raise_loopback() -> None:
    """A network namespace of its own begins with its loopback down; bring it up where that is allowed."""
    request, flags_up = struct.pack("16sh14x", b"lo", 0), 0x1
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        flags = struct.unpack_from("h", fcntl.ioctl(control, 0x8913, request), 16)[0]  # SIOCGIFFLAGS
        if not flags & flags_up:
            fcntl.ioctl(control, 0x8914, struct.pack("16sh14x", b"lo", flags | flags_up))  # SIOCSIFFLAGS
