"""What nginx and aiohttp both refuse is refused here: a corpus of odd requests, and good ones with a byte changed."""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from aiohttp import web
from tests.gateway.rig import WAIT, Rig, chat, parse_answer, read_answer
from tests.gateway.test_http import BAD_CHUNKS, POST, SMUGGLING

MUTANTS = 160
PATIENCE = 0.3  # seconds for an answer of three servers on this machine; who waits longer wants more bytes
ODD = [
    b"\0",
    b"\r",
    b"\n",
    b"\t",
    b" ",
    b":",
    b";",
    b"\x0b",
    b"\x7f",
    b"\x80",
    b"\r\n ",
    b"\r\n\r\n",
    b",",
    b'"',
    b"+",
    b"0x",
]
LINES = [
    b"Transfer-Encoding: chunked\r\n",
    b"Content-Length: 3\r\n",
    b"Content-Length: \r\n",
    b"Host: b\r\n",
    b" folded\r\n",
    b"Transfer-Encoding: xchunked\r\n",
    b"Upgrade: websocket\r\n",
    b"Connection: authorization\r\n",
    b"X: y\n",
]
WEBSOCKET = (
    b"GET /v1/realtime HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
    b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n"
)


def talk(port: int, data: bytes) -> bytes:
    """The answer; nothing when the connection is closed without one, or when more is waited for."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client:
        with contextlib.suppress(OSError):
            client.sendall(data)
            return read_answer(client)
        return b""


def status(answer: bytes) -> int:
    """0 when the connection was closed without a word."""
    words = answer.split(b" ", 2)
    return int(words[1]) if answer.startswith(b"HTTP/") and len(words) > 2 and words[1].isdigit() else 0


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def aiohttp_port() -> Iterator[int]:
    """A real aiohttp server that reads every body and says 200 to all."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def handler(request: web.BaseRequest) -> web.Response:
        await request.read()
        return web.Response(text="ok")

    async def start() -> tuple[web.ServerRunner, int]:
        runner = web.ServerRunner(web.Server(handler))
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return runner, site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]  # it was just started

    runner, port = asyncio.run_coroutine_threadsafe(start(), loop).result(WAIT)
    yield port
    asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(WAIT)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture(scope="module")
def nginx_port(aiohttp_port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """nginx, passing on what it accepts to that server, so that it has to read bodies too."""
    if not shutil.which("nginx"):
        pytest.skip("nginx is not installed")
    root = tmp_path_factory.mktemp("nginx")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    paths = " ".join(
        f"{name}_temp_path {root}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = root / "nginx.conf"
    config.write_text(
        f"daemon off; master_process off; worker_processes 1; pid {root}/pid; error_log {root}/error;\n"
        f"events {{}}\nhttp {{ access_log off; {paths} server {{ listen 127.0.0.1:{port};\n"
        f"location / {{ proxy_pass http://127.0.0.1:{aiohttp_port}; proxy_http_version 1.1; }} }} }}\n"
    )
    process = subprocess.Popen(["nginx", "-p", str(root), "-c", str(config)], stderr=subprocess.DEVNULL)
    ends = time.monotonic() + WAIT
    while not _listens(port) and time.monotonic() < ends:
        time.sleep(0.01)
    yield port
    process.terminate()
    process.wait(WAIT)


@pytest.fixture
def peers(aiohttp_port: int, nginx_port: int) -> Callable[[bytes], bool]:
    """Whether either of them takes a request for one."""
    return lambda data: any(200 <= status(talk(port, data)) < 300 for port in (aiohttp_port, nginx_port))


def _changed(request: bytes) -> list[bytes]:
    """Good requests with something inserted, replaced, doubled or taken away in the head, always the same ones."""
    dice = random.Random(7)
    head = request.index(b"\r\n\r\n") + 4
    found = []
    for _ in range(MUTANTS):
        at = dice.randrange(head)
        way = dice.randrange(4)
        if way == 0:
            found.append(request[:at] + dice.choice(ODD) + request[at:])
        elif way == 1:
            found.append(request[:at] + dice.choice(ODD) + request[at + 1 :])
        elif way == 2:
            lines = request.index(b"\r\n") + 2
            found.append(request[:lines] + dice.choice(LINES) + request[lines:])
        else:
            found.append(request[:at] + request[at + 1 + dice.randrange(3) :])
    return found


def test_what_both_refuse_is_refused(rig: Rig, peers: Callable[[bytes], bool]) -> None:
    good = rig.request(chat())
    assert peers(good)
    assert status(talk(rig.port, good)) == 200
    corpus = [*SMUGGLING.values(), *_changed(good)]
    corpus += [POST + b"transfer-encoding: chunked\r\n\r\n" + body for body in BAD_CHUNKS.values()]
    refused = 0
    for data in corpus:
        if peers(data):
            continue
        refused += 1
        answer = talk(rig.port, data)
        assert status(answer) in (0, 400, 408, 413, 431), data
    assert refused > 40
    assert status(talk(rig.port, good)) == 200


def test_a_websocket_is_refused_with_a_reason(rig: Rig) -> None:
    answer = parse_answer(talk(rig.port, WEBSOCKET))
    assert (answer.status, answer.code) == (400, "HTTP-UPGRADE")
    assert "upgrade" in answer.json["error"]["message"]
    assert "www-authenticate" not in answer.headers
