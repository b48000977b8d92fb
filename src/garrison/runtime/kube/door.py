"""The one way into a pod's model: mutual TLS 1.3 from named SPIFFE ids, carried on to the server's Unix socket.

Certificates are read again when their files change: connections that stand go on, new ones get the new one.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

CHUNK = 64 * 1024
MAX_CONNECTIONS = 256  # a gateway keeps a few; a flood waits outside
IDLE_SECONDS = 300.0  # a model thinks, and a stream pauses; nobody is silent for longer
CONNECT_SECONDS = 10.0
LOOK_SECONDS = 15.0  # between two looks at the certificate's files
MAX_REQUEST = 4096  # of a health check


@dataclass(slots=True)
class Door:
    """Listens once `open` returned; `refused` counts who was turned away."""

    address: tuple[str, int]
    tls: Path
    allowed: frozenset[str]
    target: Path
    refused: int = 0
    _server: asyncio.Server | None = None
    _connections: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def port(self) -> int:
        assert self._server is not None  # opened before
        return int(self._server.sockets[0].getsockname()[1])

    async def open(self) -> None:
        """Raises OSError and ssl.SSLError for files that are no certificate."""
        host, port = self.address
        context = server_context(self.tls)
        fresh = await asyncio.start_server(
            self._serve, host, port, ssl=context, limit=CHUNK, reuse_port=True, ssl_handshake_timeout=10
        )
        old, self._server = self._server, fresh
        self.address = (host, self.port)
        if old is not None:
            old.close()

    async def watch(self, look: float = LOOK_SECONDS) -> None:
        """Open anew whenever the files change; runs until it is cancelled."""
        seen = stamp(self.tls)
        while True:
            await asyncio.sleep(look)
            now = stamp(self.tls)
            if now != seen:
                with contextlib.suppress(OSError, ssl.SSLError):  # half written: the next look has them whole
                    await self.open()
                    seen = now

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in tuple(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # a handler runs as one
        self._connections.add(task)
        try:
            if len(self._connections) > MAX_CONNECTIONS or peer_id(writer) not in self.allowed:
                self.refused += 1
                return
            inner_reader, inner_writer = await asyncio.wait_for(
                asyncio.open_unix_connection(str(self.target), limit=CHUNK), CONNECT_SECONDS
            )
            try:
                await _carry(reader, writer, inner_reader, inner_writer)
            finally:
                inner_writer.close()
        except (OSError, TimeoutError, ssl.SSLError):
            return
        finally:
            self._connections.discard(task)
            writer.close()


def server_context(tls: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_STRICT
    context.load_verify_locations(str(tls / "ca.crt"))
    context.load_cert_chain(tls / "tls.crt", tls / "tls.key")
    return context


def peer_id(writer: asyncio.StreamWriter) -> str:
    """The SPIFFE id of the other end: exactly one URI (SPIFFE X509-SVID section 2); empty without."""
    certificate = writer.get_extra_info("peercert") or {}
    found = [value for kind, value in certificate.get("subjectAltName", ()) if kind == "URI"]
    return found[0] if len(found) == 1 and found[0].startswith("spiffe://") else ""


def stamp(tls: Path) -> tuple[int, ...]:
    """Changes with any of the files. Kubernetes replaces a link, so that they change together."""
    found = []
    for name in ("tls.crt", "tls.key", "ca.crt"):
        with contextlib.suppress(OSError):
            facts = (tls / name).stat()
            found += [facts.st_mtime_ns, facts.st_ino, facts.st_size]
    return tuple(found)


async def _carry(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    inner_reader: asyncio.StreamReader,
    inner_writer: asyncio.StreamWriter,
) -> None:
    """Both ways until one end is done."""
    ways = {
        asyncio.ensure_future(_one_way(reader, inner_writer)),
        asyncio.ensure_future(_one_way(inner_reader, writer)),
    }
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)


async def _one_way(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await asyncio.wait_for(reader.read(CHUNK), IDLE_SECONDS):
        writer.write(data)
        await asyncio.wait_for(writer.drain(), IDLE_SECONDS)


async def health(address: tuple[str, int], is_ready: Callable[[], bool]) -> asyncio.Server:
    """`/livez` and `/readyz` without detail, for the kubelet; everything else is 404."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, TimeoutError, ValueError, asyncio.IncompleteReadError):
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), CONNECT_SECONDS)
            path = head.split(b" ", 2)[1] if head.startswith(b"GET ") else b""
            known = {b"/livez": True, b"/readyz": is_ready()}.get(path)
            status = "404 Not Found" if known is None else "200 OK" if known else "503 Service Unavailable"
            writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
            await writer.drain()
        writer.close()

    return await asyncio.start_server(serve, *address, limit=MAX_REQUEST)
