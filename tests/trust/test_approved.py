"""Entries of the approved list: signed, strict, for one policy and a time."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes.releases import public_of

from garrison.core.digest import Ref
from garrison.core.errors import Refused
from garrison.trust import approved
from garrison.trust.approved import ApprovedEntry
from garrison.trust.keys.file import FileSigner

NOW = datetime(2030, 1, 1, tzinfo=UTC)
ENTRY = ApprovedEntry(
    ref=Ref("fraud", 3),
    digest="sha256:" + "ab" * 32,
    counter=2,
    approvers=("dana",),
    policy_version="sha256:" + "cd" * 32,
    time=NOW,
    expires=NOW + timedelta(days=30),
)


@pytest.fixture(scope="module")
def signer() -> FileSigner:
    return FileSigner("release")


@pytest.mark.row("A07", kind="R")
def test_an_entry_comes_back_as_it_was_signed(signer: FileSigner) -> None:
    assert approved.verify(approved.sign(ENTRY, signer), [public_of(signer)]) == ENTRY


def test_an_entry_of_another_key_is_refused(signer: FileSigner) -> None:
    with pytest.raises(Refused, match="APP-SIGNATURE"):
        approved.verify(approved.sign(ENTRY, FileSigner("release")), [public_of(signer)])


@given(position=st.integers(min_value=0), bit=st.integers(0, 7))
def test_any_changed_bit_is_refused(signer: FileSigner, position: int, bit: int) -> None:
    data = bytearray(approved.sign(ENTRY, signer))
    data[position % len(data)] ^= 1 << bit
    found = None
    with contextlib.suppress(Refused):
        found = approved.verify(bytes(data), [public_of(signer)])
    assert found in (None, ENTRY)  # a changed key id is only a hint (DSSE, section 2): the signature decides


def test_another_statement_of_the_same_key_is_not_an_entry(signer: FileSigner) -> None:
    envelope = json.loads(approved.sign(ENTRY, signer))
    other = {**ENTRY.as_statement(), "predicateType": "https://example.com/other"}
    resigned = approved.dsse.sign(json.dumps(other).encode(), envelope["payloadType"], signer)
    with pytest.raises(Refused, match="APP-SIGNATURE"):
        approved.verify(json.dumps(resigned).encode(), [public_of(signer)])


@pytest.mark.row("S10", kind="R")
def test_an_entry_under_an_older_policy_does_not_deploy() -> None:
    approved.check_current(ENTRY, ENTRY.policy_version, NOW)
    with pytest.raises(Refused, match="APP-POLICY"):
        approved.check_current(ENTRY, "sha256:other", NOW)


@pytest.mark.row("S10", kind="R")
def test_an_expired_entry_does_not_deploy() -> None:
    with pytest.raises(Refused, match="APP-EXPIRED"):
        approved.check_current(replace(ENTRY, expires=NOW), ENTRY.policy_version, NOW)
