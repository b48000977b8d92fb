"""Servers that want something else: credentials sent elsewhere, addresses that are none, answers without end."""

from __future__ import annotations

import hashlib
import io
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from garrison.artifacts.lineage import mlflow
from garrison.artifacts.lineage.files import nowhere
from garrison.artifacts.lineage.remote import Remote
from garrison.artifacts.lineage.sources import Access as LineageAccess
from garrison.artifacts.lineage.sources import Origin
from garrison.artifacts.oci import client
from garrison.artifacts.oci.address import Access, parse_address
from garrison.artifacts.oci.client import Registry
from garrison.artifacts.oci.descriptor import MAX_DOCUMENT, Descriptor
from garrison.core.errors import GarrisonError

BLOB = Descriptor("x", "sha256:" + hashlib.sha256(b"hi").hexdigest(), 2, {})
Answer = Callable[[BaseHTTPRequestHandler], tuple[int, dict[str, str], bytes]]


@contextmanager
def answering(answer: Answer, tls: Path | None = None) -> Iterator[tuple[int, list[tuple[str, str]]]]:
    """A server; yields its port and the (path, Authorization) of every request."""
    seen: list[tuple[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

        def answer(self) -> None:
            seen.append((self.path, self.headers.get("Authorization", "")))
            status, headers, body = answer(self)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_HEAD = do_POST = do_PATCH = do_PUT = answer

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server.server_address[1], seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def registry(port: int, **access: object) -> Registry:
    chosen = {"plain_http": True, "basic": "dana:hunter2", **access}
    return Registry(parse_address(f"oci://127.0.0.1:{port}/m"), Access(**chosen))  # type: ignore[arg-type]  # a test's table


def refusal(call: Callable[[], object]) -> GarrisonError:
    with pytest.raises(GarrisonError) as refused:
        call()
    return refused.value


def outcome(call: Callable[[], object]) -> tuple[str, str]:
    """Code and words of a refusal; empty for "there is none" and "it is there already"."""
    try:
        call()
    except GarrisonError as error:
        return error.code, error.what
    return "", ""


@pytest.mark.row("A03", kind="E")
def test_no_credential_follows_a_redirect_to_another_host() -> None:
    def asks(_request: BaseHTTPRequestHandler) -> tuple[int, dict[str, str], bytes]:
        return 401, {"WWW-Authenticate": f'Bearer realm="http://127.0.0.1:{elsewhere}/token"'}, b""

    with answering(asks) as (elsewhere, asked):
        target = {"Location": f"http://127.0.0.1:{elsewhere}/blob"}
        with answering(lambda _: (307, target, b"")) as (port, own):
            refusal(lambda: registry(port).fetch_blob(BLOB, io.BytesIO()))
    assert own[0][1].startswith("Basic ")
    assert asked
    assert not any(sent for _path, sent in asked)


HOSTILE: dict[str, Answer] = {
    "to a file": lambda _: (307, {"Location": "file://localhost/etc/passwd"}, b""),
    "to no address": lambda _: (307, {"Location": "http://[::1/x"}, b""),
    "to no port": lambda _: (307, {"Location": "http://127.0.0.1:99999/"}, b""),
    "to another machine in the clear": lambda _: (307, {"Location": "http://192.0.2.1/"}, b""),
    "round and round": lambda _: (307, {"Location": "/again"}, b""),
    "a realm without a host": lambda _: (401, {"WWW-Authenticate": 'Bearer realm="https://[x/"'}, b""),
    "a realm without a port": lambda _: (401, {"WWW-Authenticate": 'Bearer realm="https://x:999999/"'}, b""),
    "a realm that is a file": lambda _: (
        401,
        {"WWW-Authenticate": 'Bearer realm="file://localhost/etc/passwd"'},
        b"",
    ),
    "nested without end": lambda _: (500, {}, b"[" * 200_000),
    "orders for a terminal": lambda _: (400, {}, b"\x1b[2J"),
    "orders in JSON": lambda _: (400, {}, b'{"errors":[{"code":"\\u001b[2J\\u202e"}]}'),
    "without end": lambda _: (200, {}, bytes(MAX_DOCUMENT + 2)),
    "an upload that goes on elsewhere": lambda r: (
        (202 if r.command == "POST" else 404),
        {"Location": "http://192.0.2.1/up"},
        b"",
    ),
    "an upload that goes on nowhere": lambda r: (
        (202 if r.command == "POST" else 404),
        {"Location": "http://[x"},
        b"",
    ),
}


@pytest.mark.row("A03", kind="E")
@pytest.mark.parametrize("name", HOSTILE)
def test_whatever_a_registry_answers_is_a_refusal_that_shows_nothing_strange(name: str) -> None:
    with answering(HOSTILE[name]) as (port, _):
        wanted: list[Callable[[], object]] = [
            lambda: registry(port).fetch_blob(BLOB, io.BytesIO()),
            lambda: registry(port).manifest("latest"),
            lambda: registry(port).push_blob(BLOB.digest, 2, lambda: io.BytesIO(b"hi")),
        ]
        for call in wanted:
            code, what = outcome(call)
            assert code in {"", "IMG-REGISTRY", "IMG-FORMAT", "IMG-TAMPER"}
            assert what.isprintable()


@pytest.mark.parametrize(
    "token", [b'"a\\r\\nX: y"', '"\u20ac"'.encode(), b"[" * 100_000, b'"' + b"x" * 20_000 + b'"']
)
def test_a_token_that_is_none_is_not_sent(token: bytes) -> None:
    def answer(request: BaseHTTPRequestHandler) -> tuple[int, dict[str, str], bytes]:
        if request.path.startswith("/token"):
            return 200, {}, b'{"token":' + token + b"}"
        return 401, {"WWW-Authenticate": f'Bearer realm="http://127.0.0.1:{port}/token"'}, b""

    with answering(answer) as (port, seen):
        assert refusal(lambda: registry(port).manifest("latest")).code == "IMG-REGISTRY"
    assert not any(sent.startswith("Bearer") for _, sent in seen)


def test_an_answer_that_drips_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "ANSWER_SECONDS", 0.4)

    def drips(request: BaseHTTPRequestHandler) -> tuple[int, dict[str, str], bytes]:
        request.wfile.write(b"HTTP/1.0 200 OK\r\n")
        until = time.monotonic() + 5
        try:
            while time.monotonic() < until:
                request.wfile.write(b"A: b\r\n" if request.path.endswith("latest") else b"A")
                threading.Event().wait(0.1)
        except OSError:
            pass
        return 200, {}, b""

    with answering(drips) as (port, _):
        begun = time.monotonic()
        assert refusal(lambda: registry(port).manifest("latest")).code == "IMG-REGISTRY"
        assert time.monotonic() - begun < 3


def certificate(place: Path) -> Path:
    """A key and a certificate for 127.0.0.1 that no system authority made."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    place.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return place


@pytest.mark.row("A03", kind="E")
def test_tls_is_checked_and_a_bearer_token_is_fetched_once_over_it(tmp_path: Path) -> None:
    pem = certificate(tmp_path / "server.pem")

    def answer(request: BaseHTTPRequestHandler) -> tuple[int, dict[str, str], bytes]:
        sent = request.headers.get("Authorization", "")
        if request.path.startswith("/token"):
            assert sent.startswith("Basic ")
            return 200, {}, b'{"token":"good"}'
        if sent != "Bearer good":
            return (
                401,
                {"WWW-Authenticate": f'Bearer realm="https://127.0.0.1:{port}/token",service="r"'},
                b"",
            )
        if request.path.endswith(BLOB.digest):
            return 307, {"Location": f"http://127.0.0.1:{port}/plain"}, b""
        return 404, {}, b""

    with answering(answer, pem) as (port, seen):
        assert refusal(lambda: registry(port, plain_http=False).manifest("latest")).code == "IMG-REGISTRY"
        assert not seen  # nobody was told anything before the certificate was right
        trusted = registry(port, plain_http=False, ca=pem)
        assert trusted.manifest("latest") is None
        assert trusted.manifest("other") is None
        assert [path.partition("?")[0] for path, _ in seen].count("/token") == 1
        # Down to plain HTTP goes no redirect, not even to this machine.
        assert "without TLS" in refusal(lambda: trusted.fetch_blob(BLOB, io.BytesIO())).what


RUNS: dict[str, object] = {
    "times out of range": {"info": {"artifact_uri": "mlflow-artifacts:/a", "start_time": 10**30}, "data": {}},
    "a list for an object": {"info": [], "data": {}},
    "text for an object": {"info": "x", "data": {}},
    "a number for text": {"info": {"artifact_uri": 5}, "data": {"tags": [{"key": "k", "value": 5}]}},
    "text for inputs": {"info": {}, "data": {}, "inputs": "abc"},
    "odd inputs": {
        "info": {},
        "data": {},
        "inputs": {"dataset_inputs": [{"dataset": {"name": 5, "digest": []}}]},
    },
    "half a character": {"info": {}, "data": {"params": [{"key": "\ud800", "value": "\ud800"}]}},
}


@pytest.mark.row("A18", kind="E")
@pytest.mark.parametrize("name", RUNS)
def test_answers_of_no_known_shape_are_not_understood_and_nothing_else(name: str) -> None:
    answers = {
        "get": {"model_version": {"version": "1", "run_id": "r", "source": "mlflow-artifacts:/a/model"}},
        "registered": {"registered_model": {}},
        "runs": {"run": RUNS[name]},
        "list": {"files": [{"path": "model/config.json", "is_dir": False}]},
    }

    def answer(request: BaseHTTPRequestHandler) -> tuple[int, dict[str, str], bytes]:
        words = request.path.partition("?")[0].split("/")
        key = next((key for key in ("runs", "list", "get") if key in words), "")
        key = "registered" if "registered-models" in words else key
        return 200, {}, json.dumps(answers.get(key, {})).encode()

    with answering(answer) as (port, _):
        remote = Remote(Origin.parse(f"http://127.0.0.1:{port}"), LineageAccess())
        error = refusal(lambda: mlflow.read(remote, mlflow.Wanted("m", "1"), nowhere))
    assert error.code in {"LIN-FORMAT", "LIN-PLACE"}
