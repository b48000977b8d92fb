"""Many connections over one byte stream: both ends of a guest's only channel. Standard library only.

A frame is `kind, channel, length` and its bytes. Of each direction of a channel at most WINDOW bytes are on the way
until the other end says that it passed them on, so one slow reader holds up nobody and nothing grows without end.
A frame that breaks these rules ends the relay: the other end may be hostile.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

HEAD = struct.Struct("<BII")
OPEN, DATA, SHUT, DROP, TAKEN, ORDER, EXIT = range(1, 8)
PIECE = 16 * 1024  # of one frame of DATA
WINDOW = 128 * 1024
MAX_ORDER = 4 << 20
CHANNELS = 64
MAX_QUEUED = (
    CHANNELS * WINDOW + MAX_ORDER + (1 << 20)
)  # for the link; who takes nothing off it is not waited for
OUTPUT = 0  # the channel of what the program prints
COUNT = struct.Struct("<I")
STATUS = struct.Struct("<i")


class Broken(Exception):
    """The other end does not keep to the protocol, or is gone."""


@dataclass(slots=True)
class Channel:
    """`end` is a socket, or the pipe of the program's output. `credit` is what may still be sent."""

    end: socket.socket | None
    descriptor: int
    credit: int = WINDOW
    waiting: bytearray = field(default_factory=bytearray)
    is_read: bool = False
    is_shut: bool = False


