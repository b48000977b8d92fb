"""DSSE envelopes: what is signed, and how strictly an envelope is read."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes.releases import public_of

from garrison.core.digest import canonical_json
from garrison.core.errors import GarrisonError, Refused, Undecided
from garrison.trust import dsse, strict_json
from garrison.trust.keys.file import FileSigner

KIND = "application/vnd.test+json"
SIGNER = FileSigner("release")
KEY = public_of(SIGNER)
ENVELOPE = dsse.sign(b'{"a":1}', KIND, SIGNER)


def refusal(envelope: object, **options: Any) -> GarrisonError:
    data = envelope if isinstance(envelope, bytes) else json.dumps(envelope).encode()
    with pytest.raises(GarrisonError) as caught:
        dsse.open_envelope(data, [KEY], **{"payload_type": KIND, **options})
    return caught.value


def test_the_signed_bytes_are_those_of_the_specification() -> None:
    # The example of protocol.md.
    assert dsse.pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


@given(st.text(max_size=30), st.binary(max_size=30), st.text(max_size=30), st.binary(max_size=30))
def test_no_two_documents_share_their_signed_bytes(
    kind: str, payload: bytes, other: str, others: bytes
) -> None:
    assert ((kind, payload) == (other, others)) == (dsse.pae(kind, payload) == dsse.pae(other, others))


@given(st.binary(max_size=200))
def test_what_was_signed_comes_back_with_the_key_that_signed_it(payload: bytes) -> None:
    data = canonical_json(dsse.sign(payload, KIND, SIGNER))
    assert dsse.open_envelope(data, [KEY], payload_type=KIND) == (payload, SIGNER.key_id)


@given(st.data())
def test_any_changed_byte_of_an_envelope_is_refused(data: st.DataObject) -> None:
    original = canonical_json(ENVELOPE)
    at = data.draw(st.integers(0, len(original) - 1))
    mutated = bytearray(original)
    mutated[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(Refused):
        dsse.open_envelope(bytes(mutated), [KEY], payload_type=KIND)


def test_a_document_of_another_kind_is_refused() -> None:
    assert refusal(ENVELOPE, payload_type="application/vnd.other+json").code == "SIG-TYPE"


def test_a_key_that_is_not_trusted_is_named() -> None:
    stranger = FileSigner("release")
    error = refusal(dsse.sign(b"x", KIND, stranger))
    assert error.code == "KEY-UNKNOWN"
    assert error.evidence["key_id"] == stranger.key_id


def test_a_key_id_that_lies_does_not_help() -> None:
    envelope = dsse.sign(b"x", KIND, FileSigner("release"))
    envelope["signatures"][0]["keyid"] = SIGNER.key_id
    assert refusal(envelope).code == "SIG-INVALID"


def test_without_keys_nothing_is_decided() -> None:
    with pytest.raises(Undecided) as caught:
        dsse.open_envelope(canonical_json(ENVELOPE), [], payload_type=KIND)
    assert caught.value.code == "KEY-UNKNOWN"


def test_an_envelope_without_a_key_id_is_tried_with_every_key() -> None:
    envelope = {**ENVELOPE, "signatures": [{"sig": ENVELOPE["signatures"][0]["sig"]}]}
    others = [public_of(FileSigner("a")), KEY]
    assert dsse.open_envelope(canonical_json(envelope), others, payload_type=KIND)[1] == SIGNER.key_id


SIGNATURE = ENVELOPE["signatures"][0]


@pytest.mark.parametrize(
    "envelope",
    [
        b"",
        b"null",
        b"[]",
        b"\xff",
        b'{"payload":"","payload":""}',
        b"[" * 200_000,
        b'{"payload":NaN}',
        {**ENVELOPE, "extra": 1},
        {key: value for key, value in ENVELOPE.items() if key != "payloadType"},
        {**ENVELOPE, "payload": 7},
        {**ENVELOPE, "payload": ENVELOPE["payload"] + "\n"},
        {**ENVELOPE, "payload": base64.urlsafe_b64encode(b"\xff\xff\xff").decode()},
        {**ENVELOPE, "payload": "YR=="},
        {**ENVELOPE, "signatures": []},
        {**ENVELOPE, "signatures": [SIGNATURE, SIGNATURE]},
        {**ENVELOPE, "signatures": [{**SIGNATURE, "cert": ""}]},
        {**ENVELOPE, "signatures": [{**SIGNATURE, "sig": "A" * 2000}]},
        {**ENVELOPE, "signatures": "no"},
    ],
)
def test_an_envelope_that_is_not_exactly_one_is_refused(envelope: object) -> None:
    assert refusal(envelope).code == "SIG-FORMAT"


def test_a_document_longer_than_its_bound_is_not_parsed() -> None:
    with pytest.raises(ValueError, match="more than"):
        strict_json.loads(b" " * 11, 10)


def test_half_a_surrogate_pair_is_refused() -> None:
    with pytest.raises(ValueError, match="UTF-8"):
        strict_json.loads(b'"\\ud800"', 100)
