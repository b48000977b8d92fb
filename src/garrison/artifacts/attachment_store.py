"""The table of attachments: signed statements about a release. Rows are added; what they say never changes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from garrison.core.digest import Ref, sha256_bytes
from garrison.core.event import format_time, parse_time
from garrison.storage.sql import metadata
from garrison.trust.attestation import broken

ATTACHMENTS = sa.Table(
    "attachments",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    # Stands in the name of the file beside the version, and so is one of its own for each.
    sa.Column("label", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("predicate_type", sa.Text, nullable=False),
    sa.Column("envelope", sa.LargeBinary, nullable=False),
    sa.Column("created", sa.Text, nullable=False),
    sa.Column("place", sa.Integer, nullable=False),
    sa.ForeignKeyConstraint(["name", "version"], ["releases.name", "releases.version"]),
)


@dataclass(frozen=True, slots=True)
class Attachment:
    """One signed statement about a release, as it is stored: `place` counts them from 1."""

    ref: Ref
    label: str
    kind: str
    predicate_type: str
    envelope: bytes
    created: datetime
    place: int

    @property
    def sha256(self) -> str:
        return sha256_bytes(self.envelope)


def attachments_of(connection: sa.Connection, ref: Ref) -> list[Attachment]:
    """Every attachment of a version, oldest first."""
    query = (
        sa.select(ATTACHMENTS)
        .where(ATTACHMENTS.c.name == ref.name, ATTACHMENTS.c.version == ref.version)
        .order_by(ATTACHMENTS.c.place)
    )
    return [_attachment(ref, row) for row in connection.execute(query)]


def places(connection: sa.Connection, kind: str) -> list[tuple[str, int, int]]:
    """(name, version, place) of the newest attachment of a kind, for every version that has one."""
    table = ATTACHMENTS.c
    query = sa.select(table.name, table.version, sa.func.max(table.place)).where(table.kind == kind)
    return [(row[0], row[1], row[2]) for row in connection.execute(query.group_by(table.name, table.version))]


def at_place(connection: sa.Connection, ref: Ref, place: int) -> bytes:
    """The envelope of one attachment; empty when it is gone meanwhile."""
    table = ATTACHMENTS.c
    query = sa.select(table.envelope).where(
        table.name == ref.name, table.version == ref.version, table.place == place
    )
    return bytes(connection.execute(query).scalar() or b"")


def add(connection: sa.Connection, attachment: Attachment) -> None:
    """Raises IntegrityError when the label is taken. Nothing is deleted, and only `resign` writes again."""
    connection.execute(
        ATTACHMENTS.insert().values(
            name=attachment.ref.name,
            version=attachment.ref.version,
            label=attachment.label,
            kind=attachment.kind,
            predicate_type=attachment.predicate_type,
            envelope=attachment.envelope,
            created=format_time(attachment.created),
            place=attachment.place,
        )
    )


def resign(connection: sa.Connection, attachment: Attachment) -> None:
    """Another signature over the same statement; nothing else of an attachment ever changes."""
    connection.execute(
        ATTACHMENTS.update()
        .where(
            ATTACHMENTS.c.name == attachment.ref.name,
            ATTACHMENTS.c.version == attachment.ref.version,
            ATTACHMENTS.c.label == attachment.label,
        )
        .values(envelope=attachment.envelope)
    )


def _attachment(ref: Ref, row: Any) -> Attachment:
    """Raises `Refused` ART-ATTACHMENT for a row that this code did not write."""
    try:
        return Attachment(
            ref=ref,
            label=row.label,
            kind=row.kind,
            predicate_type=row.predicate_type,
            envelope=bytes(row.envelope),
            created=parse_time(row.created),
            place=row.place,
        )
    except (TypeError, ValueError) as error:
        raise broken(
            ascii(str(row.label)[:63])[1:-1],
            str(ref),
            "its row in the database holds something else than was written",
            fix="put the newest backup of the data directory back, then run garrison audit verify",
        ) from error
