"""One request and its answer on a connection: the view that the pipeline has of the wire.

An exchange reads the body when asked (`body()`), answers once (`send`) or as a stream (`start`, `write`,
`finish`), and can be `cut` from outside - the client left, its token was revoked, time is up - which
cancels the turn that serves it and says why.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from garrison.core.errors import GarrisonError
from garrison.gateway.config import HttpLimits
from garrison.gateway.http_parse import ChunkedBody, Head, too_large
from garrison.gateway.turns import Signal, Turn

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


class Wire(Protocol):
    """What an exchange needs from its connection."""

    def send(self, data: bytes) -> None:
        """Queue bytes for the client; nothing happens once it has left."""

    def reply(self, data: bytes) -> None:
        """A whole answer: like `send`, but it may leave together with others."""

    def writable(self) -> Signal | None:
        """What is set when the client has taken enough, or None when it has already."""

    def done(self, exchange: Exchange) -> None:
        """The answer is complete; the connection may go on to its next request or close."""


class Exchange:
    """One request. `defect` is set when the head could not be understood; then there is no body."""

    __slots__ = (
        "_arrived",
        "_body",
        "_chunks",
        "_head_out",
        "_limits",
        "_missing",
        "_wire",
        "body_complete",
        "certificate",
        "cut_by",
        "defect",
        "finished",
        "gone",
        "head",
        "keep_alive",
        "last_words",
        "peer",
        "started",
        "streaming",
        "turn",
    )

    def __init__(
        self, wire: Wire, head: Head | None, defect: GarrisonError | None, peer: str, limits: HttpLimits
    ) -> None:
        self._wire = wire
        self._limits = limits
        self._body: bytes | bytearray = b""
        self._arrived: Signal | None = None
        self._chunks: ChunkedBody | None = None
        self._head_out = b""  # of a streamed answer, until its first chunk
        self._missing = 0  # bytes of a body with a length that are still to come
        self.head = head
        self.defect = defect
        self.peer = peer
        self.certificate = b""  # of the client, in DER, when TLS accepted one
        self.keep_alive = False
        self.body_complete = True
        if head is not None:
            self.keep_alive = head.keep_alive and defect is None
            if head.length is None:
                self._chunks = ChunkedBody(limits.body_bytes)
                self.body_complete = False
            elif head.length:
                self._missing = head.length
                self.body_complete = False
        self.gone = False
        self.finished = False
        self.cut_by: GarrisonError | None = None
        self.started = False
        self.streaming = False
        self.turn: Turn | None = None
        self.last_words: Callable[[GarrisonError], bytes] | None = None  # how a stream says that it was cut

    # --- the body ---

    def feed(self, data: bytes) -> bytes:
        """Take this request's body from the front of `data`; what is left belongs to the next request.

        Raises `Usage` HTTP-FRAMING or HTTP-BODY. Whoever waits for the body is told by `arrived`.
        """
        if self._chunks is not None:
            self._chunks.feed(data)
            self.body_complete = self._chunks.done
            return self._chunks.rest
        body, rest = data[: self._missing], data[self._missing :]
        self._missing -= len(body)
        self.body_complete = self._missing == 0
        if not self._body:
            self._body = body
        else:
            if isinstance(self._body, bytes):
                self._body = bytearray(self._body)
            self._body += body
        return rest

    def arrived(self) -> None:
        """The body is complete, or will never be."""
        if self._arrived is not None:
            self._arrived.set()

    def fail_body(self, error: GarrisonError) -> None:
        """The body will not arrive whole: whoever waits for it is told why."""
        self.defect = error
        self.keep_alive = False
        self.arrived()

    async def body(self) -> bytes:
        """The whole request body. Raises `Usage` HTTP-BODY, HTTP-FRAMING or HTTP-TIMEOUT."""
        if self.head is not None and (self.head.length or 0) > self._limits.body_bytes:
            raise too_large(self._limits.body_bytes)
        if not self.body_complete and self.defect is None:
            if self.head is not None and self.head.expects_continue:
                self._wire.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._arrived = Signal()
            await self._arrived
        if self.defect is not None:
            raise self.defect
        return self._chunks.body if self._chunks is not None else bytes(self._body)

    # --- the answer ---

    def send(self, status: int, headers: bytes, body: bytes) -> None:
        """The whole answer at once. `headers` are complete lines."""
        self.started = True
        end = b"\r\n" if self._reusable() else b"connection: close\r\n\r\n"
        self._wire.reply(
            b"%b%bcontent-length: %d\r\n%b%b" % (STATUS_LINES[status], headers, len(body), end, body)
        )
        self._wire.done(self)

    def start(self, status: int, headers: bytes) -> None:
        """The head of a streamed answer. It leaves with what is written next; `write` and `finish` follow."""
        self.started = self.streaming = True
        end = b"\r\n" if self._reusable() else b"connection: close\r\n\r\n"
        self._head_out = b"%b%btransfer-encoding: chunked\r\n%b" % (STATUS_LINES[status], headers, end)

    def write(self, data: bytes) -> Signal | None:
        """One chunk of a streamed answer. Await what is returned, if anything, before writing more."""
        out = self._taken(data)
        if out:
            self._wire.send(out)
        return self._wire.writable()

    def finish(self, data: bytes = b"") -> None:
        """End a streamed answer properly, with its last chunk."""
        self.finished = True
        self._wire.send(self._taken(data) + b"0\r\n\r\n")
        self._wire.done(self)

    def _taken(self, data: bytes) -> bytes:
        """A chunk, behind the head when that has not left yet: one write costs less than two."""
        head, self._head_out = self._head_out, b""
        return b"%b%x\r\n%b\r\n" % (head, len(data), data) if data else head

    def abandon(self) -> None:
        """End a streamed answer as what it is: cut. Nothing says that it is complete."""
        self.finished = True
        self.keep_alive = False
        self._wire.send(self._taken(b""))
        self._wire.done(self)

    def _reusable(self) -> bool:
        if not self.body_complete:
            self.keep_alive = False
        return self.keep_alive

    # --- from outside ---

    def cut(self, error: GarrisonError | None) -> None:
        """Stop serving this request: `error` says why, None that the client has left."""
        if self.turn is None or self.turn.done or self.gone or self.cut_by is not None:
            return
        if error is None:
            self.gone = True
        self.cut_by = error
        self.turn.cancel()
