"""The keyring: signed by the root, changed by nobody else; what was revoked verifies no more."""

from __future__ import annotations

import base64
import functools
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes.releases import public_of

from garrison.core.digest import canonical_json
from garrison.core.errors import GarrisonError, Refused, Undecided, Usage
from garrison.trust import dsse, keyring
from garrison.trust.keyring import KeyRecord, Keyring, State
from garrison.trust.keys.algorithm import Algorithm
from garrison.trust.keys.file import FileSigner
from garrison.trust.keys.public import PublicKey, Revocation, key_id_of, public_pem
from garrison.trust.sidecars import load_keys

NOW = datetime(2026, 1, 31, 9, tzinfo=UTC)
ROOT, OLD, NEW = FileSigner("root"), FileSigner("release"), FileSigner("release-2", Algorithm.P384)
REVOKED = replace(public_of(OLD), revocation=Revocation("compromise", NOW, frozenset({"ab" * 32})))
RING = Keyring(
    7,
    NOW,
    (
        KeyRecord(public_of(ROOT), "root", State.ACTIVE, "garrison", NOW),
        KeyRecord(REVOKED, "release", State.REVOKED, "garrison", NOW, NOW),
        KeyRecord(public_of(NEW), "release", State.ACTIVE, "hsm", NOW),
    ),
)
SIGNED = keyring.sign(RING, ROOT)
KIND = "application/vnd.garrison.test"

signer_of = functools.cache(lambda algorithm: FileSigner("k", algorithm))


def test_a_keyring_comes_back_as_it_was_signed() -> None:
    found = keyring.open_keyring(SIGNED, public_of(ROOT))
    assert found == RING
    assert [key.label for key in found.of_role("release")] == ["release", "release-2"]
    active = found.active("release")
    assert active is not None
    assert active.label == "release-2"
    assert found.find(NEW.key_id[:20]).label == "release-2"


def test_a_keyring_of_another_root_is_refused() -> None:
    with pytest.raises(Refused) as refusal:
        keyring.open_keyring(SIGNED, public_of(FileSigner("root")))
    assert refusal.value.code == "KEY-KEYRING"


@pytest.mark.row("A25", kind="R")
@given(st.integers(0, len(SIGNED) - 1), st.integers(1, 255))
def test_any_changed_byte_of_a_keyring_is_refused(position: int, change: int) -> None:
    changed = bytearray(SIGNED)
    changed[position] ^= change
    with pytest.raises(GarrisonError):
        keyring.open_keyring(bytes(changed), public_of(ROOT))


@given(st.sampled_from(list(Algorithm)), st.integers(0, 10_000), st.integers(1, 255))
def test_any_changed_byte_of_an_envelope_is_refused(algorithm: Algorithm, at: int, change: int) -> None:
    signer = signer_of(algorithm)
    envelope = bytearray(canonical_json(dsse.sign(b"a payload", KIND, signer)))
    envelope[at % len(envelope)] ^= change
    with pytest.raises(GarrisonError):
        dsse.open_envelope(bytes(envelope), [public_of(signer)], payload_type=KIND)


@pytest.mark.row("A10", kind="R")
@pytest.mark.parametrize("named", list(Algorithm))
@pytest.mark.parametrize("signed", list(Algorithm))
def test_a_signature_of_one_algorithm_under_the_id_of_another_key_is_refused(
    signed: Algorithm, named: Algorithm
) -> None:
    by, claimed = FileSigner("a") if signed is named else signer_of(signed), signer_of(named)
    envelope = dsse.sign(b"x", KIND, by)
    envelope["signatures"][0]["keyid"] = claimed.key_id
    keys = [public_of(by), public_of(claimed)]
    with pytest.raises(Refused) as refusal:
        dsse.verify(envelope, keys, payload_type=KIND)
    assert refusal.value.code == "SIG-INVALID"


def test_a_p384_key_signs_over_sha384_and_nothing_else_passes() -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    public = PublicKey(key_id_of(key.public_key()), "k", public_pem(key.public_key()))
    assert public.verify(b"x", key.sign(b"x", ec.ECDSA(hashes.SHA384())))
    assert not public.verify(b"x", key.sign(b"x", ec.ECDSA(hashes.SHA256())))


@pytest.mark.row("A25", kind="R")
def test_a_revoked_key_verifies_what_is_kept_and_nothing_else() -> None:
    kept, other = dsse.sign(b"kept", KIND, OLD), dsse.sign(b"other", KIND, OLD)
    message = dsse.message_digest(KIND, b"kept")
    key = replace(public_of(OLD), revocation=Revocation("compromise", NOW, frozenset({message})))
    assert dsse.verify(kept, [key], payload_type=KIND)[0] == b"kept"
    with pytest.raises(Refused) as refusal:
        dsse.verify(other, [key], payload_type=KIND)
    assert refusal.value.code == "KEY-REVOKED"
    assert "resign" in refusal.value.fix


def _forged(change: str) -> bytes:
    """A keyring that the root signed in another form than the one there is."""
    document = json.loads(keyring.encode(RING))
    if change == "unrevoked":
        document["keys"][1]["revoked"] = None
    elif change == "twice":
        document["keys"].append(document["keys"][0])
    elif change == "algorithm":
        document["keys"][0]["algorithm"] = "p384"
    elif change == "version":
        document["version"] = 0
    elif change == "field":
        document["more"] = 1
    payload = json.dumps(document, indent=1).encode() if change == "form" else canonical_json(document)
    return canonical_json(dsse.sign(payload, keyring.PAYLOAD_TYPE, ROOT))


@pytest.mark.parametrize("change", ["unrevoked", "twice", "algorithm", "version", "field", "form"])
def test_a_keyring_that_contradicts_itself_is_refused_though_the_root_signed_it(change: str) -> None:
    with pytest.raises(Refused) as refusal:
        keyring.open_keyring(_forged(change), public_of(ROOT))
    assert refusal.value.code == "KEY-KEYRING"


@given(st.binary(max_size=300))
def test_bytes_that_are_no_trust_file_are_a_sentence(data: bytes) -> None:
    with pytest.raises(GarrisonError):
        keyring.open_trust(data)


def test_a_trust_file_carries_the_revocations_to_verifiers_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "trust.json"
    path.write_bytes(keyring.trust_document(ROOT.public_pem(), SIGNED))
    keys = load_keys([path], None)
    assert [key.label for key in keys] == ["release", "release-2"]
    assert keys[0].revocation is not None
    (tmp_path / "changed.json").write_bytes(
        canonical_json({"schema": "garrison.trust/1", "root": "x", "keyring": {}})
    )
    with pytest.raises(Usage):
        load_keys([tmp_path / "changed.json"], None)


@pytest.mark.row("A25", kind="R")
def test_removing_the_keyring_does_not_remove_the_revocations_in_it(tmp_path: Path) -> None:
    public = tmp_path / "keys" / "public"
    public.mkdir(parents=True)
    (public / "root.pem").write_bytes(ROOT.public_pem())
    (public / "release.pem").write_bytes(OLD.public_pem())
    with pytest.raises(Undecided) as refusal:
        load_keys([], tmp_path)
    assert refusal.value.code == "KEY-KEYRING"
    (tmp_path / "keys" / "keyring.json").write_bytes(SIGNED)
    assert load_keys([], tmp_path)[0].revocation is not None
    payload = base64.b64encode(keyring.encode(replace(RING, version=8))).decode()
    envelope = {**json.loads(SIGNED), "payload": payload}
    (tmp_path / "keys" / "keyring.json").write_bytes(canonical_json(envelope))
    with pytest.raises(Refused):
        load_keys([], tmp_path)
