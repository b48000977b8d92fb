"""What is measured, in one place: every worker's figures and the control process's own, as Prometheus text.

On loopback only, without a token: figures name models and codes, and nothing of anybody's text.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import replace

from garrison.app.house import House
from garrison.app.workers import Workers
from garrison.core.errors import GarrisonError
from garrison.evidence.sinks import store
from garrison.evidence.telemetry.family import COUNTER, GAUGE, Family, Point, joined, labelled, parse_family
from garrison.evidence.telemetry.prometheus import CONTENT_TYPE, render

SECONDS = 3.0  # for a worker to answer, and for a scraper to ask
MAX_PAGE = 8 << 20  # bytes of one worker's figures: every series there can be takes less
MAX_HEAD = 8_192
LOOPBACK = "127.0.0.1"
RECORDS = Family("garrison.ledger.records", COUNTER, "{event}", "events in the ledger")
UNSIGNED = Family("garrison.ledger.unsigned", GAUGE, "{event}", "events that no checkpoint covers yet")
WORKERS = Family("garrison.gateway.workers", GAUGE, "{process}", "gateway workers that answer")
WAITING = Family("garrison.sink.waiting", GAUGE, "{event}", "events that wait for a receiver")
FAILING = Family("garrison.sink.failing", GAUGE, "1", "1 while a receiver takes nothing")
ALERTS = Family("garrison.alerts.open", GAUGE, "{alert}", "alerts that nobody has closed, by code")
FAMILIES = (RECORDS, UNSIGNED, WORKERS, WAITING, FAILING, ALERTS)
"""What the control process adds to the workers' families."""


class MetricsPage:
    """`start` listens on the port that was asked for, or on any when another program has it."""

    def __init__(self, house: House, workers: Workers) -> None:
        self._house = house
        self._workers = workers
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        port = self._server.sockets[0].getsockname()[1] if self._server is not None else 0
        return f"http://{LOOPBACK}:{port}/metrics"

    async def start(self, port: int) -> None:
        try:
            self._server = await asyncio.start_server(self._answer, LOOPBACK, port, limit=MAX_HEAD)
        except OSError:
            self._server = await asyncio.start_server(self._answer, LOOPBACK, 0, limit=MAX_HEAD)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()

    async def families(self) -> list[Family]:
        """Every figure now. A worker that does not answer is missing, and counted as missing."""
        places = self._workers.metrics_ports
        pages = await asyncio.gather(*(_ask(port) for port in places.values()))
        found = [
            labelled(page, "worker", str(index))
            for index, page in zip(places, pages, strict=True)
            if page is not None
        ]
        own = await asyncio.to_thread(_own, self._house)
        alive = _one(WORKERS, len(found))
        return joined([*found, [alive], own])

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        status, body = "404 Not Found", b""
        with contextlib.suppress(
            OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError
        ):
            async with asyncio.timeout(SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
            if head.startswith(b"GET /metrics HTTP/1."):
                status, body = "200 OK", render(await self.families())
            writer.write(
                f"HTTP/1.1 {status}\r\ncontent-type: {CONTENT_TYPE}\r\ncontent-length: {len(body)}\r\n"
                "connection: close\r\n\r\n".encode()
                + body
            )
            async with asyncio.timeout(SECONDS):
                await writer.drain()
        writer.close()


async def _ask(port: int) -> list[Family] | None:
    try:
        async with asyncio.timeout(SECONDS):
            reader, writer = await asyncio.open_connection(LOOPBACK, port, limit=MAX_HEAD)
            try:
                writer.write(b"GET /metrics.json HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
                if not head.startswith(b"http/1.1 200 ") or length > MAX_PAGE:
                    return None
                return [parse_family(one) for one in json.loads(await reader.readexactly(length))]
            finally:
                writer.close()
    except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        return None
    except (ValueError, KeyError, TypeError):
        return None  # a worker of another release, in the middle of an upgrade


def _own(house: House) -> list[Family]:
    """What the ledger tells; nothing of it while the database is away."""
    state = house.ledger.state()
    found = [_one(RECORDS, state.size), _one(UNSIGNED, state.size - state.signed)]
    with contextlib.suppress(GarrisonError):
        access = house.people().access
        with house.ledger.read() as connection:
            cursors = store.all_cursors(connection)
        names = [
            name
            for name in sorted(access.sinks)
            if name in cursors and access.sinks[name].get("signals") != ["metrics"]  # takes no events
        ]
        waiting = tuple(Point((("sink", name),), max(0, state.size - cursors[name].seq)) for name in names)
        failing = tuple(Point((("sink", name),), float(bool(cursors[name].code))) for name in names)
        codes = [str(one["code"]) for one in access.alerts.values() if one.get("state") != "closed"]
        alerts = tuple(Point((("code", code),), codes.count(code)) for code in sorted(set(codes)))
        for family, points in ((WAITING, waiting), (FAILING, failing), (ALERTS, alerts)):
            found.append(replace(family, points=points))
    return found


def _one(family: Family, value: float) -> Family:
    return replace(family, points=(Point((), value),))
