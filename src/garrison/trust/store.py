"""The tables of identity: users with their roles, and what was revoked."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from garrison.core.digest import is_digest, sha256_bytes
from garrison.core.errors import Undecided
from garrison.core.event import format_time
from garrison.storage.sql import metadata

USERS = sa.Table(
    "users",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("email", sa.Text, nullable=False),
    sa.Column("roles", sa.Text, nullable=False),
    sa.Column("disabled", sa.Boolean, nullable=False),
    sa.Column("created", sa.Text, nullable=False),
    sa.Column("created_by", sa.Text, nullable=False),
)

REVOKED_TOKENS = sa.Table(
    "revoked_tokens",
    metadata,
    sa.Column("token_id", sa.Text, primary_key=True),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("until", sa.Text, nullable=False),
)

OWNERS = sa.Table(
    "owners",
    metadata,
    sa.Column("model", sa.Text, primary_key=True),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("set_by", sa.Text, nullable=False),
    sa.Column("time", sa.Text, nullable=False),
)


@dataclass(frozen=True, slots=True)
class User:
    """A known identity. `human` tells people apart: two accounts with one e-mail are one human.

    It is a digest, because the ledger tells it too and an address has no place there. An address that was
    edited in the database and is lost stands as its digest.
    """

    name: str
    email: str = ""
    roles: frozenset[str] = field(default_factory=frozenset)
    disabled: bool = False

    @property
    def human(self) -> str:
        email = self.email.strip().casefold()
        return email if is_digest(email) else sha256_bytes(email.encode()) if email else self.name

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "email": self.email,
            "roles": sorted(self.roles),
            "disabled": self.disabled,
        }


def find_user(connection: sa.Connection, name: str) -> User | None:
    row = connection.execute(sa.select(USERS).where(USERS.c.name == name)).one_or_none()
    return None if row is None else _user(row)


def users(connection: sa.Connection) -> list[User]:
    return [_user(row) for row in connection.execute(sa.select(USERS).order_by(USERS.c.name))]


def save_user(connection: sa.Connection, user: User, *, by: str, now: datetime) -> None:
    """Add a user or replace its e-mail, roles and state."""
    values = {"email": user.email, "roles": json.dumps(sorted(user.roles)), "disabled": user.disabled}
    updated = connection.execute(USERS.update().where(USERS.c.name == user.name).values(**values))
    if updated.rowcount == 0:
        connection.execute(
            USERS.insert().values(name=user.name, created=format_time(now), created_by=by, **values)
        )


def remove_user(connection: sa.Connection, name: str) -> None:
    connection.execute(USERS.delete().where(USERS.c.name == name))


def disabled_users(connection: sa.Connection) -> list[str]:
    return list(
        connection.execute(sa.select(USERS.c.name).where(USERS.c.disabled).order_by(USERS.c.name)).scalars()
    )


def revoke_token(connection: sa.Connection, token_id: str, subject: str, until: datetime) -> None:
    """Remember a token until it would have expired anyway. Revoking twice is fine."""
    known = connection.execute(
        sa.select(REVOKED_TOKENS).where(REVOKED_TOKENS.c.token_id == token_id)
    ).one_or_none()
    if known is None:
        connection.execute(
            REVOKED_TOKENS.insert().values(token_id=token_id, subject=subject, until=format_time(until))
        )


def revoked_tokens(connection: sa.Connection, now: datetime) -> list[str]:
    rows = connection.execute(
        sa.select(REVOKED_TOKENS.c.token_id).where(REVOKED_TOKENS.c.until > format_time(now))
    )
    return sorted(rows.scalars())


def all_revoked(connection: sa.Connection) -> list[str]:
    return list(connection.execute(sa.select(REVOKED_TOKENS.c.token_id)).scalars())


def forget_revocation(connection: sa.Connection, token_id: str) -> None:
    connection.execute(REVOKED_TOKENS.delete().where(REVOKED_TOKENS.c.token_id == token_id))


def remove_owner(connection: sa.Connection, model: str) -> None:
    connection.execute(OWNERS.delete().where(OWNERS.c.model == model))


def set_owner(connection: sa.Connection, model: str, owner: str, *, by: str, now: datetime) -> None:
    """Name the person who answers for a model."""
    values = {"owner": owner, "set_by": by, "time": format_time(now)}
    updated = connection.execute(OWNERS.update().where(OWNERS.c.model == model).values(**values))
    if updated.rowcount == 0:
        connection.execute(OWNERS.insert().values(model=model, **values))


def owner_of(connection: sa.Connection, model: str) -> str | None:
    return connection.execute(sa.select(OWNERS.c.owner).where(OWNERS.c.model == model)).scalar_one_or_none()


def owners(connection: sa.Connection) -> dict[str, str]:
    return {row.model: row.owner for row in connection.execute(sa.select(OWNERS))}


def _user(row: Any) -> User:
    """Raises `Undecided` DB-UNAVAILABLE for a row that this code did not write."""
    try:
        if not isinstance(row.name, str) or not isinstance(row.email, str):
            raise TypeError("a name and an address are text")
        return User(row.name, row.email, frozenset(json.loads(row.roles)), bool(row.disabled))
    except (ValueError, TypeError, RecursionError) as error:
        raise Undecided(
            "DB-UNAVAILABLE",
            f"the database is damaged: the row of the user {row.name[:100]!r} is not one",
            fix="put the newest backup of the data directory back, then run garrison audit verify",
        ) from error
