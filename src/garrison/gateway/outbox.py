"""What leaves the worker in one turn of the event loop: audit lines, then requests to models, then answers.

All lines of a turn go to the spool in one write, before anything that they record: what cannot be recorded is
not sent. Sending together also wakes each receiver once rather than once for every message.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Protocol

from garrison.core.errors import GarrisonError
from garrison.evidence.spool_writer import ENDED
from garrison.gateway.turns import Signal


class Spool(Protocol):
    """`evidence.spool_writer.SpoolWriter`: the text of a line, and the write. All raise `Undecided`."""

    def begun(self, request_id: str, time: str, actor: str, resource: str) -> bytes: ...

    def ended(self, request_id: str, event: Mapping[str, Any]) -> bytes: ...

    def write(self, lines: bytes) -> None: ...


class Ask(Protocol):
    """A connection to a model server with a request to send."""

    def transmit(self, request: bytes) -> None:
        """Send it, if the answer is still wanted."""

    def withdraw(self, error: GarrisonError) -> None:
        """It was not sent and will not be."""


class Reply(Protocol):
    """A client's connection with an answer to send."""

    def send(self, data: bytes) -> None: ...


class _Recorded:
    """Somebody who goes on when what was told before is recorded, or cannot be."""

    __slots__ = ("error", "signal")

    def __init__(self) -> None:
        self.signal = Signal()
        self.error: GarrisonError | None = None

    def transmit(self, _request: bytes) -> None:
        self.signal.set()

    def withdraw(self, error: GarrisonError) -> None:
        self.error = error
        self.signal.set()


class Outbox:
    """One per worker. `flush` runs by itself, behind everything else of the turn."""

    def __init__(self, spool: Spool, loop: asyncio.AbstractEventLoop) -> None:
        self._spool = spool
        self._loop = loop
        self._lines: list[bytes] = []
        self._asks: list[tuple[Ask, bytes]] = []
        self._replies: list[tuple[Reply, bytes]] = []
        self._is_due = False
        self.unrecorded = 0  # events that could not be written

    def begin(self, request_id: str, time: str, actor: str, resource: str) -> None:
        """An admitted request. Raises `Undecided` when too much waits to be recorded already."""
        self._lines.append(self._spool.begun(request_id, time, actor, resource))

    def end(self, request_id: str, event: Mapping[str, Any]) -> None:
        """How a request ended. Does not raise: what is lost is counted, and `begin` refuses for the same reason."""
        try:
            self._lines.append(self._spool.ended(request_id, event))
        except GarrisonError:
            self.unrecorded += 1
        self._due()

    def ask(self, connection: Ask, request: bytes) -> None:
        """A request for a model server. It leaves when every line before it is recorded, or not at all."""
        self._asks.append((connection, request))
        self._due()

    async def recorded(self) -> None:
        """Wait until every line so far is recorded: for an answer that no model is asked for. Raises `Undecided`."""
        waiting = _Recorded()
        self.ask(waiting, b"")
        await waiting.signal
        if waiting.error is not None:
            raise waiting.error

    def reply(self, connection: Reply, data: bytes) -> None:
        """A whole answer for a client."""
        self._replies.append((connection, data))
        self._due()

    def _due(self) -> None:
        if not self._is_due:
            self._is_due = True
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Record, then send. Also at the end of the process."""
        lines, asks, replies = self._lines, self._asks, self._replies
        self._lines, self._asks, self._replies = [], [], []
        self._is_due = False
        error = self._record(lines)
        for asking, request in asks:
            if error is None:
                asking.transmit(request)
            else:
                asking.withdraw(error)
        for replying, data in replies:
            replying.send(data)

    def _record(self, lines: list[bytes]) -> GarrisonError | None:
        """Write the lines. When not all have a place, those of ended requests are tried once more, one by one."""
        if not lines:
            return None
        try:
            self._spool.write(b"".join(lines))
        except GarrisonError as error:
            for line in lines:
                if line.startswith(ENDED):
                    self._record_alone(line)
            return error
        return None

    def _record_alone(self, line: bytes) -> None:
        try:
            self._spool.write(line)
        except GarrisonError:
            self.unrecorded += 1
