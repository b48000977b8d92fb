"""An HTTP/1.1 request head and body framing, by allow-list. Pure: bytes in, values or a refusal out.

Whatever is not exactly the grammar of RFC 9112 is refused, and so is every form that another hop might
read differently: that is what request smuggling is made of. Lenient parsers hide such forms (a bare LF,
a folded line, two lengths), so the head is matched here against one grammar without backtracking.
Vendor clients send none of these forms.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from garrison.core.errors import Usage
from garrison.gateway.config import HttpLimits

METHODS = frozenset(b"GET POST HEAD PUT DELETE PATCH OPTIONS TRACE CONNECT".split())  # RFC 9110 9.3, RFC 5789
MAX_HOST = 255  # bytes, RFC 1035 section 2.3.4
MAX_DIGITS = 10  # of a length: 10 GB, far above any limit on a body
HEAD_END = b"\r\n\r\n"

# RFC 9112 section 3 and 5. What is left of a name or a value without these bytes is not allowed in it:
# `translate` looks at each byte once, several times faster than a regular expression does.
_TARGET_BYTES = bytes(range(0x21, 0x7F))
_HOST_BYTES = b".:_[]-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_NAME_BYTES = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_VALUE_BYTES = b"\t" + bytes(range(0x20, 0x7F))
_CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]{1,7}+\Z")

_SIZE_BEGUN = re.compile(rb"[0-9A-Fa-f]{0,7}+\r?\Z")
_BARE_LF = re.compile(rb"(?<!\r)\n")

# Two of one of these is where two parsers disagree about who asks, for whom, and how long the body is.
_ONCE = frozenset(
    {
        b"host",
        b"content-length",
        b"transfer-encoding",
        b"content-type",
        b"content-encoding",
        b"authorization",
        b"connection",
        b"expect",
        b"x-api-key",
        b"x-garrison-caller",
        b"x-garrison-tier",
        b"x-forwarded-client-cert",
    }
)
# How clients write the names they all send; other names are checked byte by byte.
_WRITTEN = {
    written: written.lower()
    for written in (
        b"Host|Accept|Accept-Encoding|Connection|User-Agent|Content-Type|Content-Length|Authorization|"
        b"host|accept|accept-encoding|connection|user-agent|content-type|content-length|authorization"
    ).split(b"|")
}
_CONNECTION = frozenset({b"close", b"keep-alive"})


class Head(NamedTuple):
    """One request's head. Header names are lower case; `length` is None when the body is chunked."""

    method: str
    target: str
    headers: dict[bytes, bytes]
    length: int | None
    keep_alive: bool
    expects_continue: bool


def bad(code: str, what: str, *, fix: str = "send a plain HTTP/1.1 request as RFC 9112 writes it") -> Usage:
    return Usage(code, what, fix=fix)


def parse_head(raw: bytes, limits: HttpLimits) -> Head:
    """The head in `raw`, which ends with an empty line. Raises `Usage` HTTP-SYNTAX, HTTP-FRAMING, HTTP-UPGRADE
    or HTTP-HEADERS; the connection cannot be used afterwards.
    """
    first, *lines = raw[:-4].split(b"\r\n")
    words = first.split(b" ")
    method, target, version = words if len(words) == 3 else (b"", b"", b"")
    if method not in METHODS or version[:5] != b"HTTP/":
        raise bad("HTTP-SYNTAX", "the request line is not METHOD /path HTTP/1.1")
    if version != b"HTTP/1.1":
        raise bad("HTTP-SYNTAX", "only HTTP/1.1 is spoken here")
    if target.translate(None, _TARGET_BYTES):
        raise bad("HTTP-SYNTAX", "the request target has bytes outside visible ASCII")
    if not target.startswith(b"/"):
        raise bad("HTTP-SYNTAX", "the request target is not a path")
    headers = _collect(lines, limits)
    host = headers.get(b"host", b"")
    if not host or len(host) > MAX_HOST or host.translate(None, _HOST_BYTES):
        raise bad("HTTP-SYNTAX", "exactly one well-formed Host header is required")
    length = _framing(headers)
    connection = headers[b"connection"].lower() if b"connection" in headers else b"keep-alive"
    if b"upgrade" in headers or b"http2-settings" in headers or connection not in _CONNECTION:
        raise bad(
            "HTTP-UPGRADE", "the connection cannot be upgraded and Connection may only keep or close it"
        )
    expect = headers.get(b"expect", b"").lower()
    if expect not in (b"", b"100-continue"):
        raise bad("HTTP-SYNTAX", "Expect may only be 100-continue")
    return Head(method.decode(), target.decode(), headers, length, connection == b"keep-alive", bool(expect))


