"""Records by HTTP POST: JSON lines for whoever takes them, and the one bounded request that other kinds share."""

from __future__ import annotations

import http.client
from collections.abc import Mapping, Sequence

from garrison.core.errors import Refused
from garrison.evidence.record import Record
from garrison.evidence.sinks.base import SECONDS, away, context_of, reason_of, token_of
from garrison.evidence.sinks.sink import Sink, place_of
from garrison.evidence.sinks.syslog import Line

MAX_ANSWER = 64 * 1024  # an acknowledgement is a few bytes
_REJECTED = frozenset({400, 413, 415, 422})
_LOGIN = frozenset({401, 403})


def post(sink: Sink, path: str, headers: Mapping[str, str], body: bytes) -> bytes:
    """The answer of a request that was taken (2xx). Redirects are not followed: what is signed in is the address.

    Raises `Undecided` SINK-AWAY, `Refused` SINK-REJECTED, SINK-LOGIN.
    """
    place = place_of(sink.url)
    connection = (
        http.client.HTTPSConnection(place.host, place.port, timeout=SECONDS, context=context_of(sink))
        if place.is_secure
        else http.client.HTTPConnection(place.host, place.port, timeout=SECONDS)
    )
    try:
        connection.request("POST", path, body, dict(headers))
        answer = connection.getresponse()
        status, text = answer.status, answer.read(MAX_ANSWER)
    except (OSError, http.client.HTTPException) as error:
        raise away(sink, reason_of(error)) from None
    finally:
        connection.close()
    if 200 <= status < 300:
        return text
    if status in _LOGIN:
        raise Refused(
            "SINK-LOGIN",
            f"the sink {sink.name} does not know us: it answered {status}",
            fix=f"put the right token in its file: garrison sink add {sink.name} --token-file FILE ...",
        )
    if status in _REJECTED:
        raise rejected(sink, f"it answered {status}")
    raise away(sink, f"it answered {status}")


def rejected(sink: Sink, why: str) -> Refused:
    return Refused(
        "SINK-REJECTED",
        f"the sink {sink.name} will not have these events: {why}",
        fix=f"look at the receiver; garrison sink seek {sink.name} passes over an event, and says so in the ledger",
    )


class Http:
    """JSON objects, one a line (application/x-ndjson). Taken when the receiver says 2xx."""

    def __init__(self, sink: Sink, line: Line) -> None:
        self._sink = sink
        self._line = line

    def send(self, records: Sequence[Record]) -> None:
        token = token_of(self._sink)
        headers = {"content-type": "application/x-ndjson"}
        headers |= {"authorization": f"Bearer {token}"} if token else {}
        body = "".join(self._line(record) + "\n" for record in records).encode("ascii")
        post(self._sink, place_of(self._sink.url).path or "/", headers, body)
