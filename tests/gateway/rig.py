"""A whole data plane in this process on a loop of its own thread: real server, policy, tokens, detectors
and spool; only the model server is a fake. Tests talk to it through its socket, like anybody.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import orjson
import uvloop
from tests.fakes.upstream import Upstream

from garrison.core.digest import canonical_json
from garrison.core.event import format_time
from garrison.detect.inspect import Inspector
from garrison.evidence.spool_writer import SpoolWriter
from garrison.gateway.config import HttpLimits, UpstreamLimits
from garrison.gateway.limits import Limiter
from garrison.gateway.metrics import Metrics
from garrison.gateway.outbox import Outbox
from garrison.gateway.pipeline import Plane, handle
from garrison.gateway.server import Server
from garrison.gateway.snapshot import PAYLOAD_TYPE, SnapshotFile
from garrison.gateway.upstreams.pool import Pool
from garrison.trust import dsse
from garrison.trust.identity import mint
from garrison.trust.keys.file import FileSigner
from garrison.trust.keys.public import PublicKey
from garrison.trust.policy import base_cedar, base_schema

T = TypeVar("T")
DIGEST = "sha256:" + "ab" * 32
WAIT = 5.0  # an upper bound for what takes milliseconds
TICK = 0.02


@dataclass
class Answer:
    """One raw HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        return self.json["error"]["code"]


