"""Edge sites seen from home: who they are, what was built for them, and how far their events have come.

There is no table of sites: all of it is a fold over the ledger, so that an edited row cannot have weights
sealed to somebody else's key.
"""

from __future__ import annotations

import itertools
import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, BinaryIO

import sqlalchemy as sa

from garrison.app.house import House
from garrison.app.verbs.base import Call, event_of
from garrison.artifacts import approval, at_rest, store
from garrison.artifacts.registry import get, signed_facts
from garrison.artifacts.store import Release
from garrison.core.actions import Action
from garrison.core.digest import Ref, canonical_json
from garrison.core.errors import Refused, Undecided, Usage
from garrison.core.event import Event, Outcome, format_time
from garrison.evidence import carried
from garrison.evidence.merkle import Frontier
from garrison.evidence.record import audit_id
from garrison.evidence.store import Filter
from garrison.evidence.told import told, told_last
from garrison.runtime.edge import bundle, device
from garrison.runtime.edge.enrolment import SiteCard, parse_card
from garrison.trust import approved
from garrison.trust.keyring import KEYRING_FILE
from garrison.trust.tuf.check import check
from garrison.trust.tuf.pins import Pins

ADDED, ROTATED, REMOVED = "added", "rotated", "removed"
READ_BYTES = 1 << 20
MIN_LIFETIME = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Site:
    """A device as the ledger tells of it. `taken` counts its events that are here."""

    card: SiteCard
    sequence: int
    built: str
    taken: Frontier
    since: str

    def as_json(self) -> dict[str, Any]:
        return {
            "site": self.card.site,
            "key_id": self.card.key_id,
            "since": self.since,
            "sequence": self.sequence,
            "built": self.built,
            "events": self.taken.size,
        }


def sites(connection: sa.Connection) -> dict[str, Site]:
    """Every device that is entered, by name. Raises `Refused` AUD-EDITED for a record that is not genuine."""
    cards: dict[str, tuple[SiteCard, str]] = {}
    for record in told(connection, Filter(action=Action.EDGE_SITE.value, outcome=Outcome.ALLOWED.value)):
        name = record.event.resource
        if record.event.data["change"] == REMOVED:
            cards.pop(name, None)
        else:
            cards[name] = (parse_card(record.event.data["card"]), format_time(record.event.time))
    return {name: _site(connection, card, since) for name, (card, since) in cards.items()}


def site_named(connection: sa.Connection, name: str) -> Site:
    found = sites(connection).get(name)
    if found is None:
        raise Refused(
            "EDGE-UNKNOWN",
            f"there is no site {name[:40]!a}",
            fix="garrison edge site list shows them; enter one: garrison edge site add FILE",
        )
    return found


def change_site(house: House, call: Call, card: SiteCard, change: str) -> str:
    """Enter a device, or another key of one that is entered. Raises `Refused` EDGE-KNOWN, EDGE-UNKNOWN."""
    with house.ledger.transaction() as transaction:
        known = sites(transaction.connection)
        if change == ADDED and card.site in known:
            raise Refused(
                "EDGE-KNOWN",
                f"{card.site} is entered already, with key {known[card.site].card.key_id[:16]}…",
                fix=f"when the device has a new key on purpose: garrison edge site rotate {card.site}.site",
            )
        if change != ADDED:
            before = site_named(transaction.connection, card.site)
            if change == ROTATED and before.card.ledger.key_id != card.ledger.key_id:
                raise Refused(
                    "EDGE-KNOWN",
                    f"the card is of another installation than the {card.site} that is entered: its ledger has "
                    "another key",
                    fix=f"if the device was set up anew: garrison edge site remove {card.site}, then add its card",
                )
        facts: dict[str, Any] = {"change": change, "card": card.as_json(), "key_id": card.key_id}
        return transaction.append(event_of(house, call, Action.EDGE_SITE, card.site, **facts))


@dataclass(frozen=True, slots=True)
class Wish:
    """What to build: a version or a notice, for whom, for how long, where to."""

    site: str
    ref: Ref | None
    lifetime: timedelta
    destination: Path


