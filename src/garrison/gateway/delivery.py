"""The second phase of a request: ask the model server, and give the client what may leave of its answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from garrison.gateway.admission import CHARACTERS_PER_TOKEN, Admitted
from garrison.gateway.answers import Usage, parse_answer, read_answer, upstream_error
from garrison.gateway.asking import ask, trace_header
from garrison.gateway.config import UpstreamLimits
from garrison.gateway.doors import Door
from garrison.gateway.exchange import Exchange
from garrison.gateway.fields import unreadable
from garrison.gateway.openai_out import Named, Writer
from garrison.gateway.openai_shapes import Call
from garrison.gateway.record import Record
from garrison.gateway.redaction import Redaction
from garrison.gateway.replies import EVENTS, JSON, id_headers
from garrison.gateway.streams import Stream
from garrison.gateway.upstreams.connection import Response, malformed
from garrison.gateway.upstreams.health import Health
from garrison.gateway.upstreams.kinds import KINDS, decoded
from garrison.gateway.upstreams.pool import Pool

OPENAI = KINDS["openai"]


class Means(Protocol):
    """`pipeline.Plane`, as delivery needs it."""

    pool: Pool
    health: Health
    upstream: UpstreamLimits

    @property
    def wall(self) -> Callable[[], float]: ...

    @property
    def clock(self) -> Callable[[], float]: ...


def check_images(call: Call, record: Record) -> None:
    """Images pass where the route says so, and the event says that nobody read them. Raises `Usage` GW-PART."""
    if not call.images:
        return
    if not record.rules.images:
        raise unreadable("an image", "send text, or ask an operator for a route that lets images pass unread")
    record.images = len(call.images)


async def answer(
    means: Means, exchange: Exchange, door: Door, admitted: Admitted, record: Record, redaction: Redaction
) -> None:
    """Only an `Admitted` request is asked for. Raises what the pool, the answer and its inspection raise."""
    call = admitted.call
    if record.rules.backends:
        response, kind = await ask(means.pool, means.health, admitted, record)
    else:
        told = trace_header(record)
        response = await means.pool.post(
            admitted.endpoint.address, call.operation.asked, admitted.payload, told, fixed=not told
        )
        kind = OPENAI
    try:
        if response.status != 200:
            raise upstream_error(response.status, await response.whole(65_536), redaction)
        named = Named(record.request_id, admitted.served, int(means.wall()))
        if call.stream:
            record.answered = means.clock()
            source = kind.source(means.upstream.event_bytes)
            _expect(response, kind.streams_as)
            events = Stream(call, redaction, source, writer := door.writer(call, named))
            await stream(means, exchange, events, writer, response, record, redaction)
            return
        _expect(response, "application/json")
        raw = await response.whole(means.upstream.answer_bytes)
        record.answered = means.clock()
        value = parse_answer(raw)
        choices, usage = read_answer(value if kind is OPENAI else decoded(kind, value), call, redaction)
        body = door.body(choices, usage, call, named)
        record.first_byte = means.clock()
        count(record, usage, redaction)
        exchange.send(200, JSON + id_headers(record.request_id), body)
    finally:
        response.close()


async def stream(
    means: Means,
    exchange: Exchange,
    events: Stream,
    writer: Writer,
    response: Response,
    record: Record,
    redaction: Redaction,
) -> None:
    """Pass the inspected stream on, no faster than the client reads it.

    The answer begins with the first bytes that may be shown: what goes wrong before is a clean refusal.
    """
    try:
        while not events.done:
            data = await response.read()
            if not data:
                events.end()
            shown = events.feed(data)
            if shown and not exchange.started:
                record.first_byte = means.clock()
                exchange.last_words = writer.error
                exchange.start(200, EVENTS + id_headers(record.request_id))
            if events.done:
                exchange.finish(shown)
            elif shown and (writable := exchange.write(shown)) is not None:
                await writable
        response.let_go()
    finally:
        count(record, events.usage, redaction, events.pieces)


def count(record: Record, usage: Usage | None, redaction: Redaction, pieces: int = 0) -> None:
    """Tokens as the model server counted them, else an estimate from what it sent."""
    record.tokens_counted = usage is not None
    if usage is not None:
        record.prompt_tokens, record.completion_tokens = usage.prompt, usage.completion
    else:
        record.completion_tokens = max(pieces, redaction.characters // CHARACTERS_PER_TOKEN)


def _expect(response: Response, kind: str) -> None:
    if response.content_type != kind:
        raise malformed(f"an answer that is not {kind}")
