"""MLflow with Garrison's plug-in, and MLflow that tells Garrison by webhook: both with a real server."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import os
import shutil
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.flows.peers import ROOT, MlflowServer, PeerError, peer
from tests.flows.server import COMMAND, Server, environment, free_port

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("mlflow")]

SECRET = "a-secret-of-this-test"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("guard") / "data").start()
    server.ok("user", "add", "dana", "--role", "approver")
    yield server
    assert server.stop() == 0


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plug-in as pip installs it, in a directory of its own beside the peer's packages."""
    room = tmp_path_factory.mktemp("plugin")
    source = room / "source"
    shutil.copytree(ROOT / "integrations" / "garrison-mlflow", source)
    words = ["-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    words += ["--disable-pip-version-check", "--target", str(room / "installed"), str(source)]
    done = subprocess.run(
        [str(peer("mlflow")), *words], capture_output=True, text=True, check=False, env=environment()
    )
    assert done.returncode == 0, done.stderr
    return room / "installed"


@pytest.fixture(scope="module")
def guarded(house: Server, plugin: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    room = tmp_path_factory.mktemp("guarded")
    command = room / "garrison"
    command.write_text("#!/bin/sh\nexec " + " ".join(COMMAND) + ' "$@"\n')
    command.chmod(0o755)
    bundle = room / "trust" / "certifi" / "__init__.py"  # what MLflow's sender trusts, and no other setting
    bundle.parent.mkdir(parents=True)
    bundle.write_text(f"def where():\n    return {house.ready['ca']!r}\n")
    server = MlflowServer(
        peer("mlflow"),
        room,
        store=f"garrison+sqlite:///{room}/mlflow.db",
        PYTHONPATH=f"{bundle.parent.parent}{os.pathsep}{plugin}",
        MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS="true",
        MLFLOW_WEBHOOK_CACHE_TTL="1",  # seconds; it remembers that there are none
        MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY=base64.urlsafe_b64encode(os.urandom(32)).decode(),
        GARRISON_COMMAND=str(command),
        GARRISON_DATA=str(house.data),
    ).start()
    yield server
    server.close()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    place = tmp_path / "model"
    place.mkdir()
    (place / "config.json").write_text(json.dumps({"made_for": tmp_path.name}))
    return place


@pytest.mark.row("A18", kind="R")
def test_an_unapproved_version_gets_no_alias_and_is_not_loaded(
    house: Server, guarded: MlflowServer, model: Path
) -> None:
    guarded.client("c.create_registered_model('loans')")
    with pytest.raises(PeerError, match="nobody scanned or signed"):
        guarded.client("c.create_model_version('loans', 's3://bucket/loans')")
    with pytest.raises(PeerError, match="ART-UNKNOWN"):
        guarded.client("c.create_model_version('loans', 'garrison://loans/1')")
    house.publish(model, "loans@1")
    guarded.client("c.create_model_version('loans', 'garrison://loans/1')")
    alias = "c.set_registered_model_alias('loans', 'production', '1')"
    load = "print(mlflow.artifacts.download_artifacts('garrison://loans/1'))"
    with pytest.raises(PeerError, match="loans@1 is pending, not approved"):
        guarded.client(alias)
    with pytest.raises(PeerError, match="not approved"):
        guarded.client("c.transition_model_version_stage('loans', '1', 'Production')")
    with pytest.raises(PeerError, match="not approved"):
        guarded.client(load)
    house.ok("--as", "dana", "approve", "loans@1")
    guarded.client(alias)
    place = Path(guarded.client(load))
    assert (place / "config.json").read_bytes() == (model / "config.json").read_bytes()
    assert guarded.client("print(c.get_model_version_by_alias('loans', 'production').version)") == "1"


def _tags(guarded: MlflowServer, approved: str) -> dict[str, str]:
    """The tags of cards 1, once they say whether it is approved."""
    tags: dict[str, str] = {}
    deadline = time.monotonic() + 40
    while tags.get("garrison.approved") != approved and time.monotonic() < deadline:
        tags = json.loads(
            guarded.client("import json; print(json.dumps(c.get_model_version('cards', '1').tags))")
        )
    return tags


@pytest.mark.row("A18", kind="R")
def test_an_announced_version_is_imported_and_tagged(
    house: Server, guarded: MlflowServer, hook: dict[str, Any], model: Path
) -> None:
    guarded.client(
        "with mlflow.start_run() as run:\n"
        "    mlflow.log_artifacts(words[0], 'model')\n"
        "from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore\n"
        "SqlAlchemyStore('sqlite:///mlflow.db').create_registered_model('cards')\n"
        "SqlAlchemyStore('sqlite:///mlflow.db').create_model_version("
        "'cards', run.info.artifact_uri + '/model', run.info.run_id)",
        str(model),
    )
    data = {"name": "cards", "version": "1"}
    body = json.dumps({"entity": "model_version", "action": "created", "data": data}).encode()
    assert _post(house, hook, body, **_signed(body, "delivery-1000"))[0] == 202
    tags = _tags(guarded, "false")
    digest = house.ok("model", "show", "cards@1")["digest"]
    expected = {"garrison.digest": digest, "garrison.verdict": "clean", "garrison.approved": "false"}
    assert tags == expected
    with pytest.raises(PeerError, match="cards@1 is pending"):
        guarded.client("c.set_registered_model_alias('cards', 'production', '1')")
    house.ok("--as", "dana", "approve", "cards@1")
    guarded.client("c.set_registered_model_alias('cards', 'production', '1')")


@pytest.fixture
def hook(house: Server, tmp_path: Path, guarded: MlflowServer) -> Iterator[dict[str, Any]]:
    secret = tmp_path / "hook.secret"
    secret.write_text(SECRET)
    secret.chmod(0o600)
    words = ["--data", str(house.data), "webhook", "mlflow", "--listen", f"127.0.0.1:{free_port()}"]
    words += ["--secret-file", str(secret), "--tracking-uri", guarded.url]
    words += ["--owner", "ml-team", "--tier", "internal"]
    process = subprocess.Popen(
        [*COMMAND, *words], stdout=subprocess.PIPE, text=True, env=environment(), start_new_session=True
    )
    assert process.stdout is not None
    ready = json.loads(process.stdout.readline())
    yield ready
    process.terminate()
    assert process.wait(30) == 0
    process.stdout.close()


def _post(house: Server, hook: dict[str, Any], body: bytes, **headers: str) -> tuple[int, dict[str, Any]]:
    context = ssl.create_default_context(cafile=house.ready["ca"])
    host, _, port = hook["url"].removeprefix("https://").removesuffix("/mlflow").rpartition(":")
    connection = http.client.HTTPSConnection(host, int(port), context=context, timeout=30)
    try:
        connection.request("POST", "/mlflow", body, headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def _signed(body: bytes, delivery: str, *, age: int = 0, secret: str = SECRET) -> dict[str, str]:
    sent = str(int(time.time()) - age)
    digest = hmac.new(secret.encode(), f"{delivery}.{sent}.".encode() + body, hashlib.sha256).digest()
    return {
        "X-MLflow-Delivery-Id": delivery,
        "X-MLflow-Timestamp": sent,
        "X-MLflow-Signature": "v1," + base64.b64encode(digest).decode(),
    }


@pytest.mark.row("A18", kind="R")
def test_webhooks_are_taken_signed_fresh_and_once(house: Server, hook: dict[str, Any]) -> None:
    body = json.dumps({"entity": "registered_model", "action": "created", "data": {"name": "x"}}).encode()
    good = _signed(body, "delivery-0001")
    assert _post(house, hook, body, **good)[0] == 202
    assert _post(house, hook, body, **good)[1]["error"]["code"] == "HOOK-REPLAY"
    assert _post(house, hook, body)[0] == 401
    wrong = _signed(body, "delivery-0002", secret="another")
    assert _post(house, hook, body, **wrong)[1]["error"]["code"] == "HOOK-SIGNATURE"
    moved = {**good, "X-MLflow-Delivery-Id": "delivery-0003"}
    assert _post(house, hook, body, **moved)[1]["error"]["code"] == "HOOK-SIGNATURE"
    for age in (301, -301):
        stale = _signed(body, f"delivery-00{age}", age=age)
        status, answer = _post(house, hook, body, **stale)
        assert (status, answer["error"]["code"]) == (401, "HOOK-STALE")
    assert answer["error"]["audit_id"]


@pytest.mark.row("A18", kind="R")
def test_mlflows_own_sender_is_heard_once_its_bundle_has_the_local_authority(
    house: Server, guarded: MlflowServer, hook: dict[str, Any]
) -> None:
    guarded.client(
        "from mlflow.entities.webhook import WebhookEvent\n"
        "events = [WebhookEvent.from_str('registered_model.created')]\n"
        "c.create_webhook(name='garrison', url=words[0], events=events, secret=words[1])",
        hook["url"],
        SECRET,
    )
    guarded.client("c.create_registered_model('announced')")
    deadline, heard = time.monotonic() + 15, ""
    while "announced" not in heard and time.monotonic() < deadline:
        heard = house.cli("audit", "list", "--kind", "webhook.receive", "--outcome", "allowed").out
    assert "announced" in heard, (guarded.room / "server.log").read_text()[-2000:]
