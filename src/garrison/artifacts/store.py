"""The tables of the registry: releases and approvals. Rows go in and frozen values come out."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from garrison.core.decision import Tier
from garrison.core.digest import Manifest, Ref
from garrison.core.errors import GarrisonError, Undecided
from garrison.core.event import format_time, parse_time
from garrison.storage.sql import metadata
from garrison.trust.approvals import Approval

RELEASES = sa.Table(
    "releases",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("digest", sa.Text, nullable=False, index=True),
    sa.Column("tier", sa.Text, nullable=False),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("publisher", sa.Text, nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("manifest", sa.Text, nullable=False),
    sa.Column("scan", sa.Text, nullable=False),
    sa.Column("bundle", sa.LargeBinary, nullable=False),
    sa.Column("statement", sa.LargeBinary, nullable=False),
    sa.Column("created", sa.Text, nullable=False),
    sa.Column("retired", sa.Text, nullable=False),
    # Always 0 and empty: until the list moved out of the database (trust/tuf), a version's place and entry.
    sa.Column("approved_counter", sa.Integer, nullable=False),
    sa.Column("approved_entry", sa.LargeBinary, nullable=False),
)

APPROVALS = sa.Table(
    "approvals",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("digest", sa.Text, nullable=False),
    sa.Column("approver", sa.Text, nullable=False),
    sa.Column("human", sa.Text, nullable=False),
    sa.Column("policy_version", sa.Text, nullable=False),
    sa.Column("time", sa.Text, nullable=False),
    sa.Column("expires", sa.Text, nullable=False),
    sa.ForeignKeyConstraint(["name", "version"], ["releases.name", "releases.version"]),
    sa.UniqueConstraint("name", "version", "approver", "time"),
)


@dataclass(frozen=True, slots=True)
class Release:
    """One immutable version with both its signatures."""

    ref: Ref
    digest: str
    tier: Tier
    owner: str
    publisher: str
    source: str
    manifest: Manifest
    scan: dict[str, Any]
    bundle: bytes
    statement: bytes
    created: datetime
    retired: datetime | None
    approved_counter: int
    approved_entry: bytes

    def summary(self) -> dict[str, Any]:
        """What lists show: no file table, no signatures."""
        return {
            "ref": str(self.ref),
            "name": self.ref.name,
            "version": self.ref.version,
            "digest": self.digest,
            "tier": self.tier.value,
            "owner": self.owner,
            "publisher": self.publisher,
            "files": len(self.manifest.files),
            "size": self.manifest.size,
            "created": format_time(self.created),
        }


def find(connection: sa.Connection, ref: Ref) -> Release | None:
    row = connection.execute(
        sa.select(RELEASES).where(RELEASES.c.name == ref.name, RELEASES.c.version == ref.version)
    ).one_or_none()
    return None if row is None else _release(row)


def releases(connection: sa.Connection, name: str | None = None) -> list[Release]:
    query = sa.select(RELEASES).order_by(RELEASES.c.name, RELEASES.c.version)
    if name is not None:
        query = query.where(RELEASES.c.name == name)
    return [_release(row) for row in connection.execute(query)]


def digests(connection: sa.Connection) -> set[str]:
    """The digest of every file of every version, retired ones included."""
    rows = connection.execute(sa.select(RELEASES.c.manifest)).scalars()
    return {str(entry["digest"]) for text in rows for entry in json.loads(text)}


def refs(connection: sa.Connection) -> list[Ref]:
    """Every version that is not retired."""
    query = sa.select(RELEASES.c.name, RELEASES.c.version).where(RELEASES.c.retired == "")
    return [Ref(row.name, row.version) for row in connection.execute(query.order_by(*RELEASES.primary_key))]


def every_ref(connection: sa.Connection) -> set[str]:
    """Every version, retired ones included, as the rows name it."""
    return {f"{row.name}@{row.version}" for row in connection.execute(sa.select(*RELEASES.primary_key))}


def owners_by_release(connection: sa.Connection, name: str = "") -> dict[str, str]:
    """Model -> the owner that its newest version was published under; models that are all retired left out."""
    query = sa.select(RELEASES.c.name, RELEASES.c.owner).where(RELEASES.c.retired == "")
    if name:
        query = query.where(RELEASES.c.name == name)
    rows = connection.execute(query.order_by(RELEASES.c.name, RELEASES.c.version))
    return {row.name: row.owner for row in rows if isinstance(row.name, str)}  # else nothing published it


def latest_version(connection: sa.Connection, name: str) -> int:
    """The highest version of a name, 0 if there is none."""
    return (
        connection.execute(sa.select(sa.func.max(RELEASES.c.version)).where(RELEASES.c.name == name)).scalar()
        or 0
    )


def insert(connection: sa.Connection, release: Release) -> bool:
    """Add a version; False when the name@version is already taken. There is no update and no delete."""
    added = RELEASES.insert().values(
        name=release.ref.name,
        version=release.ref.version,
        digest=release.digest,
        tier=release.tier.value,
        owner=release.owner,
        publisher=release.publisher,
        source=release.source,
        size=release.manifest.size,
        manifest=json.dumps(release.manifest.as_json()),
        scan=json.dumps(release.scan),
        bundle=release.bundle,
        statement=release.statement,
        created=format_time(release.created),
        retired="",
        approved_counter=0,
        approved_entry=b"",
    )
    try:
        with connection.begin_nested():  # PostgreSQL would end the whole transaction with the statement
            connection.execute(added)
    except sa.exc.IntegrityError:
        return False
    return True


def approve(connection: sa.Connection, ref: Ref, approval: Approval) -> None:
    connection.execute(
        APPROVALS.insert().values(
            name=ref.name,
            version=ref.version,
            digest=approval.digest,
            approver=approval.approver,
            human=approval.human,
            policy_version=approval.policy_version,
            time=format_time(approval.time),
            expires=format_time(approval.expires),
        )
    )


def approvals_of(connection: sa.Connection, ref: Ref) -> list[Approval]:
    """Every approval given to a version, oldest first, whether it still counts or not."""
    query = (
        sa.select(APPROVALS)
        .where(APPROVALS.c.name == ref.name, APPROVALS.c.version == ref.version)
        .order_by(APPROVALS.c.id)
    )
    return [
        Approval(
            approver=row.approver,
            human=row.human,
            digest=row.digest,
            policy_version=row.policy_version,
            time=parse_time(row.time),
            expires=parse_time(row.expires),
        )
        for row in connection.execute(query)
    ]


def forget_entries(connection: sa.Connection) -> None:
    """Empty the columns in which the approved list was kept before it moved out of the database."""
    connection.execute(RELEASES.update().values(approved_counter=0, approved_entry=b""))


def resign(
    connection: sa.Connection,
    ref: Ref,
    bundle: bytes,
    statement: bytes,
    scan: dict[str, Any],
    created: datetime,
) -> None:
    """Other signatures over the same bytes; nothing else of a version ever changes."""
    connection.execute(
        RELEASES.update()
        .where(RELEASES.c.name == ref.name, RELEASES.c.version == ref.version)
        .values(bundle=bundle, statement=statement, scan=json.dumps(scan), created=format_time(created))
    )


def retire(connection: sa.Connection, ref: Ref, now: datetime) -> None:
    connection.execute(
        RELEASES.update()
        .where(RELEASES.c.name == ref.name, RELEASES.c.version == ref.version)
        .values(retired=format_time(now))
    )


def _release(row: Any) -> Release:
    """Raises `Undecided` DB-UNAVAILABLE for a row that this code did not write."""
    try:
        return _parsed(row)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, GarrisonError) as error:
        raise Undecided(
            "DB-UNAVAILABLE",
            f"the database is damaged: the row of {str(row.name)[:63]}@{row.version} is not a release",
            fix="put the newest backup of the data directory back, then run garrison audit verify",
        ) from error


def _parsed(row: Any) -> Release:
    scan = json.loads(row.scan)
    if not isinstance(scan, dict) or not isinstance(scan.get("files"), list):
        raise ValueError("the result of a scan lists its files")
    return Release(
        ref=Ref(row.name, row.version),
        digest=row.digest,
        tier=Tier(row.tier),
        owner=row.owner,
        publisher=row.publisher,
        source=row.source,
        manifest=Manifest.from_json(json.loads(row.manifest)),
        scan=scan,
        bundle=bytes(row.bundle),
        statement=bytes(row.statement),
        created=parse_time(row.created),
        retired=parse_time(row.retired) if row.retired else None,
        approved_counter=row.approved_counter,
        approved_entry=bytes(row.approved_entry),
    )
