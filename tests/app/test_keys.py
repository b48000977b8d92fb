"""Keys as people use them: rotate, revoke, sign again, bring a token; and what a thief of the database finds."""

from __future__ import annotations

import base64
import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.app.household import PIN, Household, opened, two_tokens
from tuf.ngclient._internal.trusted_metadata_set import TrustedMetadataSet
from tuf.ngclient.config import EnvelopeType

from garrison.app import wiring
from garrison.app.keychain import open_keychain
from garrison.app.settings import Settings
from garrison.artifacts import attachment_store, store
from garrison.client import verify_model
from garrison.core.digest import Ref, canonical_json
from garrison.core.errors import Refused, Undecided, Usage
from garrison.storage.sql import open_database
from garrison.trust import attestation
from garrison.trust import statement as statements
from garrison.trust.keys.softhsm import find_module
from garrison.trust.tuf.build import _signed


def _publish(home: Household, plain: Path, ref: str, text: str) -> Path:
    (plain / "config.json").write_text(text)
    return Path(str(home.publish(plain, ref)["path"]))


@pytest.fixture
def versions(home: Household, plain: Path) -> Household:
    """fraud@1 an hour ago, fraud@2 now."""
    _publish(home, plain, "fraud@1", '{"hidden_size": 8}')
    home.clock.move(hours=1)
    _publish(home, plain, "fraud@2", '{"hidden_size": 9}')
    return home


def _since(home: Household) -> str:
    return (home.clock() - timedelta(minutes=30)).isoformat()


def test_a_rotated_key_signs_no_more_and_still_verifies(versions: Household, plain: Path) -> None:
    rotated = versions.ask("key.rotate", role="release", algorithm="p384")
    assert rotated["label"] == "release-2"
    _publish(versions, plain, "fraud@3", '{"hidden_size": 10}')
    ids = [versions.ask("model.verify", ref=f"fraud@{n}")["key_id"] for n in (1, 2, 3)]
    assert ids[0] == ids[1] != ids[2] == rotated["key_id"]
    listed = {key["label"]: key for key in versions.ask("key.list")["keys"]}
    assert (listed["release"]["state"], listed["release-2"]["state"]) == ("retired", "active")
    assert listed["release-2"]["algorithm"] == "EC P-384"
    assert listed["release"]["until"]


@pytest.mark.row("A10", kind="R")
def test_a_key_made_by_hand_becomes_the_release_key(home: Household, plain: Path) -> None:
    made = home.ask("key.create", label="prod", algorithm="ed25519")
    note = home.ask("key.rotate", role="release", to="prod")["note"]
    assert "EC keys alone" in note
    home.publish(plain, "fraud@1")
    assert home.ask("model.verify", ref="fraud@1")["key_id"] == made["key_id"]
    with pytest.raises(Refused, match="KEY-STATE"):
        home.ask("key.rotate", role="release", to="release")


@pytest.mark.row("S13", kind="R")
@pytest.mark.row("A25", kind="R")
def test_a_compromised_key_keeps_what_was_on_record_before_and_lists_the_rest(versions: Household) -> None:
    answer = versions.ask("key.revoke", label="release", reason="compromise", since=_since(versions))
    assert [row["ref"] for row in answer["affected"]] == ["fraud@2"]
    assert answer["affected"][0]["digest"].startswith("sha256:")
    assert answer["successor"] == "release-2"
    versions.ask("model.verify", ref="fraud@1")
    data = versions.house.settings.data
    verify_model(data / "models" / "fraud" / "1", name="fraud@1", trust=data)
    for refuse in (
        lambda: versions.ask("model.verify", ref="fraud@2"),
        lambda: versions.ask("model.pull", ref="fraud@2", destination=str(data.parent / "out")),
        lambda: versions.ask("deploy.apply", ref="fraud@2"),
        lambda: verify_model(data / "models" / "fraud" / "2", name="fraud@2", trust=data),
    ):
        with pytest.raises(Refused, match="KEY-REVOKED"):
            refuse()
    assert versions.ask("key.show", label="release")["affected"] == answer["affected"]


