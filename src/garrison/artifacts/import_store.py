"""The table of imports: what a source held when a version was taken from it, signed so that drift can trust it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from garrison.artifacts.lineage.imported import MAX_RECORD_BYTES, Locator, State
from garrison.artifacts.store import RELEASES
from garrison.core.digest import Ref, canonical_json
from garrison.core.errors import Refused, Undecided
from garrison.core.event import format_time, parse_time
from garrison.storage.sql import metadata
from garrison.trust import dsse
from garrison.trust.keyring import message_of
from garrison.trust.keys.base import Signer
from garrison.trust.keys.public import PublicKey

RECORD_TYPE = "application/vnd.garrison.import+json"

IMPORTS = sa.Table(
    "imports",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    # Written before its version is published: a row whose digest is no version's is of an import that failed.
    sa.Column("digest", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("imported", sa.Text, nullable=False),
    sa.Column("record", sa.LargeBinary, nullable=False),
)

DELIVERIES = sa.Table(
    "webhook_deliveries",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("taken", sa.Text, nullable=False),
)
KEPT = timedelta(hours=1)  # a webhook is fresh for five minutes, and clocks may differ


@dataclass(frozen=True, slots=True)
class Entry:
    """One import of a published version. `message` is the digest of what was signed of it."""

    ref: Ref
    digest: str
    locator: Locator
    state: State
    imported: datetime
    is_retired: bool = False
    message: str = ""


def write(connection: sa.Connection, entry: Entry, signer: Signer) -> bytes:
    """Remember what a source held, and return its signed record. The same source again replaces the one before."""
    body = {
        "ref": str(entry.ref),
        "digest": entry.digest,
        "kind": entry.locator.kind,
        "place": dict(entry.locator.place),
        "state": entry.state.as_json(),
        "imported": format_time(entry.imported),
    }
    payload = canonical_json(body)
    if len(payload) > MAX_RECORD_BYTES:
        raise Undecided(
            "LIN-LIMIT",
            f"what the source says of {entry.ref} is more than {MAX_RECORD_BYTES:,} bytes",
            fix="import a smaller model, or publish its directory by hand",
        )
    of_import = (
        IMPORTS.c.name == entry.ref.name,
        IMPORTS.c.version == entry.ref.version,
        IMPORTS.c.digest == entry.digest,
        IMPORTS.c.kind == entry.locator.kind,
    )
    record = canonical_json(dsse.sign(payload, RECORD_TYPE, signer))
    connection.execute(IMPORTS.delete().where(*of_import))
    connection.execute(
        IMPORTS.insert().values(
            name=entry.ref.name,
            version=entry.ref.version,
            digest=entry.digest,
            kind=entry.locator.kind,
            source=str(entry.locator),
            imported=format_time(entry.imported),
            record=record,
        )
    )
    return record


def entries(connection: sa.Connection, keys: Sequence[PublicKey], name: str | None = None) -> list[Entry]:
    """Every import of a published version. Raises `Refused` LIN-RECORD for a row that was changed."""
    query = (
        sa.select(IMPORTS, RELEASES.c.retired)
        .join(
            RELEASES,
            sa.and_(
                RELEASES.c.name == IMPORTS.c.name,
                RELEASES.c.version == IMPORTS.c.version,
                RELEASES.c.digest == IMPORTS.c.digest,
            ),
        )
        .order_by(IMPORTS.c.name, IMPORTS.c.version, IMPORTS.c.kind)
    )
    if name is not None:
        query = query.where(IMPORTS.c.name == name)
    return [_entry(row, keys) for row in connection.execute(query)]


def _entry(row: Any, keys: Sequence[PublicKey]) -> Entry:
    ref = Ref(row.name, row.version)
    payload, _key_id = dsse.open_envelope(bytes(row.record), keys, payload_type=RECORD_TYPE)
    body = json.loads(payload)
    signed = (body["ref"], body["digest"], body["kind"], body["imported"])
    if signed != (str(ref), row.digest, row.kind, row.imported):
        raise Refused(
            "LIN-RECORD",
            f"the import of {ref} in the database is not what was signed: that is of {body['ref']}",
            evidence={"expected": str(ref), "found": str(body["ref"])},
            fix="put the newest backup of the data directory back, then run garrison audit verify",
        )
    return Entry(
        ref=ref,
        digest=row.digest,
        locator=Locator(row.kind, body["place"]),
        state=State.from_json(body["state"]),
        imported=parse_time(row.imported),
        is_retired=bool(row.retired),
        message=message_of(bytes(row.record)),
    )


def take_delivery(connection: sa.Connection, delivery: str, now: datetime) -> bool:
    """Remember the id of a webhook; False when it was taken before. Ids older than any that is fresh are let go."""
    connection.execute(DELIVERIES.delete().where(DELIVERIES.c.taken < format_time(now - KEPT)))
    known = connection.execute(sa.select(DELIVERIES.c.id).where(DELIVERIES.c.id == delivery)).one_or_none()
    if known is not None:
        return False
    connection.execute(DELIVERIES.insert().values(id=delivery, taken=format_time(now)))
    return True
