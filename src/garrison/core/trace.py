"""Trace context (W3C Trace Context, level 1): ids that join what several programs saw of one request.

An id that a caller sends is used as an id and for nothing else: it opens no door and picks no route. A request
without one gets ids that follow from its own, so that nothing has to be remembered for whoever exports it later.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

HEADER = "traceparent"
_FORM = re.compile(rb"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})\Z")
_NO_TRACE, _NO_SPAN = "0" * 32, "0" * 16


@dataclass(frozen=True, slots=True)
class Trace:
    """`parent` is the caller's span, empty when the trace begins here."""

    id: str
    parent: str = ""
    sampled: bool = True


def parse_traceparent(value: bytes) -> Trace | None:
    """What a header says; None for one that is not of version 00 or has an id of zeros (section 3.2.2)."""
    match = _FORM.match(value)
    if match is None:
        return None
    trace, parent = match[1].decode(), match[2].decode()
    if trace == _NO_TRACE or parent == _NO_SPAN:
        return None
    return Trace(trace, parent, bool(int(match[3], 16) & 1))


def trace_of(request_id: str) -> Trace:
    """The trace that begins with this request."""
    return Trace(_hash(f"trace {request_id}")[:32])


def span_of(request_id: str, part: str = "") -> str:
    """The id of a request's own span, or of a part of it; always the same for the same."""
    return _hash(f"span {part} {request_id}")[:16]


def traceparent(trace: Trace, span: str) -> str:
    """The header for whoever is asked next."""
    return f"00-{trace.id}-{span}-{'01' if trace.sampled else '00'}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