def build(house: House, call: Call, wish: Wish) -> dict[str, Any]:
    """Verify, seal, sign, record. Raises `Usage` EDGE-EXPIRES; `Refused` EDGE-UNKNOWN, and as a deployment does."""
    if not MIN_LIFETIME <= wish.lifetime <= bundle.MAX_LIFETIME:
        raise Usage(
            "EDGE-EXPIRES",
            f"a bundle is good for a minute to {bundle.MAX_LIFETIME.days} days",
            fix="--expires 30d",
        )
    if wish.destination.exists():
        raise Usage("PATH-FILE", f"{wish.destination} exists already", fix="name a new file with --out")
    part = wish.destination.with_name(f".{wish.destination.name}.part")
    with house.deploying:
        try:
            part.unlink(missing_ok=True)
            with house.ledger.read() as connection:
                site = site_named(connection, wish.site)
                papers = {bundle.REVOKED: canonical_json({"digests": _withdrawn(house, connection)})}
            papers[bundle.KEYRING] = (house.settings.data / KEYRING_FILE).read_bytes()
            release = None if wish.ref is None else _admitted(house, call, wish.ref, papers)
            head, envelope = bundle.write(part, _draft(house, wish, site, release, papers), house.release_key)
            identifier = _record(house, call, site, head, envelope)
            part.replace(wish.destination)
        finally:
            part.unlink(missing_ok=True)
    return {
        "path": str(wish.destination),
        "size": head.size,
        "site": head.site,
        "sequence": head.sequence,
        "ref": None if head.ref is None else str(head.ref),
        "digest": head.digest,
        "expires": format_time(head.expires),
        "audit_id": identifier,
    }


def _admitted(house: House, call: Call, ref: Ref, papers: dict[str, bytes]) -> Release:
    """The version, verified where it lies and approved now; what a device needs to judge it goes into `papers`."""
    release = get(house.registry, ref)
    entry = approval.approved_entry(house.registry, release)
    house.registry.approved.current().check_fresh(house.now())
    approved.check_current(entry, house.policy.version, house.now())
    call.progress(f"verifying {ref}")
    verified = at_rest.verify(house.registry, ref)
    at_rest.record_verified(house.registry, call.subject, verified, "bundle")
    papers[bundle.STATEMENT] = release.statement
    papers[bundle.SIGNATURE] = release.bundle
    versions = house.registry.approved

    def read(name: str, limit: int) -> bytes:
        with (versions.directory / "metadata" / name).open("rb") as file:
            data = file.read(limit + 1)
        papers[device.TUF + name] = data
        return data

    check(read, [key for key in house.public_keys if key.label == "root"], Pins())
    return release


def _draft(
    house: House, wish: Wish, site: Site, release: Release | None, papers: dict[str, bytes]
) -> bundle.Draft:
    return bundle.Draft(
        site=wish.site,
        site_public=site.card.public,
        sequence=site.sequence + 1,
        created=house.now(),
        expires=house.now() + wish.lifetime,
        environment=house.registry.approved.environment,
        papers=papers,
        ref=wish.ref,
        digest="" if release is None else release.digest,
        files=() if release is None else (_bytes_of(house, entry.digest) for entry in release.manifest),
        taken=site.taken.size,
        taken_root=site.taken.root().hex(),
    )


def _bytes_of(house: House, digest: str) -> Iterator[bytes]:
    """An object's bytes; the store refuses them at their end when they are not those of the digest."""
    with house.registry.objects.open(digest) as stream:
        while chunk := stream.read(READ_BYTES):
            yield chunk


def _record(house: House, call: Call, site: Site, head: bundle.Head, envelope: bytes) -> str:
    with house.ledger.transaction() as transaction:
        facts = {
            "ref": "" if head.ref is None else str(head.ref),
            "sequence": head.sequence,
            "expires": format_time(head.expires),
            "site_key": head.site_key,
            **signed_facts(house.release_key, envelope),
        }
        return transaction.append(
            event_of(house, call, Action.EDGE_BUILD, site.card.site, head.digest, **facts)
        )


