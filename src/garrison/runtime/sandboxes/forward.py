"""Runs inside, beside a declared command that listens on TCP alone: the Unix socket to its port on the own loopback.

`confine.py` gives `SETTINGS` (`socket`, a path, and `port`). Bytes go through as they come, both ways, with at most
PIECE of them held for each direction; which paths a caller may ask for is the gateway's business. While the command
does not listen yet, a connection is closed at once: to the health check that is a server that does not answer.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

SETTINGS: dict[str, Any] = globals().get("SETTINGS", {})  # handed over by confine.py

LOOPBACK = "127.0.0.1"
PIECE = 64 * 1024
CONNECTIONS = 256  # more wait in the backlog
BACKLOG = 128


async def main(path: str, port: int) -> None:
    places = asyncio.Semaphore(CONNECTIONS)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with places:
            await forward(reader, writer, port)

    server = await asyncio.start_unix_server(serve, path, limit=PIECE, backlog=BACKLOG)
    await server.serve_forever()


async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
    """One connection, until both ends are done or one of them breaks."""
    try:
        to_reader, to_writer = await asyncio.open_connection(LOOPBACK, port, limit=PIECE)
    except OSError:
        await _close(writer)
        return
    there = asyncio.create_task(_pass_on(reader, to_writer))
    back = asyncio.create_task(_pass_on(to_reader, writer))
    try:
        # What the server closes is over; a caller may have said all and still listen.
        await asyncio.wait({back})
    finally:
        there.cancel()
        await asyncio.wait({there})
        await _close(to_writer)
        await _close(writer)


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Until the end; then the other side is told that no more comes. A broken connection breaks both."""
    try:
        while data := await reader.read(PIECE):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except OSError:
        writer.transport.abort()


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


if __name__ == "__main__":
    asyncio.run(main(SETTINGS["socket"], SETTINGS["port"]))
