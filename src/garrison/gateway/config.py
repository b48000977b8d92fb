"""The gateway's frozen settings: how big, how deep, how long, and what one worker is told at start.

Every limit has a default that suits an interactive chat service and a reason beside it. Sizes are bytes,
times are seconds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from garrison.core.errors import Usage

MAX_CONFIG_BYTES = 1 << 20  # a worker's configuration is a few hundred bytes


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """Bounds of the HTTP/1.1 server, per connection unless the name says otherwise."""

    head_bytes: int = 16_384  # request line and headers; a large access token is about 2 kB
    header_count: int = 64  # vendor clients send about 20
    body_bytes: int = 2 << 20  # a 128k-token prompt is about 0.6 MB
    json_depth: int = 32  # a tool's JSON schema nests about 12 deep
    head_seconds: float = 10.0  # a trickled head (slow loris) holds a connection no longer
    body_seconds: float = 60.0  # the whole body, however it trickles
    idle_seconds: float = 75.0  # kept-alive and silent
    stall_seconds: float = 30.0  # a reader that does not take what was written
    linger_seconds: float = 2.0  # reading on after an early refusal, so that the client sees the answer
    pipelined_bytes: int = 65_536  # read ahead of the answer before reading pauses
    write_buffer: int = 65_536  # unread answer bytes held for one client before upstream is paused
    connections: int = 1_024  # per worker; 2 MB bodies from all of them still fit beside a model


@dataclass(frozen=True, slots=True)
class UpstreamLimits:
    """Bounds on what a model server may do to us. It is trusted with prompts, not with memory or time."""

    connect_seconds: float = 5.0
    first_byte_seconds: float = 300.0  # a long prompt on a small CPU takes minutes before its first token
    idle_seconds: float = 60.0  # between two bytes of a started answer
    total_seconds: float = 900.0  # an answer that never ends does end
    head_bytes: int = 32_768
    answer_bytes: int = 16 << 20  # about 4 million tokens of plain text
    event_bytes: int = 256 << 10  # one SSE event; a token is 200 bytes, a final usage event under 2 kB
    held_bytes: int = 65_536  # read ahead of a slow client before the model server is paused
    connections: int = 64  # per address: what a model server on one machine can usefully run
    queue: int = 256  # requests that may wait for one of them
    queue_seconds: float = 30.0


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """What one worker process is told, as JSON on an inherited descriptor or in a file. No secrets.

    `tls_fd` is an inherited memfd holding the PEM chain and key; without it the worker serves plain HTTP
    and then refuses any address but loopback. `listen_fd` is a socket that
    listens already and outlives this worker. `limits_fd` is an inherited table of counters that
    `limit_regions` workers share, this one as number `limit_region`; without it a worker counts alone.
    `limits_redis` counts for `limit_replicas` gateways together. `ready_fd` gets one JSON line; end
    of file on `parent_fd` stops us.
    """

    host: str
    port: int
    snapshot: str
    snapshot_key: str
    spool: str
    worker_id: str
    audience: str = "garrison"
    issuer: str = "garrison"
    tls_fd: int | None = None
    ready_fd: int | None = None
    parent_fd: int | None = None
    metrics_port: int | None = None
    listen_fd: int | None = None
    limits_fd: int | None = None
    limit_region: int = 0
    limit_regions: int = 1
    limits_redis: str | None = None
    limits_redis_password: str | None = None
    limit_replicas: int = 1
    patterns: str | None = None
    minimum_snapshot: int = 0
    drain_seconds: float = 30.0
    http: HttpLimits = field(default_factory=HttpLimits)
    upstream: UpstreamLimits = field(default_factory=UpstreamLimits)


def parse_worker_config(text: bytes) -> WorkerConfig:
    """The configuration from JSON. Raises `Usage` GW-CONFIG on an unknown, missing or wrong-typed key."""
    try:
        values = json.loads(text)
        if not isinstance(values, dict):
            raise TypeError("it is not an object")
        for key, kind in (("http", HttpLimits), ("upstream", UpstreamLimits)):
            if key in values:
                values[key] = kind(**_checked(values[key], kind))
        return WorkerConfig(**_checked(values, WorkerConfig))
    except (ValueError, TypeError) as error:
        raise Usage(
            "GW-CONFIG",
            f"the worker configuration is not usable: {error}",
            fix="start workers with garrison up, which writes this configuration itself",
        ) from error


def _checked(values: Any, kind: type) -> Mapping[str, Any]:
    if not isinstance(values, dict):
        raise TypeError(f"{kind.__name__} is not an object")
    known = {item.name: str(item.type) for item in fields(kind)}
    for name, value in values.items():
        if name not in known:
            raise ValueError(f"unknown key {name!r}")
        if not _fits(value, known[name]):
            raise ValueError(f"{name} is a {type(value).__name__}, not {known[name]}")
    return values


def _fits(value: Any, annotation: str) -> bool:
    if isinstance(value, bool):
        return False
    if annotation.startswith("int"):
        return isinstance(value, int) or (value is None and annotation.endswith("None"))
    if annotation.startswith("str"):
        return isinstance(value, str) or (value is None and annotation.endswith("None"))
    if annotation == "float":
        return isinstance(value, int | float)
    return isinstance(value, HttpLimits | UpstreamLimits)
