"""An HTTP/3 client that sends what it is told, also what nobody may send."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aioquic.asyncio import QuicConnectionProtocol, connect
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, QuicEvent, StopSendingReceived, StreamReset
from tests.gateway.h2_client import Header, Reply

SECONDS = 60.0


class H3Client(QuicConnectionProtocol):
    """One connection. Nothing outbound is checked or put right; `changed` is set whenever something came."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.talk = H3Connection(self._quic)
        self.replies: dict[int, Reply] = {}
        self.changed = asyncio.Event()

    def quic_event_received(self, event: QuicEvent) -> None:
        if isinstance(event, ConnectionTerminated):
            for reply in self.replies.values():
                reply.over = True
        elif isinstance(event, StreamReset | StopSendingReceived) and event.stream_id in self.replies:
            self.replies[event.stream_id].over = True
        for told in self.talk.handle_event(event):
            if isinstance(told, HeadersReceived):
                reply = self.replies[told.stream_id]
                reply.headers = {name.decode(): value.decode() for name, value in told.headers}
                reply.status = int(reply.headers[":status"])
                reply.over = told.stream_ended
            elif isinstance(told, DataReceived):
                reply = self.replies[told.stream_id]
                reply.body += told.data
                reply.over = told.stream_ended
        self.changed.set()

    def start(self, headers: list[Header], body: bytes | None = None) -> int:
        number = self._quic.get_next_available_stream_id()
        self.replies[number] = Reply()
        self.talk.send_headers(number, headers, end_stream=body is None)
        if body is not None:
            self.talk.send_data(number, body, end_stream=True)
        self.transmit()
        return number

    def leave(self, number: int) -> None:
        self._quic.reset_stream(number, 0x10C)  # H3_REQUEST_CANCELLED
        self._quic.stop_stream(number, 0x10C)
        self.transmit()

    async def until(self, number: int, words: bytes = b"") -> Reply:
        """When the reply is over, or, with `words`, when they are in it."""
        reply = self.replies[number]
        async with asyncio.timeout(SECONDS):
            while not reply.over and not (words and words in reply.body):
                self.changed.clear()
                await self.changed.wait()
        return reply

    async def ask(self, headers: list[Header], body: bytes | None = None) -> Reply:
        return await self.until(self.start(headers, body))


@asynccontextmanager
async def connected(port: int, ca: Path) -> AsyncIterator[H3Client]:
    settings = QuicConfiguration(
        is_client=True, alpn_protocols=H3_ALPN, server_name="localhost", cafile=str(ca)
    )
    settings.verify_mode = ssl.CERT_REQUIRED
    async with (
        asyncio.timeout(3 * SECONDS),
        connect("127.0.0.1", port, configuration=settings, create_protocol=H3Client) as client,
    ):
        assert isinstance(client, H3Client)
        yield client
