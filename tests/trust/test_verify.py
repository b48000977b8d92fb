"""Is this directory that release? Everything that must not pass, and the one way that does."""

from __future__ import annotations

import copy
import dataclasses
import os
import random
import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.releases import CREATED, FILES, SignedDirectory, public_of, sign_directory, write_files

from garrison.core.digest import Manifest, Ref, sha256_bytes
from garrison.core.errors import GarrisonError, Refused, Undecided
from garrison.trust.approved import ApprovedEntry
from garrison.trust.keys.file import FileSigner
from garrison.trust.oms import is_left_out
from garrison.trust.tree import read_tree
from garrison.trust.verify import Verified, verify_files, verify_release

SIGNER = FileSigner("release")
KEY = public_of(SIGNER)
FRAUD = Ref("fraud", 3)


@pytest.fixture
def fraud(tmp_path: Path) -> SignedDirectory:
    return sign_directory(write_files(tmp_path / "fraud", FILES), "fraud@3", SIGNER)


def verify(release: SignedDirectory, **changes: Any) -> Verified:
    facts: dict[str, Any] = {
        "bundle": release.bundle,
        "statement": release.envelope,
        "keys": [KEY],
        "expect": FRAUD,
    }
    if "manifest" not in changes:
        facts["manifest"] = read_tree(release.path, list_empty=True)
    return verify_release(**{**facts, **changes})


def refusal(release: SignedDirectory, **changes: Any) -> GarrisonError:
    with pytest.raises(GarrisonError) as caught:
        verify(release, **changes)
    return caught.value


def named(error: GarrisonError) -> dict[str, str]:
    return {row["path"]: row["change"] for row in error.evidence["paths"]}


def test_an_untouched_directory_is_verified(fraud: SignedDirectory) -> None:
    verified = verify(fraud)
    assert (verified.ref, verified.digest, verified.key_id) == (FRAUD, fraud.manifest.digest, SIGNER.key_id)
    assert verified.key_label == "release"
    assert verified.approved is None


def test_only_the_function_that_checks_can_make_a_verified(fraud: SignedDirectory) -> None:
    verified = verify(fraud)
    with pytest.raises(TypeError):
        Verified(statement=fraud.statement, key_id=SIGNER.key_id, key_label="release")
    with pytest.raises((TypeError, ValueError)):
        dataclasses.replace(verified, key_label="other")
    assert copy.copy(verified) == verified


@pytest.mark.row("A04", kind="R")
@pytest.mark.parametrize("path", sorted(FILES))
def test_a_missing_file_is_refused_by_name(fraud: SignedDirectory, path: str) -> None:
    (fraud.path / path).unlink()
    error = refusal(fraud)
    assert error.code == "ART-TAMPER"
    assert named(error)[path] == "missing"


@pytest.mark.row("A04", kind="R")
@pytest.mark.parametrize("path", sorted(path for path, content in FILES.items() if content))
def test_an_emptied_file_is_refused_by_name(fraud: SignedDirectory, path: str) -> None:
    (fraud.path / path).write_bytes(b"")
    error = refusal(fraud)
    assert (error.code, named(error)) == ("ART-TAMPER", {path: "changed"})
    row = error.evidence["paths"][0]
    assert row["expected"] == {"digest": sha256_bytes(FILES[path]), "size": len(FILES[path]), "mode": "0644"}
    assert row["found"] == {"digest": sha256_bytes(b""), "size": 0, "mode": "0644"}


@pytest.mark.row("A04", kind="R")
@pytest.mark.parametrize(
    "path", ["extra.py", ".git/hooks/post-checkout", ".github/x", "onnx/.hidden", "new/deep/file", "empty2"]
)
def test_an_added_file_is_refused_by_name(fraud: SignedDirectory, path: str) -> None:
    write_files(fraud.path, {path: b""})
    error = refusal(fraud)
    assert (error.code, named(error)) == ("ART-TAMPER", {path: "extra"})


@pytest.mark.row("A04", kind="R")
def test_two_files_that_changed_places_are_both_named(fraud: SignedDirectory) -> None:
    one, other = fraud.path / "config.json", fraud.path / ".hidden"
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)
    assert named(refusal(fraud)) == {"config.json": "changed", ".hidden": "changed"}


