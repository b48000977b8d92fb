"""No mutation of anything that is signed makes another thing be believed: by byte, by slice, by JSON value.

White space around JSON is not signed; a document that still says exactly the same may be read. Everything
else has to end in a refusal, never in another value and never in a traceback.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fakes.releases import CREATED, FILES, public_of, statement_of

from garrison.core.digest import FileEntry, Manifest, Ref, canonical_json, sha256_bytes
from garrison.core.errors import GarrisonError, Refused
from garrison.trust import approved, attestation, dsse, keyring, oms
from garrison.trust import statement as statements
from garrison.trust.approved import ApprovedEntry
from garrison.trust.keyring import KeyRecord, Keyring, State
from garrison.trust.keys.file import FileSigner
from garrison.trust.keys.public import Revocation

SIGNER, ROOT, OTHER = FileSigner("release"), FileSigner("root"), FileSigner("other")
KEYS = [public_of(SIGNER)]
REF = Ref("fraud", 3)
MANIFEST = Manifest.of(FileEntry(path, len(data), 0o644, sha256_bytes(data)) for path, data in FILES.items())
DIGEST = MANIFEST.digest


@dataclass(frozen=True)
class Signed:
    """A signed document and the door through which the product reads it."""

    name: str
    data: bytes
    read: Callable[[bytes], object]

    def __str__(self) -> str:
        return self.name


def _keyring() -> bytes:
    revoked = public_of(OTHER)
    object.__setattr__(revoked, "revocation", Revocation(keyring.REASONS[0], CREATED, frozenset({"ab" * 32})))
    keys = (
        KeyRecord(public_of(SIGNER), "release", State.ACTIVE, "token", CREATED),
        KeyRecord(revoked, "release", State.REVOKED, "token", CREATED, CREATED + timedelta(days=1)),
    )
    return keyring.sign(Keyring(4, CREATED, keys), ROOT)


ENTRY = ApprovedEntry(REF, DIGEST, 7, ("dana", "eve"), DIGEST, CREATED, CREATED + timedelta(days=30))
DOCUMENTS = [
    Signed("bundle", oms.bundle(MANIFEST, str(REF), SIGNER), lambda data: oms.verify_bundle(data, KEYS)),
    Signed(
        "statement",
        statements.sign(statement_of(MANIFEST, REF), SIGNER),
        lambda data: statements.open_statement(data, KEYS),
    ),
    Signed("approval", approved.sign(ENTRY, SIGNER), lambda data: approved.verify(data, KEYS)),
    Signed("keyring", _keyring(), lambda data: keyring.open_keyring(data, public_of(ROOT))),
    Signed(
        "attachment",
        attestation.sign(str(REF), DIGEST, "https://slsa.dev/provenance/v1", {"builder": "ci"}, SIGNER),
        lambda data: attestation.open_attestation(data, KEYS, None, about=str(REF), digest=DIGEST),
    ),
]


def holds(document: Signed, mutated: bytes) -> bool:
    """Whether nothing but the signed value is believed."""
    try:
        return document.read(mutated) == document.read(document.data)
    except GarrisonError:
        return True


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_each_document_is_read_when_nothing_was_changed(document: Signed) -> None:
    assert document.read(document.data) is not None


@pytest.mark.row("A05", kind="R")
@pytest.mark.row("A09", kind="R")
@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_no_changed_bytes_make_another_thing_be_believed(document: Signed, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(document.data) - 1), "at")
    cut = data.draw(st.integers(0, 40), "cut")
    put = data.draw(st.binary(max_size=40), "put")
    assert holds(document, document.data[:at] + put + document.data[at + cut :])
    flipped = bytearray(document.data)
    flipped[at] ^= data.draw(st.integers(1, 255), "mask")
    assert holds(document, bytes(flipped))


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict):
        return [path, *(leaf for key, item in value.items() for leaf in leaves(item, (*path, key)))]
    if isinstance(value, list):
        return [path, *(leaf for at, item in enumerate(value) for leaf in leaves(item, (*path, at)))]
    return [path]


def changed(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = changed(value[path[0]], path[1:], new)
    return copy


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-1, 10),
    st.sampled_from(["", "fraud@4", "sha256", "00" * 32, "sha256:" + "11" * 32]),
    st.just([]),
    st.just({}),
)


@pytest.mark.row("A09", kind="R")
@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_no_changed_value_inside_or_around_the_payload_is_believed(
    document: Signed, data: st.DataObject
) -> None:
    outer = json.loads(document.data)
    holder = ("dsseEnvelope",) if "dsseEnvelope" in outer else ()
    envelope = outer[holder[0]] if holder else outer
    payload = json.loads(base64.b64decode(envelope["payload"]))
    new = data.draw(VALUES, "new")
    if data.draw(st.booleans(), "inside"):
        path = data.draw(st.sampled_from(leaves(payload)), "path")
        text = base64.b64encode(canonical_json(changed(payload, path, new))).decode()
        mutated = changed(outer, (*holder, "payload"), text)
    else:
        mutated = changed(outer, data.draw(st.sampled_from(leaves(outer)), "path"), new)
    assert holds(document, json.dumps(mutated).encode())


@pytest.mark.row("A09", kind="R")
@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
@pytest.mark.parametrize("other", DOCUMENTS, ids=str)
def test_no_document_passes_for_one_of_another_kind(document: Signed, other: Signed) -> None:
    """Same keys, valid signatures: the kind has to be right as well."""
    if other.name == document.name:
        return
    theirs = json.loads(other.data)
    envelope = theirs.get("dsseEnvelope", theirs)
    ours = json.loads(document.data)
    swapped = {**ours, "dsseEnvelope": envelope} if "dsseEnvelope" in ours else envelope
    try:
        found = document.read(canonical_json(swapped))
    except GarrisonError:
        return
    # An attachment is of any kind, and says of which; whoever reads it asks for one.
    assert isinstance(found, attestation.Attestation)
    assert found.predicate_type != document.read(document.data).predicate_type  # type: ignore[attr-defined]  # above


@pytest.mark.row("A09", kind="R")
@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_a_payload_signed_by_a_stranger_is_refused(document: Signed) -> None:
    outer = json.loads(document.data)
    envelope = outer.get("dsseEnvelope", outer)
    forged = dsse.sign(base64.b64decode(envelope["payload"]), envelope["payloadType"], FileSigner("release"))
    for keyid in (forged["signatures"][0]["keyid"], envelope["signatures"][0]["keyid"], ""):
        forged["signatures"][0]["keyid"] = keyid
        with pytest.raises(GarrisonError):
            document.read(
                canonical_json({**outer, "dsseEnvelope": forged} if "dsseEnvelope" in outer else forged)
            )


def test_an_attestation_of_one_type_is_not_taken_for_another() -> None:
    signed = next(document.data for document in DOCUMENTS if document.name == "attachment")
    with pytest.raises(Refused, match="not as https"):
        attestation.open_attestation(
            signed, KEYS, "https://example.com/other/v1", about=str(REF), digest=DIGEST
        )
