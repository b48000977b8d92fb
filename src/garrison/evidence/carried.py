"""A ledger carried home: records of another installation, in a file, proved to be the next part of its one tree.

    {"schema": "garrison.edge.events/1", "site", "origin", "first", "last", "note"}     the signed checkpoint
    one line of canonical JSON for each record, exactly the bytes that its leaf covers

The receiver keeps how many records it has and the frontier of their tree. Appending the new leaves has to give
the root that the sender's key signed: then nothing was changed, left out, put in or told in another order, and
what came before is what came before. The same file twice brings nothing the second time.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import sqlalchemy as sa

from garrison.core.digest import canonical_json
from garrison.core.errors import GarrisonError, Refused
from garrison.evidence import store
from garrison.evidence.checkpoint import MAX_NOTE_BYTES, Checkpoint, read_checkpoint
from garrison.evidence.merkle import Frontier, leaf_hash
from garrison.evidence.record import MAX_BODY_BYTES, audit_id, read_record
from garrison.evidence.store import Filter
from garrison.trust import strict_json
from garrison.trust.keys.public import PublicKey

SCHEMA = "garrison.edge.events/1"
MAX_HEAD_BYTES = 4 * MAX_NOTE_BYTES
MAX_RECORDS = 10_000_000  # a year of a busy device
MAX_BATCH = 1_000  # records in one transaction


@dataclass(frozen=True, slots=True)
class Carried:
    """What a file claims, its checkpoint proved. `first` and `last` are sequence numbers; records follow."""

    site: str
    first: int
    last: int
    checkpoint: Checkpoint


def write_carried(
    out: Callable[[bytes], object],
    connection: sa.Connection,
    *,
    site: str,
    note: bytes,
    checkpoint: Checkpoint,
    first: int,
) -> int:
    """Write the records from `first` up to the checkpoint's; returns how many. Raises as `store.find`."""
    last = checkpoint.size
    head = {"schema": SCHEMA, "site": site, "origin": checkpoint.origin, "first": first, "last": last}
    out(canonical_json({**head, "note": base64.b64encode(note).decode()}) + b"\n")
    count = 0
    for record in (
        store.find(connection, Filter(after=first - 1, limit=max(0, last - first + 1)))
        if first <= last
        else ()
    ):
        out(record.body + b"\n")
        count += 1
    return count


def read_head(stream: BinaryIO, site: str, origin: str, keys: Sequence[PublicKey]) -> Carried:
    """The first line. Raises `Refused` EDGE-EVENTS when it is not of that site or not signed by its ledger key."""
    try:
        line = stream.readline(MAX_HEAD_BYTES + 1)
        names = ("schema", "site", "origin", "first", "last", "note")
        fields: dict[str, Any] = strict_json.exactly(strict_json.loads(line, MAX_HEAD_BYTES), *names)
        if fields["schema"] != SCHEMA or fields["site"] != site:
            raise ValueError(f"it is of {str(fields['site'])[:40]!a}")
        first, last = fields["first"], fields["last"]
        if type(first) is not int or type(last) is not int or not 1 <= first <= last + 1 <= MAX_RECORDS:
            raise ValueError("its records have no numbers")
        note = base64.b64decode(strict_json.text(fields["note"], MAX_HEAD_BYTES), validate=True)
        checkpoint = read_checkpoint(note, keys, origin)
        if checkpoint.size != last:
            raise ValueError("its checkpoint is of another length")
    except (ValueError, TypeError, AttributeError, GarrisonError) as error:
        raise _refused(error.what if isinstance(error, GarrisonError) else str(error)) from error
    return Carried(site, first, last, checkpoint)


def site_of(stream: BinaryIO) -> str:
    """The site that a file claims to be of; nothing is proved. Raises `Refused` EDGE-EVENTS."""
    try:
        fields = strict_json.loads(stream.readline(MAX_HEAD_BYTES + 1), MAX_HEAD_BYTES)
        return strict_json.text(fields["site"], 40)
    except (ValueError, TypeError, KeyError) as error:
        raise _refused("its first line is not the head of one") from error


def new_records(stream: BinaryIO, carried: Carried, known: Frontier) -> Iterator[tuple[int, bytes, Frontier]]:
    """(number, body, tree with it) of every record beyond `known`; the stream stands after the head.

    The tree is compared with the checkpoint at the end: use nothing before all of it was read once. Raises
    `Refused` EDGE-EVENTS, and EDGE-GAP when records between are missing.
    """
    if carried.first > known.size + 1:
        raise Refused(
            "EDGE-GAP",
            f"the file begins with {audit_id(carried.first)}, and {audit_id(known.size + 1)} is the next one here",
            fix=f"on the device: garrison edge forward --after {known.size} --out FILE",
            evidence={"first": carried.first, "next": known.size + 1},
        )
    frontier = known
    for seq in range(carried.first, carried.last + 1):
        line = stream.readline(MAX_BODY_BYTES + 2)
        body = line[:-1]
        if line[-1:] != b"\n":
            raise _refused(f"{audit_id(seq)} was cut off")
        if seq > known.size:
            try:
                frontier, _ = frontier.append(read_record(seq, body, leaf_hash(body)).leaf)
            except ValueError as error:
                raise _refused(f"{audit_id(seq)} is not the record that it was ({error})") from error
            yield seq, body, frontier
    if stream.read(1):
        raise _refused("there is more in it than its head says")
    if carried.last >= known.size and frontier.root() != carried.checkpoint.root:
        raise _refused(
            "its records are not those that the device signed, or not the next part of what came before"
        )


def _refused(why: str) -> Refused:
    return Refused(
        "EDGE-EVENTS",
        f"the file is not the ledger of that device: {why}",
        fix="carry the file over again, or write it anew on the device: garrison edge forward --out FILE",
    )
