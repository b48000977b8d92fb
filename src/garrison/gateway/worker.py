"""One gateway worker process: `python -m garrison.gateway.worker --config FD-or-FILE`.

It is told everything by its configuration, prints nothing, says by JSON lines on an inherited pipe when it is
ready and which snapshot it serves by, drains on SIGTERM, and ends when its parent does.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import secrets
import signal
import socket
import ssl
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import orjson
import uvloop

from garrison.core.errors import GarrisonError, Undecided, Usage
from garrison.evidence.spool_writer import SpoolWriter
from garrison.gateway.config import MAX_CONFIG_BYTES, WorkerConfig, parse_worker_config
from garrison.gateway.counters import Table
from garrison.gateway.detection import Detection
from garrison.gateway.exchange import Exchange
from garrison.gateway.limits import Limiter
from garrison.gateway.metrics import Metrics, answer_scrape
from garrison.gateway.outbox import Outbox
from garrison.gateway.pipeline import Plane, handle
from garrison.gateway.process import give_back, harden, read_config
from garrison.gateway.server import TICK_SECONDS, Server
from garrison.gateway.shared_limits import SharedLimits, parse_server
from garrison.gateway.snapshot import SnapshotFile
from garrison.gateway.upstreams.pool import Pool
from garrison.trust.ca import server_context_from
from garrison.trust.keys.public import PublicKey, key_id_of, parse_public

GC_THRESHOLD = (20_000, 20, 50)  # a request makes no cycles; the collector's passes cost more than they find
# A worker whose successor serves already: who is shaking hands with it still gets an answer.
RETIRED_LINGER_SECONDS = 2.0
RELEASE_SECONDS = 30.0  # what a peak or older patterns needed goes back to the system: 3 ms beside requests
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


def main(arguments: list[str]) -> int:
    """The exit status: 0 after a drain, 2 for a bad configuration, 3 when it cannot serve."""
    config: WorkerConfig | None = None
    try:
        if len(arguments) != 2 or arguments[0] != "--config":
            raise Usage("GW-CONFIG", "a worker is started with --config FD-or-FILE", fix="use garrison up")
        config = parse_worker_config(read_config(arguments[1], MAX_CONFIG_BYTES))
        harden()
        uvloop.run(run(config))
    except GarrisonError as error:
        _tell(config, {"ready": False, "error": error.as_json()})
        return error.exit_status
    except OSError as error:
        what = f"the gateway worker cannot listen or read its files: {error.strerror}"
        failure = Undecided("GW-START", what, fix="check the address, the port and the data directory")
        _tell(config, {"ready": False, "error": failure.as_json()})
        return failure.exit_status
    return 0


async def run(config: WorkerConfig) -> None:
    """Serve until SIGTERM, SIGINT or the end of the parent, then drain."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    retired = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    def retire() -> None:
        retired.set()
        stop.set()

    loop.add_signal_handler(signal.SIGUSR1, retire)
    spool = SpoolWriter(Path(config.spool), config.worker_id, dumps=orjson.dumps)
    outbox = Outbox(spool, loop)
    plane = build(config, outbox, loop)
    server = Server(lambda exchange: handle(plane, exchange), config.http, loop, outbox)
    inherited = None if config.listen_fd is None else socket.socket(fileno=config.listen_fd)
    port = await server.listen(config.host, config.port, _tls(config), inherited=inherited)
    scraper = Server(lambda exchange: _scrape(plane, server, exchange), config.http, loop)
    scrape_port = await _listen_for_scrapes(scraper, config)
    if config.parent_fd is not None:
        loop.add_reader(config.parent_fd, stop.set)
    # What was loaded so far lives as long as the process: the collector need not look at it again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLD)
    give_back()
    told, given_back = plane.snapshots.version, loop.time()
    ready: dict[str, object] = {
        "ready": True,
        "port": port,
        "metrics": scrape_port,
        "pid": os.getpid(),
        "snapshot": told,
    }
    _tell(config, ready)
    while not stop.is_set():
        plane.tick()
        if plane.snapshots.version != told:
            told = plane.snapshots.version
            _tell(config, {"snapshot": told})
        _tell_unknown_keys(config, plane)
        now = loop.time()
        server.tick(now)
        scraper.tick(now)
        if now - given_back > RELEASE_SECONDS:
            given_back = now
            loop.run_in_executor(None, give_back)
        try:
            async with asyncio.timeout(TICK_SECONDS):
                await stop.wait()
        except TimeoutError:
            continue
    ticking = loop.create_task(_tick_on(plane, server))
    await server.drain(config.drain_seconds, RETIRED_LINGER_SECONDS if retired.is_set() else 0.0)
    ticking.cancel()
    await scraper.drain(0)
    plane.pool.close()
    if plane.shared is not None:
        plane.shared.close()
    outbox.flush()
    spool.close()


