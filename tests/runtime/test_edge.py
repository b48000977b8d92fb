"""The parts of a bundle on their own: chunks that end where they should, and signatures in plain Python."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from garrison.core.digest import canonical_json
from garrison.core.errors import Refused
from garrison.runtime.edge import bundle, device, sealing, verifier
from garrison.runtime.edge.device import Accepted
from garrison.runtime.edge.memory import Memory
from garrison.runtime.edge.sealing import CHUNK_BYTES, TAG_BYTES, ImageWriter, read_image, sealed_size
from garrison.trust import dsse, keyring
from garrison.trust.keyring import KeyRecord, Keyring, State
from garrison.trust.keys.algorithm import pss_padding
from garrison.trust.keys.file import FileSigner
from garrison.trust.keys.public import PublicKey, Revocation, public_from_pem, public_pem

KEY = bytes(range(32))
NOW = datetime(2026, 1, 2, tzinfo=UTC)
SIZES = (0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES)


def _sealed(plain: bytes, cut: int = 70_001) -> tuple[bytes, str]:
    out = bytearray()
    writer = ImageWriter(KEY, out.extend)
    for at in range(0, len(plain), cut):
        writer.write(plain[at : at + cut])
    digest = writer.finish()
    assert writer.size == len(out) == sealed_size(len(plain))
    return bytes(out), digest


def _code(sealed: bytes, size: int | None = None) -> str:
    """How reading ends for somebody who signed exactly these bytes: only the chunks can tell."""
    digest = hashlib.sha256(sealed).hexdigest()
    with pytest.raises(Refused) as caught:
        list(read_image(io.BytesIO(sealed), KEY, len(sealed) if size is None else size, digest))
    return caught.value.code


@pytest.mark.parametrize("size", SIZES)
def test_an_image_comes_out_as_it_went_in_whatever_its_length(size: int) -> None:
    plain = random.Random(size).randbytes(size)
    sealed, digest = _sealed(plain)
    assert b"".join(read_image(io.BytesIO(sealed), KEY, len(sealed), digest)) == plain
    assert size < 16 or plain[:16] not in sealed


@pytest.mark.row("B13", kind="R")
def test_chunks_cannot_be_cut_off_added_exchanged_or_repeated_even_by_who_signs() -> None:
    sealed, _ = _sealed(random.Random(7).randbytes(3 * CHUNK_BYTES))
    whole = CHUNK_BYTES + TAG_BYTES
    one, two, three = (sealed[at : at + whole] for at in (0, whole, 2 * whole))
    for wrong in (one + two, two + one + three, one + three, one + two + three + three, one + one + three):
        assert _code(wrong) == "EDGE-TAMPER"
    assert _code(sealed[:-1]) == _code(sealed + b"x") == _code(b"") == "EDGE-TAMPER"
    assert _code(one + two, 3 * whole) == "EDGE-TRUNCATED"
    other, _ = _sealed(b"short")
    assert _code(other[:-TAG_BYTES] + sealed[-TAG_BYTES:]) == "EDGE-TAMPER"


def test_a_content_key_opens_for_its_site_and_its_bundle_alone() -> None:
    site, stranger = X25519PrivateKey.generate(), X25519PrivateKey.generate()
    sealed = sealing.seal_key(KEY, site.public_key().public_bytes_raw(), b"plant-7\n1")
    assert sealing.open_key(sealed, site, b"plant-7\n1") == KEY
    for key, context in ((stranger, b"plant-7\n1"), (site, b"plant-7\n2"), (site, b"mine-3\n1")):
        with pytest.raises(Refused, match="EDGE-SITE"):
            sealing.open_key(sealed, key, context)


def _ring(root: FileSigner, signer: FileSigner, version: int, revocation: Revocation | None = None) -> str:
    public = PublicKey(signer.key_id, "release", signer.public_pem(), revocation)
    state = State.ACTIVE if revocation is None else State.REVOKED
    ring = Keyring(version, NOW, (KeyRecord(public, "release", state, "garrison", NOW),))
    return canonical_json(dsse.sign(keyring.encode(ring), keyring.PAYLOAD_TYPE, root)).decode()


@pytest.mark.row("S13", kind="R")
@pytest.mark.row("A25", kind="R")
def test_a_bundle_by_a_revoked_key_is_refused_by_its_own_keyring_or_a_newer_one_that_is_known(
    tmp_path: Path,
) -> None:
    root, signer, path = FileSigner("root"), FileSigner("release"), tmp_path / "notice.gar"
    trusted = public_from_pem(root.public_pem(), "root")
    old = _ring(root, signer, 1)
    draft = bundle.Draft(
        site="plant-7",
        site_public=X25519PrivateKey.generate().public_key().public_bytes_raw(),
        sequence=1,
        created=NOW,
        expires=NOW + timedelta(days=1),
        environment="production",
        papers={bundle.KEYRING: old.encode(), bundle.REVOKED: b'{"digests":[]}'},
    )
    head, envelope = bundle.write(path, draft, signer)

    def judged(memory: Memory) -> Accepted:
        with bundle.opened(path) as stream:
            return device.judge(
                stream, root=trusted, memory=memory, site_key=head.site_key, now=NOW, latest=NOW
            )

    accepted = judged(Memory("plant-7"))
    assert accepted.memory.keyring == 1
    revoked = _ring(root, signer, 2, Revocation("compromise", NOW))
    knows = Memory("plant-7", keyring=2, trust=revoked)
    for refused in (lambda: judged(knows), lambda: device.refuse_signer(accepted, knows, trusted)):
        with pytest.raises(Refused, match="KEY-REVOKED"):
            refused()
    message = dsse.message_digest(bundle.PAYLOAD_TYPE, base64.b64decode(json.loads(envelope)["payload"]))
    kept = _ring(root, signer, 2, Revocation("superseded", NOW, frozenset({message})))
    assert judged(Memory("plant-7", keyring=2, trust=kept)).memory.keyring == 2
    stranger = public_from_pem(FileSigner("root").public_pem(), "root")
    with bundle.opened(path) as stream, pytest.raises(Refused, match="KEY-KEYRING"):
        device.judge(
            stream, root=stranger, memory=Memory("plant-7"), site_key=head.site_key, now=NOW, latest=NOW
        )


_P256, _P384 = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP384R1())
_ED, _RSA = ed25519.Ed25519PrivateKey.generate(), rsa.generate_private_key(65_537, 3072)
SCHEMES: dict[str, tuple[object, Callable[[bytes], bytes]]] = {
    "p256": (_P256.public_key(), lambda data: _P256.sign(data, ec.ECDSA(hashes.SHA256()))),
    "p384": (_P384.public_key(), lambda data: _P384.sign(data, ec.ECDSA(hashes.SHA384()))),
    "ed25519": (_ED.public_key(), _ED.sign),
    "rsa-pss-3072": (_RSA.public_key(), lambda data: _RSA.sign(data, pss_padding(), hashes.SHA256())),
}


@pytest.mark.row("B13", kind="R")
@pytest.mark.parametrize("scheme", SCHEMES)
def test_signatures_are_judged_in_plain_python_as_openssl_judges_them(scheme: str) -> None:
    public, sign = SCHEMES[scheme]
    pem = public_pem(public)  # type: ignore[arg-type]  # one of the four kinds that it takes
    ours = public_from_pem(pem)
    key_id, verify = verifier.load_key(pem.decode())
    assert key_id == ours.key_id

    @settings(max_examples=25, deadline=None)
    @given(st.binary(max_size=200), st.integers(0, 5000), st.integers(0, 7), st.booleans())
    def agree(message: bytes, at: int, bit: int, is_cut: bool) -> None:
        signature = sign(message)
        assert verify(message, signature)
        assert not verify(message + b".", signature)
        wrong = bytearray(signature)
        wrong[at % len(wrong)] ^= 1 << bit
        mutant = bytes(wrong[:-1]) if is_cut else bytes(wrong)
        assert verify(message, mutant) == ours.verify(message, mutant) is False
        assert not verify(message, signature + b"\0")

    agree()


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=160))
def test_any_bytes_for_a_public_key_are_a_key_or_a_value_error(data: bytes) -> None:
    pem = public_pem(_P256.public_key()).decode().splitlines()
    for text in (data.decode("latin-1"), "\n".join([pem[0], data.hex(), pem[-1]])):
        with pytest.raises(ValueError):
            verifier.load_key(text)
