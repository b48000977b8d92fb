"""One kept-alive connection to a model server, and the response that is being read from it.

Reading pauses when the client is slower than the model server, so a stalled client costs a bounded amount
of memory. Bytes arrive in a fixed buffer of our own size; the event loop's would hold 256 kB at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf
from typing import Protocol, cast

import httptools

from garrison.core.errors import GarrisonError, Undecided
from garrison.gateway.config import UpstreamLimits
from garrison.gateway.outbox import Ask
from garrison.gateway.turns import Signal

LAST_BYTES_SECONDS = 0.5  # for the end that follows the last event of a stream
LAST_BYTES = 4_096
READ_BYTES = 16_384  # as much as a TLS record or a default socket read; about 60 streamed tokens


class Asks(Protocol):
    """`outbox.Outbox`: says when a request may leave."""

    def ask(self, connection: Ask, request: bytes) -> None:
        """Call `connection.transmit(request)` when it may, or `withdraw`."""


class Response:
    """An answer whose head has come. `read` until it gives no bytes; always `close` at the end."""

    __slots__ = (
        "_arrived",
        "_chunks",
        "_connection",
        "_error",
        "_held",
        "_is_over",
        "content_type",
        "ended",
        "status",
    )

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._chunks: list[bytes] = []
        self._held = 0
        self._arrived = Signal()
        self._error: GarrisonError | None = None
        self._is_over = False  # nobody reads on: what still comes is counted and dropped
        self.ended = False
        self.status = 0
        self.content_type = ""

    async def read(self) -> bytes:
        """Everything that has arrived, at least one byte; empty at the end.

        Raises `Undecided` GW-UPSTREAM, GW-ANSWER or GW-TIMEOUT when the answer is cut short or out of bounds.
        """
        while not self._chunks:
            if self._error is not None:
                raise self._error
            if self.ended:
                return b""
            await self._arrived
        data = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        self._held = 0
        self._connection.resume()
        return data

    async def whole(self, limit: int) -> bytes:
        """All of it. Raises what `read` raises, and `Undecided` GW-ANSWER above `limit` bytes."""
        while not self.ended and self._error is None and self._held <= limit:
            await self._arrived
            self._connection.resume()
        if self._held > limit:
            raise malformed(f"more than {limit} bytes")
        if self._error is not None:
            raise self._error
        return self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)

    async def head(self) -> None:
        """Wait for status and headers."""
        while self.status == 0:
            if self._error is not None:
                raise self._error
            await self._arrived

    def wake(self) -> None:
        self._arrived.set()

    def fail(self, error: GarrisonError) -> None:
        self._error = self._error or error
        self._arrived.set()

    def take(self, data: bytes) -> int:
        """Hold bytes for the reader and return how many are held now."""
        self._held += len(data)
        if not self._is_over:
            self._chunks.append(data)
        elif self._held > LAST_BYTES:
            self._connection.abort()
        return self._held

    def let_go(self) -> None:
        """Everything that is wanted was read: the connection may be used again if the end follows soon."""
        if not self.ended:
            self._is_over = True
            self._chunks.clear()
            self._held = 0
            self._connection.expect_end()

    def close(self) -> None:
        """Give the connection back if the answer was read to its end, else close it: that cancels the work."""
        if not self.ended and not self._is_over:
            self._connection.abort()


class Connection(asyncio.BufferedProtocol):
    """`released` is called once per finished response (or loss) with whether the connection can go on."""

    def __init__(
        self,
        limits: UpstreamLimits,
        now: Callable[[], float],
        released: Callable[[Connection, bool], None],
        outbox: Asks,
    ) -> None:
        self._limits = limits
        self._now = now
        self._released = released
        self._outbox = outbox
        self._view = memoryview(bytearray(READ_BYTES))
        self._transport: asyncio.Transport | None = None
        self._response: Response | None = None
        self._pieces: list[bytes] = []  # of a body, as the parser cuts it: a stream has one for each token
        self.on_body = self._pieces.append
        self._parser = httptools.HttpResponseParser(self)  # one for all answers: making one costs
        self._paused = False
        self._received = 0
        self._framed = False
        self._until = inf
        self.deadline = inf
        self.used = False

    # --- asking ---

    def ask(self, request: bytes) -> Response:
        """Send one whole request; its response follows."""
        response = self._response = Response(self)
        self._received = 0
        self._framed = False
        now = self._now()
        self._until = now + self._limits.total_seconds
        self.deadline = now + self._limits.first_byte_seconds
        if self._transport is None:
            response.fail(gone())
        else:
            self._outbox.ask(self, request)
        return response

    def transmit(self, request: bytes) -> None:
        """What `ask` was given, its turn having come; nothing when the client has left meanwhile."""
        if self._transport is not None and self._response is not None and not self._transport.is_closing():
            self._transport.write(request)

    def withdraw(self, error: GarrisonError) -> None:
        """The request was not sent: it could not be recorded. The connection is as good as before."""
        response, self._response = self._response, None
        if response is not None and self.is_open:
            self.deadline = inf
            self._released(self, True)
            response.fail(error)

    def expect_end(self) -> None:
        """The answer ends within a moment, or the connection does."""
        self.resume()
        self._until = self.deadline = self._now() + LAST_BYTES_SECONDS

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def resume(self) -> None:
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
            self.deadline = min(self._now() + self._limits.idle_seconds, self._until)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def expire(self) -> None:
        """The model server was too slow."""
        self._fail(
            Undecided(
                "GW-TIMEOUT",
                "the model server did not go on with its answer in time",
                fix="try again, or ask for a shorter answer; an operator sees the cause in garrison posture",
            )
        )

    def _fail(self, error: GarrisonError) -> None:
        if self._response is not None:
            self._response.fail(error)
        self.abort()

    # --- asyncio.BufferedProtocol ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def get_buffer(self, _sizehint: int) -> memoryview:
        return self._view

    def buffer_updated(self, nbytes: int) -> None:
        response = self._response
        if response is None:
            self.abort()  # bytes that nobody asked for: the next answer could not be told from them
            return
        try:
            self._parser.feed_data(self._view[:nbytes])
        except httptools.HttpParserError:
            self._gather(response)
            self._fail(malformed("an answer that is not HTTP"))
            return
        self._gather(response)
        if self._response is response and response.status:
            # While it is paused the client is slow, not the model server.
            idle = self._until if self._paused else self._now() + self._limits.idle_seconds
            self.deadline = min(idle, self._until)
        response.wake()

    def _gather(self, response: Response) -> None:
        """What one read brought of a body, in one piece. The read was bounded, so the limits are looked at here."""
        pieces = self._pieces
        if not pieces:
            return
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        self._received += len(body)
        if self._received > self._limits.answer_bytes:
            response.fail(malformed(f"more than {self._limits.answer_bytes} bytes"))
            self.abort()
        elif (
            response.take(body) > self._limits.held_bytes
            and self._response is response
            and not self._paused
            and self._transport is not None
        ):
            self._paused = True
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, _exc: Exception | None) -> None:
        self._transport = None
        self.deadline = inf
        response, self._response = self._response, None
        self._released(self, False)
        if response is None:
            return
        if response.status and not self._framed:
            response.ended = True  # RFC 9112 section 6.3: delimited by the close
            response.wake()
        else:
            response.fail(gone())

    # --- httptools callbacks: they run inside the parser, so the reader is woken after it ---

    def on_message_begin(self) -> None:
        if self._response is None:
            raise httptools.HttpParserError("an answer that nobody asked for")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._received += len(name) + len(value)
        if self._received > self._limits.head_bytes:
            raise httptools.HttpParserError("response head too large")
        lower = name.lower()
        if lower == b"content-type" and self._response is not None:
            kind = value.partition(b";")[0].strip() if b";" in value else value
            self._response.content_type = kind.decode("latin-1").lower()
        elif lower in (b"content-length", b"transfer-encoding"):
            self._framed = True

    def on_headers_complete(self) -> None:
        if self._response is not None:
            self._received = 0
            status = self._parser.get_status_code()
            self._response.status = (
                status if status >= 200 else 0
            )  # RFC 9110 section 15.2: another one follows

    def on_message_complete(self) -> None:
        response = self._response
        if response is None or response.status == 0:
            return
        self._response = None
        self.deadline = inf
        response.ended = True
        self.used = True
        if self._paused:
            self._paused = False
            if self._transport is not None:
                self._transport.resume_reading()
        if self._parser.should_keep_alive() and self.is_open:
            self._released(self, True)
        else:
            self.abort()


def gone() -> Undecided:
    return Undecided(
        "GW-UPSTREAM",
        "the model server closed the connection before its answer was complete",
        fix="try again in a moment; if it stays so, ask an operator to look at garrison posture",
        retry_after=2,
    )


def malformed(what: str) -> Undecided:
    return Undecided(
        "GW-ANSWER",
        f"the model server sent {what}",
        fix="ask an operator to check the model server; the answer was cut",
    )
