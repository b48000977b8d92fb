"""A small OpenAI-like model server with scripted answers, on a Unix socket or a loopback port.

`answer` is asked for every request and returns the parts of the raw HTTP answer. Between two parts the
bytes are flushed; the part `HANG` waits until the client leaves, `WAIT` until `gate` is set, and `CLOSE` drops
the connection there.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HANG = b"<hang>"
WAIT = b"<wait>"
CLOSE = b"<close>"


@dataclass
class Asked:
    """One request as the model server saw it."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]


Answer = Callable[[Asked], Iterable[bytes]]


def whole(body: dict[str, Any] | bytes, status: int = 200, kind: str = "application/json") -> list[bytes]:
    """One complete answer."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {len(raw)}\r\n\r\n"
    return [head.encode() + raw]


def completion(text: str, **message: Any) -> list[bytes]:
    """A chat completion with one choice."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text, **message},
        "finish_reason": "stop",
    }
    return whole(
        {
            "id": "internal-7",
            "object": "chat.completion",
            "created": 1,
            "model": "/srv/models/internal.gguf",
            "choices": [choice],
            "usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18},
            "timings": {"prompt_ms": 3},
        }
    )


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def event(value: dict[str, Any] | str) -> bytes:
    return b"data: " + (value if isinstance(value, str) else json.dumps(value)).encode() + b"\n\n"


STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def delta(index: int = 0, finish: str | None = None, **fields: Any) -> dict[str, Any]:
    """One event of a chat stream."""
    choice = {"index": index, "delta": fields, "finish_reason": finish}
    return {"id": "internal-7", "object": "chat.completion.chunk", "model": "internal", "choices": [choice]}


def stream(events: Iterable[dict[str, Any]], *, done: bool = True) -> list[bytes]:
    """A chat stream, every event flushed on its own, with usage at the end."""
    parts = [STREAM_HEAD, *(chunk(event(item)) for item in events)]
    if done:
        usage = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
        parts += [chunk(event({"choices": [], "usage": usage})), chunk(event("[DONE]")), b"0\r\n\r\n"]
    return parts


def words(text: str) -> list[bytes]:
    """`text` streamed one character at a time."""
    return stream([*(delta(content=char) for char in text), delta(finish="stop")])


@dataclass
class Upstream:
    """`asked` holds every request that arrived; `left` counts clients that went before their answer ended."""

    answer: Answer = lambda asked: words("hello") if asked.body.get("stream") else completion("hello")
    asked: list[Asked] = field(default_factory=list)
    left: int = 0
    running: int = 0
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    _servers: list[asyncio.Server] = field(default_factory=list)

    async def start(self, path: Path) -> str:
        """Listen on a Unix socket and return its address."""
        self._servers.append(await asyncio.start_unix_server(self._serve, str(path)))
        return f"unix:{path}"

    async def start_http(self) -> str:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._servers.append(server)
        return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        for server in self._servers:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.running += 1
        try:
            while await self._one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            self.left += 1
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
            self.running -= 1

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        except asyncio.IncompleteReadError:
            return False
        lines = head.split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
        raw = await reader.readexactly(int(headers.get("content-length", "0")))
        asked = Asked(lines[0].split(" ")[1], headers, json.loads(raw or b"{}"))
        self.asked.append(asked)
        for part in self.answer(asked):
            if part == CLOSE:
                return False
            if part == WAIT:
                await self.gate.wait()
                continue
            if part == HANG:
                await reader.read()
                self.left += 1
                return False
            writer.write(part)
            await writer.drain()
            with contextlib.suppress(TimeoutError):  # noticing at once that the client has left
                await asyncio.sleep(0)
        return True
