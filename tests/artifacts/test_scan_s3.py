"""A model in a bucket is judged like one on a disk, over HTTP against an S3 service on loopback."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator

import pytest
from tests.fakes.bucket import Cloud, cloud
from tests.vectors.artifacts import make

from garrison.app.cli.main import main
from garrison.artifacts.scan import scan_path
from garrison.core.errors import GarrisonError, Usage
from garrison.core.finding import Verdict


@pytest.fixture(scope="module")
def service() -> Iterator[Cloud]:
    with cloud() as running:
        yield running


@pytest.fixture
def bucket(service: Cloud, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", service.url)
    name = service.bucket(guarded=False)
    objects = {
        "fraud/3/model.gguf": make.CLEAN["model.gguf"],
        "fraud/3/sub/evil.pkl": make.SYSTEM,
        "fraud/30/model.gguf": make.CLEAN["model.gguf"],
    }
    for key, data in objects.items():
        service.client().put_object(Bucket=name, Key=key, Body=data)
    return name


@pytest.mark.row("A01", kind="R")
def test_every_object_below_a_prefix_is_judged_and_no_other(
    bucket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["scan", f"s3://{bucket}/fraud/3", "--json"]) == 1
    files = {file["path"]: file for file in json.loads(capsys.readouterr().out)["files"]}
    assert {path: file["verdict"] for path, file in files.items()} == {
        "model.gguf": "clean",
        "sub/evil.pkl": "refused",
    }
    assert files["sub/evil.pkl"]["sha256"] == hashlib.sha256(make.SYSTEM).hexdigest()


def test_one_object_is_judged_by_its_name(bucket: str, service: Cloud) -> None:
    report = scan_path(
        [f"s3://{bucket}/fraud/3/model.gguf"], environment={"AWS_ENDPOINT_URL_S3": service.url}
    )
    assert [(file.path, file.verdict) for file in report.files] == [("model.gguf", Verdict.CLEAN)]


@pytest.mark.parametrize("path", ["fraud/4", "fraud/3/model", ""])
def test_a_place_without_objects_is_never_clean(service: Cloud, path: str) -> None:
    empty = service.bucket(guarded=False)
    with pytest.raises(Usage, match="there is no object"):
        scan_path([f"s3://{empty}/{path}"], environment={"AWS_ENDPOINT_URL_S3": service.url})


@pytest.mark.parametrize(
    ("url", "endpoint", "code"),
    [
        ("s3://", "", "STO-URL"),
        ("s3://models/../x", "", "STO-URL"),
        ("s3://models/x", "http://storage.example", "STO-TLS"),
        ("s3://nothing-of-this-name/x", "http://127.0.0.1:9", "STO-UNREACHABLE"),
    ],
)
def test_an_address_that_is_none_says_so(url: str, endpoint: str, code: str) -> None:
    with pytest.raises(GarrisonError) as caught:
        scan_path([url], environment={"AWS_ENDPOINT_URL_S3": endpoint})
    assert caught.value.code == code
    assert caught.value.fix
