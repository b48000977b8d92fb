"""Models in SageMaker and Azure ML against the registry: clean, changed, unknown, unapproved, unreadable."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.azureml import URI, Azure, azure
from tests.fakes.bucket import Cloud, cloud
from tests.fakes.onnx_graph import external_data
from tests.flows.server import Server

from garrison.trust.ca import ensure_ca, issue_server
from garrison.trust.keys.file import FileSigner

DIGEST = "sha256:" + "ab" * 32
FORGOTTEN = "its containers may reach the network"  # the emulator does not keep EnableNetworkIsolation
ROLE = "arn:aws:iam::123456789012:role/sage"


@dataclass(frozen=True)
class Sky:
    """A server with adder@1 approved and adder@2 pending, an emulated SageMaker, a fake Azure ML."""

    server: Server
    amazon: Cloud
    azure: Azure
    files: dict[str, bytes]
    bucket: str

    def sagemaker(
        self, name: str, files: dict[str, bytes], tag: str = "", image: str = "", **more: Any
    ) -> None:
        """A model whose artifact is in the bucket."""
        self.amazon.client().put_object(Bucket=self.bucket, Key=f"{name}/model.tar.gz", Body=_packed(files))
        container = {"ModelDataUrl": f"s3://{self.bucket}/{name}/model.tar.gz"}
        self.amazon.client("sagemaker").create_model(
            ModelName=name,
            ExecutionRoleArn=ROLE,
            PrimaryContainer={**container, **({"Image": image} if image else {})},
            Tags=[{"Key": "garrison-model", "Value": tag}] if tag else [],
            EnableNetworkIsolation=True,
            VpcConfig={"SecurityGroupIds": ["sg-1"], "Subnets": ["subnet-1"]},
            **more,
        )

    def check_amazon(self) -> Any:
        return self.server.cli("cloud", "check", "sagemaker", "--endpoint", self.amazon.url)

    def check_azure(self) -> Any:
        words = ["cloud", "check", "azureml", "--workspace", "sub-1/ml/prod"]
        return self.server.cli(*words, "--storage", self.azure.url, "--endpoint", self.azure.url)


def _packed(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for path, data in files.items():
            member = tarfile.TarInfo(f"./{path}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


@pytest.fixture(scope="module")
def sky(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sky]:
    place, patch = tmp_path_factory.mktemp("cloud"), pytest.MonkeyPatch()
    (place / ".aws").mkdir()
    keys = "aws_access_key_id = testing\naws_secret_access_key = testing\n"
    (place / ".aws" / "credentials").write_text(f"[default]\n{keys}")
    (place / ".aws" / "config").write_text("[default]\nregion = us-east-1\n")
    signer, data = FileSigner("ca"), place / "data"
    authority, now = ensure_ca(place / "ca.pem", signer, datetime.now(UTC)), datetime.now(UTC)
    leaf = issue_server(authority, signer, "azure", ips=["127.0.0.1"], now=now)
    _copy(template, data)
    patch.setenv("HOME", str(place))  # where the server's boto3 looks; nothing else of it is passed on
    server = Server(data)
    try:
        with cloud() as amazon, azure(leaf.chain + leaf.key, place) as microsoft:
            (place / "token").write_text("of-both\n")
            (place / "token").chmod(0o600)
            facts = {
                "url": microsoft.url,
                "token_file": str(place / "token"),
                "ca_file": str(place / "ca.pem"),
            }
            rows = "\n".join(f"{key} = {json.dumps(value)}" for key, value in facts.items())
            (data / "sources.toml").write_text(f"[[azure]]\n{rows}\n")
            server.start()
            adder = external_data(place / "adder")
            server.publish(adder, "adder@1")
            server.ok("--as", "dana", "approve", "adder@1")
            server.publish(external_data(place / "second", (1, 1, 1)), "adder@2")
            files = {path.name: path.read_bytes() for path in sorted(adder.iterdir())}
            yield Sky(server, amazon, microsoft, files, amazon.bucket())
            assert server.stop() == 0
    finally:
        server.kill()
        patch.undo()


def _copy(source: Path, target: Path) -> None:
    subprocess.run(["cp", "-a", f"{source}/.", str(target)], check=True)


def _findings(answer: Any) -> list[tuple[str, str]]:
    found = answer.json["error"]["evidence"]["findings"]
    return [(one["code"], one["where"].rpartition(" ")[2]) for one in found if one["what"] != FORGOTTEN]


@pytest.mark.row("B10", kind="E")
def test_what_sagemaker_has_and_serves_is_held_against_the_registry(sky: Sky) -> None:
    sky.sagemaker("good", sky.files, "adder@1")
    sky.sagemaker("untagged", sky.files)
    clean = sky.check_amazon()
    assert (clean.status, clean.code, _findings(clean)) == (1, "CLD-CONFIG", [])

    changed = {**sky.files, "weights.data": sky.files["weights.data"][:-1] + b"\x01"}
    sky.sagemaker("tampered", {**changed, "code/inference.py": b"import os\n"}, "adder@1")
    sky.sagemaker("stranger", {"model.onnx": b"nobody knows this"})
    sky.sagemaker("pending", {**sky.files, **_second(sky)}, "adder@2")
    sky.sagemaker("by-tag", sky.files, "adder@1", image="registry.example/serve:latest")
    sky.sagemaker("by-digest", sky.files, "adder@1", image=f"registry.example/serve@{DIGEST}")
    sky.sagemaker("broken", {}, "adder@1")
    sky.amazon.client().put_object(Bucket=sky.bucket, Key="broken/model.tar.gz", Body=b"no archive")
    client = sky.amazon.client("sagemaker")
    variant = {"VariantName": "a", "ModelName": "tampered", "InitialInstanceCount": 1}
    client.create_endpoint_config(
        EndpointConfigName="c", ProductionVariants=[{**variant, "InstanceType": "ml.t2.medium"}]
    )
    client.create_endpoint(EndpointName="live", EndpointConfigName="c")
    answer = sky.check_amazon()
    assert (answer.status, answer.code) == (1, "CLD-TAMPER")
    assert _findings(answer) == [
        ("CLD-TAMPER", "tampered"),
        ("CLD-UNKNOWN", "stranger"),
        ("CLD-NOT-APPROVED", "pending"),
        ("CLD-IMAGE", "by-digest"),
        ("CLD-IMAGE", "by-tag"),
        ("CLD-CONFIG", "tampered"),
        ("CLD-UNREADABLE", "broken"),
    ]
    first = answer.json["error"]["evidence"]["findings"][0]
    assert first["evidence"]["changes"] == [
        {"path": "code/inference.py", "change": "extra"},
        {"path": "weights.data", "change": "changed"},
    ]
    rows = sky.server.ok("audit", "list", "--kind", "cloud.check")["records"]
    assert [row["code"] for row in rows] == ["CLD-CONFIG", "CLD-TAMPER"]
    assert sky.server.cli("--as", "dana", "cloud", "check", "sagemaker").code == "RBAC-403"


def _second(sky: Sky) -> dict[str, bytes]:
    stored = sky.server.data / "models" / "adder" / "2"
    return {path.name: path.read_bytes() for path in stored.iterdir()}


@pytest.mark.row("B11", kind="C")
def test_what_an_azure_workspace_has_and_serves_is_held_against_the_registry(sky: Sky) -> None:
    _azure_model(sky, "fraud", "1", sky.files, "adder@1")
    _azure_model(sky, "other", "4", sky.files)
    clean = sky.check_azure()
    assert clean.status == 0, clean.out
    assert {model["name"] for model in clean.json["models"]} == {
        "azureml model fraud:1",
        "azureml model other:4",
    }
    sky.azure.endpoints["live"] = {"authMode": "Key", "publicNetworkAccess": "Enabled"}
    sky.azure.deployments["live"] = {
        "model": "/x/models/fraud/versions/1",
        "environmentId": "azureml:serve:2",
        "egressPublicNetworkAccess": "Disabled",
    }
    sky.azure.environments["serve/versions/2"] = "registry.example/serve:2"
    sky.azure.blobs["LocalUpload/fraud-1/weights.data"] = b"\0" * 12
    answer = sky.check_azure()
    assert (answer.status, answer.code) == (1, "CLD-TAMPER")
    codes = [code for code, _ in _findings(answer)]
    assert codes == ["CLD-TAMPER", "CLD-IMAGE", "CLD-CONFIG", "CLD-CONFIG"]
    assert "weights.data (changed)" in answer.json["error"]["message"]
    sky.azure.is_denied = True
    blind = sky.check_azure()
    assert {code for code, _ in _findings(blind)} == {"CLD-IMAGE", "CLD-CONFIG", "CLD-UNREADABLE"}
    sky.azure.endpoints.clear()
    assert (sky.check_azure().status, sky.check_azure().code) == (3, "CLD-UNREADABLE")
    bad = sky.server.cli("cloud", "check", "azureml", "--workspace", "prod", "--storage", sky.azure.url)
    assert (bad.status, bad.code) == (2, "CLD-WORKSPACE")


def _azure_model(sky: Sky, name: str, version: str, files: dict[str, bytes], tag: str = "") -> None:
    place = f"LocalUpload/{name}-{version}"
    sky.azure.blobs |= {f"{place}/{path}": data for path, data in files.items()}
    tags = {"garrison-model": tag} if tag else {}
    sky.azure.models[name, version] = {"modelUri": URI + place, "modelType": "custom_model", "tags": tags}


@pytest.mark.row("B12", kind="R")
def test_each_control_names_who_owes_it_and_what_there_is_to_show(sky: Sky) -> None:
    def told(pattern: str) -> Any:
        return sky.server.ok("cloud", "responsibilities", "--pattern", pattern)

    public = {row["control"]: row for row in told("public")["controls"]}
    assert public["artifact integrity"]["responsible"] == "you"
    assert public["artifact integrity"]["state"] == "shown"
    assert "artifact.verify" in public["artifact integrity"]["evidence"]
    assert (public["hardware"]["responsible"], public["hardware"]["state"]) == ("provider", "provider")
    assert public["audit"]["state"] == "owed"  # nobody verified or exported it yet
    assert public["patches"]["state"] == "owed"  # nothing here sees it, so nothing here shows it
    private = {row["control"]: row for row in told("private")["controls"]}
    assert private["hardware"]["responsible"] == "you"
    assert "models in the cloud" not in private
    assert "offline devices" in {row["control"] for row in told("edge")["controls"]}
