"""The control process's side of the audit spool: workers' lines become ledger events, exactly once.

`tick()` is called every 50 ms by the wiring. Position and requests under way are kept in the database
in the same transaction as the events, so a kill of either side neither loses nor doubles a record. A
worker whose lock is gone is drained to the end; what it had begun and not ended becomes one event each,
outcome error, code GW-CRASH.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from garrison.core.actions import Action
from garrison.core.digest import sha256_bytes
from garrison.core.event import Event, Outcome
from garrison.evidence import store
from garrison.evidence.ledger import Ledger, Transaction
from garrison.evidence.record import event_from_json
from garrison.evidence.spool_writer import MAX_LINE

CHUNK_BYTES = 1 << 20  # read from one worker per tick: ~2 000 requests, far above what 50 ms bring
MAX_OPEN = 10_000  # requests under way per worker that are remembered; concurrency limits are far below
MAX_WORKERS = 256  # workers looked at per tick
_SEGMENT = re.compile(r"([a-z0-9][a-z0-9-]{0,80})\.([0-9]{6})\.jsonl\Z")
_GATEWAY = "service:gateway"
_POSITIONS = store.spool


@dataclass(slots=True)
class _Cursor:
    """How far a worker's lines are folded. `open` maps request ids to their begin records."""

    segment: int = 0
    position: int = 0
    open: dict[str, dict[str, Any]] = field(default_factory=dict)
    stored: bool = False


