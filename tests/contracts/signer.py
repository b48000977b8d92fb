"""What every `Signer` promises. A suite subclasses this and says how to make one."""

from __future__ import annotations

import hashlib

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from garrison.trust.keys.base import Signer
from garrison.trust.keys.public import public_from_pem


class SignerContract:
    """Subclasses give the fixtures `signer` and `other`: two keys of different labels."""

    def test_a_signature_verifies_with_the_public_half_alone(self, signer: Signer) -> None:
        public = public_from_pem(signer.public_pem(), signer.label)
        assert public.verify(b"a manifest", signer.sign(b"a manifest"))

    @pytest.mark.parametrize("data", [b"", b"x", b"x" * 100_000])
    def test_data_of_any_length_can_be_signed(self, signer: Signer, data: bytes) -> None:
        assert public_from_pem(signer.public_pem()).verify(data, signer.sign(data))

    def test_other_data_and_other_keys_do_not_verify(self, signer: Signer, other: Signer) -> None:
        signature = signer.sign(b"a manifest")
        assert not public_from_pem(signer.public_pem()).verify(b"a manifesT", signature)
        assert not public_from_pem(other.public_pem()).verify(b"a manifest", signature)

    def test_every_changed_byte_of_a_signature_is_noticed(self, signer: Signer) -> None:
        public = public_from_pem(signer.public_pem())
        signature = bytearray(signer.sign(b"a manifest"))
        for position in range(len(signature)):
            signature[position] ^= 1
            assert not public.verify(b"a manifest", bytes(signature))
            signature[position] ^= 1

    def test_the_key_id_is_the_digest_of_the_public_half(self, signer: Signer, other: Signer) -> None:
        der = load_pem_public_key(signer.public_pem()).public_bytes(
            Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        )
        assert signer.key_id == hashlib.sha256(der).hexdigest()
        assert signer.key_id != other.key_id

    def test_nothing_a_signer_shows_contains_a_private_half(self, signer: Signer) -> None:
        assert b"PRIVATE" not in signer.public_pem()
        assert "PRIVATE" not in repr(signer)