def _withdrawn(house: House, connection: sa.Connection) -> list[str]:
    """Digests that were carried out once or are known here, and that may not serve any more."""
    wanted = Filter(action=Action.EDGE_BUILD.value, outcome=Outcome.ALLOWED.value)
    sent = {record.event.digest for record in told(connection, wanted)}
    known = approval.readable(house.registry)
    found = set()
    for release in store.releases(connection):
        state = approval.standing(house.registry, release, known)
        if state == "retired" or (release.digest in sent and state != "approved"):
            found.add(release.digest)
    return sorted(found)


def _site(connection: sa.Connection, card: SiteCard, since: str) -> Site:
    built = _last(connection, Action.EDGE_BUILD, card.site)
    return Site(
        card,
        0 if built is None else int(built.data["sequence"]),
        "" if built is None else str(built.data["ref"] or "notice"),
        _taken(connection, card),
        since,
    )


def _taken(connection: sa.Connection, card: SiteCard) -> Frontier:
    """How far this very ledger of the site has come; a device that was set up anew begins at nothing."""
    last = _last(connection, Action.EDGE_IMPORT, card.site)
    if last is None or last.data["ledger_key"] != card.ledger.key_id:
        return Frontier()
    return Frontier.from_bytes(int(last.data["size"]), bytes.fromhex(last.data["frontier"]))


def _last(connection: sa.Connection, action: Action, site: str) -> Event | None:
    wanted = Filter(action=action.value, model=site, outcome=Outcome.ALLOWED.value, limit=1)
    found = told_last(connection, wanted)
    return found[0].event if found else None


def take_events(house: House, call: Call, source: Path) -> dict[str, Any]:
    """Bring a device's events home, each once. Raises `Refused` EDGE-EVENTS, EDGE-GAP, EDGE-UNKNOWN.

    The file is copied first: what is proved is what is taken. A kill leaves whole batches, and the file brings the
    rest when it is imported again.
    """
    with tempfile.TemporaryFile(dir=house.settings.run) as copy, source.open("rb") as stream:
        shutil.copyfileobj(stream, copy)
        copy.seek(0)
        name = carried.site_of(copy)
        with house.ledger.read() as connection:
            site = site_named(connection, name)
        for _ in carried.new_records(copy, _rewound(copy, site.card), site.taken):
            continue  # the whole file has to hold before a record of it counts
        records = carried.new_records(copy, _rewound(copy, site.card), site.taken)
        known, count, identifier = site.taken, 0, ""
        while batch := list(itertools.islice(records, carried.MAX_BATCH)):
            identifier = _take_batch(house, call, site, known, batch)
            known, count = batch[-1][2], count + len(batch)
            call.progress(f"{count} events of {name}")
            house.go_on()
    return {"site": name, "new": count, "events": known.size, "audit_id": identifier}


def _rewound(copy: BinaryIO, card: SiteCard) -> carried.Carried:
    copy.seek(0)
    return carried.read_head(copy, card.site, card.origin, [card.ledger])


def _take_batch(
    house: House, call: Call, site: Site, known: Frontier, batch: list[tuple[int, bytes, Frontier]]
) -> str:
    name, tree = site.card.site, batch[-1][2]
    with house.ledger.transaction() as transaction:
        if site_named(transaction.connection, name).taken != known:
            raise Undecided(
                "EDGE-BUSY",
                f"events of {name} came home by another import at the same time",
                fix="repeat the command; what is there is not taken twice",
            )
        transaction.append_many([_event_from(house, name, seq, body) for seq, body, _ in batch])
        facts: dict[str, Any] = {
            "size": tree.size,
            "frontier": tree.as_bytes().hex(),
            "count": len(batch),
            "ledger_key": site.card.ledger.key_id,
        }
        return transaction.append(event_of(house, call, Action.EDGE_IMPORT, name, **facts))


def _event_from(house: House, site: str, seq: int, body: bytes) -> Event:
    """A device's record as an event here. It decides nothing here: its action is a fact about it."""
    told_there = json.loads(body)
    return Event(
        time=house.now(),
        action=Action.EDGE_EVENT,
        actor=f"site:{site}",
        resource=told_there["resource"],
        outcome=Outcome(told_there["outcome"]),
        code=told_there["code"],
        digest=told_there["digest"],
        data={
            "site": site,
            "id": audit_id(seq),
            "at": told_there["time"],
            "did": told_there["action"],
            "by": told_there["actor"],
            "record": body.decode(),
        },
    )
