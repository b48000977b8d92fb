"""The tables of keys: every version of the keyring, and the tokens that were added. Signed documents, kept whole."""

from __future__ import annotations

import sqlalchemy as sa

from garrison.storage.sql import metadata

KEYRINGS = sa.Table(
    "keyrings",
    metadata,
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("envelope", sa.LargeBinary, nullable=False),
)
KEY_TOKENS = sa.Table(
    "key_tokens",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("envelope", sa.LargeBinary, nullable=False),
)


def newest_keyring(connection: sa.Connection) -> bytes | None:
    row = connection.execute(
        sa.select(KEYRINGS.c.envelope).order_by(KEYRINGS.c.version.desc()).limit(1)
    ).scalar_one_or_none()
    return None if row is None else bytes(row)


def add_keyring(connection: sa.Connection, version: int, envelope: bytes) -> None:
    """Raises IntegrityError when that version is there already: nothing is ever replaced."""
    connection.execute(KEYRINGS.insert().values(version=version, envelope=envelope))


def key_tokens(connection: sa.Connection) -> dict[str, bytes]:
    rows = connection.execute(sa.select(KEY_TOKENS).order_by(KEY_TOKENS.c.name))
    return {row.name: bytes(row.envelope) for row in rows}


def add_key_token(connection: sa.Connection, name: str, envelope: bytes) -> None:
    connection.execute(KEY_TOKENS.insert().values(name=name, envelope=envelope))
