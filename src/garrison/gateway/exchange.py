"""One request and its answer on a connection: the view that the pipeline has of the wire.

An exchange reads the body when asked (`body()`), answers once (`send`) or as a stream (`start`, `write`,
`finish`), and can be `cut` from outside - the client left, its token was revoked, time is up - which
cancels the task that serves it and says why.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from garrison.core.errors import GarrisonError
from garrison.gateway.config import HttpLimits
from garrison.gateway.http_parse import ChunkedBody, Head, too_large

_REASONS = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}
_COMMON = b"cache-control: no-store\r\nx-content-type-options: nosniff\r\n"
STATUS_LINES = {
    status: b"HTTP/1.1 %d %s\r\n" % (status, reason.encode()) + _COMMON for status, reason in _REASONS.items()
}

Headers = tuple[tuple[bytes, bytes], ...]


class Wire(Protocol):
    """What an exchange needs from its connection."""

    def send(self, data: bytes) -> None:
        """Queue bytes for the client; nothing happens once it has left."""

    def writable(self) -> asyncio.Future[None] | None:
        """A future that resolves when the client has taken enough, or None when it has already."""

    def done(self, exchange: Exchange) -> None:
        """The answer is complete; the connection may go on to its next request or close."""


class Exchange:
    """One request. `defect` is set when the head could not be understood; then there is no body."""

    __slots__ = (
        "_body",
        "_body_waiter",
        "_chunks",
        "_length",
        "_limits",
        "_wire",
        "body_complete",
        "cut_by",
        "defect",
        "entered",
        "finished",
        "gone",
        "head",
        "keep_alive",
        "peer",
        "started",
        "streaming",
        "task",
    )

    def __init__(
        self, wire: Wire, head: Head | None, defect: GarrisonError | None, peer: str, limits: HttpLimits
    ) -> None:
        self._wire = wire
        self._limits = limits
        self._body = bytearray()
        self._body_waiter: asyncio.Future[None] | None = None
        chunked = head is not None and head.length is None
        self._chunks = ChunkedBody(limits.body_bytes) if chunked else None
        self._length = head.length or 0 if head is not None else 0
        self.head = head
        self.defect = defect
        self.peer = peer
        self.keep_alive = head is not None and head.keep_alive and defect is None
        self.body_complete = not chunked and self._length == 0
        self.gone = False
        self.entered = False  # the task that serves it has begun
        self.finished = False
        self.cut_by: GarrisonError | None = None
        self.started = False
        self.streaming = False
        self.task: asyncio.Task[None] | None = None

    # --- the body ---

    def feed(self, buffer: bytearray) -> None:
        """Take this request's body bytes from the front of `buffer`. Raises `Usage` HTTP-FRAMING, HTTP-BODY."""
        if self._chunks is not None:
            self._chunks.feed(bytes(buffer))
            buffer.clear()
            if self._chunks.done:
                buffer += self._chunks.rest
                self._complete()
            return
        missing = self._length - len(self._body)
        self._body += buffer[:missing]
        del buffer[:missing]
        if len(self._body) == self._length:
            self._complete()

    def _complete(self) -> None:
        self.body_complete = True
        if self._body_waiter is not None and not self._body_waiter.done():
            self._body_waiter.set_result(None)

    def fail_body(self, error: GarrisonError) -> None:
        """The body will not arrive whole: whoever waits for it is told why."""
        self.defect = error
        self.keep_alive = False
        if self._body_waiter is not None and not self._body_waiter.done():
            self._body_waiter.set_exception(error)

    async def body(self) -> bytes:
        """The whole request body. Raises `Usage` HTTP-BODY, HTTP-FRAMING or HTTP-TIMEOUT."""
        if self._length > self._limits.body_bytes:
            raise too_large(self._limits.body_bytes)
        if self.defect is not None:
            raise self.defect
        if not self.body_complete:
            if self.head is not None and self.head.expects_continue:
                self._wire.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._body_waiter = asyncio.get_running_loop().create_future()
            await self._body_waiter
        return self._chunks.body if self._chunks is not None else bytes(self._body)

    # --- the answer ---

    def send(self, status: int, headers: Headers, body: bytes) -> None:
        """The whole answer at once."""
        self.started = True
        head = [STATUS_LINES[status]]
        head += [b"%s: %s\r\n" % pair for pair in headers]
        head.append(b"content-length: %d\r\n" % len(body))
        head.append(b"\r\n" if self._reusable() else b"connection: close\r\n\r\n")
        head.append(body)
        self._wire.send(b"".join(head))
        self._wire.done(self)

    def start(self, status: int, headers: Headers) -> None:
        """The head of a streamed answer; `write` and `finish` follow."""
        self.started = self.streaming = True
        head = [STATUS_LINES[status]]
        head += [b"%s: %s\r\n" % pair for pair in headers]
        head.append(b"transfer-encoding: chunked\r\n")
        head.append(b"\r\n" if self._reusable() else b"connection: close\r\n\r\n")
        self._wire.send(b"".join(head))

    def write(self, data: bytes) -> asyncio.Future[None] | None:
        """One chunk of a streamed answer. Await what is returned, if anything, before writing more."""
        if data:
            self._wire.send(b"%x\r\n%s\r\n" % (len(data), data))
        return self._wire.writable()

    def finish(self) -> None:
        """End a streamed answer properly."""
        self.finished = True
        self._wire.send(b"0\r\n\r\n")
        self._wire.done(self)

    def _reusable(self) -> bool:
        if not self.body_complete:
            self.keep_alive = False
        return self.keep_alive

    # --- from outside ---

    def cut(self, error: GarrisonError | None) -> None:
        """Stop serving this request: `error` says why, None that the client has left."""
        if self.task is None or self.task.done() or self.gone or self.cut_by is not None:
            return
        if error is None:
            self.gone = True
        self.cut_by = error
        if self.entered:  # a task that is cancelled before its first step would leave no event
            self.task.cancel()
