"""What runs in a rendered pod: fetched from a real registry, verified twice, answered to one client alone."""

from __future__ import annotations

import http.client
import importlib.util
import json
import shutil
import signal
import ssl
import subprocess
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from tests.app.household import opened
from tests.artifacts.test_registry_oci import needs_registry, registry  # noqa: F401 - a fixture
from tests.flows.server import COMMAND, SECONDS, environment, run
from tests.runtime.stage import need

from garrison.trust.ca import ensure_ca, issue_server
from garrison.trust.keys.file import FileSigner
from garrison.trust.mtls import issue_client

GATEWAY = "ns/garrison-system/sa/garrison"


def _model(place: Path) -> Path:
    """A real ONNX model, of a few megabytes."""
    spec = importlib.util.find_spec("magika")
    assert spec is not None
    assert spec.origin is not None
    found = next(Path(spec.origin).parent.glob("models/*/model.onnx"))
    place.mkdir()
    shutil.copyfile(found, place / "model.onnx")
    return place


class Certificates:
    """A CA, the pod's certificate in its volume, and certificates of clients."""

    def __init__(self, room: Path) -> None:
        self.room, self.signer, self.now = room, FileSigner("ca"), datetime.now(UTC)
        self.authority = ensure_ca(room / "ca.crt", self.signer, self.now)
        self.issue_server()

    def issue_server(self) -> None:
        leaf = issue_server(self.authority, self.signer, "pod", dns=["localhost"], now=self.now)
        (self.room / "tls.key").write_bytes(leaf.key)
        (self.room / "tls.crt").write_bytes(leaf.chain)

    def client(self, name: str) -> Path:
        key = ec.generate_private_key(ec.SECP256R1())
        asked = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, SHA256())
        leaf = issue_client(self.authority, self.signer, asked.public_bytes(Encoding.PEM), name, self.now)
        file = self.room / f"{name.replace('/', '-')}.pem"
        secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        file.write_bytes(secret + leaf.public_bytes(Encoding.PEM))
        return file

    def get(self, port: int, client: Path | None) -> int:
        context = ssl.create_default_context(cafile=self.room / "ca.crt")
        if client is not None:
            context.load_cert_chain(client)
        with closing(http.client.HTTPSConnection("localhost", port, timeout=SECONDS, context=context)) as way:
            way.request("GET", "/health")
            with way.getresponse() as answer:
                return answer.status


def health(port: int, path: str) -> int:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)) as way:
        way.request("GET", path)
        with way.getresponse() as answer:
            return answer.status


@needs_registry
@pytest.mark.row("B09", kind="R")
def test_a_pod_fetches_verifies_and_answers_the_gateway_alone(
    registry: tuple[str, Path],  # noqa: F811 - the fixture above
    tmp_path: Path,
    short_path: Path,
) -> None:
    need("landlock")
    volume, trust, tls = tmp_path / "volume", tmp_path / "trust", tmp_path / "tls"
    for place in (volume, trust, tls):
        place.mkdir()
    with opened(tmp_path / "data") as home:
        home.ask("user.add", name="dana", roles=["approver"])
        home.publish(_model(tmp_path / "model"), "kinds@1")
        home.ask("model.approve", "dana", ref="kinds@1")
        host = registry[0]
        home.ask("model.push", ref="kinds@1", target=f"oci://{host}/models/kinds", plain_http=True)
        facts = home.ask("k8s.facts", ref="kinds@1")
    for name, text in facts["trust"].items():
        (trust / name).write_text(text)
    asked = ["--as", "kinds@1", "--digest", facts["digest"], "--trust", str(trust)]
    fetch = ["--json", "k8s", "fetch", *asked, "--from", facts["source"], "--to", str(volume), "--plain-http"]
    other = [one if one != facts["digest"] else "sha256:" + "e" * 64 for one in fetch]
    assert run(other).code == "K8S-DIGEST"
    assert list(volume.iterdir()) == []
    for _start in range(2):  # an init container that is started again finds what it left
        assert run(fetch).status == 0
    certificates = Certificates(tls)
    serve = [
        *("--json", "k8s", "run", *asked, "--model", str(volume), "--tls", str(tls)),
        *("--allow", f"spiffe://garrison/{GATEWAY}", "--run-directory", str(short_path)),
        *("--listen", "127.0.0.1:0", "--health", "127.0.0.1:0", "--isolation"),
    ]
    refused = run([*serve, "pod"])
    assert (refused.status, refused.code) == (1, "K8S-BOUNDARY")
    _check_tampered(volume / "files" / "model.onnx", [*serve, "landlock"])
    _check_unapproved(trust, [*serve, "landlock"])
    with subprocess.Popen(
        [*COMMAND, *serve, "landlock"], stdout=subprocess.PIPE, text=True, env=environment()
    ) as pod:
        try:
            ready = _ready(pod)
            assert ready["digest"] == facts["digest"]
            assert certificates.get(ready["port"], certificates.client(GATEWAY)) == 200
            for stranger in (None, certificates.client("ns/models-internal/sa/other")):
                with pytest.raises((OSError, http.client.HTTPException)):
                    certificates.get(ready["port"], stranger)
            assert health(ready["health"], "/readyz") == health(ready["health"], "/livez") == 200
            assert health(ready["health"], "/v2/health/ready") == 404
            pod.send_signal(signal.SIGTERM)
            assert pod.stdout is not None
            pod.stdout.read()
            assert pod.wait(SECONDS) == 0
        finally:
            pod.kill()


def _ready(pod: subprocess.Popen[str]) -> dict[str, Any]:
    assert pod.stdout is not None
    for line in pod.stdout:
        found: dict[str, Any] = json.loads(line)
        if found.get("event") == "ready":
            return found
    raise AssertionError("the pod ended before it was ready")


def _check_tampered(file: Path, words: list[str]) -> None:
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    answer = run(words)
    assert answer.status == 1
    assert "ART-TAMPER" in answer.out
    file.write_bytes(whole)


def _check_unapproved(trust: Path, words: list[str]) -> None:
    environment_file = trust / "environment"
    before = environment_file.read_text()
    environment_file.write_text("elsewhere")
    answer = run(words)
    assert answer.status == 1
    assert "ART-NOT-APPROVED" in answer.out
    environment_file.write_text(before)
    (trust / "trust.json").rename(trust / "away")
    assert run(words).code == "K8S-TRUST"
    (trust / "away").rename(trust / "trust.json")
