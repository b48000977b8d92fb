"""An HTTP/2 client that sends what it is told, also what nobody may send."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass, field
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.exceptions
from tests.gateway.rig import WAIT

Header = tuple[bytes, bytes]


@dataclass
class Reply:
    """What came for one stream. `status` is 0 when it was reset or the connection ended."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    pieces: list[bytes] = field(default_factory=list)
    over: bool = False


class H2Client:
    """One connection. Nothing outbound is checked or put right."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        context.set_alpn_protocols(["h2"])
        self.wire = context.wrap_socket(
            socket.create_connection(("127.0.0.1", port), timeout=6 * WAIT), server_hostname="localhost"
        )
        assert self.wire.selected_alpn_protocol() == "h2"
        config = h2.config.H2Configuration(
            client_side=True,
            header_encoding=None,
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
        )
        self.talk = h2.connection.H2Connection(config)
        self.talk.initiate_connection()
        self.replies: dict[int, Reply] = {}
        self.flush()

    def __enter__(self) -> H2Client:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.wire.close()

    def flush(self) -> None:
        self.wire.sendall(self.talk.data_to_send())

    def start(self, headers: list[Header], body: bytes | None = None, *, end: bool = True) -> int:
        number = self.talk.get_next_available_stream_id()
        self.replies[number] = Reply()
        self.talk.send_headers(number, headers, end_stream=body is None and end)
        if body is not None:
            for at in range(0, max(len(body), 1), 16_000):
                piece = body[at : at + 16_000]
                while (
                    self.talk.local_flow_control_window(number) < len(piece) and not self.replies[number].over
                ):
                    self.flush()
                    self.read()
                if self.replies[number].over:
                    break
                self.talk.send_data(number, piece, end_stream=end and at + 16_000 >= len(body))
        self.flush()
        return number

    def read(self) -> bool:
        """Take what comes next; False when the connection is over."""
        try:
            data = self.wire.recv(65_536)
            events: list[Any] = self.talk.receive_data(data) if data else []
        except (OSError, h2.exceptions.ProtocolError):
            data, events = b"", []
        for event in events:
            reply = self.replies.get(getattr(event, "stream_id", 0) or 0, Reply())
            if isinstance(event, h2.events.ResponseReceived):
                reply.headers = {name.decode(): value.decode() for name, value in event.headers}
                reply.status = int(reply.headers[":status"])
            elif isinstance(event, h2.events.DataReceived):
                reply.body += event.data
                reply.pieces.append(event.data)
                self.talk.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamEnded | h2.events.StreamReset):
                reply.over = True
        if not data or any(isinstance(event, h2.events.ConnectionTerminated) for event in events):
            for reply in self.replies.values():
                reply.over = True
            return False
        self.flush()
        return True

    def until(self, number: int) -> Reply:
        reply = self.replies[number]
        while not reply.over and self.read():
            pass
        return reply

    def ask(self, headers: list[Header], body: bytes | None = None) -> Reply:
        return self.until(self.start(headers, body))


def plain(path: str, token: str | None, body: bytes | None = None, **more: str) -> list[Header]:
    """The headers of a usual request."""
    headers = [
        (b":method", b"GET" if body is None else b"POST"),
        (b":scheme", b"https"),
        (b":authority", b"localhost"),
        (b":path", path.encode()),
    ]
    if body is not None:
        headers += [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if token is not None:
        headers.append((b"authorization", f"Bearer {token}".encode()))
    return headers + [(name.replace("_", "-").encode(), value.encode()) for name, value in more.items()]
