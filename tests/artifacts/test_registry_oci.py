"""Models in an OCI registry: Debian's docker-registry is the peer, and a proxy in front of it is the bad luck."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.app.household import Household, opened

from garrison.artifacts.oci.address import Access, credentials, parse_address
from garrison.artifacts.oci.client import Registry
from garrison.core.errors import GarrisonError, Refused, Undecided

PROGRAM = shutil.which("docker-registry", path=os.environ.get("PATH", "") + ":/usr/bin:/usr/sbin")
needs_registry = pytest.mark.skipif(
    PROGRAM is None, reason="NOT PROVED: docker-registry is not installed (apt-get install docker-registry)"
)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A real registry with its storage on disk, where a test can reach behind it."""
    assert PROGRAM is not None
    root, port = tmp_path_factory.mktemp("registry"), free_port()
    settings = root / "config.yml"
    settings.write_text(
        f"version: 0.1\nlog: {{level: error}}\nstorage:\n  filesystem: {{rootdirectory: {root / 'data'}}}\n"
        f"  delete: {{enabled: true}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n"
    )
    process = subprocess.Popen(
        [PROGRAM, "serve", str(settings)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _wait(port)
        yield f"127.0.0.1:{port}", root / "data"
    finally:
        process.terminate()
        process.wait(20)


def _wait(port: int) -> None:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        try:
            connection.request("GET", "/v2/")
            if connection.getresponse().status == 200:
                return
        except OSError:
            threading.Event().wait(0.05)
        finally:
            connection.close()
    raise AssertionError("the registry did not start")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    directory = tmp_path / "model"
    (directory / "sub").mkdir(parents=True)
    (directory / "config.json").write_text('{"hidden_size": 8}')
    (directory / "README.md").write_text("# A model\n")
    (directory / "sub" / "one.txt").write_text("1")
    (directory / "vocab.txt").write_text("".join(f"word{n}\n" for n in range(20_000)))
    return directory


@pytest.fixture
def home(tmp_path: Path, model: Path) -> Iterator[Household]:
    with opened(tmp_path / "data") as household:
        household.ask("user.add", name="dana", roles=["approver"])
        household.publish(model, "fraud@1")
        yield household


def push(home: Household, host: str, name: str, ref: str = "fraud@1", **more: Any) -> dict[str, Any]:
    return home.ask("model.push", ref=ref, target=f"oci://{host}/models/{name}", plain_http=True, **more)


def fetch(home: Household, source: str, to: Path, **more: Any) -> dict[str, Any]:
    return home.ask("model.fetch", source=source, destination=str(to), plain_http=True, **more)


def code(error: pytest.ExceptionInfo[Any]) -> str:
    return str(error.value.code)


@needs_registry
@pytest.mark.row("A03", kind="R")
def test_a_version_comes_back_from_a_real_registry_byte_for_byte(
    home: Household, registry: tuple[str, Path], model: Path, tmp_path: Path
) -> None:
    host, _ = registry
    with pytest.raises(Refused) as refused:
        push(home, host, "roundtrip")
    assert code(refused) == "ART-NOT-APPROVED"
    home.ask("model.approve", "dana", ref="fraud@1")
    pushed = push(home, host, "roundtrip")
    assert pushed["referrers"] == "tag"  # this registry does not list referrers itself
    assert push(home, host, "roundtrip")["sent"] == 0
    pulled = fetch(home, pushed["pinned"], tmp_path / "copy", ref="fraud@1")
    assert pulled["digest"] == home.ask("model.show", ref="fraud@1")["digest"]
    for path in model.rglob("*"):
        if path.is_file():
            assert (tmp_path / "copy" / path.relative_to(model)).read_bytes() == path.read_bytes()
    assert (tmp_path / "copy.sig").is_file()
    with pytest.raises(Refused) as refused:
        fetch(home, pushed["pinned"], tmp_path / "other", ref="payroll@1")
    assert code(refused) in {"ART-NAME", "RBAC-403"}
    assert not (tmp_path / "other").exists()
    assert list(tmp_path.glob(".other*")) == []


@needs_registry
@pytest.mark.row("A03", kind="R")
def test_a_tag_that_was_moved_in_the_registry_is_a_finding(
    home: Household, registry: tuple[str, Path], model: Path, tmp_path: Path
) -> None:
    host, _ = registry
    home.ask("model.approve", "dana", ref="fraud@1")
    first = push(home, host, "moved:stable")
    (model / "README.md").write_text("# Another one\n")
    home.publish(model, "fraud@2")
    home.ask("model.approve", "dana", ref="fraud@2")
    with pytest.raises(Refused) as refused:
        push(home, host, "moved:stable", "fraud@2")
    assert code(refused) == "IMG-TAG-MOVED"
    second = push(home, host, "moved:next", "fraud@2")
    # somebody else moves the tag: the manifest of the second under the name of the first
    outside = Registry(parse_address(f"oci://{host}/models/moved"), Access(plain_http=True))
    found = outside.manifest("next")
    assert found is not None
    outside.push_manifest(found[0], found[1].media_type, "stable")
    address = f"oci://{host}/models/moved:stable"
    with pytest.raises(Refused) as refused:
        fetch(home, address, tmp_path / "copy")
    assert code(refused) == "IMG-TAG-MOVED"
    assert refused.value.evidence["expected"] == first["digest"]
    history = home.ask("image.history", name=address, look=True, plain_http=True)
    assert history["moved"][-1]["digest"] == second["digest"] == history["now"]
    fetch(home, address, tmp_path / "copy", accept_moved=True)
    assert home.ask("image.history", name=address)["moved"]


@needs_registry
@pytest.mark.row("A03", kind="R")
def test_bytes_changed_behind_the_registry_do_not_arrive(
    home: Household, registry: tuple[str, Path], tmp_path: Path
) -> None:
    host, storage = registry
    home.ask("model.approve", "dana", ref="fraud@1")
    pushed = push(home, host, "changed")
    entry = next(e for e in home.ask("model.show", ref="fraud@1")["manifest"] if e["path"] == "README.md")
    (data,) = storage.glob(f"**/{entry['digest'][7:]}/data")
    original = data.read_bytes()
    data.write_bytes(original.replace(b"A model", b"E model"))
    try:
        with pytest.raises(GarrisonError) as refused:
            fetch(home, pushed["pinned"], tmp_path / "copy")
        assert code(refused) == "IMG-TAMPER"
        assert not (tmp_path / "copy").exists()
    finally:
        data.write_bytes(original)


@needs_registry
def test_signatures_of_another_model_beside_this_one_do_not_pass(
    home: Household, registry: tuple[str, Path], tmp_path: Path
) -> None:
    host, _ = registry
    home.ask("model.approve", "dana", ref="fraud@1")
    pushed = push(home, host, "unsigned")
    outside = Registry(parse_address(f"oci://{host}/models/unsigned"), Access(plain_http=True))
    empty = json.dumps(
        {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": []}
    ).encode()
    tag = pushed["digest"].replace(":", "-")
    outside.push_manifest(empty, "application/vnd.oci.image.index.v1+json", tag)
    with pytest.raises(Refused) as refused:
        fetch(home, pushed["pinned"], tmp_path / "copy")
    assert code(refused) == "IMG-UNSIGNED"


@dataclass
class Cuts:
    """A proxy that cuts the connection in the middle of some answers and some uploads."""

    upstream: str
    uploads: int = 0
    downloads: int = 0
    seen: list[str] = field(default_factory=list)


@pytest.fixture
def cutting(registry: tuple[str, Path]) -> Iterator[tuple[str, Cuts]]:
    cuts = Cuts(registry[0])

    class Proxy(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            return

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            cuts.seen.append(f"{self.command} {self.headers.get('Range') or ''}".strip())
            upstream = http.client.HTTPConnection(cuts.upstream, timeout=20)
            try:
                is_cut = self.command == "PATCH" and cuts.uploads > 0
                upstream.request(self.command, self.path, body, dict(self.headers))
                answer = upstream.getresponse()
                data = answer.read()
            finally:
                upstream.close()
            if is_cut:  # the registry has it, and the client is not told
                cuts.uploads -= 1
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            half = self.command == "GET" and "/blobs/sha256" in self.path and cuts.downloads > 0
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("transfer-encoding", "connection"):
                    self.send_header(name, value)
            if answer.headers.get("Content-Length") is None:
                self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data[: len(data) // 2] if half else data)
            if half:
                cuts.downloads -= 1
                self.close_connection = True

        do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = handle_any

    server = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}", cuts
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@needs_registry
def test_an_upload_and_a_download_that_are_cut_go_on_where_they_stopped(
    home: Household, cutting: tuple[str, Cuts], model: Path, tmp_path: Path
) -> None:
    host, cuts = cutting
    home.ask("model.approve", "dana", ref="fraud@1")
    cuts.uploads = 2
    pushed = push(home, host, "cut")
    assert cuts.uploads == 0
    cuts.downloads = 3
    fetch(home, pushed["pinned"], tmp_path / "copy")
    assert cuts.downloads == 0
    assert any(line.startswith("GET bytes=") for line in cuts.seen)
    copied = (tmp_path / "copy" / "vocab.txt").read_bytes()
    assert hashlib.sha256(copied).digest() == hashlib.sha256((model / "vocab.txt").read_bytes()).digest()


def test_plain_http_goes_to_this_machine_alone_and_only_when_asked() -> None:
    with pytest.raises(Refused) as refused:
        Registry(parse_address("oci://registry.example/m"), Access(plain_http=True))
    assert code(refused) == "IMG-PLAIN"
    port = free_port()
    encrypted = Registry(parse_address(f"oci://127.0.0.1:{port}/m"), Access())
    with pytest.raises(Undecided) as unreachable:
        encrypted.manifest("latest")
    assert code(unreachable) == "IMG-REGISTRY"


@pytest.mark.parametrize(
    "text",
    [
        "oci://",
        "oci:///m",
        "https://host/m",
        "oci://user:secret@host/m",
        "oci://host/UPPER",
        "oci://host/../m",
        "oci://host:port/m",
        "oci://host/m@sha256:12",
        "oci://host/m:bad tag",
        "oci://host/m?x=1",
    ],
)
def test_what_is_no_address_is_a_sentence(text: str) -> None:
    with pytest.raises(GarrisonError) as refused:
        parse_address(text)
    assert code(refused) == "IMG-ADDRESS"
    assert refused.value.exit_status == 2


def test_credentials_come_from_a_file_and_are_shown_nowhere(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"auths": {"host:5000": {"auth": "ZGFuYTpodW50ZXIy"}}}))
    assert credentials(path, "host:5000") == ("dana:hunter2", "")
    assert credentials(path, "other:5000") == ("", "")
    path.write_text("abc.def.ghi\n")
    assert credentials(path, "host:5000") == ("", "abc.def.ghi")
    assert "hunter2" not in repr(Access(basic="dana:hunter2", bearer="t"))
    path.write_text("two words")
    with pytest.raises(GarrisonError) as refused:
        credentials(path, "host:5000")
    assert code(refused) == "IMG-AUTH"
    assert "words" not in str(refused.value)