@pytest.mark.row("A04", kind="R")
def test_what_plain_model_signing_lets_pass_is_refused(fraud: SignedDirectory) -> None:
    (fraud.path / "config.json").chmod(0o777)
    (fraud.path / "logs").mkdir()
    write_files(fraud.path, {".gitattributes": b"* filter=evil"})
    assert named(refusal(fraud)) == {
        "config.json": "executable",
        "logs/": "extra",
        ".gitattributes": "extra",
    }


def test_a_read_only_copy_of_the_store_is_the_same_release(fraud: SignedDirectory) -> None:
    for entry in fraud.manifest:
        (fraud.path / entry.path).chmod(0o444)
    assert verify(fraud).digest == fraud.manifest.digest


@pytest.mark.row("A05", kind="R")
def test_a_thousand_flipped_bytes_are_a_thousand_refusals(fraud: SignedDirectory) -> None:
    chance = random.Random(20261122)
    files = [entry for entry in fraud.manifest if entry.size]
    refused = 0
    for _ in range(1000):
        entry = chance.choice(files)
        at, flip = chance.randrange(entry.size), chance.randrange(1, 256)
        with (fraud.path / entry.path).open("r+b", buffering=0) as stream:
            original = os.pread(stream.fileno(), 1, at)
            os.pwrite(stream.fileno(), bytes([original[0] ^ flip]), at)
            error = refusal(fraud)
            refused += error.code == "ART-TAMPER" and named(error) == {entry.path: "changed"}
            os.pwrite(stream.fileno(), original, at)
    assert refused == 1000
    assert verify(fraud).ref == FRAUD


@pytest.mark.row("S03", kind="R")
@pytest.mark.row("A06", kind="R")
def test_the_same_bytes_do_not_pass_under_another_name(fraud: SignedDirectory, tmp_path: Path) -> None:
    other = tmp_path / "credit"
    shutil.copytree(fraud.path, other)
    manifest = read_tree(other)
    listed = Manifest.of(entry for entry in manifest if not is_left_out(entry.path))
    verify_files(manifest=listed, bundle=fraud.bundle, keys=[KEY])  # a bundle alone binds no name
    error = refusal(fraud, manifest=manifest, expect=Ref("credit", 1))
    assert (error.code, error.evidence["expected"], error.evidence["found"]) == (
        "ART-NAME",
        "credit@1",
        "fraud@3",
    )


@pytest.mark.row("A06", kind="R")
def test_the_same_bytes_do_not_pass_as_another_version(fraud: SignedDirectory) -> None:
    assert refusal(fraud, expect=Ref("fraud", 4)).code == "ART-NAME"


@pytest.mark.row("S03", kind="R")
@pytest.mark.row("A06", kind="R")
@pytest.mark.parametrize("swapped", [("bundle",), ("statement",), ("bundle", "statement")])
@pytest.mark.parametrize("same_bytes", [True, False])
def test_swapped_signatures_of_one_key_are_refused(
    fraud: SignedDirectory, tmp_path: Path, swapped: tuple[str, ...], same_bytes: bool
) -> None:
    files = FILES if same_bytes else {**FILES, "config.json": b"{}"}
    other = sign_directory(write_files(tmp_path / "credit", files), "credit@1", SIGNER)
    theirs = {"bundle": other.bundle, "statement": other.envelope}
    assert refusal(fraud, **{name: theirs[name] for name in swapped}).code == "ART-NAME"


@pytest.mark.row("A06", kind="R")
def test_two_signatures_over_different_files_are_refused(fraud: SignedDirectory, tmp_path: Path) -> None:
    again = sign_directory(write_files(tmp_path / "again", {**FILES, "extra": b""}), "fraud@3", SIGNER)
    error = refusal(fraud, bundle=again.bundle)
    assert (error.code, error.evidence["paths"]) == ("ART-SIGNATURE", ["extra"])


@pytest.mark.row("A04", kind="R")
def test_a_git_file_that_no_bundle_lists_is_still_signed(fraud: SignedDirectory) -> None:
    (fraud.path / ".gitignore").write_text("changed\n")
    error = refusal(fraud, manifest=read_tree(fraud.path))
    assert (error.code, ".gitignore" in error.what) == ("ART-TAMPER", True)


