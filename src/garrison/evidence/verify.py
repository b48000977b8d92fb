"""Check a whole ledger, trusting nothing in the database: names the first record that is not as written.

Needs no server, opens nothing for writing, and may run while the server appends: the witness is read
first, so the database can only be ahead of it. What it answers by:

    every row        is the next number, canonical, and its query columns say what its body says
    every leaf       is the hash of its body (RFC 6962)
    every checkpoint in the database is signed by a known key over the root of that many records
    the witness      outside the database: no fewer records than it signed, under the same root

Three answers: intact (0), broken (1), and could not tell (3): no witness, or records that nothing signs.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from garrison.core.errors import Refused
from garrison.evidence import store
from garrison.evidence.checkpoint import Checkpoint, read_checkpoint
from garrison.evidence.merkle import Frontier, leaf_hash
from garrison.evidence.record import audit_id, read_record
from garrison.evidence.store import RawRow, columns_of
from garrison.evidence.witness import Witness
from garrison.storage.sql import Database
from garrison.trust.keys.public import PublicKey

INTACT, BROKEN, UNDECIDED = "intact", "broken", "undecided"
MAX_PROBLEMS = 20  # the first names what to look at; twenty show the pattern


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong at record `seq`; `until` is larger when it lies somewhere between the two."""

    code: str
    seq: int
    what: str
    until: int = 0

    def as_json(self) -> dict[str, Any]:
        found = {"code": self.code, "id": audit_id(self.seq), "message": self.what}
        return found | {"until": audit_id(self.until)} if self.until > self.seq else found


@dataclass(frozen=True, slots=True)
class LedgerReport:
    """The outcome of a verification. `signed` is the size of the newest checkpoint that was met."""

    verdict: str
    size: int
    signed: int
    root: str = ""
    origin: str = ""
    key_ids: tuple[str, ...] = ()
    checkpoints: int = 0
    problems: tuple[Problem, ...] = ()

    @property
    def code(self) -> str:
        return self.problems[0].code if self.problems else ""

    @property
    def first_bad(self) -> str:
        """The audit id of the first bad record, or the empty text."""
        return audit_id(self.problems[0].seq) if self.verdict == BROKEN else ""

    @property
    def exit_status(self) -> int:
        return {INTACT: 0, BROKEN: 1}.get(self.verdict, 3)

    def as_json(self) -> dict[str, Any]:
        return {
            "schema": "garrison.audit-verify/1",
            "verdict": self.verdict,
            "size": self.size,
            "signed": self.signed,
            "last": audit_id(self.size) if self.size else None,
            "root": self.root,
            "origin": self.origin,
            "keys": list(self.key_ids),
            "checkpoints": self.checkpoints,
            "first_bad": self.first_bad or None,
            "problems": [problem.as_json() for problem in self.problems],
        }


def verify_ledger(db: Database, keys: Sequence[PublicKey], witness: Witness) -> LedgerReport:
    """Verify everything. `db` may (and should) be opened read-only.

    Raises `Undecided` DB-UNAVAILABLE when the database cannot be read, AUD-WITNESS when the witness
    cannot. Findings are in the report, not raised.
    """
    notes = witness.read()  # before the database: its records can then only be at or past this size
    walk = _Walk(keys)
    outside = walk.witnesses(notes)
    with db.read() as connection:
        if sa.inspect(connection).has_table(store.events.name):
            walk.rows(connection, outside)
        else:
            walk.beyond(outside)
    return walk.report(witnessed=bool(notes))


