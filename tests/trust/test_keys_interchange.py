"""Bundles by every kind of key that the peer reads: `model_signing` and our verifier agree, both ways."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from tests.fakes.releases import public_of, sign_directory, write_files

from garrison.trust import oms
from garrison.trust.keys.algorithm import Algorithm
from garrison.trust.keys.file import FileSigner
from garrison.trust.keys.public import public_from_pem

pytestmark = pytest.mark.row("A09", kind="R")
FILES = {"config.json": b"{}", "weights/model.safetensors": b"\x00" * 100}


def peer(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore", "-m", "model_signing", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_model_signing_verifies_what_a_p384_key_signed_here(tmp_path: Path) -> None:
    signer = FileSigner("release", Algorithm.P384)
    model = write_files(tmp_path / "m", FILES)
    sign_directory(model, "m@1", signer).write_sidecars()
    (tmp_path / "k.pem").write_bytes(signer.public_pem())
    words = ("verify", "key", model, "--signature", tmp_path / "m.sig", "--public_key", tmp_path / "k.pem")
    assert "Verification succeeded" in peer(*words).stdout


def test_we_verify_what_model_signing_signed_with_a_p384_key(tmp_path: Path) -> None:
    private = ec.generate_private_key(ec.SECP384R1())
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "k.key").write_bytes(pem)
    model = write_files(tmp_path / "m", FILES)
    words = ("sign", "key", model, "--signature", tmp_path / "m.sig", "--private_key", tmp_path / "k.key")
    assert peer(*words).returncode == 0
    public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    signed, key_id = oms.verify_bundle((tmp_path / "m.sig").read_bytes(), [public_from_pem(public)])
    assert set(signed.files) == set(FILES)
    assert key_id == public_from_pem(public).key_id


@pytest.mark.parametrize("algorithm", [Algorithm.RSA_PSS_3072, Algorithm.ED25519])
def test_bundles_by_other_keys_are_for_our_verifier_alone(tmp_path: Path, algorithm: Algorithm) -> None:
    signer = FileSigner("release", algorithm)
    model = write_files(tmp_path / "m", FILES)
    sign_directory(model, "m@1", signer).write_sidecars()
    assert not algorithm.is_interchangeable
    assert oms.verify_bundle((tmp_path / "m.sig").read_bytes(), [public_of(signer)])[1] == signer.key_id
