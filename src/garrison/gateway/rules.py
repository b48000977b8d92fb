"""What a route says of its requests and answers, signed with the snapshot: how streams are inspected, images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from garrison.gateway.upstreams.backend import Backend, parse_backends

STREAMS = ("hold", "buffer", "audit")


@dataclass(frozen=True, slots=True)
class RouteRules:
    """`stream` is `hold` (text leaves once nothing in it can still become a value), `buffer` (an answer leaves
    when all of it is inspected) or `audit` (text leaves at once; what is found is recorded, nothing is replaced).
    With `blocks` a value ends the answer instead of being replaced. `images` may pass, unread. `backends` are the
    servers behind the route when it names them; `broker` is where those that want a key are asked. With
    `tolerates` a request that a detector failed on is judged by the others; without, it is refused. With `traces`
    a model server that needs no key is told the request's trace context.
    """

    stream: str = "hold"
    blocks: bool = False
    images: bool = False
    backends: tuple[Backend, ...] = ()
    broker: str = ""
    tolerates: bool = False
    traces: bool = False

    @property
    def is_audit(self) -> bool:
        return self.stream == "audit"


PLAIN = RouteRules()


def parse_rules(route: dict[str, Any], broker: str = "") -> RouteRules:
    """The rules in a route of the snapshot. Raises `ValueError` or `TypeError`."""
    stream, found, images = (
        route.get("stream", "hold"),
        route.get("found", "redact"),
        route.get("images", False),
    )
    unsure, traces = route.get("unsure", "block"), route.get("traces", False)
    if unsure not in ("block", "pass") or not isinstance(traces, bool):
        raise ValueError("route rules")
    if stream not in STREAMS or found not in ("redact", "block") or not isinstance(images, bool):
        raise ValueError("route rules")
    if stream == "audit" and found == "block":
        raise ValueError("a route that lets everything out cannot block")
    backends = parse_backends(route)
    if any(backend.key for backend in backends) and not broker:
        raise ValueError("a key and nobody who adds it")
    return RouteRules(
        stream, found == "block", images, backends, broker if backends else "", unsure == "pass", traces
    )