@dataclass
class Rig:
    """`wall_offset` moves the plane's clock of day; `publish` signs another snapshot."""

    directory: Path
    inspector: Inspector
    http: HttpLimits = field(default_factory=HttpLimits)
    upstream_limits: UpstreamLimits = field(default_factory=UpstreamLimits)
    tls: ssl.SSLContext | None = None
    patterns: Path | None = None  # compiled ones, for workers
    wall_offset: float = 0.0
    version: int = 0
    background: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1))
    token_key: FileSigner = field(default_factory=lambda: FileSigner("token"))
    snapshot_key: FileSigner = field(default_factory=lambda: FileSigner("snapshot"))

    def start(self) -> Rig:
        self.directory.mkdir(parents=True, exist_ok=True)
        self.upstream = Upstream()
        self.loop = uvloop.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        address = self.run(self.upstream.start(self.directory / "model.sock"))
        self.routes = [
            route("smollm2", 1, address, ["chat", "completions"]),
            route("minilm", 1, address, ["embeddings"]),
            route("other", 2, address, ["chat"]),
        ]
        self.snapshot_path = self.directory / "snapshot.json"
        self.publish()
        self.run(self._build())
        return self

    async def _build(self) -> None:
        key = PublicKey(self.snapshot_key.key_id, "snapshot", self.snapshot_key.public_pem())
        snapshots = SnapshotFile(
            self.snapshot_path, key, audience="garrison", issuer="garrison", background=self.background
        )
        snapshots.refresh()
        spool = self.directory / "spool"
        self.spool = SpoolWriter(spool, "rig", dumps=orjson.dumps)
        outbox = Outbox(self.spool, self.loop)
        self.plane = Plane(
            snapshots=snapshots,
            limiter=Limiter(time.monotonic),
            inspector=self.inspector,
            pool=Pool(self.upstream_limits, self.loop, outbox),
            outbox=outbox,
            metrics=Metrics(),
            wall=lambda: time.time() + self.wall_offset,
            clock=time.monotonic,
            http=self.http,
            upstream=self.upstream_limits,
            prefix="test",
        )
        self.server = Server(lambda exchange: handle(self.plane, exchange), self.http, self.loop, outbox)
        self.port = await self.server.listen("127.0.0.1", 0, self.tls)
        self.ticking = self.loop.create_task(self._tick())

    async def _tick(self) -> None:
        while True:
            self.plane.tick()
            self.server.tick(self.loop.time())
            await asyncio.sleep(TICK)

    def stop(self) -> None:
        self.run(self._close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.background.shutdown()
        self.loop.close()

    async def _close(self) -> None:
        self.ticking.cancel()
        await self.server.drain(0.2)
        self.plane.pool.close()
        await self.upstream.stop()
        while self.upstream.running or len(asyncio.all_tasks()) > 1:
            await asyncio.sleep(0.001)
        self.plane.outbox.flush()
        self.spool.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    # --- the control process's part ---

    def publish(self, **changes: Any) -> None:
        """Sign and put in place the next snapshot, with `changes` to its body."""
        self.version += 1
        now = datetime.now(UTC)
        body = {
            "version": self.version,
            "issued": format_time(now),
            "expires": format_time(now + timedelta(hours=1)),
            "policy_version": "test",
            "policy": {"cedar": base_cedar(), "schema": base_schema()},
            "token_keys": [{"kid": self.token_key.key_id, "pem": self.token_key.public_pem().decode()}],
            "revoked": {"tokens": [], "subjects": []},
            "routes": self.routes,
            "limits": {
                "requests_per_minute": 100_000,
                "tokens_per_minute": 100_000_000,
                "concurrency": 1_000,
            },
            "max_token_lifetime": 86_400,
            **changes,
        }
        envelope = dsse.sign(canonical_json(body), PAYLOAD_TYPE, self.snapshot_key)
        draft = self.snapshot_path.with_suffix(".new")
        draft.write_bytes(canonical_json(envelope))
        draft.replace(self.snapshot_path)

    def published(self, **changes: Any) -> None:
        """Publish and wait until the plane serves by it."""
        self.publish(**changes)
        self.until(lambda: self.plane.snapshots.current(time.time()).version == self.version)

    def token(
        self, subject: str = "dana", role: str = "user", models: tuple[str, ...] = (), **claims: Any
    ) -> str:
        ttl = claims.pop("ttl", 900)
        now = claims.pop("now", datetime.now(UTC))
        return mint(
            {"sub": subject, "roles": [role], "models": list(models), **claims}, self.token_key, now, ttl=ttl
        )

    # --- what it left ---

    def events(self) -> list[dict[str, Any]]:
        """Every event that was recorded, in order."""
        return [line["event"] for line in self.lines() if line["k"] == "e"]

    def lines(self) -> list[dict[str, Any]]:
        """Whole lines only: one that a killed worker was writing ends without a newline, and nothing followed it."""
        files = sorted((self.directory / "spool").glob("*.jsonl"))
        whole = (file.read_text(errors="replace").rpartition("\n")[0] for file in files)
        return [json.loads(line) for text in whole for line in text.splitlines()]

    def event_of(self, answer: Answer) -> dict[str, Any]:
        """The one event of an answer; exactly one."""
        request_id = answer.headers["x-request-id"]
        self.until(lambda: any(event["trace_id"] == request_id for event in self.events()))
        (event,) = [event for event in self.events() if event["trace_id"] == request_id]
        return event

    def until(self, true: Callable[[], bool], seconds: float = WAIT) -> None:
        """Wait for something that happens on the other thread, within milliseconds unless there is much of it."""
        ends = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < ends, "it did not happen"
            time.sleep(0.005)

    # --- a client with no opinion ---

    def raw(self, data: bytes, *, close: bool = False) -> bytes:
        """Send bytes, return everything until the server closes or the answer is complete."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=WAIT) as client:
            client.sendall(data)
            if close:
                client.shutdown(socket.SHUT_WR)
            return read_answer(client)

    def ask(
        self,
        body: Any,
        *,
        path: str = "/v1/chat/completions",
        token: str | None = "",
        method: str = "POST",
        **headers: str,
    ) -> Answer:
        """One request over a fresh connection. `token` empty: a good one; None: no header at all."""
        return parse_answer(self.raw(self.request(body, path=path, token=token, method=method, **headers)))

    def request(
        self,
        body: Any,
        *,
        path: str = "/v1/chat/completions",
        token: str | None = "",
        method: str = "POST",
        **headers: str,
    ) -> bytes:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        lines = {"host": "garrison", "content-type": "application/json", "content-length": str(len(raw))}
        if token is not None:
            lines["authorization"] = f"Bearer {token or self.token()}"
        lines |= {name.replace("_", "-"): value for name, value in headers.items()}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + raw


def route(name: str, version: int, address: str, tasks: list[str]) -> dict[str, Any]:
    return {
        "name": name,
        "version": version,
        "digest": DIGEST,
        "tier": "internal",
        "address": address,
        "tasks": tasks,
    }


def chat(text: str = "hello", **fields: Any) -> dict[str, Any]:
    return {"model": "smollm2", "messages": [{"role": "user", "content": text}], **fields}


def read_answer(client: socket.socket) -> bytes:
    """Bytes until one whole answer is there, or the other side closes."""
    data = b""
    while not _is_whole(data):
        try:
            piece = client.recv(65_536)
        except ConnectionResetError:
            break
        if not piece:
            break
        data += piece
    return data


def _is_whole(data: bytes) -> bool:
    head, found, body = data.partition(b"\r\n\r\n")
    if not found:
        return False
    lower = head.lower()
    if b"transfer-encoding: chunked" in lower:
        return body.endswith(b"0\r\n\r\n")
    length = lower.partition(b"content-length: ")[2].split(b"\r\n")[0]
    return len(body) >= int(length or b"0")


def parse_answer(data: bytes) -> Answer:
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines[1:])
    if headers.get("transfer-encoding") == "chunked":
        body = dechunk(body)
    return Answer(int(lines[0].split(" ")[1]), headers, body)


def dechunk(body: bytes) -> bytes:
    out = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        out += body[: int(size, 16)]
        body = body[int(size, 16) + 2 :]
    return out


def small(limits: HttpLimits, **changes: Any) -> HttpLimits:
    return replace(limits, **changes)
