"""Refusals as an OpenAI client expects them: the status decides which exception its user sees."""

from __future__ import annotations

import math
from typing import Any

import orjson

from garrison.core.errors import GarrisonError

_STATUS = {
    "GW-MODEL": 404,
    "GW-ROUTE": 404,
    "GW-METHOD": 405,
    "GW-REJECTED": 400,
    "GW-UPSTREAM": 502,
    "GW-ANSWER": 502,
    "GW-TIMEOUT": 504,
    "HTTP-BODY": 413,
    "HTTP-HEADERS": 431,
    "HTTP-TIMEOUT": 408,
    "HTTP-TYPE": 415,
    "LIM-RATE": 429,
    "LIM-AUTH": 429,
    "ANO-SLOWED": 429,
}
# The `type` words of the OpenAI API; clients show them and some decide by them.
_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "invalid_request_error",
    413: "invalid_request_error",
    415: "invalid_request_error",
    429: "rate_limit_error",
    431: "invalid_request_error",
}


# Header lines of the answers.
JSON = b"content-type: application/json\r\n"
EVENTS = b"content-type: text/event-stream; charset=utf-8\r\n"
TEXT = b"content-type: text/plain\r\n"


def status_of(error: GarrisonError) -> int:
    return _STATUS.get(error.code, error.http_status)


def error_body(error: GarrisonError, request_id: str) -> dict[str, Any]:
    """Garrison's own shape with the OpenAI API's `type` and `param` added.

    The audit id of the ledger is given later by the control process; until then the request id stands for it
    and finds the event (its `trace_id`).
    """
    body: dict[str, Any] = error.as_json()
    body["type"] = _TYPES.get(status_of(error), "server_error")
    body["param"] = error.evidence.get("param")
    body["audit_id"] = request_id
    return body


def error_json(error: GarrisonError, request_id: str) -> bytes:
    """`{"error": {...}}`, as the OpenAI API has it."""
    return orjson.dumps({"error": error_body(error, request_id)})


def error_headers(error: GarrisonError, request_id: str) -> bytes:
    """The header lines of a refusal."""
    lines = [JSON, id_headers(request_id)]
    status = status_of(error)
    if error.retry_after is not None:
        lines.append(b"retry-after: %d\r\n" % max(1, math.ceil(error.retry_after)))
    if status == 401:
        lines.append(b'www-authenticate: Bearer realm="garrison"\r\n')
    if error.code == "GW-METHOD":
        lines.append(b"allow: %b\r\n" % str(error.evidence.get("allow", "")).encode())
    return b"".join(lines)


def id_headers(request_id: str) -> bytes:
    value = request_id.encode()
    return b"x-request-id: %b\r\nx-garrison-audit-id: %b\r\n" % (value, value)
