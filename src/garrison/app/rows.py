"""Every row that can be held against something signed: people by the ledger, versions by their statements."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import sqlalchemy as sa

from garrison.app import people
from garrison.artifacts import store
from garrison.artifacts.registry import says_the_same
from garrison.core.errors import GarrisonError
from garrison.storage.database import open_kept
from garrison.trust.sidecars import load_keys

EDITS = frozenset({"ART-NAME", "ART-SIGNATURE", "SIG-FORMAT", "SIG-INVALID", "DB-UNAVAILABLE"})


def rows_that_differ(data: Path) -> dict[str, str]:
    """`user dana` or `version fraud@3` -> a sentence, for a data directory whose server may not run.

    Raises `Refused` AUD-EDITED when a record that tells of people is not in the ledger's tree.
    """
    return {**people.offline(data), **_versions(data)}


def _versions(data: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    keys = load_keys([], data)
    with (
        closing(open_kept(data)) as database,
        database.read() as connection,
    ):
        if not keys or not sa.inspect(connection).has_table(store.RELEASES.name):
            return {}
        for ref in store.refs(connection):
            try:
                release = store.find(connection, ref)
                if release is not None:
                    says_the_same(release, keys)
            except GarrisonError as error:
                if error.code not in EDITS:  # a revoked key is no edit
                    continue
                found[f"version {ref}"] = f"{error.code} {error.what}"
    return found