def test_two_signatures_by_different_keys_are_refused(fraud: SignedDirectory) -> None:
    other = FileSigner("release")
    again = sign_directory(fraud.path, "fraud@3", other)
    error = refusal(fraud, bundle=again.bundle, keys=[KEY, public_of(other)])
    assert error.code == "ART-SIGNATURE"


def test_a_stranger_s_signature_is_refused_with_its_key_id(fraud: SignedDirectory) -> None:
    error = refusal(fraud, keys=[public_of(FileSigner("release"))])
    assert isinstance(error, Refused)
    assert (error.code, error.evidence["key_id"]) == ("KEY-UNKNOWN", SIGNER.key_id)


def test_without_a_key_nothing_is_decided(fraud: SignedDirectory) -> None:
    error = refusal(fraud, keys=[])
    assert isinstance(error, Undecided)
    assert error.code == "KEY-UNKNOWN"


def entry_for(release: SignedDirectory, **changes: Any) -> ApprovedEntry:
    entry = ApprovedEntry(
        ref=release.ref,
        digest=release.manifest.digest,
        counter=5,
        approvers=("erin",),
        policy_version="1",
        time=CREATED,
        expires=CREATED + timedelta(days=30),
    )
    return dataclasses.replace(entry, **changes)


@pytest.mark.row("A23", kind="R")
def test_a_version_that_is_not_on_the_approved_list_is_refused(fraud: SignedDirectory) -> None:
    error = refusal(fraud, approved=None)
    assert error.code == "ART-NOT-APPROVED"
    assert "garrison approve fraud@3" in error.fix


@pytest.mark.row("S10", kind="R")
@pytest.mark.row("A23", kind="R")
@pytest.mark.parametrize(
    "change", [{"digest": sha256_bytes(b"")}, {"ref": Ref("fraud", 2)}, {"ref": Ref("credit", 3)}]
)
def test_an_approval_for_something_else_is_refused(fraud: SignedDirectory, change: dict[str, Any]) -> None:
    assert refusal(fraud, approved=entry_for(fraud, **change)).code == "APP-DIGEST"


@pytest.mark.row("S04", kind="R")
@pytest.mark.row("A07", kind="R")
def test_a_rollback_is_refused_with_advice_unless_it_is_named(fraud: SignedDirectory) -> None:
    entry = entry_for(fraud)
    error = refusal(fraud, approved=entry, floor=6)
    assert error.code == "ART-ROLLBACK"
    assert "garrison deploy rollback" in error.fix
    assert refusal(fraud, approved=entry, floor=6, rollback_to=Ref("fraud", 2)).code == "ART-ROLLBACK"
    assert verify(fraud, approved=entry, floor=6, rollback_to=FRAUD).approved == entry
    assert verify(fraud, approved=entry, floor=5).approved == entry


def test_many_differences_stay_one_readable_sentence(fraud: SignedDirectory) -> None:
    for path in FILES:
        (fraud.path / path).write_bytes(b"!")
    error = refusal(fraud)
    assert error.evidence["changes"] == len(FILES)
    assert "and 6 more" in error.what


def test_a_file_name_cannot_forge_a_line_of_the_refusal(fraud: SignedDirectory) -> None:
    write_files(fraud.path, {"größe": b""})
    assert refusal(fraud).what.isascii()


@pytest.mark.row("A05", kind="R")
@pytest.mark.parametrize("document", ["bundle", "envelope"])
def test_any_flipped_byte_of_a_signature_is_refused(fraud: SignedDirectory, document: str) -> None:
    chance = random.Random(7)
    data: bytes = getattr(fraud, document)
    keyword = {"bundle": "bundle", "envelope": "statement"}[document]
    for at in chance.sample(range(len(data)), 200):
        mutated = bytearray(data)
        mutated[at] ^= chance.randrange(1, 256)
        assert refusal(fraud, manifest=fraud.manifest, **{keyword: bytes(mutated)}).code in {
            "ART-SIGNATURE",
            "ART-SIGNATURE-FORM",
            "KEY-UNKNOWN",
        }
