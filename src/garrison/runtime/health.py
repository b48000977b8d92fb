"""Is a model server alive? One kept-open connection to its socket, asked again and again.

The connection stays open so that a server whose other connections are all busy still answers, and the
kernel says who listens (SO_PEERCRED): a socket that another user put there is refused.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from dataclasses import dataclass
from pathlib import Path

from garrison.core.errors import Refused

MAX_ANSWER_BYTES = 16 * 1024  # of the head or of the body; /health answers in a line


@dataclass(slots=True)
class HealthCheck:
    """Asks the server at `path`, which must run as `uid`."""

    path: Path
    uid: int
    target: str = "/health"
    reader: asyncio.StreamReader | None = None
    writer: asyncio.StreamWriter | None = None

    async def ask(self, deadline: float) -> bool:
        """True when it answers 200 within `deadline` seconds; a closed connection is tried once more.

        Raises `Refused` RUN-IMPOSTOR when the socket belongs to another user.
        """
        try:
            async with asyncio.timeout(deadline):
                reused = self.writer is not None
                try:
                    return await self._ask()
                except (OSError, EOFError, ValueError):
                    self.close()
                    return await self._ask() if reused else False
        except (OSError, EOFError, ValueError, TimeoutError):
            self.close()
            return False

    async def _ask(self) -> bool:
        if self.reader is None or self.writer is None:
            self.reader, self.writer = await asyncio.open_unix_connection(
                str(self.path), limit=MAX_ANSWER_BYTES
            )
            self._check_peer(self.writer.get_extra_info("socket"))
        self.writer.write(f"GET {self.target} HTTP/1.1\r\nHost: model\r\n\r\n".encode())
        head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
        length = head.partition(b"content-length:")[2].partition(b"\r\n")[0].strip()
        if length.isdigit() and int(length) <= MAX_ANSWER_BYTES:
            await self.reader.readexactly(int(length))
        if not length.isdigit() or int(length) > MAX_ANSWER_BYTES or b"connection: close" in head:
            self.close()  # the end of this answer is not looked for
        return head.startswith((b"http/1.1 200 ", b"http/1.0 200 "))

    def _check_peer(self, connection: socket.socket) -> None:
        size = struct.calcsize("3i")
        _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
        if uid != self.uid:
            raise Refused(
                "RUN-IMPOSTOR",
                f"the socket of the model server is held by user {uid}, not {self.uid}",
                fix="find out who put it there; nothing was sent to it but a health check",
                evidence={"expected": self.uid, "found": uid},
            )

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()
        self.reader = self.writer = None
