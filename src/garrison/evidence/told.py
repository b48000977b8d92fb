"""Records that decide something: each is proved to be in the ledger's tree before it is believed.

`store.find` gives what stands in the rows, and whoever can write to the database can write rows. What approves,
withdraws, retires, deploys or revokes is therefore read here. The head that it is held against is compared with
the server's own in every write transaction (`Ledger.transaction`) and with the witness at every start.
"""

from __future__ import annotations

from collections.abc import Iterator

import sqlalchemy as sa

from garrison.core.errors import GarrisonError, Refused
from garrison.evidence import store
from garrison.evidence.merkle import Frontier, Subtree, inclusion_proof, leaf_hash, verify_inclusion
from garrison.evidence.record import Record
from garrison.evidence.store import Filter


def told(connection: sa.Connection, wanted: Filter) -> Iterator[Record]:
    """As `store.find`. Raises `Refused` AUD-EDITED for a record that the tree does not hold."""
    head, subtree = _head(connection), store.subtree_reader(connection)
    for record in store.find(connection, wanted):
        yield _proved(record, head, subtree)


def told_last(connection: sa.Connection, wanted: Filter) -> list[Record]:
    """As `store.latest`. Raises as `told`."""
    head, subtree = _head(connection), store.subtree_reader(connection)
    return [_proved(record, head, subtree) for record in store.latest(connection, wanted)]


def told_all(connection: sa.Connection) -> Iterator[Record]:
    """Every record in its order, held against the tree once: for who reads all of them. Raises as `told`."""
    frontier = Frontier()
    for leaf in store.leaves(connection):
        frontier, _ = frontier.append(leaf)
    if frontier != _head(connection):
        raise Refused("AUD-EDITED", "the records of the ledger are not those in its tree", fix=_FIX)
    for record in store.find(connection, Filter()):
        if leaf_hash(record.body) != record.leaf:
            raise _edited(record)
        yield record


def _proved(record: Record, head: Frontier, subtree: Subtree) -> Record:
    if leaf_hash(record.body) != record.leaf or not 0 < record.seq <= head.size:
        raise _edited(record)
    try:
        proof = inclusion_proof(record.seq - 1, head.size, subtree)
    except (LookupError, GarrisonError):
        raise _edited(record) from None
    if not verify_inclusion(record.seq - 1, head.size, record.leaf, head.root(), proof):
        raise _edited(record)
    return record


def _head(connection: sa.Connection) -> Frontier:
    try:
        return store.read_head(connection) or Frontier()
    except (ValueError, TypeError):
        return Frontier()


def _edited(record: Record) -> Refused:
    return Refused(
        "AUD-EDITED",
        f"{record.audit_id} is not the record that was written: the ledger's tree does not hold it",
        fix=_FIX,
    )


_FIX = "stop the server and run garrison audit verify; put the newest backup back"
