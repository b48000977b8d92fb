"""The ledger: effects and their events in one transaction, then a signed checkpoint outside the database.

Usage, in the control process alone:

    ledger = Ledger.open(database, signer, witness, origin="garrison.local/ab12", now=now)
    with ledger.transaction() as transaction:
        transaction.connection.execute(...)     # the effect
        audit_id = transaction.append(event)    # and its record, or neither

A commit is durable without a signature: a token that is away leaves the head unsigned, `state()` says
so, and the next commit or `sign_head()` signs it. Every start compares the database with the witness.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from garrison.core.actions import Action
from garrison.core.errors import GarrisonError, Refused, Undecided
from garrison.core.event import Event, Outcome
from garrison.evidence import store
from garrison.evidence.checkpoint import Checkpoint, sign_checkpoint
from garrison.evidence.merkle import Frontier, Node
from garrison.evidence.record import Record, audit_id, make_record
from garrison.evidence.start import Start, compare
from garrison.evidence.witness import Witness
from garrison.storage.sql import Database
from garrison.trust.keys.base import Signer
from garrison.trust.keys.public import PublicKey, public_from_pem

SYSTEM = "service:garrison"


@dataclass(frozen=True, slots=True)
class LedgerState:
    """How many records there are, how many of them a checkpoint covers, and why not all."""

    size: int
    signed: int
    problem: str = ""

    @property
    def last_id(self) -> str:
        return audit_id(self.size) if self.size else ""


class Transaction:
    """One write transaction. `connection` is for the effect, `append` for its events."""

    def __init__(self, connection: sa.Connection, frontier: Frontier) -> None:
        self.connection = connection
        self.frontier = frontier
        self._records: list[Record] = []
        self._nodes: list[Node] = []

    def append(self, event: Event) -> str:
        """Put an event at the end of the ledger. Returns its audit id, `a-000412`.

        Raises TypeError or ValueError, and so rolls back, when the event's data is not JSON.
        """
        record = make_record(self.frontier.size + 1, event)
        self.frontier, nodes = self.frontier.append(record.leaf)
        self._records.append(record)
        self._nodes.extend(nodes)
        return record.audit_id

    def append_many(self, events: Sequence[Event]) -> list[str]:
        return [self.append(event) for event in events]

    def flush(self) -> None:
        """Write the records and the new head. Called once, by the ledger."""
        if self._records:
            store.append(self.connection, self._records, self._nodes, self.frontier)


class Ledger:
    """Made by `Ledger.open`. Safe to use from several threads; a transaction blocks its thread."""

    def __init__(
        self, db: Database, signer: Signer, witness: Witness, origin: str, now: Callable[[], datetime]
    ) -> None:
        self._db = db
        self._signer = signer
        self._witness = witness
        self._origin = origin
        self._now = now
        self._writing = threading.Lock()
        self._writer = 0  # the thread that holds it: a second transaction inside the first would hang
        self._signing = threading.Lock()
        self._head = Frontier()
        self._maybe: tuple[Frontier, int] | None = None  # head and notes of a commit that nobody confirmed
        self._signed = -1
        self._problem = ""
        self._unsaved: deque[tuple[int, bytes]] = deque()  # one per commit; the next commit stores them

    @classmethod
    def open(
        cls,
        db: Database,
        signer: Signer,
        witness: Witness,
        origin: str,
        now: Callable[[], datetime],
        *,
        keys: Sequence[PublicKey] = (),
        accept: str = "",
    ) -> Ledger:
        """Compare the database with the witness, repair what a kill left, and be ready to append.

        `keys` are public keys that signed before the present one. `accept` is the reason for which the
        owner of the machine goes on with a ledger that contradicts its witness; it is recorded. Raises
        `Refused` AUD-TRUNCATED, AUD-MISSING, AUD-FORKED, AUD-WITNESS or AUD-SIGNATURE, `Undecided`
        AUD-UNSIGNED when a new ledger cannot have its first signature.
        """
        ledger = cls(db, signer, witness, origin, now)
        notes = witness.read()
        known = [public_from_pem(signer.public_pem(), "ledger"), *keys]
        with db.write() as connection:
            start = compare(connection, notes, known, origin, accepted=bool(accept))
        ledger._begin(start, accept)
        return ledger

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """One write transaction: the effect and its events are committed together, or neither is.

        After the commit the new head is signed and handed to the witness. Raises `Refused` AUD-FORKED
        when something else changed the ledger, `Undecided` when the database or the disk fails.
        """
        if self._writer == threading.get_ident():
            raise RuntimeError("a ledger transaction inside a ledger transaction would wait for itself")
        with self._writing:
            self._writer = threading.get_ident()
            try:
                with self._db.write() as connection:
                    transaction = Transaction(connection, self._checked_head(connection))
                    unsaved = list(self._unsaved)
                    yield transaction
                    _flush(transaction, unsaved)
                    self._maybe = transaction.frontier, len(unsaved)
                self._committed()
            finally:
                self._writer = 0
        self.sign_head()

    def append(self, event: Event) -> str:
        """One event without an effect (a refusal, a read). Returns its audit id."""
        with self.transaction() as transaction:
            return transaction.append(event)

    def append_many(self, events: Sequence[Event]) -> list[str]:
        """A batch in one transaction under one checkpoint. Returns the audit ids."""
        with self.transaction() as transaction:
            return transaction.append_many(events)

    def read(self) -> AbstractContextManager[sa.Connection]:
        """A snapshot of the database, for the queries in `store`."""
        return self._db.read()

    def sign_head(self) -> bool:
        """Sign the newest head unless it is signed; the wiring calls it again while `state()` has a problem.

        Threads that commit at the same time share one signature. Never raises for a token or witness
        that fails: the records are committed, and the failure is in `state()`.
        """
        with self._signing:
            head = self._head
            if head.size <= self._signed:
                return True
            try:
                note = sign_checkpoint(Checkpoint(self._origin, head.size, head.root()), self._signer)
                self._witness.write(note)
            except Exception as error:  # noqa: BLE001 - a token driver may raise anything; the commit stands
                self._problem = _why(error)
                return False
            self._signed, self._problem = head.size, ""
            self._unsaved.append((head.size, note))
            return True

    def state(self) -> LedgerState:
        return LedgerState(self._head.size, max(self._signed, 0), self._problem)

    def close(self) -> None:
        """Sign what is unsigned and keep the last checkpoints in the database too."""
        self.sign_head()
        if self._unsaved:
            with self.transaction():
                pass

    def _checked_head(self, connection: sa.Connection) -> Frontier:
        try:
            stored = store.read_head(connection, lock=True)
        except (ValueError, TypeError):
            stored = None
        if self._maybe is not None and stored == self._maybe[0]:
            self._committed()  # the database had done it when the connection broke
        self._maybe = None
        if stored != self._head:
            raise Refused(
                "AUD-FORKED",
                f"the ledger in the database ends at {audit_id(stored.size) if stored else 'nothing'} with "
                f"another tree than this server wrote, which ends at {audit_id(self._head.size)}",
                fix="stop the server and run garrison audit verify: something else changed the database",
                evidence={"stored": stored.size if stored else None, "written": self._head.size},
            )
        return stored

    def _committed(self) -> None:
        if self._maybe is not None:
            self._head, notes = self._maybe
            self._maybe = None
            for _ in range(notes):
                self._unsaved.popleft()

    def _begin(self, start: Start, accept: str) -> None:
        self._head = start.head
        if start.refusal is not None:
            data: dict[str, Any] = {
                "accepted": accept,
                "code": start.refusal.code,
                "was": start.refusal.evidence,
            }
            self.append(self._repair("ledger", start.refusal.code, data))
        elif start.unsigned:
            first, last = audit_id(start.witnessed + 1), audit_id(start.head.size)
            self.append(self._repair("ledger", "", {"unsigned": {"first": first, "last": last}}))
        else:
            self._signed = start.witnessed
            if start.note:
                self._unsaved.append((start.witnessed, start.note))
            if not self.sign_head():
                raise Undecided(
                    "AUD-UNSIGNED",
                    f"the first checkpoint of the ledger could not be made: {self._problem}",
                    fix="make the token and the witness directory available, then start again",
                )

    def _repair(self, resource: str, code: str, data: dict[str, Any]) -> Event:
        return Event(self._now(), Action.SYSTEM_REPAIR, SYSTEM, resource, Outcome.ALLOWED, code, data=data)


def _flush(transaction: Transaction, unsaved: Sequence[tuple[int, bytes]]) -> None:
    try:
        transaction.flush()
        store.save_checkpoints(transaction.connection, unsaved)
    except sa.exc.IntegrityError as error:
        raise Refused(
            "AUD-FORKED",
            "the next number of the ledger is already taken in the database, by something other than this server",
            fix="stop the server and run garrison audit verify: something else changed the database",
        ) from error


def _why(error: Exception) -> str:
    """What went wrong, without the words of a foreign exception: they might name a secret."""
    return f"{error.code}: {error.what}" if isinstance(error, GarrisonError) else type(error).__name__
