"""Splunk's HTTP Event Collector, with indexer acknowledgement where the receiver has it turned on.

Without acknowledgement the answer 200 means that Splunk has the events in memory. With it, `send` waits until
the indexers say that they are written, and sends again when they do not within a time.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from garrison.evidence.record import Record
from garrison.evidence.sinks.base import away, token_of
from garrison.evidence.sinks.http import post, rejected
from garrison.evidence.sinks.sink import Sink, place_of

ACK_SECONDS = 30.0  # indexing takes a second or two
POLL_SECONDS = (0.05, 0.1, 0.2, 0.5, 1.0)  # the last one repeats
EVENT, ACK = "/services/collector/event", "/services/collector/ack"

ToJson = Callable[[Record], dict[str, Any]]


class Hec:
    """`to_json` is the form of an event. The channel is this connection's own, as acknowledgement wants it."""

    def __init__(
        self, sink: Sink, to_json: ToJson, host: str, pause: Callable[[float], object] = time.sleep
    ) -> None:
        self._sink = sink
        self._to_json = to_json
        self._host = host
        self._pause = pause
        self._channel = str(uuid.uuid4())

    def send(self, records: Sequence[Record]) -> None:
        headers = {
            "authorization": f"Splunk {token_of(self._sink)}",
            "x-splunk-request-channel": self._channel,
            "content-type": "application/json",
        }
        base = place_of(self._sink.url).path.rstrip("/")
        body = "".join(json.dumps(self._wrapped(record), separators=(",", ":")) for record in records)
        answer = self._read(post(self._sink, base + EVENT, headers, body.encode("ascii")))
        if answer.get("code", 0) != 0:
            raise rejected(self._sink, f"it answered code {str(answer.get('code'))[:8]}")
        number = answer.get("ackId")
        if type(number) is int:
            self._await(base, headers, number)

    def _wrapped(self, record: Record) -> dict[str, Any]:
        return {
            "time": round(record.event.time.timestamp(), 3),
            "host": self._host,
            "source": "garrison",
            "sourcetype": f"garrison:{self._sink.form}",
            "event": self._to_json(record),
        }

    def _await(self, base: str, headers: dict[str, str], number: int) -> None:
        asked, waited = 0, 0.0
        body = json.dumps({"acks": [number]}).encode()
        while waited < ACK_SECONDS:
            acks = self._read(post(self._sink, base + ACK, headers, body)).get("acks")
            if isinstance(acks, dict) and acks.get(str(number)) is True:
                return
            pause = POLL_SECONDS[min(asked, len(POLL_SECONDS) - 1)]
            self._pause(pause)
            asked, waited = asked + 1, waited + pause
        raise away(self._sink, f"the indexers did not acknowledge within {ACK_SECONDS:g} s")

    def _read(self, data: bytes) -> dict[str, Any]:
        try:
            answer = json.loads(data)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            raise away(self._sink, "its answer is not one of an event collector")
        return answer
