"""One request, top to bottom: identify, decide, throttle, inspect, route, stream, redact, one event.

`handle` is the whole story. A refusal, a crash and a client that hangs up each leave exactly one event, and
nothing leaves here that was not inspected.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import orjson

from garrison.core.actions import Action
from garrison.core.errors import GarrisonError, Refused, Undecided, Usage
from garrison.gateway.admission import (
    CHARACTERS_PER_TOKEN,
    Admitted,
    Inspect,
    admit,
    identify,
    may_invoke,
)
from garrison.gateway.answers import Usage as Tokens
from garrison.gateway.answers import rebuild, upstream_error
from garrison.gateway.config import HttpLimits, UpstreamLimits
from garrison.gateway.exchange import Exchange
from garrison.gateway.http_parse import Head
from garrison.gateway.limits import Limiter
from garrison.gateway.metrics import Metrics
from garrison.gateway.openai_shapes import OPERATIONS, parse_call
from garrison.gateway.outbox import Outbox
from garrison.gateway.record import ClockText, Record
from garrison.gateway.redaction import OutputInspector, Redaction
from garrison.gateway.replies import EVENTS, JSON, TEXT, error_headers, error_json, id_headers, status_of
from garrison.gateway.snapshot import Snapshot, SnapshotFile
from garrison.gateway.streams import Stream
from garrison.gateway.upstreams.connection import Response, malformed
from garrison.gateway.upstreams.pool import Pool
from garrison.trust.identity import Principal, refusal

GRACE_SECONDS = 60.0  # an answer that has begun may end this long after its token has expired
MODELS = "/v1/models"
PROBES = ("/livez", "/readyz")


class Inspector(Inspect, OutputInspector, Protocol):
    """`detect.inspect.Inspector`: what people write and what models answer."""


@dataclass(slots=True)
class Plane:
    """Everything a request needs. `wall` gives seconds since 1970, `clock` monotonic seconds."""

    snapshots: SnapshotFile
    limiter: Limiter
    inspector: Inspector
    pool: Pool
    outbox: Outbox
    metrics: Metrics
    wall: Callable[[], float]
    clock: Callable[[], float]
    http: HttpLimits
    upstream: UpstreamLimits
    prefix: str  # makes request ids unique among workers and restarts
    count: int = 0
    clock_text: ClockText = field(default_factory=ClockText)
    active: dict[Exchange, Principal] = field(default_factory=dict)

    def tick(self) -> None:
        """Called several times a second: take a new snapshot, end what is no longer allowed, or too slow."""
        self.snapshots.refresh()
        self.pool.tick(self.clock())
        if not self.active:
            return
        wall = self.wall()
        try:
            snapshot = self.snapshots.current(wall)
        except Undecided:
            return  # what was admitted may end; nothing new is
        for exchange, principal in list(self.active.items()):
            if (
                principal.subject.name in snapshot.revoked_subjects
                or principal.token_id in snapshot.revoked_tokens
            ):
                exchange.cut(refusal("TOK-REVOKED"))
            elif wall > principal.expires + GRACE_SECONDS:
                exchange.cut(refusal("TOK-EXPIRED"))


async def handle(plane: Plane, exchange: Exchange) -> None:
    """Serve one request. Never raises; leaves exactly one event (none for the liveness probes)."""
    if exchange.head is not None and exchange.head.target in PROBES:
        probe(plane, exchange, exchange.head.target)
        return
    plane.count += 1
    record = Record(f"r-{plane.prefix}{plane.count:08x}", plane.clock())
    redaction = Redaction(plane.inspector)
    try:
        head = route(exchange, record)
        snapshot = plane.snapshots.current(wall := plane.wall())
        record.snapshot_version = snapshot.version
        principal = identify(head, snapshot, wall)
        record.subject, record.token_id = principal.subject, principal.token_id
        plane.active[exchange] = principal
        if head.target == MODELS:
            list_models(exchange, snapshot, principal, record)
            return
        call = parse_call(OPERATIONS[head.target], await exchange.body(), plane.http.json_depth)
        record.stream = call.stream
        admitted = admit(snapshot, principal, call, plane.limiter, plane.inspector, record)
        plane.outbox.begin(
            record.request_id, plane.clock_text.at(plane.wall()), record.subject.actor, record.resource
        )
        await answer(plane, exchange, admitted, record, redaction)
        record.complete()
    except GarrisonError as error:
        refuse(exchange, record, error)
    except asyncio.CancelledError:
        cut_short(exchange, record)
    except Exception as error:  # noqa: BLE001 - the boundary of one request: a defect must not end the others
        plane.metrics.defect(type(error).__name__)
        refuse(exchange, record, _defect())
    finally:
        plane.active.pop(exchange, None)
        close(plane, record, redaction)


def route(exchange: Exchange, record: Record) -> Head:
    """The head of a request for one of our routes, matched exactly: no normalising, no prefix, no query.

    Raises what the HTTP server found wrong, `Refused` GW-ROUTE, `Usage` GW-METHOD or HTTP-TYPE.
    """
    head = exchange.head
    if head is None or exchange.defect is not None:
        raise exchange.defect or Usage("HTTP-SYNTAX", "no request", fix="send one")
    operation = OPERATIONS.get(head.target)
    if operation is None and head.target != MODELS:
        raise Refused("GW-ROUTE", "there is nothing at this path", fix="see docs/gateway.md for the routes")
    method = "GET" if operation is None else "POST"
    if operation is None:
        record.action, record.resource, record.operation = Action.ARTIFACT_READ, "models", "models"
    else:
        record.operation = operation.task
    if head.method != method:
        what = f"{head.target} is asked with {method}"
        raise Usage("GW-METHOD", what, fix=f"use {method}", evidence={"allow": method})
    if operation is not None:
        kind = head.headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if kind != b"application/json" or head.headers.get(b"content-encoding", b"identity") != b"identity":
            raise Usage(
                "HTTP-TYPE",
                "the body has to be application/json without a content coding",
                fix="send Content-Type: application/json and no Content-Encoding",
            )
    return head


async def answer(
    plane: Plane, exchange: Exchange, admitted: Admitted, record: Record, redaction: Redaction
) -> None:
    """Ask the model server and give the client what may leave of its answer."""
    response = await plane.pool.post(
        admitted.endpoint.address, admitted.call.operation.path, admitted.payload
    )
    try:
        if response.status != 200:
            raise upstream_error(response.status, await response.whole(65_536), redaction)
        if admitted.call.stream:
            await stream(plane, exchange, admitted, response, record, redaction)
            return
        _expect(response, "application/json")
        raw = await response.whole(plane.upstream.answer_bytes)
        body, usage = rebuild(
            raw, admitted.call, record.request_id, admitted.served, int(plane.wall()), redaction
        )
        record.first_byte = plane.clock()
        count(record, usage, redaction)
        exchange.send(200, JSON + id_headers(record.request_id), body)
    finally:
        response.close()


async def stream(
    plane: Plane,
    exchange: Exchange,
    admitted: Admitted,
    response: Response,
    record: Record,
    redaction: Redaction,
) -> None:
    """Pass the inspected stream on, no faster than the client reads it."""
    _expect(response, "text/event-stream")
    events = Stream(
        admitted.call,
        record.request_id,
        admitted.served,
        int(plane.wall()),
        redaction,
        plane.upstream.event_bytes,
    )
    exchange.start(200, EVENTS + id_headers(record.request_id))
    try:
        while not events.done:
            data = await response.read()
            if not data:
                events.end()
            shown = events.feed(data)
            if shown:
                record.first_byte = record.first_byte or plane.clock()
                writable = exchange.write(shown)
                if writable is not None:
                    await writable
        exchange.finish()
        response.let_go()
    finally:
        count(record, events.usage, redaction, events.pieces)


def list_models(exchange: Exchange, snapshot: Snapshot, principal: Principal, record: Record) -> None:
    """The models that this subject may use."""
    models = [
        {"id": endpoint.name, "object": "model", "created": 0, "owned_by": "garrison"}
        for endpoint in snapshot.routes.values()
        if any(may_invoke(snapshot, principal.subject, endpoint, task).allowed for task in endpoint.tasks)
    ]
    record.policy_version = snapshot.policy.version
    record.complete()
    body = orjson.dumps({"object": "list", "data": models})
    exchange.send(200, JSON + id_headers(record.request_id), body)


def probe(plane: Plane, exchange: Exchange, target: str) -> None:
    """Alive: this process answers. Ready: it has a valid snapshot and can record. No detail for strangers."""
    ready = True
    if target == "/readyz":
        try:
            plane.snapshots.current(plane.wall())
        except Undecided:
            ready = False
    exchange.send(200 if ready else 503, TEXT, b"ok\n" if ready else b"no\n")


def refuse(exchange: Exchange, record: Record, error: GarrisonError) -> None:
    """A clean status while nothing was sent; in a stream, an error event and no `[DONE]`."""
    record.refused(error)
    body = error_json(error, record.request_id)
    if not exchange.started:
        exchange.send(status_of(error), error_headers(error, record.request_id), body)
    elif exchange.streaming and not exchange.finished:
        record.ended = "cut"
        exchange.write(b"data: " + body + b"\n\n")
        exchange.keep_alive = False
        exchange.finish()


def cut_short(exchange: Exchange, record: Record) -> None:
    """Someone ended the request from outside: the client by leaving, or the gateway with a reason."""
    if exchange.cut_by is not None:
        refuse(exchange, record, exchange.cut_by)
        record.ended = "cut"
    elif exchange.gone:
        record.code, record.ended = "GW-GONE", "client_gone"
    else:
        refuse(exchange, record, _draining())


def count(record: Record, usage: Tokens | None, redaction: Redaction, pieces: int = 0) -> None:
    """Tokens as the model server counted them, else an estimate from what it sent."""
    record.tokens_counted = usage is not None
    if usage is not None:
        record.prompt_tokens, record.completion_tokens = usage.prompt, usage.completion
    else:
        record.completion_tokens = max(pieces, redaction.characters // CHARACTERS_PER_TOKEN)


def close(plane: Plane, record: Record, redaction: Redaction) -> None:
    """Settle the limits, release the detectors, write the event."""
    found = redaction.close()
    if found:
        record.redacted = True
        record.found("output", found)
    record.settle()
    now = plane.clock()
    plane.metrics.observe(record, now)
    plane.outbox.end(record.request_id, record.event(plane.clock_text.at(plane.wall()), now))


def _expect(response: Response, kind: str) -> None:
    if response.content_type != kind:
        raise malformed(f"an answer that is not {kind}")


def _defect() -> GarrisonError:
    return GarrisonError(
        "INTERNAL",
        "the gateway failed on this request; nothing that was not inspected has left it",
        fix="tell the operator the audit id; the request can be tried again",
    )


def _draining() -> Undecided:
    return Undecided("GW-DRAIN", "the gateway is stopping", fix="try again in a moment", retry_after=2)
