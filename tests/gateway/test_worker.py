"""The worker as a process: TLS 1.3 only, key from memory, drains on SIGTERM, ends with its parent."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from tests.fakes.upstream import HANG, STREAM_HEAD, chunk, completion, delta, event, words
from tests.gateway.rig import WAIT, Rig, chat, parse_answer, read_answer

from garrison.trust.ca import LocalAuthority, memory_file, open_authority
from garrison.trust.keys.file import FileSigner

CANARY = "zanzibar-canary-7731"


@dataclass
class Worker:
    process: subprocess.Popen[bytes]
    ready: dict[str, Any]
    parent: int

    @property
    def port(self) -> int:
        return int(self.ready["port"])

    def dial(self, context: ssl.SSLContext) -> ssl.SSLSocket:
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=WAIT)
        return context.wrap_socket(plain, server_hostname="localhost")


def _memory(data: bytes) -> int:
    descriptor = os.memfd_create("config")
    os.write(descriptor, data)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def launch(rig: Rig, authority: LocalAuthority | None, **changes: Any) -> Worker:
    tls = memory_file(authority.issue_server(["localhost"], hours=1)) if authority else None
    parent_read, parent_write = os.pipe()
    ready_read, ready_write = os.pipe()
    config = {
        "host": "127.0.0.1",
        "port": 0,
        "snapshot": str(rig.snapshot_path),
        "snapshot_key": rig.snapshot_key.public_pem().decode(),
        "spool": str(rig.directory / "spool"),
        "worker_id": "worker",
        "tls_fd": tls,
        "ready_fd": ready_write,
        "parent_fd": parent_read,
        "metrics_port": 0,
        "patterns": str(rig.patterns or rig.directory / "patterns"),
        **changes,
    }
    fd = _memory(json.dumps(config).encode())
    passed = [each for each in (tls, parent_read, ready_write, fd) if each is not None]
    process = subprocess.Popen(
        [sys.executable, "-I", "-m", "garrison.gateway.worker", "--config", str(fd)],
        pass_fds=passed,
        env={"PATH": "/usr/bin:/bin"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    for each in passed:
        os.close(each)
    with os.fdopen(ready_read, "rb") as pipe:
        line = pipe.readline()
    return Worker(process, json.loads(line or b"{}"), parent_write)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> LocalAuthority:
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    return open_authority(FileSigner("ca"), path, lambda: datetime.now(UTC))


@pytest.fixture
def trusting(authority: LocalAuthority, tmp_path: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=authority.certificate.public_bytes(Encoding.PEM).decode())
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context


@pytest.fixture
def worker(rig: Rig, authority: LocalAuthority) -> Iterator[Worker]:
    made = launch(rig, authority)
    yield made
    with contextlib.suppress(OSError):
        os.close(made.parent)
    made.process.wait(WAIT)
    assert made.process.stdout is not None
    assert made.process.stdout.read() == b""  # a worker prints nothing, whatever happens
    made.process.stdout.close()


@pytest.mark.row("B07", kind="R")
def test_tls_13_is_spoken_and_everything_older_refused(
    rig: Rig, worker: Worker, trusting: ssl.SSLContext
) -> None:
    with worker.dial(trusting) as client:
        assert client.version() == "TLSv1.3"
        assert client.selected_alpn_protocol() == "http/1.1"
        client.sendall(rig.request(chat()))
        assert parse_answer(read_answer(client)).status == 200
    for version in ("-tls1_2", "-tls1_1", "-tls1"):
        tried = subprocess.run(
            ["openssl", "s_client", version, "-connect", f"127.0.0.1:{worker.port}"],
            input=b"",
            capture_output=True,
            timeout=10,
            check=False,
        )
        assert tried.returncode != 0
        assert b"Cipher is (NONE)" in tried.stdout or b"no protocols available" in tried.stderr
    with socket.create_connection(("127.0.0.1", worker.port), timeout=WAIT) as plain:
        plain.sendall(rig.request(chat()))
        assert b"HTTP/1.1 200" not in plain.recv(1_000)


def test_a_refusal_over_tls_is_read_before_the_connection_ends(
    rig: Rig, worker: Worker, trusting: ssl.SSLContext
) -> None:
    with worker.dial(trusting) as client:
        client.sendall(rig.request(b"x" * 50_000, token=None))
        assert parse_answer(read_answer(client)).status == 401


def test_sigterm_lets_a_stream_end_and_takes_no_new_one(
    rig: Rig, worker: Worker, trusting: ssl.SSLContext
) -> None:
    rig.upstream.answer = lambda asked: slow_stream(worker)
    with worker.dial(trusting) as client:
        client.sendall(rig.request(chat(stream=True)))
        answer = parse_answer(read_answer(client))
    assert answer.body.endswith(b"data: [DONE]\n\n")
    assert worker.process.wait(WAIT) == 0
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", worker.port), timeout=WAIT)


def slow_stream(worker: Worker) -> Iterator[bytes]:
    yield STREAM_HEAD
    yield chunk(event(delta(content="these words are shown at once ")))
    worker.process.send_signal(signal.SIGTERM)
    yield chunk(event(delta(content="and the rest", finish="stop")))
    yield chunk(event("[DONE]"))
    yield b"0\r\n\r\n"


def test_the_end_of_the_parent_is_the_end_of_the_worker(worker: Worker) -> None:
    os.close(worker.parent)
    assert worker.process.wait(WAIT) == 0


def test_a_bad_snapshot_is_reported_and_nothing_is_served(rig: Rig) -> None:
    made = launch(rig, None, snapshot_key=FileSigner("other").public_pem().decode())
    assert made.ready["ready"] is False
    assert made.ready["error"]["code"].startswith(("SIG-", "KEY-"))
    assert made.process.wait(WAIT) == 1
    assert made.process.stdout is not None
    assert made.process.stdout.read() == b""
    made.process.stdout.close()
    os.close(made.parent)


@pytest.mark.parametrize(
    ("changes", "code"),
    [({"host": "0.0.0.0"}, "GW-PLAIN"), ({"portt": 1}, ""), ({"port": "1"}, ""), ({"http": {"x": 1}}, "")],
)
def test_a_configuration_that_is_not_one_starts_nothing(rig: Rig, changes: dict[str, Any], code: str) -> None:
    made = launch(rig, None, **changes)
    assert made.ready.get("error", {}).get("code", "") == code
    assert made.process.wait(WAIT) == 2
    assert made.process.stdout is not None
    made.process.stdout.close()
    os.close(made.parent)


@pytest.mark.row("C18", kind="R")
def test_no_word_of_a_prompt_is_on_disk_or_printed_even_after_a_kill(
    rig: Rig, authority: LocalAuthority, trusting: ssl.SSLContext
) -> None:
    made = launch(rig, authority)
    rig.upstream.answer = lambda asked: words(CANARY) if asked.body.get("stream") else completion(CANARY)
    for stream in (False, True):
        with made.dial(trusting) as client:
            client.sendall(rig.request(chat(CANARY, stream=stream)))
            assert CANARY.encode() in read_answer(client)
    shown = chunk(event(delta(content="words that are shown ")))
    rig.upstream.answer = lambda asked: [STREAM_HEAD, shown, HANG]
    with made.dial(trusting) as client:
        client.sendall(rig.request(chat(CANARY, stream=True)))
        assert client.recv(100)
        made.process.kill()
        made.process.wait(WAIT)
    begun = [line["id"] for line in rig.lines() if line["k"] == "b"]
    ended = [line["id"] for line in rig.lines() if line["k"] == "e"]
    assert len(begun) == 3
    assert ended == begun[:2]  # the third is the control process's to record: it can see that it never ended
    assert made.process.stdout is not None
    assert made.process.stdout.read() == b""
    made.process.stdout.close()
    os.close(made.parent)
    found = [
        path for path in rig.directory.rglob("*") if path.is_file() and CANARY.encode() in path.read_bytes()
    ]
    assert found == []


def test_a_worker_killed_under_load_has_recorded_all_that_it_sent(rig: Rig) -> None:
    """Every question that reached the model had begun in the spool, every answer that left had ended there."""
    made = launch(rig, None)
    request, answered, enough = rig.request(chat()), list[str](), threading.Event()

    def ask() -> None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", made.port)) as client:
            while True:
                client.sendall(request)
                raw = read_answer(client)
                if b"x-request-id" not in raw:
                    return
                answered.append(parse_answer(raw).headers["x-request-id"])
                if len(answered) >= 200:
                    enough.set()

    clients = [threading.Thread(target=ask) for _ in range(8)]
    for client in clients:
        client.start()
    assert enough.wait(30)
    made.process.kill()
    made.process.wait(WAIT)
    for client in clients:
        client.join(WAIT)
    begun = [line["id"] for line in rig.lines() if line["k"] == "b"]
    ended = [line["id"] for line in rig.lines() if line["k"] == "e"]
    assert len(ended) == len(set(ended))
    assert set(answered) <= set(ended) <= set(begun)
    assert len(rig.upstream.asked) <= len(begun)
    assert made.process.stdout is not None
    assert made.process.stdout.read() == b""
    made.process.stdout.close()
    os.close(made.parent)


def test_metrics_are_scraped_on_loopback_only_there(
    rig: Rig, worker: Worker, trusting: ssl.SSLContext
) -> None:
    with worker.dial(trusting) as client:
        client.sendall(rig.request(chat()))
        read_answer(client)
    with socket.create_connection(("127.0.0.1", worker.ready["metrics"]), timeout=WAIT) as client:
        client.sendall(b"GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n")
        text = parse_answer(read_answer(client)).body.decode()
    assert (
        'garrison_gateway_requests_total{operation="chat",model="smollm2",ended="complete",code=""} 1' in text
    )
