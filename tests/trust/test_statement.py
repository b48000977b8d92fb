"""The release statement: one meaning, one spelling."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes.releases import FILES, public_of, statement_of

from garrison.core.decision import Tier
from garrison.core.digest import FileEntry, Manifest, Ref, canonical_json, sha256_bytes
from garrison.core.errors import GarrisonError, Refused
from garrison.trust import dsse
from garrison.trust import statement as statements
from garrison.trust.keys.file import FileSigner

SIGNER = FileSigner("release")
KEY = public_of(SIGNER)
MANIFEST = Manifest.of(FileEntry(path, len(data), 0o644, sha256_bytes(data)) for path, data in FILES.items())
STATEMENT = statement_of(MANIFEST, Ref("fraud", 3))
ENVELOPE = statements.sign(STATEMENT, SIGNER)

labels = st.text(st.characters(codec="utf-8"), max_size=40)
entries = st.builds(
    FileEntry,
    path=st.text("abcdefgh.-_", min_size=1, max_size=8).filter(lambda name: name not in (".", "..")),
    size=st.integers(0, 2**50),
    mode=st.sampled_from([0o644, 0o755]),
    digest=st.binary(max_size=4).map(sha256_bytes),
)
generated = st.builds(
    statements.ReleaseStatement,
    ref=st.builds(Ref, st.from_regex(r"[a-z0-9]{1,20}", fullmatch=True), st.integers(1, 999_999_999)),
    manifest=st.lists(entries, min_size=1, max_size=5, unique_by=lambda entry: entry.path).map(Manifest.of),
    tier=st.sampled_from(Tier),
    owner=labels,
    publisher=labels,
    created=st.datetimes(datetime(2020, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - bounds are naive, values are not
    verdict=st.sampled_from(["clean", "refused", "incomplete"]),
    scanner=labels,
    report=st.binary(max_size=4).map(sha256_bytes),
    source=labels,
)


@pytest.mark.row("A04", kind="R")
@given(generated)
def test_a_statement_comes_back_as_it_went(statement: statements.ReleaseStatement) -> None:
    opened, key_id = statements.open_statement(statements.sign(statement, SIGNER), [KEY])
    assert opened == statement
    assert key_id == SIGNER.key_id


@pytest.mark.row("A04", kind="R")
@given(st.integers(0, len(ENVELOPE) - 1), st.integers(1, 255))
def test_any_changed_byte_of_an_envelope_is_refused(at: int, flip: int) -> None:
    mutated = bytearray(ENVELOPE)
    mutated[at] ^= flip
    with pytest.raises(GarrisonError):
        statements.open_statement(bytes(mutated), [KEY])


@given(st.integers(0, len(statements.encode(STATEMENT)) - 1), st.integers(1, 255))
def test_any_changed_byte_of_a_payload_changes_its_meaning_or_is_refused(at: int, flip: int) -> None:
    mutated = bytearray(statements.encode(STATEMENT))
    mutated[at] ^= flip
    with contextlib.suppress(Refused):
        assert statements.decode(bytes(mutated)) != STATEMENT


def _set(*path: str, to: object) -> Any:
    def change(document: dict[str, Any]) -> None:
        for key in path[:-1]:
            document = document[key]
        document[path[-1]] = to

    return change


@pytest.mark.parametrize(
    "change",
    [
        _set("_type", to="https://in-toto.io/Statement/v0.1"),
        _set("predicateType", to="https://garrison.dev/attestation/approval/v1"),
        _set("subject", to=[]),
        _set("subject", to=[{"name": "fraud@4", "digest": {"sha256": MANIFEST.digest[7:]}}]),
        _set("subject", to=[{"name": "fraud@3", "digest": {"sha256": "0" * 64}}]),
        _set("predicate", "name", to="other"),
        _set("predicate", "name", to="Not A Name"),
        _set("predicate", "version", to="3"),
        _set("predicate", "version", to=3.0),
        _set("predicate", "version", to=True),
        _set("predicate", "version", to=0),
        _set("predicate", "tier", to="top-secret"),
        _set("predicate", "owner", to=None),
        _set("predicate", "owner", to="x" * 1000),
        _set("predicate", "created", to="yesterday"),
        _set("predicate", "created", to="2026-11-22T14:03:00"),
        _set("predicate", "created", to="2026-11-22T15:03:00+01:00"),
        _set("predicate", "scan", "verdict", to="fine"),
        _set("predicate", "scan", "report", to="md5:00"),
        _set("predicate", "manifest", to=[]),
        _set("predicate", "manifest", to=7),
        _set("predicate", "manifest", to=[7]),
        _set(
            "predicate",
            "manifest",
            to=[{"path": "../x", "size": 1, "mode": "0644", "digest": "sha256:" + "0" * 64}],
        ),
        _set("predicate", "surprise", to=1),
        _set("surprise", to=1),
    ],
)
def test_a_signed_statement_that_is_not_as_it_should_be_is_refused(change: Any) -> None:
    document = json.loads(statements.encode(STATEMENT))
    change(document)
    envelope = canonical_json(dsse.sign(canonical_json(document), dsse.IN_TOTO, SIGNER))
    with pytest.raises(Refused) as caught:
        statements.open_statement(envelope, [KEY])
    assert caught.value.code == "ART-SIGNATURE"


def test_another_spelling_of_the_same_statement_is_refused() -> None:
    pretty = json.dumps(json.loads(statements.encode(STATEMENT)), indent=1).encode()
    with pytest.raises(Refused, match="canonical"):
        statements.decode(pretty)


def test_a_statement_cannot_be_made_of_what_could_not_be_read_back() -> None:
    for change in (
        {"created": datetime(2026, 1, 1)},  # noqa: DTZ001 - the case under test
        {"report": ""},
        {"owner": "x" * 300},
        {"manifest": Manifest(())},
    ):
        with pytest.raises(ValueError):
            replace(STATEMENT, **change)
