"""The tables of data sets: immutable versions with their signed statement, and which models they made."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from garrison.core.digest import Ref, sha256_bytes
from garrison.core.errors import Refused
from garrison.core.event import format_time, parse_time
from garrison.storage.sql import metadata

DATASETS = sa.Table(
    "datasets",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("digest", sa.Text, nullable=False, index=True),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("tier", sa.Text, nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    # Everything else stands in the signed statement; these columns are for finding and listing.
    sa.Column("statement", sa.LargeBinary, nullable=False),
    # Row keys and label hashes, to tell what the next version changed (dataset_rows.py).
    sa.Column("sketch", sa.LargeBinary, nullable=False),
    sa.Column("created", sa.Text, nullable=False),
)

# An index over what signed attachments say, checked against them whenever it is read.
DATASET_MODELS = sa.Table(
    "dataset_models",
    metadata,
    sa.Column("digest", sa.Text, primary_key=True),
    sa.Column("model", sa.Text, primary_key=True),
    sa.Column("model_version", sa.Integer, primary_key=True),
)


@dataclass(frozen=True, slots=True)
class Dataset:
    """One immutable version of a data set as stored; `datasets.py` says whether it is to be believed."""

    ref: Ref
    digest: str
    owner: str
    tier: str
    source: str
    statement: bytes
    sketch: bytes
    created: datetime

    @property
    def sha256(self) -> str:
        return sha256_bytes(self.statement)


def find(connection: sa.Connection, ref: Ref) -> Dataset | None:
    row = connection.execute(
        sa.select(DATASETS).where(DATASETS.c.name == ref.name, DATASETS.c.version == ref.version)
    ).one_or_none()
    return None if row is None else _dataset(row)


def datasets(connection: sa.Connection) -> list[Dataset]:
    query = sa.select(DATASETS).order_by(DATASETS.c.name, DATASETS.c.version)
    return [_dataset(row) for row in connection.execute(query)]


def previous(connection: sa.Connection, ref: Ref) -> Dataset | None:
    """The highest version of that name below this one."""
    row = connection.execute(
        sa.select(DATASETS)
        .where(DATASETS.c.name == ref.name, DATASETS.c.version < ref.version)
        .order_by(DATASETS.c.version.desc())
        .limit(1)
    ).one_or_none()
    return None if row is None else _dataset(row)


def insert(connection: sa.Connection, dataset: Dataset) -> None:
    """Raises IntegrityError when the name@version is taken. There is no update and no delete."""
    connection.execute(
        DATASETS.insert().values(
            name=dataset.ref.name,
            version=dataset.ref.version,
            digest=dataset.digest,
            owner=dataset.owner,
            tier=dataset.tier,
            source=dataset.source,
            statement=dataset.statement,
            sketch=dataset.sketch,
            created=format_time(dataset.created),
        )
    )


def link(connection: sa.Connection, digest: str, model: Ref) -> None:
    """Remember that a signed attachment of the model names this digest; twice is the same as once."""
    same = sa.and_(
        DATASET_MODELS.c.digest == digest,
        DATASET_MODELS.c.model == model.name,
        DATASET_MODELS.c.model_version == model.version,
    )
    if connection.execute(sa.select(DATASET_MODELS).where(same)).one_or_none() is None:
        connection.execute(
            DATASET_MODELS.insert().values(digest=digest, model=model.name, model_version=model.version)
        )


def models_of(connection: sa.Connection, digests: set[str]) -> list[Ref]:
    query = (
        sa.select(DATASET_MODELS.c.model, DATASET_MODELS.c.model_version)
        .where(DATASET_MODELS.c.digest.in_(digests))
        .distinct()
    )
    return [Ref(row.model, row.model_version) for row in connection.execute(query)]


def _dataset(row: Any) -> Dataset:
    """Raises `Refused` DATA-TAMPER for a row that this code did not write."""
    try:
        return Dataset(
            ref=Ref(row.name, row.version),
            digest=row.digest,
            owner=row.owner,
            tier=row.tier,
            source=row.source,
            statement=bytes(row.statement),
            sketch=bytes(row.sketch),
            created=parse_time(row.created),
        )
    except (TypeError, ValueError) as error:
        raise Refused(
            "DATA-TAMPER",
            f"the row of the data set {str(row.name)[:63]!a} in the database holds something else than was written",
            fix="put the newest backup of the data directory back, then run garrison audit verify",
        ) from error