@pytest.mark.row("S13", kind="R")
@pytest.mark.row("A25", kind="R")
def test_without_a_moment_nothing_that_a_compromised_key_signed_counts_ever_again(
    versions: Household,
) -> None:
    answer = versions.ask("key.revoke", label="release", reason="compromise")
    assert [row["ref"] for row in answer["affected"]] == ["fraud@1", "fraud@2"]
    assert answer["kept"] == 0
    again = versions.ask("key.revoke", label="release", reason="superseded")
    assert (again["kept"], len(again["affected"])) == (0, 2)


def test_a_superseded_key_keeps_what_it_signed(versions: Household) -> None:
    assert versions.ask("key.revoke", label="release", reason="superseded")["affected"] == []
    versions.ask("model.verify", ref="fraud@2")


@pytest.mark.row("A25", kind="R")
def test_a_thief_who_writes_an_earlier_time_is_refused_all_the_same(versions: Household) -> None:
    """The stolen key signs other words about the same files, with a time from before the compromise."""
    house, registry = versions.house, versions.house.registry
    with house.database.read() as connection:
        release = store.find(connection, Ref("fraud", 1))
    assert release is not None
    old, _key = statements.open_statement(release.statement, registry.keys)
    forged = statements.sign(replace(old, created=old.created - timedelta(days=9)), registry.signer)
    versions.edit("UPDATE releases SET statement = ? WHERE name = 'fraud' AND version = 1", forged)
    versions.ask("model.verify", ref="fraud@1")  # the key is not known to be stolen yet
    answer = versions.ask("key.revoke", label="release", reason="compromise", since=_since(versions))
    assert [row["ref"] for row in answer["affected"]] == ["fraud@1", "fraud@2"]
    with pytest.raises(Refused, match="KEY-REVOKED"):
        versions.ask("model.verify", ref="fraud@1")


@pytest.mark.row("A25", kind="R")
def test_a_version_is_signed_again_only_for_the_bytes_that_the_ledger_knows(
    versions: Household, plain: Path
) -> None:
    versions.ask("user.add", name="dana", roles=["approver"])
    versions.ask("model.approve", who="dana", ref="fraud@1")
    versions.ask("key.revoke", label="release", reason="compromise", since=_since(versions))
    again = versions.ask("model.resign", ref="fraud@1")
    assert again["key"] == "release-2"
    versions.clock.move(minutes=1)
    with pytest.raises(Refused):  # approval has to be given again
        versions.ask("deploy.apply", ref="fraud@1")
    assert versions.ask("model.approve", who="dana", ref="fraud@1")["state"] == "approved"
    with pytest.raises(Refused, match="KEY-RESIGN"):
        versions.ask("model.resign", ref="fraud@2")
    (plain / "config.json").write_text('{"hidden_size": 66}')
    with pytest.raises(Refused, match="KEY-RESIGN"):
        versions.ask("model.resign", ref="fraud@2", source=str(plain))
    (plain / "config.json").write_text('{"hidden_size": 9}')
    with pytest.raises(Refused, match="another person has to look at it"):
        versions.ask("model.resign", ref="fraud@2", source=str(plain))
    versions.ask("user.add", name="alex", roles=["admin"])
    again = versions.ask("model.resign", who="alex", ref="fraud@2", source=str(plain))
    assert again["papers"] == ["bom", "provenance"]
    assert versions.ask("model.verify", ref="fraud@2")["key_id"] == again["key_id"]
    versions.ask("model.provenance", ref="fraud@2")
    said = _resigned(versions, "fraud@2")
    assert (said["key"]["label"], said["revoked"]["reason"]) == ("release", "compromise")
    assert {paper["label"] for paper in said["papers"]} == {"bom", "provenance"}
    assert all(paper["record"] > 0 and paper["was"] != paper["now"] for paper in said["papers"])
    assert versions.ask("key.show", label="release")["affected"] == []


