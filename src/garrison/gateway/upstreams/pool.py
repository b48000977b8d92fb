"""A bounded pool of connections per model server. It retries only what cannot have been begun."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

from garrison.core.errors import GarrisonError, Undecided
from garrison.gateway.config import UpstreamLimits
from garrison.gateway.upstreams.address import Address, parse_address
from garrison.gateway.upstreams.connection import Asks, Connection, Response

MAX_HEADS = 256  # of one server: two for every path and key


@dataclass(slots=True)
class _Host:
    address: Address
    idle: list[Connection] = field(default_factory=list)
    open: int = 0  # connections there are, or are being made
    waiters: deque[asyncio.Future[None]] = field(default_factory=deque)
    heads: dict[tuple[str, bytes], bytes] = field(default_factory=dict)  # of requests, up to the length


class Pool:
    """Connections to every model server of the snapshot, by address."""

    def __init__(
        self,
        limits: UpstreamLimits,
        loop: asyncio.AbstractEventLoop,
        outbox: Asks,
        tls: Callable[[], ssl.SSLContext] = lambda: _verified(),
    ) -> None:
        self._limits = limits
        self._tls = cache(tls)  # made when the first https address is asked: reading authorities takes 20 ms
        self._loop = loop
        self._outbox = outbox
        self._hosts: dict[str, _Host] = {}
        self._live: set[Connection] = set()

    async def post(
        self, address: str, path: str, body: bytes, headers: bytes = b"", *, fixed: bool = True
    ) -> Response:
        """POST a JSON body and return the response once its head has come.

        `headers` are complete lines; they are `fixed` when the same ones come again with the same path.
        Raises `Undecided` GW-UPSTREAM, GW-BUSY, GW-ANSWER or GW-TIMEOUT.
        """
        host = self._host(address)
        head = host.heads.get((path, headers))
        if head is None:
            head = _request_head(host.address.base + path, host.address.authority, headers)
            if fixed and len(host.heads) < MAX_HEADS:
                host.heads[path, headers] = head
        request = b"%b%d\r\n\r\n%b" % (head, len(body), body)
        while True:
            connection = host.idle.pop() if host.idle else None
            if connection is None or not connection.is_open:
                connection = await self._another(host)
            was_used = connection.used
            response = connection.ask(request)
            try:
                await response.head()
            except GarrisonError as error:
                # A kept-alive connection that the server had already closed: nothing was begun, ask again.
                if was_used and error.code == "GW-UPSTREAM":
                    continue
                raise
            except asyncio.CancelledError:
                response.close()
                raise
            return response

    def tick(self, now: float) -> None:
        for connection in [each for each in self._live if each.deadline < now]:
            connection.expire()

    def close(self) -> None:
        for connection in list(self._live):
            connection.abort()

    def _host(self, address: str) -> _Host:
        host = self._hosts.get(address)
        if host is None:
            host = self._hosts[address] = _Host(parse_address(address))
        return host

    async def _another(self, host: _Host) -> Connection:
        """A connection that has to be waited for, in a task of its own, because waiting has a time limit."""
        acquiring = self._loop.create_task(self._acquire(host))
        try:
            return await acquiring
        except asyncio.CancelledError:
            if acquiring.done() and not acquiring.cancelled() and acquiring.exception() is None:
                self._released(host, acquiring.result(), reusable=True)  # it came at the same moment
            raise

    async def _acquire(self, host: _Host) -> Connection:
        while True:
            while host.idle:
                connection = host.idle.pop()
                if connection.is_open:
                    return connection
            if host.open < self._limits.connections:
                return await self._connect(host)
            await self._wait(host)

    async def _wait(self, host: _Host) -> None:
        if len(host.waiters) >= self._limits.queue:
            raise _busy()
        waiter: asyncio.Future[None] = self._loop.create_future()
        host.waiters.append(waiter)
        try:
            await asyncio.wait_for(waiter, self._limits.queue_seconds)
        except TimeoutError:
            raise _busy() from None
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                _wake_one(host)  # the turn that came at the same moment goes to the next
            raise
        finally:
            if waiter in host.waiters:
                host.waiters.remove(waiter)

    async def _connect(self, host: _Host) -> Connection:
        host.open += 1

        def released(connection: Connection, reusable: bool) -> None:
            self._released(host, connection, reusable=reusable)

        def protocol() -> Connection:
            return Connection(self._limits, self._loop.time, released, self._outbox)

        try:
            async with asyncio.timeout(self._limits.connect_seconds):
                if host.address.path:
                    _, connection = await self._loop.create_unix_connection(protocol, host.address.path)
                else:
                    tls = self._tls() if host.address.tls else None
                    _, connection = await self._loop.create_connection(
                        protocol, host.address.host, host.address.port, ssl=tls
                    )
        except BaseException as error:
            host.open -= 1
            _wake_one(host)
            if isinstance(error, OSError | TimeoutError):
                raise _unreachable() from error
            raise
        self._live.add(connection)
        return connection

    def _released(self, host: _Host, connection: Connection, *, reusable: bool) -> None:
        """An answer has ended: the next request may use the connection, or it is gone."""
        if reusable:
            host.idle.append(connection)
        else:
            host.open -= 1
            self._live.discard(connection)
            if connection in host.idle:
                host.idle.remove(connection)
        _wake_one(host)


def _request_head(path: str, authority: str, headers: bytes) -> bytes:
    first = f"POST {path} HTTP/1.1\r\nhost: {authority}\r\ncontent-type: application/json\r\n".encode()
    return first + headers + b"content-length: "


def _verified() -> ssl.SSLContext:
    """TLS 1.2 or newer; the certificate is checked against the system's authorities and for the host's name."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _wake_one(host: _Host) -> None:
    while host.waiters:
        waiter = host.waiters.popleft()
        if not waiter.done():
            waiter.set_result(None)
            return


def _busy() -> Undecided:
    return Undecided(
        "GW-BUSY",
        "every connection to the model server is in use",
        fix="try again in a few seconds",
        retry_after=5,
    )


def _unreachable() -> Undecided:
    return Undecided(
        "GW-UPSTREAM",
        "the model server does not answer",
        fix="try again in a moment; if it stays so, ask an operator to look at garrison posture",
        retry_after=2,
    )
