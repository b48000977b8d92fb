"""Syslog (RFC 5424) over TLS with octet counting (RFC 5425), and how to know that a receiver has it all.

Syslog has no acknowledgement. So each batch has a connection of its own: we send it, say in TLS that we are done
(close_notify), and wait until the receiver has closed without a reset. A program closes when it has read to that
end, and handles what it reads in order; the kernel of one that was killed resets, because our last record lies
unread or finds nobody. What is not confirmed in this way is sent again.
"""

from __future__ import annotations

import contextlib
import fcntl
import re
import socket
import ssl
import struct
import termios
import time
from collections.abc import Callable, Sequence

from garrison.core.event import Outcome, format_time
from garrison.evidence.record import Record
from garrison.evidence.sinks.base import SECONDS, away, context_of, reason_of
from garrison.evidence.sinks.sink import Sink, place_of

FACILITY = 13  # log audit (RFC 5424 section 6.2.1)
_SEVERITY = {Outcome.ALLOWED: 6, Outcome.DENIED: 4, Outcome.ERROR: 3, Outcome.UNKNOWN: 4}
_MAX_SEQUENCE = 2_147_483_647  # RFC 5424 section 7.3.1: then it begins again at 1
_READ = 16_384
_TLS_PLAIN = 16_384  # bytes of one TLS record
_CLOSE_WAIT = 8  # tcp_states.h: the other side has closed, and we are not reset
_ACKNOWLEDGED_SECONDS = 5.0
_POLL_SECONDS = 0.002

Line = Callable[[Record], str]


class Syslog:
    """`line` writes the text of a record; it is ASCII without control characters."""

    def __init__(self, sink: Sink, line: Line, host: str) -> None:
        self._sink = sink
        self._line = line
        self._host = re.sub(r"[^!-~]", "-", host)[:255] or "-"
        self._place = place_of(sink.url)

    def send(self, records: Sequence[Record]) -> None:
        data = b"".join(framed(record, self._line(record), self._host) for record in records)
        try:
            address = (self._place.host, self._place.port)
            with socket.create_connection(address, SECONDS) as connection:
                if self._place.is_secure:
                    _Tls(connection, context_of(self._sink), self._place.host).send(data)
                else:
                    connection.sendall(data)
                    connection.shutdown(socket.SHUT_WR)
                _await_close(connection, is_shut=not self._place.is_secure)
        except OSError as error:  # ssl's errors and time-outs are some of these
            raise away(self._sink, reason_of(error)) from None


def framed(record: Record, text: str, host: str) -> bytes:
    """RFC 5425 section 4.3: the length in bytes, a space, the message."""
    event = record.event
    sequence = (record.seq - 1) % _MAX_SEQUENCE + 1
    head = (
        f"<{FACILITY * 8 + _SEVERITY[event.outcome]}>1 {format_time(event.time)} {host} garrison - "
        f'{event.action.value[:32]} [meta sequenceId="{sequence}"] '
    )
    message = (head + text).encode("ascii")
    return b"%d %b" % (len(message), message)


class _Tls:
    """TLS over a socket by hand: the standard library's own closing gives up on a peer that only closes TCP."""

    def __init__(self, connection: socket.socket, context: ssl.SSLContext, host: str) -> None:
        self._connection = connection
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname=host)

    def send(self, data: bytes) -> None:
        """Shake hands, send it all, say that this was all. Raises OSError."""
        until = time.monotonic() + SECONDS
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._push()
                received = self._connection.recv(_READ)
                if not received or time.monotonic() > until:
                    raise ConnectionError(0, "it closed during the handshake") from None
                self._in.write(received)
            except ssl.SSLError:
                self._push()  # the alert says why, to the other side
                raise
        view = memoryview(data)
        for start in range(0, len(view), _TLS_PLAIN):
            self._tls.write(view[start : start + _TLS_PLAIN])
            self._push()
        with contextlib.suppress(ssl.SSLWantReadError):
            self._tls.unwrap()
        self._push()

    def _push(self) -> None:
        data = self._out.read()
        if data:
            self._connection.sendall(data)


def _await_close(connection: socket.socket, *, is_shut: bool) -> None:
    """Return when the receiver has closed in order. Raises OSError, also for a reset that comes after the end."""
    until = time.monotonic() + SECONDS
    while connection.recv(_READ):  # session tickets and alerts: nothing that we wait for
        if time.monotonic() > until:
            raise TimeoutError
    if is_shut:
        return  # on this machine, in the clear: for trying out
    until = time.monotonic() + _ACKNOWLEDGED_SECONDS
    while True:
        state = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
        if state != _CLOSE_WAIT:
            raise ConnectionError(0, "it went away before it had read everything")
        if struct.unpack("i", fcntl.ioctl(connection, termios.TIOCOUTQ, b"\0" * 4))[0] == 0:
            return
        if time.monotonic() > until:
            raise TimeoutError
        time.sleep(_POLL_SECONDS)
