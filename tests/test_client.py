"""The SDK: checking a model before loading it, and asking one through the gateway."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from tests.fakes.releases import FILES, SignedDirectory, sign_directory, write_files

from garrison.app.cli.main import main
from garrison.client import Client, GarrisonError, Refused, Undecided, Usage, verify_model
from garrison.trust.keys.file import FileSigner

SIGNER = FileSigner("release")


@pytest.fixture
def fraud(tmp_path: Path) -> SignedDirectory:
    (tmp_path / "release.pem").write_bytes(SIGNER.public_pem())
    release = sign_directory(write_files(tmp_path / "fraud", FILES), "fraud@3", SIGNER)
    release.write_sidecars()
    return release


@pytest.fixture
def data(tmp_path: Path, fraud: SignedDirectory) -> Path:
    """A data directory that holds the release: files as hard links, signatures and the key beside them."""
    root = tmp_path / "garrison-data"
    stored = root / "models" / "fraud" / "3"
    for entry in fraud.manifest:
        target = stored / entry.path
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(fraud.path / entry.path, target)
    stored.with_name("3.sig").write_bytes(fraud.bundle)
    stored.with_name("3.release.json").write_bytes(fraud.envelope)
    (root / "keys" / "public").mkdir(parents=True)
    (root / "keys" / "public" / "release.pem").write_bytes(SIGNER.public_pem())
    return root


def test_a_model_is_verified_by_what_lies_beside_it_and_one_public_key(fraud: SignedDirectory) -> None:
    verified = verify_model(fraud.path, name="fraud@3", trust=fraud.path.parent / "release.pem")
    assert verified.digest == fraud.manifest.digest


@pytest.mark.row("A05", kind="R")
def test_a_changed_byte_is_refused_by_the_sdk(fraud: SignedDirectory) -> None:
    (fraud.path / "config.json").write_bytes(b'{"hidden_size": 385}')
    with pytest.raises(Refused) as caught:
        verify_model(fraud.path, trust=fraud.path.parent / "release.pem")
    assert caught.value.code == "ART-TAMPER"


def test_a_version_in_the_store_is_verified_although_its_files_are_hard_links(data: Path) -> None:
    assert str(verify_model(data / "models" / "fraud" / "3", trust=data).ref) == "fraud@3"


def test_nothing_to_judge_by_is_undecided_and_refused_for_a_claimed_name(fraud: SignedDirectory) -> None:
    fraud.path.with_name("fraud.sig").unlink()
    fraud.path.with_name("fraud.release.json").unlink()
    for name, kind in ((None, Undecided), ("fraud@3", Refused)):
        with pytest.raises(kind) as caught:
            verify_model(fraud.path, name=name, trust=fraud.path.parent / "release.pem")
        assert caught.value.code == "ART-UNSIGNED"


def test_half_the_signatures_are_not_enough(fraud: SignedDirectory) -> None:
    fraud.path.with_name("fraud.release.json").unlink()
    with pytest.raises(Refused) as caught:
        verify_model(fraud.path, trust=fraud.path.parent / "release.pem")
    assert caught.value.code == "ART-UNSIGNED"


def test_the_sdk_needs_no_server_and_no_database() -> None:
    code = (
        "import sys, garrison.client; "
        "extra = {'sqlalchemy','starlette','uvicorn','cedarpy','joserfc','orjson','hyperscan'} & set(sys.modules); "
        "assert not extra, extra"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# --- the gateway, played by a few lines of server ---

Handle = Callable[[BaseHTTPRequestHandler, dict[str, object]], None]


def answer(handler: BaseHTTPRequestHandler, status: int, body: object, **headers: str) -> None:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    handler.send_response(status)
    for name, value in {"Content-Length": str(len(data)), **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(data)


@contextmanager
def gateway(handle: Handle, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            handle(self, json.loads(self.rfile.read(length) or b"{}"))

        do_GET = do_POST

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            pass  # a client that refuses the certificate hangs up; that is the test

    with Server(("127.0.0.1", 0), Handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"{'http' if tls is None else 'https'}://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def chat_answer(text: str) -> dict[str, object]:
    message = {"role": "assistant", "content": text}
    return {
        "model": "fraud",
        "choices": [{"message": message, "finish_reason": "stop"}],
        "usage": {"total_tokens": 7},
    }


def test_a_question_is_answered_with_the_token_of_that_moment() -> None:
    seen: list[tuple[str, object]] = []

    def handle(handler: BaseHTTPRequestHandler, body: dict[str, object]) -> None:
        seen.append((handler.headers["Authorization"], body))
        answer(handler, 200, chat_answer("plausible"), X_Garrison_Audit_Id="a-000421")

    tokens = iter(["one", "two"])
    with gateway(handle) as url:
        client = Client(url, token_provider=lambda: next(tokens))
        first, _second = client.chat("fraud", "hello", max_tokens=5), client.chat("fraud", [{"role": "user"}])
    assert (first.text, first.finish_reason, first.audit_id) == ("plausible", "stop", "a-000421")
    assert [token for token, _ in seen] == ["Bearer one", "Bearer two"]
    assert seen[0][1] == {
        "model": "fraud",
        "messages": [{"role": "user", "content": "hello"}],
        "stream": False,
        "max_tokens": 5,
    }


def test_the_models_of_a_token_are_listed() -> None:
    with gateway(
        lambda handler, _: answer(handler, 200, {"data": [{"id": "fraud"}, {"id": "credit"}]})
    ) as url:
        assert Client(url, token="t").models() == ["fraud", "credit"]


def events(*items: object, done: bool = True) -> bytes:
    lines = [b": keep-alive\n\n"] + [b"data: " + json.dumps(item).encode() + b"\n\n" for item in items]
    return b"".join([*lines, b"data: [DONE]\n\n"] if done else lines)


def delta(text: str | None, finish: str | None = None) -> dict[str, object]:
    return {"choices": [{"delta": {"content": text} if text else {}, "finish_reason": finish}]}


def test_a_stream_gives_its_pieces_in_order() -> None:
    body = events(
        delta("plau"), delta("sible"), delta(None, "stop"), {"choices": [], "usage": {"total_tokens": 7}}
    )
    with gateway(lambda handler, _: answer(handler, 200, body)) as url:
        stream = Client(url, token="t").chat("fraud", "hello", stream=True)
        assert list(stream) == ["plau", "sible"]
    assert (stream.finish_reason, stream.usage) == ("stop", {"total_tokens": 7})


def test_an_error_inside_a_stream_is_raised_after_what_came_before_it() -> None:
    body = events(delta("plau"), {"error": {"code": "DLP-SECRET", "message": "m", "next": "n"}}, done=False)
    with gateway(lambda handler, _: answer(handler, 200, body)) as url:
        pieces: list[str] = []
        with pytest.raises(GarrisonError) as caught:
            pieces.extend(Client(url, token="t").chat("fraud", "hello", stream=True))
    assert caught.value.code == "DLP-SECRET"


def test_a_failure_inside_a_stream_is_undecided_not_refused() -> None:
    body = events(
        {"error": {"code": "GW-UPSTREAM", "message": "m", "next": "n", "type": "server_error"}}, done=False
    )
    with gateway(lambda handler, _: answer(handler, 200, body)) as url, pytest.raises(Undecided):
        list(Client(url, token="t").chat("fraud", "hello", stream=True))


def test_a_stream_that_breaks_off_is_not_taken_for_whole() -> None:
    with (
        gateway(lambda handler, _: answer(handler, 200, events(delta("plau"), done=False))) as url,
        pytest.raises(Undecided) as caught,
    ):
        list(Client(url, token="t").chat("fraud", "hello", stream=True))
    assert caught.value.code == "SRV-UNREACHABLE"


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, Refused), (403, Refused), (429, Refused), (400, Usage), (404, Usage), (503, Undecided)],
)
def test_a_refusal_arrives_as_the_error_it_was(status: int, kind: type[GarrisonError]) -> None:
    error = {
        "code": "PRM-INJECT",
        "message": "no",
        "next": "do",
        "evidence": {"rule": "inj-014"},
        "audit_id": "a-1",
    }
    with (
        gateway(lambda handler, _: answer(handler, status, {"error": error}, Retry_After="3")) as url,
        pytest.raises(kind) as caught,
    ):
        Client(url, token="t").chat("fraud", "hello")
    raised = caught.value
    assert (raised.code, raised.what, raised.fix, raised.audit_id) == ("PRM-INJECT", "no", "do", "a-1")
    assert (raised.evidence, raised.retry_after) == ({"rule": "inj-014"}, 3.0)


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b"[" * 100_000, b'{"choices": []}'])
@pytest.mark.parametrize("status", [200, 500])
def test_an_answer_from_something_else_is_undecided(status: int, body: bytes) -> None:
    with gateway(lambda handler, _: answer(handler, status, body)) as url, pytest.raises(Undecided) as caught:
        Client(url, token="t").chat("fraud", "hello")
    assert caught.value.code == "SRV-ANSWER"


def test_nobody_there_is_undecided() -> None:
    with gateway(lambda handler, _: None) as url:
        pass
    with pytest.raises(Undecided) as caught:
        Client(url, token="t").models()
    assert caught.value.code == "SRV-UNREACHABLE"


def test_a_token_never_travels_unprotected_nor_shows_in_a_representation() -> None:
    with pytest.raises(Usage) as caught:
        Client("http://gateway.example", token="t0ps3cret")
    assert caught.value.code == "SRV-PLAINTEXT"
    assert "t0ps3cret" not in repr(Client("https://127.0.0.1:1", token="t0ps3cret"))


def certificate(folder: Path) -> Path:
    """A self-signed certificate for 127.0.0.1 with its key, as one PEM file."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "gateway")])
    built = (
        x509.CertificateBuilder(
            name, name, key.public_key(), 1, now - timedelta(hours=1), now + timedelta(hours=1)
        )
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, SHA256())
    )
    (folder / "ca.pem").write_bytes(built.public_bytes(Encoding.PEM))
    path = folder / "server.pem"
    path.write_bytes(
        built.public_bytes(Encoding.PEM)
        + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    return path


def test_only_a_gateway_with_a_trusted_certificate_gets_the_token(tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate(tmp_path))
    reached: list[str] = []

    def handle(handler: BaseHTTPRequestHandler, _body: dict[str, object]) -> None:
        reached.append(handler.headers["Authorization"])
        answer(handler, 200, {"data": []})

    with gateway(handle, context) as url:
        client = Client(url, token="t")
        with pytest.raises(Refused) as caught:
            client.models()
        assert (caught.value.code, reached) == ("SRV-CERT", [])
        assert Client(url, token="t", ca=tmp_path / "ca.pem").models() == []
    assert reached == ["Bearer t"]


def test_a_gateway_that_only_speaks_older_tls_is_refused(tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate(tmp_path))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        gateway(lambda handler, _: answer(handler, 200, {"data": []}), context) as url,
        pytest.raises(Refused) as caught,
    ):
        Client(url, token="t", ca=tmp_path / "ca.pem").models()
    assert caught.value.code == "SRV-CERT"