class Relay:
    """`accept` makes it the host's end, `reach` (a path) the guest's. `frame` gets ORDER, EXIT and OUTPUT's data."""

    def __init__(
        self, link: int, frame: Callable[[int, bytes], None], *, accept: bool = False, reach: str = ""
    ) -> None:
        os.set_blocking(link, False)
        self.link, self.frame, self.reach, self.is_host = link, frame, reach, accept
        self.selector = selectors.DefaultSelector()
        self.selector.register(link, selectors.EVENT_READ, self._linked)
        self.channels: dict[int, Channel] = {}
        self.outgoing, self.incoming = bytearray(), bytearray()
        self.next = 1

    def step(self, seconds: float | None = None) -> None:
        """Wait for something and deal with it. Raises Broken."""
        for key, events in self.selector.select(seconds):
            if self.selector.get_map().get(key.fd) is key:
                key.data(events)

    def send(self, kind: int, channel: int, data: bytes = b"") -> None:
        is_waiting = bool(self.outgoing)
        self.outgoing += HEAD.pack(kind, channel, len(data)) + data
        if len(self.outgoing) > MAX_QUEUED:
            raise Broken("the other end takes nothing")
        if not is_waiting:
            self._flush()

    def listen(self, listener: socket.socket) -> None:
        listener.setblocking(False)

        def accepted(_events: int) -> None:
            with contextlib.suppress(BlockingIOError):
                connection, _ = listener.accept()
                if len(self.channels) >= CHANNELS:
                    connection.close()
                    return
                number, self.next = self.next, self.next % 0xFFFFFFF0 + 1
                self.send(OPEN, number)
                self._add(number, connection)

        self.selector.register(listener, selectors.EVENT_READ, accepted)

    def take_output(self, descriptor: int) -> None:
        """Send what comes out of this pipe over the channel OUTPUT."""
        os.set_blocking(descriptor, False)
        self.channels[OUTPUT] = Channel(None, descriptor)
        self._watch(OUTPUT)

    def _add(self, number: int, connection: socket.socket) -> None:
        connection.setblocking(False)
        self.channels[number] = Channel(connection, connection.fileno())
        self._watch(number)

    def _watch(self, number: int) -> None:
        channel = self.channels[number]
        wanted = selectors.EVENT_READ if channel.credit > 0 and not channel.is_read else 0
        wanted |= selectors.EVENT_WRITE if channel.waiting else 0
        known = self.selector.get_map().get(channel.descriptor)
        if wanted and known is None:
            self.selector.register(channel.descriptor, wanted, lambda events: self._ready(number, events))
        elif wanted and known is not None and known.events != wanted:
            self.selector.modify(channel.descriptor, wanted, known.data)
        elif not wanted and known is not None:
            self.selector.unregister(channel.descriptor)

    def _ready(self, number: int, events: int) -> None:
        channel = self.channels[number]
        try:
            if events & selectors.EVENT_WRITE:
                self._write(number, channel)
            if events & selectors.EVENT_READ and channel.credit > 0 and not channel.is_read:
                data = os.read(channel.descriptor, min(PIECE, channel.credit))
                channel.credit -= len(data)
                channel.is_read = not data
                self.send(DATA if data else SHUT, number, data)
        except BlockingIOError:
            pass
        except OSError:
            self._close(number, tell=True)
            return
        self._settle(number)

    def _write(self, number: int, channel: Channel) -> None:
        with contextlib.suppress(BlockingIOError):
            count = os.write(channel.descriptor, channel.waiting)
            del channel.waiting[:count]
            self.send(TAKEN, number, COUNT.pack(count))

    def _settle(self, number: int) -> None:
        """After a change: half-close, close, or wait for the right things."""
        channel = self.channels.get(number)
        if channel is None:
            return
        if channel.is_shut and not channel.waiting and channel.end is not None:
            with contextlib.suppress(OSError):
                channel.end.shutdown(socket.SHUT_WR)
            if channel.is_read:
                self._close(number)
                return
        self._watch(number)

    def _close(self, number: int, *, tell: bool = False) -> None:
        channel = self.channels.pop(number)
        with contextlib.suppress(KeyError):
            self.selector.unregister(channel.descriptor)
        if channel.end is not None:
            channel.end.close()
        if tell:
            self.send(DROP, number)

    def _linked(self, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            self._flush()
        if events & selectors.EVENT_READ:
            try:
                data = os.read(self.link, 4 * PIECE)
            except BlockingIOError:
                return
            except OSError as error:
                raise Broken(f"the channel: {error.strerror}") from error
            if not data:
                raise Broken("the channel was closed")
            self.incoming += data
            self._frames()

    def _frames(self) -> None:
        while len(self.incoming) >= HEAD.size:
            kind, number, length = HEAD.unpack_from(self.incoming)
            if length > (MAX_ORDER if kind == ORDER else PIECE):
                raise Broken(f"a frame of {length} bytes")
            if len(self.incoming) < HEAD.size + length:
                return
            data = bytes(self.incoming[HEAD.size : HEAD.size + length])
            del self.incoming[: HEAD.size + length]
            self._take(kind, number, data)

    def _take(self, kind: int, number: int, data: bytes) -> None:
        if kind in (ORDER, EXIT) or (kind == DATA and number == OUTPUT and self.is_host):
            self.frame(kind, data)
            if kind == DATA:
                self.send(TAKEN, OUTPUT, COUNT.pack(len(data)))
            return
        if kind == OPEN and not self.is_host and number not in self.channels:
            self._open(number)
            return
        channel = self.channels.get(number)
        if channel is None:
            if kind in (DATA, SHUT, DROP, TAKEN):
                return  # of a channel that was closed here a moment ago
            raise Broken(f"a frame of kind {kind}")
        if kind == DATA:
            channel.waiting += data
            if len(channel.waiting) > WINDOW:
                raise Broken("more than the window")
            with contextlib.suppress(KeyError):
                self._ready(number, selectors.EVENT_WRITE)
        elif kind == SHUT:
            channel.is_shut = True
            self._settle(number)
        elif kind == TAKEN and len(data) == COUNT.size:
            channel.credit = min(WINDOW, channel.credit + COUNT.unpack(data)[0])
            self._settle(number)
        elif kind == DROP:
            self._close(number)
        else:
            raise Broken(f"a frame of kind {kind}")

    def _open(self, number: int) -> None:
        if len(self.channels) > CHANNELS:
            raise Broken("too many channels")
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.setblocking(False)
            connection.connect(self.reach)
        except OSError:  # the program does not listen yet, or not any more
            connection.close()
            self.send(DROP, number)
            return
        self._add(number, connection)

    def _flush(self) -> None:
        try:
            while self.outgoing:
                del self.outgoing[: os.write(self.link, self.outgoing[: 4 * PIECE])]
        except BlockingIOError:
            pass
        except OSError as error:
            raise Broken(f"the channel: {error.strerror}") from error
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if self.outgoing else 0)
        if self.selector.get_key(self.link).events != wanted:
            self.selector.modify(self.link, wanted, self._linked)
