"""Receivers over HTTP that misbehave on demand: Splunk's event collector, OTLP, and one that takes JSON lines."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Receiver:
    """`answer` decides by path and body; what was asked is kept."""

    answer: Callable[[str, bytes], tuple[int, bytes]] = lambda _path, _body: (200, b"{}")
    asked: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    url: str = ""

    def bodies(self, path: str) -> list[bytes]:
        return [body for asked, _, body in list(self.asked) if asked == path]


@contextmanager
def receiving(receiver: Receiver, tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            receiver.asked.append(
                (self.path, {name.lower(): value for name, value in self.headers.items()}, body)
            )
            status, said = receiver.answer(self.path, body)
            self.send_response(status)
            self.send_header("content-length", str(len(said)))
            if status in (301, 307):
                self.send_header("location", receiver.url + "/elsewhere")
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *_words: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    receiver.url = f"http{'s' if tls else ''}://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Splunk:
    """The collector's answers, as its documentation gives them: events are taken, and acknowledged when asked often."""

    def __init__(self, token: str, *, polls: int = 2) -> None:
        self.token = token
        self.polls = polls
        self.events: list[dict[str, Any]] = []
        self.waiting: dict[int, int] = {}
        self.forgets = 0  # so many batches are lost before they are acknowledged
        self.receiver = Receiver(self.answer)

    def answer(self, path: str, body: bytes) -> tuple[int, bytes]:
        headers = self.receiver.asked[-1][1]
        if headers["authorization"] != f"Splunk {self.token}":
            return 403, b'{"text":"Invalid token","code":4}'
        if "x-splunk-request-channel" not in headers:
            return 400, b'{"text":"Data channel is missing","code":10}'
        if path == "/services/collector/ack":
            return 200, json.dumps({"acks": self._acks(json.loads(body)["acks"])}).encode()
        if path != "/services/collector/event":
            return 404, b""
        number = len(self.waiting)
        if self.forgets:
            self.forgets -= 1
            self.waiting[number] = 1_000_000
        else:
            self.events += _objects(body.decode())
            self.waiting[number] = self.polls
        return 200, json.dumps({"text": "Success", "code": 0, "ackId": number}).encode()

    def _acks(self, numbers: list[int]) -> dict[str, bool]:
        for number in numbers:
            self.waiting[number] -= 1
        return {str(number): self.waiting[number] <= 0 for number in numbers}


def _objects(text: str) -> list[dict[str, Any]]:
    """JSON objects one behind the other, without anything between."""
    decoder, found, at = json.JSONDecoder(), [], 0
    while at < len(text):
        value, at = decoder.raw_decode(text, at)
        found.append(value)
    return found
