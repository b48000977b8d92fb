"""The broker: the one process that knows providers' keys. `python -m garrison.gateway.broker --config FD-or-FILE`.

Workers ask it over a Unix socket for a key by name; it adds the key to the request and passes it on over TLS to the
one address that belongs to that key. Neither address nor key can be chosen by who asks, and only the paths of the
models that the key is for are asked. Keys come by inherited descriptor; they stand in no argument, no environment,
no file that it writes and no answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import ssl
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import uvloop

from garrison.core.errors import GarrisonError, Refused, Usage
from garrison.gateway.asking import KEY_HEADER
from garrison.gateway.config import HttpLimits, UpstreamLimits
from garrison.gateway.exchange import STATUS_LINES, Exchange
from garrison.gateway.outbox import Ask
from garrison.gateway.process import harden, read_config
from garrison.gateway.replies import JSON, error_json, status_of
from garrison.gateway.server import TICK_SECONDS, Server
from garrison.gateway.upstreams.kinds import KINDS
from garrison.gateway.upstreams.pool import Pool
from garrison.gateway.upstreams.private_tls import private_context
from garrison.gateway.upstreams.sigv4 import AwsKey, signed_headers

MAX_CONFIG = 64 << 20  # thousands of routes with certificates
BODY_BYTES = 8 << 20  # what a worker writes of a request, images included
_SERVICES = {"bedrock": "bedrock", "sagemaker": "sagemaker"}
_FIELDS = frozenset({"kind", "address", "models", "secret", "region", "ca", "client"})


@dataclass(frozen=True, slots=True)
class Provider:
    """One key, what it opens, and nothing else. `paths` are all that may be asked with it."""

    kind: str
    address: str
    paths: frozenset[str]
    secret: str = field(repr=False)
    region: str = ""
    ca: str = ""  # PEM: whose certificates count there; empty: the system's authorities
    client: str = field(default="", repr=False)  # PEM: the certificate that is shown there, with its key

    def headers(self, path: str, body: bytes, now: datetime) -> bytes:
        """The header lines that carry the key, or a signature made with it."""
        if not self.secret:
            return b""
        if self.kind in _SERVICES:
            key = AwsKey(*self.secret.split(":", 2))
            where = {
                "region": self.region,
                "service": _SERVICES[self.kind],
                "host": urlsplit(self.address).netloc,
            }
            lines = signed_headers(key, **where, path=path, body=body, now=now)
        elif self.kind == "anthropic":
            lines = {"x-api-key": self.secret, "anthropic-version": "2023-06-01"}
        elif self.kind == "azure":
            lines = {"api-key": self.secret}
        else:
            lines = {"authorization": f"Bearer {self.secret}"}
        return "".join(f"{name}: {value}\r\n" for name, value in lines.items()).encode("ascii")


@dataclass(slots=True)
class Broker:
    """`serve` answers one worker's request and never raises."""

    providers: Mapping[str, Provider]
    pool: Pool
    wall: Callable[[], datetime]
    private: Mapping[str, Pool] = field(default_factory=dict)  # of the keys with TLS of their own

    async def serve(self, exchange: Exchange) -> None:
        try:
            await self._pass_on(exchange)
        except GarrisonError as error:
            if not exchange.started:
                exchange.send(status_of(error), JSON, error_json(error, ""))
            else:
                self._break(exchange)
        except asyncio.CancelledError:
            self._break(exchange)

    async def _pass_on(self, exchange: Exchange) -> None:
        head = exchange.head
        if head is None or exchange.defect is not None:
            raise exchange.defect or Usage("HTTP-SYNTAX", "no request", fix="send one")
        key = head.headers.get(KEY_HEADER.encode(), b"").decode("ascii")
        provider = self.providers.get(key)
        if provider is None or head.method != "POST" or head.target not in provider.paths:
            raise Refused("GW-KEY", "this is not asked with that key", fix="add the route again")
        body = await exchange.body()
        headers = provider.headers(head.target.partition("?")[0], body, self.wall())
        pool = self.private.get(key, self.pool)
        response = await pool.post(provider.address, head.target, body, headers, fixed=False)
        try:
            status = response.status if response.status in STATUS_LINES else 502
            kind = response.content_type.encode("ascii", "replace")
            exchange.start(status if status not in (401, 403) else 502, b"content-type: %b\r\n" % kind)
            exchange.write(b"")  # the head at once: the worker counts from it
            while data := await response.read():
                writable = exchange.write(data)
                if writable is not None:
                    await writable
            exchange.finish()
        finally:
            response.close()

    def _break(self, exchange: Exchange) -> None:
        """The answer was cut: a connection that ends without its last chunk says so."""
        exchange.keep_alive = False
        exchange.abandon()