def is_hopeless(begun: bytes | bytearray) -> bool:
    """Whether an unfinished head can no longer become one; waiting for the rest would waste the client's time."""
    return _BARE_LF.search(begun) is not None


def _collect(lines: list[bytes], limits: HttpLimits) -> dict[bytes, bytes]:
    """RFC 9112 section 5: `name: value`, nothing before the colon but the name, nothing folded."""
    if len(lines) > limits.header_count:
        raise bad("HTTP-HEADERS", f"{len(lines)} headers; at most {limits.header_count} are read")
    if b"".join(lines).translate(None, _VALUE_BYTES):  # names are made of fewer bytes still
        raise bad("HTTP-SYNTAX", "a header line is not name: value in plain ASCII")
    headers: dict[bytes, bytes] = {}
    for line in lines:
        written, colon, value = line.partition(b":")
        name = _WRITTEN.get(written)
        if name is None:
            name = written.lower()
        if not colon or not name or name.translate(None, _NAME_BYTES):
            raise bad("HTTP-SYNTAX", "a header line is not name: value in plain ASCII")
        if name in headers and name in _ONCE:
            raise bad("HTTP-FRAMING", f"the header {name.decode()} stands there twice")
        headers[name] = value.strip(b" \t")
    return headers


def _framing(headers: dict[bytes, bytes]) -> int | None:
    """RFC 9112 section 6.3, without the cases that are legal but ambiguous in practice."""
    coding = headers.get(b"transfer-encoding")
    length = headers.get(b"content-length")
    if coding is not None:
        if length is not None:
            raise bad("HTTP-FRAMING", "Content-Length and Transfer-Encoding stand together")
        if coding.lower() != b"chunked":
            raise bad("HTTP-FRAMING", "the only transfer coding is chunked")
        return None
    if length is None:
        return 0
    if not length.isdigit() or len(length) > MAX_DIGITS:
        raise bad("HTTP-FRAMING", "Content-Length is not a decimal number")
    return int(length)


class ChunkedBody:
    """RFC 9112 section 7.1 without extensions and trailers: `feed` bytes until `done`, then read `rest`.

    Raises `Usage` HTTP-FRAMING on anything else and HTTP-BODY above `limit` bytes.
    """

    __slots__ = ("_body", "_limit", "_need", "_pending", "done", "rest")

    def __init__(self, limit: int) -> None:
        self._body = bytearray()
        self._pending = bytearray()
        self._limit = limit
        self._need = -1  # bytes of the current chunk still to come, CRLF included; -1: a size line is next
        self.done = False
        self.rest = b""

    @property
    def body(self) -> bytes:
        return bytes(self._body)

    def feed(self, data: bytes) -> None:
        pending = self._pending
        pending += data
        while not self.done and self._step(pending):
            pass
        if self.done:
            self.rest = bytes(pending)

    def _step(self, pending: bytearray) -> bool:
        if self._need < 0:
            return self._size_line(pending)
        take = min(self._need - 2, len(pending))
        if take > 0:
            self._body += pending[:take]
            del pending[:take]
            self._need -= take
        if self._need > 2 or len(pending) < 2:
            return False
        if pending[:2] != b"\r\n":
            raise bad("HTTP-FRAMING", "a chunk does not end where its size says")
        del pending[:2]
        self._need = -1
        return True

    def _size_line(self, pending: bytearray) -> bool:
        end = pending.find(b"\r\n")
        if end < 0:
            if not _SIZE_BEGUN.match(pending):
                raise bad("HTTP-FRAMING", "a chunk size is not a short hexadecimal number")
            return False
        line = bytes(pending[:end])
        if not _CHUNK_SIZE.match(line):
            raise bad("HTTP-FRAMING", "a chunk size is not a short hexadecimal number")
        size = int(line, 16)
        if size == 0:
            return self._last(pending, end)
        if len(self._body) + size > self._limit:
            raise too_large(self._limit)
        del pending[: end + 2]
        self._need = size + 2
        return True

    def _last(self, pending: bytearray, end: int) -> bool:
        if len(pending) < end + 4:
            return False
        if pending[end : end + 4] != HEAD_END:
            raise bad("HTTP-FRAMING", "trailers are not read here")
        del pending[: end + 4]
        self.done = True
        return False


def too_large(limit: int) -> Usage:
    return bad(
        "HTTP-BODY",
        f"the request body is larger than {limit} bytes",
        fix="send a shorter prompt, or raise the gateway's body limit",
    )
