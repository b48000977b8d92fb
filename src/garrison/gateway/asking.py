"""Asking one of several servers behind a route: who is well, whom to try next, and in whose shape.

Servers, paths, headers and keys come from the signed snapshot and the broker. A server that fails before its answer
has begun may be followed by another, as far as the retry budget goes; never by one of a lower tier, because the
snapshot holds none.
"""

from __future__ import annotations

import orjson

from garrison.core.errors import Undecided, Usage
from garrison.core.trace import span_of, trace_of, traceparent
from garrison.gateway.admission import Admitted
from garrison.gateway.record import Record
from garrison.gateway.upstreams.backend import Backend
from garrison.gateway.upstreams.connection import Response
from garrison.gateway.upstreams.health import Health
from garrison.gateway.upstreams.kinds import KINDS, Kind
from garrison.gateway.upstreams.pool import Pool

KEY_HEADER = "x-garrison-key"  # tells the broker which secret to add; it never leaves this machine
AGAIN = frozenset({429, 500, 502, 503, 504, 529})  # the server's trouble, or too much at once: another may do
_AGAIN = frozenset({"GW-UPSTREAM", "GW-BUSY"})


async def ask(pool: Pool, health: Health, admitted: Admitted, record: Record) -> tuple[Response, Kind]:
    """The response of the first server that gives one, and its kind.

    Raises what the last one raised, `Undecided` GW-OPEN, or `Usage` GW-TASK or GW-FIELD.
    """
    door = admitted.call.operation.asked
    able = [backend for backend in record.rules.backends if door in KINDS[backend.kind].doors]
    if not able:
        what = f"no model server of {admitted.endpoint.name} serves {admitted.call.operation.path}"
        raise Usage("GW-TASK", what, fix="ask for a chat", evidence={"param": "model"})
    tried: list[Backend] = []
    while True:
        backend = record.backend = health.choose(able, tried)
        tried.append(backend)
        last = len(tried) == len(able)
        kind = KINDS[backend.kind]
        try:
            response = await _post(pool, backend, kind, admitted, record.rules.broker, trace_header(record))
        except Undecided as error:
            health.failed(backend)
            if last or error.code not in _AGAIN or not health.may_retry():
                raise
        except BaseException:
            health.let_go(backend)  # whether it is well was not found out
            raise
        else:
            if response.status not in AGAIN:
                health.succeeded(backend)
                return response, kind
            health.failed(backend)
            if last or not health.may_retry():
                return response, kind
            response.close()
        record.retries += 1


def trace_header(record: Record) -> bytes:
    """The line that tells a model server which trace and span it works for; empty where the route does not say so."""
    if not record.rules.traces:
        return b""
    trace = record.trace or trace_of(record.request_id)
    return f"traceparent: {traceparent(trace, span_of(record.request_id, 'upstream'))}\r\n".encode()


async def _post(
    pool: Pool, backend: Backend, kind: Kind, admitted: Admitted, broker: str, told: bytes
) -> Response:
    call = admitted.call
    body = kind.encode(orjson.loads(admitted.payload), backend.model)
    path = kind.path(call.operation.asked, backend.model, call.stream)
    if not backend.key:
        headers = kind.headers + told
        return await pool.post(backend.address, path, orjson.dumps(body), headers, fixed=not told)
    headers = kind.headers + f"{KEY_HEADER}: {backend.key}\r\n".encode()
    return await pool.post(broker, path, orjson.dumps(body), headers)
