"""Container images in OCI layouts: every part is what it is called, or the image is refused by name."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.app.household import Household, opened
from tests.flows.server import run

from garrison.artifacts.oci import verify as images
from garrison.artifacts.oci.descriptor import parse_index, parse_manifest
from garrison.core.errors import GarrisonError, Refused, Undecided
from garrison.trust.sidecars import load_keys

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


def put(root: Path, data: bytes, media_type: str, **more: Any) -> dict[str, Any]:
    digest = hashlib.sha256(data).hexdigest()
    (root / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
    (root / "blobs" / "sha256" / digest).write_bytes(data)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data), **more}


def layer(text: str) -> bytes:
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w") as tar:
        member = tarfile.TarInfo("etc/motd")
        member.size = len(text.encode())
        tar.addfile(member, io.BytesIO(text.encode()))
    return gzip.compress(inner.getvalue(), mtime=0)


def make_manifest(root: Path, *texts: str, **more: Any) -> dict[str, Any]:
    config = put(root, json.dumps({"architecture": texts[0], "os": "linux"}).encode(), CONFIG)
    layers = [put(root, layer(text), LAYER) for text in texts]
    value = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers, **more}
    return put(root, json.dumps(value).encode(), MANIFEST)


def write_index(root: Path, *rows: dict[str, Any]) -> None:
    (root / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (root / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": list(rows)}))


@pytest.fixture
def image(tmp_path: Path) -> tuple[Path, str]:
    """An image for two machines: an index over two manifests, as builders write it."""
    root = tmp_path / "image"
    root.mkdir()
    inner = [make_manifest(root, "amd64", "app"), make_manifest(root, "arm64", "app")]
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": inner}
    row = put(root, json.dumps(index).encode(), INDEX)
    write_index(root, {**row, "annotations": {"org.opencontainers.image.ref.name": "v1"}})
    return root, row["digest"]


def check(root: Path, digest: str = "") -> images.Image:
    return images.verify(images.Reference(root, digest), [])


def refusal(root: Path, digest: str = "") -> GarrisonError:
    with pytest.raises(GarrisonError) as refused:
        check(root, digest)
    return refused.value


@pytest.mark.row("A03", kind="R")
def test_one_changed_byte_of_any_blob_is_found_and_named(image: tuple[Path, str]) -> None:
    root, digest = image
    assert check(root, digest).blobs == 8
    for blob in sorted((root / "blobs" / "sha256").iterdir()):
        original = blob.read_bytes()
        blob.write_bytes(bytes([original[0] ^ 1]) + original[1:])
        error = refusal(root, digest)
        assert (error.code, error.exit_status) == ("IMG-TAMPER", 1), blob.name
        assert error.evidence["blob"] == error.evidence["expected"] == f"sha256:{blob.name}"
        assert error.evidence["found"] != f"sha256:{blob.name}"
        blob.write_bytes(original)
    assert check(root, digest).manifests.keys() == check(root).manifests.keys()


@pytest.mark.row("A03", kind="R")
def test_the_command_verifies_by_pin_and_says_no_after_a_change(
    image: tuple[Path, str], tmp_path: Path
) -> None:
    root, digest = image
    none = ("--data", str(tmp_path / "none"), "--json")
    assert run([*none, "image", "verify", f"oci:{root}@{digest}"]).json["verdict"] == "verified"
    alone = run([*none, "image", "verify", f"oci:{root}"])
    assert (alone.status, alone.code) == (3, "IMG-UNSIGNED")
    blob = max((root / "blobs" / "sha256").iterdir(), key=lambda path: path.stat().st_size)
    blob.write_bytes(blob.read_bytes() + b"\0")
    changed = run([*none, "image", "verify", f"oci:{root}@{digest}"])
    assert (changed.status, changed.code) == (1, "IMG-TAMPER")
    assert changed.json["error"]["evidence"]["blob"] == f"sha256:{blob.name}"


def test_a_tar_of_a_layout_is_read_where_it_lies(image: tuple[Path, str], tmp_path: Path) -> None:
    root, digest = image
    path = tmp_path / "image.tar"
    with tarfile.open(path, "w") as tar:
        tar.add(root, arcname=".")
    assert check(path, digest).blobs == 8
    data = bytearray(path.read_bytes())
    at = data.rindex(layer("app")[-20:])
    data[at] ^= 1
    path.write_bytes(data)
    assert refusal(path, digest).code == "IMG-TAMPER"


def test_missing_blobs_are_named_and_a_sparse_image_is_not_whole(image: tuple[Path, str]) -> None:
    root, digest = image
    gone = sorted((root / "blobs" / "sha256").iterdir(), key=lambda path: path.stat().st_size)[
        0
    ]  # a configuration
    gone.unlink()
    error = refusal(root, digest)
    assert (error.code, error.evidence["missing"]) == ("IMG-MISSING", [f"sha256:{gone.name}"])


def test_another_image_under_the_same_name_is_not_the_pinned_one(image: tuple[Path, str]) -> None:
    root, digest = image
    write_index(root, make_manifest(root, "amd64", "evil"))
    assert refusal(root, digest).code == "IMG-PIN"


def _with_layer(root: Path, **changes: Any) -> None:
    config = put(root, b"{}", CONFIG)
    part = {**put(root, layer("x"), LAYER), **changes}
    value = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [part]}
    write_index(root, put(root, json.dumps(value).encode(), MANIFEST))


def _twice(root: Path) -> None:
    part = json.dumps(put(root, layer("x"), LAYER))
    other = json.dumps(put(root, layer("evil"), LAYER))
    config = json.dumps(put(root, b"{}", CONFIG))
    text = f'{{"schemaVersion":2,"config":{config},"layers":[{part}],"layers":[{other}]}}'
    write_index(root, put(root, text.encode(), MANIFEST))


def _nested(root: Path) -> None:
    row = make_manifest(root, "x")
    for _ in range(6):
        row = put(root, json.dumps({"schemaVersion": 2, "manifests": [row]}).encode(), INDEX)
    write_index(root, row)


def _linked(root: Path) -> None:
    write_index(root, make_manifest(root, "x"))
    blob = next((root / "blobs" / "sha256").iterdir())
    moved = root.parent / "outside"
    shutil.move(blob, moved)
    blob.symlink_to(moved)


DEFECTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "foreign layer": (lambda root: _with_layer(root, urls=["https://evil.example/layer"]), "IMG-FOREIGN"),
    "foreign type": (
        lambda root: _with_layer(
            root, mediaType="application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
        ),
        "IMG-FOREIGN",
    ),
    "path in the digest": (lambda root: _with_layer(root, digest="sha256:../../../etc/passwd"), "IMG-FORMAT"),
    "another algorithm": (lambda root: _with_layer(root, digest="md5:" + "0" * 32), "IMG-FORMAT"),
    "negative size": (lambda root: _with_layer(root, size=-1), "IMG-FORMAT"),
    "a size that is true": (lambda root: _with_layer(root, size=True), "IMG-FORMAT"),
    "a smaller size": (lambda root: _with_layer(root, size=3), "IMG-TAMPER"),
    "a larger size": (lambda root: _with_layer(root, size=1 << 30), "IMG-TAMPER"),
    "an unknown layer": (lambda root: _with_layer(root, mediaType="application/x-sh"), "IMG-FORMAT"),
    "other bytes inside": (lambda root: _with_layer(root, data="ZXZpbA=="), "IMG-FORMAT"),
    "a key twice": (_twice, "IMG-FORMAT"),
    "indexes in indexes": (_nested, "IMG-FORMAT"),
    "a blob that is a link": (_linked, "IMG-FORMAT"),
    "an index that is no index": (lambda root: write_index(root, put(root, b"[]", MANIFEST)), "IMG-FORMAT"),
    "a manifest of unknown type": (
        lambda root: write_index(root, put(root, b"{}", "application/x-thing")),
        "IMG-FORMAT",
    ),
}


@pytest.mark.row("A03", kind="R")
@pytest.mark.parametrize("defect", DEFECTS)
def test_a_layout_that_two_readers_could_read_differently_is_refused(tmp_path: Path, defect: str) -> None:
    root = tmp_path / "image"
    root.mkdir()
    make, code = DEFECTS[defect]
    make(root)
    error = refusal(root)
    assert (error.code, error.exit_status) == (code, 1)


def test_a_tar_whose_names_lead_elsewhere_is_refused(tmp_path: Path) -> None:
    for name, kind in (("../oci-layout", tarfile.REGTYPE), ("index.json", tarfile.SYMTYPE)):
        path = tmp_path / "bad.tar"
        with tarfile.open(path, "w") as tar:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            tar.addfile(member)
        assert refusal(path).code == "IMG-FORMAT"
    path.write_bytes(b"not a tar at all")
    assert refusal(path).code == "IMG-FORMAT"


@given(st.binary(max_size=300))
@settings(max_examples=60)
def test_no_bytes_make_the_parsers_raise_anything_but_a_refusal(data: bytes) -> None:
    for parse in (lambda: parse_index(data, "x"), lambda: parse_manifest(data, MANIFEST, "x")):
        with pytest.raises(Refused) as refused:
            parse()
        assert refused.value.code == "IMG-FORMAT"


def _signed(home: Household, root: Path, digest: str) -> dict[str, Any]:
    return home.ask("image.sign", source=f"oci:{root}@{digest}", name="app")


@pytest.mark.row("A03", kind="R")
def test_a_signature_travels_in_the_layout_and_is_bound_to_its_image(
    tmp_path: Path, image: tuple[Path, str]
) -> None:
    root, digest = image
    with opened(tmp_path / "data") as home:
        signed = _signed(home, root, digest)
        data = home.house.settings.data
        command = ["--data", str(data), "--json", "image", "verify", f"oci:{root}"]
        assert run(command).json["signed_by"] == [signed["key_id"]]
        pinned = home.ask("image.pin", source=f"oci:{root}@{digest}", name="app")
        assert pinned["digest"] == digest
        keys = load_keys([], data)

        # the signature of this image beside another one, and the subject rewritten to fit
        other = tmp_path / "other"
        shutil.copytree(root, other)
        evil = make_manifest(other, "amd64", "evil")
        index = json.loads((root / "index.json").read_text())
        listed = next(row for row in index["manifests"] if row.get("artifactType"))
        forged = json.loads((root / "blobs" / "sha256" / listed["digest"][7:]).read_bytes())
        forged["subject"] = evil
        row = put(other, json.dumps(forged).encode(), MANIFEST, artifactType=listed["artifactType"])
        write_index(other, evil, row)
        with pytest.raises(Refused) as refused:
            images.verify(images.Reference(other), keys)
        assert refused.value.code == "IMG-PIN"

        write_index(other, make_manifest(other, "amd64", "evil"), listed)
        with pytest.raises(Undecided) as unsigned:
            images.vouched(images.verify(images.Reference(other), keys))
        assert unsigned.value.code == "IMG-UNSIGNED"


@pytest.mark.row("A03", kind="R")
def test_a_name_that_is_tied_to_a_digest_does_not_move_silently(
    tmp_path: Path, image: tuple[Path, str]
) -> None:
    root, digest = image
    with opened(tmp_path / "data") as home:
        _signed(home, root, digest)
        home.ask("image.pin", source=f"oci:{root}@{digest}", name="app")
        new = make_manifest(root, "amd64", "new")
        index = json.loads((root / "index.json").read_text())
        write_index(root, *index["manifests"], new)
        with pytest.raises(Refused) as refused:
            home.ask("image.pin", source=f"oci:{root}@{new['digest']}", name="app")
        assert refused.value.code == "IMG-UNSIGNED"
        _signed(home, root, new["digest"])
        with pytest.raises(Refused) as refused:
            home.ask("image.pin", source=f"oci:{root}@{new['digest']}", name="app")
        assert refused.value.code == "IMG-TAG-MOVED"
        home.ask("image.pin", source=f"oci:{root}@{new['digest']}", name="app", accept_moved=True)
        history = home.ask("image.history", name="app")
        assert [row["digest"] for row in history["seen"]] == [digest, new["digest"]]
        assert [row["moved_from"] for row in history["moved"]] == [digest]