class _Walk:
    """One pass over the rows with the checkpoints beside it; problems are kept in the order of records."""

    def __init__(self, keys: Sequence[PublicKey]) -> None:
        self._keys = keys
        self._problems: list[Problem] = []
        self._frontier = Frontier()
        self._last = 0  # the largest sequence number seen
        self._met = -1  # the largest size whose signed root was met
        self._checkpoints = 0
        self._origin = ""

    def witnesses(self, notes: Sequence[bytes]) -> list[Checkpoint]:
        """The checkpoints kept outside the database, by size."""
        found = [self._believed(note, "the checkpoint outside the database", 1) for note in notes]
        return sorted((c for c in found if c is not None), key=lambda checkpoint: checkpoint.size)

    def rows(self, connection: sa.Connection, outside: Sequence[Checkpoint]) -> None:
        """Read every row, and judge each checkpoint when exactly its records have been read."""
        signed = heapq.merge(outside, self._stored(connection), key=lambda checkpoint: checkpoint.size)
        due = self._meet(next(signed, None), signed)
        for row in store.raw_rows(connection):
            self._row(row)
            due = self._meet(due, signed)
        self.beyond([*([due] if due else []), *signed])
        self._head(connection)

    def beyond(self, checkpoints: Sequence[Checkpoint]) -> None:
        """Checkpoints over more records than there are: the tail was cut, or an old copy put back."""
        largest = max((checkpoint.size for checkpoint in checkpoints), default=0)
        if largest > self._last:
            what = f"{largest} records were signed and the last one here is {self._last}"
            self._add("AUD-TRUNCATED", self._last + 1, what, largest)

    def report(self, *, witnessed: bool) -> LedgerReport:
        problems = sorted(self._problems, key=lambda problem: problem.seq)
        verdict = BROKEN if problems else INTACT
        if not problems and not witnessed:
            verdict, what = UNDECIDED, "there is no checkpoint outside the database to compare with"
            problems = [Problem("AUD-WITNESS", max(self._last, 1), what)]
        elif not problems and self._met < self._frontier.size:
            verdict, first = UNDECIDED, max(self._met, 0) + 1
            problems = [Problem("AUD-UNSIGNED", first, "no checkpoint signs it yet", self._last)]
        return LedgerReport(
            verdict,
            self._last,
            max(self._met, 0),
            self._frontier.root().hex(),
            self._origin,
            tuple(key.key_id for key in self._keys),
            self._checkpoints,
            tuple(problems),
        )

    def _stored(self, connection: sa.Connection) -> Iterator[Checkpoint]:
        for size, note in store.read_checkpoints(connection):
            checkpoint = self._believed(note, f"the checkpoint over {size} records", max(size, 1))
            if checkpoint is not None and checkpoint.size != size:
                what = f"the checkpoint kept for {size} records is one for {checkpoint.size}"
                self._add("AUD-SIGNATURE", max(size, 1), what)
            elif checkpoint is not None:
                yield checkpoint

    def _believed(self, note: bytes, name: str, seq: int) -> Checkpoint | None:
        self._checkpoints += 1
        try:
            checkpoint = read_checkpoint(note, self._keys, self._origin or None)
        except Refused as error:
            self._add("AUD-SIGNATURE", seq, f"{name}: {error.what}")
            return None
        self._origin = checkpoint.origin
        return checkpoint

    def _row(self, row: RawRow) -> None:
        expected = self._last + 1
        if row.seq < 1:
            self._add("AUD-FORKED", 1, f"a record is numbered {row.seq}: it was inserted")
            return
        if row.seq != expected:
            gone = audit_id(expected) + (f" to {audit_id(row.seq - 1)}" if row.seq - 1 > expected else "")
            self._add(
                "AUD-MISSING", expected, f"{gone} is gone; the next is {audit_id(row.seq)}", row.seq - 1
            )
        self._last = row.seq
        if why := _difference(row):
            self._add("AUD-EDITED", row.seq, why)
        self._frontier, _ = self._frontier.append(row.leaf or b"")

    def _meet(self, due: Checkpoint | None, signed: Iterator[Checkpoint]) -> Checkpoint | None:
        """Judge the checkpoints over the records read so far; returns the next one."""
        while due is not None and due.size <= self._frontier.size:
            self._judge(due)
            due = next(signed, None)
        return due

    def _judge(self, checkpoint: Checkpoint) -> None:
        if checkpoint.size == self._frontier.size and checkpoint.root == self._frontier.root():
            self._met = max(self._met, checkpoint.size)
        elif not self._problems:
            first, until = max(self._met, 0) + 1, max(checkpoint.size, 1)
            what = f"the tree of {checkpoint.size} records is not the one that was signed"
            self._add("AUD-FORKED", min(first, until), what, until)

    def _head(self, connection: sa.Connection) -> None:
        """The stored head has to be the tree of the rows: a row added or cut by hand shows here."""
        try:
            head = store.read_head(connection)
        except (ValueError, TypeError):
            head = None
        size = self._frontier.size
        if self._problems or head == self._frontier or (head is None and size == 0):
            return
        if head is not None and head.size > size:
            what = f"the head says {head.size} records and the last one here is {size}"
            self._add("AUD-TRUNCATED", size + 1, what, head.size)
        elif head is not None and head.size < size:
            what = f"the head says {head.size} records and there are {size}: one was inserted"
            self._add("AUD-FORKED", head.size + 1, what, size)
        else:
            self._add("AUD-FORKED", max(size, 1), "the stored head is not the tree of the records")

    def _add(self, code: str, seq: int, what: str, until: int = 0) -> None:
        if len(self._problems) < MAX_PROBLEMS:
            self._problems.append(Problem(code, seq, what, until))


def _difference(row: RawRow) -> str:
    """What contradicts itself in a row; the empty text when nothing does."""
    if row.body is None or row.leaf is None or leaf_hash(row.body) != row.leaf:
        return "its content does not have the hash that the tree holds"
    try:
        record = read_record(row.seq, row.body, row.leaf)
    except ValueError as error:
        return f"its content is not the record of that number: {error}"
    for name, value in columns_of(record).items():
        if row.columns[name] != value.encode():
            return f"its column {name} does not say what its content says"
    return ""
