"""What a route says of its requests and answers, signed with the snapshot: how streams are inspected, images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

STREAMS = ("hold", "buffer", "audit")


@dataclass(frozen=True, slots=True)
class RouteRules:
    """`stream` is `hold` (text leaves once nothing in it can still become a value), `buffer` (an answer leaves
    when all of it is inspected) or `audit` (text leaves at once; what is found is recorded, nothing is replaced).
    With `blocks` a value ends the answer instead of being replaced. `images` may pass, unread.
    """

    stream: str = "hold"
    blocks: bool = False
    images: bool = False

    @property
    def is_audit(self) -> bool:
        return self.stream == "audit"


PLAIN = RouteRules()


def parse_rules(route: dict[str, Any]) -> RouteRules:
    """The rules in a route of the snapshot. Raises `ValueError` or `TypeError`."""
    stream, found, images = (
        route.get("stream", "hold"),
        route.get("found", "redact"),
        route.get("images", False),
    )
    if stream not in STREAMS or found not in ("redact", "block") or not isinstance(images, bool):
        raise ValueError("route rules")
    if stream == "audit" and found == "block":
        raise ValueError("a route that lets everything out cannot block")
    return RouteRules(stream, found == "block", images)
