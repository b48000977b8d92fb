"""OpenSSF Model Signing: our bundles in the peer's hands, and the peer's in ours."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes.releases import FILES, public_of, sign_directory, statement_of, write_files

from garrison.core.digest import FileEntry, Manifest, Ref, canonical_json, sha256_bytes
from garrison.core.errors import GarrisonError, Refused, Undecided
from garrison.trust import dsse, oms
from garrison.trust import statement as statements
from garrison.trust.keys.file import FileSigner
from garrison.trust.keys.public import PublicKey, load_public
from garrison.trust.tree import read_tree
from garrison.trust.verify import verify_files

SIGNER = FileSigner("release")
KEY = public_of(SIGNER)
PLAIN = {path: content for path, content in FILES.items() if not path.startswith(".git")}
MANIFEST = Manifest.of(FileEntry(path, len(data), 0o644, sha256_bytes(data)) for path, data in FILES.items())
BUNDLE = oms.bundle(MANIFEST, "fraud@3", SIGNER)


def peer(*words: object) -> subprocess.CompletedProcess[str]:
    """The `model_signing` command line, as its users run it."""
    command = [sys.executable, "-W", "ignore", "-m", "model_signing", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def public(tmp_path: Path) -> Path:
    path = tmp_path / "release.pem"
    path.write_bytes(SIGNER.public_pem())
    return path


@pytest.mark.row("A09", kind="R")
def test_model_signing_verifies_our_bundle_and_refuses_a_changed_file(tmp_path: Path, public: Path) -> None:
    model = write_files(tmp_path / "fraud", PLAIN)
    signed = sign_directory(model, "fraud@3", SIGNER)
    signed.write_sidecars()
    words = ("verify", "key", model, "--signature", tmp_path / "fraud.sig", "--public_key", public)
    assert "Verification succeeded" in peer(*words).stdout
    (model / "empty.bin").write_bytes(b"!")
    changed = peer(*words)
    assert changed.returncode != 0
    assert "empty.bin" in changed.stdout + changed.stderr


@pytest.mark.row("A09", kind="R")
def test_model_signing_verifies_a_model_with_git_files_by_its_default_command(
    tmp_path: Path, public: Path
) -> None:
    model = write_files(tmp_path / "fraud", FILES)
    assert (model / ".gitignore").exists()
    sign_directory(model, "fraud@3", SIGNER).write_sidecars()
    words = ("verify", "key", model, "--signature", tmp_path / "fraud.sig", "--public_key", public)
    assert "Verification succeeded" in peer(*words).stdout


@pytest.fixture
def theirs(tmp_path: Path) -> tuple[Path, Path, PublicKey]:
    """A directory, its bundle by `model_signing` and the public key."""
    private = ec.generate_private_key(ec.SECP256R1())
    (tmp_path / "private.pem").write_bytes(
        private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    (tmp_path / "public.pem").write_bytes(
        private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    model = write_files(tmp_path / "theirs", PLAIN)
    signature = tmp_path / "theirs.sig"
    done = peer("sign", "key", model, "--signature", signature, "--private_key", tmp_path / "private.pem")
    assert done.returncode == 0, done.stderr
    return model, signature, load_public(tmp_path / "public.pem")


@pytest.mark.row("A09", kind="R")
def test_we_verify_the_bundle_of_model_signing(theirs: tuple[Path, Path, PublicKey]) -> None:
    model, signature, key = theirs
    signed, by = verify_files(manifest=read_tree(model), bundle=signature.read_bytes(), keys=[KEY, key])
    assert set(signed.files) == set(PLAIN)
    assert by == key
    assert signed.name == "theirs"


@pytest.mark.row("A09", kind="R")
def test_the_subject_of_both_is_the_same_digest(theirs: tuple[Path, Path, PublicKey]) -> None:
    model, signature, _ = theirs

    def subject(data: bytes) -> Any:
        return payload_of(data)["subject"][0]["digest"]

    assert subject(signature.read_bytes()) == subject(oms.bundle(read_tree(model), "x@1", SIGNER))


@pytest.mark.row("A09", kind="R")
def test_what_their_ignore_list_leaves_out_is_unsigned_for_us(theirs: tuple[Path, Path, PublicKey]) -> None:
    model, signature, key = theirs
    write_files(model, {".git/hooks/post-checkout": b"#!/bin/sh"})
    assert (
        peer(
            "verify", "key", model, "--signature", signature, "--public_key", model.parent / "public.pem"
        ).returncode
        == 0
    )
    with pytest.raises(Refused) as caught:
        verify_files(manifest=read_tree(model), bundle=signature.read_bytes(), keys=[key])
    assert caught.value.code == "ART-TAMPER"
    assert [row["path"] for row in caught.value.evidence["paths"]] == [".git/hooks/post-checkout"]


def payload_of(bundle: bytes) -> dict[str, Any]:
    payload: dict[str, Any] = json.loads(base64.b64decode(json.loads(bundle)["dsseEnvelope"]["payload"]))
    return payload


def signed_bundle(payload: object, **outer: Any) -> bytes:
    """A bundle over any payload, by the trusted key: only its content can be wrong."""
    document = json.loads(BUNDLE)
    document["dsseEnvelope"] = dsse.sign(canonical_json(payload), dsse.IN_TOTO, SIGNER)
    return canonical_json({**document, **outer})


def refusal(bundle: bytes) -> GarrisonError:
    with pytest.raises(GarrisonError) as caught:
        oms.verify_bundle(bundle, [KEY])
    return caught.value


def test_a_bundle_names_every_file_but_those_of_git_with_its_digest() -> None:
    signed, key_id = oms.verify_bundle(BUNDLE, [KEY])
    listed = {entry.path: entry.digest for entry in MANIFEST if not oms.is_left_out(entry.path)}
    assert dict(signed.files) == listed
    assert len(listed) < len(MANIFEST.files)
    assert (signed.name, key_id) == ("fraud@3", SIGNER.key_id)


@pytest.mark.row("A09", kind="R")
@given(st.integers(0, len(BUNDLE) - 1), st.integers(1, 255))
def test_any_changed_byte_of_a_bundle_is_refused(at: int, flip: int) -> None:
    mutated = bytearray(BUNDLE)
    mutated[at] ^= flip
    with pytest.raises(GarrisonError):
        oms.verify_bundle(bytes(mutated), [KEY])


@given(st.integers(0, len(BUNDLE) - 1))
def test_a_bundle_that_was_cut_is_refused(length: int) -> None:
    assert refusal(BUNDLE[:length]).code == "ART-SIGNATURE"


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a\\b", "a\x00b", "a//b"])
def test_a_signed_path_that_leads_out_of_the_directory_is_refused(path: str) -> None:
    entry = FileEntry(path, 1, 0o644, sha256_bytes(b"x"))
    assert refusal(oms.bundle(Manifest((entry,)), "fraud@3", SIGNER)).code == "ART-NAME-UNSAFE"


def test_a_signed_list_with_colliding_paths_is_refused() -> None:
    entries = [FileEntry(path, 1, 0o644, sha256_bytes(b"x")) for path in ("A", "a")]
    assert refusal(oms.bundle(Manifest.of(entries), "fraud@3", SIGNER)).code == "ART-COLLISION"


def test_a_correct_bundle_of_another_kind_leaves_it_undecided() -> None:
    payload = payload_of(BUNDLE)
    payload["predicate"]["serialization"]["method"] = "folders"
    certificate = {"x509CertificateChain": {"certificates": []}, "tlogEntries": []}
    for bundle in (
        signed_bundle(payload),
        signed_bundle(payload_of(BUNDLE), verificationMaterial=certificate),
    ):
        error = refusal(bundle)
        assert isinstance(error, Undecided)
        assert error.code == "ART-SIGNATURE-FORM"


def _doubled(payload: dict[str, Any]) -> None:
    payload["predicate"]["resources"].append(payload["predicate"]["resources"][0])


def _reordered(payload: dict[str, Any]) -> None:
    payload["predicate"]["resources"].reverse()


def _dropped(payload: dict[str, Any]) -> None:
    payload["predicate"]["resources"].pop()


def _upper(payload: dict[str, Any]) -> None:
    row = payload["predicate"]["resources"][0]
    row["digest"] = row["digest"].upper()


def _two_subjects(payload: dict[str, Any]) -> None:
    payload["subject"] *= 2


def _other_predicate(payload: dict[str, Any]) -> None:
    payload["predicateType"] = "https://model_signing/Digests/v0.1"


def _unknown_field(payload: dict[str, Any]) -> None:
    payload["predicate"]["note"] = "ignore me"


@pytest.mark.parametrize(
    "change", [_doubled, _reordered, _dropped, _upper, _two_subjects, _other_predicate, _unknown_field]
)
def test_a_signed_bundle_that_contradicts_itself_is_refused(change: Any) -> None:
    payload = payload_of(BUNDLE)
    change(payload)
    assert refusal(signed_bundle(payload)).code == "ART-SIGNATURE"


def test_a_release_statement_is_no_bundle_payload() -> None:
    payload = json.loads(statements.encode(statement_of(MANIFEST, Ref("fraud", 3))))
    assert refusal(signed_bundle(payload)).code == "ART-SIGNATURE"


def test_a_bundle_by_a_stranger_names_the_key() -> None:
    error = refusal(oms.bundle(MANIFEST, "fraud@3", FileSigner("release")))
    assert error.code == "KEY-UNKNOWN"