def _resigned(home: Household, ref: str) -> dict[str, Any]:
    """What the attachment says that a version gets when it is signed again."""
    with home.house.database.read() as connection:
        rows = attachment_store.attachments_of(connection, Ref.parse(ref))
    (row,) = [row for row in rows if row.kind == "resigned"]
    predicate: dict[str, Any] = json.loads(base64.b64decode(json.loads(row.envelope)["payload"]))["predicate"]
    return predicate


@pytest.mark.row("A25", kind="R")
def test_papers_that_the_ledger_does_not_tell_of_are_not_signed_again(
    versions: Household, plain: Path
) -> None:
    """A thief of the release key and of the database writes a better bill of materials with the stolen key."""
    house, ref = versions.house, Ref.parse("fraud@2")
    with house.database.read() as connection:
        bom = next(row for row in attachment_store.attachments_of(connection, ref) if row.label == "bom")
        release = store.find(connection, ref)
    assert release is not None
    forged = attestation.sign("fraud@2", release.digest, bom.predicate_type, {}, house.registry.signer)
    versions.ask("key.revoke", label="release", reason="compromise", since=_since(versions))
    versions.ask("user.add", name="alex", roles=["admin"])
    with house.database.write() as connection:
        attachment_store.resign(connection, replace(bom, envelope=forged))
    with pytest.raises(Refused, match="ART-ATTACHMENT"):
        versions.ask("model.resign", who="alex", ref="fraud@2", source=str(plain))
    with house.database.write() as connection:
        attachment_store.resign(connection, bom)
    versions.ask("model.resign", who="alex", ref="fraud@2", source=str(plain))
    with house.database.write() as connection:  # the old one is not believed any more either
        attachment_store.resign(connection, bom)
    with pytest.raises(Refused, match="ART-ATTACHMENT"):
        versions.ask("model.verify", ref="fraud@2")


def test_who_signed_a_version_again_does_not_approve_it(versions: Household) -> None:
    versions.ask("key.rotate", role="release")
    mail = "alex@example.com"
    versions.ask("user.add", name="alex", roles=["admin", "approver"], email=mail)
    versions.ask("user.add", name="alex-at-home", roles=["approver"], email=f" {mail.upper()}".strip())
    versions.ask("user.add", name="dana", roles=["approver"])
    versions.ask("model.resign", who="alex", ref="fraud@1")
    for account in ("alex", "alex-at-home"):
        with pytest.raises(Refused, match="alex signed fraud@1 again"):
            versions.ask("model.approve", who=account, ref="fraud@1")
    assert versions.ask("model.approve", who="dana", ref="fraud@1")["state"] == "approved"


def test_a_version_that_is_signed_again_keeps_the_trees_of_its_large_files(
    home: Household, plain: Path
) -> None:
    header = b'{"w":{"dtype":"U8","shape":[67108864],"data_offsets":[0,67108864]}}'
    with (plain / "model.safetensors").open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + 67_108_864)
    home.publish(plain, "fraud@1")

    def roots() -> Any:
        with home.house.database.read() as connection:
            release = store.find(connection, Ref.parse("fraud@1"))
        assert release is not None
        return json.loads(base64.b64decode(json.loads(release.statement)["payload"]))["predicate"]["trees"]

    before = roots()
    assert set(before) == {"model.safetensors"}
    home.ask("key.rotate", role="release")
    home.ask("model.resign", ref="fraud@1")
    assert roots() == before