class SpoolReader:
    """One per control process. `tick` blocks on disk and database; call it from a thread."""

    def __init__(self, ledger: Ledger, directory: Path, now: Callable[[], datetime]) -> None:
        self._ledger = ledger
        self._directory = directory
        self._now = now
        self._cursors: dict[str, _Cursor] = {}
        self._started = False

    def tick(self) -> int:
        """Fold what workers wrote since the last tick; returns how many events were appended.

        Raises `Undecided` when the database does not answer; nothing is lost, the next tick goes on.
        """
        workers = self._workers()
        if not self._started:
            self._forget_all_but(workers)
            self._started = True
        return sum(self._fold(worker, workers[worker]) for worker in sorted(workers)[:MAX_WORKERS])

    def _workers(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        with contextlib.suppress(FileNotFoundError):
            for name in os.listdir(self._directory):
                if match := _SEGMENT.match(name):
                    found.setdefault(match[1], []).append(int(match[2]))
        return {worker: sorted(segments) for worker, segments in found.items()}

    def _path(self, worker: str, segment: int) -> Path:
        return self._directory / f"{worker}.{segment:06d}.jsonl"

    def _fold(self, worker: str, segments: list[int]) -> int:
        """Everything of one worker that fits in a chunk, and the end of a worker that is gone."""
        # Asked before reading: a line written after the answer "alive" is read by the next tick.
        gone = self._is_gone(worker, segments)
        cursor = self._cursors.pop(worker, None) or self._stored(worker, segments[0])
        lines, more = self._read(worker, segments, cursor, gone=gone)
        events = [event for line in lines for event in self._event(line, cursor)]
        finished = gone and not more
        if finished:
            events += [self._crashed(worker, request_id, begun) for request_id, begun in cursor.open.items()]
            cursor.open = {}
        if lines or events or (finished and not cursor.stored):
            with self._ledger.transaction() as transaction:
                transaction.append_many(events)
                _save(transaction, worker, cursor)
        self._remove(worker, [n for n in segments if finished or n < cursor.segment])
        if finished:
            # Only after the files: a kill in between finds the position, and folds nothing twice.
            with self._ledger.transaction() as transaction:
                transaction.connection.execute(_POSITIONS.delete().where(_POSITIONS.c.worker == worker))
        else:
            self._cursors[worker] = cursor  # kept only when all of the above was committed
        return len(events)

    def _stored(self, worker: str, first: int) -> _Cursor:
        with self._ledger.read() as connection:
            row = connection.execute(sa.select(_POSITIONS).where(_POSITIONS.c.worker == worker)).one_or_none()
        if row is None:
            return _Cursor(first)
        return _Cursor(row.segment, row.position, json.loads(row.open), stored=True)

    def _forget_all_but(self, workers: Collection[str]) -> None:
        """Positions whose files are gone: a kill came between the two."""
        with self._ledger.transaction() as transaction:
            stale = _POSITIONS.delete().where(_POSITIONS.c.worker.not_in(sorted(workers)))
            transaction.connection.execute(stale)

    def _is_gone(self, worker: str, segments: list[int]) -> bool:
        if any(_is_locked(self._path(worker, segment)) for segment in segments):
            return False
        return self._workers().get(worker) == segments  # a newer file: it went on there meanwhile

    def _read(
        self, worker: str, segments: list[int], cursor: _Cursor, *, gone: bool
    ) -> tuple[list[bytes], bool]:
        """Complete lines from the cursor on, moving it; and whether more is waiting behind them."""
        lines: list[bytes] = []
        left = CHUNK_BYTES
        while left > 0:
            last = cursor.segment >= segments[-1]
            data, size = _read_at(self._path(worker, cursor.segment), cursor.position, left)
            whole = data[: data.rfind(b"\n") + 1]
            torn = b"" if whole else data
            if torn and (len(torn) > MAX_LINE or gone or not last):
                whole = torn + b"\n"  # it will never be completed: kept by its digest
                cursor.position -= 1
            if whole:
                lines.extend(whole[:-1].split(b"\n"))
                cursor.position += len(whole)
                left -= len(whole)
            elif last:
                return lines, False
            elif cursor.position >= size:
                cursor.segment, cursor.position = cursor.segment + 1, 0
        return lines, True

    def _event(self, line: bytes, cursor: _Cursor) -> list[Event]:
        """The event of an `e` line; none for a `b` line; a marker for a line that is neither."""
        try:
            record = json.loads(line)
            kind, request_id = record["k"], record["id"]
            if kind == "b" and isinstance(request_id, str) and len(cursor.open) < MAX_OPEN:
                begun = {name: str(record.get(name, ""))[:1024] for name in ("t", "actor", "resource")}
                cursor.open[request_id] = begun
                return []
            if kind == "e" and isinstance(request_id, str):
                event = event_from_json(record["event"])
                cursor.open.pop(request_id, None)
                return [event]
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            pass
        data = {"spool_line": {"bytes": len(line), "digest": sha256_bytes(line)}}
        return [Event(self._now(), Action.MODEL_INVOKE, _GATEWAY, "", Outcome.ERROR, "AUD-SPOOL", data=data)]

    def _crashed(self, worker: str, request_id: str, begun: dict[str, Any]) -> Event:
        return Event(
            self._now(),
            Action.MODEL_INVOKE,
            begun["actor"] or _GATEWAY,
            begun["resource"],
            Outcome.ERROR,
            "GW-CRASH",
            data={"request": request_id, "begun": begun["t"], "worker": worker},
        )

    def _remove(self, worker: str, segments: list[int]) -> None:
        for segment in segments:
            self._path(worker, segment).unlink(missing_ok=True)


def _save(transaction: Transaction, worker: str, cursor: _Cursor) -> None:
    connection, table = transaction.connection, _POSITIONS
    values = {"segment": cursor.segment, "position": cursor.position, "open": json.dumps(cursor.open)}
    if cursor.stored:
        connection.execute(table.update().where(table.c.worker == worker).values(**values))
    else:
        connection.execute(table.insert().values(worker=worker, **values))
        cursor.stored = True


def _read_at(path: Path, position: int, count: int) -> tuple[bytes, int]:
    """Bytes from a position, and the size of the file then; nothing when the file is gone already."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(position)
            return file.read(max(count, MAX_LINE + 1)), size
    except FileNotFoundError:
        return b"", 0


def _is_locked(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False
