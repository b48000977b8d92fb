"""How long another server may take in all: the timeout of a socket bounds one silence, and bytes can drip forever.

with patience(sock, 120.0) as waiting:
    while chunk := answer.read(1 << 20):
        waiting.more()          # so much arrived in time: the next part has as long again
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator


class Patience:
    """Made by `patience`."""

    def __init__(self, sock: socket.socket, seconds: float) -> None:
        self._sock = sock
        self._seconds = seconds
        self._until = time.monotonic() + seconds
        self._done = threading.Event()
        self.is_over = False

    def more(self) -> None:
        self._until = time.monotonic() + self._seconds

    def watch(self) -> None:
        while not self._done.wait(max(0.0, self._until - time.monotonic())):
            if time.monotonic() >= self._until:
                self.is_over = True
                with contextlib.suppress(OSError):  # below TLS, whose object belongs to the reading thread
                    socket.socket.shutdown(self._sock, socket.SHUT_RDWR)
                return

    def end(self) -> None:
        self._done.set()


@contextlib.contextmanager
def patience(sock: socket.socket, seconds: float) -> Iterator[Patience]:
    """Cut the connection after `seconds` without `more()`. Raises TimeoutError: a cut body may look whole."""
    waiting = Patience(sock, seconds)
    thread = threading.Thread(target=waiting.watch, name="patience", daemon=True)
    thread.start()
    try:
        yield waiting
    except (OSError, EOFError):
        if waiting.is_over:
            raise TimeoutError from None
        raise
    finally:
        waiting.end()
        thread.join()
    if waiting.is_over:
        raise TimeoutError