@pytest.mark.row("A07", kind="R")
def test_a_list_by_a_revoked_timestamp_key_is_refused_and_its_successor_goes_on(
    tmp_path: Path, plain: Path
) -> None:
    data = tmp_path / "data"
    files = data / "tuf" / "metadata"
    with opened(data) as home:
        home.publish(plain, "fraud@1")
        home.ask("user.add", name="dana", roles=["approver"])
        home.ask("model.approve", who="dana", ref="fraud@1")
        stolen, former_root = home.house.registry.approved.keys.timestamp, (files / "root.json").read_bytes()
        answer = home.ask("key.revoke", label="timestamp", reason="compromise")
        assert (answer["successor"], answer["affected"]) == ("timestamp-2", [])
        assert "the approved list is signed anew" in answer["effects"][0]
        root = json.loads((files / "root.json").read_bytes())
        assert root["signed"]["roles"]["timestamp"]["keyids"] != [stolen.key_id]
        _trusted_by_a_tuf_client(files)
        good = (files / "timestamp.json").read_bytes()
        newer = json.loads(good)["signed"]
        newer["version"] += 1
        (files / "timestamp.json").write_bytes(_signed(newer, [stolen]))
        for document in ((files / "root.json").read_bytes(), former_root):
            (files / "root.json").write_bytes(document)
            with pytest.raises(Refused, match=r"TUF-SIGNATURE|TUF-ROLLBACK"):
                home.ask("approvals.list")
        (files / "root.json").write_bytes(canonical_json(root))
        (files / "timestamp.json").write_bytes(good)
        assert home.ask("approvals.list")["approvals"][0]["ref"] == "fraud@1"
    with opened(data) as home:
        assert home.ask("approvals.list")["approvals"][0]["ref"] == "fraud@1"
        assert home.ask("key.rotate", role="timestamp")["label"] == "timestamp-3"
        with pytest.raises(Usage, match="KEY-ALGORITHM"):
            home.ask("key.rotate", role="timestamp", algorithm="ed25519")


def _trusted_by_a_tuf_client(files: Path) -> None:
    """A client that knows the first root follows to the one in force by python-tuf's own rules."""
    known = TrustedMetadataSet((files / "1.root.json").read_bytes(), EnvelopeType.METADATA)
    for path in sorted(files.glob("*.root.json"), key=lambda path: int(path.name.partition(".")[0]))[1:]:
        known.update_root(path.read_bytes())
    known.update_timestamp((files / "timestamp.json").read_bytes())
    assert known.root.version > 1


def test_what_cannot_be_revoked_is_refused_with_a_reason(home: Household) -> None:
    for since in ("yesterday", "2026-01-01", "2999-01-01T00:00:00Z"):
        with pytest.raises(Usage, match="KEY-SINCE"):
            home.ask("key.revoke", label="release", reason="compromise", since=since)
    for label in ("ledger", "root", "ca", "token", "snapshot"):
        for verb, words in (
            ("key.revoke", {"label": label, "reason": "compromise"}),
            ("key.rotate", {"role": label}),
        ):
            with pytest.raises(Refused, match="KEY-ROLE") as refused:
                home.ask(verb, **words)
            assert "garrison up --data NEW" in refused.value.fix
    with pytest.raises(Refused, match="at their first approval"):
        home.ask("key.revoke", label="approver.nobody")


@pytest.mark.row("A25", kind="R")
def test_an_older_keyring_put_back_is_found_at_the_next_start(tmp_path: Path, plain: Path) -> None:
    data = tmp_path / "data"
    with opened(data) as home:
        home.publish(plain, "fraud@1")
        home.ask("key.revoke", label="release", reason="compromise")
        kept = (data / "keys" / "keyring.json").read_bytes()
    (data / "keys" / "keyring.json").write_text("{}")
    _start(data)
    assert (data / "keys" / "keyring.json").read_bytes() == kept  # the copy is written again
    with closing(sqlite3.connect(data / "garrison.db")) as database, database:
        database.execute("DELETE FROM keyrings WHERE version > 1")
    with pytest.raises(Refused) as refusal:
        _start(data)
    assert refusal.value.code == "KEY-ROLLBACK"


def _start(data: Path) -> None:
    """Open the keys as a start does, without the loop that a failure would leave behind."""
    settings = Settings(data=data)
    token, _keys = wiring.open_keys(settings)
    database = open_database(data / "garrison.db")
    ledger = wiring.open_ledger(settings, database, token, wiring.utc_now)
    try:
        open_keychain(settings, database, ledger, token, wiring.utc_now)
    finally:
        ledger.close()
        database.close()


# --- tokens of one's own ---


@pytest.fixture
def two_slots(tmp_path: Path) -> Iterator[Household]:
    with two_tokens(tmp_path / "data") as household:
        yield household