def build(config: WorkerConfig, outbox: Outbox, loop: asyncio.AbstractEventLoop) -> Plane:
    """Everything a request needs, from the configuration. Raises what a bad snapshot raises."""
    key = parse_public(config.snapshot_key.encode())
    pinned = PublicKey(key_id_of(key), "snapshot", config.snapshot_key.encode())
    detection = Detection(Path(config.patterns) if config.patterns else None)
    snapshots = SnapshotFile(
        Path(config.snapshot),
        pinned,
        audience=config.audience,
        issuer=config.issuer,
        minimum_version=config.minimum_snapshot,
        background=ThreadPoolExecutor(1, thread_name_prefix="snapshot"),
        prepare=lambda snapshot: detection.renew(snapshot.detect),
    )
    if snapshots.refresh() is None and snapshots.problem is not None:
        raise snapshots.problem
    current = snapshots.newest
    table = Table(
        config.limit_regions, config.limit_region, -1 if config.limits_fd is None else config.limits_fd
    )
    limiter = Limiter(time.monotonic, table, config.limit_replicas)
    return Plane(
        snapshots=snapshots,
        limiter=limiter,
        shared=_shared(config, loop),
        inspector=detection.renew({} if current is None else current.detect),
        detection=detection,
        asker=detection.asker,
        pool=Pool(config.upstream, loop, outbox),
        outbox=outbox,
        metrics=Metrics(),
        wall=time.time,
        clock=time.monotonic,
        http=config.http,
        upstream=config.upstream,
        prefix=secrets.token_hex(4),
    )


def _shared(config: WorkerConfig, loop: asyncio.AbstractEventLoop) -> SharedLimits | None:
    if not config.limits_redis:
        return None
    password = Path(config.limits_redis_password) if config.limits_redis_password else None
    name = f"{config.worker_id}-{secrets.token_hex(4)}"
    return SharedLimits(parse_server(config.limits_redis), name, config.limit_replicas, loop, password)


async def _tick_on(plane: Plane, server: Server) -> None:
    """Deadlines and revocations also hold while draining."""
    while True:
        plane.tick()
        server.tick(plane.clock())
        await asyncio.sleep(TICK_SECONDS)


async def _scrape(plane: Plane, server: Server, exchange: Exchange) -> None:
    gauges = {
        "garrison.gateway.connections": len(server.connections),
        "garrison.gateway.requests.active": len(plane.active),
        "garrison.gateway.connections.refused": server.refused,
        "garrison.gateway.events.unrecorded": plane.outbox.unrecorded,
        "garrison.gateway.snapshots.rejected": plane.snapshots.rejected,
        "garrison.gateway.upstreams.left_alone": plane.health.open,
    }
    answer_scrape(plane.metrics, gauges, exchange)


async def _listen_for_scrapes(scraper: Server, config: WorkerConfig) -> int | None:
    """Metrics on loopback: the stated port, or any when another worker has it."""
    if config.metrics_port is None:
        return None
    try:
        return await scraper.listen("127.0.0.1", config.metrics_port)
    except OSError:
        return await scraper.listen("127.0.0.1", 0)


def _tls(config: WorkerConfig) -> ssl.SSLContext | None:
    if config.tls_fd is not None:
        try:
            return server_context_from(config.tls_fd)
        except (ssl.SSLError, OSError) as error:
            raise Undecided(
                "GW-TLS",
                "the gateway worker was not given a usable certificate and key",
                fix="start workers with garrison up, which makes both in memory",
            ) from error
        finally:
            os.close(config.tls_fd)
    if config.host not in LOOPBACK:
        raise Usage(
            "GW-PLAIN",
            f"plain HTTP is served on loopback only, not on {config.host}",
            fix="give the worker a certificate, as garrison up does",
        )
    return None


def _tell_unknown_keys(config: WorkerConfig, plane: Plane) -> None:
    """A token named a key of its issuer that is not in the snapshot: the issuer may have begun to use a new one."""
    for url in plane.snapshots.unknown_keys():
        _tell(config, {"unknown_keys": [url]})


def _tell(config: WorkerConfig | None, message: dict[str, object]) -> None:
    """One line on the pipe to the control process, if there is one; nothing is ever printed.

    First that we are ready (or why not), then each snapshot that we serve by. A pipe that nobody reads
    loses lines rather than time.
    """
    if config is None or config.ready_fd is None:
        return
    with contextlib.suppress(OSError):
        os.set_blocking(config.ready_fd, False)
        os.write(config.ready_fd, json.dumps(message).encode() + b"\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
