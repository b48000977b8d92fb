"""One request, top to bottom: identify, decide, throttle, inspect, route, stream, redact, one event.

`handle` is the whole story. A refusal, a crash and a client that hangs up each leave exactly one event, and
nothing leaves here that was not inspected.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from garrison.core.actions import Action
from garrison.core.errors import GarrisonError, Refused, Undecided, Usage
from garrison.core.trace import parse_traceparent
from garrison.detect.tier2_ask import Asker
from garrison.gateway.admission import Inspect, admit, identify, tag_of
from garrison.gateway.authz import PREFIX, check_asker, permit, unwrap
from garrison.gateway.config import HttpLimits, UpstreamLimits
from garrison.gateway.delivery import answer, check_images
from garrison.gateway.detection import Renewing
from garrison.gateway.doors import MODELS, door_of, error_text, model_asked
from garrison.gateway.exchange import Exchange
from garrison.gateway.failures import Failures
from garrison.gateway.http_parse import Head
from garrison.gateway.limits import Limiter
from garrison.gateway.listing import probe, show_models
from garrison.gateway.metrics import AUTHENTICATION, Metrics
from garrison.gateway.outbox import Outbox
from garrison.gateway.record import ClockText, Record
from garrison.gateway.redaction import OutputInspector, Redaction
from garrison.gateway.replies import error_headers, status_of
from garrison.gateway.rules import PLAIN
from garrison.gateway.second_opinion import settle
from garrison.gateway.shared_limits import SharedLimits, count_together
from garrison.gateway.snapshot import SnapshotFile
from garrison.gateway.upstreams.health import Health
from garrison.gateway.upstreams.pool import Pool
from garrison.trust.identity import Principal, refusal

GRACE_SECONDS = 60.0  # an answer that has begun may end this long after its token has expired
PROBES = ("/livez", "/readyz", "/v2/health/live", "/v2/health/ready")


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
    shared: SharedLimits | None = None
    detection: Renewing | None = None  # makes the inspector again when a snapshot asks for it
    asker: Asker | None = None  # what the first tier does not settle is asked there
    failures: Failures = field(default_factory=Failures)
    health: Health = field(default_factory=lambda: Health(time.monotonic, random.random))

    def tick(self) -> None:
        """Called several times a second: take a new snapshot, end what is no longer allowed, or too slow."""
        fresh = self.snapshots.refresh()
        if fresh is not None and self.detection is not None:
            self.inspector = self.detection.renew(fresh.detect)
            self.asker = self.detection.asker
        self.pool.tick(self.clock())
        if self.shared is not None:
            self.shared.tick()
            self.limiter.alone = not self.shared.up
        if not self.active:
            return
        wall = self.wall()
        try:
            snapshot = self.snapshots.current(wall)
        except Undecided:
            return  # what was admitted may end; nothing new is
        for exchange, principal in list(self.active.items()):
            if principal.is_withdrawn(snapshot.revoked_tokens, snapshot.revoked_subjects):
                exchange.cut(refusal("TOK-REVOKED"))
            elif wall > principal.expires + GRACE_SECONDS:
                exchange.cut(refusal("TOK-EXPIRED"))


async def handle(plane: Plane, exchange: Exchange) -> None:
    """Serve one request. Never raises; leaves exactly one event (none for the liveness probes)."""
    if exchange.head is not None and exchange.head.target in PROBES:
        probe(plane.snapshots, plane.wall(), exchange, exchange.head.target)
        return
    plane.count += 1
    record = Record(f"r-{plane.prefix}{plane.count:08x}", plane.clock())
    redaction = Redaction(plane.inspector)
    try:
        head = route(exchange, record)
        if b"traceparent" in head.headers:
            record.trace = parse_traceparent(head.headers[b"traceparent"])
        snapshot = plane.snapshots.current(wall := plane.wall())
        record.snapshot_version = snapshot.version
        if record.asked_by:
            record.asked_by = check_asker(exchange.certificate, snapshot.proxies)
        principal = identify(head, snapshot, wall, exchange.certificate, exchange.peer, plane.failures)
        record.subject, record.token_id = principal.subject, principal.token_id
        plane.active[exchange] = principal
        door = door_of(head.target)
        if door is None:
            begin(plane, record)
            await plane.outbox.recorded()
            show_models(exchange, snapshot, principal, record)
            return
        call = door.parse(await exchange.body(), plane.http.json_depth)
        record.parsed = plane.clock()
        record.stream = call.stream
        record.use = snapshot.uses.of(head, exchange.peer, principal.tenant, call)
        tag = tag_of(head)
        admitted = admit(snapshot, principal, call, plane.limiter, plane.inspector, record, tag, wall)
        if plane.shared is not None:
            held = snapshot.restricted.get(principal.subject.actor, ())
            await count_together(plane.shared, plane.limiter, record, held)
        if record.doubts:
            await settle(plane.asker, record)
        redaction.rules = record.rules = snapshot.rules.get(admitted.endpoint.name, PLAIN)
        redaction.how = admitted.answers
        redaction.restore(admitted.vault, principal.subject.actor)
        check_images(call, record)
        record.judged = plane.clock()
        begin(plane, record)
        if record.asked_by:
            await plane.outbox.recorded()
            permit(exchange, record, admitted)
        else:
            await answer(plane, exchange, door, admitted, record, redaction)
        record.complete()
    except GarrisonError as error:
        if error.code.startswith(("TOK-", "LIM-AUTH")):
            authentication_failed(plane, exchange, record, error)
        refuse(exchange, record, error)
    except asyncio.CancelledError:
        cut_short(exchange, record)
    except Exception as error:  # noqa: BLE001 - the boundary of one request: a defect must not end the others
        plane.metrics.defect(type(error).__name__)
        refuse(exchange, record, _defect())
    finally:
        plane.active.pop(exchange, None)
        close(plane, record, redaction)


def begin(plane: Plane, record: Record) -> None:
    """The line of an admitted request; it is on the disk before a model is asked or a yes is said."""
    wall = plane.clock_text.at(plane.wall())
    plane.outbox.begin(record.request_id, wall, record.subject.actor, record.resource)


def route(exchange: Exchange, record: Record) -> Head:
    """The head of a request for one of our routes, matched exactly: no normalising, no prefix, no query.

    Raises what the HTTP server found wrong, `Refused` GW-ROUTE, `Usage` GW-METHOD or HTTP-TYPE.
    """
    head = exchange.head
    if head is None or exchange.defect is not None:
        raise exchange.defect or Usage("HTTP-SYNTAX", "no request", fix="send one")
    if head.target.startswith(PREFIX):
        head = exchange.head = unwrap(head)
        record.asked_by = "unknown"
    door = door_of(head.target)
    if door is not None:
        method, record.operation = door.method, door.operation.name
    elif not record.asked_by and (head.target == MODELS or model_asked(head.target) is not None):
        method, record.operation = "GET", "models"
        record.action, record.resource = Action.ARTIFACT_READ, "models"
    else:
        raise Refused("GW-ROUTE", "there is nothing at this path", fix="see docs/gateway.md for the routes")
    if head.method != method:
        what = f"{head.target} is asked with {method}"
        raise Usage("GW-METHOD", what, fix=f"use {method}", evidence={"allow": method})
    if door is not None and method == "POST":
        kind = head.headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if kind != b"application/json" or head.headers.get(b"content-encoding", b"identity") != b"identity":
            raise Usage(
                "HTTP-TYPE",
                "the body has to be application/json without a content coding",
                fix="send Content-Type: application/json and no Content-Encoding",
            )
    return head


def authentication_failed(plane: Plane, exchange: Exchange, record: Record, error: GarrisonError) -> None:
    """Count it by source and reason, and note both: who claimed it only when that was proved."""
    reason, name = (*getattr(error, "__notes__", ()), "", "")[:2]
    reason = "limited" if error.code == "LIM-AUTH" else reason
    if reason not in ("missing", "shape", "limited"):  # what was refused without any work may be tried on
        plane.failures.failed(exchange.peer, plane.wall())
    plane.metrics.count(AUTHENTICATION, (("reason", reason or error.code),))
    record.unproved = {"source": exchange.peer, "reason": reason, "identity": name}


def refuse(exchange: Exchange, record: Record, error: GarrisonError) -> None:
    """A clean status while nothing was sent; in a stream, an error event and no `[DONE]`."""
    record.refused(error)
    if not exchange.started:
        body = error_text(exchange.head, error, record.request_id)
        exchange.send(status_of(error), error_headers(error, record.request_id), body)
    elif exchange.streaming and not exchange.finished:
        record.ended = "cut"
        if exchange.last_words is not None:
            exchange.write(exchange.last_words(error))
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


def close(plane: Plane, record: Record, redaction: Redaction) -> None:
    """Settle the limits, release the detectors, write the event."""
    found = redaction.close()
    if found:
        record.redacted = not redaction.rules.is_audit
        record.found("output", found)
    record.scanned_out = redaction.scanned
    now = plane.clock()
    record.settle(now)
    plane.metrics.observe(record, now)
    plane.outbox.end(record.request_id, record.event(plane.clock_text.at(plane.wall()), now))


def _defect() -> GarrisonError:
    return GarrisonError(
        "INTERNAL",
        "the gateway failed on this request; nothing that was not inspected has left it",
        fix="tell the operator the audit id; the request can be tried again",
    )


def _draining() -> Undecided:
    return Undecided("GW-DRAIN", "the gateway is stopping", fix="try again in a moment", retry_after=2)