def _pin_file(tmp_path: Path, pin: str = PIN) -> str:
    path = tmp_path / "pin"
    path.write_text(pin)
    path.chmod(0o600)
    return str(path)


def _add(home: Household, name: str, **more: str) -> dict[str, object]:
    asked = {"module": str(find_module()), "token": "partition-1", "profile": "azure-dedicated-hsm"}
    return home.ask("key.add", name=name, **{**asked, **more})


@pytest.mark.row("A12", kind="E")
def test_a_second_token_signs_releases_with_the_mechanisms_of_its_profile_alone(
    two_slots: Household, tmp_path: Path, plain: Path
) -> None:
    pin = _pin_file(tmp_path)
    with pytest.raises(Refused) as refusal:
        _add(two_slots, "azure", pin_file=pin, algorithm="ed25519")
    assert refusal.value.code == "KEY-MECHANISM"
    added = _add(two_slots, "azure", pin_file=pin, algorithm="p384")
    two_slots.ask("key.rotate", role="release", to="azure")
    two_slots.publish(plain, "fraud@1")
    assert two_slots.ask("model.verify", ref="fraud@1")["key_id"] == added["key_id"]
    listed = {key["label"]: key for key in two_slots.ask("key.list")["keys"]}
    assert (listed["azure"]["token"], listed["azure"]["profile"]) == ("azure", "azure-dedicated-hsm")
    assert PIN not in str(two_slots.house.keychain) + str(two_slots.events("key.add"))


@pytest.mark.row("S16", kind="R")
@pytest.mark.row("A10", kind="R")
def test_a_wrong_pin_is_tried_once_however_often_it_is_asked_and_comes_in_one_private_way(
    two_slots: Household, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Usage, match="KEY-PIN"):
        _add(two_slots, "azure")
    with pytest.raises(Undecided, match="KEY-PIN"):  # a credential needs its service
        _add(two_slots, "azure", pin_credential="hsm")
    shared = tmp_path / "module.so"
    shutil.copyfile(find_module(), shared)
    shared.chmod(0o666)
    with pytest.raises(Refused, match="KEY-MODULE"):
        _add(two_slots, "azure", module=str(shared), pin_file=_pin_file(tmp_path))
    (tmp_path / "hsm").write_text("11111111")
    (tmp_path / "hsm").chmod(0o440)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    for _ in range(5):  # laid out anew at each start of a service: known again by its content
        (tmp_path / "hsm").touch()
        with pytest.raises(Undecided, match="KEY-PIN"):
            _add(two_slots, "by-credential", pin_credential="hsm")
    wrong = _pin_file(tmp_path, "00000000")
    for _ in range(20):
        with pytest.raises(Undecided, match="KEY-PIN"):
            _add(two_slots, "azure", pin_file=wrong)
    Path(wrong).write_text(PIN)
    (tmp_path / "hsm").chmod(0o600)
    (tmp_path / "hsm").write_text(PIN)
    assert _add(two_slots, "by-credential", pin_credential="hsm")["label"] == "by-credential"
    assert _add(two_slots, "azure", pin_file=wrong)["label"] == "azure"  # not locked


@pytest.mark.row("A12", kind="E")
def test_an_added_token_signs_after_a_restart_and_its_description_is_the_roots(
    tmp_path: Path, plain: Path
) -> None:
    data = tmp_path / "data"
    with two_tokens(data) as home:
        _add(home, "azure", pin=PIN)
        home.ask("key.rotate", role="release", to="azure")
        assert (data / "keys" / "tokens" / "azure.pin").stat().st_mode & 0o777 == 0o600
    with opened(data) as home:
        home.publish(plain, "fraud@1")
        assert home.ask("model.verify", ref="fraud@1")["digest"]
    with closing(sqlite3.connect(data / "garrison.db")) as database, database:
        database.execute(
            "UPDATE key_tokens SET envelope = "
            "CAST(replace(CAST(envelope AS TEXT), 'libsofthsm2', 'libevil') AS BLOB)"
        )
    with pytest.raises(Refused, match="KEY-KEYRING"):
        _start(data)
