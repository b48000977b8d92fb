"""Runs inside a sandbox: HTTP on one Unix socket, a few connections, one computation at a time. Standard library only.

The programs of this folder import it; `confine.py` gives it to them, since their sandbox shows no package. It
knows no model: `answer(path, body)` is what a program gives it. `/health` answers 200 once it listens.
"""

from __future__ import annotations

import json
import signal
import socketserver
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any

MAX_BODY_BYTES = 4 << 20  # above what the gateway lets through
CONNECTIONS = 32  # each holds a thread
IDLE_SECONDS = 60.0
ENDING = {signal.SIGTERM, signal.SIGINT}

Answer = Callable[[str, bytes], dict[str, Any] | None]


class BadRequest(ValueError):
    """What the caller can put right."""


class Handler(BaseHTTPRequestHandler):
    """`/health`, and POST to the paths that the program knows."""

    protocol_version = "HTTP/1.1"
    timeout = IDLE_SECONDS
    server: Server

    def do_GET(self) -> None:
        if self.path == "/health":
            self._send(200, {"status": "ok"})
        else:
            self._send(404, _error("there is nothing here"))

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > MAX_BODY_BYTES:
            self.close_connection = True
            self._send(413, _error(f"a body of at most {MAX_BODY_BYTES} bytes with its length is needed"))
            return
        body = self.rfile.read(int(length))
        try:
            with self.server.computing:
                result = self.server.answer(self.path, body)
        except BadRequest as error:
            self._send(400, _error(str(error)))
            return
        if result is None:
            self._send(404, _error("there is nothing here"))
        else:
            self._send(200, result)

    def _send(self, status: int, value: dict[str, Any]) -> None:
        data = json.dumps(value, allow_nan=False).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def address_string(self) -> str:
        return "unix"

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a request is recorded once, by the gateway."""


def _error(message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error"}}


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """A thread for each connection, of which there are few; one computes at a time."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, path: str, answer: Answer) -> None:
        self.answer = answer
        self.computing = threading.Lock()
        self._room = threading.BoundedSemaphore(CONNECTIONS)
        super().__init__(path, Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._room.acquire()
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news; anything else ends that one connection."""


def serve(path: str, answer: Answer) -> None:
    """Until SIGTERM. Call `hold_signals` first, before a library starts threads of its own."""
    server = Server(path, answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    signal.sigwait(ENDING)


def hold_signals() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