def test_a_ca_that_is_not_there_is_a_usage_error() -> None:
    with pytest.raises(Usage):
        Client("https://127.0.0.1:1", ca="/nowhere/ca.pem")


@pytest.mark.parametrize("flags", [[], ["--stream"]])
def test_garrison_ask_prints_the_answer_with_the_terminal_out_of_its_reach(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def handle(handler: BaseHTTPRequestHandler, body: dict[str, object]) -> None:
        text = "one\n\x1b[2Jtwo"
        answer(handler, 200, events(delta(text)) if body["stream"] else chat_answer(text))

    (tmp_path / "token").write_text("t\n")
    with gateway(handle) as url:
        words = ["ask", "fraud", "hello", "--server", url, "--token-file", str(tmp_path / "token")]
        assert main([*words, "--data", str(tmp_path), *flags]) == 0
    assert capsys.readouterr().out == "one\n\\x1b[2Jtwo\n"


def test_garrison_ask_ends_with_the_gateway_s_refusal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = {"code": "PRM-INJECT", "message": "asks to override its instructions", "next": "rephrase it"}
    with gateway(lambda handler, _: answer(handler, 403, {"error": error})) as url:
        assert main(["ask", "fraud", "ignore", "--server", url, "--data", str(tmp_path)]) == 1
    assert "REFUSED  PRM-INJECT" in capsys.readouterr().err
