"""The HTTP/1.1 server: connections, time limits, back-pressure and draining. It knows no routes.

One `Connection` serves one request at a time and hands each to `serve` as an `Exchange`. Reading goes on
while a request is served, because that is the only way to notice at once that a client has left. All
deadlines are kept by one periodic `tick`, not by a timer per request.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Callable, Coroutine
from math import inf
from typing import Any, cast

from garrison.core.errors import GarrisonError, Usage
from garrison.gateway.config import HttpLimits
from garrison.gateway.exchange import Exchange
from garrison.gateway.http_parse import HEAD_END, bad, is_hopeless, parse_head
from garrison.gateway.outbox import Outbox
from garrison.gateway.turns import Signal, Turn

TICK_SECONDS = 0.25  # how late a deadline may be noticed
LAST_EVENTS_SECONDS = 0.02  # what was cut at the end of a drain writes its event

Serve = Callable[[Exchange], Coroutine[Any, Any, None]]


class Server:
    """Every connection of one listener. `serve` answers one exchange and never raises."""

    def __init__(
        self,
        serve: Serve,
        limits: HttpLimits,
        loop: asyncio.AbstractEventLoop,
        outbox: Outbox | None = None,
    ) -> None:
        self.serve = serve
        self.limits = limits
        self.loop = loop
        self.outbox = outbox
        self.connections: set[Connection] = set()
        self.draining = False
        self.lingers_until = 0.0  # loop time, while draining
        self.refused = 0  # connections turned away because there were too many
        self._listener: asyncio.Server | None = None

    async def listen(
        self,
        host: str,
        port: int,
        tls: ssl.SSLContext | None = None,
        *,
        inherited: socket.socket | None = None,
    ) -> int:
        """Accept on `host:port` (0 picks one), or on a socket that outlives this worker, and return the port."""
        where = {"host": host, "port": port} if inherited is None else {"sock": inherited}
        self._listener = await self.loop.create_server(
            lambda: Connection(self),
            **where,
            ssl=tls,
            backlog=512,
            ssl_handshake_timeout=self.limits.head_seconds if tls else None,
        )
        return cast(int, self._listener.sockets[0].getsockname()[1])

    async def listen_unix(self, path: str) -> None:
        """Accept on a Unix socket that only this user reaches."""
        before = os.umask(0o177)
        try:
            self._listener = await self.loop.create_unix_server(lambda: Connection(self), path, backlog=512)
        finally:
            os.umask(before)

    def tick(self, now: float) -> None:
        """Act on every deadline that has passed. Call it each `TICK_SECONDS`."""
        for connection in [each for each in self.connections if each.deadline < now]:
            connection.expire()

    async def drain(self, seconds: float, linger: float = 0.0) -> None:
        """Stop accepting, let requests in flight end, cut what is left after `seconds`.

        Who was accepted and has not asked yet, or is still shaking hands, may ask once within `linger`.
        """
        self.draining = True
        if self.outbox is not None:
            self.outbox.flush()  # connections are closed below: what is for them goes first
        if self._listener is not None:
            self._listener.close()
        until = self.loop.time() + seconds
        self.lingers_until = self.loop.time() + linger
        for connection in list(self.connections):
            connection.close_if_idle()
        while (self.connections or self.loop.time() < self.lingers_until) and self.loop.time() < until:
            await asyncio.sleep(0.02)
            if self.loop.time() >= self.lingers_until:
                for connection in list(self.connections):
                    connection.close_if_idle()
        for connection in list(self.connections):
            connection.abort()
        await asyncio.sleep(LAST_EVENTS_SECONDS if seconds else 0)


class Connection(asyncio.Protocol):
    """One client. States: waiting for a head, serving an exchange, lingering before the close."""

    __slots__ = (
        "_buffer",
        "_exchange",
        "_head_begun",
        "_lingering",
        "_reading",
        "_server",
        "_transport",
        "_writable",
        "certificate",
        "deadline",
        "peer",
        "served",
    )

    def __init__(self, server: Server) -> None:
        self._server = server
        self._buffer: bytes | bytearray = b""  # read and not yet used; most requests come in one piece
        self._exchange: Exchange | None = None
        self._transport: asyncio.Transport | None = None
        self._writable: Signal | None = None
        self._reading = True
        self._lingering = False
        self._head_begun = False
        self.deadline = inf
        self.peer = ""
        self.certificate = b""
        self.served = False

    # --- asyncio.Protocol ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        server = self._server
        too_late = server.draining and server.loop.time() >= server.lingers_until
        if too_late or len(server.connections) >= server.limits.connections:
            server.refused += 1
            self._transport.abort()
            return
        address = transport.get_extra_info("peername")
        self.peer = address[0] if isinstance(address, tuple) else ""
        tls = transport.get_extra_info("ssl_object")
        if tls is not None:
            self.certificate = tls.getpeercert(True) or b""
        self._transport.set_write_buffer_limits(high=server.limits.write_buffer)
        wire = transport.get_extra_info("socket")
        if wire is not None:  # else the kernel would hold megabytes for a client that does not read
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, server.limits.write_buffer)
        server.connections.add(self)
        self.deadline = server.loop.time() + server.limits.head_seconds

    def connection_lost(self, _exc: Exception | None) -> None:
        self._server.connections.discard(self)
        self._transport = None
        self._writable = None
        self.deadline = inf
        if self._exchange is not None:
            self._exchange.cut(None)

    def data_received(self, data: bytes) -> None:
        if self._lingering:
            return
        if not self._buffer:
            self._buffer = data
        else:
            if isinstance(self._buffer, bytes):
                self._buffer = bytearray(self._buffer)
            self._buffer += data
        if self._exchange is None:
            self._next()
        elif not self._exchange.body_complete:
            self._more_body(self._exchange)
        if len(self._buffer) > self._server.limits.pipelined_bytes and self._exchange is not None:
            self._pause_reading()

    def eof_received(self) -> bool:
        return False  # a half-closed client has left

    def pause_writing(self) -> None:
        self._writable = Signal()
        self.deadline = self._server.loop.time() + self._server.limits.stall_seconds

    def resume_writing(self) -> None:
        waiting, self._writable = self._writable, None
        if self._exchange is not None:
            if self._exchange.body_complete:
                self.deadline = inf
        elif not self._lingering and not self._head_begun:
            self.deadline = self._server.loop.time() + self._server.limits.idle_seconds
        if waiting is not None:
            waiting.set()

    # --- reading requests ---

    def _next(self) -> None:
        """Begin the next request if its head is here."""
        buffer, limits = self._buffer, self._server.limits
        if not buffer:
            return
        end = buffer.find(HEAD_END, 0, limits.head_bytes)
        if end < 0:
            if len(buffer) >= limits.head_bytes:
                what = f"the request head is larger than {limits.head_bytes} bytes"
                self._refuse(bad("HTTP-HEADERS", what, fix="send fewer or shorter headers"))
            elif is_hopeless(buffer):
                self._refuse(bad("HTTP-SYNTAX", "a line of the request head does not end with CR LF"))
            elif not self._head_begun:
                self._head_begun = True
                self.deadline = self._server.loop.time() + limits.head_seconds
            return
        raw, self._buffer = bytes(buffer[: end + 4]), buffer[end + 4 :]
        try:
            head = parse_head(raw, limits)
        except Usage as error:
            self._refuse(error)
            return
        exchange = Exchange(self, head, None, self.peer, limits)
        exchange.certificate = self.certificate
        if exchange.body_complete:
            self.deadline = inf
        else:
            self.deadline = self._server.loop.time() + limits.body_seconds
            self._more_body(exchange)
        self._begin(exchange)

    def _more_body(self, exchange: Exchange) -> None:
        """Give the exchange what has come. Last, because it may answer then and there."""
        data, self._buffer = bytes(self._buffer), b""
        try:
            self._buffer = exchange.feed(data)
        except Usage as error:
            exchange.fail_body(error)
            return
        if exchange.body_complete:
            self.deadline = inf
            exchange.arrived()

    def _refuse(self, error: GarrisonError) -> None:
        """What was sent is not a request. It is still answered and recorded like one, by the same path."""
        self._buffer = b""
        self.deadline = inf
        self._begin(Exchange(self, None, error, self.peer, self._server.limits))

    def _begin(self, exchange: Exchange) -> None:
        self._head_begun = False
        self._exchange = exchange
        self.served = True
        exchange.turn = Turn(self._server.serve(exchange))
        exchange.turn.resume()

    def _pause_reading(self) -> None:
        if self._reading and self._transport is not None:
            self._reading = False
            self._transport.pause_reading()

    # --- exchange.Wire ---

    def send(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def reply(self, data: bytes) -> None:
        exchange, outbox = self._exchange, self._server.outbox
        # A connection that is closed behind its answer cannot wait for the others.
        if outbox is None or exchange is None or not exchange.keep_alive or self._server.draining:
            self.send(data)
        else:
            outbox.reply(self, data)

    def writable(self) -> Signal | None:
        return self._writable

    def done(self, exchange: Exchange) -> None:
        self._exchange = None
        if self._transport is None:
            return
        if exchange.defect is not None or not exchange.body_complete:
            # Closing now would reset the connection under the answer: read on for a moment, then close.
            self._lingering = True
            if self._transport.can_write_eof():
                self._transport.write_eof()
            self._buffer = b""
            self.deadline = self._server.loop.time() + self._server.limits.linger_seconds
            return
        if not exchange.keep_alive or self._server.draining:
            self._transport.close()
            return
        limits = self._server.limits
        seconds = limits.idle_seconds if self._writable is None else limits.stall_seconds
        self.deadline = self._server.loop.time() + seconds
        if not self._reading:
            self._reading = True
            self._transport.resume_reading()
        if self._buffer:  # not now: what was sent at once would be answered ever deeper in the stack
            self._server.loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        if self._exchange is None and not self._lingering and self._transport is not None:
            self._next()

    # --- from the server ---

    def expire(self) -> None:
        """The deadline has passed: what that means depends on what the connection was doing."""
        self.deadline = inf
        exchange = self._exchange
        if self._writable is not None:
            self.abort()
        elif exchange is not None:
            exchange.fail_body(_too_slow("body"))
        elif self._head_begun:
            self._refuse(_too_slow("head"))
        else:
            self.abort()

    def close_if_idle(self) -> None:
        if self._exchange is None and self._transport is not None:
            if self.served or self._server.loop.time() >= self._server.lingers_until:
                self._transport.close()
        elif self._exchange is not None:
            self._exchange.keep_alive = False

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()


def _too_slow(part: str) -> Usage:
    return bad("HTTP-TIMEOUT", f"the request {part} did not arrive in time", fix="send the request at once")