class AtOnce:
    """Requests leave when they are made: the worker has recorded them."""

    def ask(self, connection: Ask, request: bytes) -> None:
        connection.transmit(request)


def parse_providers(items: Any) -> dict[str, Provider]:
    """Raises `Usage` GW-CONFIG; never with a secret in it."""
    try:
        return {name: _provider(item) for name, item in items.items()}
    except (AttributeError, TypeError, ValueError, KeyError) as error:
        what = f"the broker's configuration is not usable: {type(error).__name__}"
        raise Usage("GW-CONFIG", what, fix="start it with garrison up, which writes it") from None


def _provider(item: dict[str, Any]) -> Provider:
    if not _FIELDS.issuperset(item) or item["kind"] not in KINDS:
        raise ValueError("fields")
    secret, ca, client = item["secret"], item.get("ca", ""), item.get("client", "")
    if not secret.isascii() or not secret.isprintable() or " " in secret:
        raise ValueError("secret")
    if not secret and (item["kind"] != "openai" or not (ca or client)):
        raise ValueError("secret")
    if item["kind"] in _SERVICES and (secret.count(":") < 1 or not item.get("region")):
        raise ValueError("secret")
    kind = KINDS[item["kind"]]
    paths = {
        kind.path(door, model, streamed)
        for door in kind.doors
        for model in item["models"]
        for streamed in (False, True)
    }
    return Provider(
        item["kind"], item["address"], frozenset(paths), secret, item.get("region", ""), ca, client
    )


def main(arguments: list[str]) -> int:
    """The exit status: 0 after a drain, 2 for a bad configuration, 3 when it cannot serve."""
    ready: int | None = None
    try:
        if len(arguments) != 2 or arguments[0] != "--config":
            raise Usage("GW-CONFIG", "a broker is started with --config FD-or-FILE", fix="use garrison up")
        config = json.loads(read_config(arguments[1], MAX_CONFIG))
        ready = config.get("ready_fd")
        harden()
        uvloop.run(run(config, parse_providers(config["providers"])))
    except GarrisonError as error:
        _tell(ready, {"ready": False, "error": error.as_json()})
        return error.exit_status
    except (OSError, ValueError, KeyError) as error:
        _tell(ready, {"ready": False, "error": {"message": type(error).__name__}})
        return 3
    return 0


async def run(config: Mapping[str, Any], providers: Mapping[str, Provider]) -> None:
    """Serve until SIGTERM or the end of the parent."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if config.get("parent_fd") is not None:
        loop.add_reader(config["parent_fd"], stop.set)
    pool = Pool(UpstreamLimits(), loop, AtOnce(), lambda: _authorities(config.get("ca", "")))
    private = {
        name: Pool(UpstreamLimits(), loop, AtOnce(), partial(private_context, each.ca, each.client))
        for name, each in providers.items()
        if each.ca or each.client
    }
    broker = Broker(providers, pool, lambda: datetime.now(UTC), private)
    server = Server(broker.serve, HttpLimits(body_bytes=BODY_BYTES), loop)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(config["socket"])
    await server.listen_unix(config["socket"])
    _tell(config.get("ready_fd"), {"ready": True, "pid": os.getpid()})
    while not stop.is_set():
        for each in (pool, *private.values()):
            each.tick(loop.time())
        server.tick(loop.time())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TICK_SECONDS):
                await stop.wait()
    await server.drain(float(config.get("drain_seconds", 30.0)))
    for each in (pool, *private.values()):
        each.close()


def _authorities(pem: str) -> ssl.SSLContext:
    """Whose certificates count: the system's authorities, or exactly the given ones."""
    context = ssl.create_default_context(cadata=pem or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _tell(descriptor: int | None, message: dict[str, object]) -> None:
    if descriptor is not None:
        with contextlib.suppress(OSError):
            os.write(descriptor, json.dumps(message).encode() + b"\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
