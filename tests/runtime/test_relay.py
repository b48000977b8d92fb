"""The channel of a guest: many connections over one stream, and an other end that does as it likes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from garrison.runtime.guest import relay
from garrison.runtime.guest.relay import HEAD, Broken, Relay

SECONDS = 60.0
SIZE = 3 * relay.WINDOW + 17


@contextlib.contextmanager
def both_ends(directory: Path, answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """The path of the host's socket; behind it, over one stream, a server in the place of the guest's."""
    with contextlib.ExitStack() as stack:
        inside = stack.enter_context(socket.socket(socket.AF_UNIX))
        inside.bind(str(directory / "in.sock"))
        inside.listen(64)
        outside = stack.enter_context(socket.socket(socket.AF_UNIX))
        outside.bind(str(directory / "out.sock"))
        outside.listen(64)
        one, two = (stack.enter_context(end) for end in socket.socketpair())
        host = Relay(one.fileno(), lambda _kind, _data: None, accept=True)
        host.listen(outside)
        guest = Relay(two.fileno(), lambda _kind, _data: None, reach=str(directory / "in.sock"))
        over = threading.Event()

        def turn(end: Relay) -> None:
            with contextlib.suppress(Broken):
                while not over.is_set():
                    end.step(0.05)

        def serve() -> None:
            with contextlib.suppress(OSError):
                while not over.is_set():
                    connection, _ = inside.accept()
                    threading.Thread(target=answer, args=(connection,), daemon=True).start()

        threads = [threading.Thread(target=turn, args=(end,), daemon=True) for end in (host, guest)]
        threads.append(threading.Thread(target=serve, daemon=True))
        for thread in threads:
            thread.start()
        try:
            yield str(directory / "out.sock")
        finally:
            over.set()
            inside.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join(SECONDS)
            host.selector.close()
            guest.selector.close()


def connected(path: str) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(SECONDS)
    client.connect(path)
    return client


def received(client: socket.socket) -> bytes:
    return b"".join(iter(lambda: client.recv(65_536), b""))


def digest_of_all(connection: socket.socket) -> None:
    """Reads to the end, then answers with the digest and all of it again."""
    with connection:
        data = received(connection)
        connection.sendall(hashlib.sha256(data).digest() + data)


@pytest.mark.row("B04", kind="R")
def test_connections_side_by_side_get_their_own_bytes_and_a_slow_reader_holds_up_nobody(
    short_path: Path,
) -> None:
    with both_ends(short_path, digest_of_all) as path, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connected(path)) for _ in range(6)]
        sent = [os.urandom(SIZE) for _ in clients]
        for client, data in zip(clients, sent, strict=True):
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
        for client, data in reversed(list(zip(clients, sent, strict=True))):  # the first is read last
            assert received(client) == hashlib.sha256(data).digest() + data


def test_a_client_that_goes_away_ends_its_connection_inside(short_path: Path) -> None:
    ended = threading.Event()

    def answer(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while True:
                connection.sendall(bytes(4096))
        ended.set()

    with both_ends(short_path, answer) as path:
        client = connected(path)
        assert client.recv(100)
        client.close()
        assert ended.wait(SECONDS)


def test_nobody_listens_inside_and_the_client_is_told_at_once(short_path: Path) -> None:
    with both_ends(short_path, digest_of_all) as path:
        (short_path / "in.sock").unlink()
        with connected(path) as client:
            assert client.recv(10) == b""


def host_fed(data: bytes) -> Relay:
    """A host's end whose guest says exactly this and then takes nothing more off the stream."""
    ours, theirs = socket.socketpair()
    end = Relay(ours.fileno(), lambda _kind, _data: None, accept=True)
    with ours, theirs, contextlib.closing(end.selector):
        theirs.setblocking(False)
        place = 0
        while place < len(data):
            with contextlib.suppress(BlockingIOError):
                place += theirs.send(data[place : place + 32_768])
            end.step(0)
        theirs.shutdown(socket.SHUT_WR)
        while True:  # until all of it is read, which ends in Broken
            end.step(0)


frames = st.builds(
    lambda kind, channel, length, data: (
        HEAD.pack(kind, channel, len(data) if length is None else length) + data
    ),
    st.integers(0, 255),
    st.integers(0, 4),
    st.none() | st.integers(0, 2**32 - 1),
    st.binary(max_size=64),
)


@given(st.lists(frames | st.binary(max_size=40), max_size=20))
def test_whatever_a_hostile_guest_says_the_relay_ends_or_goes_on_and_nothing_else(said: list[bytes]) -> None:
    with pytest.raises(Broken):
        host_fed(b"".join(said))


def test_a_guest_that_never_reads_cannot_make_the_relay_grow() -> None:
    one = HEAD.pack(relay.DATA, relay.OUTPUT, 1) + b"x"
    with pytest.raises(Broken, match="takes nothing"):
        host_fed(one * (relay.MAX_QUEUED // (HEAD.size + relay.COUNT.size) + 100_000))
