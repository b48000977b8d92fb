"""The comparison at start: does the database still hold what its witness saw? Decides, writes nothing else.

It trusts stored leaf hashes, so it takes milliseconds however long the ledger is; `verify.py` trusts
nothing and reads everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from garrison.core.errors import Refused
from garrison.evidence import store
from garrison.evidence.checkpoint import Checkpoint, read_checkpoint
from garrison.evidence.merkle import Frontier, Node, frontier_at
from garrison.evidence.record import audit_id
from garrison.trust.keys.public import PublicKey


@dataclass(frozen=True, slots=True)
class Start:
    """The head to go on from; `witnessed` records were signed (-1: no checkpoint at all).

    `note` is the witness' checkpoint when the database does not have it yet.
    """

    head: Frontier
    witnessed: int
    note: bytes = b""
    refusal: Refused | None = None

    @property
    def unsigned(self) -> bool:
        return self.head.size > self.witnessed >= 0


def compare(
    connection: sa.Connection,
    notes: Sequence[bytes],
    keys: Sequence[PublicKey],
    origin: str,
    *,
    accepted: bool,
) -> Start:
    """Judge the database by the witness' notes; creates the head of a new ledger.

    Raises `Refused` (see `Ledger.open`), or returns it in `Start.refusal` when it was accepted.
    """
    refusal: Refused | None = None
    witnessed, note = -1, b""
    try:
        head = _own_head(connection)
        newest = _newest(notes, keys, origin)
        if newest is None and head.size > 0:
            raise _no_witness(head.size)
        if newest is not None:
            witnessed, note = newest[0].size, newest[1]
            for checkpoint in [read_checkpoint(each, keys, origin) for each in notes]:
                _judge(connection, head, checkpoint)
    except Refused as error:
        if not accepted:
            raise
        refusal = error
        head = _rebuilt_head(connection, error)
    if note and store.has_checkpoint(connection, witnessed):
        note = b""
    return Start(head, witnessed, note, refusal)


def _newest(
    notes: Sequence[bytes], keys: Sequence[PublicKey], origin: str
) -> tuple[Checkpoint, bytes] | None:
    read = [(read_checkpoint(note, keys, origin), note) for note in notes]
    return max(read, key=lambda pair: pair[0].size) if read else None


def _own_head(connection: sa.Connection) -> Frontier:
    """The stored head, after checking that rows, tiles and head agree."""
    try:
        head = store.read_head(connection)
    except (ValueError, TypeError) as error:
        raise _forked("the head of the ledger is malformed") from error
    count, last = store.count_and_last(connection)
    if head is None and count == 0:
        store.create_head(connection)
        return Frontier()
    if head is None:
        raise _forked(f"the ledger has {count} records and no head")
    if last > count:
        raise Refused(
            "AUD-MISSING",
            f"the ledger has {count} records but they are numbered up to {audit_id(last)}",
            fix="garrison audit verify names the first missing record; put the newest backup back",
        )
    if count < head.size:
        raise _truncated(head.size, count, f"first missing: {audit_id(count + 1)}")
    if count > head.size:
        raise _forked(f"the ledger has {count} records but its head says {head.size}: one was inserted")
    if _at(connection, head.size) != head:
        raise _forked("the head of the ledger is not the tree of its records")
    return head


def _at(connection: sa.Connection, size: int) -> Frontier | None:
    try:
        return frontier_at(size, store.subtree_reader(connection))
    except LookupError:
        return None


def _judge(connection: sa.Connection, head: Frontier, checkpoint: Checkpoint) -> None:
    if head.size < checkpoint.size:
        raise _truncated(checkpoint.size, head.size, f"first missing: {audit_id(head.size + 1)}")
    then = head if head.size == checkpoint.size else _at(connection, checkpoint.size)
    if then is None or then.root() != checkpoint.root:
        raise _forked(
            f"the first {checkpoint.size} records are not those that were signed: root "
            f"{then.root().hex()[:16] if then else 'unknown'}, signed {checkpoint.root.hex()[:16]}"
        )


def _rebuilt_head(connection: sa.Connection, refusal: Refused) -> Frontier:
    """After an acceptance: tiles and head made to fit the records that are left. Raises for a gap in them."""
    if refusal.code == "AUD-MISSING":
        raise refusal
    frontier = Frontier()
    nodes: list[Node] = []
    for leaf in store.leaves(connection):
        frontier, completed = frontier.append(leaf)
        nodes.extend(node for node in completed if node[0] % store.TILE_LEVELS == 0)
    store.rewrite_tree(connection, nodes, frontier)
    return frontier


_FIX = (
    "run garrison audit verify; put the newest backup of the data directory back, or, to go on without the "
    "missing records, run garrison audit accept-loss --reason TEXT and start again"
)


def _truncated(signed: int, found: int, detail: str) -> Refused:
    return Refused(
        "AUD-TRUNCATED",
        f"the ledger ends at record {found} but {signed} were written; {detail}",
        fix=_FIX,
        evidence={"written": signed, "found": found},
    )


def _forked(why: str) -> Refused:
    return Refused("AUD-FORKED", why, fix=_FIX)


def _no_witness(size: int) -> Refused:
    return Refused(
        "AUD-WITNESS",
        f"the ledger has {size} records but the checkpoint outside the database is gone, so a cut tail "
        "could not be noticed",
        fix=_FIX,
        evidence={"found": size},
    )
